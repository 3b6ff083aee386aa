/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scripted faults: which event is struck, and what the kinds do that act by
 * themselves. What a struck event becomes is in the file that it belongs to.
 *
 * Faults are the tester's, not the guest's: no reset touches them. A state
 * that is loaded clears them, because a restored machine is a fresh one, and
 * they go with the device.
 *
 * They are deterministic: the same events are struck again as often as the
 * same faults are set and the same events come. Where chance decides, it is a
 * generator of the fault's own (xorshift32 of Marsaglia, "Xorshift RNGs",
 * 2003, with the shifts 13, 17, 5), begun with the fault's seed.
 */
#include "qemu/osdep.h"
#include "hw/pci/msix.h"
#include "labnic.h"

#define LABNIC_KIND_BIT(kind) (1u << (kind))

QEMU_BUILD_BUG_ON(LABNIC_N_FAULTS > 32);

/* Which events */

/* A seed of which neighbours begin differently; the state is never zero */
static uint32_t labnic_fault_begin_random(uint32_t seed)
{
    uint32_t state = seed * 2654435761u;

    return state ? state : 1;
}

static uint32_t labnic_fault_random(LabnicFault *f)
{
    f->random ^= f->random << 13;
    f->random ^= f->random >> 17;
    f->random ^= f->random << 5;
    return f->random;
}

static bool labnic_fault_spent(const LabnicFault *f)
{
    return f->count && f->hits >= f->count;
}

/* One more event that the fault is about: whether it is struck */
static bool labnic_fault_event(LabnicFault *f)
{
    f->seen++;
    if (f->seen <= f->after || labnic_fault_spent(f)) {
        return false;
    }
    if (f->chance < LABNIC_FAULT_CHANCE_ALL &&
        labnic_fault_random(f) % LABNIC_FAULT_CHANCE_ALL >= f->chance) {
        return false;
    }
    f->hits++;
    trace_labnic_fault_hit(f->owner->name, labnic_fault_name(f->kind), f->id,
                           f->seen, f->hits);
    return true;
}

/*
 * Shows an event to the faults of a kind. The first that strikes is what the
 * event becomes; those after it have seen the event, too.
 */
LabnicFault *labnic_fault_strike(LabnicState *s, enum labnic_fault_kind kind,
                                 int queue)
{
    LabnicFault *struck = NULL;

    for (unsigned i = 0; i < LABNIC_FAULTS_MAX; i++) {
        LabnicFault *f = &s->faults.list[i];

        if (!f->id || f->kind != kind ||
            (f->queue != LABNIC_FAULT_ANY && f->queue != queue)) {
            continue;
        }
        if (struck) {
            f->seen++;
        } else if (labnic_fault_event(f)) {
            struck = f;
        }
    }
    return struck;
}

/* Registers */

static void labnic_fault_hide_msix(LabnicState *s, bool hide)
{
    if (msix_present(PCI_DEVICE(s))) {
        memory_region_set_enabled(&s->faults.no_msix, hide);
    }
}

/* hang and gone begin; what is under way ends here */
static void labnic_fault_begin(LabnicState *s, enum labnic_fault_kind kind)
{
    if (kind == LABNIC_FAULT_GONE) {
        s->faults.gone = true;
        labnic_fault_hide_msix(s, true);
    } else if (!s->faults.hung) {
        s->faults.hung = true;
        s->faults.write_lost = false;
    }
    memset(s->faults.irq_due, 0, sizeof(s->faults.irq_due));
    /* Not sent, so still in its ring: it goes when the device goes on */
    labnic_tx_purge(s);
}

/* An access may be the event that hang or gone waited for */
void labnic_fault_access_slow(LabnicState *s)
{
    if (labnic_fault(s, LABNIC_FAULT_HANG, LABNIC_FAULT_ANY)) {
        labnic_fault_begin(s, LABNIC_FAULT_HANG);
    }
    if (labnic_fault(s, LABNIC_FAULT_GONE, LABNIC_FAULT_ANY)) {
        labnic_fault_begin(s, LABNIC_FAULT_GONE);
    }
}

