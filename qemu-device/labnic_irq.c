/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSI-X vectors, event suppression and moderation. The other end is
 * kernel-driver/labnic_irq.c.
 */
#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "hw/pci/msix.h"
#include "labnic.h"

/* No fault stands in the way here */
void labnic_irq_send(LabnicState *s, unsigned vector)
{
    PCIDevice *pci_dev = PCI_DEVICE(s);

    /* A function can be made to have fewer vectors than it has sources */
    if (!msix_enabled(pci_dev) || vector >= labnic_vectors(s)) {
        trace_labnic_irq_off(s->name, vector);
        return;
    }
    trace_labnic_irq(s->name, vector);
    msix_notify(pci_dev, vector);
    labnic_count(s, vector == LABNIC_VECTOR_MISC ? LABNIC_COUNTER_IRQ_MISC :
                                                   LABNIC_COUNTER_IRQ_QUEUE);
}

static void labnic_irq_fire(LabnicState *s, unsigned vector)
{
    if (labnic_dead(s)) {
        return;
    }
    if (unlikely(s->faults.kinds) && labnic_fault_irq_slow(s, vector)) {
        return;
    }
    labnic_irq_send(s, vector);
}

/* What the driver wishes for one direction of a queue pair */
typedef struct LabnicIrqWish {
    uint32_t event;
    uint32_t usecs;
    uint32_t count;
} LabnicIrqWish;

static bool labnic_irq_read_wish(LabnicState *s, bool tx, unsigned qi,
                                 LabnicIrqWish *wish)
{
    struct {
        uint32_t event[2];      /* TX, RX */
        uint32_t hold[2];
    } line;
    uint32_t hold;

    QEMU_BUILD_BUG_ON(offsetof(struct labnic_status_block, rx_irq_hold) !=
                      offsetof(struct labnic_status_block, tx_irq_event) +
                      sizeof(line) - sizeof(hold));
    if (!labnic_dma_read(s, LABNIC_STATUS_ADDR(s, qi, tx_irq_event), &line,
                         sizeof(line))) {
        return false;
    }
    wish->event = le32_to_cpu(line.event[!tx]);
    hold = s->drv_features & LABNIC_FEATURE_MODERATION ?
           le32_to_cpu(line.hold[!tx]) : 0;
    wish->usecs = labnic_field(hold, LABNIC_STATUS_BLOCK_TX_IRQ_HOLD_USECS);
    wish->count = labnic_field(hold, LABNIC_STATUS_BLOCK_TX_IRQ_HOLD_COUNT);
    return true;
}

static void labnic_irq_fire_queue(LabnicState *s, unsigned qi)
{
    LabnicIrqHold *hold = &s->irq_hold[qi];

    hold->tx = false;
    hold->rx = false;
    hold->fired = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    labnic_irq_fire(s, LABNIC_VECTOR_QUEUE0 + qi);
}

/* Has the clock tick then, or sooner */
void labnic_irq_wake_at(LabnicState *s, int64_t due)
{
    if (!timer_pending(&s->irq_clock) ||
        due < timer_expire_time_ns(&s->irq_clock)) {
        timer_mod_ns(&s->irq_clock, due);
    }
}

/* Whether the vector must be silent for longer; then its clock is set */
static bool labnic_irq_hold(LabnicState *s, unsigned qi, int64_t us)
{
    LabnicIrqHold *hold = &s->irq_hold[qi];
    int64_t due = hold->fired + us * SCALE_US;

    if (!us || qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) >= due) {
        return false;
    }
    /* One wish at a time can be new, and the other one's time may be sooner */
    hold->due = hold->tx || hold->rx ? MIN(hold->due, due) : due;
    labnic_irq_wake_at(s, hold->due);
    return true;
}

/*
 * Interrupts when a count's step from before to after passes the event that
 * the driver wrote, or holds that back. The count must be visible to the
 * driver before the call. A block that cannot be read counts as wish for an
 * interrupt: the driver will come and look.
 */
void labnic_irq_event(LabnicState *s, bool tx, unsigned qi, uint32_t before,
                      uint32_t after)
{
    bool *held = tx ? &s->irq_hold[qi].tx : &s->irq_hold[qi].rx;
    LabnicIrqWish wish;
    uint32_t beyond;

    if (before == after) {
        return;
    }
    if (!labnic_irq_read_wish(s, tx, qi, &wish)) {
        labnic_irq_fire_queue(s, qi);
        return;
    }
    if (s->audit) {
        labnic_audit_event_slow(s, tx, qi, before, wish.event);
    }
    if (!tx) {
        s->irq_hold[qi].rx_usecs = wish.usecs;
    }
    beyond = after - wish.event;
    if (!*held && beyond - 1 >= after - before) {
        return;
    }
    if (*held && (int32_t)beyond <= 0) {
        *held = false;          /* the driver came by itself */
        return;
    }
    if ((wish.count && beyond >= wish.count) ||
        !labnic_irq_hold(s, qi, wish.usecs)) {
        labnic_irq_fire_queue(s, qi);
        return;
    }
    *held = true;
    trace_labnic_irq_hold(s->name, qi, tx, beyond, s->irq_hold[qi].due);
}

