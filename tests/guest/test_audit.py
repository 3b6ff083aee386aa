# SPDX-License-Identifier: GPL-2.0-or-later
"""The device watches the driver during every guest test; here it is shown to see something."""

from __future__ import annotations

import pytest

from labnic.guest import Guest
from labnic.nic import Nic

from . import frames
from .helpers import pci_address

FRAMES = 3000
ROUNDS = 20
WAITING = 150
"""Frames that the wire's socket holds while the device takes none."""

COMMAND_MASTER = 0x04


def set_command(guest: Guest, nic: Nic, change: str) -> None:
    """Change the low byte of the function's command register by a term of the shell's arithmetic."""
    config = f"/sys/bus/pci/devices/{pci_address(guest, nic)}/config"
    guest.sh(
        f"old=$(od -An -tu1 -j4 -N1 {config}) && new=$(printf %o $((old {change}))) && "
        f'printf "\\\\$new" | dd of={config} bs=1 seek=4 conv=notrunc 2>/dev/null'
    )


def test_a_driver_that_does_nothing_wrong_is_not_accused(nic: Nic) -> None:
    nic.ping()
    assert nic.audit() == []


def test_a_driver_under_load_is_not_accused(nic: Nic) -> None:
    """More frames than its rings hold, in both directions, as fast as they go."""
    with nic.reflect():
        for number in range(FRAMES):
            nic.wire.send(frames.make(100 + number % 1000, dst=nic.mac, src=nic.peer_mac, seed=number % 7))
    assert nic.arp() == nic.mac
    assert nic.statistics()["rx_packets"] >= FRAMES
    assert nic.audit() == []


def test_a_driver_that_falls_behind_is_not_accused(nic: Nic) -> None:
    """Frames that wait outside come faster than any poll: the driver's events race with them, and may not go back."""
    before = nic.statistics()["rx_packets"]
    for _ in range(ROUNDS):
        with nic.fault("rx-stall", count=0):
            for number in range(WAITING):
                nic.wire.send(frames.make(100, dst=nic.mac, src=nic.peer_mac, seed=number % 7))
        assert nic.arp() == nic.mac
    assert nic.statistics()["rx_packets"] >= before + ROUNDS * WAITING
    assert nic.audit() == []


@pytest.mark.expect_audit("stop-running")
def test_bus_mastering_taken_from_a_running_device_is_seen(guest: Guest, nic: Nic) -> None:
    """What a driver does that leaves its queues enabled when it disables the function."""
    set_command(guest, nic, f"& ~{COMMAND_MASTER}")
    found = nic.audit()
    set_command(guest, nic, f"| {COMMAND_MASTER}")
    assert {violation.rule for violation in found} == {"stop-running"}
    assert {violation.queue for violation in found} == set(range(guest_queues(nic)))
    assert nic.arp() == nic.mac


def guest_queues(nic: Nic) -> int:
    """Queue pairs that the interface uses."""
    return len(nic.guest.sh(f"ls -d {nic.path('queues')}/tx-*").split())
