/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TX ring: fetch, send, complete, and when to look. The other end is
 * kernel-driver/labnic_tx.c.
 */
#include "qemu/osdep.h"
#include "qemu/atomic.h"
#include "qemu/units.h"
#include "labnic.h"

/* How a look at a queue ended */
typedef enum LabnicTxResult {
    LABNIC_TX_IDLE,             /* nothing is left to do */
    LABNIC_TX_MORE,             /* the budget is used up */
    LABNIC_TX_WAIT,             /* the backend is full; it will call back */
    LABNIC_TX_BAD,              /* the queue must stop */
} LabnicTxResult;

/* What a look at a queue may still do */
typedef struct LabnicTxBudget {
    unsigned frames;            /* or segments */
    uint32_t longest;           /* bytes of a frame */
    bool doorbell;              /* it is for that that one looks */
} LabnicTxBudget;

/*
 * Little on the vCPU that rang the doorbell, which waits meanwhile. A long
 * frame is work enough to be done beside the vCPU, by the bottom half.
 */
static const LabnicTxBudget labnic_tx_budget_vcpu = {
    .frames = 64, .longest = 16 * KiB, .doorbell = true,
};
static const LabnicTxBudget labnic_tx_budget_bh = {
    .frames = 256, .longest = UINT32_MAX,
};

/*
 * Brings a frame that can be parsed to the head of the window; false when
 * memory could not be read. Without a frame window_ready equals the head.
 */
static bool labnic_tx_fetch(LabnicState *s, LabnicTxQueue *q)
{
    LabnicRing *ring = &q->ring;
    uint32_t n;

    /* A frame that ends past the window needs a window that begins with it */
    if (labnic_ring_avail(ring) && ring->head - ring->window_start < q->whole) {
        return true;
    }
    if (!labnic_ring_load(s, ring)) {
        return false;
    }
    n = ring->window_ready ? labnic_ring_count_ready(ring) : 0;
    while (n && !(ring->window[n - 1].flags & LABNIC_TX_DESC_FLAGS_EOP)) {
        n--;
    }
    q->whole = n;
    return true;
}

/* The queue goes on: to the next frame, or to the next segment of this one */
static void labnic_tx_advance(LabnicState *s, unsigned qi, LabnicTxOut out)
{
    LabnicTxQueue *q = &s->tx[qi];

    if (unlikely(!out.descs)) {
        q->segment++;
        return;
    }
    q->segment = 0;
    q->pace.frames++;
    q->ring.head += out.descs;
    if (unlikely(s->tx_cut_queue != LABNIC_NO_QUEUE)) {
        labnic_count(s, LABNIC_COUNTER_TX_TSO);
        s->tx_cut_queue = LABNIC_NO_QUEUE;
    }
}

/* The link has got it; what the backend cuts has the headers in each segment */
static void labnic_tx_book(LabnicState *s, unsigned qi, LabnicTxOut out)
{
    uint32_t n = MAX(out.segments, 1);

    labnic_count_frames(s, LABNIC_COUNTER_TX_FRAMES, s->tx_frame + out.at, n,
                        out.len + (n - 1) * s->tso.header_len);
    if (unlikely(out.segments)) {
        labnic_count(s, LABNIC_COUNTER_TX_TSO);
    }
    labnic_tx_advance(s, qi, out);
}

/* The backend has let go of what it kept */
static void labnic_tx_sent(NetClientState *nc, ssize_t len)
{
    LabnicState *s = qemu_get_nic_opaque(nc);
    int qi = s->tx_wait_queue;

    trace_labnic_tx_sent(s->name, qi, len);
    if (qi == LABNIC_NO_QUEUE) {
        return;         /* its queue was stopped, or a filter sent it late */
    }
    s->tx_wait_queue = LABNIC_NO_QUEUE;
    /* A purged frame, with length zero, stays in the ring and goes again */
    if (len) {
        labnic_audit_consume(s, true, qi, s->tx_wait.descs);
        labnic_tx_book(s, qi, s->tx_wait);
    }
    /* Not from here: the backend is in the middle of its queue */
    labnic_tx_kick_all(s);
}

