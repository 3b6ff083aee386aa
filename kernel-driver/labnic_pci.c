// SPDX-License-Identifier: GPL-2.0-only
/* The PCI function: how it comes, goes, sleeps and wakes. */
#include <linux/dma-mapping.h>
#include <linux/ethtool.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/rtnetlink.h>

#include "labnic.h"

#define LABNIC_MSG_DEFAULT	(NETIF_MSG_DRV | NETIF_MSG_PROBE | \
				 NETIF_MSG_LINK | NETIF_MSG_TX_ERR | \
				 NETIF_MSG_RX_ERR)

/* A device that is not there answers every read so. */
#define LABNIC_ALL_ONES		(~0U)

/*
 * Read a register. All ones may be its value: the ID, which never is, tells.
 * Once the device is gone it is not touched any more.
 */
u32 labnic_read(struct labnic *nic, u32 reg)
{
	u32 value;

	if (unlikely(labnic_gone(nic)))
		return LABNIC_ALL_ONES;

	value = readl(nic->regs + reg);
	if (unlikely(value == LABNIC_ALL_ONES &&
		     readl(nic->regs + LABNIC_REG_ID) == LABNIC_ALL_ONES)) {
		set_bit(LABNIC_GONE, &nic->flags);
		labnic_schedule_reset(nic);
	}
	return value;
}

/*
 * Stops every queue; all but the counters has its reset value afterwards. A
 * device whose registers do not follow hangs.
 */
int labnic_hw_reset(struct labnic *nic)
{
	u32 ctrl;

	labnic_write(nic, LABNIC_REG_CTRL, LABNIC_CTRL_RESET);
	/* Read back: the write has ended. */
	ctrl = labnic_read(nic, LABNIC_REG_CTRL);
	if (labnic_gone(nic))
		return -ENODEV;
	return ctrl == LABNIC_INIT_CTRL ? 0 : -EIO;
}

static int labnic_check_device(struct pci_dev *pdev, void __iomem *regs)
{
	u32 id = readl(regs + LABNIC_REG_ID);
	u32 version, queues;

	if (id != LABNIC_INIT_ID) {
		dev_err(&pdev->dev, "no labnic: ID is %08x\n", id);
		return -ENODEV;
	}

	version = readl(regs + LABNIC_REG_VERSION);
	if (FIELD_GET(LABNIC_VERSION_MAJOR, version) != LABNIC_MAP_MAJOR) {
		dev_err(&pdev->dev,
			"the device has interface version %u.%u, this driver knows %u.x\n",
			FIELD_GET(LABNIC_VERSION_MAJOR, version),
			FIELD_GET(LABNIC_VERSION_MINOR, version),
			LABNIC_MAP_MAJOR);
		return -ENODEV;
	}

	queues = FIELD_GET(LABNIC_LIMITS_QUEUES,
			   readl(regs + LABNIC_REG_LIMITS));
	if (!queues || queues > LABNIC_MAX_QUEUES) {
		dev_err(&pdev->dev, "impossible number of queues: %u\n",
			queues);
		return -ENODEV;
	}
	return queues;
}

static void labnic_set_address(struct labnic *nic)
{
	struct net_device *netdev = nic->netdev;
	u8 addr[ETH_ALEN];
	u64 value;
	int i;

	value = labnic_read(nic, LABNIC_REG_PERM_MAC);
	value |= (u64)labnic_read(nic, LABNIC_REG_PERM_MAC_HI) << 32;
	for (i = 0; i < ETH_ALEN; i++)
		addr[i] = value >> (8 * i);

	if (is_valid_ether_addr(addr)) {
		eth_hw_addr_set(netdev, addr);
		ether_addr_copy(netdev->perm_addr, addr);
		return;
	}
	eth_hw_addr_random(netdev);
	dev_warn(&nic->pdev->dev, "invalid address %pM, using %pM\n", addr,
		 netdev->dev_addr);
}

/* Everything of the net_device that has to stand before it is registered. */
static void labnic_setup_netdev(struct labnic *nic)
{
	struct net_device *netdev = nic->netdev;

	netdev->netdev_ops = &labnic_netdev_ops;
	netdev->ethtool_ops = &labnic_ethtool_ops;
	netdev->min_mtu = ETH_MIN_MTU;
	netdev->max_mtu = LABNIC_MTU_MAX;
	netdev->priv_flags |= IFF_UNICAST_FLT | IFF_LIVE_ADDR_CHANGE;

	netdev->features = NETIF_F_SG | NETIF_F_HIGHDMA;
	if (nic->features & LABNIC_FEATURE_RSS)
		netdev->features |= NETIF_F_RXHASH;
	if (nic->features & LABNIC_FEATURE_TX_CSUM)
		netdev->features |= NETIF_F_HW_CSUM;
	if (nic->features & LABNIC_FEATURE_RX_CSUM)
		netdev->features |= NETIF_F_RXCSUM;
	if (nic->features & LABNIC_FEATURE_TSO)
		netdev->features |= LABNIC_NETIF_F_TSO;
	if (nic->features & LABNIC_FEATURE_RX_GRO)
		netdev->features |= NETIF_F_GRO_HW;
	netdev->hw_features = netdev->features & ~NETIF_F_HIGHDMA;
	netdev->vlan_features = netdev->features &
				~(NETIF_F_RXHASH | NETIF_F_GRO_HW);

	/* The kernel hands on what is shorter than this. */
	netif_set_tso_max_size(netdev, LABNIC_TSO_MAX + 1);

	labnic_set_address(nic);
	netif_carrier_off(netdev);
}

