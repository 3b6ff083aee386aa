/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Register decode. Only places and masks are here; what a write starts is in
 * the file that the register belongs to.
 */
#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "labnic.h"

/* What a refused or reserved read gives */
#define LABNIC_READ_NOTHING 0

/* What a read gives where no device answers */
#define LABNIC_READ_GONE UINT32_MAX

static uint32_t labnic_lo(uint64_t value)
{
    return value;
}

static uint32_t labnic_hi(uint64_t value)
{
    return value >> 32;
}

/* Writes one half of a 64-bit register */
static void labnic_set_half(uint64_t *reg, bool high, uint32_t value,
                            uint64_t writable)
{
    *reg = deposit64(*reg, high ? 32 : 0, 32, value) & writable;
}

static void labnic_bad_access(LabnicState *s, hwaddr addr, bool write)
{
    trace_labnic_bad_access(s->name, write ? "write" : "read", addr);
}

/* Whether addr is in an array of count registers that begins at first */
static bool labnic_in(hwaddr addr, hwaddr first, unsigned count)
{
    return addr >= first && addr < first + count * 4;
}

static uint32_t labnic_read_limits(const LabnicState *s)
{
    return s->num_queues << ctz32(LABNIC_LIMITS_QUEUES) |
           labnic_vectors(s) << ctz32(LABNIC_LIMITS_VECTORS);
}

static uint64_t labnic_perm_mac(const LabnicState *s)
{
    return labnic_addr_from_wire(s->conf.macaddr.a);
}

static uint32_t labnic_read_global(LabnicState *s, hwaddr addr)
{
    switch (addr) {
    case LABNIC_REG_ID:
        return LABNIC_INIT_ID;
    case LABNIC_REG_VERSION:
        return LABNIC_INIT_VERSION;
    case LABNIC_REG_DEV_FEATURES:
        return s->features;
    case LABNIC_REG_DRV_FEATURES:
        return s->drv_features;
    case LABNIC_REG_CTRL:
        return s->ctrl;
    case LABNIC_REG_LIMITS:
        return labnic_read_limits(s);
    case LABNIC_REG_MAX_FRAME:
        return s->max_frame;
    case LABNIC_REG_RX_MODE:
        return s->rx_mode;
    case LABNIC_REG_MAC:
        return labnic_lo(s->mac);
    case LABNIC_REG_MAC_HI:
        return labnic_hi(s->mac);
    case LABNIC_REG_PERM_MAC:
        return labnic_lo(labnic_perm_mac(s));
    case LABNIC_REG_PERM_MAC_HI:
        return labnic_hi(labnic_perm_mac(s));
    case LABNIC_REG_LINK:
        return labnic_link_reg(s);
    case LABNIC_REG_MISC_CAUSE:
        return s->misc_cause;
    case LABNIC_REG_MISC_ENABLE:
        return s->misc_enable;
    case LABNIC_REG_QUEUE_ERRORS:
        return s->queue_errors;
    case LABNIC_REG_RSS_CTRL:
        return s->rss_ctrl;
    }
    if (labnic_in(addr, LABNIC_REG_RSS_KEY(0), LABNIC_RSS_KEY_SIZE / 4)) {
        return ldl_le_p(s->rss_key + (addr - LABNIC_REG_RSS_KEY(0)));
    }
    if (labnic_in(addr, LABNIC_REG_RSS_TABLE(0), LABNIC_RSS_TABLE_SIZE / 4)) {
        return ldl_le_p(s->rss_table + (addr - LABNIC_REG_RSS_TABLE(0)));
    }
    labnic_bad_access(s, addr, false);
    return LABNIC_READ_NOTHING;
}

static void labnic_write_ctrl(LabnicState *s, uint32_t value)
{
    if (value & LABNIC_CTRL_RESET) {
        for (unsigned qi = 0; qi < s->num_queues; qi++) {
            labnic_audit_stop(s, true, qi);
            labnic_audit_stop(s, false, qi);
        }
        labnic_soft_reset(s);   /* of this register, too */
        return;
    }
    s->ctrl = value & LABNIC_CTRL_ENABLE;
    trace_labnic_ctrl(s->name, s->ctrl);
    if (labnic_enabled(s)) {
        labnic_tx_kick_all(s);
    }
}

static void labnic_write_mac(LabnicState *s, bool high, uint32_t value)
{
    labnic_set_half(&s->mac, high, value, LABNIC_RW_MAC);
    labnic_mac_changed(s);
}

