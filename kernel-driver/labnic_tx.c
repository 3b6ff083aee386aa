// SPDX-License-Identifier: GPL-2.0-only
/*
 * Transmit rings. The other end is the file of this name in
 * qemu-device/.
 *
 * A frame is one descriptor for each of its pieces. The word with the phase
 * bit of its first descriptor is written last, so that the device finds the
 * frame whole or not at all, whenever it looks.
 */
#include <linux/dma-mapping.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>

#include "labnic.h"

static u32 labnic_tx_avail(const struct labnic_tx_ring *tx)
{
	return tx->size - (READ_ONCE(tx->next) - READ_ONCE(tx->clean));
}

/* Waking for less than two frames' worth would only stop again at once. */
static u32 labnic_tx_wake_at(const struct labnic_tx_ring *tx)
{
	return min_t(u32, 2 * LABNIC_TX_STOP, tx->size);
}

static struct netdev_queue *labnic_txq(const struct labnic_queue *queue)
{
	return netdev_get_tx_queue(queue->nic->netdev, queue->index);
}

static void labnic_tx_unmap(const struct labnic_tx_ring *tx, u32 index)
{
	struct labnic_tx_buf *buf = &tx->bufs[index & (tx->size - 1)];

	if (buf->is_frag)
		dma_unmap_page(tx->dev, buf->dma, buf->len, DMA_TO_DEVICE);
	else
		dma_unmap_single(tx->dev, buf->dma, buf->len, DMA_TO_DEVICE);
}

/* Tell the device what it does not know of yet, if it wants to be told. */
static void labnic_tx_kick(struct labnic_tx_ring *tx)
{
	u32 old = tx->kicked;
	u32 event;

	if (old == tx->next)
		return;
	tx->kicked = tx->next;

	/*
	 * The descriptors are out before the event is read. The device sets
	 * the event, and then looks for descriptors again.
	 */
	mb();
	event = le32_to_cpu(READ_ONCE(tx->status->tx_doorbell_event));
	if (labnic_passed(old, tx->next, event))
		writel(tx->next, tx->doorbell);
}

/* Inline, as is what follows for a frame's first: it may be its last, too. */
static inline struct labnic_tx_desc *
labnic_tx_fill_desc(struct labnic_tx_ring *tx, u32 index, u32 mss)
{
	struct labnic_tx_desc *desc = &tx->desc[index & (tx->size - 1)];
	struct labnic_tx_buf *buf = &tx->bufs[index & (tx->size - 1)];

	desc->addr_lo = cpu_to_le32(lower_32_bits(buf->dma));
	desc->addr_hi = cpu_to_le32(upper_32_bits(buf->dma));
	desc->len = cpu_to_le32(FIELD_PREP(LABNIC_TX_DESC_LEN_BYTES, buf->len) |
				FIELD_PREP(LABNIC_TX_DESC_LEN_MSS, mss));
	return desc;
}

static inline u32 labnic_tx_flags(struct labnic_tx_ring *tx, u32 index,
				  bool last)
{
	return FIELD_PREP(LABNIC_TX_DESC_FLAGS_PHASE,
			  labnic_phase(index, tx->size)) |
	       FIELD_PREP(LABNIC_TX_DESC_FLAGS_EOP, last);
}

/* The descriptors of a frame behind its first. */
static void labnic_tx_fill_rest(struct labnic_tx_ring *tx, u32 index, u32 last)
{
	struct labnic_tx_desc *desc;

	for (; index != last + 1; index++) {
		desc = labnic_tx_fill_desc(tx, index, 0);
		desc->flags = cpu_to_le32(labnic_tx_flags(tx, index,
							  index == last));
	}
}

/*
 * Write the descriptors of the frame whose pieces stand in tx->bufs from
 * tx->next on, and give them to the device.
 */
