/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * RX ring: receive, steer, write, complete. The other end is
 * kernel-driver/labnic_rx.c.
 */
#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "labnic.h"

QEMU_BUILD_BUG_ON(sizeof(struct labnic_rx_cmpl) != LABNIC_RX_CMPL_SIZE);

/* What the frame asks of the ring */
typedef struct LabnicRxFrame {
    const uint8_t *bytes;
    uint32_t len;
    uint32_t hash;
    uint32_t hash_type;
    uint32_t verdict;
    uint32_t coalesced;         /* as in its completions */
    const LabnicTso *whole;     /* it is these segments; NULL for one frame */
    LabnicPacket packet;
    uint32_t bufs;              /* how many buffers take it */
} LabnicRxFrame;

/* How the search for buffers ended */
typedef enum LabnicRxResult {
    LABNIC_RX_FITS,
    LABNIC_RX_STARVED,
    LABNIC_RX_SMALL,            /* all that are looked at, of short ones */
    LABNIC_RX_BAD,
} LabnicRxResult;

static uint32_t labnic_rx_buf_len(const LabnicDesc *buf)
{
    return buf->len & LABNIC_RX_BUF_LEN_ID_BYTES;
}

static uint32_t labnic_rx_check_buf(const LabnicDesc *buf)
{
    if (buf->flags & ~LABNIC_RX_BUF_FLAGS__ALL) {
        return LABNIC_ERR_DESC_RESERVED;
    }
    if (labnic_rx_buf_len(buf) < LABNIC_RX_BUF_MIN) {
        return LABNIC_ERR_BUF_LEN;
    }
    return LABNIC_ERR_NONE;
}

/* Counts the buffers of the window that the frame needs */
static LabnicRxResult labnic_rx_measure(LabnicRing *ring, LabnicRxFrame *frame,
                                        uint32_t *err)
{
    uint32_t avail = labnic_ring_avail(ring);
    uint32_t room = 0;

    for (frame->bufs = 0; room < frame->len; frame->bufs++) {
        LabnicDesc *buf;

        if (frame->bufs == avail) {
            return avail < LABNIC_WINDOW ? LABNIC_RX_STARVED : LABNIC_RX_SMALL;
        }
        buf = labnic_ring_desc(ring, frame->bufs);
        *err = labnic_rx_check_buf(buf);
        if (*err) {
            return LABNIC_RX_BAD;
        }
        room += labnic_rx_buf_len(buf);
    }
    return LABNIC_RX_FITS;
}

/* Finds buffers for the whole frame, in what is copied or in a new copy */
static LabnicRxResult labnic_rx_fetch(LabnicState *s, LabnicRing *ring,
                                      LabnicRxFrame *frame, uint32_t *err)
{
    LabnicRxResult result = labnic_rx_measure(ring, frame, err);

    if (result != LABNIC_RX_STARVED) {
        return result;
    }
    if (!labnic_ring_load(s, ring)) {
        *err = LABNIC_ERR_DMA_READ;
        return LABNIC_RX_BAD;
    }
    return labnic_rx_measure(ring, frame, err);
}

/*
 * Asks for the doorbell of the next buffer, and looks again in case that one
 * was published before the wish was visible.
 */
static LabnicRxResult labnic_rx_starve(LabnicState *s, unsigned qi,
                                       LabnicRxFrame *frame, uint32_t *err)
{
    LabnicRing *ring = &s->rx[qi].ring;
    uint32_t event = cpu_to_le32(ring->head + labnic_ring_avail(ring));
    uint64_t addr = LABNIC_STATUS_ADDR(s, qi, rx_doorbell_event);

    trace_labnic_rx_starved(s->name, qi, ring->head, labnic_ring_avail(ring),
                            frame->len);
    if (!labnic_dma_write(s, addr, &event, sizeof(event))) {
        *err = LABNIC_ERR_DMA_WRITE;
        return LABNIC_RX_BAD;
    }
    /* Orders the wish before the second look */
    smp_mb();
    return labnic_rx_fetch(s, ring, frame, err);
}

