/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * labnic: QOM type, PCI function, properties, realize, reset.
 *
 *     -device labnic,netdev=ID[,mac=...][,queues=1..16][,speed=MBIT/S]
 *             [,backpressure=off][,vectors=0..17][,regs-size=BYTES]
 *             [,auditing=on][,rss=off][,tx-csum=off][,rx-csum=off]
 *             [,tso=off][,moderation=off][,rx-gro=off][,vnet-hdr=off]
 */
#include "qemu/osdep.h"
#include "qemu/module.h"
#include "qapi/error.h"
#include "hw/pci/msix.h"
#include "hw/pci/pcie.h"
#include "migration/vmstate.h"
#include "net/eth.h"
#include "labnic.h"

#define LABNIC_SPEED_MAX (LABNIC_LINK_SPEED >> 8)

/* The smallest that the BAR of the registers can be made, for tests of probe */
#define LABNIC_REGS_SIZE_MIN 0x1000

/* The device's own guard against being entered while it works */
bool labnic_enter(LabnicState *s)
{
    if (s->busy) {
        trace_labnic_reentry(s->name);
        return false;
    }
    s->busy = true;
    return true;
}

/*
 * Only memory is reached, no registers: neither this device's, which would be
 * entered a second time, nor another's, which could reset or unplug this one
 * in the middle of its work.
 */
static bool labnic_dma(LabnicState *s, uint64_t addr, void *buf, size_t len,
                       DMADirection dir)
{
    static const MemTxAttrs memory_only = { .memory = true };
    bool read = dir == DMA_DIRECTION_TO_DEVICE;
    bool struck = labnic_fault(s, read ? LABNIC_FAULT_DMA_READ :
                               LABNIC_FAULT_DMA_WRITE, LABNIC_FAULT_ANY);
    MemTxResult result = MEMTX_ERROR;

    if (!struck) {
        result = pci_dma_rw(PCI_DEVICE(s), addr, buf, len, dir, memory_only);
    }
    if (result != MEMTX_OK) {
        trace_labnic_dma_error(s->name, read ? "read" : "write", addr, len,
                               result);
        if (s->audit && !struck) {
            labnic_audit_dma_slow(s, addr, len, read);
        }
    }
    return result == MEMTX_OK;
}

bool labnic_dma_read(LabnicState *s, uint64_t addr, void *buf, size_t len)
{
    labnic_count(s, LABNIC_COUNTER_DMA_READS);
    return labnic_dma(s, addr, buf, len, DMA_DIRECTION_TO_DEVICE);
}

bool labnic_dma_write(LabnicState *s, uint64_t addr, const void *buf,
                      size_t len)
{
    labnic_count(s, LABNIC_COUNTER_DMA_WRITES);
    return labnic_dma(s, addr, (void *)buf, len, DMA_DIRECTION_FROM_DEVICE);
}

/* For the monitor's `info network` */
void labnic_mac_changed(LabnicState *s)
{
    uint8_t addr[sizeof(s->conf.macaddr)];

    labnic_addr_to_wire(addr, s->mac);
    qemu_format_nic_info_str(qemu_get_queue(s->nic), addr);
}

static void labnic_reset_queues(LabnicState *s)
{
    memset(s->tx, 0, sizeof(s->tx));
    memset(s->rx, 0, sizeof(s->rx));
    memset(s->status_base, 0, sizeof(s->status_base));
    memset(s->irq_hold, 0, sizeof(s->irq_hold));
    for (unsigned qi = 0; qi < LABNIC_MAX_QUEUES; qi++) {
        labnic_gro_forget(s, qi);
    }
    s->tx_kick = 0;
    s->tx_cut_queue = LABNIC_NO_QUEUE;
}

/* Every register but the counters; touches nothing outside of the device */
static void labnic_reset_registers(LabnicState *s)
{
    labnic_reset_queues(s);
    s->drv_features = LABNIC_INIT_DRV_FEATURES;
    s->ctrl = LABNIC_INIT_CTRL;
    s->max_frame = LABNIC_INIT_MAX_FRAME;
    s->rx_mode = LABNIC_INIT_RX_MODE;
    s->mac = labnic_addr_from_wire(s->conf.macaddr.a);
    s->misc_cause = LABNIC_INIT_MISC_CAUSE;
    s->misc_enable = LABNIC_INIT_MISC_ENABLE;
    s->queue_errors = LABNIC_INIT_QUEUE_ERRORS;
    s->rss_ctrl = LABNIC_INIT_RSS_CTRL;
    memset(s->rss_key, 0, sizeof(s->rss_key));
    memset(s->rss_table, 0, sizeof(s->rss_table));
    memset(s->slot, 0, sizeof(s->slot));
    memset(s->slot_used, 0, sizeof(s->slot_used));
    labnic_filter_rebuild(s);
}