static inline void labnic_tx_publish(struct labnic_tx_ring *tx, u32 n_desc)
{
	struct labnic_tx_buf *buf = &tx->bufs[tx->next & (tx->size - 1)];
	u32 first = tx->next, last = first + n_desc - 1;
	struct labnic_tx_desc *head;
	u32 flags;

	head = labnic_tx_fill_desc(tx, first, buf->mss);
	if (last != first)
		labnic_tx_fill_rest(tx, first + 1, last);
	flags = labnic_tx_flags(tx, first, last == first) | buf->offload;

	/*
	 * The device may consume the frame as soon as the flags are there;
	 * who sees it consumed must see that it was published.
	 */
	WRITE_ONCE(tx->next, last + 1);
	dma_wmb();
	WRITE_ONCE(head->flags, cpu_to_le32(flags));
}

static int labnic_tx_map_one(struct labnic_tx_ring *tx, u32 index,
			     dma_addr_t dma, u32 len, bool is_frag)
{
	struct labnic_tx_buf *buf = &tx->bufs[index & (tx->size - 1)];

	if (unlikely(dma_mapping_error(tx->dev, dma)))
		return -ENOMEM;

	buf->skb = NULL;
	buf->dma = dma;
	buf->len = len;
	buf->is_frag = is_frag;
	return 0;
}

/* Map the pieces of @skb into tx->bufs. Returns how many, or an error. */
static int labnic_tx_map(struct labnic_tx_ring *tx, struct sk_buff *skb)
{
	u32 first = tx->next, index = first;
	struct labnic_tx_buf *buf;
	dma_addr_t dma;
	u32 i, len;

	if (unlikely(skb_shinfo(skb)->nr_frags >= LABNIC_TX_FRAGS_MAX) &&
	    skb_linearize(skb))
		return -ENOMEM;

	len = skb_headlen(skb);
	dma = dma_map_single(tx->dev, skb->data, len, DMA_TO_DEVICE);
	if (labnic_tx_map_one(tx, index, dma, len, false))
		return -ENOMEM;
	index++;

	for (i = 0; i < skb_shinfo(skb)->nr_frags; i++) {
		const skb_frag_t *frag = &skb_shinfo(skb)->frags[i];

		/* A descriptor of no bytes would stop the queue. */
		len = skb_frag_size(frag);
		if (unlikely(!len))
			continue;

		dma = skb_frag_dma_map(tx->dev, frag, 0, len, DMA_TO_DEVICE);
		if (labnic_tx_map_one(tx, index, dma, len, true))
			goto unwind;
		index++;
	}

	buf = &tx->bufs[first & (tx->size - 1)];
	buf->skb = skb;
	buf->n_desc = index - first;
	return index - first;

unwind:
	while (index != first)
		labnic_tx_unmap(tx, --index);
	return -ENOMEM;
}

/* Where in tx->copies the room is that goes with a descriptor. */
static u32 labnic_tx_room(const struct labnic_tx_ring *tx, u32 index)
{
	return (index & (tx->size - 1)) * LABNIC_TX_COPY_MAX;
}

/*
 * Copy the bytes of @skb, of which nobody needs more then. For few of them it
 * is less work than to map and unmap them, and to free the skb later. Returns
 * how many descriptors that takes, as labnic_tx_map() does.
 */
static int labnic_tx_copy(struct labnic_tx_ring *tx, const struct sk_buff *skb)
{
	struct labnic_tx_buf *buf = &tx->bufs[tx->next & (tx->size - 1)];
	u32 room = labnic_tx_room(tx, tx->next);

	buf->skb = NULL;
	buf->dma = tx->copies_dma + room;
	buf->len = skb->len;
	buf->n_desc = 1;
	if (likely(!skb_is_nonlinear(skb)))
		skb_copy_from_linear_data(skb, tx->copies + room, buf->len);
	else
		skb_copy_bits(skb, 0, tx->copies + room, buf->len);
	return 1;
}

/*
 * Can @skb be sent as it is, or be made so? What the device has to do to it
 * comes to @buf, its first.
 */
