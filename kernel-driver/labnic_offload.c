// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the stack leaves to the device to do to a packet. The other end is the
 * file of this name in qemu-device/.
 */
#include <linux/netdevice.h>
#include <linux/skbuff.h>

#include "labnic.h"

/*
 * Tell the device where the checksum of @skb goes, by @buf. No protocol has
 * one too far from its beginning for that; a packet socket may say so.
 */
int labnic_offload_tx(struct sk_buff *skb, struct labnic_tx_buf *buf)
{
	u32 start = skb_checksum_start_offset(skb);
	u32 offset = skb->csum_offset;

	if (unlikely(offset > FIELD_MAX(LABNIC_TX_DESC_FLAGS_CSUM_OFFSET) ||
		     start > FIELD_MAX(LABNIC_TX_DESC_FLAGS_CSUM_START)))
		return skb_checksum_help(skb);

	buf->offload = FIELD_PREP(LABNIC_TX_DESC_FLAGS_OFFLOAD,
				  LABNIC_OFFLOAD_CSUM) |
		       FIELD_PREP(LABNIC_TX_DESC_FLAGS_CSUM_START, start) |
		       FIELD_PREP(LABNIC_TX_DESC_FLAGS_CSUM_OFFSET, offset);
	return 0;
}
