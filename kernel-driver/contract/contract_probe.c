// SPDX-License-Identifier: GPL-2.0-only
/*
 * The probes: one for each function and kind of callback, however many
 * interfaces share it. They stay while nothing is watched, disabled, so that
 * a call that is on the way always finds what it began with.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>

#include "contract.h"
#include "contract_compat.h"

/* Calls on the way at the same time: tasks that are in the function. */
#define NC_ACTIVE	64

struct nc_probe {
	struct list_head list;
	struct kretprobe rp;
	enum nc_kind kind;
	void *function;
	bool enabled;
};

static LIST_HEAD(probes);

static struct net_device *nc_argument(const struct nc_probe *probe,
				      struct pt_regs *regs)
{
	unsigned int n = nc_callbacks[probe->kind].dev_arg;
	unsigned long value = regs_get_kernel_argument(regs, n);

	if (probe->kind == NC_POLL)
		return READ_ONCE(((struct napi_struct *)value)->dev);
	return (struct net_device *)value;
}

static int nc_entry(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct kretprobe *rp = get_kretprobe(ri);
	struct nc_call *call = (struct nc_call *)ri->data;
	const struct nc_probe *probe;
	struct nc_dev *nd;

	if (!rp)
		return 1;
	probe = container_of(rp, struct nc_probe, rp);
	nd = nc_find(nc_argument(probe, regs));
	if (!nd)
		return 1;

	atomic_inc(&nd->calls);
	call->nd = nd;
	call->kind = probe->kind;
	call->callback = &nc_callbacks[probe->kind];
	call->function = (unsigned long)probe->function;
	call->caller = nc_return_address(regs);
	call->state = nc_context(&rp->kp, regs);
	nc_enter(call, regs);
	return 0;
}

static int nc_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct nc_call *call = (struct nc_call *)ri->data;

	call->irqs_off_now = nc_irqs_off(regs);
	nc_leave(call, regs_return_value(regs));
	atomic_dec(&call->nd->calls);
	return 0;
}

static struct nc_probe *nc_probe_find(enum nc_kind kind, const void *function)
{
	struct nc_probe *probe;

	list_for_each_entry(probe, &probes, list)
		if (probe->kind == kind && probe->function == function)
			return probe;
	return NULL;
}

static int nc_probe_function(enum nc_kind kind, void *function)
{
	struct nc_probe *probe;
	int err;

	ASSERT_RTNL();
	if (nc_probe_find(kind, function))
		return 0;
	probe = kzalloc(sizeof(*probe), GFP_KERNEL);
	if (!probe)
		return -ENOMEM;
	probe->kind = kind;
	probe->function = function;
	probe->enabled = true;
	probe->rp.kp.addr = function;
	probe->rp.entry_handler = nc_entry;
	probe->rp.handler = nc_return;
	probe->rp.data_size = sizeof(struct nc_call);
	probe->rp.maxactive = NC_ACTIVE;
	err = register_kretprobe(&probe->rp);
	if (err) {
		pr_err("no probe on %ps (%s): %d\n", function,
		       nc_callbacks[kind].name, err);
		kfree(probe);
		return err;
	}
	list_add(&probe->list, &probes);
	return 0;
}

/* Probe the polls of the NAPIs that the interface has at this time. */
void nc_probe_poll(struct nc_dev *nd)
{
	struct napi_struct *napi;

	ASSERT_RTNL();
	list_for_each_entry(napi, &nd->dev->napi_list, dev_list) {
		if (napi->poll)
			nc_probe_function(NC_POLL, napi->poll);
		nd->seen[NC_POLL].there = true;
	}
}

/* Without rtnl: a wrong answer leads to one more look. */
bool nc_poll_known(const void *poll)
{
	struct nc_probe *probe;

	/* Additions come first and removals mean that the module is gone. */
	list_for_each_entry(probe, &probes, list)
		if (probe->kind == NC_POLL && probe->function == poll)
			return true;
	return false;
}

/* Probe all callbacks that the interface has; gives the first error. */
int nc_probe_callbacks(struct nc_dev *nd)
{
	const struct net_device_ops *ops = nd->dev->netdev_ops;
	enum nc_kind kind;
	int err = 0;

	ASSERT_RTNL();
	for (kind = 0; kind < NC_KINDS; kind++) {
		void *function;
		int failed;

		if (nc_callbacks[kind].op < 0)
			continue;
		function = *(void **)((char *)ops + nc_callbacks[kind].op);
		nd->seen[kind].there = function;
		if (!function)
			continue;
		failed = nc_probe_function(kind, function);
		err = err ?: failed;
	}
	nd->seen[NC_DESTRUCTOR].there = nd->dev->priv_destructor;
	if (nd->dev->priv_destructor)
		nc_probe_function(NC_DESTRUCTOR, nd->dev->priv_destructor);
	nc_probe_poll(nd);
	return err;
}

/* On while something is watched, off otherwise. */
void nc_probes_update(void)
{
	bool enable = !list_empty(&nc_devs);
	struct nc_probe *probe;

	ASSERT_RTNL();
	list_for_each_entry(probe, &probes, list) {
		if (probe->enabled == enable)
			continue;
		if (enable ? enable_kretprobe(&probe->rp) :
			     disable_kretprobe(&probe->rp))
			continue;
		probe->enabled = enable;
	}
}

static void nc_probe_remove(struct nc_probe *probe)
{
	list_del(&probe->list);
	unregister_kretprobe(&probe->rp);
	kfree(probe);
}

/* The module's functions go. */
void nc_probes_forget(const struct module *module)
{
	struct nc_probe *probe, *next;

	ASSERT_RTNL();
	list_for_each_entry_safe(probe, next, &probes, list)
		if (within_module((unsigned long)probe->function, module))
			nc_probe_remove(probe);
}

/* Afterwards no handler runs or will run, whoever is in a callback. */
void nc_probes_exit(void)
{
	struct nc_probe *probe, *next;

	list_for_each_entry_safe(probe, next, &probes, list)
		nc_probe_remove(probe);
}

/* Calls that could not be followed make counts too small: say so. */
void nc_probes_show(struct seq_file *seq)
{
	unsigned long busy = 0, nested = 0;
	unsigned int count = 0;
	struct nc_probe *probe;

	list_for_each_entry(probe, &probes, list) {
		count++;
		busy += probe->rp.nmissed;
		nested += probe->rp.kp.nmissed;
	}
	seq_printf(seq, " probes=%u missed=%lu missed_nested=%lu", count, busy,
		   nested);
}