static bool labnic_tx_prepare(struct sk_buff *skb, struct labnic_tx_buf *buf)
{
	buf->offload = 0;
	buf->mss = 0;
	buf->packets = 1;
	buf->bytes = skb->len;
	if (unlikely(!pskb_may_pull(skb, LABNIC_FRAME_MIN)))
		return false;
	if (skb->ip_summed == CHECKSUM_PARTIAL &&
	    unlikely(labnic_offload_tx(skb, buf)))
		return false;
	/* Lengths of pieces have 16 bits; no frame to cut is longer, either. */
	return likely(skb->len <= LABNIC_FRAME_MAX || buf->mss);
}

/* Under the xmit lock, or with the queue halted. */
static void labnic_tx_count_drop(struct labnic_queue *queue)
{
	struct labnic_tx_stats *stats = &queue->tx_stats;

	u64_stats_update_begin(&stats->xmit_syncp);
	u64_stats_inc(&stats->dropped);
	u64_stats_update_end(&stats->xmit_syncp);
}

netdev_tx_t labnic_start_xmit(struct sk_buff *skb, struct net_device *netdev)
{
	struct labnic *nic = netdev_priv(netdev);
	u16 index = skb_get_queue_mapping(skb);
	struct netdev_queue *txq = netdev_get_tx_queue(netdev, index);
	struct labnic_queue *queue = &nic->queues[index];
	struct labnic_rings *rings = queue->rings;
	struct labnic_tx_ring *tx;
	struct labnic_tx_buf *buf;
	bool kick, copy;
	int n;

	BUILD_BUG_ON(LABNIC_TX_STOP > LABNIC_RING_MIN);
	BUILD_BUG_ON(LABNIC_TX_STOP > LABNIC_TX_FRAGS_MAX);

	/* A sender may name a queue that is not in use, as pktgen does. */
	if (unlikely(!rings)) {
		dev_kfree_skb_any(skb);
		labnic_tx_count_drop(queue);
		return NETDEV_TX_OK;
	}
	tx = &rings->tx;

	/*
	 * The queue is stopped while a frame of the most pieces might not
	 * fit, so this is a bug: leave the skb alone.
	 */
	if (unlikely(!netif_txq_maybe_stop(txq, labnic_tx_avail(tx),
					   LABNIC_TX_STOP,
					   labnic_tx_wake_at(tx)))) {
		labnic_tx_kick(tx);
		return NETDEV_TX_BUSY;
	}

	buf = &tx->bufs[tx->next & (tx->size - 1)];
	if (unlikely(!labnic_tx_prepare(skb, buf)))
		goto drop;
	copy = skb->len <= READ_ONCE(nic->tx_copybreak);
	n = copy ? labnic_tx_copy(tx, skb) : labnic_tx_map(tx, skb);
	if (unlikely(n < 0))
		goto drop;

	skb_tx_timestamp(skb);

	/* Once published the frame may be gone: account for it before. */
	kick = __netdev_tx_sent_queue(txq, buf->bytes, netdev_xmit_more());
	labnic_tx_publish(tx, n);

	if (!netif_txq_maybe_stop(txq, labnic_tx_avail(tx), LABNIC_TX_STOP,
				  labnic_tx_wake_at(tx))) {
		u64_stats_update_begin(&queue->tx_stats.xmit_syncp);
		u64_stats_inc(&queue->tx_stats.stops);
		u64_stats_update_end(&queue->tx_stats.xmit_syncp);
		kick = true;
	}
	/* Somebody waits for room, here or in the stack: with no frame more. */
	if (unlikely(netif_xmit_stopped(txq)))
		WRITE_ONCE(tx->status->tx_irq_hold, 0);
	if (kick)
		labnic_tx_kick(tx);
	if (copy)
		dev_consume_skb_any(skb);
	return NETDEV_TX_OK;

drop:
	dev_kfree_skb_any(skb);
	labnic_tx_count_drop(queue);
	/* The burst may end here: its doorbell was left to this frame. */
	if (!netdev_xmit_more())
		labnic_tx_kick(tx);
	return NETDEV_TX_OK;
}

