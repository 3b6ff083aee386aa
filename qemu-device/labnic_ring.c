/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fetching descriptors: what is read of a ring, and when it may be used.
 */
#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "labnic.h"

QEMU_BUILD_BUG_ON(sizeof(struct labnic_tx_desc) != LABNIC_TX_DESC_SIZE);
QEMU_BUILD_BUG_ON(sizeof(struct labnic_rx_buf) != LABNIC_TX_DESC_SIZE);
QEMU_BUILD_BUG_ON(LABNIC_TX_DESC_FLAGS_PHASE != LABNIC_RX_BUF_FLAGS_PHASE);
QEMU_BUILD_BUG_ON(LABNIC_WINDOW > LABNIC_RING_MIN);
QEMU_BUILD_BUG_ON(LABNIC_WINDOW <= LABNIC_TX_FRAGS_MAX);
QEMU_BUILD_BUG_ON(LABNIC_WINDOW * LABNIC_RX_BUF_MIN < LABNIC_FRAME_MAX);

/* Whether a ring of this many entries can be at this address */
bool labnic_ring_address_ok(uint64_t base, uint32_t size)
{
    return base && base % LABNIC_RING_ALIGN == 0 &&
           base <= UINT64_MAX - (uint64_t)size * LABNIC_TX_DESC_SIZE;
}

/* An ERR value: whether a ring may be enabled with these registers */
uint32_t labnic_ring_check(const LabnicRing *ring, uint64_t status_base)
{
    if (!is_power_of_2(ring->size) || ring->size < LABNIC_RING_MIN ||
        ring->size > LABNIC_RING_MAX) {
        return LABNIC_ERR_RING_SIZE;
    }
    if (!labnic_ring_address_ok(ring->base, ring->size)) {
        return LABNIC_ERR_RING_ADDR;
    }
    /* Aligned, so the last block of the address space does not wrap either */
    if (!status_base || status_base % LABNIC_STATUS_BLOCK_ALIGN) {
        return LABNIC_ERR_RING_ADDR;
    }
    return LABNIC_ERR_NONE;
}

void labnic_ring_start(LabnicRing *ring)
{
    ring->head = 0;
    ring->known = 0;
    ring->window_start = 0;
    ring->window_ready = 0;
}

/* Takes a doorbell's count; false when it cannot be true */
bool labnic_ring_announce(LabnicRing *ring, uint32_t published)
{
    if (published - ring->head > ring->size) {
        return false;
    }
    ring->known = published;
    return true;
}

LabnicDesc labnic_ring_decode(const struct labnic_tx_desc *raw)
{
    return (LabnicDesc) {
        .addr = le32_to_cpu(raw->addr_lo) |
                (uint64_t)le32_to_cpu(raw->addr_hi) << 32,
        .len = le32_to_cpu(raw->len),
        .flags = le32_to_cpu(raw->flags),
    };
}

/* Copies the window from the head on, in two pieces where the ring wraps */
static bool labnic_ring_copy(LabnicState *s, LabnicRing *ring)
{
    uint32_t slot = ring->head & (ring->size - 1);
    uint32_t first = MIN(LABNIC_WINDOW, ring->size - slot);
    struct labnic_tx_desc raw[LABNIC_WINDOW];

    if (!labnic_dma_read(s, ring->base + slot * sizeof(raw[0]), raw,
                         first * sizeof(raw[0]))) {
        return false;
    }
    if (first < LABNIC_WINDOW &&
        !labnic_dma_read(s, ring->base, raw + first,
                         (LABNIC_WINDOW - first) * sizeof(raw[0]))) {
        return false;
    }
    for (unsigned i = 0; i < LABNIC_WINDOW; i++) {
        ring->window[i] = labnic_ring_decode(&raw[i]);
    }
    return true;
}

/* Window slots from the first on whose phase says that they are published */
uint32_t labnic_ring_count_ready(const LabnicRing *ring)
{
    uint32_t n = 0;

    while (n < LABNIC_WINDOW &&
           (ring->window[n].flags & LABNIC_TX_DESC_FLAGS_PHASE) ==
           labnic_ring_phase(ring->head + n, ring->size)) {
        n++;
    }
    return n;
}

/* Whether the entry at the head is published; a cheap look at an idle ring */
static bool labnic_ring_probe(LabnicState *s, LabnicRing *ring, bool *ready)
{
    uint32_t slot = ring->head & (ring->size - 1);
    uint32_t flags;

    if (!labnic_dma_read(s, ring->base + slot * LABNIC_TX_DESC_SIZE +
                            offsetof(struct labnic_tx_desc, flags),
                         &flags, sizeof(flags))) {
        return false;
    }
    *ready = (le32_to_cpu(flags) & LABNIC_TX_DESC_FLAGS_PHASE) ==
             labnic_ring_phase(ring->head, ring->size);
    return true;
}

/*
 * Fetches the window at the head. False when guest memory could not be read.
 *
 * Entries that a doorbell announced were complete before it, so one copy will
 * do. Of the others the phase bit alone says that they are complete, and the
 * rest of the descriptor may be older than the bit in the same copy: hence a
 * second one after a read barrier. Entries that come later are also in it, but
 * window_ready remains what the first copy showed.
 */
bool labnic_ring_load(LabnicState *s, LabnicRing *ring)
{
    uint32_t ready, sure = ring->known - ring->head;
    bool published;

    ring->window_start = ring->head;
    ring->window_ready = 0;
    if (sure == 0 || sure > ring->size) {
        sure = 0;               /* the head is at the last doorbell or past */
        if (!labnic_ring_probe(s, ring, &published)) {
            return false;
        }
        if (!published) {
            return true;
        }
    }
    if (!labnic_ring_copy(s, ring)) {
        return false;
    }
    ready = labnic_ring_count_ready(ring);
    if (ready > sure) {
        /* Orders the phase bits before the rest of the descriptors */
        smp_rmb();
        if (!labnic_ring_copy(s, ring)) {
            return false;
        }
        /* A driver that takes descriptors back gets no more than remains */
        ready = MIN(ready, labnic_ring_count_ready(ring));
    }
    ring->window_ready = ready;
    return true;
}