static void labnic_write_global(LabnicState *s, hwaddr addr, uint32_t value)
{
    switch (addr) {
    case LABNIC_REG_DRV_FEATURES:
        labnic_gro_end(s);      /* by what the driver has accepted so far */
        s->drv_features = value & s->features;
        labnic_vnet_update(s);
        return;
    case LABNIC_REG_CTRL:
        labnic_write_ctrl(s, value);
        return;
    case LABNIC_REG_MAX_FRAME:
        s->max_frame = value & LABNIC_RW_MAX_FRAME;
        return;
    case LABNIC_REG_RX_MODE:
        s->rx_mode = value & LABNIC_RW_RX_MODE;
        return;
    case LABNIC_REG_MAC:
    case LABNIC_REG_MAC_HI:
        labnic_write_mac(s, addr == LABNIC_REG_MAC_HI, value);
        return;
    case LABNIC_REG_MISC_CAUSE:
        s->misc_cause &= ~value;
        return;
    case LABNIC_REG_MISC_ENABLE:
        labnic_irq_misc_set_enable(s, value & LABNIC_RW_MISC_ENABLE);
        return;
    case LABNIC_REG_RSS_CTRL:
        s->rss_ctrl = value & LABNIC_RW_RSS_CTRL;
        return;
    }
    if (labnic_in(addr, LABNIC_REG_RSS_KEY(0), LABNIC_RSS_KEY_SIZE / 4)) {
        stl_le_p(s->rss_key + (addr - LABNIC_REG_RSS_KEY(0)), value);
    } else if (labnic_in(addr, LABNIC_REG_RSS_TABLE(0),
                         LABNIC_RSS_TABLE_SIZE / 4)) {
        stl_le_p(s->rss_table + (addr - LABNIC_REG_RSS_TABLE(0)), value);
    } else {
        labnic_bad_access(s, addr, true);
    }
}

static bool labnic_is_slot(hwaddr addr)
{
    return labnic_in(addr, LABNIC_REG_ADDR_SLOT(0), LABNIC_ADDR_SLOTS * 2);
}

static uint32_t labnic_read_filter(LabnicState *s, hwaddr addr)
{
    uint64_t slot;

    if (!labnic_is_slot(addr)) {
        labnic_bad_access(s, addr, false);
        return LABNIC_READ_NOTHING;
    }
    slot = s->slot[(addr - LABNIC_REG_ADDR_SLOT(0)) / 8];
    return addr & 4 ? labnic_hi(slot) : labnic_lo(slot);
}

static void labnic_write_filter(LabnicState *s, hwaddr addr, uint32_t value)
{
    unsigned n = (addr - LABNIC_REG_ADDR_SLOT(0)) / 8;
    bool high = addr & 4;

    if (!labnic_is_slot(addr)) {
        labnic_bad_access(s, addr, true);
        return;
    }
    labnic_set_half(&s->slot[n], high, value, LABNIC_RW_ADDR_SLOT);
    if (high) {
        s->slot_used[n] = s->slot[n];
        labnic_filter_rebuild(s);
        trace_labnic_filter_slot(s->name, n, s->slot[n]);
    }
}

/* reg is the address of a register of queue pair 0 */
static uint32_t labnic_read_queue(LabnicState *s, unsigned qi, hwaddr reg)
{
    const LabnicTxQueue *tx = &s->tx[qi];
    const LabnicRxQueue *rx = &s->rx[qi];

    switch (reg) {
    case LABNIC_REG_TX_BASE(0):
        return labnic_lo(tx->ring.base);
    case LABNIC_REG_TX_BASE_HI(0):
        return labnic_hi(tx->ring.base);
    case LABNIC_REG_TX_SIZE(0):
        return tx->ring.size;
    case LABNIC_REG_TX_CTRL(0):
        return tx->ring.enabled ? LABNIC_TX_CTRL_ENABLE : 0;
    case LABNIC_REG_TX_STATUS(0):
        return tx->error;
    case LABNIC_REG_TX_HEAD(0):
        return tx->ring.head;
    case LABNIC_REG_RX_BUF_BASE(0):
        return labnic_lo(rx->ring.base);
    case LABNIC_REG_RX_BUF_BASE_HI(0):
        return labnic_hi(rx->ring.base);
    case LABNIC_REG_RX_CMPL_BASE(0):
        return labnic_lo(rx->cmpl_base);
    case LABNIC_REG_RX_CMPL_BASE_HI(0):
        return labnic_hi(rx->cmpl_base);
    case LABNIC_REG_RX_SIZE(0):
        return rx->ring.size;
    case LABNIC_REG_RX_CTRL(0):
        return rx->ring.enabled ? LABNIC_RX_CTRL_ENABLE : 0;
    case LABNIC_REG_RX_STATUS(0):
        return rx->error;
    case LABNIC_REG_RX_HEAD(0):
        return rx->ring.head;
    case LABNIC_REG_STATUS_BASE(0):
        return labnic_lo(s->status_base[qi]);
    case LABNIC_REG_STATUS_BASE_HI(0):
        return labnic_hi(s->status_base[qi]);
    }
    labnic_bad_access(s, reg, false);
    return LABNIC_READ_NOTHING;
}

