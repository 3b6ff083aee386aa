// SPDX-License-Identifier: GPL-2.0-only
/*
 * Receive rings. The other end is the file of this name in
 * qemu-device/.
 *
 * The device takes buffers in the order of the buffer ring, so that completion
 * number n is about buffer number n, and its ID is that of the slot. All that
 * a completion says is checked before it is used: memory that a device writes
 * is not to be trusted.
 */
#include <linux/dma-mapping.h>
#include <linux/netdevice.h>
#include <linux/prefetch.h>
#include <linux/skbuff.h>

#include "labnic.h"

/* Buffers are published in such batches: one barrier, at most one doorbell. */
#define LABNIC_RX_BATCH		16

/*
 * A queue is busy when a tick of the kernel's clock brings so many frames. At
 * this rate one that waits for others has company soon, and below it nobody
 * who sends one at a time is made to wait.
 */
#define LABNIC_RX_BUSY		DIV_ROUND_UP(20000, HZ)

/* A page holds headroom, the bytes, and what build_skb needs at the end. */
#define LABNIC_RX_HEADROOM	(NET_SKB_PAD + NET_IP_ALIGN)
#define LABNIC_RX_TAILROOM	SKB_DATA_ALIGN(sizeof(struct skb_shared_info))
#define LABNIC_RX_BYTES		min_t(u32, U16_MAX, \
	(PAGE_SIZE - LABNIC_RX_HEADROOM - LABNIC_RX_TAILROOM) & ~63UL)

/*
 * With fewer buffers than this out the poll does not rest: a frame that needs
 * more than there are would wait for ever.
 */
#define LABNIC_RX_LOW		DIV_ROUND_UP(LABNIC_TSO_MAX, LABNIC_RX_BYTES)

static u32 labnic_rx_posted(const struct labnic_rx_ring *rx)
{
	return rx->fill - rx->next;
}

/*
 * Put pages into the free slots of the buffer ring. Returns false when there
 * was no memory for one of them.
 */
static bool labnic_rx_refill(struct labnic_rings *rings, gfp_t gfp)
{
	struct labnic_rx_ring *rx = &rings->rx;
	u32 mask = rx->size - 1, end = rx->next + rx->size;
	u32 fill;

	for (fill = rx->fill; fill != end; fill++) {
		struct labnic_rx_buf *buf = &rx->buf[fill & mask];
		struct page *page;
		dma_addr_t dma;

		page = page_pool_alloc_pages(rx->pool, gfp | __GFP_NOWARN);
		if (unlikely(!page))
			break;
		rx->pages[fill & mask] = page;

		dma = page_pool_get_dma_addr(page) + LABNIC_RX_HEADROOM;
		buf->addr_lo = cpu_to_le32(lower_32_bits(dma));
		buf->addr_hi = cpu_to_le32(upper_32_bits(dma));
		buf->len_id = cpu_to_le32(FIELD_PREP(LABNIC_RX_BUF_LEN_ID_BYTES,
						     LABNIC_RX_BYTES) |
					  FIELD_PREP(LABNIC_RX_BUF_LEN_ID_ID,
						     fill & mask));
		/* The buffer is whole before it is the device's. */
		dma_wmb();
		WRITE_ONCE(buf->flags,
			   cpu_to_le32(labnic_phase(fill, rx->size)));
	}
	rx->fill = fill;
	return fill == end;
}

/* Tell the device of new buffers, if it has run out of them. */
static void labnic_rx_kick(struct labnic_rx_ring *rx)
{
	u32 old = rx->kicked;
	u32 event;

	if (old == rx->fill)
		return;
	rx->kicked = rx->fill;

	/*
	 * The buffers are out before the event is read. The device sets the
	 * event, and then looks for buffers again.
	 */
	mb();
	event = le32_to_cpu(READ_ONCE(rx->status->rx_doorbell_event));
	if (labnic_passed(old, rx->fill, event))
		writel(rx->fill, rx->doorbell);
}

