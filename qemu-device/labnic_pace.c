/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How far ahead of the ring's head the TX doorbell event is. Lone frames in
 * quick succession need no doorbell each: one for as many as come in some
 * time costs fewer exits of the vCPU, and wakes the wire's other end less
 * often. A frame that is alone is sent at its own doorbell, as ever.
 */
#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "labnic.h"

/* Doorbells in which a succession shows; the clock is read once for them */
#define LABNIC_PACE_DOORBELLS 16
/* From doorbell to doorbell */
#define LABNIC_PACE_NS (64 * SCALE_US)
/* After the last doorbell, to look for what may have come and has not rung */
#define LABNIC_PACE_END_NS (2 * LABNIC_PACE_NS)
/* When fewer frames come from doorbell to doorbell, each has one */
#define LABNIC_PACE_FRAMES_MIN 4
/* Descriptors for one doorbell */
#define LABNIC_PACE_MAX 64

/*
 * Descriptors that come from doorbell to doorbell, going by those that came
 * since the last one; zero when too few frames do.
 */
static uint32_t labnic_pace_stride(const LabnicTxQueue *q, int64_t now)
{
    int64_t elapsed = now - q->pace.since;
    uint64_t descs = q->ring.head - q->pace.from;
    uint64_t frames = q->pace.frames;

    /* A clock that stands still, as under qtest, tells of no succession */
    if (elapsed <= 0 ||
        frames * LABNIC_PACE_NS / elapsed < LABNIC_PACE_FRAMES_MIN) {
        return 0;
    }
    return MIN(descs * LABNIC_PACE_NS / elapsed,
               MIN(LABNIC_PACE_MAX, q->ring.size / 4));
}

static void labnic_pace_begin(LabnicTxQueue *q, uint32_t ahead, int64_t now)
{
    q->pace = (LabnicPace) {
        .since = now, .from = q->ring.head, .ahead = ahead,
    };
}

/* The driver has rung, and what it announced has been sent */
void labnic_pace_doorbell(LabnicState *s, unsigned qi)
{
    LabnicTxQueue *q = &s->tx[qi];
    uint32_t before = q->pace.ahead, stride;
    int64_t now;

    if (!s->pacing ||
        (!before && ++q->pace.doorbells < LABNIC_PACE_DOORBELLS)) {
        return;
    }
    now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    stride = labnic_pace_stride(q, now);
    labnic_pace_begin(q, stride ? stride - 1 : 0, now);
    if (!before != !q->pace.ahead) {
        trace_labnic_pace(s->name, qi, q->pace.ahead);
    }
    if (q->pace.ahead && !timer_pending(&s->pace_clock)) {
        timer_mod_ns(&s->pace_clock, now + LABNIC_PACE_END_NS);
    }
}

/* Has the next frame of a queue ring again */
void labnic_pace_end(LabnicTxQueue *q)
{
    q->pace = (LabnicPace) { 0 };
}

/* The doorbell has been silent: there may be frames, or there is an end */
static void labnic_pace_look(LabnicState *s, unsigned qi, int64_t now)
{
    LabnicTxQueue *q = &s->tx[qi];
    uint32_t head = q->ring.head;

    labnic_tx_kick(s, 1u << qi);
    labnic_tx_bh(s);
    if (!q->pace.ahead) {
        return;                         /* the queue has stopped over it */
    }
    if (q->ring.head != head) {
        labnic_pace_begin(q, q->pace.ahead, now);
        return;
    }
    trace_labnic_pace(s->name, qi, 0);
    labnic_pace_end(q);
    labnic_tx_kick(s, 1u << qi);        /* tells the driver */
}

static void labnic_pace_tick(void *opaque)
{
    LabnicState *s = opaque;
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    int64_t next = INT64_MAX;

    for (unsigned qi = 0; qi < s->num_queues; qi++) {
        LabnicPace *pace = &s->tx[qi].pace;

        if (pace->ahead && pace->since + LABNIC_PACE_END_NS <= now) {
            labnic_pace_look(s, qi, now);
        }
        if (pace->ahead) {
            next = MIN(next, pace->since + LABNIC_PACE_END_NS);
        }
    }
    if (next != INT64_MAX) {
        timer_mod_ns(&s->pace_clock, next);
    }
}

void labnic_pace_init(LabnicState *s)
{
    timer_init_ns(&s->pace_clock, QEMU_CLOCK_VIRTUAL, labnic_pace_tick, s);
}

void labnic_pace_exit(LabnicState *s)
{
    timer_del(&s->pace_clock);
}
