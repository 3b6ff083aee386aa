// SPDX-License-Identifier: GPL-2.0-only
/* Rules of the NAPI polls, and which polls run at this time. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/rculist.h>
#include <linux/rtnetlink.h>
#include <linux/workqueue.h>

#include "contract.h"
#include "contract_compat.h"

/* What a poll returned, as the report tells it. */
enum { NC_WORK_NONE, NC_WORK_PART, NC_WORK_FULL };

/*
 * A poll has ended for its NAPI with napi_complete_done(), not with its
 * return: another one may begin in between.
 */
static int nc_completed(struct kprobe *kp, struct pt_regs *regs)
{
	struct napi_struct *napi = (void *)regs_get_kernel_argument(regs, 0);
	struct nc_dev *nd = nc_find(READ_ONCE(napi->dev));
	int i;

	for (i = 0; nd && i < NC_POLLS; i++)
		if (READ_ONCE(nd->polling[i]) == napi)
			cmpxchg(&nd->polling[i], napi, NULL);
	return 0;
}

static void nc_look_again(struct work_struct *work)
{
	struct nc_dev *nd;

	rtnl_lock();
	list_for_each_entry(nd, &nc_devs, list)
		if (nd->dev && !nd->gone)
			nc_probe_poll(nd);
	rtnl_unlock();
}

static DECLARE_WORK(look_again, nc_look_again);

/* A poll that is not known yet; a handler cannot set a probe itself. */
static int nc_napi_added(struct kprobe *kp, struct pt_regs *regs)
{
	struct net_device *dev = (void *)regs_get_kernel_argument(regs, 0);
	void *poll = (void *)regs_get_kernel_argument(regs, 2);

	if (nc_find(dev) && !nc_poll_known(poll))
		schedule_work(&look_again);
	return 0;
}

static int nc_scheduled(struct kprobe *kp, struct pt_regs *regs)
{
	struct napi_struct *napi = (void *)regs_get_kernel_argument(regs, 0);

	nc_irq_scheduled(READ_ONCE(napi->dev));
	return 0;
}

/*
 * napi_disable() leaves both bits set, as does the adding of a NAPI. A driver
 * that has a new NAPI for each open deletes the old one in its stop, where
 * nc_poll_stopped() finds it no more.
 */
static const unsigned long nc_napi_off = NAPIF_STATE_SCHED | NAPIF_STATE_NPSVC;

static int nc_napi_deleted(struct kprobe *kp, struct pt_regs *regs)
{
	struct napi_struct *napi = (void *)regs_get_kernel_argument(regs, 0);
	struct nc_dev *nd = nc_find(READ_ONCE(napi->dev));
	unsigned long state = READ_ONCE(napi->state);

	if (nd && state & NAPIF_STATE_LISTED)
		nc_note(nd, NC_POLL, NC_S4,
			(state & nc_napi_off) == nc_napi_off,
			"a NAPI is deleted while it is enabled", state);
	return 0;
}

static struct kprobe helpers[] = {
	{ .symbol_name = "napi_complete_done", .pre_handler = nc_completed },
	{ .symbol_name = "netif_napi_add_weight",
	  .pre_handler = nc_napi_added },
	{ .symbol_name = "__netif_napi_del", .pre_handler = nc_napi_deleted },
	{ .symbol_name = "__napi_schedule", .pre_handler = nc_scheduled },
	{ .symbol_name = "__napi_schedule_irqoff",
	  .pre_handler = nc_scheduled },
};

static unsigned int helpers_there;

int nc_poll_init(void)
{
	int err;

	for (; helpers_there < ARRAY_SIZE(helpers); helpers_there++) {
		err = register_kprobe(&helpers[helpers_there]);
		if (err) {
			pr_err("no probe on %s: %d\n",
			       helpers[helpers_there].symbol_name, err);
			nc_poll_exit();
			return err;
		}
	}
	return 0;
}

void nc_poll_exit(void)
{
	while (helpers_there)
		unregister_kprobe(&helpers[--helpers_there]);
	cancel_work_sync(&look_again);
}