/* The part of a reset that others notice: backend and monitor */
static void labnic_reset_outside(LabnicState *s)
{
    labnic_tx_purge(s);
    labnic_vnet_update(s);
    qemu_bh_cancel(s->tx_bh);
    labnic_mac_changed(s);
}

void labnic_soft_reset(LabnicState *s)
{
    trace_labnic_reset(s->name, "register");
    labnic_reset_registers(s);
    labnic_reset_outside(s);
}

static void labnic_reset_enter(Object *obj, ResetType type)
{
    LabnicState *s = LABNIC(obj);

    trace_labnic_reset(s->name, "function");
    labnic_audit_function_reset(s);
    labnic_reset_registers(s);
    pci_word_test_and_clear_mask(PCI_DEVICE(s)->config + s->pm_offset +
                                 PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK);
    memset(s->counters, 0, sizeof(s->counters));
}

static void labnic_reset_hold(LABNIC_RESET_ARGS)
{
    labnic_reset_outside(LABNIC(obj));
}

static void labnic_reset_exit(LABNIC_RESET_ARGS)
{
    /* What the backend still holds is dropped by the disabled device */
    labnic_rx_resume(LABNIC(obj));
}

/*
 * The guest's memory must not change while the VM is stopped, so the start
 * takes up what waited, and the first thing after a load is to look again.
 */
static void labnic_vm_state(void *opaque, bool running, RunState state)
{
    LabnicState *s = opaque;

    trace_labnic_vm_state(s->name, running);
    if (!labnic_enter(s)) {
        return;
    }
    if (!running) {
        /* What waits is in no saved state; the memory is saved after this */
        labnic_gro_flush_all(s);
        labnic_leave(s);
        return;
    }
    labnic_link_update(s);
    labnic_tx_kick_all(s);
    labnic_rx_resume(s);
    labnic_irq_resume(s);
    labnic_leave(s);
}

/* MSI-X vectors that the function has */
unsigned labnic_vectors(const LabnicState *s)
{
    return s->num_vectors < 0 ? s->num_queues + LABNIC_VECTOR_QUEUE0 :
                                s->num_vectors;
}

static NetClientInfo labnic_net_info = {
    .type = NET_CLIENT_DRIVER_NIC,
    .size = sizeof(NICState),
    .receive = labnic_rx_receive,
    .link_status_changed = labnic_link_changed,
};

static bool labnic_check_properties(LabnicState *s, Error **errp)
{
    if (s->num_queues < 1 || s->num_queues > LABNIC_MAX_QUEUES) {
        error_setg(errp, "labnic: property 'queues' is %" PRIu32
                   ", it must be 1 to %d", s->num_queues, LABNIC_MAX_QUEUES);
        return false;
    }
    if (s->speed < 1 || s->speed > LABNIC_SPEED_MAX) {
        error_setg(errp, "labnic: property 'speed' is %" PRIu32
                   " Mbit/s, it must be 1 to %u", s->speed, LABNIC_SPEED_MAX);
        return false;
    }
    if (s->num_vectors > (int)(s->num_queues + LABNIC_VECTOR_QUEUE0)) {
        error_setg(errp, "labnic: property 'vectors' is %" PRId32
                   ", it must be 0 to %" PRIu32 ", or -1 for that",
                   s->num_vectors, s->num_queues + LABNIC_VECTOR_QUEUE0);
        return false;
    }
    if (!is_power_of_2(s->regs_size) || s->regs_size < LABNIC_REGS_SIZE_MIN ||
        s->regs_size > LABNIC_BAR_REGS_SIZE) {
        error_setg(errp, "labnic: property 'regs-size' is %" PRIu32
                   ", it must be a power of two from %u to %u", s->regs_size,
                   LABNIC_REGS_SIZE_MIN, LABNIC_BAR_REGS_SIZE);
        return false;
    }
    if (is_multicast_ether_addr(s->conf.macaddr.a)) {
        error_setg(errp, "labnic: property 'mac' is a multicast address");
        return false;
    }
    return true;
}

