// SPDX-License-Identifier: GPL-2.0-only
/*
 * The registration of an interface whose driver is watched.
 *
 * Its callbacks must have their probes before the first of them is called,
 * within register_netdevice(). A probe's handler cannot set probes; so it
 * leads the call to a function that does, and that then registers.
 */
#include <linux/rtnetlink.h>

#include "contract.h"
#include "contract_compat.h"

/* Who is on the detour; under rtnl, so that there is one at most. */
static struct task_struct *on_detour;

static bool nc_can_register(const struct net_device *dev)
{
	return dev->netdev_ops && dev->netdev_ops->ndo_start_xmit;
}

static void nc_registered(struct nc_dev *nd, int err)
{
	const struct net_device *dev = nd->dev;

	nc_count_return(&nd->seen[NC_REGISTER], err);
	nd->gone = err;
	if (err)
		return;
	if (dev->netdev_ops->ndo_init)
		nc_note(nd, NC_REGISTER, NC_N2, nd->inits == 1,
			"init was not called once", nd->inits);
	nd->setup = (struct nc_setup) {
		.netdev_ops = dev->netdev_ops,
		.ethtool_ops = dev->ethtool_ops,
		.header_ops = dev->header_ops,
		.min_mtu = dev->min_mtu,
		.max_mtu = dev->max_mtu,
	};
	nd->setup_known = true;
}

/* Nothing is read of what alloc_netdev did not make: who knows what it is. */
static struct nc_dev *nc_register_watch(struct net_device *dev)
{
	const char *driver = nc_attached_driver(dev);
	bool allocated = nc_life_allocated(dev);
	struct nc_dev *nd;

	nd = allocated ? nc_watch(dev, driver) : nc_find_driver(driver);
	if (!nd)
		return NULL;
	nc_count(nd, NC_REGISTER, BIT(NC_PROCESS) | BIT(NC_RTNL));
	nc_note(nd, NC_REGISTER, NC_A1, allocated, "not made by alloc_netdev",
		0);
	if (!allocated)
		return NULL;
	nd->registered_here = true;
	nc_note(nd, NC_REGISTER, NC_N1, nc_can_register(dev),
		"registered without the callbacks it needs", 0);
	return nd;
}

static int nc_register(struct net_device *dev)
{
	struct nc_dev *nd;
	int err;

	on_detour = current;
	nd = nc_register_watch(dev);
	err = register_netdevice(dev);
	on_detour = NULL;
	if (nd)
		nc_registered(nd, err);
	return err;
}

static int nc_register_entry(struct kprobe *kp, struct pt_regs *regs)
{
	struct net_device *dev = (void *)regs_get_kernel_argument(regs, 0);

	/* Without rtnl the kernel complains, and the detour is not safe. */
	if (on_detour == current || !nc_rtnl_held() ||
	    !nc_attached_driver(dev))
		return 0;
	instruction_pointer_set(regs, (unsigned long)nc_register);
	return 1;
}

/* A probe that has one may change where the execution goes on. */
static void nc_register_after(struct kprobe *kp, struct pt_regs *regs,
			      unsigned long flags)
{
}

static struct kprobe probe = {
	.symbol_name = "register_netdevice",
	.pre_handler = nc_register_entry,
	.post_handler = nc_register_after,
};

int nc_register_init(void)
{
	return register_kprobe(&probe);
}

void nc_register_exit(void)
{
	unregister_kprobe(&probe);
	/* Who is on the detour holds rtnl until after its end. */
	rtnl_lock();
	rtnl_unlock();
}