/* The registers that say where a ring is: fixed while it is in use */
static bool labnic_write_ring(LabnicState *s, unsigned qi, hwaddr reg,
                              uint32_t value)
{
    LabnicTxQueue *tx = &s->tx[qi];
    LabnicRxQueue *rx = &s->rx[qi];
    bool locked = reg < LABNIC_REG_RX_BUF_BASE(0) ? tx->ring.enabled :
                  reg < LABNIC_REG_STATUS_BASE(0) ? rx->ring.enabled :
                  tx->ring.enabled || rx->ring.enabled;

    if (locked) {
        trace_labnic_guest_error(s->name, "ring moved while enabled", qi);
        if (s->audit) {
            labnic_audit_violation(s, LABNIC_AUDIT_RING_MOVED, qi,
                                   "write of 0x%04x", (uint32_t)reg);
        }
        return true;
    }
    switch (reg) {
    case LABNIC_REG_TX_BASE(0):
    case LABNIC_REG_TX_BASE_HI(0):
        labnic_set_half(&tx->ring.base, reg & 4, value, LABNIC_RW_TX_BASE);
        return true;
    case LABNIC_REG_TX_SIZE(0):
        tx->ring.size = value & LABNIC_RW_TX_SIZE;
        return true;
    case LABNIC_REG_RX_BUF_BASE(0):
    case LABNIC_REG_RX_BUF_BASE_HI(0):
        labnic_set_half(&rx->ring.base, reg & 4, value, LABNIC_RW_RX_BUF_BASE);
        return true;
    case LABNIC_REG_RX_CMPL_BASE(0):
    case LABNIC_REG_RX_CMPL_BASE_HI(0):
        labnic_set_half(&rx->cmpl_base, reg & 4, value,
                        LABNIC_RW_RX_CMPL_BASE);
        return true;
    case LABNIC_REG_RX_SIZE(0):
        rx->ring.size = value & LABNIC_RW_RX_SIZE;
        return true;
    case LABNIC_REG_STATUS_BASE(0):
    case LABNIC_REG_STATUS_BASE_HI(0):
        labnic_set_half(&s->status_base[qi], reg & 4, value,
                        LABNIC_RW_STATUS_BASE);
        return true;
    }
    return false;
}

static void labnic_write_queue(LabnicState *s, unsigned qi, hwaddr reg,
                               uint32_t value)
{
    switch (reg) {
    case LABNIC_REG_TX_CTRL(0):
        labnic_tx_set_enable(s, qi, value & LABNIC_TX_CTRL_ENABLE);
        return;
    case LABNIC_REG_RX_CTRL(0):
        labnic_rx_set_enable(s, qi, value & LABNIC_RX_CTRL_ENABLE);
        return;
    case LABNIC_REG_TX_STATUS(0):
    case LABNIC_REG_TX_HEAD(0):
    case LABNIC_REG_RX_STATUS(0):
    case LABNIC_REG_RX_HEAD(0):
        labnic_bad_access(s, reg, true);
        return;
    }
    if (!labnic_write_ring(s, qi, reg, value)) {
        labnic_bad_access(s, reg, true);
    }
}

/*
 * Splits an address of a strided block into the element, which must exist, and
 * the same register of element 0.
 */
static bool labnic_split(const LabnicState *s, hwaddr addr, hwaddr base,
                         unsigned stride, unsigned *qi, hwaddr *reg)
{
    *qi = (addr - base) / stride;
    *reg = addr - *qi * stride;
    return *qi < s->num_queues;
}

