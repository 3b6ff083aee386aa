/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the TX descriptor ring and the RX buffer ring have in common: both are
 * arrays of 16-byte descriptors with the phase bit in the last word, read by
 * the device in order.
 */
#ifndef LABNIC_RING_H
#define LABNIC_RING_H

#include "include/labnic_hw.h"

/*
 * Descriptors copied at once. A frame fits whichever way it goes: TX has no
 * more than LABNIC_TX_FRAGS_MAX, RX no more than FRAME_MAX / RX_BUF_MIN, or is
 * cut into frames of which each does.
 */
#define LABNIC_WINDOW 64

/* A TX descriptor or an RX buffer, in the host's byte order */
typedef struct LabnicDesc {
    uint64_t addr;
    uint32_t len;
    uint32_t flags;
} LabnicDesc;

typedef struct LabnicRing {
    /* Hot: read for each frame */
    bool enabled;
    uint32_t size;              /* entries; as written while not enabled */
    uint64_t base;
    uint32_t head;              /* entries consumed since the enabling */
    uint32_t known;             /* published, as the last doorbell said */

    /*
     * A copy of LABNIC_WINDOW entries from index window_start. The first
     * window_ready of them are the device's to use.
     */
    uint32_t window_start;
    uint32_t window_ready;
    LabnicDesc window[LABNIC_WINDOW];
} LabnicRing;

struct LabnicState;

LabnicDesc labnic_ring_decode(const struct labnic_tx_desc *raw);
uint32_t labnic_ring_check(const LabnicRing *ring, uint64_t status_base);
void labnic_ring_start(LabnicRing *ring);
bool labnic_ring_load(struct LabnicState *s, LabnicRing *ring);
uint32_t labnic_ring_count_ready(const LabnicRing *ring);
bool labnic_ring_announce(LabnicRing *ring, uint32_t published);
bool labnic_ring_address_ok(uint64_t base, uint32_t size);

/* Window slots that are the device's and not yet consumed */
static inline uint32_t labnic_ring_avail(const LabnicRing *ring)
{
    uint32_t used = ring->head - ring->window_start;

    return used < ring->window_ready ? ring->window_ready - used : 0;
}

/* The descriptor that is n places after the head; it must be in the window */
static inline LabnicDesc *labnic_ring_desc(LabnicRing *ring, uint32_t n)
{
    return &ring->window[ring->head - ring->window_start + n];
}

/* The phase bit of an entry that has been published at this index */
static inline uint32_t labnic_ring_phase(uint32_t index, uint32_t size)
{
    return !(index & size);
}

#endif
