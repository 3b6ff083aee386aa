// SPDX-License-Identifier: GPL-2.0-only
/* The table of callbacks with their rules, and what all of them share. */
#include <linux/module.h>
#include <linux/stacktrace.h>

#include "contract.h"
#include "contract_compat.h"

#define NC_PROBE_STACK	16	/* calls that the probes themselves make */
#define NC_ENTRY	32	/* bytes at a function's beginning */

#define NC_OP(name)	offsetof(const struct net_device_ops, ndo_##name)

const char * const nc_rule_names[NC_RULES] = {
	"-", "A1", "A2", "A3", "A4", "A5", "O1", "O2", "S1", "S2", "S3", "S4",
	"I1", "I2", "G1", "G2", "X1", "X2", "X3", "X4", "X5", "X6", "X7", "X8",
	"T1", "T2", "T3", "M1", "M2", "P1", "P2", "P3", "N1", "N2", "N3", "N4",
	"N5",
};

const char * const nc_state_names[NC_STATE_BITS] = {
	"process", "softirq", "hardirq", "irqs_off", "bh_off", "atomic",
	"threaded", "netpoll", "rtnl", "txq", "tx_global", "addr", "rcu",
	"sched",
};

const struct nc_callback nc_callbacks[NC_KINDS] = {
	[NC_INIT] = {
		.name = "ndo_init", .op = NC_OP(init), .returns = true,
		.rtnl = NC_N2, .enter = nc_init_enter,
	},
	[NC_UNINIT] = {
		.name = "ndo_uninit", .op = NC_OP(uninit),
		.rtnl = NC_N2, .enter = nc_uninit_enter,
	},
	[NC_OPEN] = {
		.name = "ndo_open", .op = NC_OP(open), .returns = true,
		.rtnl = NC_O1, .process = NC_O2,
		.more = NC_RULE(N1) | NC_RULE(S4),
		.enter = nc_open_enter, .leave = nc_open_leave,
	},
	[NC_STOP] = {
		.name = "ndo_stop", .op = NC_OP(stop), .returns = true,
		.rtnl = NC_S1, .process = NC_S2,
		.more = NC_RULE(S3) | NC_RULE(S4),
		.enter = nc_stop_enter, .leave = nc_stop_leave,
	},
	[NC_XMIT] = {
		.name = "ndo_start_xmit", .op = NC_OP(start_xmit), .dev_arg = 1,
		.returns = true, .bh_off = NC_X4, .no_sleep = NC_X4,
		.more = NC_RULE(X1) | NC_RULE(X2) | NC_RULE(X5) | NC_RULE(X6) |
			NC_RULE(X7),
		.enter = nc_xmit_enter, .leave = nc_xmit_leave,
	},
	[NC_STATS64] = {
		.name = "ndo_get_stats64", .op = NC_OP(get_stats64),
		.no_sleep = NC_G2, .more = NC_RULE(G1),
		.enter = nc_stats64_enter, .leave = nc_stats64_leave,
	},
	[NC_STATS] = {
		.name = "ndo_get_stats", .op = NC_OP(get_stats),
		.no_sleep = NC_G2, .more = NC_RULE(G1),
		.enter = nc_stats_enter,
	},
	[NC_RX_MODE] = {
		.name = "ndo_set_rx_mode", .op = NC_OP(set_rx_mode),
		.bh_off = NC_M2, .no_sleep = NC_M2, .more = NC_RULE(M1),
		.enter = nc_rx_mode_enter,
	},
	[NC_TX_TIMEOUT] = {
		.name = "ndo_tx_timeout", .op = NC_OP(tx_timeout),
		.bh_off = NC_T2, .no_sleep = NC_T2,
		.more = NC_RULE(T1) | NC_RULE(T3), .enter = nc_timeout_enter,
	},
	[NC_ETH_IOCTL] = {
		.name = "ndo_eth_ioctl", .op = NC_OP(eth_ioctl),
		.returns = true, .rtnl = NC_I1, .process = NC_I2,
	},
	[NC_PRIVATE_IOCTL] = {
		.name = "ndo_siocdevprivate", .op = NC_OP(siocdevprivate),
		.returns = true, .rtnl = NC_I1, .process = NC_I2,
	},
	[NC_DO_IOCTL] = {
		.name = "ndo_do_ioctl", .op = NC_OP(do_ioctl),
		.returns = true, .rtnl = NC_I1, .process = NC_I2,
	},
	[NC_HWTSTAMP_GET] = {
		.name = "ndo_hwtstamp_get", .op = NC_OP_HWTSTAMP_GET,
		.returns = true, .rtnl = NC_I1, .process = NC_I2,
	},
	[NC_HWTSTAMP_SET] = {
		.name = "ndo_hwtstamp_set", .op = NC_OP_HWTSTAMP_SET,
		.returns = true, .rtnl = NC_I1, .process = NC_I2,
	},
	[NC_CHANGE_MTU] = {
		.name = "ndo_change_mtu", .op = NC_OP(change_mtu),
		.returns = true, .rtnl = NC_N3,
		.enter = nc_mtu_enter, .leave = nc_mtu_leave,
	},
	[NC_SETUP_TC] = {
		.name = "ndo_setup_tc", .op = NC_OP(setup_tc), .returns = true,
		.more = NC_RULE(N4), .enter = nc_setup_tc_enter,
	},
	[NC_POLL] = {
		.name = "poll", .op = -1, .returns = true, .no_sleep = NC_P2,
		.more = NC_RULE(P1) | NC_RULE(P2) | NC_RULE(P3) | NC_RULE(S4),
		.enter = nc_poll_enter, .leave = nc_poll_leave,
	},
	[NC_DESTRUCTOR] = {
		.name = "priv_destructor", .op = -1, .more = NC_RULE(A4),
		.enter = nc_destructor_enter,
	},
	[NC_REGISTER] = {
		.name = "register_netdevice", .op = -1, .returns = true,
		.more = NC_RULE(A1) | NC_RULE(N1) | NC_RULE(N2),
	},
	[NC_FREE] = {
		.name = "free_netdev", .op = -1,
		.more = NC_RULE(A2) | NC_RULE(A4) | NC_RULE(A5),
	},
	[NC_RELEASE] = {
		.name = "netdev_release", .op = -1,
		.more = NC_RULE(A3) | NC_RULE(A4),
	},
	[NC_REMOVE] = {
		.name = "remove", .op = -1, .more = NC_RULE(A2) | NC_RULE(A5),
	},
	[NC_IRQ] = {
		.name = "irq_handler", .op = -1, .more = NC_RULE(S4),
	},
};

