/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * netdev_contract: watches whether a network driver and the kernel keep the
 * rules that they have with each other. It knows no driver by name.
 *
 * A probe sits on each callback that a watched interface has. What is on the
 * way between entry and return is a struct nc_call; what is known about an
 * interface a struct nc_dev. Lists and probes change under rtnl alone; the
 * probes' handlers read the lists under RCU, as preemption is off in them.
 */
#ifndef CONTRACT_H
#define CONTRACT_H

#include <linux/atomic.h>
#include <linux/if_link.h>
#include <linux/kprobes.h>
#include <linux/netdevice.h>
#include <linux/sched.h>
#include <linux/seq_file.h>

#define NC_STACK	24	/* entries of a violation's stack */
#define NC_SYMBOL	64	/* bytes of the name of one */
#define NC_VIOLATIONS	32	/* different ones kept for an interface */
#define NC_RETURNS	6	/* different values kept for a callback */
#define NC_POLLS	64	/* polls of one interface at the same time */
#define NC_VECTORS	80	/* interrupt vectors learnt for an interface */

enum nc_rule {
	NC_NO_RULE,
	NC_A1, NC_A2, NC_A3, NC_A4, NC_A5,
	NC_O1, NC_O2,
	NC_S1, NC_S2, NC_S3, NC_S4,
	NC_I1, NC_I2,
	NC_G1, NC_G2,
	NC_X1, NC_X2, NC_X3, NC_X4, NC_X5, NC_X6, NC_X7, NC_X8,
	NC_T1, NC_T2, NC_T3,
	NC_M1, NC_M2,
	NC_P1, NC_P2, NC_P3,
	NC_N1, NC_N2, NC_N3, NC_N4, NC_N5,
	NC_RULES
};

/* What is watched: callbacks of the driver, then calls that it makes. */
enum nc_kind {
	NC_INIT, NC_UNINIT, NC_OPEN, NC_STOP, NC_XMIT, NC_STATS64, NC_STATS,
	NC_RX_MODE, NC_TX_TIMEOUT, NC_ETH_IOCTL, NC_PRIVATE_IOCTL,
	NC_DO_IOCTL, NC_HWTSTAMP_GET, NC_HWTSTAMP_SET, NC_CHANGE_MTU,
	NC_SETUP_TC, NC_POLL, NC_DESTRUCTOR,
	NC_REGISTER, NC_FREE, NC_RELEASE, NC_REMOVE, NC_IRQ,
	NC_KINDS
};

/* Bits of what held at a callback's entry. */
enum nc_state_bit {
	/* the context: one of the first three, and what was switched off */
	NC_PROCESS, NC_SOFTIRQ, NC_HARDIRQ,
	NC_IRQS_OFF, NC_BH_OFF, NC_ATOMIC, NC_THREADED, NC_NETPOLL,
	/* locks, held by the caller as far as the kernel tells */
	NC_RTNL, NC_TXQ_LOCK, NC_TX_GLOBAL, NC_ADDR_LOCK, NC_RCU, NC_SCHED,
	NC_STATE_BITS
};

#define NC_FIRST_LOCK	NC_RTNL

struct nc_dev;
struct nc_call;

/* What the observer knows of a kind of call. */
struct nc_callback {
	const char *name;
	int op;			/* offset in net_device_ops, or -1 */
	u8 dev_arg;		/* which argument is the net_device */
	u8 rtnl;		/* rules: rtnl held by the caller, */
	u8 process;		/* may sleep, */
	u8 bh_off;		/* bottom halves off, */
	u8 no_sleep;		/* does not sleep */
	bool returns;		/* has a value */
	u64 more;		/* other rules that are judged here */
	void (*enter)(struct nc_call *call, struct pt_regs *regs);
	void (*leave)(struct nc_call *call, long ret);
};

#define NC_RULE(name)	BIT_ULL(NC_##name)

