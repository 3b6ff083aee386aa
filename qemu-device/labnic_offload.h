/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is done to packets in place of the driver's stack: pure functions over
 * bytes.
 */
#ifndef LABNIC_OFFLOAD_H
#define LABNIC_OFFLOAD_H

/* Where the parts of an IP packet are, in bytes of its frame */
typedef struct LabnicPacket {
    bool ipv6;
    uint8_t proto;
    size_t l3;
    size_t l4;                  /* zero where none follows, as in a fragment */
    size_t end;                 /* as IP says: may be past the frame */
} LabnicPacket;

bool labnic_packet_parse(const uint8_t *frame, size_t size, LabnicPacket *p);

/* Source and destination address */
static inline size_t labnic_packet_addrs(const LabnicPacket *p)
{
    return p->l3 + (p->ipv6 ? 8 : 12);
}

static inline size_t labnic_packet_addrs_len(const LabnicPacket *p)
{
    return p->ipv6 ? 32 : 8;
}

void labnic_csum_fill(uint8_t *frame, size_t len, size_t start, size_t offset);
uint32_t labnic_csum_verdict(const uint8_t *frame, size_t size,
                             const LabnicPacket *p);

#endif