uint32_t labnic_fault_register_slow(LabnicState *s, uint32_t addr,
                                    uint32_t value)
{
    for (unsigned i = 0; i < LABNIC_FAULTS_MAX; i++) {
        LabnicFault *f = &s->faults.list[i];

        if (f->id && f->kind == LABNIC_FAULT_REGISTER && f->reg == addr &&
            labnic_fault_event(f)) {
            value = f->value;
        }
    }
    return value;
}

static uint64_t labnic_no_msix_read(void *opaque, hwaddr addr, unsigned size)
{
    return UINT64_MAX;
}

static void labnic_no_msix_write(void *opaque, hwaddr addr, uint64_t value,
                                 unsigned size)
{
}

static const MemoryRegionOps labnic_no_msix_ops = {
    .read = labnic_no_msix_read,
    .write = labnic_no_msix_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
};

/* Interrupts */

static int labnic_fault_vector_queue(unsigned vector)
{
    return vector == LABNIC_VECTOR_MISC ? LABNIC_FAULT_MISC :
           vector - LABNIC_VECTOR_QUEUE0;
}

static void labnic_fault_set_irq_clock(LabnicState *s)
{
    int64_t next = INT64_MAX;

    for (unsigned v = 0; v < ARRAY_SIZE(s->faults.irq_due); v++) {
        if (s->faults.irq_due[v]) {
            next = MIN(next, s->faults.irq_due[v]);
        }
    }
    if (next == INT64_MAX) {
        timer_del(&s->faults.irq_clock);
    } else {
        timer_mod_ns(&s->faults.irq_clock, next);
    }
}

/* Delivers what is due */
static void labnic_fault_irq_tick(void *opaque)
{
    LabnicState *s = opaque;
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    for (unsigned v = 0; v < ARRAY_SIZE(s->faults.irq_due); v++) {
        if (s->faults.irq_due[v] && s->faults.irq_due[v] <= now) {
            s->faults.irq_due[v] = 0;
            labnic_irq_send(s, v);
        }
    }
    labnic_fault_set_irq_clock(s);
}

static void labnic_fault_delay_irq(LabnicState *s, unsigned vector, int64_t us)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    if (!s->faults.irq_due[vector]) {
        s->faults.irq_due[vector] = now + us * SCALE_US;
        labnic_fault_set_irq_clock(s);
    }
}

/* True when the interrupt is not to be sent now */
bool labnic_fault_irq_slow(LabnicState *s, unsigned vector)
{
    int queue = labnic_fault_vector_queue(vector);
    LabnicFault *f;

    if (labnic_fault(s, LABNIC_FAULT_IRQ_LOSE, queue)) {
        return true;
    }
    f = labnic_fault(s, LABNIC_FAULT_IRQ_DELAY, queue);
    if (f) {
        labnic_fault_delay_irq(s, vector, f->value);
        return true;
    }
    f = labnic_fault(s, LABNIC_FAULT_IRQ_REPEAT, queue);
    for (int64_t n = 0; f && n < f->value; n++) {
        labnic_irq_send(s, vector);
    }
    return false;
}

/* Completions */

void labnic_fault_cmpl_slow(LabnicState *s, unsigned qi,
                            struct labnic_rx_cmpl *cmpl)
{
    uint32_t len_id = le32_to_cpu(cmpl->len_id);
    unsigned id_shift = ctz32(LABNIC_RX_CMPL_LEN_ID_ID);
    LabnicFault *f;