/* Counts of one kind of call of one interface. */
struct nc_seen {
	bool there;		/* the interface has this callback */
	atomic_long_t calls;
	atomic_long_t state[NC_STATE_BITS];
	struct {
		atomic_long_t count;
		long value;
	} returns[NC_RETURNS];
	atomic_long_t other_returns;
	atomic_long_t judged[NC_RULES];
	atomic_long_t violated[NC_RULES];
	atomic_long_t own[NC_RULES];	/* of these: see nc_own_call() */
};

struct nc_violation {
	enum nc_kind kind;
	enum nc_rule rule;
	const char *text;
	bool own;		/* the driver called its callback itself */
	long value;		/* of the first time, as the text says */
	unsigned long state;
	unsigned long count;
	char task[TASK_COMM_LEN];
	pid_t pid;
	int cpu;
	unsigned int depth;
	unsigned long stack[NC_STACK];
	char names[NC_STACK][NC_SYMBOL];	/* of what was unloaded */
};

struct nc_vector {
	int irq;
	void *handler;
	void *dev_id;
};

/* Fields that must be set before the interface is registered (rule N1). */
struct nc_setup {
	const struct net_device_ops *netdev_ops;
	const struct ethtool_ops *ethtool_ops;
	const struct header_ops *header_ops;
	unsigned int min_mtu, max_mtu;
};

struct nc_dev {
	struct list_head list;	/* of nc_devs, or of those that are retired */
	struct net_device *dev;	/* NULL: none (any more) */
	struct device *parent;	/* compared, never followed */
	char name[IFNAMSIZ];
	char driver[32];	/* attached by this name; empty: by its own */
	bool hardware;		/* has a device on a bus */
	bool gone;		/* unregistered: nothing of it is read */
	atomic_t calls;		/* on the way */

	/* life */
	bool registered_here;	/* the observer saw its registration */
	bool setup_known;
	struct nc_setup setup;
	unsigned int inits, uninits, opens, frees, destroyed;
	bool stopped;		/* stop has returned, open not been called */

	struct napi_struct *polling[NC_POLLS];
	struct nc_vector vectors[NC_VECTORS];
	unsigned int vectors_known;

	raw_spinlock_t lock;	/* of what follows */
	struct rtnl_link_stats64 stats;	/* the largest that were returned */
	unsigned int violations_kept;
	unsigned long violations_lost;
	struct nc_violation violations[NC_VIOLATIONS];

	struct nc_seen seen[NC_KINDS];
};

struct nc_call {
	struct nc_dev *nd;
	const struct nc_callback *callback;
	enum nc_kind kind;
	unsigned long function;	/* the callback, and where it returns to */
	unsigned long caller;
	unsigned long state;	/* NC_PROCESS ... */
	unsigned long entry_flags;	/* interrupts, as the caller had them */
	bool irqs_off_now;	/* at the return */
	int sleeper;		/* place in the table of sleepers, or -1 */
	int poll;		/* place in nd->polling, or -1 */
	union {
		struct {
			struct rtnl_link_stats64 *to;
			struct rtnl_link_stats64 floor;
		} stats;
		struct {
			struct napi_struct *which;	/* not followed */
			int budget;
		} napi;
		unsigned int mtu;
	};
};

/* contract_main.c */
struct tracepoint;

struct tracepoint *nc_tracepoint(const char *name);

/* contract_attach.c */
extern struct list_head nc_devs;

int nc_attach_dev(const char *name);
int nc_attach_driver(const char *name);
int nc_detach(const char *kind, const char *name);
void nc_detach_all(void);
void nc_show_attached(struct seq_file *seq);
struct nc_dev *nc_find(const struct net_device *dev);
struct nc_dev *nc_find_driver(const char *driver);
struct nc_dev *nc_watch(struct net_device *dev, const char *driver);
const char *nc_attached_driver(const struct net_device *dev);
void nc_module_of(unsigned long address, char *name, size_t size);
int nc_events_init(void);
void nc_events_exit(void);
void nc_attach_exit(void);