/* Hands a frame or segment over; false when the backend keeps it */
static bool labnic_tx_put(LabnicState *s, unsigned qi, LabnicTxOut out)
{
    LabnicTxQueue *q = &s->tx[qi];
    uint8_t *bytes = s->tx_frame + out.at;
    uint32_t len = out.len;

    if (!s->link_up) {
        trace_labnic_tx_no_link(s->name, qi, out.len);
        labnic_count(s, LABNIC_COUNTER_TX_NO_LINK);
        labnic_tx_advance(s, qi, out);
        return true;
    }
    trace_labnic_tx_frame(s->name, qi, q->ring.head, out.descs, out.len);
    if (s->vnet) {
        /* There is room before the frame, and what was sent before a segment */
        bytes -= LABNIC_VNET_LEN;
        len += LABNIC_VNET_LEN;
        memcpy(bytes, &s->tx_vnet, LABNIC_VNET_LEN);
    }
    if (qemu_send_packet_async(qemu_get_queue(s->nic), bytes, len,
                               labnic_tx_sent) == 0) {
        trace_labnic_tx_wait(s->name, qi);
        s->tx_wait_queue = qi;
        s->tx_wait = out;
        return false;
    }
    labnic_tx_book(s, qi, out);
    return true;
}

/*
 * Sends the segments of the frame in tx_frame that are still to be sent. Each
 * but the first costs of the budget; the last leaves the queue at 0 again.
 */
static LabnicTxResult labnic_tx_put_segments(LabnicState *s, unsigned qi,
                                             const LabnicTxFrame *frame,
                                             LabnicTxBudget *budget)
{
    uint32_t n = s->tx[qi].segment;

    for (;;) {
        bool last = n + 1 == s->tso.segments;
        LabnicTxOut out = { .descs = last ? frame->descs : 0 };
        size_t at;

        out.len = labnic_tso_segment(&s->tso, s->tx_frame, n, &at);
        out.at = at;
        if (!labnic_tx_put(s, qi, out)) {
            return LABNIC_TX_WAIT;
        }
        if (last) {
            return LABNIC_TX_IDLE;
        }
        if (!budget->frames) {
            return LABNIC_TX_MORE;
        }
        budget->frames--;
        n++;
    }
}

/* Sends the frame in tx_frame; IDLE when that has been done */
static LabnicTxResult labnic_tx_send(LabnicState *s, unsigned qi,
                                     const LabnicTxFrame *frame,
                                     LabnicTxBudget *budget)
{
    LabnicTxOut out = { .len = frame->len, .descs = frame->descs };

    labnic_audit_consume(s, true, qi, frame->descs);
    if (unlikely(s->tx_cut_queue != LABNIC_NO_QUEUE)) {
        return labnic_tx_put_segments(s, qi, frame, budget);
    }
    if (unlikely(s->tx_vnet.gso_type)) {
        out.segments = s->tso.segments;
    }
    return labnic_tx_put(s, qi, out) ? LABNIC_TX_IDLE : LABNIC_TX_WAIT;
}

/* Sends what is published, up to the budget */
static LabnicTxResult labnic_tx_burst(LabnicState *s, unsigned qi,
                                      LabnicTxBudget *budget, uint32_t *err)
{
    LabnicTxQueue *q = &s->tx[qi];
    LabnicTxResult result;
    LabnicTxFrame frame;

    labnic_audit_look(s, true, qi);
    for (;;) {
        *err = LABNIC_ERR_DMA_READ;
        if (!labnic_tx_fetch(s, q)) {
            return LABNIC_TX_BAD;
        }
        if (!labnic_ring_avail(&q->ring)) {
            return LABNIC_TX_IDLE;
        }
        if (!budget->frames) {
            return LABNIC_TX_MORE;
        }
        budget->frames--;
        *err = labnic_tx_parse(s, q, &frame);
        if (*err) {
            return LABNIC_TX_BAD;
        }
        if (frame.len > budget->longest) {
            return LABNIC_TX_MORE;
        }
        *err = labnic_tx_prepare(s, qi, &frame);
        if (*err) {
            return LABNIC_TX_BAD;
        }
        result = labnic_tx_send(s, qi, &frame, budget);
        if (result != LABNIC_TX_IDLE) {
            return result;
        }
    }
}

/* The count of descriptors that is to ring when it is passed */
static uint32_t labnic_tx_event(const LabnicTxQueue *q)
{
    return q->ring.head + q->pace.ahead;
}

static void labnic_tx_event_told(LabnicTxQueue *q)
{
    q->event = labnic_tx_event(q);
    q->event_head = q->ring.head;
}

/* Whether the driver can see the event, and nothing was sent since it can */
static bool labnic_tx_event_is_told(const LabnicTxQueue *q)
{
    return q->event == labnic_tx_event(q) && q->event_head == q->ring.head;
}

