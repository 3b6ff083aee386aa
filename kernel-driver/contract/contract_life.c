// SPDX-License-Identifier: GPL-2.0-only
/* The life of a net_device's memory: allocated, freed, released. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kprobes.h>
#include <linux/pci.h>
#include <linux/rculist.h>
#include <linux/rtnetlink.h>
#include <linux/stacktrace.h>

#include "contract.h"
#include "contract_compat.h"

#define NC_ALLOCATIONS	128
#define NC_CALLERS	32

static struct nc_allocation {
	const struct net_device *dev;
	size_t priv;
	char module[32];	/* that asked for it */
	bool freed;
} allocations[NC_ALLOCATIONS];

static DEFINE_RAW_SPINLOCK(lock);
static bool overflow;		/* some are not in the table */

/* On the way through alloc_netdev_mqs(). */
struct nc_allocating {
	size_t priv;
	char module[32];
};

/* The module nearest to a call from it, empty for the kernel itself. */
static void nc_caller(char *module, size_t size)
{
	unsigned long stack[NC_CALLERS];
	unsigned int i, n = stack_trace_save(stack, NC_CALLERS, 0);

	module[0] = 0;
	for (i = 0; i < n && !module[0]; i++) {
		nc_module_of(stack[i], module, size);
		if (!strcmp(module, KBUILD_MODNAME))
			module[0] = 0;
	}
}

static int nc_alloc_entry(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct nc_allocating *data = (struct nc_allocating *)ri->data;

	data->priv = regs_get_kernel_argument(regs, 0);
	nc_caller(data->module, sizeof(data->module));
	return 0;
}

static struct nc_allocation *nc_allocation(const struct net_device *dev)
{
	int i;

	for (i = 0; i < NC_ALLOCATIONS; i++)
		if (allocations[i].dev == dev)
			return &allocations[i];
	return NULL;
}

/* A place for a new one: that of the same address, a free one, a freed one. */
static struct nc_allocation *nc_place(const struct net_device *dev)
{
	struct nc_allocation *place = nc_allocation(dev);
	int i;

	place = place ?: nc_allocation(NULL);
	for (i = 0; i < NC_ALLOCATIONS && !place; i++)
		if (allocations[i].freed)
			place = &allocations[i];
	return place;
}

static int nc_alloc_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct nc_allocating *data = (struct nc_allocating *)ri->data;
	struct net_device *dev = (void *)regs_return_value(regs);
	struct nc_allocation *place;
	unsigned long flags;

	if (!dev)
		return 0;
	raw_spin_lock_irqsave(&lock, flags);
	place = nc_place(dev);
	if (place) {
		place->dev = dev;
		place->priv = data->priv;
		place->freed = false;
		memcpy(place->module, data->module, sizeof(place->module));
	} else {
		overflow = true;
	}
	raw_spin_unlock_irqrestore(&lock, flags);
	return 0;
}

/* Whether alloc_netdev made it, since the observer was loaded. */
bool nc_life_allocated(const struct net_device *dev)
{
	const struct nc_allocation *found;
	unsigned long flags;
	bool there;

	raw_spin_lock_irqsave(&lock, flags);
	found = nc_allocation(dev);
	there = found ? !found->freed : overflow;
	raw_spin_unlock_irqrestore(&lock, flags);
	return there;
}

/*
 * free_netdev() deletes the NAPIs that are left. That is meant for those in
 * the private data; one elsewhere is memory that the driver may have freed.
 */
static bool nc_napis_inside(const struct net_device *dev, size_t priv)
{
	unsigned long first = (unsigned long)netdev_priv(dev);
	unsigned long napi;

	if (list_empty(&dev->napi_list))
		return true;
	napi = (unsigned long)list_first_entry(&dev->napi_list,
					       struct napi_struct, dev_list);
	return napi >= first && napi < first + priv;
}

static void nc_judge_free(struct nc_dev *nd, const struct net_device *dev,
			  bool again)
{
	enum nc_kind kind = NC_FREE;
	bool early = dev->reg_state == NETREG_REGISTERED;

	nc_count(nd, kind, 0);
	nc_note(nd, kind, NC_A2, !again, "freed again", 0);
	nc_note(nd, kind, NC_A2, !early, "freed while it is registered", 0);
	/* The kernel stops itself at this: nobody could read the report. */
	if (early)
		pr_err("A2: %s is freed while it is registered\n", dev->name);
	if (nd->seen[NC_DESTRUCTOR].there && nd->dev == dev &&
	    dev->reg_state == NETREG_UNREGISTERED)
		nc_note(nd, kind, NC_A4, nd->destroyed == 1,
			"private data was not destroyed before",
			nd->destroyed);
	nd->frees++;
}

