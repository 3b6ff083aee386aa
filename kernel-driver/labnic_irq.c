// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupts: one vector for each queue pair and one for all else. The other
 * end is the file of this name in qemu-device/.
 *
 * There are no mask registers. A queue's vector fires when a count passes the
 * event that the driver wrote, and is silent from then on until the driver
 * writes another event. What the driver writes beside the event has the device
 * hold the interrupt back.
 */
#include <linux/interrupt.h>
#include <linux/netdevice.h>

#include "labnic.h"

static irqreturn_t labnic_queue_irq(int irq, void *data)
{
	struct labnic_queue *queue = data;

	napi_schedule_irqoff(&queue->rings->napi);
	return IRQ_HANDLED;
}

static irqreturn_t labnic_misc_irq(int irq, void *data)
{
	struct labnic *nic = data;
	u32 cause;

	cause = labnic_read(nic, LABNIC_REG_MISC_CAUSE);
	if (labnic_gone(nic))
		return IRQ_HANDLED;

	/* Cleared first: what happens from here on fires again. */
	labnic_write(nic, LABNIC_REG_MISC_CAUSE, cause);
	if (cause & LABNIC_MISC_CAUSE_LINK)
		labnic_link_update(nic);
	if (cause & LABNIC_MISC_CAUSE_QUEUE_ERROR)
		labnic_schedule_reset(nic);
	return cause ? IRQ_HANDLED : IRQ_NONE;
}

/* For the word beside an event. */
__le32 labnic_hold(u32 usecs, u32 frames)
{
	return cpu_to_le32(FIELD_PREP(LABNIC_STATUS_BLOCK_TX_IRQ_HOLD_USECS,
				      usecs) |
			   FIELD_PREP(LABNIC_STATUS_BLOCK_TX_IRQ_HOLD_COUNT,
				      frames));
}

static bool labnic_pending(struct labnic_rings *rings)
{
	return labnic_tx_pending(rings) || labnic_rx_pending(rings);
}

/*
 * With a budget of zero netpoll calls, interrupts may be off, and another poll
 * of this NAPI may be armed and at rest: clean the TX ring and leave all else.
 */
int labnic_poll(struct napi_struct *napi, int budget)
{
	struct labnic_rings *rings;
	bool pending;
	int work;

	rings = container_of(napi, struct labnic_rings, napi);
	if (unlikely(!budget)) {
		labnic_tx_clean(rings, budget);
		return 0;
	}

	/* What is sent while frames are received is cleaned right after. */
	labnic_tx_disarm(rings);
	work = labnic_rx_poll(rings, budget);
	labnic_tx_clean(rings, budget);
	if (work == budget)
		return budget;

	/*
	 * Armed while this poll still owns the NAPI: once it does not, another
	 * poll may have written newer events, which ours must not replace. An
	 * interrupt that comes before napi_complete_done() makes it fail.
	 */
	labnic_tx_arm(rings);
	labnic_rx_arm(rings);

	/*
	 * The events are out before the rings are read. The device writes to
	 * the rings, and then reads the events: what it does from here on it
	 * tells.
	 */
	mb();
	pending = labnic_pending(rings);
	if (unlikely(!napi_complete_done(napi, work))) {
		labnic_tx_disarm(rings);
		labnic_rx_disarm(rings);
		return work;
	}
	if (unlikely(pending))
		napi_schedule(napi);
	return work;
}

static int labnic_vector(const struct labnic *nic, u32 vector)
{
	return pci_irq_vector(nic->pdev, vector);
}

int labnic_irq_number(struct labnic *nic, const struct labnic_queue *queue)
{
	return labnic_vector(nic, LABNIC_VECTOR_QUEUE0 + queue->index);
}

int labnic_irq_request_misc(struct labnic *nic)
{
	snprintf(nic->misc_name, sizeof(nic->misc_name), LABNIC_NAME "-%s-misc",
		 nic->netdev->name);
	return request_irq(labnic_vector(nic, LABNIC_VECTOR_MISC),
			   labnic_misc_irq, IRQF_NO_AUTOEN, nic->misc_name,
			   nic);
}

void labnic_irq_free_misc(struct labnic *nic)
{
	free_irq(labnic_vector(nic, LABNIC_VECTOR_MISC), nic);
}

static int labnic_irq_request_one(struct labnic *nic,
				  struct labnic_queue *queue)
{
	int node = dev_to_node(&nic->pdev->dev);
	int irq = labnic_irq_number(nic, queue);
	int err;

	snprintf(queue->irq_name, sizeof(queue->irq_name),
		 LABNIC_NAME "-%s-q%u", nic->netdev->name, queue->index);
	err = request_irq(irq, labnic_queue_irq, IRQF_NO_AUTOEN,
			  queue->irq_name, queue);
	if (err)
		return err;

	/* One CPU after the other, those near to the device first. */
	irq_set_affinity_and_hint(irq,
				  cpumask_of(cpumask_local_spread(queue->index,
								  node)));
	return 0;
}

/* Vectors of the queue pairs from @from to before @to; they stay disabled. */
int labnic_irq_request(struct labnic *nic, u32 from, u32 to)
{
	int err;
	u32 i;

	for (i = from; i < to; i++) {
		err = labnic_irq_request_one(nic, &nic->queues[i]);
		if (err) {
			netdev_err(nic->netdev,
				   "no interrupt for queue %u: %d\n", i, err);
			labnic_irq_free(nic, from, i);
			return err;
		}
	}
	return 0;
}

void labnic_irq_free(struct labnic *nic, u32 from, u32 to)
{
	int irq;
	u32 i;

	for (i = to; i > from; i--) {
		irq = labnic_irq_number(nic, &nic->queues[i - 1]);
		irq_update_affinity_hint(irq, NULL);
		free_irq(irq, &nic->queues[i - 1]);
	}
}
