// SPDX-License-Identifier: GPL-2.0-only
/* Rules of transmission and of the counters, which are called often. */
#include <linux/skbuff.h>

#include "contract.h"
#include "contract_compat.h"

#define NC_COUNTERS	(sizeof(struct rtnl_link_stats64) / sizeof(u64))

/* Negative errors and codes of qdiscs are for software devices alone. */
static bool nc_xmit_value(const struct nc_dev *nd, int value)
{
	if (value == NETDEV_TX_OK || value == NETDEV_TX_BUSY)
		return true;
	return !nd->hardware && (value < 0 || value <= NET_XMIT_MASK);
}

void nc_xmit_enter(struct nc_call *call, struct pt_regs *regs)
{
	struct sk_buff *skb = (void *)regs_get_kernel_argument(regs, 0);
	struct net_device *dev = call->nd->dev;
	struct netdev_queue *txq = skb_get_tx_queue(dev, skb);
	bool lltx = nc_lltx(dev);
	bool owner = READ_ONCE(txq->xmit_lock_owner) == smp_processor_id();

	call->entry_flags = call->state & BIT(NC_IRQS_OFF);
	if (owner)
		call->state |= BIT(NC_TXQ_LOCK);
	if (!lltx)
		nc_judge(call, NC_X1, owner,
			 "called without the lock of the queue",
			 skb_get_queue_mapping(skb));
	nc_judge(call, NC_X2, !lltx || !call->nd->hardware,
		 "a driver of hardware asks for no lock (LLTX)", 0);
}

void nc_xmit_leave(struct nc_call *call, long ret)
{
	int value = (int)ret;

	nc_judge(call, NC_X5, !call->entry_flags == !call->irqs_off_now,
		 "interrupts are not as the caller had them", 0);
	nc_judge(call, NC_X6, nc_xmit_value(call->nd, value),
		 "returns what is neither OK nor BUSY", value);
	if (!nc_lltx(call->nd->dev))
		nc_judge(call, NC_X7, value != NETDEV_TX_BUSY,
			 "returns BUSY: the queue was not stopped in time",
			 value);
}

static void nc_stats_locks(struct nc_call *call)
{
	nc_judge(call, NC_G1, call->state & (BIT(NC_RCU) | BIT(NC_RTNL)),
		 "called outside of RCU and without rtnl", 0);
}

void nc_stats_enter(struct nc_call *call, struct pt_regs *regs)
{
	nc_stats_locks(call);
}

void nc_stats64_enter(struct nc_call *call, struct pt_regs *regs)
{
	struct nc_dev *nd = call->nd;
	unsigned long flags;

	nc_stats_locks(call);
	call->stats.to = (void *)regs_get_kernel_argument(regs, 1);
	raw_spin_lock_irqsave(&nd->lock, flags);
	call->stats.floor = nd->stats;
	raw_spin_unlock_irqrestore(&nd->lock, flags);
}

/*
 * Calls may overlap; one that began after another had ended must not give
 * less than that one gave.
 */
void nc_stats64_leave(struct nc_call *call, long ret)
{
	const u64 *now = (const u64 *)call->stats.to;
	const u64 *floor = (const u64 *)&call->stats.floor;
	struct nc_dev *nd = call->nd;
	u64 *largest = (u64 *)&nd->stats;
	unsigned int i, less = NC_COUNTERS;
	unsigned long flags;

	raw_spin_lock_irqsave(&nd->lock, flags);
	for (i = 0; i < NC_COUNTERS; i++) {
		/* From there on it counts anew: one fall is told once. */
		if (now[i] < floor[i])
			less = min(less, i);
		if (now[i] < floor[i] || now[i] > largest[i])
			largest[i] = now[i];
	}
	raw_spin_unlock_irqrestore(&nd->lock, flags);
	nc_judge(call, NC_G1, less == NC_COUNTERS,
		 "a counter went backwards: its index in rtnl_link_stats64",
		 less);
}
