# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules, one row each, in today's words.

They are those of the kernel's Documentation/networking/netdevices.rst, which began as a short text on allocation and on
the lock and context of each callback.  Letters: A allocation, O open, S stop, I ioctl, G get_stats, X xmit,
T tx_timeout, M multicast list (set_rx_mode), P poll, N rules that came later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

OBSERVER = "observer"
"""The kernel module that watches the callbacks; it judges on every kernel."""

COMPILER = "compiler"
"""Compiling the observer proves it."""
PACKETS = "packets"
SYSFS = "sysfs"
"""What the harness saw on the cable, and what it read in the guest."""
AUDIT = "device audit"
"""What the device noted of its driver."""
NEWER_KERNELS = "N5"
"""The rule whose callbacks none of the kernels that labnic knows has."""

CHECKERS: Mapping[str, str] = {
    "lockdep": "lockdep",
    "atomic sleep": "atomic_sleep",
    "kasan": "kasan",
    "kmemleak": "kmemleak",
    "dma-api": "dma_api_debug",
    "refcount": "netdev_refcount",
    "debug net": "debug_net",
    "rcu": "prove_rcu",
}
"""Checkers of a debug kernel that are witnesses, named as the reports in its log are (`labnic.splat.KINDS`), with the
feature that a kernel has for each (`labnic.build.kerneltable.FEATURES`)."""


@dataclass(frozen=True)
class Rule:
    """One rule: ``says`` what must hold, in today's words; ``then`` what the first text called the callback.

    ``checkers`` are the kernel's own that would also see it broken, keys of `CHECKERS`.  ``judged`` are the other
    witnesses, of which at least one must speak; a rule that is judged by `PACKETS` or `SYSFS` needs its provocation to
    have come to its end.
    """

    name: str
    callback: str
    says: str
    then: str = ""
    judged: tuple[str, ...] = (OBSERVER,)
    checkers: tuple[str, ...] = ()