static int nc_free(struct kprobe *kp, struct pt_regs *regs)
{
	struct net_device *dev = (void *)regs_get_kernel_argument(regs, 0);
	struct nc_allocation *found, was = { .dev = NULL };
	unsigned long flags;
	struct nc_dev *nd;

	/* Called within the unregistering, it only asks to be called later. */
	if (!dev || dev->reg_state == NETREG_UNREGISTERING)
		return 0;
	raw_spin_lock_irqsave(&lock, flags);
	found = nc_allocation(dev);
	if (found) {
		was = *found;
		found->freed = true;
	}
	raw_spin_unlock_irqrestore(&lock, flags);

	nd = nc_find(dev) ?: nc_find_driver(was.module);
	if (!nd)
		return 0;
	nc_judge_free(nd, dev, was.freed);
	if (was.dev)
		nc_note(nd, NC_FREE, NC_A5, nc_napis_inside(dev, was.priv),
			"a NAPI outside the private data is left", 0);
	/* Never registered: its memory goes at once. */
	if (dev->reg_state == NETREG_UNINITIALIZED && nd->dev == dev)
		WRITE_ONCE(nd->dev, NULL);
	return 0;
}

/* The last user of the structure has gone: it is given back now. */
static int nc_release(struct kprobe *kp, struct pt_regs *regs)
{
	struct device *device = (void *)regs_get_kernel_argument(regs, 0);
	struct net_device *dev = to_net_dev(device);
	struct nc_dev *nd = nc_find(dev);

	if (!nd)
		return 0;
	nc_count(nd, NC_RELEASE, 0);
	nc_note(nd, NC_RELEASE, NC_A3, nd->frees == 1,
		"released although free_netdev() was not called once",
		nd->frees);
	nc_note(nd, NC_RELEASE, NC_A4, dev->reg_state == NETREG_RELEASED,
		"released before it was unregistered", dev->reg_state);
	WRITE_ONCE(nd->dev, NULL);
	return 0;
}

/* Under rtnl, when the module's exit has ended. */
void nc_life_module_gone(const char *module)
{
	struct nc_allocation was;
	unsigned long flags;
	struct nc_dev *nd;
	int i;

	for (i = 0; i < NC_ALLOCATIONS; i++) {
		raw_spin_lock_irqsave(&lock, flags);
		was = allocations[i];
		if (was.dev && !strcmp(was.module, module))
			allocations[i].dev = NULL;
		raw_spin_unlock_irqrestore(&lock, flags);
		if (!was.dev || strcmp(was.module, module))
			continue;
		nd = nc_find(was.dev) ?: nc_find_driver(module);
		if (!nd)
			continue;
		nc_note(nd, NC_REMOVE, NC_A2, was.freed, "never freed", 0);
		/* Or the kernel's leak detector would find it here. */
		if (nd->dev == was.dev)
			WRITE_ONCE(nd->dev, NULL);
	}
}

/* The driver has let go of a device, managed resources included. */
static int nc_unbound(struct notifier_block *nb, unsigned long event,
		      void *data)
{
	struct device *device = data;
	struct nc_dev *nd;

	if (event != BUS_NOTIFY_UNBOUND_DRIVER)
		return NOTIFY_DONE;
	rtnl_lock();
	list_for_each_entry(nd, &nc_devs, list) {
		if (nd->parent != device)
			continue;
		nc_count(nd, NC_REMOVE, BIT(NC_PROCESS));
		nc_note(nd, NC_REMOVE, NC_A2, nd->frees == 1,
			"not freed when remove has ended", nd->frees);
		nc_note(nd, NC_REMOVE, NC_A5,
			!to_pci_dev(device)->msi_enabled &&
			!to_pci_dev(device)->msix_enabled,
			"MSI or MSI-X is still on when remove has ended", 0);
		nd->parent = NULL;
	}
	rtnl_unlock();
	return NOTIFY_OK;
}

static struct kretprobe alloc_probe = {
	.kp.symbol_name = "alloc_netdev_mqs",
	.entry_handler = nc_alloc_entry,
	.handler = nc_alloc_return,
	.data_size = sizeof(struct nc_allocating),
	.maxactive = 16,
};

static struct kprobe free_probe = {
	.symbol_name = "free_netdev",
	.pre_handler = nc_free,
};

static struct kprobe release_probe = {
	.symbol_name = "netdev_release",
	.pre_handler = nc_release,
};

static struct notifier_block unbound = { .notifier_call = nc_unbound };

int nc_life_init(void)
{
	int err = register_kretprobe(&alloc_probe);

	if (err)
		return err;
	err = register_kprobe(&free_probe);
	if (err)
		goto no_free;
	err = register_kprobe(&release_probe);
	if (err)
		goto no_release;
	err = bus_register_notifier(&pci_bus_type, &unbound);
	if (err)
		goto no_bus;
	return 0;

no_bus:
	unregister_kprobe(&release_probe);
no_release:
	unregister_kprobe(&free_probe);
no_free:
	unregister_kretprobe(&alloc_probe);
	return err;
}

void nc_life_exit(void)
{
	bus_unregister_notifier(&pci_bus_type, &unbound);
	unregister_kprobe(&release_probe);
	unregister_kprobe(&free_probe);
	unregister_kretprobe(&alloc_probe);
}
