// SPDX-License-Identifier: GPL-2.0-only
/* Rules of the callbacks that are called seldom. */
#include <linux/spinlock.h>

#include "contract.h"
#include "contract_compat.h"

static void nc_init_same(struct nc_call *call)
{
	struct nc_dev *nd = call->nd;
	const struct nc_setup *then = &nd->setup;
	const struct net_device *dev = nd->dev;

	if (!nd->setup_known)
		return;
	nc_judge(call, NC_N1, dev->netdev_ops == then->netdev_ops,
		 "netdev_ops was set after the registration", 0);
	nc_judge(call, NC_N1, dev->ethtool_ops == then->ethtool_ops,
		 "ethtool_ops was set after the registration", 0);
	nc_judge(call, NC_N1, dev->header_ops == then->header_ops,
		 "header_ops was set after the registration", 0);
	nc_judge(call, NC_N1, dev->min_mtu == then->min_mtu,
		 "min_mtu was set after the registration", dev->min_mtu);
	nc_judge(call, NC_N1, dev->max_mtu == then->max_mtu,
		 "max_mtu was set after the registration", dev->max_mtu);
}

void nc_open_enter(struct nc_call *call, struct pt_regs *regs)
{
	struct nc_dev *nd = call->nd;

	/* Others may see the interface as soon as it is registered. */
	if (!nd->opens++ && nd->registered_here)
		nc_init_same(call);
	WRITE_ONCE(nd->stopped, false);
}

/* One that fails leaves the interface as stop does. */
void nc_open_leave(struct nc_call *call, long ret)
{
	if (!(int)ret)
		return;
	nc_poll_stopped(call);
	WRITE_ONCE(call->nd->stopped, true);
}

void nc_stop_enter(struct nc_call *call, struct pt_regs *regs)
{
	nc_judge(call, NC_S3, !netif_running(call->nd->dev),
		 "netif_running() is true in stop", 0);
}

void nc_stop_leave(struct nc_call *call, long ret)
{
	/* The kernel closes the interface whatever stop returns. */
	nc_poll_stopped(call);
	if (!netif_running(call->nd->dev))
		WRITE_ONCE(call->nd->stopped, true);
}

void nc_init_enter(struct nc_call *call, struct pt_regs *regs)
{
	struct nc_dev *nd = call->nd;

	nc_judge(call, NC_N2, !nd->inits++, "init is called again", 0);
	nc_judge(call, NC_N2, nd->dev->reg_state == NETREG_UNINITIALIZED,
		 "init is called after the registration",
		 nd->dev->reg_state);
}

void nc_uninit_enter(struct nc_call *call, struct pt_regs *regs)
{
	struct nc_dev *nd = call->nd;

	nc_judge(call, NC_N2, !nd->uninits++, "uninit is called again", 0);
	nc_judge(call, NC_N2, nd->dev->reg_state != NETREG_REGISTERED,
		 "uninit is called while the interface is registered", 0);
	nc_judge(call, NC_N2, !netif_running(nd->dev),
		 "uninit is called before stop", 0);
}

void nc_rx_mode_enter(struct nc_call *call, struct pt_regs *regs)
{
	bool locked = nc_locked(&call->nd->dev->addr_list_lock);

	if (locked)
		call->state |= BIT(NC_ADDR_LOCK);
	nc_judge(call, NC_M1, locked, "called without addr_list_lock", 0);
}

static bool nc_all_frozen(const struct net_device *dev)
{
	unsigned int i;

	for (i = 0; i < dev->num_tx_queues; i++)
		if (!test_bit(__QUEUE_STATE_FROZEN, &dev->_tx[i].state))
			return false;
	return true;
}

void nc_timeout_enter(struct nc_call *call, struct pt_regs *regs)
{
	unsigned int queue = regs_get_kernel_argument(regs, 1);
	struct net_device *dev = call->nd->dev;
	bool locked = nc_locked(&dev->tx_global_lock);

	if (locked)
		call->state |= BIT(NC_TX_GLOBAL);
	nc_judge(call, NC_T1, locked, "called without the lock of all queues",
		 queue);
	nc_judge(call, NC_T1, nc_all_frozen(dev), "a queue is not frozen",
		 queue);
	nc_judge(call, NC_T3, queue < dev->num_tx_queues &&
		 netif_xmit_stopped(&dev->_tx[queue]),
		 "the queue is not stopped", queue);
}

void nc_mtu_enter(struct nc_call *call, struct pt_regs *regs)
{
	const struct net_device *dev = call->nd->dev;

	call->mtu = regs_get_kernel_argument(regs, 1);
	nc_judge(call, NC_N3, (int)call->mtu >= 0 &&
		 call->mtu >= dev->min_mtu &&
		 (!dev->max_mtu || call->mtu <= dev->max_mtu),
		 "the MTU is out of range", call->mtu);
}

void nc_mtu_leave(struct nc_call *call, long ret)
{
	if (!(int)ret)
		nc_judge(call, NC_N3, call->nd->dev->mtu == call->mtu,
			 "success, but dev->mtu is not the new one",
			 call->nd->dev->mtu);
}

void nc_setup_tc_enter(struct nc_call *call, struct pt_regs *regs)
{
	enum tc_setup_type type = regs_get_kernel_argument(regs, 1);

	/* Blocks may be bound without rtnl, flow tables are. */
	if (type != TC_SETUP_BLOCK && type != TC_SETUP_FT)
		nc_judge(call, NC_N4, call->state & BIT(NC_RTNL),
			 "called by one who does not hold rtnl", type);
}

void nc_destructor_enter(struct nc_call *call, struct pt_regs *regs)
{
	struct nc_dev *nd = call->nd;

	nc_judge(call, NC_A4, !nd->destroyed++,
		 "private data is destroyed again", 0);
	nc_judge(call, NC_A4, nd->dev->reg_state != NETREG_REGISTERED,
		 "private data is destroyed while registered", 0);
}
