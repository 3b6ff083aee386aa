/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Driver for the labnic Ethernet controller: what its files share.
 *
 * Locks, outermost first:
 *
 *   rtnl_lock         every change of what exists: rings, vectors, number of
 *                     queues, nic->running, nic->started
 *   addr_lock (BH)    nic->slot[], nic->rx_mode and the registers behind them
 *   xmit lock (BH)    one for each TX queue: the producer's part of its ring
 *   NAPI              one for each queue pair: the consumer's part of the TX
 *                     ring, the whole RX ring
 *   link_lock (irq)   reading LINK and setting the carrier are one step
 *   stats_lock (irq)  the copies of the device's counters
 */
#ifndef LABNIC_H
#define LABNIC_H

#include <linux/bitfield.h>
#include <linux/etherdevice.h>
#include <linux/if_vlan.h>
#include <linux/io.h>
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <linux/spinlock.h>
#include <linux/u64_stats_sync.h>
#include <linux/workqueue.h>

#include "labnic_compat.h"
#include "labnic_hw.h"

#define LABNIC_NAME		"labnic"

/* What this driver takes of DEV_FEATURES. */
#define LABNIC_FEATURES		(LABNIC_FEATURE_RSS | LABNIC_FEATURE_TX_CSUM | \
				 LABNIC_FEATURE_RX_CSUM | LABNIC_FEATURE_TSO | \
				 LABNIC_FEATURE_MODERATION | \
				 LABNIC_FEATURE_RX_GRO)

#define LABNIC_NETIF_F_TSO	(NETIF_F_TSO | NETIF_F_TSO6 | NETIF_F_TSO_ECN)

/*
 * Eight NAPI budgets: a burst of half a millisecond at 10 Gbit/s waits in the
 * ring while the CPU does something else, for two megabytes of pages.
 */
#define LABNIC_RING_DEFAULT	512

/*
 * An interrupt comes this long after the one before it, or when so much waits;
 * of receiving only while the queue is busy. What was sent may be more and wait
 * longer: nobody needs it, unless for room in the ring, and then none is held.
 */
#define LABNIC_HOLD_TX_USECS	512
#define LABNIC_HOLD_TX_FRAMES	256
#define LABNIC_HOLD_RX_USECS	256
#define LABNIC_HOLD_RX_FRAMES	32

/* The Ethernet header and one VLAN tag around an MTU. */
#define LABNIC_OVERHEAD		(ETH_HLEN + VLAN_HLEN)
#define LABNIC_MTU_MAX		(LABNIC_FRAME_MAX - LABNIC_OVERHEAD)

/* The most descriptors that a frame from the stack can need. */
#define LABNIC_TX_STOP		(MAX_SKB_FRAGS + 1)

struct labnic;
struct page_pool;

struct labnic_tx_stats {
	u64_stats_t packets;
	u64_stats_t bytes;
	struct u64_stats_sync syncp;

	/* Written under the xmit lock; the others by the poll. */
	u64_stats_t dropped;
	u64_stats_t stops;
	struct u64_stats_sync xmit_syncp;
};

struct labnic_rx_stats {
	u64_stats_t packets;
	u64_stats_t bytes;
	u64_stats_t multicast;
	u64_stats_t errors;
	u64_stats_t dropped;
	u64_stats_t alloc_failed;
	struct u64_stats_sync syncp;
};

/* Room for a frame of up to so many bytes goes with each TX descriptor. */
#define LABNIC_TX_COPY_MAX	256

/* What one descriptor sends; the part below counts in a frame's first only. */
struct labnic_tx_buf {
	dma_addr_t dma;
	u16 len;
	bool is_frag;

	u8 n_desc;
	u32 offload;	/* fields of the descriptor's flags */
	u16 mss;	/* zero but for a frame that the device cuts */
	u16 packets;	/* which it becomes on the wire */
	u32 bytes;	/* of all of them */
	struct sk_buff *skb;	/* NULL when it was copied */
};

struct labnic_tx_ring {
	/* The producer's, under the xmit lock. */
	struct labnic_tx_desc *desc;
	struct labnic_tx_buf *bufs;
	u8 *copies;	/* LABNIC_TX_COPY_MAX bytes for each descriptor */
	dma_addr_t copies_dma;
	struct labnic_status_block *status;
	void __iomem *doorbell;
	struct device *dev;
	u32 size;
	u32 next;	/* descriptors published, free running */
	u32 kicked;	/* value of next at the last doorbell decision */

	/* The consumer's, under NAPI. */
	u32 clean ____cacheline_aligned_in_smp;
	bool broken;	/* the device wrote nonsense; a reset is on its way */

