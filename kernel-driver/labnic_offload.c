// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is done to packets by the device in place of the stack. The other end
 * is the file of this name in qemu-device/.
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

/*
 * @skb, its Ethernet header in front, is several segments, as @coalesced says:
 * make of it what the stack would have made of them. Returns how many they are,
 * and what they had in @bytes, or an error when that cannot be.
 */
int labnic_offload_rx(struct sk_buff *skb, u32 coalesced, u32 *bytes)
{
	u32 start = FIELD_GET(LABNIC_RX_CMPL_COALESCED_TCP_START, coalesced);
	u32 mss = FIELD_GET(LABNIC_RX_CMPL_COALESCED_MSS, coalesced);
	struct skb_shared_info *shinfo = skb_shinfo(skb);
	const struct tcphdr *tcp;
	u32 header, segs;

	if (start < ETH_HLEN || start + sizeof(*tcp) > skb_headlen(skb))
		return -EINVAL;
	tcp = (struct tcphdr *)(skb->data + start);
	header = start + __tcp_hdrlen(tcp);
	if (__tcp_hdrlen(tcp) < sizeof(*tcp) || !mss ||
	    header + mss > LABNIC_FRAME_MAX || header + mss >= skb->len)
		return -EINVAL;

	/* The sum of the pseudo header is there, as in a frame to be cut. */
	if (!skb_partial_csum_set(skb, start, offsetof(struct tcphdr, check)))
		return -EINVAL;
	segs = DIV_ROUND_UP(skb->len - header, mss);
	shinfo->gso_size = mss;
	shinfo->gso_segs = segs;
	/* Whoever cuts it again is to look at the headers himself. */
	shinfo->gso_type = SKB_GSO_DODGY;
	shinfo->gso_type |= coalesced & LABNIC_RX_CMPL_COALESCED_IPV6 ?
			    SKB_GSO_TCPV6 : SKB_GSO_TCPV4;
	if (tcp->cwr)
		shinfo->gso_type |= SKB_GSO_TCP_ECN;

	*bytes = skb->len + (segs - 1) * header;
	return segs;
}

/* What of its features the device is to use, by those of the interface. */
void labnic_offload_program(struct labnic *nic, netdev_features_t features)
{
	u32 used = nic->features;

	if (!(features & NETIF_F_GRO_HW))
		used &= ~LABNIC_FEATURE_RX_GRO;
	labnic_write(nic, LABNIC_REG_DRV_FEATURES, used);
}

/* The other features are looked at with each packet. */
int labnic_set_features(struct net_device *netdev, netdev_features_t features)
{
	struct labnic *nic = netdev_priv(netdev);

	if (nic->started)
		labnic_offload_program(nic, features);
	return 0;
}