static void labnic_setup_queues(struct labnic *nic)
{
	nic->cfg.queues = min(nic->max_queues, num_online_cpus());
	nic->cfg.tx_size = LABNIC_RING_DEFAULT;
	nic->cfg.rx_size = LABNIC_RING_DEFAULT;
	nic->tx_hold = labnic_hold(LABNIC_HOLD_TX_USECS, LABNIC_HOLD_TX_FRAMES);
	nic->rx_hold = labnic_hold(LABNIC_HOLD_RX_USECS, LABNIC_HOLD_RX_FRAMES);
	nic->adaptive_rx = true;
	nic->tx_copybreak = LABNIC_TX_COPY_MAX;
	netdev_rss_key_fill(nic->rss_key, sizeof(nic->rss_key));
	labnic_rss_default(nic, nic->cfg.queues);
}

/* One vector for each queue pair and one more; fewer do not do. */
static int labnic_setup_vectors(struct labnic *nic)
{
	int want = LABNIC_VECTOR_QUEUE0 + nic->max_queues;
	int got;

	got = pci_alloc_irq_vectors(nic->pdev, LABNIC_VECTOR_QUEUE0 + 1, want,
				    PCI_IRQ_MSIX);
	if (got < 0) {
		dev_err(&nic->pdev->dev, "no MSI-X vectors: %d\n", got);
		return got;
	}
	if (got < want)
		dev_warn(&nic->pdev->dev, "%d MSI-X vectors of %d\n", got,
			 want);
	nic->max_queues = got - LABNIC_VECTOR_QUEUE0;
	return 0;
}

static struct labnic *labnic_create(struct pci_dev *pdev, void __iomem *regs,
				    u32 queues)
{
	struct net_device *netdev;
	struct labnic *nic;

	netdev = alloc_etherdev_mqs(sizeof(*nic), queues, queues);
	if (!netdev)
		return NULL;
	SET_NETDEV_DEV(netdev, &pdev->dev);
	pci_set_drvdata(pdev, netdev);

	nic = netdev_priv(netdev);
	nic->netdev = netdev;
	nic->pdev = pdev;
	nic->regs = regs;
	nic->max_queues = queues;
	nic->msg_enable = LABNIC_MSG_DEFAULT;
	nic->rx_mode = LABNIC_RX_MODE_BROADCAST;
	spin_lock_init(&nic->link_lock);
	INIT_DELAYED_WORK(&nic->reset_work, labnic_reset_task);
	return nic;
}

/* From a device that answers to a network interface. */
static int labnic_bring_up(struct labnic *nic)
{
	struct device *dev = &nic->pdev->dev;
	int err;

	err = labnic_hw_reset(nic);
	if (err) {
		dev_err(dev, "the device cannot be reset: %d\n", err);
		return err;
	}
	nic->features = labnic_read(nic, LABNIC_REG_DEV_FEATURES) &
			LABNIC_FEATURES;
	err = labnic_setup_vectors(nic);
	if (err)
		return err;
	labnic_setup_queues(nic);
	labnic_setup_netdev(nic);

	err = register_netdev(nic->netdev);
	if (err) {
		dev_err(dev, "no network interface: %d\n", err);
		pci_free_irq_vectors(nic->pdev);
	}
	return err;
}

/* Nothing schedules the work from here on, and it does not run. */
static void labnic_end_work(struct labnic *nic)
{
	set_bit(LABNIC_LEAVING, &nic->flags);
	cancel_delayed_work_sync(&nic->reset_work);
}

static int labnic_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	void __iomem *regs;
	struct labnic *nic;
	int err, queues;

	err = pci_enable_device_mem(pdev);
	if (err)
		return err;
	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (err)
		goto disable;
	err = pci_request_mem_regions(pdev, LABNIC_NAME);
	if (err)
		goto disable;

	err = -ENODEV;
	if (pci_resource_len(pdev, LABNIC_BAR_REGS) < LABNIC_BAR_REGS_SIZE) {
		dev_err(&pdev->dev, "the BAR of the registers is too small\n");
		goto release;
	}
	err = -ENOMEM;
	regs = pci_ioremap_bar(pdev, LABNIC_BAR_REGS);
	if (!regs)
		goto release;
	err = labnic_check_device(pdev, regs);
	if (err < 0)
		goto unmap;
	queues = err;

	err = -ENOMEM;
	nic = labnic_create(pdev, regs, queues);
	if (!nic)
		goto unmap;
	/* What labnic_slot_reset() goes back to. */
	pci_save_state(pdev);
	err = labnic_bring_up(nic);
	if (err)
		goto destroy;

	netif_info(nic, probe, nic->netdev, "%pM, %u queue pairs of %u\n",
		   nic->netdev->dev_addr, nic->cfg.queues, nic->max_queues);
	return 0;

