// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A network driver that does wrong when it is told to, so that tests see that
 * the observer of the contract notices. Nothing else has a use for it.
 *
 * It has no hardware: its frames are dropped, and its interrupt comes when
 * "kick" is written to the parameter "act". Another name written to it is a
 * misdeed that is done at once; one in "bug" is a way to behave from then on.
 */
#include <linux/delay.h>
#include <linux/etherdevice.h>
#include <linux/interrupt.h>
#include <linux/irq.h>
#include <linux/irqdesc.h>
#include <linux/kmemleak.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/platform_device.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>

#include "contract_compat.h"

#define BADNET_BUDGET	8

struct badnet {
	struct napi_struct napi;
	struct napi_struct *outside;
	bool napi_on;
	bool pretend;		/* open and stop do nothing */
	unsigned long packets;
	unsigned long left;	/* goes down with each look */
};

static char bug[32];
module_param_string(bug, bug, sizeof(bug), 0600);
MODULE_PARM_DESC(bug, "what to do wrong");

static struct platform_device *platform;
static struct net_device *netdev;
static int irq;

static bool bug_is(const char *name)
{
	return sysfs_streq(bug, name);
}

/* The callbacks */

static int badnet_init(struct net_device *dev)
{
	return 0;
}

static void badnet_uninit(struct net_device *dev)
{
}

static int badnet_poll(struct napi_struct *napi, int budget);

static int badnet_open(struct net_device *dev)
{
	struct badnet *bad = netdev_priv(dev);

	if (bad->pretend)
		return 0;
	if (!bad->napi_on)
		napi_enable(&bad->napi);
	bad->napi_on = true;
	if (bug_is("open_fails"))
		return -EIO;
	netif_tx_start_all_queues(dev);
	return 0;
}

static int badnet_stop(struct net_device *dev)
{
	struct badnet *bad = netdev_priv(dev);

	if (bad->pretend)
		return 0;
	netif_tx_stop_all_queues(dev);
	if (bug_is("napi_deleted")) {
		netif_napi_del(&bad->napi);
		netif_napi_add(dev, &bad->napi, badnet_poll);
		bad->napi_on = false;
	}
	if (!bug_is("stop_napi") && bad->napi_on) {
		napi_disable(&bad->napi);
		bad->napi_on = false;
	}
	return 0;
}

static netdev_tx_t badnet_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct badnet *bad = netdev_priv(dev);

	if (bug_is("xmit_busy")) {
		bug[0] = 0;
		return NETDEV_TX_BUSY;
	}
	if (bug_is("xmit_sleep"))
		msleep(20);
	if (bug_is("xmit_irqs"))
		local_irq_enable();
	bad->packets++;
	dev_kfree_skb_any(skb);
	return bug_is("xmit_value") ? (netdev_tx_t)NET_XMIT_DROP : NETDEV_TX_OK;
}

static void badnet_stats(struct net_device *dev, struct rtnl_link_stats64 *to)
{
	struct badnet *bad = netdev_priv(dev);

	if (bug_is("stats_sleep"))
		msleep(20);
	to->tx_packets = bug_is("stats_back") ? bad->left-- : bad->packets;
}

static void badnet_rx_mode(struct net_device *dev)
{
}

static void badnet_timeout(struct net_device *dev, unsigned int queue)
{
}

static int badnet_ioctl(struct net_device *dev, struct ifreq *ifr, int cmd)
{
	return -EOPNOTSUPP;
}

static int badnet_mtu(struct net_device *dev, int mtu)
{
	if (!bug_is("mtu_lie"))
		WRITE_ONCE(dev->mtu, mtu);
	return 0;
}

static int badnet_tc(struct net_device *dev, enum tc_setup_type type, void *to)
{
	return -EOPNOTSUPP;
}

/* Kept from the compiler, which would call it where no probe is. */
static int (*poll_again)(struct napi_struct *, int) = badnet_poll;