u64 nc_rules_of(const struct nc_callback *callback)
{
	return (callback->more | BIT_ULL(callback->rtnl) |
		BIT_ULL(callback->process) | BIT_ULL(callback->bh_off) |
		BIT_ULL(callback->no_sleep)) & ~BIT_ULL(NC_NO_RULE);
}

/* The record of this violation, a new one if it is the first; or NULL. */
static struct nc_violation *nc_violation_of(struct nc_dev *nd,
					    enum nc_kind kind,
					    enum nc_rule rule,
					    const char *text, bool own)
{
	unsigned int n = nd->violations_kept;
	struct nc_violation *v;

	for (v = nd->violations; v < nd->violations + n; v++)
		if (v->kind == kind && v->rule == rule && v->text == text &&
		    v->own == own)
			return v;
	if (n == NC_VIOLATIONS) {
		nd->violations_lost++;
		return NULL;
	}
	v->kind = kind;
	v->rule = rule;
	v->text = text;
	v->own = own;
	v->count = 0;
	nd->violations_kept = n + 1;
	return v;
}

/*
 * The stack from the callback on at its entry, from its caller on at its
 * return, or all of it when neither is found: without the probe's own calls.
 */
static void nc_save_stack(struct nc_violation *v, const struct nc_call *call)
{
	unsigned long all[NC_STACK + NC_PROBE_STACK], at;
	unsigned int i, first = 0;
	unsigned int n = stack_trace_save(all, ARRAY_SIZE(all), 2);

	for (i = 0; i < n && call && !first; i++) {
		at = all[i];
		if (at == call->caller ||
		    (at >= call->function && at < call->function + NC_ENTRY))
			first = i;
	}
	v->depth = min_t(unsigned int, n - first, NC_STACK);
	memcpy(v->stack, all + first, v->depth * sizeof(v->stack[0]));
	memset(v->names, 0, sizeof(v->names));
}

/*
 * Drivers call their callbacks themselves, too, and may know why that is safe.
 * It is told apart: the one who calls is in the same module.
 */
static bool nc_own_call(const struct nc_call *call)
{
	char caller[32], callback[32];

	nc_module_of(call->caller, caller, sizeof(caller));
	nc_module_of(call->function, callback, sizeof(callback));
	return caller[0] && !strcmp(caller, callback);
}

/* Where this is, for what is no call of a callback. */
static unsigned long nc_here(void)
{
	if (in_hardirq())
		return BIT(NC_HARDIRQ);
	return in_serving_softirq() ? BIT(NC_SOFTIRQ) : BIT(NC_PROCESS);
}

