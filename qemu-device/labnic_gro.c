/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Receive coalescing: TCP segments that come one after the other wait for each
 * other, and go to the driver as one frame.
 *
 * They wait only while the driver lets interrupts wait, and no longer. What is
 * put together is what the segments would be made of again, byte for byte.
 */
#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "net/eth.h"
#include "labnic.h"

/* Where in the headers is what differs from one segment to the next */
#define LABNIC_IPV4_LEN 2
#define LABNIC_IPV4_ID 4
#define LABNIC_IPV6_LEN 4
#define LABNIC_TCP_SEQ 4
#define LABNIC_TCP_FLAGS 13

/* One segment: headers as far as the payload, and nothing after that */
typedef struct LabnicSegment {
    const uint8_t *bytes;
    size_t len;
    size_t l3;
    size_t l4;
    size_t header;
    bool ipv6;
} LabnicSegment;

/*
 * Whether a frame with right checksums is one that can be put together with
 * others: data in the middle of a connection.
 */
static bool labnic_gro_parse(LabnicSegment *seg, const uint8_t *bytes,
                             size_t len, const LabnicPacket *p)
{
    uint8_t flags;

    if (!p->l4 || p->proto != IP_PROTO_TCP || p->end != len) {
        return false;
    }
    flags = bytes[p->l4 + LABNIC_TCP_FLAGS];
    seg->bytes = bytes;
    seg->len = len;
    seg->l3 = p->l3;
    seg->l4 = p->l4;
    seg->header = p->l4 + labnic_tcp_header_len(bytes + p->l4);
    seg->ipv6 = p->ipv6;
    return (flags & ~TH_PUSH) == TH_ACK &&
           seg->header >= p->l4 + LABNIC_TCP_HEADER && seg->header < len;
}

static bool labnic_gro_same(const uint8_t *a, const uint8_t *b, size_t from,
                            size_t to)
{
    return memcmp(a + from, b + from, to - from) == 0;
}

/* Whether the IP headers differ in what differs from segment to segment only */
static bool labnic_gro_same_ip(const LabnicGro *gro, const LabnicSegment *seg)
{
    const uint8_t *a = gro->bytes, *b = seg->bytes;
    size_t l3 = seg->l3;
    uint16_t id;

    if (seg->ipv6) {
        return labnic_gro_same(a, b, 0, l3 + LABNIC_IPV6_LEN) &&
               labnic_gro_same(a, b, l3 + LABNIC_IPV6_LEN + 2, seg->l4);
    }
    id = lduw_be_p(a + l3 + LABNIC_IPV4_ID) + gro->segments;
    return labnic_gro_same(a, b, 0, l3 + LABNIC_IPV4_LEN) &&
           lduw_be_p(b + l3 + LABNIC_IPV4_ID) == id &&
           labnic_gro_same(a, b, l3 + LABNIC_IPV4_ID + 2,
                           l3 + LABNIC_IPV4_CSUM) &&
           labnic_gro_same(a, b, l3 + LABNIC_IPV4_CSUM + 2, seg->l4);
}

/* Whether the segment goes on where the frame ends */
static bool labnic_gro_follows(const LabnicGro *gro, const LabnicSegment *seg)
{
    const uint8_t *a = gro->bytes, *b = seg->bytes;
    size_t l4 = seg->l4;
    uint32_t seq;

    if (gro->l3 != seg->l3 || gro->l4 != l4 || gro->header != seg->header ||
        gro->ipv6 != seg->ipv6 || seg->len - seg->header > gro->mss ||
        gro->len + seg->len - seg->header > LABNIC_TSO_MAX) {
        return false;
    }
    seq = ldl_be_p(a + l4 + LABNIC_TCP_SEQ) + gro->len - gro->header;
    return labnic_gro_same_ip(gro, seg) &&
           labnic_gro_same(a, b, l4, l4 + LABNIC_TCP_SEQ) &&
           ldl_be_p(b + l4 + LABNIC_TCP_SEQ) == seq &&
           labnic_gro_same(a, b, l4 + LABNIC_TCP_SEQ + 4,
                           l4 + LABNIC_TCP_FLAGS) &&
           labnic_gro_same(a, b, l4 + LABNIC_TCP_FLAGS + 1,
                           l4 + LABNIC_TCP_CSUM) &&
           labnic_gro_same(a, b, l4 + LABNIC_TCP_CSUM + 2, gro->header);
}

static void labnic_gro_open(LabnicState *s, unsigned qi,
                            const LabnicSegment *seg)
{
    LabnicGro *gro = &s->gro[qi];

    if (!gro->bytes) {
        gro->bytes = g_malloc(LABNIC_TSO_MAX);
    }
    memcpy(gro->bytes, seg->bytes, seg->len);
    gro->segments = 1;
    gro->len = seg->len;
    gro->mss = seg->len - seg->header;
    gro->l3 = seg->l3;
    gro->l4 = seg->l4;
    gro->header = seg->header;
    gro->ipv6 = seg->ipv6;
    gro->due = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) +
               (int64_t)s->irq_hold[qi].rx_usecs * SCALE_US;
    labnic_irq_wake_at(s, gro->due);
}

