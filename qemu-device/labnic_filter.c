/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which frames are received, and by which queue pair. Pure functions over a
 * frame and the registers. The other end is kernel-driver/labnic_filter.c.
 */
#include "qemu/osdep.h"
#include "net/eth.h"
#include "labnic.h"

/* Tags that are looked through on the way to the IP header */
#define LABNIC_VLAN_TAGS 2

/* Where the parts that the hash takes are */
typedef struct LabnicFlow {
    bool ipv6;
    size_t addrs;               /* offset of source and destination address */
    size_t ports;               /* offset of both ports, zero without */
    uint8_t proto;
} LabnicFlow;

/* Packs the valid addresses of the filter */
void labnic_filter_rebuild(LabnicState *s)
{
    s->filter_len = 0;
    for (unsigned i = 0; i < LABNIC_ADDR_SLOTS; i++) {
        if (s->slot_used[i] & LABNIC_ADDR_SLOT_VALID) {
            s->filter[s->filter_len++] = s->slot_used[i] &
                                         LABNIC_ADDR_SLOT_ADDR;
        }
    }
}

/* The frame has FRAME_MIN bytes */
bool labnic_filter_wants(const LabnicState *s, const uint8_t *frame)
{
    uint64_t dest = labnic_addr_from_wire(frame);

    if (s->rx_mode & LABNIC_RX_MODE_PROMISC || dest == s->mac) {
        return true;
    }
    if (is_broadcast_ether_addr(frame)) {
        if (s->rx_mode & LABNIC_RX_MODE_BROADCAST) {
            return true;
        }
    } else if (is_multicast_ether_addr(frame) &&
               s->rx_mode & LABNIC_RX_MODE_ALLMULTI) {
        return true;
    }
    for (unsigned i = 0; i < s->filter_len; i++) {
        if (s->filter[i] == dest) {
            return true;
        }
    }
    return false;
}

/* Length of both addresses together */
static size_t labnic_flow_addrs_len(const LabnicFlow *flow)
{
    return flow->ipv6 ? 32 : 8;
}

static bool labnic_parse_ipv4(const uint8_t *frame, size_t size, size_t at,
                              LabnicFlow *flow)
{
    const uint8_t *ip = frame + at;
    size_t header;

    if (size < at + 20 || ip[0] >> 4 != 4) {
        return false;
    }
    header = (ip[0] & 0xf) * 4;
    if (header < 20) {
        return false;
    }
    flow->ipv6 = false;
    flow->addrs = at + 12;
    flow->proto = ip[9];
    /* A fragment has no ports, or others than its first one */
    if (!(lduw_be_p(ip + 6) & (IP_MF | IP_OFFMASK))) {
        flow->ports = at + header;
    }
    return true;
}

/* Ports are found right behind the fixed header only */
static bool labnic_parse_ipv6(const uint8_t *frame, size_t size, size_t at,
                              LabnicFlow *flow)
{
    const uint8_t *ip = frame + at;

    if (size < at + 40 || ip[0] >> 4 != 6) {
        return false;
    }
    flow->ipv6 = true;
    flow->addrs = at + 8;
    flow->proto = ip[6];
    flow->ports = at + 40;
    return true;
}

/* False when the frame is not IP, or is cut off in the header */
static bool labnic_parse(const uint8_t *frame, size_t size, LabnicFlow *flow)
{
    size_t at = offsetof(struct eth_header, h_proto);
    uint16_t type = lduw_be_p(frame + at);

    memset(flow, 0, sizeof(*flow));
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
        return labnic_parse_ipv4(frame, size, at, flow);
    }
    return type == ETH_P_IPV6 && labnic_parse_ipv6(frame, size, at, flow);
}

/* A HASH value: what the registers want of this packet */
static uint32_t labnic_hash_type(const LabnicState *s, const LabnicFlow *flow,
                                 size_t size)
{
    bool ports = flow->ports && size >= flow->ports + 4;
    uint32_t ctrl = s->rss_ctrl;

    if (ports && flow->proto == IP_PROTO_TCP &&
        ctrl & (flow->ipv6 ? LABNIC_RSS_CTRL_TCPV6 : LABNIC_RSS_CTRL_TCPV4)) {
        return flow->ipv6 ? LABNIC_HASH_TCPV6 : LABNIC_HASH_TCPV4;
    }
    if (ports && flow->proto == IP_PROTO_UDP &&
        ctrl & (flow->ipv6 ? LABNIC_RSS_CTRL_UDPV6 : LABNIC_RSS_CTRL_UDPV4)) {
        return flow->ipv6 ? LABNIC_HASH_UDPV6 : LABNIC_HASH_UDPV4;
    }
    if (ctrl & (flow->ipv6 ? LABNIC_RSS_CTRL_IPV6 : LABNIC_RSS_CTRL_IPV4)) {
        return flow->ipv6 ? LABNIC_HASH_IPV6 : LABNIC_HASH_IPV4;
    }
    return LABNIC_HASH_NONE;
}

/*
 * Toeplitz: for each one bit of the input the 32 bits of the key that begin at
 * its place. The key has 40 bytes, the input 36 at most, so the key suffices.
 * Continues the hash with more input; *at is the place in bytes.
 */
static uint32_t labnic_toeplitz(const uint8_t *key, uint32_t hash,
                                const uint8_t *input, size_t len, size_t *at)
{
    for (size_t i = 0; i < len; i++) {
        uint32_t first = ldl_be_p(key + *at);
        uint64_t bits = (uint64_t)first << 8 | key[*at + 4];

        for (int bit = 7; bit >= 0; bit--) {
            if (input[i] & 1 << bit) {
                hash ^= bits >> (bit + 1);
            }
        }
        ++*at;
    }
    return hash;
}

static unsigned labnic_rss_queue(const LabnicState *s, uint32_t hash)
{
    unsigned qi = s->rss_table[hash % LABNIC_RSS_TABLE_SIZE];

    if (qi >= s->num_queues || !s->rx[qi].ring.enabled) {
        return 0;
    }
    return qi;
}

/* The queue pair of a frame, which has FRAME_MIN bytes, and its hash */
unsigned labnic_rss_steer(const LabnicState *s, const uint8_t *frame,
                          size_t size, uint32_t *hash, uint32_t *type)
{
    LabnicFlow flow;
    size_t at = 0;

    *hash = 0;
    *type = LABNIC_HASH_NONE;
    if (!(s->drv_features & LABNIC_FEATURE_RSS) || !s->rss_ctrl ||
        !labnic_parse(frame, size, &flow)) {
        return 0;
    }
    *type = labnic_hash_type(s, &flow, size);
    if (*type == LABNIC_HASH_NONE) {
        return 0;
    }
    *hash = labnic_toeplitz(s->rss_key, 0, frame + flow.addrs,
                            labnic_flow_addrs_len(&flow), &at);
    if (*type != LABNIC_HASH_IPV4 && *type != LABNIC_HASH_IPV6) {
        *hash = labnic_toeplitz(s->rss_key, *hash, frame + flow.ports, 4, &at);
    }
    return labnic_rss_queue(s, *hash);
}
