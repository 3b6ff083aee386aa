/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame at the head of a TX ring: measured, validated, copied, and what it
 * asks for done to it. The other end is kernel-driver/labnic_tx.c.
 */
#include "qemu/osdep.h"
#include "labnic.h"

/* The fields of a frame without an offload */
#define LABNIC_TX_PLAIN_FLAGS (LABNIC_TX_DESC_FLAGS_PHASE | \
                               LABNIC_TX_DESC_FLAGS_EOP)

static uint32_t labnic_tx_offload(uint32_t flags)
{
    return labnic_field(flags, LABNIC_TX_DESC_FLAGS_OFFLOAD);
}

static uint32_t labnic_tx_desc_len(const LabnicDesc *desc)
{
    return desc->len & LABNIC_TX_DESC_LEN_BYTES;
}

/*
 * Whether the driver has accepted what the first descriptor of a frame asks
 * for, which has the fields of that alone.
 */
static bool labnic_tx_accepted(const LabnicState *s, const LabnicDesc *desc)
{
    switch (labnic_tx_offload(desc->flags)) {
    case LABNIC_OFFLOAD_CSUM:
        return s->drv_features & LABNIC_FEATURE_TX_CSUM &&
               !(desc->flags & LABNIC_TX_DESC_FLAGS_FIXED_ID) &&
               !(desc->len & LABNIC_TX_DESC_LEN_MSS);
    case LABNIC_OFFLOAD_TSO:
        return s->drv_features & LABNIC_FEATURE_TSO;
    default:
        return false;
    }
}

/* An ERR value; for descriptors with more than the fields of a plain frame */
static uint32_t labnic_tx_check_fields(const LabnicState *s,
                                       const LabnicDesc *desc, uint32_t n)
{
    if (desc->flags & ~LABNIC_TX_DESC_FLAGS__ALL ||
        desc->len & ~LABNIC_TX_DESC_LEN__ALL) {
        return LABNIC_ERR_DESC_RESERVED;
    }
    if (n || !labnic_tx_accepted(s, desc)) {
        return LABNIC_ERR_OFFLOAD;
    }
    return LABNIC_ERR_NONE;
}

/*
 * Checks one descriptor of a frame, the nth, as it was copied. The first must
 * have been found ready by the caller, so a wrong phase is a missing rest.
 */
static uint32_t labnic_tx_check_desc(const LabnicState *s,
                                     const LabnicRing *ring,
                                     const LabnicDesc *desc, uint32_t n)
{
    uint32_t err;

    if ((desc->flags & LABNIC_TX_DESC_FLAGS_PHASE) !=
        labnic_ring_phase(ring->head + n, ring->size)) {
        return LABNIC_ERR_INCOMPLETE;
    }
    if (unlikely(desc->flags & ~LABNIC_TX_PLAIN_FLAGS ||
                 desc->len & ~LABNIC_TX_DESC_LEN_BYTES)) {
        err = labnic_tx_check_fields(s, desc, n);
        if (err) {
            return err;
        }
    }
    if (!labnic_tx_desc_len(desc)) {
        return LABNIC_ERR_DESC_LEN;
    }
    return LABNIC_ERR_NONE;
}

/* Measures and checks the frame at the head; an ERR value */
uint32_t labnic_tx_parse(const LabnicState *s, LabnicTxQueue *q,
                         LabnicTxFrame *frame)
{
    LabnicDesc *desc = labnic_ring_desc(&q->ring, 0);
    uint32_t n, err, len = 0;

    for (n = 0; n < LABNIC_TX_FRAGS_MAX; n++, desc++) {
        err = labnic_tx_check_desc(s, &q->ring, desc, n);
        if (err) {
            return err;
        }
        len += labnic_tx_desc_len(desc);        /* 48 times 64 KiB at most */
        if (desc->flags & LABNIC_TX_DESC_FLAGS_EOP) {
            break;
        }
    }
    if (n == LABNIC_TX_FRAGS_MAX) {
        return LABNIC_ERR_FRAGS;
    }
    if (len < LABNIC_FRAME_MIN) {
        return LABNIC_ERR_FRAME_SHORT;
    }
    desc = labnic_ring_desc(&q->ring, 0);
    if (len > LABNIC_FRAME_MAX &&
        (labnic_tx_offload(desc->flags) != LABNIC_OFFLOAD_TSO ||
         len > LABNIC_TSO_MAX)) {
        return LABNIC_ERR_FRAME_LONG;
    }
    frame->descs = n + 1;
    frame->len = len;
    frame->flags = desc->flags;
    frame->mss = labnic_field(desc->len, LABNIC_TX_DESC_LEN_MSS);
    return LABNIC_ERR_NONE;
}

