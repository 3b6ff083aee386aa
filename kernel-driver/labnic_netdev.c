// SPDX-License-Identifier: GPL-2.0-only
/* The net_device's callbacks, and the reset that recovers it. */
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>

#include "labnic.h"

/* A device that goes wrong again and again is not reset more often. */
#define LABNIC_RESET_INTERVAL	HZ
#define LABNIC_RESETS_MAX	5

/* From nothing to an interface that works. Under rtnl. */
int labnic_up(struct labnic *nic)
{
	struct net_device *netdev = nic->netdev;
	u32 queues = nic->cfg.queues;
	int err;

	ASSERT_RTNL();
	err = netif_set_real_num_queues(netdev, queues, queues);
	if (err)
		return err;
	err = labnic_queues_alloc(nic);
	if (err)
		return err;
	err = labnic_irq_request_misc(nic);
	if (err)
		goto free_queues;
	err = labnic_irq_request(nic, 0, queues);
	if (err)
		goto free_misc;
	err = labnic_start(nic);
	if (err)
		goto free_irqs;

	nic->running = true;
	return 0;

free_irqs:
	labnic_irq_free(nic, 0, queues);
free_misc:
	labnic_irq_free_misc(nic);
free_queues:
	labnic_queues_free(nic);
	return err;
}

/* The reverse of labnic_up(). */
void labnic_down(struct labnic *nic)
{
	ASSERT_RTNL();
	if (!nic->running)
		return;

	nic->running = false;
	labnic_halt(nic);
	netif_carrier_off(nic->netdev);
	labnic_irq_free(nic, 0, nic->cfg.queues);
	labnic_irq_free_misc(nic);
	labnic_queues_free(nic);
}

static int labnic_open(struct net_device *netdev)
{
	return labnic_up(netdev_priv(netdev));
}

static int labnic_stop(struct net_device *netdev)
{
	labnic_down(netdev_priv(netdev));
	return 0;
}

static int labnic_change_mtu(struct net_device *netdev, int mtu)
{
	struct labnic *nic = netdev_priv(netdev);

	/* Buffers are the same for every MTU: nothing is made anew. */
	WRITE_ONCE(netdev->mtu, mtu);
	if (nic->started)
		labnic_write(nic, LABNIC_REG_MAX_FRAME, mtu + LABNIC_OVERHEAD);
	return 0;
}

/*
 * From any context. The work finds out under rtnl whether there is something
 * to reset, so that a late one does no harm.
 */
void labnic_schedule_reset(struct labnic *nic)
{
	unsigned long last = READ_ONCE(nic->last_reset);
	unsigned long due = last + LABNIC_RESET_INTERVAL;
	unsigned long delay = 0;

	if (test_bit(LABNIC_LEAVING, &nic->flags))
		return;
	if (last && time_before(jiffies, due))
		delay = due - jiffies;
	schedule_delayed_work(&nic->reset_work, delay);
}

/*
 * The device does not start, or there is no memory for it. No carrier and no
 * watchdog until a reset succeeds. Under rtnl.
 */
void labnic_failed(struct labnic *nic)
{
	labnic_halt(nic);
	netif_carrier_off(nic->netdev);
	/* One that is gone is reset already, which finds that out. */
	if (!labnic_gone(nic) && ++nic->failed_resets < LABNIC_RESETS_MAX)
		labnic_schedule_reset(nic);
}

/* Under the xmit lock of every queue: no ring is looked at here. */
static void labnic_tx_timeout(struct net_device *netdev, unsigned int txqueue)
{
	struct labnic *nic = netdev_priv(netdev);

	atomic_inc(&nic->tx_timeouts);
	if (netif_msg_tx_err(nic))
		netdev_err(netdev, "TX queue %u timed out\n", txqueue);
	labnic_schedule_reset(nic);
}