/* Add one to @counter, which is one of @rings' queue's. */
static void labnic_rx_count(struct labnic_rings *rings, u64_stats_t *counter)
{
	struct labnic_rx_stats *stats = &rings->queue->rx_stats;

	u64_stats_update_begin(&stats->syncp);
	u64_stats_inc(counter);
	u64_stats_update_end(&stats->syncp);
}

/* The device wrote what it may not: trust nothing more until it is reset. */
static void labnic_rx_nonsense(struct labnic_rings *rings, const char *what)
{
	struct labnic *nic = rings->queue->nic;

	rings->rx.broken = true;
	labnic_rx_count(rings, &rings->queue->rx_stats.errors);
	if (net_ratelimit())
		netdev_err(nic->netdev, "RX queue %u: %s\n",
			   rings->queue->index, what);
	labnic_schedule_reset(nic);
}

static void labnic_rx_set_hash(struct labnic_rx_ring *rx, struct sk_buff *skb,
			       u32 hash, u32 flags)
{
	enum pkt_hash_types type;

	if (!(skb->dev->features & NETIF_F_RXHASH))
		return;

	switch (FIELD_GET(LABNIC_RX_CMPL_FLAGS_HASH_TYPE, flags)) {
	case LABNIC_HASH_TCPV4:
	case LABNIC_HASH_UDPV4:
	case LABNIC_HASH_TCPV6:
	case LABNIC_HASH_UDPV6:
		type = PKT_HASH_TYPE_L4;
		break;
	case LABNIC_HASH_IPV4:
	case LABNIC_HASH_IPV6:
		type = PKT_HASH_TYPE_L3;
		break;
	default:
		return;
	}
	skb_set_hash(skb, hash, type);
}

/* One that is bad the stack finds out, and counts, itself. */
static void labnic_rx_set_csum(struct sk_buff *skb, u32 flags)
{
	if (FIELD_GET(LABNIC_RX_CMPL_FLAGS_VERDICT, flags) ==
	    LABNIC_VERDICT_GOOD && skb->dev->features & NETIF_F_RXCSUM)
		skb->ip_summed = CHECKSUM_UNNECESSARY;
}

/* The first buffer of a frame becomes an skb. */
static struct sk_buff *labnic_rx_build(struct labnic_rings *rings,
				       struct page *page, u32 len)
{
	struct sk_buff *skb;

	net_prefetch(page_address(page) + LABNIC_RX_HEADROOM);
	skb = napi_build_skb(page_address(page), PAGE_SIZE);
	if (unlikely(!skb)) {
		page_pool_recycle_direct(rings->rx.pool, page);
		labnic_rx_count(rings, &rings->queue->rx_stats.dropped);
		return NULL;
	}
	skb_reserve(skb, LABNIC_RX_HEADROOM);
	__skb_put(skb, len);	/* labnic_rx_len_ok() has seen to the room */
	skb_mark_for_recycle(skb);
	skb->dev = rings->napi.dev;
	return skb;
}

/* Can @len bytes more belong to the frame that is being put together? */
static bool labnic_rx_len_ok(const struct labnic_rx_ring *rx, u32 len)
{
	const struct sk_buff *skb = rx->skb;

	if (!len || len > LABNIC_RX_BYTES)
		return false;
	if (rx->dropping)
		return true;
	if (!skb)
		return len >= LABNIC_FRAME_MIN && len <= LABNIC_FRAME_MAX;
	return skb->len + len <= LABNIC_TSO_MAX &&
	       skb_shinfo(skb)->nr_frags < MAX_SKB_FRAGS;
}

/*
 * Take the buffer of the completion at rx->next into the frame that is being
 * put together. Returns false when what the device wrote cannot be.
 */
