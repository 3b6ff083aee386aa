// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counters: the driver's, which live with the queue pairs and outlive their
 * rings, and copies of the device's. Neither ever goes backwards. The other
 * end is the file of this name in qemu-device/.
 */
#include <linux/ethtool.h>
#include <linux/netdevice.h>

#include "labnic.h"

/* The names of the device's counters, each with a zero at its end. */
#define LABNIC_COUNTER_NAME(name)	#name "\0"

static const char labnic_counter_names[] = LABNIC_COUNTERS(LABNIC_COUNTER_NAME);

static const char labnic_driver_names[][ETH_GSTRING_LEN] = {
	"tx_timeouts",
	"resets",
};

/* For each queue pair, after "queue_%u_". */
static const char * const labnic_queue_names[] = {
	"tx_packets",
	"tx_bytes",
	"tx_dropped",
	"tx_stops",
	"rx_packets",
	"rx_bytes",
	"rx_multicast",
	"rx_errors",
	"rx_dropped",
	"rx_alloc_failed",
};

struct labnic_queue_sum {
	u64 value[ARRAY_SIZE(labnic_queue_names)];
};

static void labnic_tx_stats_read(const struct labnic_tx_stats *stats,
				 u64 *value)
{
	unsigned int start;

	do {
		start = u64_stats_fetch_begin(&stats->syncp);
		value[0] = u64_stats_read(&stats->packets);
		value[1] = u64_stats_read(&stats->bytes);
	} while (u64_stats_fetch_retry(&stats->syncp, start));
	do {
		start = u64_stats_fetch_begin(&stats->xmit_syncp);
		value[2] = u64_stats_read(&stats->dropped);
		value[3] = u64_stats_read(&stats->stops);
	} while (u64_stats_fetch_retry(&stats->xmit_syncp, start));
}

static void labnic_rx_stats_read(const struct labnic_rx_stats *stats,
				 u64 *value)
{
	unsigned int start;

	do {
		start = u64_stats_fetch_begin(&stats->syncp);
		value[0] = u64_stats_read(&stats->packets);
		value[1] = u64_stats_read(&stats->bytes);
		value[2] = u64_stats_read(&stats->multicast);
		value[3] = u64_stats_read(&stats->errors);
		value[4] = u64_stats_read(&stats->dropped);
		value[5] = u64_stats_read(&stats->alloc_failed);
	} while (u64_stats_fetch_retry(&stats->syncp, start));
}

/* In the order of labnic_queue_names. */
static void labnic_queue_read(const struct labnic_queue *queue,
			      struct labnic_queue_sum *sum)
{
	labnic_tx_stats_read(&queue->tx_stats, &sum->value[0]);
	labnic_rx_stats_read(&queue->rx_stats, &sum->value[4]);
}

/*
 * High, low, and high again until both agree: no carry came between. It comes
 * once in four billion; a device in which it always does is not waited for.
 */
static u64 labnic_counter_read(struct labnic *nic, u32 i)
{
	u32 reg = LABNIC_REG_COUNTER(i);
	u32 high, low, again;
	int tries = 3;

	again = labnic_read(nic, reg + 4);
	do {
		high = again;
		low = labnic_read(nic, reg);
		again = labnic_read(nic, reg + 4);
	} while (high != again && --tries);
	return (u64)high << 32 | low;
}

/*
 * Bring our copy of a counter up to date. The device's own starts again at
 * zero when the function is reset; ours goes on. Under stats_lock.
 */
static u64 labnic_counter_update(struct labnic *nic, u32 i)
{
	u64 now;

	if (nic->counters_asleep || labnic_gone(nic))
		return nic->counter_total[i];
	now = labnic_counter_read(nic, i);
	if (labnic_gone(nic))
		return nic->counter_total[i];
	if (now < nic->counter_last[i])
		nic->counter_last[i] = 0;
	nic->counter_total[i] += now - nic->counter_last[i];
	nic->counter_last[i] = now;
	return nic->counter_total[i];
}

/* What was counted before this driver came is not its business. */
void labnic_stats_init(struct labnic *nic)
{
	u32 i;

	spin_lock_init(&nic->stats_lock);
	for (i = 0; i < LABNIC_N_COUNTERS; i++)
		nic->counter_last[i] = labnic_counter_read(nic, i);
	for (i = 0; i < nic->max_queues; i++) {
		u64_stats_init(&nic->queues[i].tx_stats.syncp);
		u64_stats_init(&nic->queues[i].tx_stats.xmit_syncp);
		u64_stats_init(&nic->queues[i].rx_stats.syncp);
	}
}