static void labnic_log_queue(struct labnic *nic, u32 i)
{
	struct labnic_tx_ring *tx = &nic->queues[i].rings->tx;
	u32 tx_error, rx_error;

	tx_error = FIELD_GET(LABNIC_TX_STATUS_ERROR,
			     labnic_read(nic, LABNIC_REG_TX_STATUS(i)));
	rx_error = FIELD_GET(LABNIC_RX_STATUS_ERROR,
			     labnic_read(nic, LABNIC_REG_RX_STATUS(i)));
	if (labnic_gone(nic))
		return;
	if (tx_error || rx_error)
		netdev_err(nic->netdev, "queue %u stopped: TX error %u, RX error %u\n",
			   i, tx_error, rx_error);

	netif_info(nic, tx_err, nic->netdev,
		   "TX queue %u: %u published, %u completed, %u consumed\n",
		   i, READ_ONCE(tx->next), READ_ONCE(tx->clean),
		   labnic_read(nic, LABNIC_REG_TX_HEAD(i)));
}

/* The device does not answer: it has been taken away, or is as good as. */
static void labnic_lost(struct labnic *nic)
{
	if (!netif_device_present(nic->netdev))
		return;
	netdev_err(nic->netdev, "the device is gone\n");
	netif_carrier_off(nic->netdev);
	netif_device_detach(nic->netdev);
	labnic_halt(nic);
}

static void labnic_reset(struct labnic *nic)
{
	int err;
	u32 i;

	if (nic->started)
		for (i = 0; i < nic->cfg.queues; i++)
			labnic_log_queue(nic, i);

	err = labnic_reconfigure(nic, &nic->cfg);
	WRITE_ONCE(nic->last_reset, jiffies | 1);
	if (!err) {
		atomic_inc(&nic->resets);
		netdev_info(nic->netdev, "reset\n");
		return;
	}

	netdev_err(nic->netdev, "reset failed: %d\n", err);
	labnic_failed(nic);
}

void labnic_reset_task(struct work_struct *work)
{
	struct labnic *nic = container_of(to_delayed_work(work), struct labnic,
					  reset_work);

	/*
	 * Open, stop, suspend and unregistering hold rtnl. None of them waits
	 * for this work while it does.
	 */
	rtnl_lock();
	if (labnic_gone(nic))
		labnic_lost(nic);
	else if (nic->running)
		labnic_reset(nic);
	rtnl_unlock();
}

static void labnic_uninit(struct net_device *netdev)
{
	struct labnic *nic = netdev_priv(netdev);

	kfree(nic->queues);
	nic->queues = NULL;
}

/* What the interface has from its registration to its end. Under rtnl. */
static int labnic_init(struct net_device *netdev)
{
	struct labnic *nic = netdev_priv(netdev);
	int err;
	u32 i;

	nic->queues = kcalloc(nic->max_queues, sizeof(*nic->queues),
			      GFP_KERNEL);
	if (!nic->queues)
		return -ENOMEM;
	for (i = 0; i < nic->max_queues; i++) {
		nic->queues[i].nic = nic;
		nic->queues[i].index = i;
	}
	labnic_stats_init(nic);

	err = netif_set_real_num_queues(netdev, nic->cfg.queues,
					nic->cfg.queues);
	if (err)
		labnic_uninit(netdev);
	return err;
}

const struct net_device_ops labnic_netdev_ops = {
	.ndo_init		= labnic_init,
	.ndo_uninit		= labnic_uninit,
	.ndo_open		= labnic_open,
	.ndo_stop		= labnic_stop,
	.ndo_start_xmit		= labnic_start_xmit,
	.ndo_get_stats64	= labnic_get_stats64,
	.ndo_set_rx_mode	= labnic_set_rx_mode,
	.ndo_set_mac_address	= labnic_set_mac_address,
	.ndo_validate_addr	= eth_validate_addr,
	.ndo_change_mtu		= labnic_change_mtu,
	.ndo_tx_timeout		= labnic_tx_timeout,
	.ndo_set_features	= labnic_set_features,
	.ndo_eth_ioctl		= labnic_eth_ioctl,
	.ndo_setup_tc		= labnic_setup_tc,
};