static bool labnic_init_pm(PCIDevice *pci_dev, Error **errp)
{
    int pos = pci_add_capability(pci_dev, PCI_CAP_ID_PM, 0, PCI_PM_SIZEOF,
                                 errp);

    if (pos < 0) {
        return false;
    }
    LABNIC(pci_dev)->pm_offset = pos;
    pci_set_word(pci_dev->config + pos + PCI_PM_PMC, 3);
    pci_set_word(pci_dev->config + pos + PCI_PM_CTRL,
                 PCI_PM_CTRL_NO_SOFT_RESET);
    pci_set_word(pci_dev->wmask + pos + PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK);
    return true;
}

/* A function made to have no vectors lacks the capability, too */
static bool labnic_init_msix(LabnicState *s, Error **errp)
{
    PCIDevice *pci_dev = PCI_DEVICE(s);
    unsigned vectors = labnic_vectors(s);

    if (!vectors) {
        return true;
    }
    if (msix_init_exclusive_bar(pci_dev, vectors, LABNIC_BAR_MSIX, errp) < 0) {
        return false;
    }
    for (unsigned i = 0; i < vectors; i++) {
        msix_vector_use(pci_dev, i);
    }
    return true;
}

/* Capabilities; a conventional bus gets no PCI Express one */
static bool labnic_init_caps(LabnicState *s, Error **errp)
{
    PCIDevice *pci_dev = PCI_DEVICE(s);

    if (!labnic_init_msix(s, errp)) {
        return false;
    }
    if (!labnic_init_pm(pci_dev, errp)) {
        goto fail;
    }
    if (pci_bus_is_express(pci_get_bus(pci_dev))) {
        if (pcie_endpoint_cap_init(pci_dev, 0) < 0) {
            error_setg(errp, "labnic: no room for the PCI Express capability");
            goto fail;
        }
        pcie_cap_flr_init(pci_dev);
    }
    return true;

fail:
    msix_uninit_exclusive_bar(pci_dev);
    return false;
}

static void labnic_init_net(LabnicState *s)
{
    DeviceState *dev = DEVICE(s);

    qemu_macaddr_default_if_unset(&s->conf.macaddr);
    s->nic = qemu_new_nic(&labnic_net_info, &s->conf,
                          object_get_typename(OBJECT(s)), dev->id,
                          &dev->mem_reentrancy_guard, s);
    /* Frames arrive as they were sent, short ones too */
    qemu_get_queue(s->nic)->do_not_pad = true;
    s->link_up = qemu_get_queue(s->nic)->peer &&
                 !qemu_get_queue(s->nic)->link_down;
    s->name = qemu_get_queue(s->nic)->name;
    labnic_vnet_init(s);
}

static void labnic_realize(PCIDevice *pci_dev, Error **errp)
{
    LabnicState *s = LABNIC(pci_dev);
    DeviceState *dev = DEVICE(s);

    if (!labnic_check_properties(s, errp)) {
        return;
    }
    memory_region_init_io(&s->mmio, OBJECT(s), &labnic_mmio_ops, s,
                          "labnic-regs", s->regs_size);
    pci_register_bar(pci_dev, LABNIC_BAR_REGS, PCI_BASE_ADDRESS_SPACE_MEMORY,
                     &s->mmio);
    if (!labnic_init_caps(s, errp)) {
        return;
    }
    s->tx_wait_queue = LABNIC_NO_QUEUE;
    s->tx_cut_queue = LABNIC_NO_QUEUE;
    s->tx_frame = s->tx_buf + LABNIC_VNET_LEN;
    s->tx_bh = qemu_bh_new_guarded(labnic_tx_bh, s, &dev->mem_reentrancy_guard);
    s->rx_bh = qemu_bh_new_guarded(labnic_rx_bh, s, &dev->mem_reentrancy_guard);
    labnic_init_net(s);
    labnic_irq_init(s);
    labnic_pace_init(s);
    labnic_fault_init(s);
    labnic_audit_init(s);
    s->vm_state = qemu_add_vm_change_state_handler(labnic_vm_state, s);
    trace_labnic_realize(s->name, s->num_queues, s->speed);
}

static void labnic_exit(PCIDevice *pci_dev)
{
    LabnicState *s = LABNIC(pci_dev);

    trace_labnic_exit(s->name);
    qemu_del_vm_change_state_handler(s->vm_state);
    labnic_irq_exit(s);
    labnic_pace_exit(s);
    labnic_gro_exit(s);
    labnic_fault_exit(s);
    labnic_audit_exit(s);
    labnic_reset_queues(s);     /* a late callback finds nothing to do */
    labnic_tx_purge(s);
    qemu_bh_delete(s->tx_bh);
    qemu_bh_delete(s->rx_bh);
    qemu_del_nic(s->nic);
    if (pci_is_express(pci_dev) && pci_dev->exp.exp_cap) {
        pcie_cap_exit(pci_dev);
    }
    msix_uninit_exclusive_bar(pci_dev);
}

