// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the stack leaves to the device to do to a packet. The other end is the
 * file of this name in qemu-device/.
 */
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>

#include "labnic.h"

/*
 * Have the device cut @skb into segments. What it would refuse comes from
 * packet sockets and from other machines only: the kernel knows of the
 * device's limits but for these.
 */
static int labnic_offload_tso(struct sk_buff *skb, struct labnic_tx_buf *buf)
{
	u32 start = skb_checksum_start_offset(skb);
	u32 header = skb_tcp_all_headers(skb);
	u32 mss = skb_shinfo(skb)->gso_size;

	if (unlikely(!skb_is_gso_tcp(skb) ||
		     start != skb_transport_offset(skb) ||
		     header + mss > LABNIC_FRAME_MAX ||
		     header >= skb->len || skb->len > LABNIC_TSO_MAX))
		return -EINVAL;

	buf->offload = FIELD_PREP(LABNIC_TX_DESC_FLAGS_OFFLOAD,
				  LABNIC_OFFLOAD_TSO) |
		       FIELD_PREP(LABNIC_TX_DESC_FLAGS_CSUM_START, start) |
		       FIELD_PREP(LABNIC_TX_DESC_FLAGS_CSUM_OFFSET,
				  offsetof(struct tcphdr, check));
	if (skb_shinfo(skb)->gso_type & SKB_GSO_TCP_FIXEDID)
		buf->offload |= LABNIC_TX_DESC_FLAGS_FIXED_ID;
	buf->mss = mss;
	buf->packets = DIV_ROUND_UP(skb->len - header, mss);
	buf->bytes += (buf->packets - 1) * header;
	return 0;
}

/*
 * Tell the device what is left to do to @skb, by @buf. No protocol has its
 * checksum too far from its beginning for that; a packet socket may say so.
 */
int labnic_offload_tx(struct sk_buff *skb, struct labnic_tx_buf *buf)
{
	u32 start = skb_checksum_start_offset(skb);
	u32 offset = skb->csum_offset;

	if (skb_is_gso(skb))
		return labnic_offload_tso(skb, buf);

	if (unlikely(offset > FIELD_MAX(LABNIC_TX_DESC_FLAGS_CSUM_OFFSET) ||
		     start > FIELD_MAX(LABNIC_TX_DESC_FLAGS_CSUM_START)))
		return skb_checksum_help(skb);

	buf->offload = FIELD_PREP(LABNIC_TX_DESC_FLAGS_OFFLOAD,
				  LABNIC_OFFLOAD_CSUM) |
		       FIELD_PREP(LABNIC_TX_DESC_FLAGS_CSUM_START, start) |
		       FIELD_PREP(LABNIC_TX_DESC_FLAGS_CSUM_OFFSET, offset);
	return 0;
}