static void nc_violate(struct nc_dev *nd, enum nc_kind kind,
		       enum nc_rule rule, const char *text, long value,
		       const struct nc_call *call)
{
	bool own = call && nc_own_call(call);
	struct nc_violation *v;
	unsigned long flags;

	atomic_long_inc(&nd->seen[kind].violated[rule]);
	if (own)
		atomic_long_inc(&nd->seen[kind].own[rule]);
	raw_spin_lock_irqsave(&nd->lock, flags);
	v = nc_violation_of(nd, kind, rule, text, own);
	if (v && !v->count++) {
		v->value = value;
		v->state = call ? call->state : nc_here();
		memcpy(v->task, current->comm, sizeof(v->task));
		v->pid = current->pid;
		v->cpu = smp_processor_id();
		nc_save_stack(v, call);
	}
	raw_spin_unlock_irqrestore(&nd->lock, flags);
}

static void nc_keep_names_of(struct nc_violation *v,
			     const struct module *module)
{
	unsigned int i;

	for (i = 0; i < v->depth; i++)
		if (within_module(v->stack[i], module))
			snprintf(v->names[i], NC_SYMBOL, "%pS",
				 (void *)v->stack[i]);
}

/* The module goes, and with it the names of its functions. Under rtnl. */
void nc_keep_names(const struct module *module)
{
	struct nc_dev *nd;
	unsigned int i;

	list_for_each_entry(nd, &nc_devs, list)
		for (i = 0; i < nd->violations_kept; i++)
			nc_keep_names_of(&nd->violations[i], module);
}

/* One look at one rule, outside of a call of a callback. */
void nc_note(struct nc_dev *nd, enum nc_kind kind, enum nc_rule rule,
	     bool kept, const char *text, long value)
{
	nd->seen[kind].there = true;
	atomic_long_inc(&nd->seen[kind].judged[rule]);
	if (!kept)
		nc_violate(nd, kind, rule, text, value, NULL);
}

/* One look at one rule: ``text`` says what is wrong unless it is kept. */
void nc_judge(struct nc_call *call, enum nc_rule rule, bool kept,
	      const char *text, long value)
{
	atomic_long_inc(&call->nd->seen[call->kind].judged[rule]);
	if (!kept)
		nc_violate(call->nd, call->kind, rule, text, value, call);
}

void nc_count(struct nc_dev *nd, enum nc_kind kind, unsigned long state)
{
	struct nc_seen *seen = &nd->seen[kind];
	unsigned int bit;

	seen->there = true;
	atomic_long_inc(&seen->calls);
	for_each_set_bit(bit, &state, NC_STATE_BITS)
		atomic_long_inc(&seen->state[bit]);
}

void nc_count_return(struct nc_seen *seen, long value)
{
	int i;

	for (i = 0; i < NC_RETURNS; i++) {
		/* Two new values at once may share a place: rare. */
		if (!atomic_long_read(&seen->returns[i].count))
			seen->returns[i].value = value;
		if (seen->returns[i].value == value) {
			atomic_long_inc(&seen->returns[i].count);
			return;
		}
	}
	atomic_long_inc(&seen->other_returns);
}

void nc_enter(struct nc_call *call, struct pt_regs *regs)
{
	const struct nc_callback *callback = call->callback;

	call->sleeper = -1;
	call->poll = -1;
	if (callback->enter)
		callback->enter(call, regs);
	nc_count(call->nd, call->kind, call->state);
	if (callback->rtnl)
		nc_judge(call, callback->rtnl, call->state & BIT(NC_RTNL),
			 "called by one who does not hold rtnl", 0);
	if (callback->process)
		nc_judge(call, callback->process,
			 call->state & BIT(NC_PROCESS) &&
			 !(call->state & (BIT(NC_ATOMIC) | BIT(NC_RCU))),
			 "called where it may not sleep", 0);
	if (callback->bh_off)
		nc_judge(call, callback->bh_off,
			 call->state & (BIT(NC_BH_OFF) | BIT(NC_IRQS_OFF)),
			 "called with bottom halves on", 0);
	if (callback->no_sleep)
		call->sleeper = nc_sleep_enter(call);
}

void nc_leave(struct nc_call *call, long ret)
{
	nc_sleep_leave(call);
	if (call->callback->leave)
		call->callback->leave(call, ret);
	if (call->callback->returns && call->kind != NC_POLL)
		nc_count_return(&call->nd->seen[call->kind], (int)ret);
}

/* Forget what was counted; what is on the way counts again at its end. */
void nc_clear(struct nc_dev *nd)
{
	unsigned long flags;
	enum nc_kind kind;

	raw_spin_lock_irqsave(&nd->lock, flags);
	nd->violations_kept = 0;
	nd->violations_lost = 0;
	for (kind = 0; kind < NC_KINDS; kind++) {
		bool there = nd->seen[kind].there;

		memset(&nd->seen[kind], 0, sizeof(nd->seen[kind]));
		nd->seen[kind].there = there;
	}
	raw_spin_unlock_irqrestore(&nd->lock, flags);
}