/* Writes the bytes into the buffers; nothing is completed yet */
static bool labnic_rx_scatter(LabnicState *s, LabnicRing *ring,
                              const LabnicRxFrame *frame)
{
    uint32_t at = 0;

    for (uint32_t n = 0; n < frame->bufs; n++) {
        const LabnicDesc *buf = labnic_ring_desc(ring, n);
        uint32_t len = MIN(labnic_rx_buf_len(buf), frame->len - at);

        if (!labnic_dma_write(s, buf->addr, frame->bytes + at, len)) {
            return false;
        }
        at += len;
    }
    return true;
}

/* Writes one completion, its word with the phase bit last */
static bool labnic_rx_write_cmpl(LabnicState *s, const LabnicRxQueue *q,
                                 uint32_t index, struct labnic_rx_cmpl *cmpl)
{
    uint64_t addr = q->cmpl_base +
                    (index & (q->ring.size - 1)) * sizeof(*cmpl);
    size_t flags = offsetof(struct labnic_rx_cmpl, flags);

    if (!labnic_dma_write(s, addr, cmpl, flags)) {
        return false;
    }
    /* Orders bytes and completion before the phase bit */
    smp_wmb();
    return labnic_dma_write(s, addr + flags, &cmpl->flags,
                            sizeof(cmpl->flags));
}

static bool labnic_rx_complete(LabnicState *s, unsigned qi,
                               const LabnicRxFrame *frame)
{
    LabnicRxQueue *q = &s->rx[qi];
    LabnicRing *ring = &q->ring;
    uint32_t left = frame->len;

    for (uint32_t n = 0; n < frame->bufs; n++) {
        const LabnicDesc *buf = labnic_ring_desc(ring, n);
        uint32_t len = MIN(labnic_rx_buf_len(buf), left);
        uint32_t flags = labnic_ring_phase(ring->head + n, ring->size) |
            frame->hash_type << ctz32(LABNIC_RX_CMPL_FLAGS_HASH_TYPE) |
            frame->verdict << ctz32(LABNIC_RX_CMPL_FLAGS_VERDICT);
        struct labnic_rx_cmpl cmpl = {
            .hash = cpu_to_le32(frame->hash),
            .coalesced = cpu_to_le32(frame->coalesced),
            .len_id = cpu_to_le32((buf->len & LABNIC_RX_BUF_LEN_ID_ID) | len),
        };

        left -= len;
        if (!left) {
            flags |= LABNIC_RX_CMPL_FLAGS_EOP;
        }
        cmpl.flags = cpu_to_le32(flags);
        if (unlikely(s->faults.kinds)) {
            labnic_fault_cmpl_slow(s, qi, &cmpl);
        }
        if (!labnic_rx_write_cmpl(s, q, ring->head + n, &cmpl)) {
            return false;
        }
    }
    return true;
}

/* Interrupts for the completions since the last decision */
static void labnic_rx_notify(LabnicState *s, unsigned qi)
{
    LabnicRxQueue *q = &s->rx[qi];
    uint32_t before = q->reported;

    if (!q->ring.enabled || before == q->ring.head) {
        return;
    }
    q->reported = q->ring.head;
    /* Orders the completions before the look at the IRQ event */
    smp_mb();
    labnic_irq_event(s, false, qi, before, q->reported);
}

/* Stops a queue that cannot take the frame */
static void labnic_rx_fail(LabnicState *s, unsigned qi, uint32_t err)
{
    if (err == LABNIC_ERR_DMA_READ || err == LABNIC_ERR_DMA_WRITE) {
        labnic_count(s, LABNIC_COUNTER_RX_DMA_ERRORS);
    } else {
        labnic_count(s, LABNIC_COUNTER_RX_DISABLED);
    }
    labnic_rx_notify(s, qi);    /* for what was completed before */
    labnic_queue_error(s, false, qi, err);
}

