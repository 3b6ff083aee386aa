/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checksums. Pure functions over a packet's bytes. The other end is
 * kernel-driver/labnic_offload.c.
 *
 * A sum is kept in the byte order of memory: the ones' complement sum of
 * swapped words is the swapped sum (RFC 1071), so that nothing is swapped on
 * the way.
 */
#include "qemu/osdep.h"
#include "labnic_offload.h"

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