static void labnic_gro_append(LabnicGro *gro, const LabnicSegment *seg)
{
    size_t len = seg->len - seg->header;

    memcpy(gro->bytes + gro->len, seg->bytes + seg->header, len);
    gro->bytes[gro->l4 + LABNIC_TCP_FLAGS] |=
        seg->bytes[gro->l4 + LABNIC_TCP_FLAGS];
    gro->len += len;
    gro->segments++;
}

/* Whether it is the last: it is shorter than the others, or says so */
static bool labnic_gro_ends(const LabnicGro *gro, const LabnicSegment *seg)
{
    return seg->len - seg->header < gro->mss ||
           seg->bytes[seg->l4 + LABNIC_TCP_FLAGS] & TH_PUSH;
}

/* The headers become those of a frame of all its segments */
static void labnic_gro_finish(LabnicGro *gro)
{
    uint8_t *ip = gro->bytes + gro->l3;

    if (gro->ipv6) {
        stw_be_p(ip + LABNIC_IPV6_LEN,
                 gro->len - gro->l3 - LABNIC_IPV6_HEADER);
    } else {
        stw_be_p(ip + LABNIC_IPV4_LEN, gro->len - gro->l3);
    }
    labnic_csum_unfinish(gro->bytes, gro->len);
    gro->finished = true;
}

/* Gives the driver what is there; false when it has no buffers for that now */
bool labnic_gro_flush(LabnicState *s, unsigned qi)
{
    LabnicGro *gro = &s->gro[qi];
    const LabnicTso *whole = NULL;
    bool given;

    if (!gro->segments) {
        return true;
    }
    trace_labnic_gro_flush(s->name, qi, gro->segments, gro->len);
    if (gro->segments > 1) {
        if (!gro->finished) {
            labnic_gro_finish(gro);
        }
        labnic_tso_begin(&s->gro_tso, gro->bytes, gro->len, gro->l4, gro->mss,
                         false);
        whole = &s->gro_tso;
    }
    s->gro_flushing = true;
    given = labnic_rx_frame(s, gro->bytes, gro->len, whole);
    s->gro_flushing = false;
    if (given) {
        labnic_gro_forget(s, qi);
    } else {
        s->gro_stuck |= 1u << qi;
    }
    return given;
}

void labnic_gro_forget(LabnicState *s, unsigned qi)
{
    s->gro[qi].segments = 0;
    s->gro[qi].finished = false;
    s->gro_stuck &= ~(1u << qi);
}

/* Nobody gets what is there, unless that is on its way to the driver */
void labnic_gro_drop(LabnicState *s, unsigned qi, enum labnic_counter why)
{
    LabnicGro *gro = &s->gro[qi];

    if (gro->segments && !s->gro_flushing) {
        s->counters[why] += gro->segments;
        labnic_gro_forget(s, qi);
    }
}

void labnic_gro_flush_all(LabnicState *s)
{
    for (unsigned qi = 0; qi < s->num_queues; qi++) {
        labnic_gro_flush(s, qi);
    }
}

/*
 * Nothing waits any more: from here on the driver may want each segment by
 * itself. What finds no buffers now is lost.
 */
void labnic_gro_end(LabnicState *s)
{
    labnic_gro_flush_all(s);
    for (unsigned qi = 0; qi < s->num_queues; qi++) {
        labnic_gro_drop(s, qi, LABNIC_COUNTER_RX_NO_BUFFER);
    }
}

/* Again, what had found no buffers */
void labnic_gro_retry(LabnicState *s)
{
    uint32_t stuck = s->gro_stuck;

    while (stuck) {
        unsigned qi = ctz32(stuck);

        stuck &= stuck - 1;
        labnic_gro_flush(s, qi);
    }
}

/*
 * Before a frame goes to the driver: the frame is taken when it waits for
 * others now, and refused when those before it must go first and cannot.
 */
LabnicGroResult labnic_gro_receive(LabnicState *s, unsigned qi,
                                   const uint8_t *bytes, size_t len,
                                   const LabnicPacket *p, bool good)
{
    LabnicGro *gro = &s->gro[qi];
    LabnicSegment seg;
    bool fits;

    if (s->gro_flushing) {
        return LABNIC_GRO_PASSED;
    }
    fits = good && labnic_gro_parse(&seg, bytes, len, p);
    if (gro->segments && fits && !gro->finished &&
        labnic_gro_follows(gro, &seg)) {
        labnic_gro_append(gro, &seg);
        if (labnic_gro_ends(gro, &seg)) {
            labnic_gro_flush(s, qi);
        }
        return LABNIC_GRO_TAKEN;
    }
    if (!labnic_gro_flush(s, qi)) {
        return LABNIC_GRO_REFUSED;
    }
    if (!fits || !s->irq_hold[qi].rx_usecs ||
        seg.bytes[seg.l4 + LABNIC_TCP_FLAGS] & TH_PUSH) {
        return LABNIC_GRO_PASSED;
    }
    labnic_gro_open(s, qi, &seg);
    return LABNIC_GRO_TAKEN;
}

void labnic_gro_exit(LabnicState *s)
{
    for (unsigned qi = 0; qi < LABNIC_MAX_QUEUES; qi++) {
        g_clear_pointer(&s->gro[qi].bytes, g_free);
    }
}
