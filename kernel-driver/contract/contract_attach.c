// SPDX-License-Identifier: GPL-2.0-only
/* What is watched: interfaces, and drivers whose interfaces come and go. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/device.h>
#include <linux/kallsyms.h>
#include <linux/module.h>
#include <linux/nsproxy.h>
#include <linux/rculist.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>

#include "contract.h"
#include "contract_compat.h"

/*
 * A driver has a record of its own in nc_devs, whose interface is "*", for
 * what happens before an interface is known or after it has gone.
 */
#define NC_ANY		"*"

LIST_HEAD(nc_devs);
static LIST_HEAD(retired);	/* detached, while calls may be on the way */

struct nc_dev *nc_find(const struct net_device *dev)
{
	struct nc_dev *nd;

	if (!dev)
		return NULL;
	list_for_each_entry_rcu(nd, &nc_devs, list, lockdep_rtnl_is_held())
		if (READ_ONCE(nd->dev) == dev)
			return nd;
	return NULL;
}

/* Names of drivers and of their modules differ in one character. */
static bool nc_same_name(const char *a, const char *b)
{
	for (; *a && *b; a++, b++)
		if (*a != *b && !(strchr("-_", *a) && strchr("-_", *b)))
			return false;
	return *a == *b;
}

static bool nc_is_driver(const struct nc_dev *nd)
{
	return !strcmp(nd->name, NC_ANY);
}

/* The record of an attached driver. */
struct nc_dev *nc_find_driver(const char *driver)
{
	struct nc_dev *nd;

	list_for_each_entry_rcu(nd, &nc_devs, list, lockdep_rtnl_is_held())
		if (nc_is_driver(nd) && nc_same_name(nd->driver, driver))
			return nd;
	return NULL;
}

/* The name of the module that has this address, or an empty one. */
void nc_module_of(unsigned long address, char *name, size_t size)
{
	char symbol[KSYM_SYMBOL_LEN];
	char *start, *end;

	name[0] = 0;
	sprint_symbol(symbol, address);
	start = strrchr(symbol, '[');
	end = start ? strchr(start, ']') : NULL;
	if (end)
		strscpy(name, start + 1, min_t(size_t, size, end - start));
}

/* Under which name the driver of this interface is attached, or NULL. */
const char *nc_attached_driver(const struct net_device *dev)
{
	const struct device *parent = dev->dev.parent;
	const struct nc_dev *nd = NULL;
	char module[32];

	if (parent && parent->driver)
		nd = nc_find_driver(parent->driver->name);
	if (!nd && dev->netdev_ops) {
		nc_module_of((unsigned long)dev->netdev_ops->ndo_start_xmit,
			     module, sizeof(module));
		nd = module[0] ? nc_find_driver(module) : NULL;
	}
	return nd ? nd->driver : NULL;
}

static void nc_free_retired(void)
{
	struct nc_dev *nd, *next;

	synchronize_rcu();
	list_for_each_entry_safe(nd, next, &retired, list) {
		if (atomic_read(&nd->calls))
			continue;
		list_del(&nd->list);
		kvfree(nd);
	}
}

static void nc_retire(struct nc_dev *nd)
{
	list_del_rcu(&nd->list);
	/* Readers may be at it; its place in the other list comes later. */
	synchronize_rcu();
	list_add(&nd->list, &retired);
}

static struct nc_dev *nc_new(const char *name, const char *driver)
{
	struct nc_dev *nd = kvzalloc(sizeof(*nd), GFP_KERNEL);

	if (!nd)
		return NULL;
	raw_spin_lock_init(&nd->lock);
	strscpy(nd->name, name, sizeof(nd->name));
	strscpy(nd->driver, driver, sizeof(nd->driver));
	return nd;
}

/*
 * An interface of the same driver that has gone for good: the next one takes
 * over its record, so that the counts of many lives of a driver add up.
 */
static struct nc_dev *nc_heir(const char *driver)
{
	struct nc_dev *nd;

	list_for_each_entry(nd, &nc_devs, list)
		if (nd->driver[0] && !strcmp(nd->driver, driver) &&
		    !nc_is_driver(nd) && !nd->dev && !atomic_read(&nd->calls))
			return nd;
	return NULL;
}

static void nc_born(struct nc_dev *nd, struct net_device *dev)
{
	strscpy(nd->name, dev->name, sizeof(nd->name));
	nd->parent = dev->dev.parent;
	nd->hardware = dev->dev.parent && dev->dev.parent->bus;
	nd->gone = false;
	nd->registered_here = false;
	nd->setup_known = false;
	nd->inits = 0;
	nd->uninits = 0;
	nd->opens = 0;
	nd->frees = 0;
	nd->destroyed = 0;
	nd->stopped = false;
	nd->vectors_known = 0;
	memset(nd->polling, 0, sizeof(nd->polling));
	memset(&nd->stats, 0, sizeof(nd->stats));
	/* From here on the handlers find it, with all of the above. */
	smp_store_release(&nd->dev, dev);
}

/* Watch an interface, for an attached driver or (NULL) by its own name. */
struct nc_dev *nc_watch(struct net_device *dev, const char *driver)
{
	struct nc_dev *nd = nc_find(dev);