/* Whether an interrupt that is held is wanted still */
static bool labnic_irq_still(LabnicState *s, bool tx, unsigned qi)
{
    uint32_t count = tx ? s->tx[qi].reported : s->rx[qi].reported;
    LabnicIrqWish wish;

    return !labnic_irq_read_wish(s, tx, qi, &wish) ||
           (int32_t)(count - wish.event) > 0;
}

/* The time of a vector is over */
static void labnic_irq_release(LabnicState *s, unsigned qi)
{
    LabnicIrqHold *hold = &s->irq_hold[qi];
    bool wanted = (hold->tx && labnic_irq_still(s, true, qi)) ||
                  (hold->rx && labnic_irq_still(s, false, qi));

    hold->tx = false;
    hold->rx = false;
    if (wanted) {
        labnic_irq_fire_queue(s, qi);
    }
}

/* The next time of a queue pair at which something is due, after all that is */
static int64_t labnic_irq_tick_queue(LabnicState *s, unsigned qi, int64_t now)
{
    LabnicIrqHold *hold = &s->irq_hold[qi];
    LabnicGro *gro = &s->gro[qi];
    bool stuck = s->gro_stuck & 1u << qi;
    bool held = hold->tx || hold->rx;
    int64_t next = INT64_MAX;

    /* What comes with the interrupt need not wait for another one */
    if (gro->segments && !stuck &&
        (gro->due <= now || (held && hold->due <= now))) {
        labnic_gro_flush(s, qi);
    }
    if (hold->tx || hold->rx) {
        if (hold->due <= now) {
            labnic_irq_release(s, qi);
        } else {
            next = hold->due;
        }
    }
    stuck = s->gro_stuck & 1u << qi;
    return gro->segments && !stuck ? MIN(next, gro->due) : next;
}

static void labnic_irq_tick(void *opaque)
{
    LabnicState *s = opaque;
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    int64_t next = INT64_MAX;

    if (labnic_dead(s) || !labnic_enter(s)) {
        return;                 /* who revives it calls labnic_irq_resume() */
    }
    for (unsigned qi = 0; qi < s->num_queues; qi++) {
        next = MIN(next, labnic_irq_tick_queue(s, qi, now));
    }
    if (next != INT64_MAX) {
        labnic_irq_wake_at(s, next);
    }
    labnic_leave(s);
}

/* What is held is looked at anew */
void labnic_irq_resume(LabnicState *s)
{
    timer_mod_ns(&s->irq_clock, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL));
}

/* Of a queue that is stopped nothing is held */
void labnic_irq_forget(LabnicState *s, bool tx, unsigned qi)
{
    if (tx) {
        s->irq_hold[qi].tx = false;
    } else {
        s->irq_hold[qi].rx = false;
        s->irq_hold[qi].rx_usecs = 0;
    }
}

void labnic_irq_init(LabnicState *s)
{
    timer_init_ns(&s->irq_clock, QEMU_CLOCK_VIRTUAL, labnic_irq_tick, s);
}

void labnic_irq_exit(LabnicState *s)
{
    timer_del(&s->irq_clock);
}

/* The misc vector fires when an enabled cause appears */
static void labnic_irq_misc_update(LabnicState *s, uint32_t before)
{
    uint32_t now = s->misc_cause & s->misc_enable;

    if (now & ~before) {
        labnic_irq_fire(s, LABNIC_VECTOR_MISC);
    }
}

void labnic_irq_misc(LabnicState *s, uint32_t cause)
{
    uint32_t before = s->misc_cause & s->misc_enable;

    s->misc_cause |= cause;
    labnic_irq_misc_update(s, before);
}

void labnic_irq_misc_set_enable(LabnicState *s, uint32_t enable)
{
    uint32_t before = s->misc_cause & s->misc_enable;

    s->misc_enable = enable;
    labnic_irq_misc_update(s, before);
}

/* Stops a queue for a reason that the driver can read */
void labnic_queue_error(LabnicState *s, bool tx, unsigned qi, uint32_t error)
{
    trace_labnic_queue_error(s->name, tx ? "TX" : "RX", qi, error);
    labnic_count(s, LABNIC_COUNTER_QUEUE_ERRORS);
    if (s->audit) {
        labnic_audit_error_slow(s, tx, qi, error);
    }
    if (tx) {
        s->tx[qi].error = error;
        s->queue_errors |= 1u << (ctz32(LABNIC_QUEUE_ERRORS_TX) + qi);
        labnic_tx_stop(s, qi);
    } else {
        s->rx[qi].error = error;
        s->queue_errors |= 1u << (ctz32(LABNIC_QUEUE_ERRORS_RX) + qi);
        labnic_rx_stop(s, qi);
    }
    labnic_irq_misc(s, LABNIC_MISC_CAUSE_QUEUE_ERROR);
}
