/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counters. The other end is kernel-driver/labnic_stats.c.
 */
#include "qemu/osdep.h"
#include "net/eth.h"
#include "labnic.h"

/*
 * Frames with the same addresses, all at once: frames is the first counter of
 * their direction.
 */
void labnic_count_frames(LabnicState *s, enum labnic_counter frames,
                         const uint8_t *frame, uint32_t n, uint64_t bytes)
{
    uint64_t *counters = s->counters + frames;

    QEMU_BUILD_BUG_ON(LABNIC_COUNTER_RX_BROADCAST - LABNIC_COUNTER_RX_FRAMES !=
                      LABNIC_COUNTER_TX_BROADCAST - LABNIC_COUNTER_TX_FRAMES);
    counters[0] += n;
    counters[LABNIC_COUNTER_TX_BYTES - LABNIC_COUNTER_TX_FRAMES] += bytes;
    if (is_broadcast_ether_addr(frame)) {
        counters[LABNIC_COUNTER_TX_BROADCAST - LABNIC_COUNTER_TX_FRAMES] += n;
    } else if (is_multicast_ether_addr(frame)) {
        counters[LABNIC_COUNTER_TX_MULTICAST - LABNIC_COUNTER_TX_FRAMES] += n;
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