/* No buffer takes the frame; false when the backend is to keep it */
static bool labnic_rx_no_buffer(LabnicState *s, const LabnicRxFrame *frame)
{
    if (s->backpressure) {
        return false;
    }
    s->counters[LABNIC_COUNTER_RX_NO_BUFFER] +=
        frame->whole ? frame->whole->segments : 1;
    return true;
}

/* The same by a fault, which does not wait for a doorbell to end */
static bool labnic_rx_stall(LabnicState *s, const LabnicRxFrame *frame,
                            const LabnicFault *f)
{
    if (f->count) {
        qemu_bh_schedule(s->rx_bh);
    }
    return labnic_rx_no_buffer(s, frame);
}

/* The driver has got it, and each of its segments with headers of its own */
static void labnic_rx_book(LabnicState *s, const LabnicRxFrame *frame)
{
    uint32_t n = frame->whole ? frame->whole->segments : 1;
    uint64_t bytes = frame->len;

    if (unlikely(frame->whole)) {
        bytes += (n - 1) * frame->whole->header_len;
        labnic_count(s, LABNIC_COUNTER_RX_GRO);
    }
    labnic_count_frames(s, LABNIC_COUNTER_RX_FRAMES, frame->bytes, n, bytes);
    if (frame->verdict) {
        s->counters[frame->verdict == LABNIC_VERDICT_GOOD ?
                    LABNIC_COUNTER_RX_CSUM_GOOD : LABNIC_COUNTER_RX_CSUM_BAD] +=
            n;
    }
}

/* Gives the frame to the queue; false when the backend is to keep it */
static bool labnic_rx_deliver(LabnicState *s, unsigned qi, LabnicRxFrame *frame)
{
    LabnicRxQueue *q = &s->rx[qi];
    LabnicFault *f = labnic_fault(s, LABNIC_FAULT_RX_STALL, qi);
    uint32_t err = LABNIC_ERR_NONE;
    LabnicRxResult result;

    if (f) {
        return labnic_rx_stall(s, frame, f);
    }
    labnic_audit_look(s, false, qi);
    result = labnic_rx_fetch(s, &q->ring, frame, &err);
    if (result == LABNIC_RX_STARVED) {
        result = labnic_rx_starve(s, qi, frame, &err);
    }
    if (result == LABNIC_RX_STARVED) {
        return labnic_rx_no_buffer(s, frame);
    }
    if (result == LABNIC_RX_SMALL) {
        return labnic_vnet_cut(s, frame->bytes, frame->len, frame->whole);
    }
    if (result == LABNIC_RX_BAD) {
        labnic_rx_fail(s, qi, err);
        return true;
    }
    labnic_audit_consume(s, false, qi, frame->bufs);
    if (!labnic_rx_scatter(s, &q->ring, frame) ||
        !labnic_rx_complete(s, qi, frame)) {
        labnic_rx_fail(s, qi, LABNIC_ERR_DMA_WRITE);
        return true;
    }
    trace_labnic_rx_frame(s->name, qi, q->ring.head, frame->bufs, frame->len,
                          frame->hash_type, frame->hash, frame->verdict);
    q->ring.head += frame->bufs;
    labnic_rx_book(s, frame);
    if (!s->rx_flushing) {
        labnic_rx_notify(s, qi);
    }
    return true;
}

/* Drops with the counter that says why */
void labnic_rx_drop(LabnicState *s, size_t size,
                    enum labnic_counter why, const char *reason)
{
    trace_labnic_rx_drop(s->name, size, reason);
    labnic_count(s, why);
}

/* Learns of the packet what the driver wants to know; gives its queue pair */
static unsigned labnic_rx_inspect(const LabnicState *s, LabnicRxFrame *frame)
{
    LabnicPacket *packet = &frame->packet;

    if (!(s->drv_features & (LABNIC_FEATURE_RSS | LABNIC_FEATURE_RX_CSUM)) ||
        !labnic_packet_parse(frame->bytes, frame->len, packet)) {
        return 0;
    }
    if (s->drv_features & LABNIC_FEATURE_RX_CSUM) {
        /* What the backend has not cut yet it has not summed either */
        frame->verdict = frame->whole ? LABNIC_VERDICT_GOOD :
            labnic_csum_verdict(frame->bytes, frame->len, packet);
    }
    return labnic_rss_steer(s, frame->bytes, frame->len, packet, &frame->hash,
                            &frame->hash_type);
}

