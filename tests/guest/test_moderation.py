# SPDX-License-Identifier: GPL-2.0-or-later
"""Interrupts that are held back: what ethtool says of it, what it saves, and whom it may not keep waiting."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from labnic.cmdline import DEVICE_LOG
from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic
from labnic.pktgen import Load, Pktgen, Sent
from labnic.qmp import Qmp

from . import frames
from .helpers import deltas, device_counters, interrupts, pci_address, settled, works
from .test_unplug import plug, plugged, unplug

__all__ = ["plugged"]

LONGEST = 65535
"""Microseconds, more than a frame takes on the slowest machine; who waits for it is noticed."""
USUAL = {"adaptive-rx": "on", "rx-usecs": "256", "rx-frames": "32", "tx-usecs": "512", "tx-frames": "256"}
FLOOD = 30_000
"""Frames a second, more than make a queue busy."""
QUEUE_0 = 1
"""The vector of the first queue pair."""


def settings(nic: Nic) -> dict[str, str]:
    """What ``ethtool -c`` says of what the driver has."""
    text = nic.ethtool("-c").stdout
    found = dict(re.findall(r"^([a-z-]+):\s+(\d+)$", text, re.MULTILINE))
    adaptive = re.search(r"^Adaptive RX: (\w+)", text, re.MULTILINE)
    assert adaptive
    return {**found, "adaptive-rx": adaptive[1]}


def moderate(nic: Nic, **wanted: object) -> None:
    """Change settings; a name has underscores for its dashes."""
    words = [word for name, value in wanted.items() for word in (name.replace("_", "-"), str(value))]
    nic.ethtool("-C", *words)


@pytest.fixture(autouse=True)
def usual(nic: Nic) -> Iterator[None]:
    """The settings of a new interface afterwards, and its first queue pair alone."""
    nic.ethtool("-L", "combined", "1")
    yield
    nic.ethtool("-C", *(word for pair in USUAL.items() for word in pair))
    nic.ethtool("-G", "tx", "512", "rx", "512")
    nic.ethtool("-L", "combined", "2")


def queue_interrupts(guest: Guest, nic: Nic) -> int:
    """Interrupts of the first queue pair so far."""
    return interrupts(guest, pci_address(guest, nic))[QUEUE_0]


def send(guest: Guest, nic: Nic, count: int) -> Sent:
    """Frames from the kernel's generator, each with a doorbell of its own."""
    return Pktgen(guest, nic.name, nic.peer_mac, nic.peer_ip).send(*Load(60, 1).senders(count))


# Settings


def test_a_new_interface_has_the_usual_settings(nic: Nic) -> None:
    assert settings(nic) == USUAL


def test_settings_are_kept_while_the_interface_is_down_and_its_rings_are_new(nic: Nic) -> None:
    wanted = {"adaptive-rx": "off", "rx-usecs": "17", "rx-frames": "3", "tx-usecs": "1000", "tx-frames": "65535"}
    nic.ethtool("-C", *(word for pair in wanted.items() for word in pair))
    nic.down()
    nic.up()
    nic.ethtool("-G", "tx", "128")
    assert settings(nic) == wanted
    works(nic)


@pytest.mark.parametrize("name", ["rx-usecs", "rx-frames", "tx-usecs", "tx-frames"])
def test_what_the_hardware_cannot_hold_is_refused_and_changes_nothing(nic: Nic, name: str) -> None:
    result = nic.ethtool("-C", "adaptive-rx", "off", name, "65536", check=False)
    assert not result.ok
    assert "65535" in result.stderr
    assert settings(nic) == USUAL


def test_a_device_that_does_not_moderate_says_so_and_works(nic: Nic, qmp: Qmp, plugged: None) -> None:
    unplug(qmp, nic)
    plug(qmp, nic, moderation=False)
    result = nic.ethtool("-c", check=False)
    assert not result.ok
    assert "not supported" in result.stderr
    works(nic)
    unplug(qmp, nic)
    plug(qmp, nic)