static bool labnic_rx_take(struct labnic_rings *rings, u32 len_id)
{
	u32 len = FIELD_GET(LABNIC_RX_CMPL_LEN_ID_BYTES, len_id);
	u32 id = FIELD_GET(LABNIC_RX_CMPL_LEN_ID_ID, len_id);
	struct labnic_rx_ring *rx = &rings->rx;
	u32 slot = rx->next & (rx->size - 1);
	struct sk_buff *skb = rx->skb;
	struct page *page;

	if (unlikely(!labnic_rx_posted(rx))) {
		labnic_rx_nonsense(rings, "completion without a buffer");
		return false;
	}
	if (unlikely(id != slot)) {
		labnic_rx_nonsense(rings, "completion of a wrong buffer");
		return false;
	}
	if (unlikely(!labnic_rx_len_ok(rx, len))) {
		labnic_rx_nonsense(rings, "impossible length");
		return false;
	}

	page = rx->pages[slot];
	rx->pages[slot] = NULL;
	rx->next++;

	if (unlikely(rx->dropping)) {
		page_pool_recycle_direct(rx->pool, page);
		return true;
	}

	dma_sync_single_range_for_cpu(rx->dev, page_pool_get_dma_addr(page),
				      LABNIC_RX_HEADROOM, len,
				      DMA_FROM_DEVICE);
	if (!skb) {
		rx->skb = labnic_rx_build(rings, page, len);
		rx->dropping = !rx->skb;
	} else {
		skb_add_rx_frag(skb, skb_shinfo(skb)->nr_frags, page,
				LABNIC_RX_HEADROOM, len, PAGE_SIZE);
	}
	return true;
}

struct labnic_rx_sum {
	u32 packets;
	u32 bytes;
	u32 multicast;
};

/* A whole frame, as the last of its completions has it. */
struct labnic_rx_frame {
	u32 hash;
	u32 coalesced;
	u32 flags;
};

/*
 * The frame is complete: give it to the stack. Returns false when what the
 * device wrote cannot be.
 */
static bool labnic_rx_deliver(struct labnic_rings *rings,
			      const struct labnic_rx_frame *frame,
			      struct labnic_rx_sum *sum)
{
	struct labnic_rx_ring *rx = &rings->rx;
	struct sk_buff *skb = rx->skb;
	int segs = 1;
	u32 bytes;

	rx->skb = NULL;
	if (unlikely(rx->dropping)) {
		rx->dropping = false;
		return true;
	}

	bytes = skb->len;
	labnic_rx_set_csum(skb, frame->flags);
	if (unlikely(frame->coalesced))
		segs = labnic_offload_rx(skb, frame->coalesced, &bytes);
	else if (unlikely(skb->len > LABNIC_FRAME_MAX))
		segs = -EINVAL;
	if (unlikely(segs < 0)) {
		dev_kfree_skb_any(skb);
		labnic_rx_nonsense(rings, "impossible segments");
		return false;
	}

	sum->packets += segs;
	sum->bytes += bytes;
	labnic_rx_set_hash(rx, skb, frame->hash, frame->flags);
	skb_record_rx_queue(skb, rings->queue->index);
	skb->protocol = eth_type_trans(skb, skb->dev);
	if (skb->pkt_type == PACKET_MULTICAST)
		sum->multicast += segs;
	napi_gro_receive(&rings->napi, skb);
	return true;
}

static void labnic_rx_account(struct labnic_rings *rings,
			      const struct labnic_rx_sum *sum)
{
	struct labnic_rx_stats *stats = &rings->queue->rx_stats;

	if (!sum->packets)
		return;
	u64_stats_update_begin(&stats->syncp);
	u64_stats_add(&stats->packets, sum->packets);
	u64_stats_add(&stats->bytes, sum->bytes);
	u64_stats_add(&stats->multicast, sum->multicast);
	u64_stats_update_end(&stats->syncp);
}

static bool labnic_rx_ready(const struct labnic_rx_ring *rx, u32 flags)
{
	return FIELD_GET(LABNIC_RX_CMPL_FLAGS_PHASE, flags) ==
	       labnic_phase(rx->next, rx->size);
}