static bool nc_poll_begin(struct nc_call *call, struct napi_struct *napi)
{
	struct nc_dev *nd = call->nd;
	bool alone = true;
	int i;

	for (i = 0; i < NC_POLLS; i++)
		if (READ_ONCE(nd->polling[i]) == napi)
			alone = false;
	for (i = 0; i < NC_POLLS && call->poll < 0; i++)
		if (!READ_ONCE(nd->polling[i]) &&
		    !cmpxchg(&nd->polling[i], NULL, napi))
			call->poll = i;
	return alone;
}

static bool nc_poll_context(const struct nc_call *call,
			    const struct napi_struct *napi)
{
	if (call->state & (BIT(NC_SOFTIRQ) | BIT(NC_NETPOLL)))
		return true;
	if (!(call->state & BIT(NC_PROCESS)))
		return false;
	/* Its own thread, or a reader that polls the NAPI of its socket. */
	return call->state & BIT(NC_BH_OFF) &&
	       (call->state & BIT(NC_THREADED) ||
		napi->state & NAPIF_STATE_IN_BUSY_POLL);
}

void nc_poll_enter(struct nc_call *call, struct pt_regs *regs)
{
	struct napi_struct *napi = (void *)regs_get_kernel_argument(regs, 0);
	unsigned long state = READ_ONCE(napi->state);
	int budget = regs_get_kernel_argument(regs, 1);
	struct nc_dev *nd = call->nd;

	call->napi.which = napi;
	call->napi.budget = budget;
	call->entry_flags = call->state & BIT(NC_IRQS_OFF);
	if (!budget)
		call->state |= BIT(NC_NETPOLL);
	if (READ_ONCE(napi->thread) == current &&
	    call->state & BIT(NC_PROCESS))
		call->state |= BIT(NC_THREADED);
	if (state & NAPIF_STATE_SCHED)
		call->state |= BIT(NC_SCHED);

	/* netpoll takes a NAPI with another bit. */
	nc_judge(call, NC_P1,
		 state & (budget ? NAPIF_STATE_SCHED : NAPIF_STATE_NPSVC),
		 "the NAPI is not scheduled", state);
	nc_judge(call, NC_P1, nc_poll_begin(call, napi),
		 "two polls of one NAPI at the same time", 0);
	nc_judge(call, NC_P2, nc_poll_context(call, napi),
		 "called neither in a softirq nor in the NAPI's thread", 0);
	nc_judge(call, NC_S4, !READ_ONCE(nd->stopped) ||
		 netif_running(nd->dev), "poll after stop has returned", 0);
}

void nc_poll_leave(struct nc_call *call, long ret)
{
	struct nc_seen *seen = &call->nd->seen[NC_POLL];
	int work = (int)ret;

	/* After its completion the place may be that of another poll. */
	if (call->poll >= 0)
		cmpxchg(&call->nd->polling[call->poll], call->napi.which, NULL);
	if (call->napi.budget) {
		nc_judge(call, NC_P1, work >= 0 && work <= call->napi.budget,
			 "returns more than its budget", work);
	} else {
		nc_judge(call, NC_P3, !work,
			 "does work although its budget is 0", work);
		nc_judge(call, NC_P3, !call->entry_flags == !call->irqs_off_now,
			 "interrupts are not as the caller had them", 0);
	}
	nc_count_return(seen, !work ? NC_WORK_NONE :
			work < call->napi.budget ? NC_WORK_PART : NC_WORK_FULL);
}

/*
 * While a NAPI is enabled, netpoll alone sets the second bit, and that is not
 * while stop runs.
 */
void nc_poll_stopped(struct nc_call *call)
{
	struct napi_struct *napi;
	bool disabled = true;

	list_for_each_entry_rcu(napi, &call->nd->dev->napi_list, dev_list)
		if ((READ_ONCE(napi->state) & nc_napi_off) != nc_napi_off)
			disabled = false;
	nc_judge(call, NC_S4, disabled,
		 "a NAPI is still enabled at the return", 0);
}
