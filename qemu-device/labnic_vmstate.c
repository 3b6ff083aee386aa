/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a snapshot or a migration stream holds. A stream is not trusted: what
 * the registers could not hold is refused.
 *
 * Not in it because it follows from the rest: the copied descriptors (fetched
 * again), what doorbells announced (the phase bits tell) and how they followed
 * each other (the first look sets the event anew), and a frame that the
 * backend keeps (the network layer returns it when the VM stops, and it is
 * still in its ring).
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "hw/pci/msix.h"
#include "migration/vmstate.h"
#include "labnic.h"

static const VMStateDescription labnic_vmstate_ring = {
    .name = "labnic/ring",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (VMStateField[]) {
        VMSTATE_BOOL(enabled, LabnicRing),
        VMSTATE_UINT32(size, LabnicRing),
        VMSTATE_UINT64(base, LabnicRing),
        VMSTATE_UINT32(head, LabnicRing),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription labnic_vmstate_tx = {
    .name = "labnic/tx",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (VMStateField[]) {
        VMSTATE_STRUCT(ring, LabnicTxQueue, 1, labnic_vmstate_ring, LabnicRing),
        VMSTATE_UINT32(reported, LabnicTxQueue),
        VMSTATE_UINT32(segment, LabnicTxQueue),
        VMSTATE_UINT32(error, LabnicTxQueue),
        VMSTATE_END_OF_LIST()
    },
};

static const VMStateDescription labnic_vmstate_rx = {
    .name = "labnic/rx",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (VMStateField[]) {
        VMSTATE_STRUCT(ring, LabnicRxQueue, 1, labnic_vmstate_ring, LabnicRing),
        VMSTATE_UINT64(cmpl_base, LabnicRxQueue),
        VMSTATE_UINT32(reported, LabnicRxQueue),
        VMSTATE_UINT32(error, LabnicRxQueue),
        VMSTATE_END_OF_LIST()
    },
};

/*
 * When an interrupt is due is on a clock that the destination has not; what is
 * held goes out when the VM starts.
 */
static const VMStateDescription labnic_vmstate_irq_hold = {
    .name = "labnic/irq-hold",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (VMStateField[]) {
        VMSTATE_BOOL(tx, LabnicIrqHold),
        VMSTATE_BOOL(rx, LabnicIrqHold),
        VMSTATE_END_OF_LIST()
    },
};

static bool labnic_fits(uint64_t value, uint64_t mask)
{
    return !(value & ~mask);
}

static bool labnic_globals_ok(const LabnicState *s)
{
    uint32_t all = MAKE_64BIT_MASK(0, s->num_queues);
    uint32_t tx = all << ctz32(LABNIC_QUEUE_ERRORS_TX);
    uint32_t rx = all << ctz32(LABNIC_QUEUE_ERRORS_RX);

    return labnic_fits(s->ctrl, LABNIC_CTRL_ENABLE) &&
           labnic_fits(s->max_frame, LABNIC_RW_MAX_FRAME) &&
           labnic_fits(s->rx_mode, LABNIC_RW_RX_MODE) &&
           labnic_fits(s->mac, LABNIC_RW_MAC) &&
           labnic_fits(s->misc_cause, LABNIC_W1C_MISC_CAUSE) &&
           labnic_fits(s->misc_enable, LABNIC_RW_MISC_ENABLE) &&
           labnic_fits(s->queue_errors, tx | rx) &&
           labnic_fits(s->rss_ctrl, LABNIC_RW_RSS_CTRL);
}

static bool labnic_ring_state_ok(const LabnicRing *ring, uint64_t status_base,
                                 uint32_t writable_size)
{
    if (!labnic_fits(ring->size, writable_size)) {
        return false;
    }
    return !ring->enabled ||
           labnic_ring_check(ring, status_base) == LABNIC_ERR_NONE;
}

static bool labnic_tx_state_ok(const LabnicState *s, unsigned qi)
{
    const LabnicTxQueue *q = &s->tx[qi];

    return labnic_ring_state_ok(&q->ring, s->status_base[qi],
                                LABNIC_RW_TX_SIZE) &&
           q->error < LABNIC_ERR__END && q->segment < LABNIC_TSO_MAX &&
           (!q->ring.enabled || q->ring.head - q->reported <= q->ring.size);
}

static bool labnic_rx_state_ok(const LabnicState *s, unsigned qi)
{
    const LabnicRxQueue *q = &s->rx[qi];

    return labnic_ring_state_ok(&q->ring, s->status_base[qi],
                                LABNIC_RW_RX_SIZE) &&
           q->error < LABNIC_ERR__END &&
           (!q->ring.enabled ||
            (labnic_ring_address_ok(q->cmpl_base, q->ring.size) &&
             q->ring.head - q->reported <= q->ring.size));
}

/* Queue pairs that this device does not have must be at rest */
static bool labnic_pair_state_ok(const LabnicState *s, unsigned qi)
{
    if (qi >= s->num_queues &&
        (s->tx[qi].ring.enabled || s->rx[qi].ring.enabled)) {
        return false;
    }
    return labnic_tx_state_ok(s, qi) && labnic_rx_state_ok(s, qi);
}

/* Forgets what was copied from the rings before the state came */
static void labnic_forget_window(LabnicRing *ring)
{
    ring->known = ring->head;
    ring->window_start = ring->head;
    ring->window_ready = 0;
}

/* What is wrong with the loaded state; NULL when it can be */
static const char *labnic_state_fault(const LabnicState *s)
{
    if (!labnic_fits(s->drv_features, s->features)) {
        return "the driver uses a feature that this device does not have";
    }
    if (!labnic_globals_ok(s)) {
        return "a register has a reserved bit";
    }
    for (unsigned i = 0; i < LABNIC_ADDR_SLOTS; i++) {
        if (!labnic_fits(s->slot[i] | s->slot_used[i], LABNIC_RW_ADDR_SLOT)) {
            return "an address slot has a reserved bit";
        }
    }
    for (unsigned qi = 0; qi < LABNIC_MAX_QUEUES; qi++) {
        if (!labnic_pair_state_ok(s, qi)) {
            return "a queue cannot be in this state";
        }
    }
    return NULL;
}

static int labnic_pre_load(void *opaque)
{
    LabnicState *s = opaque;

    labnic_fault_forget(s);
    for (unsigned qi = 0; qi < LABNIC_MAX_QUEUES; qi++) {
        labnic_gro_forget(s, qi);
    }
    return 0;
}

static int labnic_post_load(void *opaque, int version_id)
{
    LabnicState *s = opaque;
    const char *fault = labnic_state_fault(s);

    if (fault) {
        error_report("labnic: the saved state is corrupt: %s", fault);
        /* A VM may go on after a failed load; the device then is at rest */
        labnic_soft_reset(s);
        return -EINVAL;
    }
    for (unsigned qi = 0; qi < LABNIC_MAX_QUEUES; qi++) {
        labnic_forget_window(&s->tx[qi].ring);
        labnic_forget_window(&s->rx[qi].ring);
        s->tx[qi].whole = 0;
        labnic_pace_end(&s->tx[qi]);
        s->tx[qi].event = s->tx[qi].ring.head - 1;  /* written once more */
        s->irq_hold[qi].fired = 0;
        s->irq_hold[qi].due = 0;
    }
    s->tx_cut_queue = LABNIC_NO_QUEUE;
    labnic_vnet_update(s);
    labnic_audit_loaded(s);
    labnic_filter_rebuild(s);
    labnic_mac_changed(s);
    /* The guest sees the carrier that it had; the start of the VM compares */
    return 0;
}

const VMStateDescription labnic_vmstate = {
    .name = TYPE_LABNIC,
    .version_id = 4,
    .minimum_version_id = 4,
    .pre_load = labnic_pre_load,
    .post_load = labnic_post_load,
    .fields = (VMStateField[]) {
        VMSTATE_PCI_DEVICE(parent_obj, LabnicState),
        VMSTATE_MSIX(parent_obj, LabnicState),
        VMSTATE_UINT32_EQUAL(num_queues, LabnicState,
                             "labnic: the state was saved with another value "
                             "of the property 'queues'"),
        VMSTATE_UINT32(drv_features, LabnicState),
        VMSTATE_UINT32(ctrl, LabnicState),
        VMSTATE_UINT32(max_frame, LabnicState),
        VMSTATE_UINT32(rx_mode, LabnicState),
        VMSTATE_UINT64(mac, LabnicState),
        VMSTATE_UINT32(misc_cause, LabnicState),
        VMSTATE_UINT32(misc_enable, LabnicState),
        VMSTATE_UINT32(queue_errors, LabnicState),
        VMSTATE_UINT32(rss_ctrl, LabnicState),
        VMSTATE_UINT8_ARRAY(rss_key, LabnicState, LABNIC_RSS_KEY_SIZE),
        VMSTATE_UINT8_ARRAY(rss_table, LabnicState, LABNIC_RSS_TABLE_SIZE),
        VMSTATE_UINT64_ARRAY(slot, LabnicState, LABNIC_ADDR_SLOTS),
        VMSTATE_UINT64_ARRAY(slot_used, LabnicState, LABNIC_ADDR_SLOTS),
        VMSTATE_UINT64_ARRAY(status_base, LabnicState, LABNIC_MAX_QUEUES),
        VMSTATE_STRUCT_ARRAY(tx, LabnicState, LABNIC_MAX_QUEUES, 1,
                             labnic_vmstate_tx, LabnicTxQueue),
        VMSTATE_STRUCT_ARRAY(rx, LabnicState, LABNIC_MAX_QUEUES, 1,
                             labnic_vmstate_rx, LabnicRxQueue),
        VMSTATE_UINT64_ARRAY(counters, LabnicState, LABNIC_N_COUNTERS),
        VMSTATE_BOOL(link_up, LabnicState),
        VMSTATE_STRUCT_ARRAY(irq_hold, LabnicState, LABNIC_MAX_QUEUES, 1,
                             labnic_vmstate_irq_hold, LabnicIrqHold),
        VMSTATE_END_OF_LIST()
    },
};