static uint32_t labnic_read_reg(LabnicState *s, hwaddr addr)
{
    unsigned qi;
    hwaddr reg;

    switch (addr & ~0xfffULL) {
    case LABNIC_BLOCK_GLOBAL_BASE:
        return labnic_read_global(s, addr);
    case LABNIC_BLOCK_FILTER_BASE:
        return labnic_read_filter(s, addr);
    case LABNIC_BLOCK_COUNTERS_BASE:
        return labnic_counter_reg(s, addr - LABNIC_BLOCK_COUNTERS_BASE);
    case LABNIC_BLOCK_QUEUE_BASE:
        if (labnic_split(s, addr, LABNIC_BLOCK_QUEUE_BASE,
                         LABNIC_BLOCK_QUEUE_STRIDE, &qi, &reg)) {
            return labnic_read_queue(s, qi, reg);
        }
        break;
    case LABNIC_BLOCK_DOORBELL_BASE:
        return LABNIC_READ_NOTHING;
    }
    labnic_bad_access(s, addr, false);
    return LABNIC_READ_NOTHING;
}

static void labnic_write_doorbell(LabnicState *s, unsigned qi, hwaddr reg,
                                  uint32_t value)
{
    if (reg == LABNIC_REG_TX_DOORBELL(0)) {
        labnic_tx_doorbell(s, qi, value);
    } else {
        labnic_rx_doorbell(s, qi, value);
    }
}

static void labnic_write_reg(LabnicState *s, hwaddr addr, uint32_t value)
{
    unsigned qi;
    hwaddr reg;

    switch (addr & ~0xfffULL) {
    case LABNIC_BLOCK_DOORBELL_BASE:
        if (labnic_split(s, addr, LABNIC_BLOCK_DOORBELL_BASE,
                         LABNIC_BLOCK_DOORBELL_STRIDE, &qi, &reg)) {
            labnic_write_doorbell(s, qi, reg, value);
            return;
        }
        break;
    case LABNIC_BLOCK_GLOBAL_BASE:
        labnic_write_global(s, addr, value);
        labnic_rx_resume(s);    /* what is held may now go elsewhere */
        return;
    case LABNIC_BLOCK_FILTER_BASE:
        labnic_write_filter(s, addr, value);
        labnic_rx_resume(s);
        return;
    case LABNIC_BLOCK_QUEUE_BASE:
        if (labnic_split(s, addr, LABNIC_BLOCK_QUEUE_BASE,
                         LABNIC_BLOCK_QUEUE_STRIDE, &qi, &reg)) {
            labnic_write_queue(s, qi, reg, value);
            return;
        }
        break;
    }
    labnic_bad_access(s, addr, true);
}

static void labnic_mmio_access(LabnicState *s)
{
    if (unlikely(s->faults.kinds)) {
        labnic_fault_access_slow(s);
    }
}

static uint64_t labnic_mmio_read(void *opaque, hwaddr addr, unsigned size)
{
    LabnicState *s = opaque;
    uint32_t value;

    if (!labnic_enter(s)) {
        return LABNIC_READ_NOTHING;
    }
    labnic_mmio_access(s);
    if (!labnic_dead(s)) {
        if (s->audit) {
            labnic_audit_read_slow(s, addr);
        }
        labnic_count(s, LABNIC_COUNTER_MMIO_READS);
    }
    value = s->faults.gone ? LABNIC_READ_GONE : labnic_read_reg(s, addr);
    if (unlikely(s->faults.kinds) && !s->faults.gone) {
        value = labnic_fault_register_slow(s, addr, value);
    }
    trace_labnic_mmio_read(s->name, addr, value);
    labnic_leave(s);
    return value;
}

static void labnic_mmio_write(void *opaque, hwaddr addr, uint64_t value,
                              unsigned size)
{
    LabnicState *s = opaque;

    if (!labnic_enter(s)) {
        return;
    }
    labnic_mmio_access(s);
    trace_labnic_mmio_write(s->name, addr, value);
    if (labnic_dead(s)) {
        s->faults.write_lost |= addr < LABNIC_BLOCK_DOORBELL_BASE;
    } else {
        if (s->audit) {
            labnic_audit_write_slow(s, addr, value);
        }
        labnic_count(s, LABNIC_COUNTER_MMIO_WRITES);
        labnic_write_reg(s, addr, value);
    }
    labnic_leave(s);
}

/* Anything but an aligned access of four bytes is refused by the core */
const MemoryRegionOps labnic_mmio_ops = {
    .read = labnic_mmio_read,
    .write = labnic_mmio_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = {
        .min_access_size = 4,
        .max_access_size = 4,
    },
    .impl = {
        .min_access_size = 4,
        .max_access_size = 4,
    },
};
