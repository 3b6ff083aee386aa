// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupts after stop. A vector is one of the interface's queues when its
 * handler was seen to schedule a NAPI of the interface; others, such as that
 * for the link, may go on. A shared line is left out: others raise it, too.
 */
#include <linux/interrupt.h>
#include <linux/percpu.h>
#include <linux/rculist.h>
#include <linux/tracepoint.h>

#include "contract.h"
#include "contract_compat.h"

static DEFINE_PER_CPU(struct irqaction *, running);
static DEFINE_PER_CPU(int, running_irq);

static struct tracepoint *entry_point, *exit_point;

static bool nc_same(const struct nc_vector *vector, int irq,
		    const struct irqaction *action)
{
	return vector->irq == irq && vector->dev_id == action->dev_id &&
	       vector->handler == action->handler;
}

static bool nc_vector_known(const struct nc_dev *nd, int irq,
			    const struct irqaction *action)
{
	unsigned int i, n;

	/* Pairs with the release where a vector is learnt. */
	n = smp_load_acquire(&nd->vectors_known);
	for (i = 0; i < n; i++)
		if (nc_same(&nd->vectors[i], irq, action))
			return true;
	return false;
}

/* Called where a NAPI of this device is scheduled. */
void nc_irq_scheduled(struct net_device *dev)
{
	struct irqaction *action = this_cpu_read(running);
	int irq = this_cpu_read(running_irq);
	struct nc_dev *nd;
	unsigned long flags;

	if (!action || action->flags & IRQF_SHARED)
		return;
	nd = nc_find(dev);
	if (!nd || nc_vector_known(nd, irq, action))
		return;
	raw_spin_lock_irqsave(&nd->lock, flags);
	if (nd->vectors_known < NC_VECTORS) {
		nd->vectors[nd->vectors_known] = (struct nc_vector) {
			irq, action->handler, action->dev_id
		};
		/* The vector is there before it counts. */
		smp_store_release(&nd->vectors_known, nd->vectors_known + 1);
	}
	raw_spin_unlock_irqrestore(&nd->lock, flags);
}

static void nc_irq_entry(void *data, int irq, struct irqaction *action)
{
	struct nc_dev *nd;

	this_cpu_write(running, action);
	this_cpu_write(running_irq, irq);
	list_for_each_entry_rcu(nd, &nc_devs, list) {
		if (!nd->dev || !nc_vector_known(nd, irq, action))
			continue;
		nc_count(nd, NC_IRQ, BIT(NC_HARDIRQ) | BIT(NC_IRQS_OFF));
		nc_note(nd, NC_IRQ, NC_S4, !READ_ONCE(nd->stopped) ||
			netif_running(nd->dev),
			"an interrupt of a queue after stop has returned",
			irq);
	}
}

static void nc_irq_end(void *data, int irq, struct irqaction *action, int ret)
{
	this_cpu_write(running, NULL);
}

int nc_irq_init(void)
{
	int err;

	entry_point = nc_tracepoint("irq_handler_entry");
	exit_point = nc_tracepoint("irq_handler_exit");
	if (!entry_point || !exit_point)
		return -ENOENT;
	err = tracepoint_probe_register(exit_point, nc_irq_end, NULL);
	if (err)
		return err;
	err = tracepoint_probe_register(entry_point, nc_irq_entry, NULL);
	if (err)
		tracepoint_probe_unregister(exit_point, nc_irq_end, NULL);
	return err;
}

void nc_irq_exit(void)
{
	tracepoint_probe_unregister(entry_point, nc_irq_entry, NULL);
	tracepoint_probe_unregister(exit_point, nc_irq_end, NULL);
	tracepoint_synchronize_unregister();
}
