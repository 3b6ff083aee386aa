// SPDX-License-Identifier: GPL-2.0-only
/*
 * Queue pairs as a whole: making their rings, starting and halting them, and
 * replacing them while the interface is up. All under rtnl.
 */
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/netdevice.h>

#include "labnic.h"

static void labnic_rings_free(struct labnic_rings *rings)
{
	struct device *dev = &rings->queue->nic->pdev->dev;

	labnic_tx_free(rings);
	/* The page pool goes before the NAPI that it knows. */
	labnic_rx_free(rings);
	netif_napi_del(&rings->napi);
	dma_free_coherent(dev, sizeof(*rings->status), rings->status,
			  rings->status_dma);
	kfree(rings);
}

static struct labnic_rings *labnic_rings_alloc(struct labnic_queue *queue,
					       const struct labnic_config *cfg)
{
	struct labnic *nic = queue->nic;
	struct device *dev = &nic->pdev->dev;
	struct labnic_rings *rings;

	rings = kzalloc_node(sizeof(*rings), GFP_KERNEL, dev_to_node(dev));
	if (!rings)
		return NULL;
	rings->queue = queue;

	/* Zeroed: both events are passed by the first frame. */
	rings->status = dma_alloc_coherent(dev, sizeof(*rings->status),
					   &rings->status_dma, GFP_KERNEL);
	if (!rings->status)
		goto free_rings;

	netif_napi_add(nic->netdev, &rings->napi, labnic_poll);
	netif_napi_set_irq(&rings->napi, labnic_irq_number(nic, queue));

	if (labnic_tx_alloc(rings, cfg->tx_size))
		goto del_napi;
	if (labnic_rx_alloc(rings, cfg->rx_size))
		goto free_tx;
	return rings;

free_tx:
	labnic_tx_free(rings);
del_napi:
	netif_napi_del(&rings->napi);
	dma_free_coherent(dev, sizeof(*rings->status), rings->status,
			  rings->status_dma);
free_rings:
	kfree(rings);
	return NULL;
}

static void labnic_set_free(struct labnic_rings **set, u32 count)
{
	while (count--)
		if (set[count])
			labnic_rings_free(set[count]);
}

static int labnic_set_alloc(struct labnic *nic, struct labnic_rings **set,
			    const struct labnic_config *cfg)
{
	u32 i;

	for (i = 0; i < cfg->queues; i++) {
		set[i] = labnic_rings_alloc(&nic->queues[i], cfg);
		if (!set[i]) {
			labnic_set_free(set, i);
			return -ENOMEM;
		}
	}
	return 0;
}

/*
 * Put @rings, which are empty, in the place of what @queue has; NULL takes them
 * away. Of what the stack had counted as in flight nothing is any more.
 */
static void labnic_queue_install(struct labnic_queue *queue,
				 struct labnic_rings *rings)
{
	struct napi_struct *napi = rings ? &rings->napi : NULL;
	struct net_device *netdev = queue->nic->netdev;

	netif_queue_set_napi(netdev, queue->index, NETDEV_QUEUE_TYPE_RX, napi);
	netif_queue_set_napi(netdev, queue->index, NETDEV_QUEUE_TYPE_TX, napi);
	netdev_tx_reset_queue(netdev_get_tx_queue(netdev, queue->index));
	queue->rings = rings;
}

int labnic_queues_alloc(struct labnic *nic)
{
	struct labnic_rings *set[LABNIC_MAX_QUEUES];
	int err;
	u32 i;

	ASSERT_RTNL();
	err = labnic_set_alloc(nic, set, &nic->cfg);
	if (err)
		return err;
	for (i = 0; i < nic->cfg.queues; i++)
		labnic_queue_install(&nic->queues[i], set[i]);
	return 0;
}

void labnic_queues_free(struct labnic *nic)
{
	struct labnic_rings *rings;
	u32 i;

	ASSERT_RTNL();
	for (i = 0; i < nic->cfg.queues; i++) {
		rings = nic->queues[i].rings;
		labnic_queue_install(&nic->queues[i], NULL);
		labnic_rings_free(rings);
	}
}

