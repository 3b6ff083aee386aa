# SPDX-License-Identifier: GPL-2.0-or-later
"""Traffic classes (mqprio with hw 1): each sends through the TX queues that it was given, and nonsense is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from labnic.command import backoff
from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic

from .helpers import channels, deltas, set_channels, works

QUEUES = 4
COUNT = 20
"""Datagrams of each class."""
MAP = "map 0 1 2" + 13 * " 0"
"""Packets of priority 1 are of class 1, those of priority 2 of class 2, all others of class 0."""
THREE = f"num_tc 3 {MAP} queues 1@0 1@1 2@2"


@pytest.fixture(scope="module")
def channels_in_use(lab: Lab) -> Iterator[None]:
    """More than one queue for a class."""
    usual = channels(lab.nic)
    set_channels(lab.nic, QUEUES)
    lab.guest.sh("modprobe sch_mqprio")
    yield
    set_channels(lab.nic, usual)


@contextmanager
def classes(guest: Guest, nic: Nic, arguments: str) -> Iterator[None]:
    """The NIC has these classes."""
    guest.sh(f"tc qdisc add dev {nic.name} root handle 1: mqprio {arguments} hw 1")
    try:
        yield
    finally:
        guest.sh(f"tc qdisc del dev {nic.name} root")


def refusal(guest: Guest, nic: Nic, arguments: str, verb: str = "add") -> str:
    """What tc says when it cannot be."""
    result = guest.run(f"tc qdisc {verb} dev {nic.name} root mqprio {arguments} hw 1")
    if result.ok:
        guest.run(f"tc qdisc del dev {nic.name} root")
    assert not result.ok, f"accepted: {arguments}"
    return result.stderr


def tx_packets(nic: Nic) -> dict[int, int]:
    """Frames that each TX queue has sent."""
    found = nic.ethtool_stats()
    return {n: found[f"queue_{n}_tx_packets"] for n in range(QUEUES)}


def send(guest: Guest, nic: Nic, priority: int, ports: int = 1) -> None:
    """Datagrams of one priority, from as many source ports; a filter gives the priority to what goes to its port."""
    match = f"match ip protocol 17 0xff match ip dport {9000 + priority} 0xffff"
    guest.sh(
        f"tc qdisc add dev {nic.name} clsact && "
        f"tc filter add dev {nic.name} egress protocol ip u32 {match} action skbedit priority {priority} && "
        f"for n in $(seq {COUNT}); do echo x | "
        f"nc.traditional -u -q 0 -w 1 -p $((20000 + n % {ports})) {nic.peer_ip} {9000 + priority} & done; wait; "
        f"tc qdisc del dev {nic.name} clsact"
    )


def test_each_class_uses_its_own_queues(guest: Guest, nic: Nic) -> None:
    guest.run(["modprobe", "-a", "sch_ingress", "act_skbedit", "cls_u32"], check=True)
    with classes(guest, nic, THREE):
        for priority, queues in {0: {0}, 1: {1}, 2: {2, 3}, 7: {0}}.items():
            before = tx_packets(nic)
            send(guest, nic, priority, ports=COUNT)
            for _ in backoff(5.0):
                growth = deltas(before, tx_packets(nic))
                if sum(growth.values()) >= COUNT:
                    break
            assert set(growth) == queues
    works(nic)


def test_the_kernel_shows_the_classes_as_offloaded(guest: Guest, nic: Nic) -> None:
    with classes(guest, nic, THREE):
        shown = next(
            qdisc for qdisc in json.loads(guest.sh(f"tc -j qdisc show dev {nic.name}")) if qdisc["kind"] == "mqprio"
        )
        assert shown["options"]["tc"] == 3
        assert shown["options"]["queues"] == [[0, 0], [1, 1], [2, 3]]
        assert shown["options"].get("hw", True)


def test_classes_go_with_their_qdisc(guest: Guest, nic: Nic) -> None:
    """All queues are for everybody again: the kernel says of which class a queue is only while there are classes."""
    attribute = nic.path("queues/tx-1/traffic_class")
    with classes(guest, nic, THREE):
        assert guest.read_text(attribute) == "1"
    assert guest.run(f"cat {attribute}").stdout.strip() in ("", "0")
    works(nic)


def test_classes_survive_down_and_up(guest: Guest, nic: Nic) -> None:
    with classes(guest, nic, THREE):
        nic.down()
        nic.up()
        works(nic)
        assert guest.read_text(nic.path("queues/tx-3/traffic_class")) == "2"


def test_driver_unloaded_with_classes(lab: Lab, nic: Nic) -> None:
    lab.guest.sh(f"tc qdisc add dev {nic.name} root mqprio {THREE} hw 1")
    lab.rmmod()
    lab.insmod()
    works(nic)
    set_channels(nic, QUEUES)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (f"num_tc 2 {MAP.replace('2', '0')} queues 2@0 3@2", "not in use"),
        (f"num_tc 2 {MAP.replace('2', '0')} queues 2@0 2@1", "share a queue|overlap"),
        (f"num_tc 2 {MAP.replace('2', '0')} queues 2@0 0@2", "no queue"),
    ],
    ids=["queues not in use", "overlap", "no queue"],
)
def test_impossible_classes_are_refused(guest: Guest, nic: Nic, arguments: str, reason: str) -> None:
    said = refusal(guest, nic, arguments)
    # Before 6.4 the kernel had no way to tell the driver's reason.
    assert any(word in said for word in reason.split("|")) or "Invalid argument" in said, said
    assert guest.run(f"cat {nic.path('queues/tx-1/traffic_class')}").stdout.strip() in ("", "0")
    works(nic)


def test_classes_with_rates_are_refused(guest: Guest, nic: Nic) -> None:
    rates = "mode channel shaper bw_rlimit min_rate 1Gbit 1Gbit 1Gbit max_rate 2Gbit 2Gbit 2Gbit"
    said = refusal(guest, nic, f"{THREE} {rates}")
    assert "does not limit rates" in said or "not supported" in said, said


def test_replacing_classes_is_refused_and_keeps_them(guest: Guest, nic: Nic) -> None:
    with classes(guest, nic, THREE):
        refusal(guest, nic, f"num_tc 2 {MAP.replace('2', '0')} queues 1@0 1@1", verb="replace")
        assert guest.read_text(nic.path("queues/tx-3/traffic_class")) == "2"


def test_channels_that_a_class_uses_cannot_be_taken_away(guest: Guest, nic: Nic) -> None:
    with classes(guest, nic, THREE):
        refused = nic.ethtool("-L", "combined", "3", check=False)
        assert not refused.ok
        assert "busy" in refused.stderr.lower()
        set_channels(nic, 8)
        assert guest.read_text(nic.path("queues/tx-3/traffic_class")) == "2"
        set_channels(nic, QUEUES)
    set_channels(nic, 1)
    works(nic)
    set_channels(nic, QUEUES)
