// SPDX-License-Identifier: GPL-2.0-only
/* The module's beginning and end. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/tracepoint.h>

#include "contract.h"

struct nc_search {
	const char *name;
	struct tracepoint *found;
};

static void nc_compare(struct tracepoint *point, void *data)
{
	struct nc_search *search = data;

	if (!strcmp(point->name, search->name))
		search->found = point;
}

/* Not every tracepoint has a name that modules can link to. */
struct tracepoint *nc_tracepoint(const char *name)
{
	struct nc_search search = { .name = name };

	for_each_kernel_tracepoint(nc_compare, &search);
	return search.found;
}

/* In the order in which they start; they end in the reverse one. */
static const struct {
	const char *what;
	int (*init)(void);
	void (*exit)(void);
} parts[] = {
	{ "context", nc_context_init, NULL },
	{ "interfaces", NULL, nc_attach_exit },
	{ "callbacks", NULL, nc_probes_exit },
	{ "events", nc_events_init, nc_events_exit },
	{ "sleepers", nc_sleep_init, nc_sleep_exit },
	{ "interrupts", nc_irq_init, nc_irq_exit },
	{ "polls", nc_poll_init, nc_poll_exit },
	{ "life", nc_life_init, nc_life_exit },
	{ "registration", nc_register_init, nc_register_exit },
	{ "files", nc_report_init, nc_report_exit },
};

static void nc_end(int n)
{
	while (n--)
		if (parts[n].exit)
			parts[n].exit();
}

static int __init nc_start(void)
{
	int i, err;

	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		err = parts[i].init ? parts[i].init() : 0;
		if (err) {
			pr_err("cannot start (%s): %d\n", parts[i].what, err);
			nc_end(i);
			return err;
		}
	}
	return 0;
}

static void __exit nc_stop(void)
{
	nc_end(ARRAY_SIZE(parts));
}

module_init(nc_start);
module_exit(nc_stop);

MODULE_DESCRIPTION("Observer of the contract between kernel and net drivers");
MODULE_LICENSE("GPL");
