/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The audit's rules about rings.
 *
 * Of each entry that the driver publishes a copy is kept from the first look
 * at it until the device consumes it, when it must still be the same. The look
 * is at every doorbell and at every frame, and goes as far as the phase bits
 * say, so that the whole of a ring is under watch and not the part alone that
 * the device has fetched.
 *
 * Whether TX memory is given to the device twice is not judged: one page may
 * be several pieces of a frame, and the same bytes may rightly be in several
 * frames at once (clones, sendfile). An RX buffer is written to, so it must be
 * there once.
 */
#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "labnic.h"

/*
 * So many stale events in a row are a violation; see labnic_audit_event_slow.
 * One cannot be a correct driver's either, but for a store that its processor
 * keeps back longer than a poll takes.
 */
#define LABNIC_AUDIT_STALE 2

static LabnicRing *labnic_audit_device_ring(LabnicState *s, bool tx,
                                            unsigned qi)
{
    return tx ? &s->tx[qi].ring : &s->rx[qi].ring;
}

void labnic_audit_ring_free(LabnicAuditRing *r)
{
    g_clear_pointer(&r->posted, g_hash_table_destroy);
    g_clear_pointer(&r->shadow, g_free);
    memset(r, 0, sizeof(*r));
}

void labnic_audit_ring_start(LabnicAuditRing *r, const LabnicRing *ring,
                             bool tx)
{
    labnic_audit_ring_free(r);
    r->shadow = g_new0(LabnicDesc, ring->size);
    r->size = ring->size;
    r->seen = ring->head;
    /* The keys are the addresses in the shadow, which outlive them there */
    r->posted = tx ? NULL : g_hash_table_new(g_int64_hash, g_int64_equal);
}

/* Reads n entries that do not go over the ring's end; beside all counters */
static bool labnic_audit_read(LabnicState *s, const LabnicRing *ring,
                              uint32_t index, uint32_t n, LabnicDesc *desc)
{
    static const MemTxAttrs memory_only = { .memory = true };
    uint32_t slot = index & (ring->size - 1);
    struct labnic_tx_desc raw[LABNIC_WINDOW];

    if (pci_dma_rw(PCI_DEVICE(s), ring->base + slot * sizeof(raw[0]), raw,
                   n * sizeof(raw[0]), DMA_DIRECTION_TO_DEVICE,
                   memory_only) != MEMTX_OK) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        desc[i] = labnic_ring_decode(&raw[i]);
    }
    return true;
}

static bool labnic_audit_published(const LabnicRing *ring, uint32_t index,
                                   const LabnicDesc *desc)
{
    return (desc->flags & LABNIC_TX_DESC_FLAGS_PHASE) ==
           labnic_ring_phase(index, ring->size);
}

/* A buffer is new in the ring: it must not be there already */
static void labnic_audit_post(LabnicState *s, unsigned qi, LabnicAuditRing *r,
                              uint32_t index, LabnicDesc *buf)
{
    LabnicDesc *other = g_hash_table_lookup(r->posted, &buf->addr);

    if (!other) {
        g_hash_table_insert(r->posted, &buf->addr, buf);
        return;
    }
    labnic_audit_violation(s, LABNIC_AUDIT_BUFFER_TWICE, qi,
                           "buffer %u is at 0x%" PRIx64 ", as is the one in "
                           "slot %u, which is the device's", index, buf->addr,
                           (uint32_t)(other - r->shadow));
}

/* Takes what is published from the first unseen entry on; how many */
static uint32_t labnic_audit_look_chunk(LabnicState *s, bool tx, unsigned qi)
{
    LabnicRing *ring = labnic_audit_device_ring(s, tx, qi);
    LabnicAuditRing *r = labnic_audit_ring(s, tx, qi);
    uint32_t slot = r->seen & (ring->size - 1);
    uint32_t left = ring->head + ring->size - r->seen;
    uint32_t n = MIN(MIN(left, ring->size - slot), LABNIC_WINDOW);
    LabnicDesc desc[LABNIC_WINDOW];
    uint32_t ready = 0;

    if (!n || !labnic_audit_read(s, ring, r->seen, 1, desc) ||
        !labnic_audit_published(ring, r->seen, desc) ||
        !labnic_audit_read(s, ring, r->seen, n, desc)) {
        return 0;
    }
    while (ready < n &&
           labnic_audit_published(ring, r->seen + ready, &desc[ready])) {
        ready++;
    }
    /* Orders the phase bits before the rest, which is read once more */
    smp_rmb();
    if (!labnic_audit_read(s, ring, r->seen, ready, desc)) {
        return 0;
    }
    for (uint32_t i = 0; i < ready; i++) {
        r->shadow[slot + i] = desc[i];
        if (!tx) {
            labnic_audit_post(s, qi, r, r->seen + i, &r->shadow[slot + i]);
        }
    }
    r->seen += ready;
    return ready;
}