    f = labnic_fault(s, LABNIC_FAULT_RX_LENGTH, qi);
    if (f) {
        len_id = (len_id & ~LABNIC_RX_CMPL_LEN_ID_BYTES) | (uint32_t)f->value;
        labnic_audit_excuse(s, false, qi);
    }
    f = labnic_fault(s, LABNIC_FAULT_RX_INDEX, qi);
    if (f) {
        len_id += (uint32_t)f->value << id_shift;
        labnic_audit_excuse(s, false, qi);
    }
    cmpl->len_id = cpu_to_le32(len_id);
    f = labnic_fault(s, LABNIC_FAULT_RX_VERDICT, qi);
    if (f) {
        cmpl->flags &= cpu_to_le32(~LABNIC_RX_CMPL_FLAGS_VERDICT);
        cmpl->flags |= cpu_to_le32((uint32_t)f->value <<
                                   ctz32(LABNIC_RX_CMPL_FLAGS_VERDICT));
    }
    f = labnic_fault(s, LABNIC_FAULT_RX_COALESCED, qi);
    if (f) {
        cmpl->coalesced = cpu_to_le32((uint32_t)f->value);
    }
    if (labnic_fault(s, LABNIC_FAULT_RX_PHASE, qi)) {
        cmpl->flags ^= cpu_to_le32(LABNIC_RX_CMPL_FLAGS_PHASE);
        labnic_audit_excuse(s, false, qi);
    }
}

/* The kinds with a clock */

bool labnic_fault_carrier_off(const LabnicState *s)
{
    for (unsigned i = 0; i < LABNIC_FAULTS_MAX; i++) {
        if (s->faults.list[i].id && s->faults.list[i].carrier_off) {
            return true;
        }
    }
    return false;
}

static void labnic_fault_flap(LabnicFault *f)
{
    if (f->carrier_off) {
        f->carrier_off = false;
    } else {
        f->carrier_off = labnic_fault_event(f);
    }
    labnic_link_update(f->owner);
}

static void labnic_fault_spurious(LabnicFault *f)
{
    unsigned vector = f->queue < 0 ? LABNIC_VECTOR_MISC :
                      LABNIC_VECTOR_QUEUE0 + f->queue;

    if (labnic_fault_event(f) && !labnic_dead(f->owner)) {
        labnic_irq_send(f->owner, vector);
    }
}

static void labnic_fault_tick(void *opaque)
{
    LabnicFault *f = opaque;
    int64_t scale = f->kind == LABNIC_FAULT_LINK_FLAP ? SCALE_MS : SCALE_US;

    if (f->kind == LABNIC_FAULT_LINK_FLAP) {
        labnic_fault_flap(f);
    } else {
        labnic_fault_spurious(f);
    }
    if (f->carrier_off || !labnic_fault_spent(f)) {
        timer_mod_ns(&f->clock, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) +
                                f->value * scale);
    }
}

/* Setting and clearing */

static void labnic_fault_start(LabnicState *s, LabnicFault *f)
{
    switch (f->kind) {
    case LABNIC_FAULT_IRQ_SPURIOUS:
    case LABNIC_FAULT_LINK_FLAP:
        timer_init_ns(&f->clock, QEMU_CLOCK_VIRTUAL, labnic_fault_tick, f);
        labnic_fault_tick(f);
        return;
    case LABNIC_FAULT_HANG:
    case LABNIC_FAULT_GONE:
        if (!f->after && labnic_fault_event(f)) {
            labnic_fault_begin(s, f->kind);
        }
        return;
    default:
        return;
    }
}

/* The caller has checked that it fits the device and that there is a place */
void labnic_fault_add(LabnicState *s, const LabnicFault *wanted)
{
    LabnicFault *f = s->faults.list;

    while (f->id) {
        f++;
    }
    g_assert(f < s->faults.list + LABNIC_FAULTS_MAX);
    *f = *wanted;
    f->id = ++s->faults.last_id;
    f->owner = s;
    f->random = labnic_fault_begin_random(f->seed);
    s->faults.kinds |= LABNIC_KIND_BIT(f->kind);
    trace_labnic_fault_set(s->name, labnic_fault_name(f->kind), f->id,
                           f->queue, f->after, f->count, f->value);
    labnic_fault_start(s, f);
}