/* Publishes the doorbell event alone, without which no frame would come */
static bool labnic_tx_report_event(LabnicState *s, unsigned qi)
{
    LabnicTxQueue *q = &s->tx[qi];
    uint32_t event = cpu_to_le32(labnic_tx_event(q));

    labnic_tx_event_told(q);
    return labnic_dma_write(s, LABNIC_STATUS_ADDR(s, qi, tx_doorbell_event),
                            &event, sizeof(event));
}

/*
 * Publishes what has been consumed; when idle also the doorbell event, which
 * is the next word, with the same write.
 */
static bool labnic_tx_report(LabnicState *s, unsigned qi, bool idle)
{
    LabnicTxQueue *q = &s->tx[qi];
    uint32_t words[2] = { cpu_to_le32(q->ring.head),
                          cpu_to_le32(labnic_tx_event(q)) };
    bool news = q->ring.head != q->reported;
    LabnicFault *f;

    QEMU_BUILD_BUG_ON(offsetof(struct labnic_status_block, tx_doorbell_event) !=
                      offsetof(struct labnic_status_block, tx_consumed) + 4);
    if (!idle && !news) {
        return true;
    }
    if (news && labnic_fault(s, LABNIC_FAULT_TX_WITHHOLD, qi)) {
        return !idle || labnic_tx_report_event(s, qi);
    }
    f = news ? labnic_fault(s, LABNIC_FAULT_TX_CONSUMED, qi) : NULL;
    if (f) {
        words[0] = cpu_to_le32(q->ring.head + f->value);
        labnic_audit_excuse(s, true, qi);
    }
    trace_labnic_tx_report(s->name, qi, q->ring.head, idle);
    q->reported = q->ring.head;
    if (idle) {
        labnic_tx_event_told(q);
    }
    return labnic_dma_write(s, LABNIC_STATUS_ADDR(s, qi, tx_consumed), words,
                            idle ? sizeof(words) : sizeof(words[0]));
}

/*
 * Works on one queue until nothing is published, the budget is used up or the
 * backend is full. False when the bottom half must go on.
 */
static bool labnic_tx_run(LabnicState *s, unsigned qi, LabnicTxBudget budget)
{
    LabnicTxQueue *q = &s->tx[qi];
    uint32_t before = q->reported;
    LabnicTxResult result;
    uint32_t err;

    if (!q->ring.enabled || s->tx_wait_queue != LABNIC_NO_QUEUE) {
        return true;            /* the callback kicks every queue */
    }
    do {
        result = labnic_tx_burst(s, qi, &budget, &err);
        if (budget.doorbell) {
            labnic_pace_doorbell(s, qi);
            budget.doorbell = false;
        }
        if (result == LABNIC_TX_IDLE && labnic_tx_event_is_told(q)) {
            break;              /* looked again after the event was visible */
        }
        if (!labnic_tx_report(s, qi, result == LABNIC_TX_IDLE)) {
            result = LABNIC_TX_BAD;
            err = LABNIC_ERR_DMA_WRITE;
        }
        /* Orders the words above before the look at ring and IRQ event */
        smp_mb();
    } while (result == LABNIC_TX_IDLE);

    labnic_irq_event(s, true, qi, before, q->reported);
    if (result == LABNIC_TX_BAD && q->ring.enabled) {
        labnic_queue_error(s, true, qi, err);
    }
    return result != LABNIC_TX_MORE;
}

/* Has the bottom half look after queues, a bit for each */
void labnic_tx_kick(LabnicState *s, uint32_t queues)
{
    s->tx_kick |= queues;
    if (s->tx_kick) {
        qemu_bh_schedule(s->tx_bh);
    }
}

void labnic_tx_kick_all(LabnicState *s)
{
    labnic_tx_kick(s, MAKE_64BIT_MASK(0, s->num_queues));
}

/* Has every queue publish its words, whether they have changed or not */
void labnic_tx_report_again(LabnicState *s)
{
    for (unsigned qi = 0; qi < s->num_queues; qi++) {
        s->tx[qi].event = labnic_tx_event(&s->tx[qi]) - 1;
    }
    labnic_tx_kick_all(s);
}

static bool labnic_tx_may_run(const LabnicState *s)
{
    /* Memory of a stopped VM must not change; its start kicks all queues */
    return labnic_enabled(s) && !labnic_dead(s) && runstate_is_running();
}

