/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters. The other end is kernel-driver/labnic_stats.c.
 */
#include "qemu/osdep.h"
#include "net/eth.h"
#include "labnic.h"

/* A frame that went to the link */
void labnic_count_tx(LabnicState *s, const uint8_t *frame, size_t size)
{
    labnic_count(s, LABNIC_COUNTER_TX_FRAMES);
    s->counters[LABNIC_COUNTER_TX_BYTES] += size;
    if (is_broadcast_ether_addr(frame)) {
        labnic_count(s, LABNIC_COUNTER_TX_BROADCAST);
    } else if (is_multicast_ether_addr(frame)) {
        labnic_count(s, LABNIC_COUNTER_TX_MULTICAST);
    }
}

/* The backend makes more frames of it, each with the headers again */
void labnic_count_tx_segments(LabnicState *s, const uint8_t *frame,
                              size_t header, uint32_t more)
{
    s->counters[LABNIC_COUNTER_TX_FRAMES] += more;
    s->counters[LABNIC_COUNTER_TX_BYTES] += more * header;
    if (is_broadcast_ether_addr(frame)) {
        s->counters[LABNIC_COUNTER_TX_BROADCAST] += more;
    } else if (is_multicast_ether_addr(frame)) {
        s->counters[LABNIC_COUNTER_TX_MULTICAST] += more;
    }
}

/* A frame that the driver has got */
void labnic_count_rx(LabnicState *s, const uint8_t *frame, size_t size)
{
    labnic_count(s, LABNIC_COUNTER_RX_FRAMES);
    s->counters[LABNIC_COUNTER_RX_BYTES] += size;
    if (is_broadcast_ether_addr(frame)) {
        labnic_count(s, LABNIC_COUNTER_RX_BROADCAST);
    } else if (is_multicast_ether_addr(frame)) {
        labnic_count(s, LABNIC_COUNTER_RX_MULTICAST);
    }
}

/* The half of a counter that is at this offset of the block */
uint32_t labnic_counter_reg(const LabnicState *s, uint32_t offset)
{
    uint32_t n = offset / 8;

    if (n >= LABNIC_N_COUNTERS) {
        return 0;
    }
    return s->counters[n] >> (offset & 4 ? 32 : 0);
}