/* What the device has to know before it may work. It has been reset. */
static void labnic_program(struct labnic *nic)
{
	struct labnic_rings *rings;
	u32 i;

	labnic_offload_program(nic, nic->netdev->features);
	labnic_write(nic, LABNIC_REG_MAX_FRAME,
		     nic->netdev->mtu + LABNIC_OVERHEAD);
	labnic_filter_start(nic);
	labnic_rss_program(nic);

	for (i = 0; i < nic->cfg.queues; i++) {
		rings = nic->queues[i].rings;
		labnic_write64(nic, LABNIC_REG_STATUS_BASE(i),
			       rings->status_dma);
		labnic_tx_program(rings);
		labnic_rx_program(rings);
	}
}

static int labnic_enable_queue(struct labnic *nic, u32 i)
{
	u32 tx, rx;

	labnic_write(nic, LABNIC_REG_TX_CTRL(i), LABNIC_TX_CTRL_ENABLE);
	labnic_write(nic, LABNIC_REG_RX_CTRL(i), LABNIC_RX_CTRL_ENABLE);
	tx = labnic_read(nic, LABNIC_REG_TX_CTRL(i));
	rx = labnic_read(nic, LABNIC_REG_RX_CTRL(i));
	if (labnic_gone(nic))
		return -ENODEV;
	if (tx & LABNIC_TX_CTRL_ENABLE && rx & LABNIC_RX_CTRL_ENABLE)
		return 0;

	tx = labnic_read(nic, LABNIC_REG_TX_STATUS(i));
	rx = labnic_read(nic, LABNIC_REG_RX_STATUS(i));
	netdev_err(nic->netdev,
		   "queue %u does not start: TX error %u, RX error %u\n", i,
		   FIELD_GET(LABNIC_TX_STATUS_ERROR, tx),
		   FIELD_GET(LABNIC_RX_STATUS_ERROR, rx));
	return -EIO;
}

static void labnic_disable_queues(struct labnic *nic)
{
	bool off = true;
	u32 i;

	labnic_filter_stop(nic);
	for (i = 0; i < nic->cfg.queues; i++) {
		off &= labnic_tx_stop(nic->queues[i].rings);
		off &= labnic_rx_stop(nic->queues[i].rings);
	}
	/* The rings are about to be freed: one that hangs may not keep them. */
	if (!off)
		pci_clear_master(nic->pdev);
}

static void labnic_enable_irqs(struct labnic *nic)
{
	u32 i;

	for (i = 0; i < nic->cfg.queues; i++) {
		napi_enable(&nic->queues[i].rings->napi);
		enable_irq(labnic_irq_number(nic, &nic->queues[i]));
	}
	enable_irq(pci_irq_vector(nic->pdev, LABNIC_VECTOR_MISC));
}

/* Returns when no handler and no poll runs, and none will. */
static void labnic_disable_irqs(struct labnic *nic)
{
	u32 i;

	disable_irq(pci_irq_vector(nic->pdev, LABNIC_VECTOR_MISC));
	for (i = 0; i < nic->cfg.queues; i++) {
		disable_irq(labnic_irq_number(nic, &nic->queues[i]));
		napi_disable(&nic->queues[i].rings->napi);
	}
}

/*
 * From rings that were just made to a device that works. The stack's queues
 * are stopped before and run afterwards.
 */
int labnic_start(struct labnic *nic)
{
	int err;
	u32 i;

	ASSERT_RTNL();
	err = labnic_hw_reset(nic);
	if (err)
		return err;
	pci_set_master(nic->pdev);
	labnic_program(nic);

	for (i = 0; i < nic->cfg.queues; i++) {
		err = labnic_enable_queue(nic, i);
		if (err) {
			labnic_disable_queues(nic);
			return err;
		}
	}

	labnic_enable_irqs(nic);
	nic->started = true;
	nic->failed_resets = 0;
	labnic_write(nic, LABNIC_REG_MISC_ENABLE,
		     LABNIC_MISC_ENABLE_LINK | LABNIC_MISC_ENABLE_QUEUE_ERROR);
	labnic_write(nic, LABNIC_REG_CTRL, LABNIC_CTRL_ENABLE);
	labnic_link_update(nic);
	for (i = 0; i < nic->cfg.queues; i++)
		labnic_tx_resume(nic->queues[i].rings);
	/* The watchdog looks at queues that are not in use, too. */
	for (; i < nic->netdev->num_tx_queues; i++)
		netif_tx_start_queue(netdev_get_tx_queue(nic->netdev, i));
	return 0;
}

