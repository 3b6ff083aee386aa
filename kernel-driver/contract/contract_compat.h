/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between kernel versions and architectures, and the only place
 * that asks for one. Each part names the change that it covers.
 */
#ifndef CONTRACT_COMPAT_H
#define CONTRACT_COMPAT_H

#include <linux/kprobes.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/version.h>

#define NC_SINCE(major, minor)						\
	(KERNEL_VERSION(LINUX_VERSION_MAJOR, LINUX_VERSION_PATCHLEVEL, 0) >= \
	 KERNEL_VERSION(major, minor, 0))

/* 6.12: "netdev_features: convert NETIF_F_LLTX to dev->lltx" */
static inline bool nc_lltx(const struct net_device *dev)
{
#if NC_SINCE(6, 12)
	return dev->lltx;
#else
	return dev->features & NETIF_F_LLTX;
#endif
}

static inline void nc_lltx_set(struct net_device *dev)
{
#if NC_SINCE(6, 12)
	dev->lltx = true;
#else
	dev->features |= NETIF_F_LLTX;
#endif
}

/* 6.6: "net: Add NDOs for hardware timestamp get/set" */
#if NC_SINCE(6, 6)
#define NC_OP_HWTSTAMP_GET	offsetof(const struct net_device_ops, \
					 ndo_hwtstamp_get)
#define NC_OP_HWTSTAMP_SET	offsetof(const struct net_device_ops, \
					 ndo_hwtstamp_set)
#else
#define NC_OP_HWTSTAMP_GET	-1
#define NC_OP_HWTSTAMP_SET	-1
#endif

/*
 * 6.15: "net: hold netdev instance lock during ...", with the functions of
 * drivers that opt in. Rule N5 is theirs.
 */
#define NC_HAS_OPS_LOCK		NC_SINCE(6, 15)

/* The saved flags say whether interrupts were on: a probe may turn them off. */
static inline bool nc_irqs_off(const struct pt_regs *regs)
{
#ifdef CONFIG_X86
	return !(regs->flags & X86_EFLAGS_IF);
#else
#error "say here where this architecture saves the interrupt flag"
#endif
}

/* Where a function that has just been entered returns to. */
static inline unsigned long nc_return_address(struct pt_regs *regs)
{
#ifdef CONFIG_X86
	return regs_get_kernel_stack_nth(regs, 0);
#else
#error "say here where this architecture keeps the return address"
#endif
}

/* How deep the current task is in RCU read sections. */
static inline int nc_rcu_depth(void)
{
#ifdef CONFIG_PREEMPT_RCU
	return current->rcu_read_lock_nesting;
#else
	return 0;
#endif
}

/* Where the kernel has lockdep it knows the owner of every lock. */
#ifdef CONFIG_PROVE_LOCKING
#define NC_LOCKDEP	1
#define nc_lockdep_held(lock)						\
	(lockdep_is_held(lock) != LOCK_STATE_NOT_HELD)
#define nc_lockdep_rtnl()	lockdep_rtnl_is_held()
#else
#define NC_LOCKDEP	0
#define nc_lockdep_held(lock)	true
#define nc_lockdep_rtnl()	true
#endif

/*
 * Somebody holds the lock; with lockdep: the caller does. A callback is not
 * stopped for this: it is told what was found.
 */
static inline bool nc_locked(spinlock_t *lock)
{
	return raw_spin_is_locked(&lock->rlock) && nc_lockdep_held(lock);
}

#endif /* CONTRACT_COMPAT_H */