/* Unmap the frame whose first descriptor is @first, if it is mapped. */
static struct sk_buff *labnic_tx_take(struct labnic_tx_ring *tx, u32 first)
{
	struct labnic_tx_buf *buf = &tx->bufs[first & (tx->size - 1)];
	struct sk_buff *skb = buf->skb;
	u32 i;

	if (!skb)
		return NULL;
	for (i = 0; i < buf->n_desc; i++)
		labnic_tx_unmap(tx, first + i);
	buf->skb = NULL;
	return skb;
}

/*
 * Free the frames before @consumed, which the device has sent. Returns how
 * many they were on the wire, and their bytes.
 */
static u32 labnic_tx_complete(struct labnic_rings *rings, u32 consumed,
			      u32 *bytes, int budget)
{
	struct labnic_tx_stats *stats = &rings->queue->tx_stats;
	struct labnic_tx_ring *tx = &rings->tx;
	u32 clean = tx->clean, packets = 0;

	*bytes = 0;
	while (clean != consumed) {
		struct labnic_tx_buf *buf = &tx->bufs[clean & (tx->size - 1)];

		/* Half a frame is not consumed, whatever the device says. */
		if (unlikely(buf->n_desc > consumed - clean))
			break;
		packets += buf->packets;
		*bytes += buf->bytes;
		if (buf->skb)
			napi_consume_skb(labnic_tx_take(tx, clean), budget);
		clean += buf->n_desc;
	}
	/* Who sees the room may fill it: nothing there is read after this. */
	smp_store_release(&tx->clean, clean);

	if (packets) {
		u64_stats_update_begin(&stats->syncp);
		u64_stats_add(&stats->packets, packets);
		u64_stats_add(&stats->bytes, *bytes);
		u64_stats_update_end(&stats->syncp);
	}
	return packets;
}

/* The device wrote what cannot be: trust nothing more until it is reset. */
static void labnic_tx_nonsense(struct labnic_rings *rings)
{
	struct labnic *nic = rings->queue->nic;

	rings->tx.broken = true;
	if (net_ratelimit())
		netdev_err(nic->netdev, "TX queue %u: impossible completion\n",
			   rings->queue->index);
	labnic_schedule_reset(nic);
}

/* Under NAPI; with interrupts off and a budget of zero under netpoll. */
void labnic_tx_clean(struct labnic_rings *rings, int budget)
{
	struct netdev_queue *txq = labnic_txq(rings->queue);
	struct labnic_tx_ring *tx = &rings->tx;
	u32 consumed, packets, bytes;

	if (unlikely(tx->broken))
		return;

	consumed = le32_to_cpu(READ_ONCE(tx->status->tx_consumed));
	/* Whoever sees a frame consumed sees it published, in this order. */
	dma_rmb();
	if (unlikely(consumed - tx->clean > READ_ONCE(tx->next) - tx->clean)) {
		labnic_tx_nonsense(rings);
		return;
	}

	packets = labnic_tx_complete(rings, consumed, &bytes, budget);
	if (unlikely(tx->clean != consumed))
		labnic_tx_nonsense(rings);
	if (packets)
		netif_txq_completed_wake(txq, packets, bytes,
					 labnic_tx_avail(tx),
					 labnic_tx_wake_at(tx));
}

/*
 * Ask for an interrupt when all that is published has been consumed: one at
 * the end of a burst. When nothing is, for the first frame that comes.
 */
void labnic_tx_arm(struct labnic_rings *rings)
{
	bool stopped = netif_xmit_stopped(labnic_txq(rings->queue));
	struct labnic_tx_ring *tx = &rings->tx;
	u32 event = READ_ONCE(tx->next);

	if (event != tx->clean)
		event--;
	WRITE_ONCE(tx->status->tx_irq_hold,
		   stopped ? 0 : READ_ONCE(rings->queue->nic->tx_hold));
	WRITE_ONCE(tx->status->tx_irq_event, cpu_to_le32(event));
}

/* An event that was passed is not passed again. */
void labnic_tx_disarm(struct labnic_rings *rings)
{
	struct labnic_tx_ring *tx = &rings->tx;

	WRITE_ONCE(tx->status->tx_irq_event, cpu_to_le32(tx->clean - 1));
}

