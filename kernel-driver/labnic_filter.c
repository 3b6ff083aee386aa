// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which frames are received, and by which queue: addresses and RSS. The other
 * end is the file of this name in qemu-device/.
 */
#include <linux/bitmap.h>
#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/netdevice.h>

#include "labnic.h"

/* What is asked of the filter: which addresses fit, and what does not. */
struct labnic_want {
	u64 addr[LABNIC_ADDR_SLOTS];
	u32 count;
	u32 rx_mode;
};

/* As the registers have it: the first byte in the lowest bits. */
static u64 labnic_mac_value(const u8 *addr)
{
	u64 value = 0;
	int i;

	for (i = ETH_ALEN - 1; i >= 0; i--)
		value = value << 8 | addr[i];
	return value;
}

/*
 * Unicast addresses have the slots first, since the other way to receive them
 * is to receive everything. Groups are in the slots all together or not at all.
 */
static void labnic_want_fill(struct net_device *netdev,
			     struct labnic_want *want)
{
	bool promisc = netdev->flags & IFF_PROMISC;
	bool allmulti = netdev->flags & IFF_ALLMULTI;
	struct netdev_hw_addr *ha;

	want->count = 0;
	if (netdev_uc_count(netdev) > LABNIC_ADDR_SLOTS) {
		promisc = true;
	} else {
		netdev_for_each_uc_addr(ha, netdev)
			want->addr[want->count++] = labnic_mac_value(ha->addr);
	}

	if (want->count + netdev_mc_count(netdev) > LABNIC_ADDR_SLOTS) {
		allmulti = true;
	} else {
		netdev_for_each_mc_addr(ha, netdev)
			want->addr[want->count++] = labnic_mac_value(ha->addr);
	}

	want->rx_mode = LABNIC_RX_MODE_BROADCAST;
	if (promisc)
		want->rx_mode |= LABNIC_RX_MODE_PROMISC;
	if (allmulti)
		want->rx_mode |= LABNIC_RX_MODE_ALLMULTI;
}

static void labnic_slot_write(struct labnic *nic, u32 slot, u64 value)
{
	nic->slot[slot] = value;
	if (nic->filtering)
		labnic_write64(nic, LABNIC_REG_ADDR_SLOT(slot), value);
}

static int labnic_slot_find(const struct labnic *nic, u64 value)
{
	int i;

	for (i = 0; i < LABNIC_ADDR_SLOTS; i++)
		if (nic->slot[i] == value)
			return i;
	return -ENOENT;
}

static void labnic_rx_mode_write(struct labnic *nic, u32 mode)
{
	if (mode == nic->rx_mode)
		return;
	nic->rx_mode = mode;
	if (nic->filtering)
		labnic_write(nic, LABNIC_REG_RX_MODE, mode);
}

/*
 * From what the filter has to what is wanted, so that no address that is
 * wanted before and after is missed between: modes are widened first and
 * narrowed last, and slots that stay are not touched.
 */
static void labnic_filter_apply(struct labnic *nic,
				const struct labnic_want *want)
{
	DECLARE_BITMAP(keep, LABNIC_ADDR_SLOTS);
	DECLARE_BITMAP(there, LABNIC_ADDR_SLOTS);
	u32 i, slot = 0;
	int found;

	labnic_rx_mode_write(nic, nic->rx_mode | want->rx_mode);

	bitmap_zero(keep, LABNIC_ADDR_SLOTS);
	bitmap_zero(there, LABNIC_ADDR_SLOTS);
	for (i = 0; i < want->count; i++) {
		found = labnic_slot_find(nic, want->addr[i] |
					 LABNIC_ADDR_SLOT_VALID);
		if (found < 0)
			continue;
		__set_bit(found, keep);
		__set_bit(i, there);
	}

	for (i = 0; i < LABNIC_ADDR_SLOTS; i++)
		if (nic->slot[i] && !test_bit(i, keep))
			labnic_slot_write(nic, i, 0);

	for (i = 0; i < want->count; i++) {
		if (test_bit(i, there))
			continue;
		/* There are as many slots as addresses, at least. */
		slot = find_next_zero_bit(keep, LABNIC_ADDR_SLOTS, slot);
		__set_bit(slot, keep);
		labnic_slot_write(nic, slot, want->addr[i] |
				  LABNIC_ADDR_SLOT_VALID);
	}

	labnic_rx_mode_write(nic, want->rx_mode);
}