/*
 * Receive at most @budget frames. Returns how many, or @budget when the poll
 * must not rest. Never called with a budget of zero.
 */
int labnic_rx_poll(struct labnic_rings *rings, int budget)
{
	struct labnic_rx_ring *rx = &rings->rx;
	struct labnic_rx_sum sum = {};
	bool filled = true;
	int work = 0;

	if (unlikely(rx->broken))
		return 0;

	while (work < budget) {
		struct labnic_rx_frame frame;
		struct labnic_rx_cmpl *cmpl;
		u32 len_id;

		cmpl = &rx->cmpl[rx->next & (rx->size - 1)];
		frame.flags = le32_to_cpu(READ_ONCE(cmpl->flags));
		if (!labnic_rx_ready(rx, frame.flags))
			break;
		/* The other words were written before the phase. */
		dma_rmb();
		frame.hash = le32_to_cpu(READ_ONCE(cmpl->hash));
		frame.coalesced = le32_to_cpu(READ_ONCE(cmpl->coalesced));
		len_id = le32_to_cpu(READ_ONCE(cmpl->len_id));

		if (unlikely(!labnic_rx_take(rings, len_id)))
			break;
		if (!(frame.flags & LABNIC_RX_CMPL_FLAGS_EOP))
			continue;
		if (unlikely(!labnic_rx_deliver(rings, &frame, &sum)))
			break;
		work++;
	}
	labnic_rx_account(rings, &sum);
	rx->since += sum.packets;

	if (rx->size - labnic_rx_posted(rx) >= LABNIC_RX_BATCH) {
		filled = labnic_rx_refill(rings, GFP_ATOMIC);
		if (unlikely(!filled))
			labnic_rx_count(rings,
					&rings->queue->rx_stats.alloc_failed);
		labnic_rx_kick(rx);
	}
	if (unlikely(!filled && labnic_rx_posted(rx) < LABNIC_RX_LOW))
		return budget;
	return work;
}

/* Was the queue busy when it was last measured? */
static bool labnic_rx_busy(struct labnic_rx_ring *rx)
{
	unsigned long ticks = jiffies - rx->tick;

	if (ticks) {
		rx->busy = rx->since >= ticks * LABNIC_RX_BUSY;
		rx->since = 0;
		rx->tick += ticks;
	}
	return rx->busy;
}

/*
 * Ask for an interrupt when the next completion comes. It may wait for others
 * where many come, and not where frames come one by one.
 */
void labnic_rx_arm(struct labnic_rings *rings)
{
	struct labnic *nic = rings->queue->nic;
	struct labnic_rx_ring *rx = &rings->rx;
	bool hold = labnic_rx_busy(rx) || !READ_ONCE(nic->adaptive_rx);

	WRITE_ONCE(rx->status->rx_irq_hold, hold ? READ_ONCE(nic->rx_hold) : 0);
	WRITE_ONCE(rx->status->rx_irq_event, cpu_to_le32(rx->next));
}

/* An event that was passed is not passed again. */
void labnic_rx_disarm(struct labnic_rings *rings)
{
	struct labnic_rx_ring *rx = &rings->rx;

	WRITE_ONCE(rx->status->rx_irq_event, cpu_to_le32(rx->next - 1));
}

/* Is there something for labnic_rx_poll() to do? */
bool labnic_rx_pending(struct labnic_rings *rings)
{
	struct labnic_rx_ring *rx = &rings->rx;
	struct labnic_rx_cmpl *cmpl;

	cmpl = &rx->cmpl[rx->next & (rx->size - 1)];
	return !rx->broken &&
	       labnic_rx_ready(rx, le32_to_cpu(READ_ONCE(cmpl->flags)));
}

