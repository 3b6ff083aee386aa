/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is done to packets in place of the driver's stack: pure functions over
 * bytes.
 */
#ifndef LABNIC_OFFLOAD_H
#define LABNIC_OFFLOAD_H

#include "include/labnic_hw.h"

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

#define LABNIC_IPV4_HEADER 20
#define LABNIC_IPV6_HEADER 40
#define LABNIC_TCP_HEADER 20

/* Bytes from the beginning of the header to its checksum */
#define LABNIC_IPV4_CSUM 10
#define LABNIC_TCP_CSUM 16

/* Bytes of a TCP header with its options, as it says; 20 of it are there */
static inline size_t labnic_tcp_header_len(const uint8_t *tcp)
{
    return (tcp[12] >> 4) * 4;
}

/*
 * What goes before a frame to a backend that takes it: what is left to do. The
 * layout is that of struct virtio_net_hdr, in the host's byte order.
 */
typedef struct LabnicVnet {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
} LabnicVnet;

#define LABNIC_VNET_LEN sizeof(LabnicVnet)

/* A frame that is cut into segments */
typedef struct LabnicTso {
    uint32_t segments;
    uint32_t mss;
    uint32_t payload;
    bool fixed_id;

    bool ipv6;
    uint32_t l3;
    uint32_t l4;
    uint32_t header_len;
    uint8_t header[LABNIC_FRAME_MAX];
} LabnicTso;

uint32_t labnic_tso_begin(LabnicTso *tso, const uint8_t *frame, size_t len,
                          size_t start, uint32_t mss, bool fixed_id);
bool labnic_vnet_csum(LabnicVnet *vnet, size_t start, size_t offset);
bool labnic_vnet_tso(LabnicVnet *vnet, const LabnicTso *tso);
size_t labnic_tso_segment(const LabnicTso *tso, uint8_t *frame, uint32_t n,
                          size_t *at);

void labnic_csum_fill(uint8_t *frame, size_t len, size_t start, size_t offset);
void labnic_csum_unfinish(uint8_t *frame, size_t len);
uint32_t labnic_csum_verdict(const uint8_t *frame, size_t size,
                             const LabnicPacket *p);

#endif