destroy:
	labnic_end_work(nic);
	free_netdev(nic->netdev);
unmap:
	iounmap(regs);
release:
	pci_release_mem_regions(pdev);
disable:
	pci_disable_device(pdev);
	return err;
}

static void labnic_remove(struct pci_dev *pdev)
{
	struct net_device *netdev = pci_get_drvdata(pdev);
	struct labnic *nic = netdev_priv(netdev);
	void __iomem *regs = nic->regs;

	/* Stops the interface when it is up. */
	unregister_netdev(netdev);
	/* Not before, and not under rtnl: the work takes it. */
	labnic_end_work(nic);
	labnic_hw_reset(nic);

	pci_free_irq_vectors(pdev);
	free_netdev(netdev);
	iounmap(regs);
	pci_release_mem_regions(pdev);
	pci_disable_device(pdev);
}

/* The device is left alone until labnic_attach(). */
static void labnic_detach(struct labnic *nic)
{
	rtnl_lock();
	netif_device_detach(nic->netdev);
	labnic_down(nic);
	rtnl_unlock();
	labnic_stats_sleep(nic);
}

static int labnic_attach(struct labnic *nic)
{
	struct net_device *netdev = nic->netdev;
	int err = 0;

	/* One that was gone may be back. */
	clear_bit(LABNIC_GONE, &nic->flags);
	labnic_read(nic, LABNIC_REG_ID);
	if (labnic_gone(nic))
		return -ENODEV;

	labnic_stats_wake(nic);
	rtnl_lock();
	if (netif_running(netdev))
		err = labnic_up(nic);
	if (!err)
		netif_device_attach(netdev);
	rtnl_unlock();
	return err;
}

/* No user and no DMA any more: the machine goes down, or another kernel. */
static void labnic_shutdown(struct pci_dev *pdev)
{
	struct labnic *nic = netdev_priv(pci_get_drvdata(pdev));

	labnic_end_work(nic);
	labnic_detach(nic);
	pci_disable_device(pdev);
}

static int labnic_suspend(struct device *dev)
{
	labnic_detach(netdev_priv(dev_get_drvdata(dev)));
	return 0;
}

static int labnic_resume(struct device *dev)
{
	return labnic_attach(netdev_priv(dev_get_drvdata(dev)));
}

/* Somebody else resets the function, and restores its configuration space. */
static void labnic_reset_prepare(struct pci_dev *pdev)
{
	labnic_detach(netdev_priv(pci_get_drvdata(pdev)));
}

static void labnic_reset_done(struct pci_dev *pdev)
{
	int err = labnic_attach(netdev_priv(pci_get_drvdata(pdev)));

	if (err)
		dev_err(&pdev->dev, "does not work after a reset: %d\n", err);
}

/* An error on the way to the device: what is read may be all ones already. */
static pci_ers_result_t labnic_error_detected(struct pci_dev *pdev,
					      pci_channel_state_t state)
{
	labnic_detach(netdev_priv(pci_get_drvdata(pdev)));
	if (state == pci_channel_io_perm_failure)
		return PCI_ERS_RESULT_DISCONNECT;
	return PCI_ERS_RESULT_NEED_RESET;
}

static pci_ers_result_t labnic_slot_reset(struct pci_dev *pdev)
{
	struct labnic *nic = netdev_priv(pci_get_drvdata(pdev));

	pci_restore_state(pdev);
	/* Restoring has used it up. */
	pci_save_state(pdev);
	if (readl(nic->regs + LABNIC_REG_ID) != LABNIC_INIT_ID)
		return PCI_ERS_RESULT_DISCONNECT;
	return PCI_ERS_RESULT_RECOVERED;
}

static const struct pci_error_handlers labnic_err_handler = {
	.error_detected	= labnic_error_detected,
	.slot_reset	= labnic_slot_reset,
	.resume		= labnic_reset_done,
	.reset_prepare	= labnic_reset_prepare,
	.reset_done	= labnic_reset_done,
};

static DEFINE_SIMPLE_DEV_PM_OPS(labnic_pm_ops, labnic_suspend, labnic_resume);

static const struct pci_device_id labnic_ids[] = {
	{ PCI_DEVICE(LABNIC_VENDOR_ID, LABNIC_DEVICE_ID) },
	{ }
};
MODULE_DEVICE_TABLE(pci, labnic_ids);

static struct pci_driver labnic_driver = {
	.name		= LABNIC_NAME,
	.id_table	= labnic_ids,
	.probe		= labnic_probe,
	.remove		= labnic_remove,
	.shutdown	= labnic_shutdown,
	.err_handler	= &labnic_err_handler,
	.driver.pm	= pm_sleep_ptr(&labnic_pm_ops),
};

module_pci_driver(labnic_driver);

MODULE_DESCRIPTION("Driver for the labnic Ethernet controller");
MODULE_AUTHOR("The labnic developers");
MODULE_LICENSE("GPL");