static LabnicGroResult labnic_rx_gather(LabnicState *s, unsigned qi,
                                        const LabnicRxFrame *frame)
{
    bool good = frame->verdict == LABNIC_VERDICT_GOOD && !frame->whole;

    return labnic_gro_receive(s, qi, frame->bytes, frame->len, &frame->packet,
                              good);
}

/* Whether nobody wants the frame, so that it was dropped */
static bool labnic_rx_unwanted(LabnicState *s, const LabnicRxFrame *frame)
{
    size_t size = frame->len;
    size_t longest = frame->whole ? frame->whole->header_len +
                                    frame->whole->mss : size;

    if (!labnic_enabled(s)) {
        labnic_rx_drop(s, size, LABNIC_COUNTER_RX_DISABLED, "device disabled");
        return true;
    }
    if (size < LABNIC_FRAME_MIN) {
        labnic_rx_drop(s, size, LABNIC_COUNTER_RX_TOO_SHORT, "too short");
        return true;
    }
    if (longest > MIN(s->max_frame, LABNIC_FRAME_MAX)) {
        labnic_rx_drop(s, size, LABNIC_COUNTER_RX_TOO_LONG, "too long");
        return true;
    }
    if (!labnic_filter_wants(s, frame->bytes)) {
        labnic_rx_drop(s, size, LABNIC_COUNTER_RX_FILTERED, "filtered");
        return true;
    }
    return false;
}

/* The COALESCED word of a frame that is these segments */
static uint32_t labnic_rx_coalesced(const LabnicTso *whole)
{
    return whole->mss << ctz32(LABNIC_RX_CMPL_COALESCED_MSS) |
           whole->l4 << ctz32(LABNIC_RX_CMPL_COALESCED_TCP_START) |
           (whole->ipv6 ? LABNIC_RX_CMPL_COALESCED_IPV6 : 0);
}

/* False when the backend is to keep the frame, which may be several segments */
bool labnic_rx_frame(LabnicState *s, const uint8_t *buf, size_t size,
                     const LabnicTso *whole)
{
    LabnicRxFrame frame = {
        .bytes = buf,
        .len = size,
        .whole = whole,
        .coalesced = whole ? labnic_rx_coalesced(whole) : 0,
    };
    unsigned qi;

    if (labnic_dead(s)) {
        return s->faults.gone || !s->backpressure;
    }
    if (labnic_rx_unwanted(s, &frame)) {
        return true;
    }
    qi = labnic_rx_inspect(s, &frame);
    if (!s->rx[qi].ring.enabled) {
        labnic_rx_drop(s, size, LABNIC_COUNTER_RX_DISABLED, "queue disabled");
        return true;
    }
    if (s->drv_features & LABNIC_FEATURE_RX_GRO) {
        switch (labnic_rx_gather(s, qi, &frame)) {
        case LABNIC_GRO_TAKEN:
            return true;
        case LABNIC_GRO_REFUSED:
            return labnic_rx_no_buffer(s, &frame);
        default:
            break;
        }
    }
    return labnic_rx_deliver(s, qi, &frame);
}

/*
 * From the backend. May come in the middle of the device's own sending, when
 * the backend answers at once; RX and TX share no state that minds.
 */
ssize_t labnic_rx_receive(NetClientState *nc, const uint8_t *buf, size_t size)
{
    LabnicState *s = qemu_get_nic_opaque(nc);
    bool was_busy = s->busy;
    bool taken;

    s->busy = true;
    taken = s->vnet ? labnic_vnet_receive(s, buf, size) :
                      labnic_rx_frame(s, buf, size, NULL);
    s->busy = was_busy;
    if (!taken) {
        s->rx_held = true;      /* and nothing comes until it is flushed */
        return 0;
    }
    return MAX(size, 1);        /* zero would mean that it was not taken */
}

