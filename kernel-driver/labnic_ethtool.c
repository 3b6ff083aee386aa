// SPDX-License-Identifier: GPL-2.0-only
/* What ethtool asks. All of it under rtnl, while the device is present. */
#include <linux/ethtool.h>
#include <linux/log2.h>
#include <linux/net_tstamp.h>
#include <linux/netdevice.h>

#include "labnic.h"

static void labnic_get_drvinfo(struct net_device *netdev,
			       struct ethtool_drvinfo *info)
{
	struct labnic *nic = netdev_priv(netdev);
	u32 version = labnic_read(nic, LABNIC_REG_VERSION);

	strscpy(info->driver, LABNIC_NAME, sizeof(info->driver));
	strscpy(info->bus_info, pci_name(nic->pdev), sizeof(info->bus_info));
	snprintf(info->fw_version, sizeof(info->fw_version), "%u.%u",
		 FIELD_GET(LABNIC_VERSION_MAJOR, version),
		 FIELD_GET(LABNIC_VERSION_MINOR, version));
}

static u32 labnic_get_msglevel(struct net_device *netdev)
{
	struct labnic *nic = netdev_priv(netdev);

	return nic->msg_enable;
}

static void labnic_set_msglevel(struct net_device *netdev, u32 level)
{
	struct labnic *nic = netdev_priv(netdev);

	nic->msg_enable = level;
}

/* The dump: these blocks one after the other, then each queue pair. */
static const struct {
	u32 base;
	u32 bytes;
} labnic_dump[] = {
	{ LABNIC_BLOCK_GLOBAL_BASE, LABNIC_BLOCK_GLOBAL_USED },
	{ LABNIC_BLOCK_FILTER_BASE, LABNIC_BLOCK_FILTER_USED },
	{ LABNIC_BLOCK_COUNTERS_BASE, LABNIC_BLOCK_COUNTERS_USED },
};

static int labnic_get_regs_len(struct net_device *netdev)
{
	struct labnic *nic = netdev_priv(netdev);
	int i, len;

	len = nic->max_queues * LABNIC_BLOCK_QUEUE_USED;
	for (i = 0; i < ARRAY_SIZE(labnic_dump); i++)
		len += labnic_dump[i].bytes;
	return len;
}

static u32 *labnic_dump_block(struct labnic *nic, u32 *data, u32 base,
			      u32 bytes)
{
	u32 offset;

	for (offset = 0; offset < bytes; offset += sizeof(*data))
		*data++ = labnic_read(nic, base + offset);
	return data;
}

static void labnic_get_regs(struct net_device *netdev,
			    struct ethtool_regs *regs, void *buf)
{
	struct labnic *nic = netdev_priv(netdev);
	u32 *data = buf;
	u32 i;

	regs->version = labnic_read(nic, LABNIC_REG_VERSION);
	for (i = 0; i < ARRAY_SIZE(labnic_dump); i++)
		data = labnic_dump_block(nic, data, labnic_dump[i].base,
					 labnic_dump[i].bytes);
	for (i = 0; i < nic->max_queues; i++)
		data = labnic_dump_block(nic, data, LABNIC_BLOCK_QUEUE_BASE +
					 i * LABNIC_BLOCK_QUEUE_STRIDE,
					 LABNIC_BLOCK_QUEUE_USED);
}

static void labnic_get_ringparam(struct net_device *netdev,
				 struct ethtool_ringparam *ring,
				 struct kernel_ethtool_ringparam *kernel_ring,
				 struct netlink_ext_ack *extack)
{
	struct labnic *nic = netdev_priv(netdev);

	ring->rx_max_pending = LABNIC_RING_MAX;
	ring->tx_max_pending = LABNIC_RING_MAX;
	ring->rx_pending = nic->cfg.rx_size;
	ring->tx_pending = nic->cfg.tx_size;
}

static bool labnic_ring_size_ok(u32 size)
{
	return is_power_of_2(size) && size >= LABNIC_RING_MIN &&
	       size <= LABNIC_RING_MAX;
}

/* Into force at once when the interface is up, else when it comes up. */
static int labnic_apply(struct labnic *nic, const struct labnic_config *cfg)
{
	int err;

	if (nic->running) {
		err = labnic_reconfigure(nic, cfg);
		if (err && !nic->started)
			labnic_failed(nic);
		return err;
	}

	err = netif_set_real_num_queues(nic->netdev, cfg->queues, cfg->queues);
	if (err)
		return err;
	if (cfg->queues != nic->cfg.queues &&
	    !netif_is_rxfh_configured(nic->netdev))
		labnic_rss_default(nic, cfg->queues);
	nic->cfg = *cfg;
	return 0;
}

static int labnic_set_ringparam(struct net_device *netdev,
				struct ethtool_ringparam *ring,
				struct kernel_ethtool_ringparam *kernel_ring,
				struct netlink_ext_ack *extack)
{
	struct labnic *nic = netdev_priv(netdev);
	struct labnic_config cfg = nic->cfg;