/* contract_probe.c */
int nc_probe_callbacks(struct nc_dev *nd);
void nc_probe_poll(struct nc_dev *nd);
bool nc_poll_known(const void *poll);
void nc_probes_update(void);
void nc_probes_forget(const struct module *module);
void nc_probes_exit(void);
void nc_probes_show(struct seq_file *seq);

/* contract_context.c */
int nc_context_init(void);
unsigned long nc_context(const struct kprobe *kp, const struct pt_regs *regs);
bool nc_rtnl_held(void);
const char *nc_context_witness(void);

/* contract_rules.c */
extern const char * const nc_rule_names[NC_RULES];
extern const struct nc_callback nc_callbacks[NC_KINDS];
extern const char * const nc_state_names[NC_STATE_BITS];
void nc_enter(struct nc_call *call, struct pt_regs *regs);
void nc_leave(struct nc_call *call, long ret);
void nc_judge(struct nc_call *call, enum nc_rule rule, bool kept,
	      const char *text, long value);
void nc_note(struct nc_dev *nd, enum nc_kind kind, enum nc_rule rule,
	     bool kept, const char *text, long value);
void nc_count(struct nc_dev *nd, enum nc_kind kind, unsigned long state);
void nc_count_return(struct nc_seen *seen, long value);
void nc_keep_names(const struct module *module);
void nc_clear(struct nc_dev *nd);
u64 nc_rules_of(const struct nc_callback *callback);

/* contract_ops.c: the callbacks that are called seldom */
void nc_open_enter(struct nc_call *call, struct pt_regs *regs);
void nc_open_leave(struct nc_call *call, long ret);
void nc_stop_enter(struct nc_call *call, struct pt_regs *regs);
void nc_stop_leave(struct nc_call *call, long ret);
void nc_init_enter(struct nc_call *call, struct pt_regs *regs);
void nc_uninit_enter(struct nc_call *call, struct pt_regs *regs);
void nc_rx_mode_enter(struct nc_call *call, struct pt_regs *regs);
void nc_timeout_enter(struct nc_call *call, struct pt_regs *regs);
void nc_mtu_enter(struct nc_call *call, struct pt_regs *regs);
void nc_mtu_leave(struct nc_call *call, long ret);
void nc_setup_tc_enter(struct nc_call *call, struct pt_regs *regs);
void nc_destructor_enter(struct nc_call *call, struct pt_regs *regs);

/* contract_xmit.c: transmission and counters */
void nc_xmit_enter(struct nc_call *call, struct pt_regs *regs);
void nc_xmit_leave(struct nc_call *call, long ret);
void nc_stats64_enter(struct nc_call *call, struct pt_regs *regs);
void nc_stats64_leave(struct nc_call *call, long ret);
void nc_stats_enter(struct nc_call *call, struct pt_regs *regs);

/* contract_poll.c */
int nc_poll_init(void);
void nc_poll_exit(void);
void nc_poll_enter(struct nc_call *call, struct pt_regs *regs);
void nc_poll_leave(struct nc_call *call, long ret);
void nc_poll_stopped(struct nc_call *call);

/* contract_life.c: allocation, free, release, remove */
int nc_life_init(void);
void nc_life_exit(void);
bool nc_life_allocated(const struct net_device *dev);
void nc_life_module_gone(const char *module);

/* contract_register.c */
int nc_register_init(void);
void nc_register_exit(void);

/* contract_sleep.c */
int nc_sleep_init(void);
void nc_sleep_exit(void);
int nc_sleep_enter(struct nc_call *call);
void nc_sleep_leave(struct nc_call *call);

/* contract_irq.c */
int nc_irq_init(void);
void nc_irq_exit(void);
void nc_irq_scheduled(struct net_device *dev);

/* contract_report.c */
int nc_report_init(void);
void nc_report_exit(void);

#endif /* CONTRACT_H */