/* Copies the frame, whose sum of lengths has been checked */
static bool labnic_tx_gather(LabnicState *s, LabnicTxQueue *q,
                             const LabnicTxFrame *frame)
{
    LabnicDesc *desc = labnic_ring_desc(&q->ring, 0);
    uint32_t at = 0;

    for (uint32_t n = 0; n < frame->descs; n++, desc++) {
        uint32_t len = labnic_tx_desc_len(desc);

        if (!labnic_dma_read(s, desc->addr, s->tx_frame + at, len)) {
            return false;
        }
        at += len;
    }
    return true;
}

/* Fills the checksum into the frame in tx_frame; an ERR value */
static uint32_t labnic_tx_csum(LabnicState *s, const LabnicTxFrame *frame)
{
    uint32_t start = labnic_field(frame->flags,
                                  LABNIC_TX_DESC_FLAGS_CSUM_START);
    uint32_t offset = labnic_field(frame->flags,
                                   LABNIC_TX_DESC_FLAGS_CSUM_OFFSET);

    if (start + offset + sizeof(uint16_t) > frame->len) {
        return LABNIC_ERR_CSUM_PLACE;
    }
    trace_labnic_tx_csum(s->name, frame->len, start, offset);
    if (!s->vnet || !labnic_vnet_csum(&s->tx_vnet, start, offset)) {
        labnic_csum_fill(s->tx_frame, frame->len, start, offset);
    }
    labnic_count(s, LABNIC_COUNTER_TX_CSUM);
    return LABNIC_ERR_NONE;
}

/* Begins to cut the frame in tx_frame into segments; an ERR value */
static uint32_t labnic_tx_cut(LabnicState *s, unsigned qi,
                              const LabnicTxFrame *frame)
{
    uint32_t start = labnic_field(frame->flags,
                                  LABNIC_TX_DESC_FLAGS_CSUM_START);
    uint32_t err;

    if (labnic_field(frame->flags, LABNIC_TX_DESC_FLAGS_CSUM_OFFSET) !=
        LABNIC_TCP_CSUM) {
        return LABNIC_ERR_TSO_HEADER;
    }
    err = labnic_tso_begin(&s->tso, s->tx_frame, frame->len, start, frame->mss,
                           frame->flags & LABNIC_TX_DESC_FLAGS_FIXED_ID);
    if (err) {
        return err;
    }
    trace_labnic_tx_tso(s->name, qi, frame->len, frame->mss, s->tso.segments,
                        s->tx[qi].segment);
    if (s->vnet && !s->tx[qi].segment &&
        labnic_vnet_tso(&s->tx_vnet, &s->tso)) {
        return LABNIC_ERR_NONE;
    }
    s->tx_cut_queue = qi;
    /* It was less when the queue left off, unless the frame is another now */
    s->tx[qi].segment = MIN(s->tx[qi].segment, s->tso.segments - 1);
    return LABNIC_ERR_NONE;
}

/* Copies the frame at the head and does what it asks for; an ERR value */
uint32_t labnic_tx_prepare(LabnicState *s, unsigned qi,
                           const LabnicTxFrame *frame)
{
    LabnicTxQueue *q = &s->tx[qi];
    uint32_t offload = labnic_tx_offload(frame->flags);

    if (s->tx_cut_queue == (int)qi && offload == LABNIC_OFFLOAD_TSO) {
        return LABNIC_ERR_NONE;         /* it is there already */
    }
    s->tx_cut_queue = LABNIC_NO_QUEUE;
    if (s->vnet) {
        memset(&s->tx_vnet, 0, sizeof(s->tx_vnet));
    }
    if (!labnic_tx_gather(s, q, frame)) {
        return LABNIC_ERR_DMA_READ;
    }
    if (likely(offload == LABNIC_OFFLOAD_NONE)) {
        return LABNIC_ERR_NONE;
    }
    return offload == LABNIC_OFFLOAD_TSO ? labnic_tx_cut(s, qi, frame) :
                                           labnic_tx_csum(s, frame);
}