	if (ring->rx_mini_pending || ring->rx_jumbo_pending) {
		NL_SET_ERR_MSG(extack, "there are no mini and jumbo rings");
		return -EINVAL;
	}
	if (!labnic_ring_size_ok(ring->rx_pending) ||
	    !labnic_ring_size_ok(ring->tx_pending)) {
		NL_SET_ERR_MSG(extack,
			       "a ring has a power of two between 64 and 4096 entries");
		return -EINVAL;
	}

	cfg.rx_size = ring->rx_pending;
	cfg.tx_size = ring->tx_pending;
	if (cfg.rx_size == nic->cfg.rx_size && cfg.tx_size == nic->cfg.tx_size)
		return 0;
	return labnic_apply(nic, &cfg);
}

static int labnic_get_coalesce(struct net_device *netdev,
			       struct ethtool_coalesce *coal,
			       struct kernel_ethtool_coalesce *kernel_coal,
			       struct netlink_ext_ack *extack)
{
	struct labnic *nic = netdev_priv(netdev);
	u32 tx = le32_to_cpu(nic->tx_hold);
	u32 rx = le32_to_cpu(nic->rx_hold);

	if (!(nic->features & LABNIC_FEATURE_MODERATION))
		return -EOPNOTSUPP;
	coal->tx_coalesce_usecs =
		FIELD_GET(LABNIC_STATUS_BLOCK_TX_IRQ_HOLD_USECS, tx);
	coal->tx_max_coalesced_frames =
		FIELD_GET(LABNIC_STATUS_BLOCK_TX_IRQ_HOLD_COUNT, tx);
	coal->rx_coalesce_usecs =
		FIELD_GET(LABNIC_STATUS_BLOCK_RX_IRQ_HOLD_USECS, rx);
	coal->rx_max_coalesced_frames =
		FIELD_GET(LABNIC_STATUS_BLOCK_RX_IRQ_HOLD_COUNT, rx);
	coal->use_adaptive_rx_coalesce = nic->adaptive_rx;
	return 0;
}

/*
 * In force for each queue from its next interrupt on. A frame that is sent
 * counts as often as it has pieces.
 */
static int labnic_set_coalesce(struct net_device *netdev,
			       struct ethtool_coalesce *coal,
			       struct kernel_ethtool_coalesce *kernel_coal,
			       struct netlink_ext_ack *extack)
{
	struct labnic *nic = netdev_priv(netdev);

	if (!(nic->features & LABNIC_FEATURE_MODERATION))
		return -EOPNOTSUPP;
	if (max(coal->tx_coalesce_usecs, coal->rx_coalesce_usecs) >
	    FIELD_MAX(LABNIC_STATUS_BLOCK_TX_IRQ_HOLD_USECS) ||
	    max(coal->tx_max_coalesced_frames, coal->rx_max_coalesced_frames) >
	    FIELD_MAX(LABNIC_STATUS_BLOCK_TX_IRQ_HOLD_COUNT)) {
		NL_SET_ERR_MSG(extack,
			       "microseconds and frames go up to 65535");
		return -ERANGE;
	}

	WRITE_ONCE(nic->tx_hold, labnic_hold(coal->tx_coalesce_usecs,
					     coal->tx_max_coalesced_frames));
	WRITE_ONCE(nic->rx_hold, labnic_hold(coal->rx_coalesce_usecs,
					     coal->rx_max_coalesced_frames));
	WRITE_ONCE(nic->adaptive_rx, coal->use_adaptive_rx_coalesce);
	return 0;
}

