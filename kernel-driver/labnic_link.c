// SPDX-License-Identifier: GPL-2.0-only
/*
 * Carrier, speed, and the MII registers that old programs ask for. The other
 * end is the file of this name in qemu-device/.
 */
#include <linux/ethtool.h>
#include <linux/mii.h>
#include <linux/netdevice.h>

#include "labnic.h"

/* From the interrupt of the misc vector, and from process context. */
void labnic_link_update(struct labnic *nic)
{
	struct net_device *netdev = nic->netdev;
	unsigned long irqflags;
	bool had, has;
	u32 link;

	spin_lock_irqsave(&nic->link_lock, irqflags);
	link = labnic_read(nic, LABNIC_REG_LINK);
	has = !labnic_gone(nic) && link & LABNIC_LINK_UP;
	had = netif_carrier_ok(netdev);
	if (has)
		netif_carrier_on(netdev);
	else
		netif_carrier_off(netdev);
	spin_unlock_irqrestore(&nic->link_lock, irqflags);

	if (had == has || !netif_msg_link(nic))
		return;
	if (has)
		netdev_info(netdev, "link is up, %u Mbit/s, %s duplex\n",
			    FIELD_GET(LABNIC_LINK_SPEED, link),
			    link & LABNIC_LINK_FULL_DUPLEX ? "full" : "half");
	else
		netdev_info(netdev, "link is down\n");
}

int labnic_get_link_ksettings(struct net_device *netdev,
			      struct ethtool_link_ksettings *cmd)
{
	struct labnic *nic = netdev_priv(netdev);
	u32 link = labnic_read(nic, LABNIC_REG_LINK);

	ethtool_link_ksettings_zero_link_mode(cmd, supported);
	ethtool_link_ksettings_zero_link_mode(cmd, advertising);
	cmd->base.autoneg = AUTONEG_DISABLE;
	cmd->base.port = PORT_OTHER;
	cmd->base.speed = SPEED_UNKNOWN;
	cmd->base.duplex = DUPLEX_UNKNOWN;
	if (labnic_gone(nic) || !(link & LABNIC_LINK_UP))
		return 0;

	cmd->base.speed = FIELD_GET(LABNIC_LINK_SPEED, link);
	cmd->base.duplex = link & LABNIC_LINK_FULL_DUPLEX ? DUPLEX_FULL :
							    DUPLEX_HALF;
	return 0;
}

/* The device has no PHY: what one at address 0 would say of this link. */
static u16 labnic_mii_read(struct labnic *nic, u32 reg)
{
	u32 link = labnic_read(nic, LABNIC_REG_LINK);
	u32 speed = FIELD_GET(LABNIC_LINK_SPEED, link);
	u16 value = 0;

	switch (reg) {
	case MII_BMCR:
		if (link & LABNIC_LINK_FULL_DUPLEX)
			value |= BMCR_FULLDPLX;
		if (speed >= SPEED_1000)
			value |= BMCR_SPEED1000;
		else if (speed >= SPEED_100)
			value |= BMCR_SPEED100;
		return value;
	case MII_BMSR:
		if (link & LABNIC_LINK_UP)
			value |= BMSR_LSTATUS;
		return value | BMSR_ESTATEN;
	case MII_ESTATUS:
		return ESTATUS_1000_TFULL;
	default:
		return 0;
	}
}

/* Under rtnl. Time stamps and private requests are refused. */
int labnic_eth_ioctl(struct net_device *netdev, struct ifreq *ifr, int cmd)
{
	struct mii_ioctl_data *mii = if_mii(ifr);
	struct labnic *nic = netdev_priv(netdev);

	switch (cmd) {
	case SIOCGMIIPHY:
		mii->phy_id = 0;
		fallthrough;
	case SIOCGMIIREG:
		if ((mii->phy_id & 0x1f) || labnic_gone(nic))
			mii->val_out = 0xffff;
		else
			mii->val_out = labnic_mii_read(nic,
						       mii->reg_num & 0x1f);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}
