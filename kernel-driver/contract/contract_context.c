// SPDX-License-Identifier: GPL-2.0-only
/*
 * In which context a probed function was called.
 *
 * A probe's handler does not run in its function's context: the machinery
 * turns preemption off, and with a breakpoint it looks like an NMI. What it
 * adds is measured once, with a probe on a function whose context is known.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mutex.h>
#include <linux/preempt.h>

#include "contract.h"
#include "contract_compat.h"

#define NC_MUTEX_FLAGS	0x07UL	/* low bits of mutex.owner */

/* What a breakpoint's entry adds: see exc_int3() and __nmi_enter(). */
#define NC_NMI		(NMI_OFFSET + HARDIRQ_OFFSET)

static struct {
	int preempt;		/* levels that the machinery adds */
	int rcu;
} added;

static struct mutex *rtnl;
static struct task_struct *measuring;

static int nc_preempt_count(void)
{
	return preempt_count() - (in_nmi() ? NC_NMI : 0);
}

static int nc_measure(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	if (current == measuring) {
		added.preempt = nc_preempt_count();
		added.rcu = nc_rcu_depth();
	}
	return 1;
}

/* Called once with preemption on, in no read section. */
static noinline int nc_known_context(int value)
{
	/* Not to be merged with another function, nor optimised away. */
	barrier();
	return value;
}

static int nc_see_mutex(struct kprobe *kp, struct pt_regs *regs)
{
	if (current == measuring)
		rtnl = (struct mutex *)regs_get_kernel_argument(regs, 0);
	return 0;
}

/* rtnl_mutex has no name for modules, but the kernel hands it around. */
static int nc_find_rtnl(void)
{
	struct kprobe kp = {
		.symbol_name = "mutex_is_locked",
		.pre_handler = nc_see_mutex,
	};
	int err = register_kprobe(&kp);

	if (err)
		return err;
	rtnl_is_locked();
	unregister_kprobe(&kp);
	return rtnl ? 0 : -ENOENT;
}

int nc_context_init(void)
{
	struct kretprobe rp = {
		.kp.addr = (kprobe_opcode_t *)nc_known_context,
		.entry_handler = nc_measure,
		.maxactive = 4,
	};
	int err = register_kretprobe(&rp);

	if (err)
		return err;
	measuring = current;
	added.preempt = -1;
	nc_known_context(preempt_count());
	unregister_kretprobe(&rp);
	err = added.preempt < 0 ? -EIO : nc_find_rtnl();
	measuring = NULL;
	if (err)
		pr_err("cannot measure the context of a probe: %d\n", err);
	return err;
}

/* Whether the caller of the probed function is the one that holds rtnl. */
bool nc_rtnl_held(void)
{
	unsigned long owner = atomic_long_read(&rtnl->owner);

	return (owner & ~NC_MUTEX_FLAGS) == (unsigned long)current &&
	       nc_lockdep_rtnl();
}

/* The NC_ bits that can be told of every call. */
unsigned long nc_context(const struct kprobe *kp, const struct pt_regs *regs)
{
	/* A probe that is a jump adds one level, and is never an NMI. */
	bool measured = kprobe_ftrace((struct kprobe *)kp);
	int count = nc_preempt_count();
	unsigned long state = 0;

	if (measured)
		count -= added.preempt;
	else if (!in_nmi())
		count--;

	if (count & HARDIRQ_MASK)
		state |= BIT(NC_HARDIRQ);
	else if (count & SOFTIRQ_OFFSET)
		state |= BIT(NC_SOFTIRQ);
	else
		state |= BIT(NC_PROCESS);
	if (nc_irqs_off(regs))
		state |= BIT(NC_IRQS_OFF);
	if (count & SOFTIRQ_MASK)
		state |= BIT(NC_BH_OFF);
	if (count || nc_irqs_off(regs))
		state |= BIT(NC_ATOMIC);
	/* A section that cannot be preempted is a read section, too. */
	if (nc_rcu_depth() > added.rcu || state & BIT(NC_ATOMIC))
		state |= BIT(NC_RCU);
	if (state & BIT(NC_PROCESS) && nc_rtnl_held())
		state |= BIT(NC_RTNL);
	return state;
}

const char *nc_context_witness(void)
{
	return NC_LOCKDEP ? "probe+lockdep" : "probe";
}
