/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Parsing, checksums and segmentation. Pure functions over a packet's bytes.
 * The other end is kernel-driver/labnic_offload.c.
 *
 * A sum is kept in the byte order of memory: the ones' complement sum of
 * swapped words is the swapped sum (RFC 1071), so that nothing is swapped on
 * the way.
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "net/eth.h"
#include "standard-headers/linux/virtio_net.h"
#include "labnic_offload.h"

QEMU_BUILD_BUG_ON(LABNIC_VNET_LEN != sizeof(struct virtio_net_hdr));

/* Tags that are looked through on the way to the IP header */
#define LABNIC_VLAN_TAGS 2

#define LABNIC_UDP_HEADER 8

static bool labnic_parse_ipv4(const uint8_t *frame, size_t size, size_t at,
                              LabnicPacket *p)
{
    const uint8_t *ip = frame + at;
    size_t header;

    if (size < at + LABNIC_IPV4_HEADER || ip[0] >> 4 != 4) {
        return false;
    }
    header = (ip[0] & 0xf) * 4;
    if (header < LABNIC_IPV4_HEADER) {
        return false;
    }
    p->ipv6 = false;
    p->l3 = at;
    p->proto = ip[9];
    p->end = at + lduw_be_p(ip + 2);
    /* A fragment has no ports, or others than its first one */
    if (!(lduw_be_p(ip + 6) & (IP_MF | IP_OFFMASK))) {
        p->l4 = at + header;
    }
    return true;
}

/* What is behind an extension header is not looked for */
static bool labnic_parse_ipv6(const uint8_t *frame, size_t size, size_t at,
                              LabnicPacket *p)
{
    const uint8_t *ip = frame + at;

    if (size < at + LABNIC_IPV6_HEADER || ip[0] >> 4 != 6) {
        return false;
    }
    p->ipv6 = true;
    p->l3 = at;
    p->proto = ip[6];
    p->l4 = at + LABNIC_IPV6_HEADER;
    p->end = p->l4 + lduw_be_p(ip + 4);
    return true;
}

/*
 * The frame has FRAME_MIN bytes. False when it is not IP, or is cut off in the
 * fixed part of the header.
 */
bool labnic_packet_parse(const uint8_t *frame, size_t size, LabnicPacket *p)
{
    size_t at = offsetof(struct eth_header, h_proto);
    uint16_t type = lduw_be_p(frame + at);

    memset(p, 0, sizeof(*p));
    for (unsigned tags = 0; tags < LABNIC_VLAN_TAGS &&
         (type == ETH_P_VLAN || type == ETH_P_DVLAN); tags++) {
        at += 4;
        if (size < at + 2) {
            return false;
        }
        type = lduw_be_p(frame + at);
    }
    at += 2;
    if (type == ETH_P_IP) {
        return labnic_parse_ipv4(frame, size, at, p);
    }
    return type == ETH_P_IPV6 && labnic_parse_ipv6(frame, size, at, p);
}

static uint64_t labnic_sum_add(uint64_t sum, uint64_t word)
{
    sum += word;
    return sum + (sum < word);  /* the carry comes in at the other end */
}

/* Not folded yet; a last odd byte counts as the first of a pair */
static uint64_t labnic_sum(const uint8_t *bytes, size_t len)
{
    uint64_t sum = 0, word;

    for (; len >= sizeof(word); len -= sizeof(word), bytes += sizeof(word)) {
        memcpy(&word, bytes, sizeof(word));
        sum = labnic_sum_add(sum, word);
    }
    word = 0;
    memcpy(&word, bytes, len);
    return labnic_sum_add(sum, word);
}

static uint16_t labnic_sum_fold(uint64_t sum)
{
    sum = (sum >> 32) + (uint32_t)sum;
    sum = (sum >> 32) + (uint32_t)sum;
    sum = (sum >> 16) + (uint16_t)sum;
    sum = (sum >> 16) + (uint16_t)sum;
    return (sum >> 16) + (uint16_t)sum;
}

/*
 * OFFLOAD_CSUM. The two bytes offset after start are within the frame. They
 * may be UDP's, where zero says that there is no checksum.
 */
void labnic_csum_fill(uint8_t *frame, size_t len, size_t start, size_t offset)
{
    uint16_t csum = ~labnic_sum_fold(labnic_sum(frame + start, len - start));

    csum = csum ?: UINT16_MAX;
    memcpy(frame + start + offset, &csum, sizeof(csum));
}