static uint32_t labnic_read_config(PCIDevice *pci_dev, uint32_t addr, int len)
{
    LabnicState *s = LABNIC(pci_dev);

    /* What the bus makes of nobody's answer */
    return s->faults.gone ? UINT32_MAX :
                            pci_default_read_config(pci_dev, addr, len);
}

static void labnic_write_config(PCIDevice *pci_dev, uint32_t addr,
                                uint32_t val, int len)
{
    LabnicState *s = LABNIC(pci_dev);
    bool was_running = s->audit && labnic_audit_running(s);

    if (s->faults.gone) {
        return;
    }
    pci_default_write_config(pci_dev, addr, val, len);
    if (s->audit) {
        labnic_audit_config_slow(s, was_running);
    }
    if (pci_dev->exp.exp_cap) {
        pcie_cap_flr_write_config(pci_dev, addr, val, len);
    }
}

/* Takes a feature away from a device that has it by default */
#define LABNIC_PROP_FEATURE(_name, _feature) \
    DEFINE_PROP_BIT(_name, LabnicState, features, \
                    __builtin_ctz(LABNIC_FEATURE_##_feature), true)

static LABNIC_PROPERTY labnic_properties[] = {
    DEFINE_NIC_PROPERTIES(LabnicState, conf),
    DEFINE_PROP_UINT32("queues", LabnicState, num_queues,
                       LABNIC_DEFAULT_QUEUES),
    DEFINE_PROP_UINT32("speed", LabnicState, speed, 10000),
    DEFINE_PROP_BOOL("backpressure", LabnicState, backpressure, true),
    DEFINE_PROP_INT32("vectors", LabnicState, num_vectors, -1),
    DEFINE_PROP_UINT32("regs-size", LabnicState, regs_size,
                       LABNIC_BAR_REGS_SIZE),
    DEFINE_PROP_BOOL("auditing", LabnicState, auditing, false),
    DEFINE_PROP_BOOL("vnet-hdr", LabnicState, vnet_hdr, true),
    DEFINE_PROP_BOOL("pacing", LabnicState, pacing, true),
    LABNIC_PROP_FEATURE("rss", RSS),
    LABNIC_PROP_FEATURE("tx-csum", TX_CSUM),
    LABNIC_PROP_FEATURE("rx-csum", RX_CSUM),
    LABNIC_PROP_FEATURE("tso", TSO),
    LABNIC_PROP_FEATURE("moderation", MODERATION),
    LABNIC_PROP_FEATURE("rx-gro", RX_GRO),
    LABNIC_PROPERTIES_END
};

static void labnic_instance_init(Object *obj)
{
    /* Decides the size of the configuration space, so before realize */
    PCI_DEVICE(obj)->cap_present |= QEMU_PCI_CAP_EXPRESS;
}

static void labnic_class_init(ObjectClass *klass, LABNIC_CLASS_DATA data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);
    ResettableClass *rc = RESETTABLE_CLASS(klass);

    pc->realize = labnic_realize;
    pc->exit = labnic_exit;
    pc->config_read = labnic_read_config;
    pc->config_write = labnic_write_config;
    pc->vendor_id = LABNIC_VENDOR_ID;
    pc->device_id = LABNIC_DEVICE_ID;
    pc->revision = LABNIC_REVISION;
    pc->class_id = PCI_CLASS_NETWORK_ETHERNET;

    rc->phases.enter = labnic_reset_enter;
    rc->phases.hold = labnic_reset_hold;
    rc->phases.exit = labnic_reset_exit;

    dc->desc = "labnic Ethernet controller";
    dc->vmsd = &labnic_vmstate;
    device_class_set_props(dc, labnic_properties);
    labnic_fault_class_init(klass);
    labnic_audit_class_init(klass);
    set_bit(DEVICE_CATEGORY_NETWORK, dc->categories);
}

static LABNIC_INTERFACES labnic_interfaces[] = {
    { INTERFACE_PCIE_DEVICE },
    { INTERFACE_CONVENTIONAL_PCI_DEVICE },
    { }
};

static const TypeInfo labnic_type = {
    .name = TYPE_LABNIC,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(LabnicState),
    .instance_init = labnic_instance_init,
    .class_init = labnic_class_init,
    .interfaces = labnic_interfaces,
};

static void labnic_register_types(void)
{
    type_register_static(&labnic_type);
}

type_init(labnic_register_types)
