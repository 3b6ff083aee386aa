// SPDX-License-Identifier: GPL-2.0-only
/*
 * Traffic classes: each has TX queues of its own, so that one class does not
 * wait behind another. The device serves all of its queues alike and knows
 * nothing of classes; the stack picks the queue.
 */
#include <linux/bits.h>
#include <linux/netdevice.h>
#include <net/pkt_cls.h>
#include <net/pkt_sched.h>

#include "labnic.h"

static int labnic_check_classes(const struct net_device *netdev,
				const struct tc_mqprio_qopt *qopt,
				struct netlink_ext_ack *extack)
{
	u32 used = 0;
	int i;

	for (i = 0; i < qopt->num_tc; i++) {
		u32 first = qopt->offset[i], count = qopt->count[i];
		u32 queues;

		if (!count) {
			NL_SET_ERR_MSG(extack, "a traffic class has no queue");
			return -EINVAL;
		}
		if (first + count > netdev->real_num_tx_queues) {
			NL_SET_ERR_MSG(extack,
				       "a traffic class has queues that are not in use, see ethtool -L");
			return -EINVAL;
		}
		queues = GENMASK(first + count - 1, first);
		if (queues & used) {
			NL_SET_ERR_MSG(extack,
				       "two traffic classes share a queue");
			return -EINVAL;
		}
		used |= queues;
	}
	return 0;
}

static int labnic_setup_mqprio(struct net_device *netdev,
			       struct tc_mqprio_qopt_offload *opt)
{
	struct netlink_ext_ack *extack = labnic_mqprio_extack(opt);
	struct tc_mqprio_qopt *qopt = &opt->qopt;
	int i, err;

	/* The queueing discipline goes. */
	if (!qopt->num_tc) {
		netdev_reset_tc(netdev);
		return 0;
	}

	/* One that replaces another would be undone when the other goes. */
	if (netdev_get_num_tc(netdev)) {
		NL_SET_ERR_MSG(extack,
			       "there are traffic classes; delete their qdisc first");
		return -EBUSY;
	}
	if (opt->shaper != TC_MQPRIO_SHAPER_DCB ||
	    opt->flags & (TC_MQPRIO_F_MIN_RATE | TC_MQPRIO_F_MAX_RATE)) {
		NL_SET_ERR_MSG(extack, "the device does not limit rates");
		return -EOPNOTSUPP;
	}
	err = labnic_check_classes(netdev, qopt, extack);
	if (err)
		return err;

	err = netdev_set_num_tc(netdev, qopt->num_tc);
	if (err)
		return err;
	for (i = 0; i < qopt->num_tc; i++)
		netdev_set_tc_queue(netdev, i, qopt->count[i],
				    qopt->offset[i]);
	qopt->hw = TC_MQPRIO_HW_OFFLOAD_TCS;
	return 0;
}

/* Under rtnl. */
int labnic_setup_tc(struct net_device *netdev, enum tc_setup_type type,
		    void *data)
{
	switch (type) {
	case TC_SETUP_QDISC_MQPRIO:
		return labnic_setup_mqprio(netdev, data);
	default:
		return -EOPNOTSUPP;
	}
}

/* Would the traffic classes be left with all of their queues? Under rtnl. */
bool labnic_classes_fit(const struct net_device *netdev, u32 queues)
{
	int i;

	for (i = 0; i < netdev->num_tc; i++)
		if (netdev->tc_to_txq[i].offset + netdev->tc_to_txq[i].count >
		    queues)
			return false;
	return true;
}