/* Whether a checksum that can be verified is there, and all that it covers */
static bool labnic_csum_there(const uint8_t *frame, size_t size,
                              const LabnicPacket *p)
{
    const uint8_t *l4 = frame + p->l4;

    if (!p->l4 || p->end > size) {
        return false;
    }
    if (p->proto == IP_PROTO_TCP) {
        return p->l4 + LABNIC_TCP_HEADER <= p->end;
    }
    /* UDP has a length of its own, which is what its sum is taken over */
    return p->proto == IP_PROTO_UDP && p->l4 + LABNIC_UDP_HEADER <= p->end &&
           lduw_be_p(l4 + 4) == p->end - p->l4 && lduw_be_p(l4 + 6);
}

/* The sum of the pseudo header (RFC 9293, RFC 8200) */
static uint64_t labnic_sum_pseudo(const uint8_t *frame, const LabnicPacket *p)
{
    uint64_t sum = labnic_sum(frame + labnic_packet_addrs(p),
                              labnic_packet_addrs_len(p));

    sum = labnic_sum_add(sum, cpu_to_be16(p->proto));
    return labnic_sum_add(sum, cpu_to_be16(p->end - p->l4));
}

/* Fills in the checksum of an IPv4 header */
static void labnic_csum_ipv4(uint8_t *ip, size_t len)
{
    uint16_t csum = 0;

    memcpy(ip + LABNIC_IPV4_CSUM, &csum, sizeof(csum));
    csum = ~labnic_sum_fold(labnic_sum(ip, len));
    memcpy(ip + LABNIC_IPV4_CSUM, &csum, sizeof(csum));
}

/*
 * Makes the checksums of a TCP packet those of a frame to be cut: that of the
 * IPv4 header is right, and TCP has the sum of the pseudo header.
 */
void labnic_csum_unfinish(uint8_t *frame, size_t len)
{
    LabnicPacket p;
    uint16_t csum;

    labnic_packet_parse(frame, len, &p);
    csum = labnic_sum_fold(labnic_sum_pseudo(frame, &p));
    memcpy(frame + p.l4 + LABNIC_TCP_CSUM, &csum, sizeof(csum));
    if (!p.ipv6) {
        labnic_csum_ipv4(frame + p.l3, p.l4 - p.l3);
    }
}

/* A VERDICT value. A sum over bytes and their right checksum is all ones. */
uint32_t labnic_csum_verdict(const uint8_t *frame, size_t size,
                             const LabnicPacket *p)
{
    uint64_t sum;

    if (!labnic_csum_there(frame, size, p)) {
        return LABNIC_VERDICT_NONE;
    }
    sum = labnic_sum_add(labnic_sum_pseudo(frame, p),
                         labnic_sum(frame + p->l4, p->end - p->l4));
    if (labnic_sum_fold(sum) != UINT16_MAX) {
        return LABNIC_VERDICT_BAD;
    }
    if (!p->ipv6 && labnic_sum_fold(labnic_sum(frame + p->l3,
                                               p->l4 - p->l3)) != UINT16_MAX) {
        return LABNIC_VERDICT_BAD;
    }
    return LABNIC_VERDICT_GOOD;
}

/* Whether TCP begins at start; behind an IPv6 extension header, if need be */
static bool labnic_tso_place_ok(const LabnicPacket *p, size_t start)
{
    if (!p->l4) {
        return false;           /* a fragment */
    }
    return start == p->l4 ? p->proto == IP_PROTO_TCP :
                            p->ipv6 && start > p->l4;
}

/*
 * OFFLOAD_TSO. Takes the headers of the frame, which has FRAME_MIN bytes; an
 * ERR value.
 */