static int labnic_get_tunable(struct net_device *netdev,
			      const struct ethtool_tunable *tuna, void *data)
{
	struct labnic *nic = netdev_priv(netdev);

	switch (tuna->id) {
	case ETHTOOL_TX_COPYBREAK:
		*(u32 *)data = nic->tx_copybreak;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int labnic_set_tunable(struct net_device *netdev,
			      const struct ethtool_tunable *tuna,
			      const void *data)
{
	struct labnic *nic = netdev_priv(netdev);
	u32 value = *(const u32 *)data;

	switch (tuna->id) {
	case ETHTOOL_TX_COPYBREAK:
		if (value > LABNIC_TX_COPY_MAX)
			return -ERANGE;
		WRITE_ONCE(nic->tx_copybreak, value);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static void labnic_get_channels(struct net_device *netdev,
				struct ethtool_channels *channels)
{
	struct labnic *nic = netdev_priv(netdev);

	channels->max_combined = nic->max_queues;
	channels->combined_count = nic->cfg.queues;
	channels->max_other = 1;
	channels->other_count = 1;
}

/* The core has compared the counts with the most that there are. */
static int labnic_set_channels(struct net_device *netdev,
			       struct ethtool_channels *channels)
{
	struct labnic *nic = netdev_priv(netdev);
	struct labnic_config cfg = nic->cfg;

	if (!channels->combined_count || channels->other_count != 1)
		return -EINVAL;
	cfg.queues = channels->combined_count;
	if (cfg.queues == nic->cfg.queues)
		return 0;
	if (!labnic_classes_fit(netdev, cfg.queues)) {
		netdev_err(netdev, "traffic classes use more than %u queues\n",
			   cfg.queues);
		return -EBUSY;
	}
	return labnic_apply(nic, &cfg);
}

static int labnic_get_rxnfc(struct net_device *netdev,
			    struct ethtool_rxnfc *info, u32 *rules)
{
	struct labnic *nic = netdev_priv(netdev);

	switch (info->cmd) {
	case ETHTOOL_GRXRINGS:
		info->data = nic->cfg.queues;
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static u32 labnic_get_rxfh_indir_size(struct net_device *netdev)
{
	struct labnic *nic = netdev_priv(netdev);

	return nic->features & LABNIC_FEATURE_RSS ? LABNIC_RSS_TABLE_SIZE : 0;
}

static u32 labnic_get_rxfh_key_size(struct net_device *netdev)
{
	struct labnic *nic = netdev_priv(netdev);

	return nic->features & LABNIC_FEATURE_RSS ? LABNIC_RSS_KEY_SIZE : 0;
}

int labnic_get_rxfh(struct net_device *netdev,
		    struct ethtool_rxfh_param *rxfh)
{
	struct labnic *nic = netdev_priv(netdev);

	rxfh->hfunc = ETH_RSS_HASH_TOP;
	if (rxfh->indir)
		memcpy(rxfh->indir, nic->rss_table, sizeof(nic->rss_table));
	if (rxfh->key)
		memcpy(rxfh->key, nic->rss_key, sizeof(nic->rss_key));
	return 0;
}

/* The core has compared the entries with ETHTOOL_GRXRINGS. */
int labnic_set_rxfh(struct net_device *netdev,
		    struct ethtool_rxfh_param *rxfh,
		    struct netlink_ext_ack *extack)
{
	struct labnic *nic = netdev_priv(netdev);

	if (rxfh->hfunc != ETH_RSS_HASH_NO_CHANGE &&
	    rxfh->hfunc != ETH_RSS_HASH_TOP)
		return -EOPNOTSUPP;
	if (rxfh->indir)
		memcpy(nic->rss_table, rxfh->indir, sizeof(nic->rss_table));
	if (rxfh->key)
		memcpy(nic->rss_key, rxfh->key, sizeof(nic->rss_key));
	if (nic->started)
		labnic_rss_program(nic);
	return 0;
}

/* Time stamps are those that the stack takes. */
static int labnic_get_ts_info(struct net_device *netdev,
			      struct kernel_ethtool_ts_info *info)
{
	info->so_timestamping = SOF_TIMESTAMPING_TX_SOFTWARE |
				SOF_TIMESTAMPING_RX_SOFTWARE |
				SOF_TIMESTAMPING_SOFTWARE;
	info->phc_index = -1;
	return 0;
}

const struct ethtool_ops labnic_ethtool_ops = {
	.supported_coalesce_params = ETHTOOL_COALESCE_USECS |
				     ETHTOOL_COALESCE_MAX_FRAMES |
				     ETHTOOL_COALESCE_USE_ADAPTIVE_RX,
	.get_drvinfo		= labnic_get_drvinfo,
	.get_link		= ethtool_op_get_link,
	.get_link_ksettings	= labnic_get_link_ksettings,
	.get_msglevel		= labnic_get_msglevel,
	.set_msglevel		= labnic_set_msglevel,
	.get_regs_len		= labnic_get_regs_len,
	.get_regs		= labnic_get_regs,
	.get_ringparam		= labnic_get_ringparam,
	.set_ringparam		= labnic_set_ringparam,
	.get_coalesce		= labnic_get_coalesce,
	.set_coalesce		= labnic_set_coalesce,
	.get_tunable		= labnic_get_tunable,
	.set_tunable		= labnic_set_tunable,
	.get_channels		= labnic_get_channels,
	.set_channels		= labnic_set_channels,
	.get_sset_count		= labnic_get_sset_count,
	.get_strings		= labnic_get_strings,
	.get_ethtool_stats	= labnic_get_ethtool_stats,
	.get_rxnfc		= labnic_get_rxnfc,
	.get_rxfh_indir_size	= labnic_get_rxfh_indir_size,
	.get_rxfh_key_size	= labnic_get_rxfh_key_size,
	.get_rxfh		= labnic_op_get_rxfh,
	.set_rxfh		= labnic_op_set_rxfh,
	.get_ts_info		= labnic_get_ts_info,
};