void labnic_tx_bh(void *opaque)
{
    LabnicState *s = opaque;
    uint32_t kick = s->tx_kick;

    s->tx_kick = 0;
    if (!labnic_tx_may_run(s) || !labnic_enter(s)) {
        return;
    }
    while (kick) {
        unsigned qi = ctz32(kick);

        kick &= kick - 1;
        if (!labnic_tx_run(s, qi, labnic_tx_budget_bh)) {
            s->tx_kick |= 1u << qi;
        }
    }
    labnic_tx_kick(s, 0);
    labnic_leave(s);
}

/*
 * A sender that changes its queue finds its frames in order all the same: what
 * has not rung on another queue came before.
 */
static void labnic_tx_run_paced(LabnicState *s, unsigned but)
{
    LabnicTxBudget budget = labnic_tx_budget_vcpu;

    budget.doorbell = false;
    for (unsigned qi = 0; qi < s->num_queues; qi++) {
        if (qi != but && s->tx[qi].pace.ahead &&
            !labnic_tx_run(s, qi, budget)) {
            labnic_tx_kick(s, 1u << qi);
        }
    }
}

void labnic_tx_doorbell(LabnicState *s, unsigned qi, uint32_t published)
{
    LabnicTxQueue *q = &s->tx[qi];

    labnic_count(s, LABNIC_COUNTER_TX_DOORBELLS);
    trace_labnic_tx_doorbell(s->name, qi, published, q->ring.head);
    labnic_audit_doorbell(s, true, qi, published);
    if (!q->ring.enabled) {
        trace_labnic_guest_error(s->name, "TX doorbell of a stopped queue", qi);
        return;
    }
    if (!labnic_ring_announce(&q->ring, published)) {
        labnic_queue_error(s, true, qi, LABNIC_ERR_DOORBELL);
        return;
    }
    if (!labnic_tx_may_run(s)) {
        return;
    }
    labnic_tx_run_paced(s, qi);
    if (!labnic_tx_run(s, qi, labnic_tx_budget_vcpu)) {
        labnic_tx_kick(s, 1u << qi);
    }
}

/* Takes back the frame that the backend keeps */
void labnic_tx_purge(LabnicState *s)
{
    s->tx_wait_queue = LABNIC_NO_QUEUE;
    qemu_purge_queued_packets(qemu_get_queue(s->nic));
}

/* Ends the queue's work, after an error too; its registers stay */
void labnic_tx_stop(LabnicState *s, unsigned qi)
{
    s->tx[qi].ring.enabled = false;
    labnic_pace_end(&s->tx[qi]);
    labnic_irq_forget(s, true, qi);
    if (s->tx_cut_queue == (int)qi) {
        s->tx_cut_queue = LABNIC_NO_QUEUE;
    }
    if (s->tx_wait_queue == (int)qi) {
        labnic_tx_purge(s);
        labnic_tx_kick_all(s);  /* the others waited for it too */
    }
}

static void labnic_tx_start(LabnicState *s, unsigned qi)
{
    static const uint32_t zero[2];
    LabnicTxQueue *q = &s->tx[qi];
    uint32_t err = labnic_ring_check(&q->ring, s->status_base[qi]);

    labnic_ring_start(&q->ring);
    q->reported = 0;
    q->event = -1;              /* has the first look write it */
    q->whole = 0;
    q->segment = 0;
    if (!err && !labnic_dma_write(s, LABNIC_STATUS_ADDR(s, qi, tx_consumed),
                                  zero, sizeof(zero))) {
        err = LABNIC_ERR_DMA_WRITE;
    }
    trace_labnic_tx_enable(s->name, qi, q->ring.base, q->ring.size, err);
    if (err) {
        labnic_queue_error(s, true, qi, err);
        return;
    }
    q->error = LABNIC_ERR_NONE;
    s->queue_errors &= ~(1u << (ctz32(LABNIC_QUEUE_ERRORS_TX) + qi));
    q->ring.enabled = true;
    labnic_audit_start(s, true, qi);
    /* What was published before the queue ran */
    labnic_tx_kick(s, 1u << qi);
}

void labnic_tx_set_enable(LabnicState *s, unsigned qi, bool enable)
{
    LabnicTxQueue *q = &s->tx[qi];

    if (!enable) {
        labnic_audit_stop(s, true, qi);
    }
    if (enable == q->ring.enabled) {
        return;
    }
    if (enable) {
        labnic_tx_start(s, qi);
        return;
    }
    trace_labnic_tx_disable(s->name, qi, q->ring.head);
    labnic_tx_stop(s, qi);
}
