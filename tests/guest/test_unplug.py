# SPDX-License-Identifier: GPL-2.0-or-later
"""The NIC is unplugged while it works, and another takes its place: nothing of the first is left in the guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labnic.build.image import DRIVER_IN_GUEST
from labnic.cmdline import root_port
from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic
from labnic.qmp import Qmp

from .helpers import Flood, pci_address, works

ROUNDS = 3
LIMIT = 15.0
"""Seconds for the guest to let a device go, or to find a new one."""


def unplug(qmp: Qmp, nic: Nic) -> None:
    """Ask the guest for the device, and wait until it has given it."""
    qmp.execute("device_del", id=nic.config.name)
    qmp.wait_event("DEVICE_DELETED", timeout=LIMIT, match=lambda event: event["data"].get("device") == nic.config.name)


def plug(qmp: Qmp, nic: Nic, *, wait: bool = True, **properties: int) -> None:
    """Put a NIC like the first into its slot, with other properties besides, and wait until its interface is up."""
    config = nic.config
    qmp.execute(
        "device_add",
        driver=config.model,
        id=config.name,
        netdev=config.wire,
        mac=config.mac,
        queues=config.queues,
        bus=root_port(config),
        **properties,
    )
    if wait:
        nic.configure(LIMIT)


@pytest.fixture
def plugged(lab: Lab) -> Iterator[None]:
    """The NIC is there at the end, whatever the test did."""
    yield
    if lab.nic.config.name not in {node["name"] for node in lab.qmp.execute("qom-list", path="/machine/peripheral")}:
        plug(lab.qmp, lab.nic)


def leftovers(guest: Guest, address: str) -> dict[str, str]:
    """What the guest still has of the function and the driver's use of it."""
    return {
        "device": guest.run(f"ls -d /sys/bus/pci/devices/{address}").stdout,
        "interface": guest.run("grep eth0 /proc/net/dev").stdout,
        "interrupts": guest.run("grep labnic /proc/interrupts").stdout,
        "memory": guest.run("grep labnic /proc/iomem").stdout,
    }


def test_unplugged_under_traffic_leaves_nothing(guest: Guest, nic: Nic, qmp: Qmp, plugged: None) -> None:
    """The interface is up, frames arrive, and others are being sent when the slot is emptied, again and again."""
    address = pci_address(guest, nic)
    with Flood(nic, answer=True):
        for _ in range(ROUNDS):
            with guest.start(f"ping -i 0.002 -w 30 {nic.peer_ip}"):
                unplug(qmp, nic)
            left = leftovers(guest, address)
            assert left == dict.fromkeys(left, "")
            plug(qmp, nic)
    works(nic)


def test_unplugged_while_attributes_are_open(guest: Guest, nic: Nic, qmp: Qmp, plugged: None) -> None:
    """The slot is empty although a program holds the MTU open; what it reads then is ENODEV."""
    script = (
        f"exec 3<{nic.path('mtu')}; echo >/tmp/labnic-held; "
        "while [ ! -e /tmp/labnic-gone ]; do usleep 10000; done; exec cat <&3"
    )
    guest.run("rm -f /tmp/labnic-held /tmp/labnic-gone")
    with guest.start(script) as holder:
        guest.wait_until(["test", "-e", "/tmp/labnic-held"], what="the attribute to be open")
        unplug(qmp, nic)
        guest.sh("touch /tmp/labnic-gone")
        result = holder.wait(10.0)
    assert "No such device" in result.stderr
    plug(qmp, nic)
    works(nic)


def test_unplugged_while_no_driver_is_loaded(lab: Lab, nic: Nic, qmp: Qmp, plugged: None) -> None:
    lab.rmmod()
    try:
        unplug(qmp, nic)
    finally:
        lab.guest.run(["insmod", DRIVER_IN_GUEST], check=True)
    plug(qmp, nic)
    works(nic)