/* Takes up what the backend holds; called whenever a reason may have gone */
void labnic_rx_resume(LabnicState *s)
{
    if (s->rx_held || s->gro_stuck) {
        qemu_bh_schedule(s->rx_bh);
    }
}

void labnic_rx_bh(void *opaque)
{
    LabnicState *s = opaque;

    /* The start of a stopped VM flushes what is held, as does a fault's end */
    if (!(s->rx_held || s->gro_stuck) || s->faults.hung ||
        !runstate_is_running() || !labnic_enter(s)) {
        return;
    }
    trace_labnic_rx_flush(s->name);
    s->rx_held = false;
    s->rx_flushing = true;
    labnic_gro_retry(s);
    qemu_flush_queued_packets(qemu_get_queue(s->nic));
    s->rx_flushing = false;
    for (unsigned qi = 0; qi < s->num_queues; qi++) {
        labnic_rx_notify(s, qi);
    }
    labnic_leave(s);
}

void labnic_rx_doorbell(LabnicState *s, unsigned qi, uint32_t published)
{
    LabnicRxQueue *q = &s->rx[qi];

    labnic_count(s, LABNIC_COUNTER_RX_DOORBELLS);
    trace_labnic_rx_doorbell(s->name, qi, published, q->ring.head);
    labnic_audit_doorbell(s, false, qi, published);
    if (!q->ring.enabled) {
        trace_labnic_guest_error(s->name, "RX doorbell of a stopped queue", qi);
        return;
    }
    if (!labnic_ring_announce(&q->ring, published)) {
        labnic_queue_error(s, false, qi, LABNIC_ERR_DOORBELL);
        return;
    }
    labnic_rx_resume(s);
}

/* Ends the queue's work, after an error too; its registers stay */
void labnic_rx_stop(LabnicState *s, unsigned qi)
{
    s->rx[qi].ring.enabled = false;
    labnic_irq_forget(s, false, qi);
    labnic_gro_drop(s, qi, LABNIC_COUNTER_RX_DISABLED);
    /* A held frame may be this queue's, and the others must not wait for it */
    labnic_rx_resume(s);
}

static void labnic_rx_start(LabnicState *s, unsigned qi)
{
    LabnicRxQueue *q = &s->rx[qi];
    uint32_t err = labnic_ring_check(&q->ring, s->status_base[qi]);
    uint32_t never = cpu_to_le32(-1);   /* until the queue starves */

    if (!err && !labnic_ring_address_ok(q->cmpl_base, q->ring.size)) {
        err = LABNIC_ERR_RING_ADDR;
    }
    labnic_ring_start(&q->ring);
    q->reported = 0;
    if (!err && !labnic_dma_write(s, LABNIC_STATUS_ADDR(s, qi,
                                                        rx_doorbell_event),
                                  &never, sizeof(never))) {
        err = LABNIC_ERR_DMA_WRITE;
    }
    trace_labnic_rx_enable(s->name, qi, q->ring.base, q->cmpl_base,
                           q->ring.size, err);
    if (err) {
        labnic_queue_error(s, false, qi, err);
        return;
    }
    q->error = LABNIC_ERR_NONE;
    s->queue_errors &= ~(1u << (ctz32(LABNIC_QUEUE_ERRORS_RX) + qi));
    q->ring.enabled = true;
    labnic_audit_start(s, false, qi);
    labnic_rx_resume(s);
}

void labnic_rx_set_enable(LabnicState *s, unsigned qi, bool enable)
{
    LabnicRxQueue *q = &s->rx[qi];

    if (!enable) {
        labnic_audit_stop(s, false, qi);
    }
    if (enable == q->ring.enabled) {
        return;
    }
    if (enable) {
        labnic_rx_start(s, qi);
        return;
    }
    trace_labnic_rx_disable(s->name, qi, q->ring.head);
    labnic_rx_stop(s, qi);
}