uint32_t labnic_tso_begin(LabnicTso *tso, const uint8_t *frame, size_t len,
                          size_t start, uint32_t mss, bool fixed_id)
{
    LabnicPacket p;
    size_t header;

    if (!labnic_packet_parse(frame, len, &p) ||
        !labnic_tso_place_ok(&p, start) || start + LABNIC_TCP_HEADER > len) {
        return LABNIC_ERR_TSO_HEADER;
    }
    header = start + labnic_tcp_header_len(frame + start);
    if (header < start + LABNIC_TCP_HEADER || header > len) {
        return LABNIC_ERR_TSO_HEADER;
    }
    if (!mss || header + mss > LABNIC_FRAME_MAX) {
        return LABNIC_ERR_TSO_MSS;
    }
    tso->mss = mss;
    tso->payload = len - header;
    tso->segments = MAX(DIV_ROUND_UP(tso->payload, mss), 1);
    tso->fixed_id = fixed_id;
    tso->ipv6 = p.ipv6;
    tso->l3 = p.l3;
    tso->l4 = start;
    tso->header_len = header;
    memcpy(tso->header, frame, header);
    return LABNIC_ERR_NONE;
}

static void labnic_tso_ip(const LabnicTso *tso, uint8_t *ip, size_t len,
                          uint32_t n)
{
    if (tso->ipv6) {
        stw_be_p(ip + 4, len - LABNIC_IPV6_HEADER);
        return;
    }
    stw_be_p(ip + 2, len);
    if (!tso->fixed_id) {
        stw_be_p(ip + 4, lduw_be_p(ip + 4) + n);
    }
    labnic_csum_ipv4(ip, tso->l4 - tso->l3);
}

/*
 * The sum in the header is that of the pseudo header with the length of the
 * whole frame's TCP, which is taken out for that of the segment. A result of
 * zero stays, as it does where software cuts and sums.
 */
static void labnic_tso_tcp(const LabnicTso *tso, uint8_t *tcp, size_t len,
                           uint32_t n)
{
    uint16_t whole = tso->header_len - tso->l4 + tso->payload;
    uint16_t not_whole = ~cpu_to_be16(whole);
    uint16_t csum;
    uint64_t sum;

    stl_be_p(tcp + 4, ldl_be_p(tcp + 4) + n * tso->mss);
    if (n) {
        tcp[13] &= ~TH_CWR;
    }
    if (n + 1 < tso->segments) {
        tcp[13] &= ~(TH_FIN | TH_PUSH);
    }
    sum = labnic_sum_add(labnic_sum(tcp, len), not_whole);
    csum = ~labnic_sum_fold(labnic_sum_add(sum, cpu_to_be16(len)));
    memcpy(tcp + LABNIC_TCP_CSUM, &csum, sizeof(csum));
}

/*
 * Makes segment n where its payload is already, with the headers right in
 * front of it, over what came before: segments are made in their order, and
 * one can be made again until the next has been. Gives its length, and where
 * in the frame it begins.
 */
size_t labnic_tso_segment(const LabnicTso *tso, uint8_t *frame, uint32_t n,
                          size_t *at)
{
    size_t done = (size_t)n * tso->mss;
    size_t len = tso->header_len + MIN(tso->mss, tso->payload - done);
    uint8_t *segment = frame + done;

    memcpy(segment, tso->header, tso->header_len);
    labnic_tso_ip(tso, segment + tso->l3, len - tso->l3, n);
    labnic_tso_tcp(tso, segment + tso->l4, len - tso->l4, n);
    *at = done;
    return len;
}

/*
 * Has the backend fill in the checksum; false when it might not: what begins
 * too early for an IP packet is refused by some.
 */
bool labnic_vnet_csum(LabnicVnet *vnet, size_t start, size_t offset)
{
    if (start < sizeof(struct eth_header) + LABNIC_IPV4_HEADER) {
        return false;
    }
    vnet->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    vnet->csum_start = start;
    vnet->csum_offset = offset;
    return true;
}

/*
 * Has the backend cut the frame into segments; false when it could not: there
 * must be more than one, and it knows of no fixed identification.
 */
bool labnic_vnet_tso(LabnicVnet *vnet, const LabnicTso *tso)
{
    bool plain = !tso->ipv6 || tso->l4 == tso->l3 + LABNIC_IPV6_HEADER;

    if (tso->segments < 2 || tso->fixed_id || !plain) {
        return false;
    }
    labnic_vnet_csum(vnet, tso->l4, LABNIC_TCP_CSUM);
    vnet->gso_type = tso->ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 :
                                 VIRTIO_NET_HDR_GSO_TCPV4;
    if (tso->header[tso->l4 + 13] & TH_CWR) {
        vnet->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
    }
    vnet->gso_size = tso->mss;
    vnet->hdr_len = tso->header_len;
    return true;
}