	/* slow path follows */
	u32 final;	/* what the device had consumed when it was stopped */
	bool failed;	/* the frame at @final is what stopped the queue */
	dma_addr_t dma;
};

struct labnic_rx_ring {
	struct labnic_rx_cmpl *cmpl;
	struct labnic_rx_buf *buf;
	struct page **pages;
	struct page_pool *pool;
	struct sk_buff *skb;	/* a frame whose last buffer is still to come */
	struct labnic_status_block *status;
	void __iomem *doorbell;
	struct device *dev;
	u32 size;
	u32 next;	/* completions seen, free running */
	u32 fill;	/* buffers published, free running */
	u32 kicked;	/* value of fill at the last doorbell decision */
	unsigned long tick;	/* jiffies when the rate was last measured */
	u32 since;	/* frames since then */
	bool busy;	/* so fast that interrupts may wait for each other */
	bool dropping;	/* the rest of this frame is thrown away */
	bool broken;	/* the device wrote nonsense; a reset is on its way */

	/* slow path follows */
	dma_addr_t buf_dma;
	dma_addr_t cmpl_dma;
};

struct labnic_queue;

/*
 * All of a queue pair that is replaced as a whole when the size of the rings
 * or the number of queues changes, or when the device is reset.
 */
struct labnic_rings {
	struct napi_struct napi;
	struct labnic_queue *queue;
	struct labnic_tx_ring tx ____cacheline_aligned_in_smp;
	struct labnic_rx_ring rx ____cacheline_aligned_in_smp;

	/* slow path follows */
	struct labnic_status_block *status;
	dma_addr_t status_dma;
};

/* All of a queue pair that outlives its rings: the statistics above all. */
struct labnic_queue {
	struct labnic_rings *rings;
	struct labnic *nic;
	u16 index;
	struct labnic_tx_stats tx_stats;
	struct labnic_rx_stats rx_stats;
	char irq_name[IFNAMSIZ + 16];
};

struct labnic_config {
	u32 queues;
	u32 tx_size;
	u32 rx_size;
};

/* Bits of labnic.flags. */
enum labnic_flag {
	LABNIC_GONE,		/* registers read as all ones */
	LABNIC_LEAVING,		/* remove has begun: schedule nothing more */
};

struct labnic {
	struct net_device *netdev;
	void __iomem *regs;
	struct labnic_queue *queues;
	struct pci_dev *pdev;
	unsigned long flags;
	u32 max_queues;
	u32 msg_enable;
	u32 features;		/* of DEV_FEATURES, those in use */

	/* Written under rtnl, read by polls and the xmit path. */
	__le32 tx_hold;		/* words of the status blocks */
	__le32 rx_hold;
	bool adaptive_rx;	/* rx_hold is for busy queues only */
	u32 tx_copybreak;	/* frames of up to so many bytes are copied */

	/* Under rtnl. */
	struct labnic_config cfg;
	bool running;		/* between open and stop */
	bool started;		/* the device may work */
	struct delayed_work reset_work;
	unsigned long last_reset;
	u32 failed_resets;
	u32 rss_table[LABNIC_RSS_TABLE_SIZE];
	u8 rss_key[LABNIC_RSS_KEY_SIZE];

	/* Under addr_lock: what the filter has, or will when it starts. */
	bool filtering;
	u32 rx_mode;
	u64 slot[LABNIC_ADDR_SLOTS];

	spinlock_t link_lock;	/* see the head of this file */

	spinlock_t stats_lock;	/* see the head of this file */
	bool counters_asleep;
	u64 counter_last[LABNIC_N_COUNTERS];
	u64 counter_total[LABNIC_N_COUNTERS];

	atomic_t tx_timeouts;
	atomic_t resets;
	char misc_name[IFNAMSIZ + 16];
};

/* labnic_pci.c */
u32 labnic_read(struct labnic *nic, u32 reg);
int labnic_hw_reset(struct labnic *nic);

static inline bool labnic_gone(const struct labnic *nic)
{
	return test_bit(LABNIC_GONE, &nic->flags);
}

static inline void labnic_write(struct labnic *nic, u32 reg, u32 value)
{
	if (likely(!labnic_gone(nic)))
		writel(value, nic->regs + reg);
}

/* The low half first: it is the write of the high half that counts. */
static inline void labnic_write64(struct labnic *nic, u32 reg, u64 value)
{
	labnic_write(nic, reg, lower_32_bits(value));
	labnic_write(nic, reg + 4, upper_32_bits(value));
}

/*
 * The phase bit of free-running index @index: one in the first lap, flipped
 * in each that follows. @size is a power of two.
 */
static inline u32 labnic_phase(u32 index, u32 size)
{
	return index & size ? 0 : 1;
}