void labnic_audit_look_slow(LabnicState *s, bool tx, unsigned qi)
{
    LabnicRing *ring = labnic_audit_device_ring(s, tx, qi);
    LabnicAuditRing *r = labnic_audit_ring(s, tx, qi);

    /* A load that failed on its way leaves a ring that was never started */
    if (r->size != ring->size) {
        labnic_audit_ring_start(r, ring, tx);
    }
    /* The device may have been quicker than the last look */
    if ((int32_t)(ring->head - r->seen) > 0) {
        r->seen = ring->head;
    }
    while (labnic_audit_look_chunk(s, tx, qi)) {
        continue;
    }
}

static void labnic_audit_compare(LabnicState *s, bool tx, unsigned qi,
                                 uint32_t index, const LabnicDesc *was,
                                 const LabnicDesc *is)
{
    if (was->addr == is->addr && was->len == is->len &&
        was->flags == is->flags) {
        return;
    }
    labnic_audit_violation(s, LABNIC_AUDIT_DESCRIPTOR_CHANGED, qi,
                           "%s %u was 0x%" PRIx64 " 0x%x 0x%x, is 0x%" PRIx64
                           " 0x%x 0x%x", tx ? "TX" : "RX", index, was->addr,
                           was->len, was->flags, is->addr, is->len, is->flags);
}

/*
 * The device is about to give up the n entries at its head, which are in the
 * window. The driver cannot know yet: they are still the device's.
 */
void labnic_audit_consume_slow(LabnicState *s, bool tx, unsigned qi, uint32_t n)
{
    LabnicRing *ring = labnic_audit_device_ring(s, tx, qi);
    LabnicAuditRing *r = labnic_audit_ring(s, tx, qi);

    if (r->size != ring->size) {
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t index = ring->head + i;
        LabnicDesc *was = &r->shadow[index & (ring->size - 1)];
        LabnicDesc is;

        if ((int32_t)(index - r->seen) >= 0) {
            *was = *labnic_ring_desc(ring, i);
        }
        if (labnic_audit_read(s, ring, index, 1, &is) &&
            !labnic_audit_excused(s, tx, qi)) {
            labnic_audit_compare(s, tx, qi, index, was, &is);
        }
        if (r->posted && g_hash_table_lookup(r->posted, &was->addr) == was) {
            g_hash_table_remove(r->posted, &was->addr);
        }
    }
}

/* Before the device takes the doorbell for true */
void labnic_audit_doorbell_slow(LabnicState *s, bool tx, unsigned qi,
                                uint32_t published)
{
    LabnicRing *ring = labnic_audit_device_ring(s, tx, qi);
    LabnicAuditRing *r = labnic_audit_ring(s, tx, qi);
    const char *kind = tx ? "TX" : "RX";

    if (labnic_audit_excused(s, tx, qi)) {
        return;
    }
    if (!ring->enabled) {
        labnic_audit_violation(s, LABNIC_AUDIT_DOORBELL_STOPPED, qi,
                               "%s doorbell %u", kind, published);
        return;
    }
    if (published - ring->head > ring->size) {
        labnic_audit_violation(s, LABNIC_AUDIT_DOORBELL_RANGE, qi,
                               "%s doorbell %u of a ring of %u, head %u", kind,
                               published, ring->size, ring->head);
        return;
    }
    labnic_audit_look_slow(s, tx, qi);
    if ((int32_t)(published - r->seen) > 0) {
        labnic_audit_violation(s, LABNIC_AUDIT_DOORBELL_EARLY, qi,
                               "%s doorbell %u, published are %u", kind,
                               published, r->seen);
    }
}

/*
 * The device has read the driver's event to decide about an interrupt; before
 * is the count that the driver was shown at the decision before.
 *
 * A driver arms, looks at the ring once more, and arms again only when a later
 * look has found the ring empty. So its second event, even where completions
 * raced with it, is not older than what it was shown when the first was not
 * there yet: it looked after it had written the first, hence after that
 * decision. An event that is older was armed in the middle of a poll, with
 * completions in the ring that the driver had seen or ought to have. One that
 * takes the event before back, by one, is not judged; nor are events that the
 * device never sees because another replaces them.
 */
void labnic_audit_event_slow(LabnicState *s, bool tx, unsigned qi,
                             uint32_t before, uint32_t event)
{
    LabnicAuditRing *r = labnic_audit_ring(s, tx, qi);

    if (labnic_audit_excused(s, tx, qi) ||
        (r->has_event && event == r->event)) {
        return;
    }
    if (r->has_event && event != r->event - 1) {
        /* One less is what a poll leaves that takes its event back */
        r->stale = (int32_t)(r->shown - event) > 1 ? r->stale + 1 : 0;
        if (r->stale >= LABNIC_AUDIT_STALE) {
            labnic_audit_violation(s, LABNIC_AUDIT_EVENT_STALE, qi,
                                   "%s event %u is older than %u, which was "
                                   "shown; %u such events in a row",
                                   tx ? "TX" : "RX", event, r->shown,
                                   r->stale);
        }
    }
    r->has_event = true;
    r->event = event;
    r->shown = before;
}