static int badnet_poll(struct napi_struct *napi, int budget)
{
	if (bug_is("poll_twice")) {
		bug[0] = 0;
		READ_ONCE(poll_again)(napi, budget);
	}
	if (bug_is("poll_sleep"))
		msleep(20);
	if (bug_is("netpoll_irqs"))
		local_irq_enable();
	if (bug_is("netpoll_work"))
		return 1;
	if (bug_is("poll_over"))
		return budget + 1;
	/* Called by hand, it is not the kernel's to complete. */
	if (test_bit(NAPI_STATE_SCHED, &napi->state) && budget)
		napi_complete_done(napi, 0);
	return 0;
}

static void badnet_destructor(struct net_device *dev)
{
}

static const struct net_device_ops badnet_ops = {
	.ndo_init = badnet_init,
	.ndo_uninit = badnet_uninit,
	.ndo_open = badnet_open,
	.ndo_stop = badnet_stop,
	.ndo_start_xmit = badnet_xmit,
	.ndo_get_stats64 = badnet_stats,
	.ndo_set_rx_mode = badnet_rx_mode,
	.ndo_tx_timeout = badnet_timeout,
	.ndo_eth_ioctl = badnet_ioctl,
	.ndo_change_mtu = badnet_mtu,
	.ndo_setup_tc = badnet_tc,
	.ndo_set_mac_address = eth_mac_addr,
};

static const struct net_device_ops other_ops = {
	.ndo_open = badnet_open,
	.ndo_stop = badnet_stop,
	.ndo_start_xmit = badnet_xmit,
};

static irqreturn_t badnet_irq(int number, void *data)
{
	struct badnet *bad = data;

	napi_schedule_irqoff(&bad->napi);
	return IRQ_HANDLED;
}

/* Misdeeds that are done at once */

static void kick(void)
{
	local_irq_disable();
	generic_handle_irq(irq);
	local_irq_enable();
}

static void call_open(void)
{
	struct badnet *bad = netdev_priv(netdev);

	bad->pretend = true;
	netdev->netdev_ops->ndo_open(netdev);
	bad->pretend = false;
}

static void call_stop(void)
{
	struct badnet *bad = netdev_priv(netdev);

	bad->pretend = true;
	netdev->netdev_ops->ndo_stop(netdev);
	bad->pretend = false;
}

static void open_atomic(void)
{
	rtnl_lock();
	preempt_disable();
	call_open();
	preempt_enable();
	rtnl_unlock();
}

static void stop_atomic(void)
{
	rtnl_lock();
	preempt_disable();
	call_stop();
	preempt_enable();
	rtnl_unlock();
}

static void stop_running(void)
{
	rtnl_lock();
	call_stop();
	rtnl_unlock();
}

static void call_init(void)
{
	rtnl_lock();
	netdev->netdev_ops->ndo_init(netdev);
	rtnl_unlock();
}

static void call_uninit(void)
{
	rtnl_lock();
	netdev->netdev_ops->ndo_uninit(netdev);
	rtnl_unlock();
}

static void call_xmit(void)
{
	struct sk_buff *skb = netdev_alloc_skb(netdev, ETH_ZLEN);

	if (skb)
		netdev->netdev_ops->ndo_start_xmit(skb, netdev);
}

/*
 * As netconsole does, the lock included. With softirqs off as well, or lockdep
 * finds the bug first and is gone for all that comes after.
 */
static void xmit_irqs(void)
{
	struct sk_buff *skb = netdev_alloc_skb(netdev, ETH_ZLEN);
	struct netdev_queue *txq = netdev_get_tx_queue(netdev, 0);

	if (!skb)
		return;
	local_bh_disable();
	local_irq_disable();
	__netif_tx_lock(txq, smp_processor_id());
	netdev->netdev_ops->ndo_start_xmit(skb, netdev);
	__netif_tx_unlock(txq);
	local_irq_enable();
	local_bh_enable();
}

static void call_stats(void)
{
	struct rtnl_link_stats64 stats = {};

	netdev->netdev_ops->ndo_get_stats64(netdev, &stats);
}

static void call_rx_mode(void)
{
	netdev->netdev_ops->ndo_set_rx_mode(netdev);
}

