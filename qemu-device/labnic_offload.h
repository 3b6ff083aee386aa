/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is done to packets in place of the driver's stack: pure functions over
 * bytes.
 */
#ifndef LABNIC_OFFLOAD_H
#define LABNIC_OFFLOAD_H

void labnic_csum_fill(uint8_t *frame, size_t len, size_t start, size_t offset);

#endif