/* Is there something for labnic_tx_clean() to do? */
bool labnic_tx_pending(struct labnic_rings *rings)
{
	struct labnic_tx_ring *tx = &rings->tx;

	return !tx->broken &&
	       le32_to_cpu(READ_ONCE(tx->status->tx_consumed)) != tx->clean;
}

int labnic_tx_alloc(struct labnic_rings *rings, u32 size)
{
	struct labnic_queue *queue = rings->queue;
	struct labnic_tx_ring *tx = &rings->tx;
	struct labnic *nic = queue->nic;

	tx->dev = &nic->pdev->dev;
	tx->size = size;
	tx->status = rings->status;
	tx->doorbell = nic->regs + LABNIC_REG_TX_DOORBELL(queue->index);

	tx->bufs = kvcalloc(size, sizeof(*tx->bufs), GFP_KERNEL);
	if (!tx->bufs)
		return -ENOMEM;

	tx->desc = dma_alloc_coherent(tx->dev, size * sizeof(*tx->desc),
				      &tx->dma, GFP_KERNEL);
	if (!tx->desc)
		goto free_bufs;

	/* A megabyte in one piece for the largest ring: it may well fail. */
	tx->copies = dma_alloc_coherent(tx->dev, size * LABNIC_TX_COPY_MAX,
					&tx->copies_dma,
					GFP_KERNEL | __GFP_NOWARN);
	if (!tx->copies)
		goto free_desc;
	return 0;

free_desc:
	dma_free_coherent(tx->dev, size * sizeof(*tx->desc), tx->desc, tx->dma);
free_bufs:
	kvfree(tx->bufs);
	tx->bufs = NULL;
	return -ENOMEM;
}

/* Drop the frame at tx->clean, which the device has not sent. */
static void labnic_tx_drop(struct labnic_rings *rings)
{
	struct labnic_tx_ring *tx = &rings->tx;
	u32 first = tx->clean;

	dev_kfree_skb_any(labnic_tx_take(tx, first));
	tx->clean += tx->bufs[first & (tx->size - 1)].n_desc;
	labnic_tx_count_drop(rings->queue);
}

/* With the queue halted: what is still in the ring is dropped, and counted. */
void labnic_tx_purge(struct labnic_rings *rings)
{
	while (rings->tx.clean != rings->tx.next)
		labnic_tx_drop(rings);
}

/* What is still in the ring is dropped; the queue is halted then. */
void labnic_tx_free(struct labnic_rings *rings)
{
	struct labnic_tx_ring *tx = &rings->tx;

	labnic_tx_purge(rings);
	dma_free_coherent(tx->dev, tx->size * LABNIC_TX_COPY_MAX, tx->copies,
			  tx->copies_dma);
	dma_free_coherent(tx->dev, tx->size * sizeof(*tx->desc), tx->desc,
			  tx->dma);
	kvfree(tx->bufs);
}

/* Tell the device of the ring. The queue is disabled. */
void labnic_tx_program(struct labnic_rings *rings)
{
	struct labnic_queue *queue = rings->queue;
	struct labnic_tx_ring *tx = &rings->tx;
	struct labnic *nic = queue->nic;

	labnic_write64(nic, LABNIC_REG_TX_BASE(queue->index), tx->dma);
	labnic_write(nic, LABNIC_REG_TX_SIZE(queue->index), tx->size);
}

/* Did the frame at the head of the queue stop it? It would do so again. */
static bool labnic_tx_blames_frame(u32 error)
{
	switch (error) {
	case LABNIC_ERR_DMA_READ:
	case LABNIC_ERR_DESC_RESERVED:
	case LABNIC_ERR_DESC_LEN:
	case LABNIC_ERR_FRAME_SHORT:
	case LABNIC_ERR_FRAME_LONG:
	case LABNIC_ERR_FRAGS:
	case LABNIC_ERR_INCOMPLETE:
	case LABNIC_ERR_OFFLOAD:
	case LABNIC_ERR_CSUM_PLACE:
	case LABNIC_ERR_TSO_HEADER:
	case LABNIC_ERR_TSO_MSS:
		return true;
	default:
		return false;
	}
}