RULES: tuple[Rule, ...] = (
    Rule("A1", "alloc_netdev_mqs", "the structure is allocated by alloc_netdev and its kind", "alloc_etherdev"),
    Rule(
        "A2",
        "free_netdev",
        "it is freed once, after unregistering has returned or registering has failed",
        "free_netdev",
        checkers=("kasan", "refcount"),
    ),
    Rule(
        "A3",
        "netdev_release",
        "it outlives the module for whoever holds a sysfs attribute open",
        "rmmod </sys/class/net/eth0/mtu",
        judged=(OBSERVER, SYSFS),
        checkers=("kasan", "refcount"),
    ),
    Rule("A4", "netdev_priv", "the private data is freed with it", "dev->priv", checkers=("kasan", "kmemleak")),
    Rule(
        "A5",
        "remove",
        "what was allocated apart is given back by the driver: rings, vectors, buffers",
        "module exit",
        checkers=("kmemleak", "dma-api"),
    ),
    Rule("O1", "ndo_open", "rtnl is held by the caller", "open", checkers=("lockdep",)),
    Rule("O2", "ndo_open", "process context, may sleep", "open", checkers=("atomic sleep",)),
    Rule("S1", "ndo_stop", "rtnl is held by the caller", "stop", checkers=("lockdep",)),
    Rule("S2", "ndo_stop", "process context, may sleep", "stop", checkers=("atomic sleep",)),
    Rule("S3", "ndo_stop", "netif_running() is false", "stop"),
    Rule(
        "S4",
        "ndo_stop",
        "after it no poll, no interrupt and no DMA: the driver disables its NAPIs itself",
        "stop",
        judged=(OBSERVER, AUDIT),
        checkers=("kasan", "dma-api"),
    ),
    Rule("I1", "ndo_eth_ioctl", "rtnl is held by the caller", "do_ioctl", checkers=("lockdep",)),
    Rule("I2", "ndo_eth_ioctl", "process context, may sleep", "do_ioctl", checkers=("atomic sleep",)),
    Rule("G1", "ndo_get_stats64", "under RCU or rtnl; concurrent calls; nothing goes backwards", "get_stats"),
    Rule("G2", "ndo_get_stats64", "does not sleep", "get_stats", checkers=("atomic sleep", "rcu")),
    Rule("X1", "ndo_start_xmit", "the lock of its TX queue is held by this CPU", "hard_start_xmit"),
    Rule("X2", "ndo_start_xmit", "a driver of hardware does not ask for lockless transmission", "NETIF_F_LLTX"),
    Rule(
        "X3",
        "ndo_start_xmit",
        "changes of the address filter under traffic lose and misdirect nothing",
        "set_multicast_list",
        judged=(PACKETS,),
        checkers=("lockdep",),
    ),
    Rule(
        "X4",
        "ndo_start_xmit",
        "BHs are disabled, in process context or in a softirq",
        "hard_start_xmit",
        checkers=("lockdep",),
    ),
    Rule(
        "X5",
        "ndo_start_xmit",
        "is called with interrupts off by netconsole, and survives it",
        "netconsole",
        judged=(OBSERVER, PACKETS),
        checkers=("lockdep", "atomic sleep", "debug net"),
    ),
    Rule("X6", "ndo_start_xmit", "NETDEV_TX_OK means that the driver has the skb", "NETDEV_TX_OK"),
    Rule(
        "X7",
        "ndo_start_xmit",
        "NETDEV_TX_BUSY is a bug in the driver's flow control and is not returned",
        "NETDEV_TX_BUSY",
    ),
    Rule("X8", "ndo_start_xmit", "NETDEV_TX_LOCKED is gone from the kernel", "NETDEV_TX_LOCKED", judged=(COMPILER,)),
    Rule("T1", "ndo_tx_timeout", "tx_global_lock is held and every queue frozen", "tx_timeout", checkers=("lockdep",)),
    Rule("T2", "ndo_tx_timeout", "BHs are disabled", "tx_timeout", checkers=("atomic sleep",)),
    Rule(
        "T3",
        "ndo_tx_timeout",
        "the queue is stopped; the driver recovers, and no packet is lost or sent twice",
        "tx_timeout",
        judged=(OBSERVER, PACKETS),
    ),
    Rule("M1", "ndo_set_rx_mode", "the address lists' lock is held", "set_multicast_list", checkers=("lockdep",)),
    Rule("M2", "ndo_set_rx_mode", "BHs are disabled", "set_multicast_list", checkers=("atomic sleep",)),
    Rule("P1", "napi->poll", "NAPI_STATE_SCHED is set, and one poll of a NAPI runs at a time", "__LINK_STATE_RX_SCHED"),
    Rule("P2", "napi->poll", "in a softirq, or in the NAPI's own thread", "poll", checkers=("lockdep",)),
    Rule(
        "P3",
        "napi->poll",
        "with a budget of zero, interrupts off, it does no RX work and leaves them off",
        "netconsole",
        checkers=("lockdep", "debug net"),
    ),
    Rule("N1", "register_netdevice", "initialisation is complete before it is registered"),
    Rule("N2", "ndo_init, ndo_uninit", "once each, around the registration, under rtnl", checkers=("lockdep",)),
    Rule("N3", "ndo_change_mtu", "under rtnl, in the driver's range, and dev->mtu is the new one afterwards"),
    Rule("N4", "ndo_setup_tc", "under rtnl, but for flow blocks", checkers=("lockdep",)),
    Rule("N5", "queue_mgmt_ops", "queues are started and stopped one by one under the instance lock"),
)


NAMES: tuple[str, ...] = tuple(each.name for each in RULES)


def checked(rule: Rule, has: Iterable[str]) -> tuple[str, ...]:
    """The kernel's checkers that judge the rule on a kernel that has these."""
    there = set(has)
    return tuple(name for name in rule.checkers if name in there)