static void call_timeout(void)
{
	netdev->netdev_ops->ndo_tx_timeout(netdev, 0);
}

static void call_ioctl(void)
{
	struct ifreq ifr = {};

	netdev->netdev_ops->ndo_eth_ioctl(netdev, &ifr, 0);
}

static void ioctl_atomic(void)
{
	rtnl_lock();
	preempt_disable();
	call_ioctl();
	preempt_enable();
	rtnl_unlock();
}

static void call_mtu(void)
{
	netdev->netdev_ops->ndo_change_mtu(netdev, ETH_DATA_LEN);
}

static void mtu_range(void)
{
	rtnl_lock();
	netdev->netdev_ops->ndo_change_mtu(netdev, netdev->max_mtu + 1);
	netdev->netdev_ops->ndo_change_mtu(netdev, ETH_DATA_LEN);
	rtnl_unlock();
}

static void call_tc(void)
{
	netdev->netdev_ops->ndo_setup_tc(netdev, TC_SETUP_QDISC_MQPRIO, NULL);
}

static void call_poll(void)
{
	struct badnet *bad = netdev_priv(netdev);

	READ_ONCE(poll_again)(&bad->napi, BADNET_BUDGET);
}

/* As netpoll does, with its mark on the NAPI. */
static void call_netpoll(void)
{
	struct badnet *bad = netdev_priv(netdev);

	local_irq_disable();
	set_bit(NAPI_STATE_NPSVC, &bad->napi.state);
	READ_ONCE(poll_again)(&bad->napi, 0);
	clear_bit(NAPI_STATE_NPSVC, &bad->napi.state);
	local_irq_enable();
}

static void call_destructor(void)
{
	netdev->priv_destructor(netdev);
}

/* The kernel stops at this. */
static void free_registered(void)
{
	free_netdev(netdev);
}

/* A copy. It is refused for its name, before anything of it is used. */
static void not_allocated(void)
{
	struct net_device *copy = kmemdup(netdev, sizeof(*netdev), GFP_KERNEL);

	if (!copy)
		return;
	strscpy(copy->name, "bad/name", sizeof(copy->name));
	copy->reg_state = NETREG_UNINITIALIZED;
	rtnl_lock();
	if (!register_netdevice(copy))
		pr_err("badnet: registered although the name is wrong\n");
	rtnl_unlock();
	kfree(copy);
}

static const struct {
	const char *name;
	void (*act)(void);
} misdeeds[] = {
	{ "kick", kick },
	{ "call_open", call_open },
	{ "open_atomic", open_atomic },
	{ "call_stop", call_stop },
	{ "stop_atomic", stop_atomic },
	{ "stop_running", stop_running },
	{ "call_init", call_init },
	{ "call_uninit", call_uninit },
	{ "call_xmit", call_xmit },
	{ "xmit_irqs", xmit_irqs },
	{ "call_stats", call_stats },
	{ "call_rx_mode", call_rx_mode },
	{ "call_timeout", call_timeout },
	{ "call_ioctl", call_ioctl },
	{ "ioctl_atomic", ioctl_atomic },
	{ "call_mtu", call_mtu },
	{ "mtu_range", mtu_range },
	{ "call_tc", call_tc },
	{ "call_poll", call_poll },
	{ "call_netpoll", call_netpoll },
	{ "call_destructor", call_destructor },
	{ "free_registered", free_registered },
	{ "not_allocated", not_allocated },
};

static int act_set(const char *value, const struct kernel_param *kp)
{
	int i;

	for (i = 0; netdev && i < ARRAY_SIZE(misdeeds); i++) {
		if (sysfs_streq(value, misdeeds[i].name)) {
			misdeeds[i].act();
			return 0;
		}
	}
	return -EINVAL;
}

static const struct kernel_param_ops act_ops = { .set = act_set };

module_param_cb(act, &act_ops, NULL, 0200);
MODULE_PARM_DESC(act, "a misdeed, done at once");

/* Beginning and end */