/*
 * End all DMA of the queue, free what was sent, and note what was not. The
 * device does not send any more, NAPI and the xmit path are stopped. Returns
 * whether the device says that it has ended.
 */
bool labnic_tx_stop(struct labnic_rings *rings)
{
	struct labnic_queue *queue = rings->queue;
	struct labnic_tx_ring *tx = &rings->tx;
	struct labnic *nic = queue->nic;
	u32 error, bytes, ctrl;

	/* The register is right even where completions are late or lost. */
	tx->final = labnic_read(nic, LABNIC_REG_TX_HEAD(queue->index));
	error = FIELD_GET(LABNIC_TX_STATUS_ERROR,
			  labnic_read(nic, LABNIC_REG_TX_STATUS(queue->index)));

	labnic_write(nic, LABNIC_REG_TX_CTRL(queue->index), 0);
	/* Read back: the write has ended, and with it the DMA. */
	ctrl = labnic_read(nic, LABNIC_REG_TX_CTRL(queue->index));

	if (labnic_gone(nic) || tx->final - tx->clean > tx->next - tx->clean)
		tx->final = tx->clean;
	tx->failed = !labnic_gone(nic) && labnic_tx_blames_frame(error);

	/* Nothing polls, and a budget of zero says so; nothing is woken. */
	labnic_tx_complete(rings, tx->final, &bytes, 0);
	return !(ctrl & LABNIC_TX_CTRL_ENABLE);
}

/* A copy stays with its descriptor: have it where its frame goes. */
static void labnic_tx_move_copy(struct labnic_tx_ring *tx,
				const struct labnic_tx_ring *from)
{
	struct labnic_tx_buf *buf = &tx->bufs[tx->next & (tx->size - 1)];
	u32 room = labnic_tx_room(tx, tx->next);

	memcpy(tx->copies + room,
	       from->copies + labnic_tx_room(from, from->clean), buf->len);
	buf->dma = tx->copies_dma + room;
}

/*
 * Move the frames that @old has not sent to @rings, in their order, so that
 * none is lost and none is sent twice. One that the device refused is dropped:
 * it would be refused again. So are those that the new ring has no room for.
 * Of a frame that the device was cutting all segments are sent again.
 * @rings are in their place: the bytes in flight are counted from zero.
 */
void labnic_tx_inherit(struct labnic_rings *rings, struct labnic_rings *old)
{
	struct netdev_queue *txq = labnic_txq(rings->queue);
	struct labnic_tx_ring *from = &old->tx;
	struct labnic_tx_ring *tx = &rings->tx;

	if (from->failed && from->clean != from->next)
		labnic_tx_drop(old);

	while (from->clean != from->next) {
		u32 mask = from->size - 1;
		struct labnic_tx_buf *buf;
		u32 i, n_desc;

		buf = &from->bufs[from->clean & mask];
		n_desc = buf->n_desc;
		if (n_desc > labnic_tx_avail(tx))
			break;

		netdev_tx_sent_queue(txq, buf->bytes);
		for (i = 0; i < n_desc; i++)
			tx->bufs[tx->next + i] =
				from->bufs[(from->clean + i) & mask];
		if (!buf->skb)
			labnic_tx_move_copy(tx, from);
		labnic_tx_publish(tx, n_desc);
		buf->skb = NULL;
		from->clean += n_desc;
	}
}

/* Let the stack send again, and the device know of what was inherited. */
void labnic_tx_resume(struct labnic_rings *rings)
{
	struct netdev_queue *txq = labnic_txq(rings->queue);
	struct labnic_tx_ring *tx = &rings->tx;

	__netif_tx_lock_bh(txq);
	txq_trans_cond_update(txq);
	labnic_tx_kick(tx);
	if (labnic_tx_avail(tx) >= labnic_tx_wake_at(tx))
		netif_tx_wake_queue(txq);
	__netif_tx_unlock_bh(txq);
}
