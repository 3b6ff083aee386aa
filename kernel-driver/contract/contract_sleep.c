// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who sleeps where it must not: a task that gives up its CPU by itself while
 * it is in a callback that may not. Kernels without debugging options do not
 * complain of that in a read section.
 */
#include <linux/tracepoint.h>

#include "contract.h"
#include "contract_compat.h"

#define NC_TASKS	64

static struct nc_sleeper {
	struct task_struct *task;
	struct nc_call *call;
} sleepers[NC_TASKS];

static atomic_t used;
static struct tracepoint *point;

int nc_sleep_enter(struct nc_call *call)
{
	int i;

	for (i = 0; i < NC_TASKS; i++) {
		if (READ_ONCE(sleepers[i].task) ||
		    cmpxchg(&sleepers[i].task, NULL, current))
			continue;
		WRITE_ONCE(sleepers[i].call, call);
		atomic_inc(&used);
		nc_judge(call, call->callback->no_sleep, true, NULL, 0);
		return i;
	}
	return -1;
}

void nc_sleep_leave(struct nc_call *call)
{
	if (call->sleeper < 0)
		return;
	WRITE_ONCE(sleepers[call->sleeper].call, NULL);
	/* The next one finds the place empty. */
	smp_store_release(&sleepers[call->sleeper].task, NULL);
	atomic_dec(&used);
}

static void nc_switch(void *data, bool preempted, struct task_struct *prev,
		      struct task_struct *next, unsigned int prev_state)
{
	struct nc_call *call;
	int i;

	if (preempted || !atomic_read(&used))
		return;
	for (i = 0; i < NC_TASKS; i++) {
		if (READ_ONCE(sleepers[i].task) != prev)
			continue;
		call = READ_ONCE(sleepers[i].call);
		if (call)
			nc_judge(call, call->callback->no_sleep, false,
				 "sleeps", prev_state);
	}
}

int nc_sleep_init(void)
{
	point = nc_tracepoint("sched_switch");
	return point ? tracepoint_probe_register(point, nc_switch, NULL) :
		       -ENOENT;
}

void nc_sleep_exit(void)
{
	tracepoint_probe_unregister(point, nc_switch, NULL);
	tracepoint_synchronize_unregister();
}