/* Does a step of a count from @old to @new pass @event? */
static inline bool labnic_passed(u32 old, u32 new, u32 event)
{
	return new - event - 1 < new - old;
}

/* labnic_netdev.c */
extern const struct net_device_ops labnic_netdev_ops;
int labnic_up(struct labnic *nic);
void labnic_down(struct labnic *nic);
void labnic_reset_task(struct work_struct *work);
void labnic_schedule_reset(struct labnic *nic);
void labnic_failed(struct labnic *nic);

/* labnic_queue.c */
int labnic_reconfigure(struct labnic *nic, const struct labnic_config *cfg);
int labnic_queues_alloc(struct labnic *nic);
void labnic_queues_free(struct labnic *nic);
int labnic_start(struct labnic *nic);
void labnic_halt(struct labnic *nic);

/* labnic_tx.c */
netdev_tx_t labnic_start_xmit(struct sk_buff *skb, struct net_device *netdev);
int labnic_tx_alloc(struct labnic_rings *rings, u32 size);
void labnic_tx_free(struct labnic_rings *rings);
void labnic_tx_program(struct labnic_rings *rings);
bool labnic_tx_stop(struct labnic_rings *rings);
void labnic_tx_purge(struct labnic_rings *rings);
void labnic_tx_inherit(struct labnic_rings *rings, struct labnic_rings *old);
void labnic_tx_resume(struct labnic_rings *rings);
void labnic_tx_clean(struct labnic_rings *rings, int budget);
void labnic_tx_arm(struct labnic_rings *rings);
void labnic_tx_disarm(struct labnic_rings *rings);
bool labnic_tx_pending(struct labnic_rings *rings);

/* labnic_rx.c */
int labnic_rx_alloc(struct labnic_rings *rings, u32 size);
void labnic_rx_free(struct labnic_rings *rings);
void labnic_rx_program(struct labnic_rings *rings);
bool labnic_rx_stop(struct labnic_rings *rings);
int labnic_rx_poll(struct labnic_rings *rings, int budget);
void labnic_rx_arm(struct labnic_rings *rings);
void labnic_rx_disarm(struct labnic_rings *rings);
bool labnic_rx_pending(struct labnic_rings *rings);

/* labnic_offload.c */
int labnic_offload_tx(struct sk_buff *skb, struct labnic_tx_buf *buf);
int labnic_offload_rx(struct sk_buff *skb, u32 coalesced, u32 *bytes);
void labnic_offload_program(struct labnic *nic, netdev_features_t features);
int labnic_set_features(struct net_device *netdev, netdev_features_t features);

/* labnic_irq.c */
int labnic_poll(struct napi_struct *napi, int budget);
int labnic_irq_request_misc(struct labnic *nic);
void labnic_irq_free_misc(struct labnic *nic);
int labnic_irq_request(struct labnic *nic, u32 from, u32 to);
void labnic_irq_free(struct labnic *nic, u32 from, u32 to);
int labnic_irq_number(struct labnic *nic, const struct labnic_queue *queue);

__le32 labnic_hold(u32 usecs, u32 frames);

/* labnic_filter.c */
void labnic_set_rx_mode(struct net_device *netdev);
int labnic_set_mac_address(struct net_device *netdev, void *addr);
void labnic_filter_start(struct labnic *nic);
void labnic_filter_stop(struct labnic *nic);
void labnic_rss_default(struct labnic *nic, u32 queues);
void labnic_rss_program(struct labnic *nic);

/* labnic_link.c */
void labnic_link_update(struct labnic *nic);
int labnic_eth_ioctl(struct net_device *netdev, struct ifreq *ifr, int cmd);
int labnic_get_link_ksettings(struct net_device *netdev,
			      struct ethtool_link_ksettings *cmd);

/* labnic_stats.c */
void labnic_stats_init(struct labnic *nic);
void labnic_stats_sleep(struct labnic *nic);
void labnic_stats_wake(struct labnic *nic);
void labnic_get_stats64(struct net_device *netdev,
			struct rtnl_link_stats64 *stats);
int labnic_get_sset_count(struct net_device *netdev, int sset);
void labnic_get_strings(struct net_device *netdev, u32 sset, u8 *data);
void labnic_get_ethtool_stats(struct net_device *netdev,
			      struct ethtool_stats *stats, u64 *data);

/* labnic_tc.c */
int labnic_setup_tc(struct net_device *netdev, enum tc_setup_type type,
		    void *data);
bool labnic_classes_fit(const struct net_device *netdev, u32 queues);

/* labnic_ethtool.c */
extern const struct ethtool_ops labnic_ethtool_ops;

#endif /* LABNIC_H */