static bool labnic_fault_has(const LabnicState *s, enum labnic_fault_kind kind,
                             bool begun)
{
    for (unsigned i = 0; i < LABNIC_FAULTS_MAX; i++) {
        const LabnicFault *f = &s->faults.list[i];

        if (f->id && f->kind == kind && (!begun || f->hits)) {
            return true;
        }
    }
    return false;
}

/* Takes the fault out, without a consequence */
static void labnic_fault_drop(LabnicState *s, LabnicFault *f)
{
    enum labnic_fault_kind kind = f->kind;

    trace_labnic_fault_clear(s->name, labnic_fault_name(kind), f->id, f->seen,
                             f->hits);
    if (f->kind == LABNIC_FAULT_IRQ_SPURIOUS ||
        f->kind == LABNIC_FAULT_LINK_FLAP) {
        timer_del(&f->clock);
    }
    memset(f, 0, sizeof(*f));
    if (!labnic_fault_has(s, kind, false)) {
        s->faults.kinds &= ~LABNIC_KIND_BIT(kind);
    }
}

/*
 * A function that was gone comes back as it would be plugged in. So does, less
 * thoroughly, a device that hung while the driver tried more than doorbells:
 * its rings may be in memory that is no longer the driver's.
 */
static void labnic_fault_revive(LabnicState *s)
{
    if (s->faults.gone && !labnic_fault_has(s, LABNIC_FAULT_GONE, true)) {
        s->faults.gone = false;
        labnic_fault_hide_msix(s, false);
        pci_device_reset(PCI_DEVICE(s));
    }
    if (s->faults.hung && !labnic_fault_has(s, LABNIC_FAULT_HANG, true)) {
        s->faults.hung = false;
        if (s->faults.write_lost) {
            labnic_audit_function_reset(s);
            labnic_soft_reset(s);
        }
    }
}

void labnic_fault_clear(LabnicState *s, LabnicFault *f)
{
    labnic_fault_drop(s, f);
    labnic_fault_revive(s);
    /* Whatever the fault kept back goes its way now */
    labnic_link_update(s);
    labnic_tx_report_again(s);
    labnic_rx_resume(s);
    labnic_irq_resume(s);
}

/* Before a state is loaded: nothing of the tester's remains */
void labnic_fault_forget(LabnicState *s)
{
    for (unsigned i = 0; i < LABNIC_FAULTS_MAX; i++) {
        if (s->faults.list[i].id) {
            labnic_fault_drop(s, &s->faults.list[i]);
        }
    }
    memset(s->faults.irq_due, 0, sizeof(s->faults.irq_due));
    timer_del(&s->faults.irq_clock);
    s->faults.hung = false;
    s->faults.gone = false;
    labnic_fault_hide_msix(s, false);
}

void labnic_fault_init(LabnicState *s)
{
    PCIDevice *pci_dev = PCI_DEVICE(s);

    timer_init_ns(&s->faults.irq_clock, QEMU_CLOCK_VIRTUAL,
                  labnic_fault_irq_tick, s);
    if (!msix_present(pci_dev)) {
        return;
    }
    memory_region_init_io(&s->faults.no_msix, OBJECT(s), &labnic_no_msix_ops, s,
                          "labnic-no-msix", LABNIC_BAR_MSIX_SIZE);
    memory_region_set_enabled(&s->faults.no_msix, false);
    memory_region_add_subregion_overlap(&pci_dev->msix_exclusive_bar, 0,
                                        &s->faults.no_msix, 1);
}

void labnic_fault_exit(LabnicState *s)
{
    labnic_fault_forget(s);
    if (msix_present(PCI_DEVICE(s))) {
        memory_region_del_subregion(&PCI_DEVICE(s)->msix_exclusive_bar,
                                    &s->faults.no_msix);
    }
}