# What it saves


def test_sent_frames_share_an_interrupt(guest: Guest, nic: Nic) -> None:
    """At most one for 32 frames, where without each has its own; the queue's growth at the start may cost some."""
    count = 3200
    moderate(nic, tx_usecs=LONGEST, tx_frames=32)
    before = queue_interrupts(guest, nic)
    assert send(guest, nic, count).frames == count
    assert 0 < queue_interrupts(guest, nic) - before < count / 16


def test_received_frames_share_an_interrupt(guest: Guest, nic: Nic) -> None:
    """Frames that come one by one: each eighth fires."""
    rounds, share = 5, 8
    moderate(nic, adaptive_rx="off", rx_usecs=LONGEST, rx_frames=share)
    nic.barrier()
    before = queue_interrupts(guest, nic)
    for number in range(rounds * share):
        nic.wire.send(frames.to_guest(nic, 60, seed=number))
        time.sleep(0.002)
    settled(lambda: device_counters(nic))
    # One by one they would be 40. The time of a slow machine may end some of the waits, and bring many at once.
    assert 0 < queue_interrupts(guest, nic) - before < rounds * share / 2


@contextmanager
def held(lab: Lab) -> Iterator[Callable[[], int]]:
    """Counts how often the device has held an interrupt for received frames back."""
    log = lab.directory / DEVICE_LOG
    begin = log.stat().st_size if log.exists() else 0

    def count() -> int:
        return log.read_bytes()[begin:].count(b"TX 0, ") if log.exists() else 0

    lab.qmp.execute("trace-event-set-state", name="labnic_irq_hold", enable=True)
    try:
        yield count
    finally:
        lab.qmp.execute("trace-event-set-state", name="labnic_irq_hold", enable=False)


def test_a_flood_is_noticed(lab: Lab, nic: Nic) -> None:
    """Received frames wait for each other where there are many, and not where they come one by one."""
    moderate(nic, rx_usecs=LONGEST, rx_frames=128)
    burst = [frames.to_guest(nic, 60, seed=number) for number in range(64)]
    with held(lab) as count:
        for number in range(20):
            nic.ping(sequence=number + 1)
        assert count() == 0
        rates = []
        while not count() and len(rates) < 20:
            before, begin = device_counters(nic)["rx_frames"], time.monotonic()
            while time.monotonic() < begin + 0.3:
                nic.wire.send(*burst)
            rates.append((device_counters(nic)["rx_frames"] - before) / 0.3)
        if not count() and max(rates) < FLOOD:
            pytest.skip(f"this guest takes {max(rates):.0f} frames a second at most, which is no flood")
        assert count(), f"no interrupt was held back at {max(rates):.0f} frames a second"


# Who may not wait


def test_lone_frames_do_not_wait_for_others(nic: Nic) -> None:
    """Questions and answers, one at a time, by the settings that a new interface has but for their length."""
    rounds = 20
    moderate(nic, rx_usecs=LONGEST, rx_frames=0, tx_usecs=LONGEST, tx_frames=0)
    nic.ping()
    begin = time.monotonic()
    for number in range(rounds):
        nic.ping(sequence=number + 2)
    assert time.monotonic() - begin < rounds * LONGEST / 1e6 / 2


def test_a_stopped_queue_does_not_wait(guest: Guest, nic: Nic) -> None:
    """The ring fills up again and again, and each time is emptied at once although frames could be held for long."""
    nic.ethtool("-G", "tx", "64")
    moderate(nic, tx_usecs=0)
    usual = send(guest, nic, 5000).seconds
    moderate(nic, tx_usecs=LONGEST, tx_frames=0)
    before = device_counters(nic)
    seconds = send(guest, nic, 5000).seconds
    stops = deltas(before, device_counters(nic))["queue_0_tx_stops"]
    assert stops >= 5000 // 64
    assert seconds - usual < stops * LONGEST / 1e6 / 2