static int labnic_rx_create_pool(struct labnic_rings *rings)
{
	struct labnic_rx_ring *rx = &rings->rx;
	struct page_pool_params params = {
		.flags = PP_FLAG_DMA_MAP | PP_FLAG_DMA_SYNC_DEV,
		.pool_size = rx->size,
		.nid = dev_to_node(rx->dev),
		.dev = rx->dev,
		.dma_dir = DMA_FROM_DEVICE,
		.offset = LABNIC_RX_HEADROOM,
		.max_len = LABNIC_RX_BYTES,
	};
	struct page_pool *pool;

	labnic_pool_owner(&params, &rings->napi, rings->napi.dev);
	pool = page_pool_create(&params);
	if (IS_ERR(pool))
		return PTR_ERR(pool);
	rx->pool = pool;
	return 0;
}

static void labnic_rx_free_memory(struct labnic_rx_ring *rx)
{
	if (rx->cmpl)
		dma_free_coherent(rx->dev, rx->size * sizeof(*rx->cmpl),
				  rx->cmpl, rx->cmpl_dma);
	if (rx->buf)
		dma_free_coherent(rx->dev, rx->size * sizeof(*rx->buf),
				  rx->buf, rx->buf_dma);
	kvfree(rx->pages);
}

/* With the queue halted, or not started yet. */
void labnic_rx_free(struct labnic_rings *rings)
{
	struct labnic_rx_ring *rx = &rings->rx;
	u32 i;

	dev_kfree_skb_any(rx->skb);
	for (i = 0; i < rx->size; i++)
		if (rx->pages[i])
			page_pool_put_full_page(rx->pool, rx->pages[i], false);
	page_pool_destroy(rx->pool);
	labnic_rx_free_memory(rx);
}

/* The ring comes back full of buffers. */
int labnic_rx_alloc(struct labnic_rings *rings, u32 size)
{
	struct labnic_queue *queue = rings->queue;
	struct labnic_rx_ring *rx = &rings->rx;
	struct labnic *nic = queue->nic;
	int err = -ENOMEM;

	rx->dev = &nic->pdev->dev;
	rx->size = size;
	rx->status = rings->status;
	rx->doorbell = nic->regs + LABNIC_REG_RX_DOORBELL(queue->index);

	rx->pages = kvcalloc(size, sizeof(*rx->pages), GFP_KERNEL);
	if (!rx->pages)
		goto fail;
	rx->buf = dma_alloc_coherent(rx->dev, size * sizeof(*rx->buf),
				     &rx->buf_dma, GFP_KERNEL);
	if (!rx->buf)
		goto fail;
	rx->cmpl = dma_alloc_coherent(rx->dev, size * sizeof(*rx->cmpl),
				      &rx->cmpl_dma, GFP_KERNEL);
	if (!rx->cmpl)
		goto fail;
	err = labnic_rx_create_pool(rings);
	if (err)
		goto fail;

	if (!labnic_rx_refill(rings, GFP_KERNEL)) {
		labnic_rx_free(rings);
		return -ENOMEM;
	}
	return 0;

fail:
	labnic_rx_free_memory(rx);
	return err;
}

/* Tell the device of the rings. The queue is disabled. */
void labnic_rx_program(struct labnic_rings *rings)
{
	struct labnic_queue *queue = rings->queue;
	struct labnic_rx_ring *rx = &rings->rx;
	struct labnic *nic = queue->nic;

	labnic_write64(nic, LABNIC_REG_RX_BUF_BASE(queue->index), rx->buf_dma);
	labnic_write64(nic, LABNIC_REG_RX_CMPL_BASE(queue->index),
		       rx->cmpl_dma);
	labnic_write(nic, LABNIC_REG_RX_SIZE(queue->index), rx->size);
}

/* End all DMA of the queue. Returns whether the device says that it has. */
bool labnic_rx_stop(struct labnic_rings *rings)
{
	struct labnic_queue *queue = rings->queue;
	struct labnic *nic = queue->nic;

	labnic_write(nic, LABNIC_REG_RX_CTRL(queue->index), 0);
	/* Read back: the write has ended, and with it the DMA. */
	return !(labnic_read(nic, LABNIC_REG_RX_CTRL(queue->index)) &
		 LABNIC_RX_CTRL_ENABLE);
}
