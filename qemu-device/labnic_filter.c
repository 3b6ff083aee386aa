/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which frames are received, and by which queue pair. Pure functions over a
 * frame and the registers. The other end is kernel-driver/labnic_filter.c.
 */
#include "qemu/osdep.h"
#include "net/eth.h"
#include "labnic.h"

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

/* A HASH value: what the registers want of this packet */
static uint32_t labnic_hash_type(const LabnicState *s, const LabnicPacket *p,
                                 size_t size)
{
    bool ports = p->l4 && size >= p->l4 + 4;
    uint32_t ctrl = s->rss_ctrl;

    if (ports && p->proto == IP_PROTO_TCP &&
        ctrl & (p->ipv6 ? LABNIC_RSS_CTRL_TCPV6 : LABNIC_RSS_CTRL_TCPV4)) {
        return p->ipv6 ? LABNIC_HASH_TCPV6 : LABNIC_HASH_TCPV4;
    }
    if (ports && p->proto == IP_PROTO_UDP &&
        ctrl & (p->ipv6 ? LABNIC_RSS_CTRL_UDPV6 : LABNIC_RSS_CTRL_UDPV4)) {
        return p->ipv6 ? LABNIC_HASH_UDPV6 : LABNIC_HASH_UDPV4;
    }
    if (ctrl & (p->ipv6 ? LABNIC_RSS_CTRL_IPV6 : LABNIC_RSS_CTRL_IPV4)) {
        return p->ipv6 ? LABNIC_HASH_IPV6 : LABNIC_HASH_IPV4;
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

/* The queue pair of a frame, whose parts are known, and its hash */
unsigned labnic_rss_steer(const LabnicState *s, const uint8_t *frame,
                          size_t size, const LabnicPacket *p, uint32_t *hash,
                          uint32_t *type)
{
    size_t at = 0;

    *hash = 0;
    *type = LABNIC_HASH_NONE;
    if (!(s->drv_features & LABNIC_FEATURE_RSS) || !s->rss_ctrl) {
        return 0;
    }
    *type = labnic_hash_type(s, p, size);
    if (*type == LABNIC_HASH_NONE) {
        return 0;
    }
    *hash = labnic_toeplitz(s->rss_key, 0, frame + labnic_packet_addrs(p),
                            labnic_packet_addrs_len(p), &at);
    if (*type != LABNIC_HASH_IPV4 && *type != LABNIC_HASH_IPV6) {
        *hash = labnic_toeplitz(s->rss_key, *hash, frame + p->l4, 4, &at);
    }
    return labnic_rss_queue(s, *hash);
}
