# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver under the observer's eyes: every callback is called as the kernel's rules say, from probe to remove."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic
from labnic.observer import Observer

from .helpers import Flood, works

USED = (
    "I1",
    "I2",
    "G2",
    "M1",
    "M2",
    "N3",
    "N4",
    "O1",
    "O2",
    "P1",
    "P2",
    "S1",
    "S2",
    "S3",
    "S4",
    "X1",
    "X4",
    "X6",
    "X7",
)
"""Rules of an interface that is used."""
LIVED = ("A1", "A2", "A3", "N1", "X2")
"""Rules of an interface that comes and goes."""


@pytest.fixture
def observer(guest: Guest) -> Iterator[Observer]:
    with Observer(guest) as observer:
        yield observer


def check(observer: Observer, rules: tuple[str, ...]) -> None:
    """Nothing was broken, and each of these rules was looked at."""
    violations = observer.violations()
    assert not violations, "\n".join(map(str, violations))
    judged = {row.rule for row in observer.report() if row.judged}
    assert sorted(set(rules) - judged) == []


def test_callbacks_are_called_by_their_rules(guest: Guest, nic: Nic, observer: Observer) -> None:
    guest.run(["modprobe", "sch_mqprio"], check=True)
    observer.attach_dev(nic.name)
    with Flood(nic, answer=True):
        nic.down()
        nic.up()
        works(nic)
        nic.set_link(False)
        nic.wait_carrier(False)
        nic.set_link(True)
        nic.wait_carrier(True)
        guest.run(["mii-tool", nic.name], check=True)
        guest.run(["ip", "maddress", "add", "01:00:5e:7f:12:34", "dev", nic.name], check=True)
        guest.run(["ip", "maddress", "del", "01:00:5e:7f:12:34", "dev", nic.name], check=True)
        guest.read_text("/proc/net/dev")
        nic.statistics()
        nic.set_mtu(1400)
        nic.set_mtu(1500)
        nic.ethtool("-G", "tx", "64")
        guest.sh(f"tc qdisc add dev {nic.name} root mqprio num_tc 1 map 0 queues 1@0 hw 1")
        guest.sh(f"tc qdisc del dev {nic.name} root")
    works(nic)
    nic.down()
    nic.up()
    check(observer, USED)


def test_an_interface_comes_and_goes_by_the_rules(lab: Lab, nic: Nic, observer: Observer) -> None:
    observer.attach_driver("labnic")
    # The first of the two lives began before the observer's.
    for _ in range(2):
        lab.reload_driver()
    works(nic)
    check(observer, LIVED)