static void labnic_stats_update(struct labnic *nic, bool asleep)
{
	unsigned long irqflags;
	u32 i;

	spin_lock_irqsave(&nic->stats_lock, irqflags);
	nic->counters_asleep = false;
	for (i = 0; i < LABNIC_N_COUNTERS; i++)
		labnic_counter_update(nic, i);
	nic->counters_asleep = asleep;
	spin_unlock_irqrestore(&nic->stats_lock, irqflags);
}

/* The device is about to lose power: its registers are not read any more. */
void labnic_stats_sleep(struct labnic *nic)
{
	labnic_stats_update(nic, true);
}

void labnic_stats_wake(struct labnic *nic)
{
	labnic_stats_update(nic, false);
}

/*
 * In any context that does not sleep, more than one at a time. MMIO reads
 * are few: only of what the driver cannot know.
 */
void labnic_get_stats64(struct net_device *netdev,
			struct rtnl_link_stats64 *stats)
{
	struct labnic *nic = netdev_priv(netdev);
	struct labnic_queue_sum sum;
	unsigned long irqflags;
	u64 dma_errors;
	u32 i;

	for (i = 0; i < nic->max_queues; i++) {
		labnic_queue_read(&nic->queues[i], &sum);
		stats->tx_packets += sum.value[0];
		stats->tx_bytes += sum.value[1];
		stats->tx_dropped += sum.value[2];
		stats->rx_packets += sum.value[4];
		stats->rx_bytes += sum.value[5];
		stats->multicast += sum.value[6];
		stats->rx_errors += sum.value[7];
		stats->rx_dropped += sum.value[8];
	}

	spin_lock_irqsave(&nic->stats_lock, irqflags);
	stats->rx_missed_errors =
		labnic_counter_update(nic, LABNIC_COUNTER_RX_NO_BUFFER);
	stats->rx_length_errors =
		labnic_counter_update(nic, LABNIC_COUNTER_RX_TOO_LONG) +
		labnic_counter_update(nic, LABNIC_COUNTER_RX_TOO_SHORT);
	stats->tx_carrier_errors =
		labnic_counter_update(nic, LABNIC_COUNTER_TX_NO_LINK);
	dma_errors = labnic_counter_update(nic, LABNIC_COUNTER_RX_DMA_ERRORS);
	spin_unlock_irqrestore(&nic->stats_lock, irqflags);

	stats->rx_errors += stats->rx_length_errors + dma_errors;
	stats->tx_errors = stats->tx_carrier_errors;
}

int labnic_get_sset_count(struct net_device *netdev, int sset)
{
	struct labnic *nic = netdev_priv(netdev);

	if (sset != ETH_SS_STATS)
		return -EOPNOTSUPP;
	return LABNIC_N_COUNTERS + ARRAY_SIZE(labnic_driver_names) +
	       nic->max_queues * ARRAY_SIZE(labnic_queue_names);
}

void labnic_get_strings(struct net_device *netdev, u32 sset, u8 *data)
{
	struct labnic *nic = netdev_priv(netdev);
	const char *name = labnic_counter_names;
	u32 i, j;

	if (sset != ETH_SS_STATS)
		return;
	for (i = 0; i < LABNIC_N_COUNTERS; i++) {
		ethtool_puts(&data, name);
		name += strlen(name) + 1;
	}
	for (i = 0; i < ARRAY_SIZE(labnic_driver_names); i++)
		ethtool_puts(&data, labnic_driver_names[i]);
	for (i = 0; i < nic->max_queues; i++)
		for (j = 0; j < ARRAY_SIZE(labnic_queue_names); j++)
			ethtool_sprintf(&data, "queue_%u_%s", i,
					labnic_queue_names[j]);
}

/* Under rtnl. In the order of labnic_get_strings(). */
void labnic_get_ethtool_stats(struct net_device *netdev,
			      struct ethtool_stats *stats, u64 *data)
{
	struct labnic *nic = netdev_priv(netdev);
	struct labnic_queue_sum sum;
	unsigned long irqflags;
	u32 i;

	spin_lock_irqsave(&nic->stats_lock, irqflags);
	for (i = 0; i < LABNIC_N_COUNTERS; i++)
		*data++ = labnic_counter_update(nic, i);
	spin_unlock_irqrestore(&nic->stats_lock, irqflags);

	*data++ = atomic_read(&nic->tx_timeouts);
	*data++ = atomic_read(&nic->resets);

	for (i = 0; i < nic->max_queues; i++) {
		labnic_queue_read(&nic->queues[i], &sum);
		memcpy(data, sum.value, sizeof(sum.value));
		data += ARRAY_SIZE(sum.value);
	}
}
