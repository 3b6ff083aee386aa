/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between kernel versions, and the only place that asks for one.
 * The other files read as if only the newest kernel existed; each part here
 * names the change that it covers and goes when older kernels are given up.
 */
#ifndef LABNIC_COMPAT_H
#define LABNIC_COMPAT_H

#include <linux/ethtool.h>
#include <linux/netdevice.h>
#include <linux/version.h>

#define LABNIC_SINCE(major, minor)					\
	(KERNEL_VERSION(LINUX_VERSION_MAJOR, LINUX_VERSION_PATCHLEVEL, 0) >= \
	 KERNEL_VERSION(major, minor, 0))

/* 6.6: "page_pool: split types and declarations from page_pool.h" */
#if LABNIC_SINCE(6, 6)
#include <net/page_pool/helpers.h>
#else
#include <net/page_pool.h>
#endif

/*
 * 6.4: "net: provide macros for commonly copied lockless queue stop/wake
 * code". Some stable kernels have a part of it in the same file, which is
 * left alone here.
 */
#if LABNIC_SINCE(6, 4)
#include <net/netdev_queues.h>
#else
#define netif_txq_maybe_stop(txq, get_desc, stop_thrs, start_thrs)	\
	({								\
		struct netdev_queue *_txq = (txq);			\
		int _left = 1;						\
									\
		for (;;) {						\
			u32 _free = (get_desc);				\
									\
			if (_left && likely(_free >= (stop_thrs)))	\
				break;					\
			if (!_left) {					\
				if (likely(_free < (start_thrs)))	\
					break;				\
				netif_tx_start_queue(_txq);		\
				_left = -1;				\
				break;					\
			}						\
			netif_tx_stop_queue(_txq);			\
			_left = 0;					\
			/* Stopped before the count is read again. */	\
			smp_mb__after_atomic();				\
		}							\
		_left;							\
	})

#define netif_txq_completed_wake(txq, pkts, bytes, get_desc, start_thrs) \
	({								\
		struct netdev_queue *_txq = (txq);			\
		unsigned int _pkts = (pkts);				\
		int _woken = -1;					\
									\
		netdev_tx_completed_queue(_txq, _pkts, bytes);		\
		/* The count is out before the stop bit is read. */	\
		smp_mb();						\
		if (_pkts && likely((get_desc) >= (start_thrs))) {	\
			_woken = 1;					\
			if (unlikely(netif_tx_queue_stopped(_txq))) {	\
				netif_tx_wake_queue(_txq);		\
				_woken = 0;				\
			}						\
		}							\
		_woken;							\
	})
#endif

/*
 * 6.4: "page_pool: allow caching from safely localized NAPI";
 * 6.8: "net: page_pool: record pools per netdev"
 */
static inline void labnic_pool_owner(struct page_pool_params *params,
				     struct napi_struct *napi,
				     struct net_device *netdev)
{
#if LABNIC_SINCE(6, 4)
	params->napi = napi;
#endif
#if LABNIC_SINCE(6, 8)
	params->netdev = netdev;
#endif
}

/*
 * 6.8: "net: Add queue and napi association";
 * 6.8: "net: Add NAPI IRQ support"
 */
#if !LABNIC_SINCE(6, 8)
enum netdev_queue_type {
	NETDEV_QUEUE_TYPE_RX,
	NETDEV_QUEUE_TYPE_TX,
};

static inline void netif_queue_set_napi(struct net_device *netdev,
					unsigned int queue,
					enum netdev_queue_type type,
					struct napi_struct *napi)
{
}

static inline void netif_napi_set_irq(struct napi_struct *napi, int irq)
{
}
#endif

/* 6.4: "net/sched: pass netlink extack to mqprio and taprio offload" */
#if LABNIC_SINCE(6, 4)
#define labnic_mqprio_extack(opt)	((opt)->extack)
#else
#define labnic_mqprio_extack(opt)	((struct netlink_ext_ack *)NULL)
#endif

/* 6.8: "ethtool: Implement ethtool_puts()" */
#if !LABNIC_SINCE(6, 8)
static inline void ethtool_puts(u8 **data, const char *str)
{
	strscpy(*data, str, ETH_GSTRING_LEN);
	*data += ETH_GSTRING_LEN;
}
#endif

/* 6.11: "net: Add struct kernel_ethtool_ts_info" */
#if !LABNIC_SINCE(6, 11)
#define kernel_ethtool_ts_info	ethtool_ts_info
#endif

/*
 * 6.8: "net: ethtool: pass a pointer to parameters to get/set_rxfh ethtool
 * ops". The functions are labnic_ethtool.c's.
 */
#if !LABNIC_SINCE(6, 8)
struct ethtool_rxfh_param {
	u8 hfunc;
	u32 *indir;
	u8 *key;
};
#endif

int labnic_get_rxfh(struct net_device *netdev,
		    struct ethtool_rxfh_param *rxfh);
int labnic_set_rxfh(struct net_device *netdev,
		    struct ethtool_rxfh_param *rxfh,
		    struct netlink_ext_ack *extack);

#if !LABNIC_SINCE(6, 8)
static inline int labnic_compat_get_rxfh(struct net_device *netdev, u32 *indir,
					 u8 *key, u8 *hfunc)
{
	struct ethtool_rxfh_param rxfh = { .indir = indir, .key = key };
	int err;

	err = labnic_get_rxfh(netdev, &rxfh);
	if (!err && hfunc)
		*hfunc = rxfh.hfunc;
	return err;
}

static inline int labnic_compat_set_rxfh(struct net_device *netdev,
					 const u32 *indir, const u8 *key,
					 const u8 hfunc)
{
	struct ethtool_rxfh_param rxfh = {
		.hfunc = hfunc,
		.indir = (u32 *)indir,
		.key = (u8 *)key,
	};

	return labnic_set_rxfh(netdev, &rxfh, NULL);
}

#define labnic_op_get_rxfh	labnic_compat_get_rxfh
#define labnic_op_set_rxfh	labnic_compat_set_rxfh
#else
#define labnic_op_get_rxfh	labnic_get_rxfh
#define labnic_op_set_rxfh	labnic_set_rxfh
#endif

#endif /* LABNIC_COMPAT_H */