	ASSERT_RTNL();
	if (nd && !nd->gone)
		return nd;
	/* One that has gone with this address was registered in vain. */
	if (!nd && driver)
		nd = nc_heir(driver);
	if (nd) {
		nc_born(nd, dev);
	} else {
		nd = nc_new(dev->name, driver ?: "");
		if (!nd)
			return NULL;
		nc_born(nd, dev);
		list_add_tail_rcu(&nd->list, &nc_devs);
	}
	nc_probes_update();
	nc_probe_callbacks(nd);
	return nd;
}

int nc_attach_dev(const char *name)
{
	struct net_device *dev;
	int err = 0;

	rtnl_lock();
	dev = __dev_get_by_name(current->nsproxy->net_ns, name);
	if (!dev) {
		pr_err("attach: there is no interface %s\n", name);
		err = -ENODEV;
	} else if (nc_find(dev)) {
		pr_err("attach: %s is watched already\n", name);
		err = -EEXIST;
	} else if (!nc_watch(dev, NULL)) {
		err = -ENOMEM;
	}
	rtnl_unlock();
	return err;
}

int nc_attach_driver(const char *name)
{
	struct net_device *dev;
	struct nc_dev *nd;
	int err = 0;

	if (strlen(name) >= sizeof(nd->driver)) {
		pr_err("attach: the driver's name %s is too long\n", name);
		return -ENAMETOOLONG;
	}
	rtnl_lock();
	if (nc_find_driver(name)) {
		pr_err("attach: the driver %s is watched already\n", name);
		err = -EEXIST;
		goto unlock;
	}
	nd = nc_new(NC_ANY, name);
	if (!nd) {
		err = -ENOMEM;
		goto unlock;
	}
	list_add_tail_rcu(&nd->list, &nc_devs);
	nc_probes_update();
	for_each_netdev(current->nsproxy->net_ns, dev) {
		const char *driver = nc_attached_driver(dev);

		if (driver && nc_same_name(driver, name))
			nc_watch(dev, driver);
	}
unlock:
	rtnl_unlock();
	return err;
}

static bool nc_named(const struct nc_dev *nd, const char *kind,
		     const char *name)
{
	if (!strcmp(kind, "all"))
		return true;
	if (!strcmp(kind, "driver"))
		return nd->driver[0] && nc_same_name(nd->driver, name);
	return !nd->driver[0] && !strcmp(nd->name, name);
}

int nc_detach(const char *kind, const char *name)
{
	struct nc_dev *nd, *next;
	unsigned int found = 0;

	rtnl_lock();
	list_for_each_entry_safe(nd, next, &nc_devs, list) {
		if (!nc_named(nd, kind, name))
			continue;
		nc_retire(nd);
		found++;
	}
	nc_probes_update();
	nc_free_retired();
	rtnl_unlock();
	if (found || !strcmp(kind, "all"))
		return 0;
	pr_err("detach: %s %s is not watched\n", kind, name);
	return -ENOENT;
}

void nc_show_attached(struct seq_file *seq)
{
	const struct nc_dev *nd;

	rtnl_lock();
	list_for_each_entry(nd, &nc_devs, list)
		if (nc_is_driver(nd))
			seq_printf(seq, "driver %s\n", nd->driver);
		else if (!nd->driver[0])
			seq_printf(seq, "dev %s%s\n", nd->name,
				   nd->gone ? " (gone)" : "");
	rtnl_unlock();
}

/* Under rtnl. An interface that goes is let go: no reference is ever held. */
static int nc_event(struct notifier_block *nb, unsigned long event, void *data)
{
	struct net_device *dev = netdev_notifier_info_to_dev(data);
	const char *driver;
	struct nc_dev *nd;

	if (event == NETDEV_REGISTER) {
		driver = nc_attached_driver(dev);
		if (driver)
			nc_watch(dev, driver);
	}
	nd = nc_find(dev);
	if (!nd)
		return NOTIFY_DONE;
	switch (event) {
	case NETDEV_REGISTER:
	case NETDEV_CHANGENAME:
		strscpy(nd->name, dev->name, sizeof(nd->name));
		break;
	case NETDEV_UP:
		/* Open may have added NAPIs and changed the callbacks. */
		nc_probe_callbacks(nd);
		break;
	case NETDEV_UNREGISTER:
		nd->gone = true;
		break;
	}
	return NOTIFY_OK;
}

static struct notifier_block events = { .notifier_call = nc_event };

static int nc_module_event(struct notifier_block *nb, unsigned long event,
			   void *data)
{
	const struct module *module = data;

	if (event != MODULE_STATE_GOING)
		return NOTIFY_DONE;
	rtnl_lock();
	nc_life_module_gone(module->name);
	nc_keep_names(module);
	nc_probes_forget(module);
	rtnl_unlock();
	return NOTIFY_OK;
}

/* After the kernel's own, which marks the probes of the module. */
static struct notifier_block modules = {
	.notifier_call = nc_module_event,
	.priority = -1,
};

int nc_events_init(void)
{
	int err = register_module_notifier(&modules);

	if (err)
		return err;
	err = register_netdevice_notifier(&events);
	if (err)
		unregister_module_notifier(&modules);
	return err;
}

void nc_events_exit(void)
{
	unregister_netdevice_notifier(&events);
	unregister_module_notifier(&modules);
}

/* The probes have gone: nobody is in a handler. */
void nc_attach_exit(void)
{
	struct nc_dev *nd, *next;

	list_splice_init(&retired, &nc_devs);
	list_for_each_entry_safe(nd, next, &nc_devs, list)
		kvfree(nd);
}
