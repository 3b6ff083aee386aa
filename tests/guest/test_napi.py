# SPDX-License-Identifier: GPL-2.0-or-later
"""Threaded NAPI: the polls run in kernel threads, and everything else is as it was."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic

from . import frames
from .helpers import Flood, set_channels, works
from .probes import probed

POLLS = "p:{} labnic:labnic_poll"


def threads(guest: Guest, nic: Nic) -> int:
    """Kernel threads that poll for this interface."""
    return int(guest.sh(f"cat /proc/[0-9]*/comm 2>/dev/null | grep -c '^napi/{nic.name}-' || true"))


@pytest.fixture
def threaded(nic: Nic) -> Iterator[None]:
    """Threads poll, until the end of the test."""
    nic.sysfs_set("threaded", 1)
    yield
    if nic.guest.run(["test", "-e", nic.path("threaded")]).ok:
        nic.sysfs_set("threaded", 0)


def test_threads_do_all_the_polling(guest: Guest, nic: Nic, threaded: None) -> None:
    assert threads(guest, nic) == 2
    with probed(guest, POLLS, only="common_pid > 0") as probe, Flood(nic, answer=True, rate=1000.0):
        sent = [frames.to_guest(nic, 60 + n, seed=n) for n in range(400)]
        frames.assert_same(sent, frames.receive_in_guest(guest, nic, sent))
    assert probe.lines
    assert [line for line in probe.lines if f"napi/{nic.name}-" not in line] == []
    works(nic)


def test_threads_and_softirqs_change_places_under_traffic(guest: Guest, nic: Nic) -> None:
    with Flood(nic, answer=True, rate=1000.0):
        guest.sh(
            f"cd {nic.path('')} && for n in 1 2 3 4 5 6; do "
            "echo 1 >threaded && usleep 20000 && echo 0 >threaded && usleep 20000 || exit 1; done"
        )
    assert nic.sysfs("threaded") == "0"
    works(nic)


def test_threads_outlive_every_change_of_the_queues(guest: Guest, nic: Nic, threaded: None) -> None:
    with Flood(nic, answer=True):
        guest.sh(
            f"for n in 8 1 3; do ethtool -L {nic.name} combined $n && ethtool -G {nic.name} tx 64 rx 128 && "
            f"ip link set {nic.name} down && ip link set {nic.name} up && "
            f"ethtool -G {nic.name} tx 512 rx 512 || exit 1; done"
        )
        nic.configure()
    assert nic.sysfs("threaded") == "1"
    assert threads(guest, nic) == 3
    works(nic)
    set_channels(nic, 2)


def test_driver_unloaded_with_threads(guest: Guest, lab: Lab, nic: Nic, threaded: None) -> None:
    with Flood(nic, answer=True):
        lab.rmmod()
        assert threads(guest, nic) == 0
        lab.insmod()
    assert nic.sysfs("threaded") == "0"
    works(nic)