static int badnet_add_napis(struct net_device *dev)
{
	struct badnet *bad = netdev_priv(dev);

	netif_napi_add(dev, &bad->napi, badnet_poll);
	if (!bug_is("napi_outside"))
		return 0;
	bad->outside = kzalloc(sizeof(*bad->outside), GFP_KERNEL);
	if (!bad->outside)
		return -ENOMEM;
	netif_napi_add(dev, bad->outside, badnet_poll);
	return 0;
}

static int badnet_register(struct net_device *dev)
{
	int err;

	if (bug_is("lltx"))
		nc_lltx_set(dev);
	err = register_netdev(dev);
	if (err)
		return err;
	if (bug_is("ops_late"))
		dev->netdev_ops = &other_ops;
	if (bug_is("mtu_late"))
		dev->max_mtu = ETH_DATA_LEN - 1;
	return 0;
}

static int badnet_irq_make(struct badnet *bad)
{
	int err;

	/* Owned by nobody, or the handler would keep the module loaded. */
	irq = __irq_alloc_descs(-1, 0, 1, NUMA_NO_NODE, NULL, NULL);
	if (irq < 0)
		return irq;
	irq_set_chip_and_handler(irq, &dummy_irq_chip, handle_simple_irq);
	err = request_irq(irq, badnet_irq, 0, "badnet", bad);
	if (err)
		irq_free_desc(irq);
	return err;
}

static struct net_device *badnet_alloc(void)
{
	struct net_device *dev = alloc_etherdev(sizeof(struct badnet));
	struct badnet *bad;

	if (!dev)
		return NULL;
	strscpy(dev->name, "bad%d", sizeof(dev->name));
	dev->netdev_ops = &badnet_ops;
	dev->priv_destructor = badnet_destructor;
	dev->max_mtu = 2 * ETH_DATA_LEN;
	bad = netdev_priv(dev);
	bad->left = 1000;
	eth_hw_addr_random(dev);
	SET_NETDEV_DEV(dev, &platform->dev);
	return dev;
}

static int __init badnet_start(void)
{
	struct net_device *dev;
	int err;

	platform = platform_device_register_simple("badnet", -1, NULL, 0);
	if (IS_ERR(platform))
		return PTR_ERR(platform);
	err = -ENOMEM;
	dev = badnet_alloc();
	if (!dev)
		goto no_dev;
	err = badnet_irq_make(netdev_priv(dev));
	if (err)
		goto no_irq;
	err = badnet_add_napis(dev);
	if (!err)
		err = badnet_register(dev);
	if (err)
		goto no_register;
	netdev = dev;
	return 0;

no_register:
	free_irq(irq, netdev_priv(dev));
	irq_free_desc(irq);
no_irq:
	free_netdev(dev);
no_dev:
	platform_device_unregister(platform);
	return err;
}

/*
 * What is lost on purpose is no news to the kernel's leak detector: a copy
 * that it knows of points to all that the structure points to.
 */
static void badnet_lose(void)
{
	void *copy = kmemdup(netdev, sizeof(*netdev), GFP_KERNEL);

	kmemleak_not_leak(netdev);
	if (copy)
		kmemleak_not_leak(copy);
}

static void __exit badnet_end(void)
{
	struct badnet *bad = netdev_priv(netdev);
	struct napi_struct *outside = bad->outside;

	unregister_netdev(netdev);
	free_irq(irq, bad);
	irq_free_desc(irq);
	if (bug_is("put") || bug_is("leak"))
		badnet_lose();
	if (bug_is("put")) {
		/* As free_netdev() leaves it, lest the kernel stop here. */
		netif_napi_del(&bad->napi);
		netdev->reg_state = NETREG_RELEASED;
		put_device(&netdev->dev);
	} else if (!bug_is("leak")) {
		free_netdev(netdev);
	}
	kfree(outside);
	platform_device_unregister(platform);
}

module_init(badnet_start);
module_exit(badnet_end);

MODULE_DESCRIPTION("A network driver that breaks rules for tests");
MODULE_LICENSE("GPL");