/* Under addr_lock, with BHs disabled. */
void labnic_set_rx_mode(struct net_device *netdev)
{
	struct labnic *nic = netdev_priv(netdev);
	struct labnic_want want;

	labnic_want_fill(netdev, &want);
	labnic_filter_apply(nic, &want);
}

/*
 * After a reset of the device, which has forgotten everything. Whoever changes
 * the filter meanwhile is in nic->slot[] before or writes after.
 */
void labnic_filter_start(struct labnic *nic)
{
	struct net_device *netdev = nic->netdev;
	u32 i;

	netif_addr_lock_bh(netdev);
	nic->filtering = true;
	labnic_write64(nic, LABNIC_REG_MAC,
		       labnic_mac_value(netdev->dev_addr));
	for (i = 0; i < LABNIC_ADDR_SLOTS; i++)
		if (nic->slot[i])
			labnic_write64(nic, LABNIC_REG_ADDR_SLOT(i),
				       nic->slot[i]);
	labnic_write(nic, LABNIC_REG_RX_MODE, nic->rx_mode);
	netif_addr_unlock_bh(netdev);
}

/* The device is left alone: what the stack wants is kept for the next start. */
void labnic_filter_stop(struct labnic *nic)
{
	netif_addr_lock_bh(nic->netdev);
	nic->filtering = false;
	netif_addr_unlock_bh(nic->netdev);
}

/* Under rtnl. */
int labnic_set_mac_address(struct net_device *netdev, void *addr)
{
	struct labnic *nic = netdev_priv(netdev);
	int err;

	err = eth_prepare_mac_addr_change(netdev, addr);
	if (err)
		return err;
	eth_commit_mac_addr_change(netdev, addr);
	if (!nic->started)
		return 0;

	/* Between the two halves of the address nothing is missed. */
	netif_addr_lock_bh(netdev);
	labnic_write(nic, LABNIC_REG_RX_MODE,
		     nic->rx_mode | LABNIC_RX_MODE_PROMISC);
	labnic_write64(nic, LABNIC_REG_MAC,
		       labnic_mac_value(netdev->dev_addr));
	labnic_write(nic, LABNIC_REG_RX_MODE, nic->rx_mode);
	netif_addr_unlock_bh(netdev);
	return 0;
}

/* Spread evenly over @queues. Under rtnl. */
void labnic_rss_default(struct labnic *nic, u32 queues)
{
	u32 i;

	for (i = 0; i < LABNIC_RSS_TABLE_SIZE; i++)
		nic->rss_table[i] = ethtool_rxfh_indir_default(i, queues);
}

static u32 labnic_four_bytes(const u8 *bytes)
{
	return bytes[0] | bytes[1] << 8 | bytes[2] << 16 |
	       (u32)bytes[3] << 24;
}

static u32 labnic_four_entries(const u32 *entry)
{
	return entry[0] | entry[1] << 8 | entry[2] << 16 | entry[3] << 24;
}

/* Under rtnl. */
void labnic_rss_program(struct labnic *nic)
{
	u32 i;

	if (!(nic->features & LABNIC_FEATURE_RSS))
		return;
	for (i = 0; i < LABNIC_RSS_KEY_SIZE / 4; i++)
		labnic_write(nic, LABNIC_REG_RSS_KEY(i),
			     labnic_four_bytes(&nic->rss_key[4 * i]));
	for (i = 0; i < LABNIC_RSS_TABLE_SIZE / 4; i++)
		labnic_write(nic, LABNIC_REG_RSS_TABLE(i),
			     labnic_four_entries(&nic->rss_table[4 * i]));
	labnic_write(nic, LABNIC_REG_RSS_CTRL,
		     LABNIC_RSS_CTRL_IPV4 | LABNIC_RSS_CTRL_TCPV4 |
		     LABNIC_RSS_CTRL_UDPV4 | LABNIC_RSS_CTRL_IPV6 |
		     LABNIC_RSS_CTRL_TCPV6 | LABNIC_RSS_CTRL_UDPV6);
}