/*
 * From a device that works to one that does nothing: no poll, no interrupt, no
 * DMA once this returns. Frames that were not sent stay in their rings.
 */
void labnic_halt(struct labnic *nic)
{
	struct net_device *netdev = nic->netdev;
	u32 i;

	ASSERT_RTNL();
	if (!nic->started)
		return;
	nic->started = false;

	/* A queue that we stop has not timed out. */
	for (i = 0; i < nic->cfg.queues; i++)
		txq_trans_cond_update(netdev_get_tx_queue(netdev, i));
	netif_tx_disable(netdev);

	labnic_write(nic, LABNIC_REG_MISC_ENABLE, 0);
	labnic_write(nic, LABNIC_REG_CTRL, 0);
	labnic_disable_irqs(nic);
	/* Again: the last polls may have woken queues. */
	netif_tx_disable(netdev);
	labnic_disable_queues(nic);
}

/* Install @set; it then has the rings that were there before, or NULL. */
static void labnic_swap(struct labnic *nic, struct labnic_rings **set,
			const struct labnic_config *cfg)
{
	struct labnic_rings *old;
	u32 i;

	for (i = 0; i < max(cfg->queues, nic->cfg.queues); i++) {
		old = nic->queues[i].rings;
		labnic_queue_install(&nic->queues[i], set[i]);
		if (old && set[i])
			labnic_tx_inherit(set[i], old);
		/* The rest is counted while nobody else counts. */
		if (old)
			labnic_tx_purge(old);
		set[i] = old;
	}
	nic->cfg = *cfg;
}

/*
 * The number of queues that the stack uses grows after the rings are there and
 * shrinks before they go, so that no frame finds a queue without rings.
 */
static int labnic_grow(struct labnic *nic, u32 queues)
{
	struct labnic_config less = nic->cfg;
	struct labnic_rings *set[LABNIC_MAX_QUEUES];
	int err;
	u32 i;

	err = netif_set_real_num_queues(nic->netdev, queues, queues);
	if (!err)
		return 0;

	/* Give the added ones back; those before go on. */
	less.queues = nic->netdev->real_num_tx_queues;
	for (i = less.queues; i < queues; i++) {
		set[i] = nic->queues[i].rings;
		labnic_queue_install(&nic->queues[i], NULL);
		labnic_rings_free(set[i]);
	}
	nic->cfg = less;
	labnic_rss_default(nic, less.queues);
	return err;
}

/*
 * Bring @cfg into force while the interface is up, with fresh rings and a
 * device that was reset. All that can fail for want of memory is done before
 * the old rings are touched: when it fails the NIC goes on as it was.
 */
int labnic_reconfigure(struct labnic *nic, const struct labnic_config *cfg)
{
	struct labnic_rings *set[LABNIC_MAX_QUEUES] = {};
	u32 had = nic->cfg.queues;
	int err, grow_err = 0;

	ASSERT_RTNL();
	if (cfg->queues > had) {
		err = labnic_irq_request(nic, had, cfg->queues);
		if (err)
			return err;
	}
	err = labnic_set_alloc(nic, set, cfg);
	if (err)
		goto free_irqs;

	if (cfg->queues < had)
		netif_set_real_num_queues(nic->netdev, cfg->queues,
					  cfg->queues);
	labnic_halt(nic);
	labnic_swap(nic, set, cfg);
	if (cfg->queues < had)
		labnic_irq_free(nic, cfg->queues, had);
	if (cfg->queues != had && !netif_is_rxfh_configured(nic->netdev))
		labnic_rss_default(nic, cfg->queues);
	if (cfg->queues > had) {
		grow_err = labnic_grow(nic, cfg->queues);
		if (grow_err)
			labnic_irq_free(nic, had, cfg->queues);
	}

	err = labnic_start(nic);
	/*
	 * Not before: large rings take their time, in which no frame would go
	 * out. The device that was reset knows nothing of them.
	 */
	labnic_set_free(set, max(cfg->queues, had));
	return err ? err : grow_err;

free_irqs:
	if (cfg->queues > had)
		labnic_irq_free(nic, had, cfg->queues);
	return err;
}
