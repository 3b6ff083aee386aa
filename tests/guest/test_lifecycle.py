# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver comes and goes while frames arrive: afterwards traffic flows, and what it had is given back.

A splat in the kernel's log fails each of these tests (the plugin looks); so they do not look for one themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from labnic.errors import WireError
from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic

from .helpers import Flood, deltas, eventually, interrupts, pci_address, settled, works

ROUNDS = 4


def module_users(guest: Guest) -> str:
    """The driver's line of /proc/modules, empty when it is not loaded."""
    return guest.run("grep '^labnic ' /proc/modules").stdout


def irq_names(guest: Guest) -> list[str]:
    """The lines of /proc/interrupts that name the driver or an interface of it."""
    return guest.run("grep -E 'labnic|eth[0-9]' /proc/interrupts").lines


def test_down_and_up_under_traffic(nic: Nic) -> None:
    with Flood(nic, answer=True) as flood:
        for _ in range(ROUNDS):
            nic.down()
            nic.up()
            works(nic, size=56)
    assert flood.sent
    works(nic)


def test_no_interrupts_while_down(guest: Guest, nic: Nic) -> None:
    address = pci_address(guest, nic)
    nic.down()
    before = interrupts(guest, address)
    with Flood(nic) as flood:
        eventually(lambda: flood.sent >= 50, True, what="50 frames sent to a NIC that is down")
    assert interrupts(guest, address) == before
    nic.up()
    works(nic)


def test_frames_that_came_while_down_do_not_arrive_later(guest: Guest, nic: Nic) -> None:
    nic.down()
    for _ in range(3):
        nic.wire.send(b"\xff" * 6 + b"\x02" * 6 + b"\x88\xb5" + bytes(46))
    nic.up()
    with nic.capture() as capture:
        works(nic)
        assert not [frame for frame in capture.frames() if frame[12:14] == b"\x88\xb5"]


def test_unload_and_load_under_traffic(lab: Lab, nic: Nic) -> None:
    """The interface is up each time that the module goes, right after long frames among those that are copied."""
    with Flood(nic, answer=True) as flood:
        for _ in range(ROUNDS):
            works(nic)
            lab.rmmod()
            lab.insmod()
    assert flood.sent
    works(nic)


def test_unload_leaves_nothing(guest: Guest, lab: Lab, nic: Nic) -> None:
    address = pci_address(guest, nic)
    assert len(interrupts(guest, address)) > 1
    lab.rmmod()
    try:
        assert module_users(guest) == ""
        assert irq_names(guest) == []
        assert not guest.run(["test", "-e", f"/sys/class/net/{nic.name}"]).ok
        assert not guest.run(["test", "-e", f"/sys/bus/pci/devices/{address}/msi_irqs"]).ok
        assert not guest.run(["test", "-e", f"/sys/bus/pci/devices/{address}/driver"]).ok
        assert guest.read_text(f"/sys/bus/pci/devices/{address}/enable") == "0"
        assert not guest.run(f"grep -A9 '{address}' /proc/iomem | grep -q labnic").ok
    finally:
        lab.insmod()
    works(nic)


def test_unload_while_down(lab: Lab, nic: Nic) -> None:
    nic.down()
    lab.rmmod()
    lab.insmod()
    works(nic)


def test_attributes_held_open_outlive_the_driver(guest: Guest, lab: Lab, nic: Nic) -> None:
    """The module goes although a program has an attribute open; reading it then says ENODEV."""
    hold = (
        f"exec 3<{nic.path('mtu')}; echo held >/tmp/labnic-held; "
        "while [ ! -e /tmp/labnic-gone ]; do usleep 10000; done; exec cat <&3"
    )
    guest.run("rm -f /tmp/labnic-held /tmp/labnic-gone")
    with guest.start(hold) as holder:
        guest.wait_until(["test", "-e", "/tmp/labnic-held"], what="the attribute to be open")
        lab.rmmod()
        guest.sh("touch /tmp/labnic-gone")
        result = holder.wait(10.0)
    lab.insmod()
    assert not result.ok
    assert "No such device" in result.stderr
    works(nic)


def test_unbind_and_bind_under_traffic(guest: Guest, nic: Nic) -> None:
    address = pci_address(guest, nic)
    with Flood(nic, answer=True):
        for _ in range(ROUNDS):
            guest.write("/sys/bus/pci/drivers/labnic/unbind", address)
            assert not guest.run(["test", "-e", f"/sys/class/net/{nic.name}"]).ok
            guest.write("/sys/bus/pci/drivers/labnic/bind", address)
            nic.configure()
    works(nic)


def test_pci_remove_and_rescan_under_traffic(guest: Guest, nic: Nic) -> None:
    address = pci_address(guest, nic)
    with Flood(nic, answer=True):
        for _ in range(3):
            guest.write(f"/sys/bus/pci/devices/{address}/remove", "1")
            assert not guest.run(["test", "-e", f"/sys/bus/pci/devices/{address}"]).ok
            guest.write("/sys/bus/pci/rescan", "1")
            nic.configure()
    works(nic)


def test_second_down_and_second_up_change_nothing(nic: Nic) -> None:
    nic.down()
    nic.down()
    nic.up()
    before = settled(nic.statistics)
    nic.ip_link("up")
    works(nic)
    assert deltas(before, nic.statistics()).keys() >= {"rx_packets", "tx_packets"}


def test_machine_goes_down_under_traffic(lab_factory: Callable[..., Lab]) -> None:
    """The interface is up, frames come and go: the driver's shutdown does not keep the machine from going down."""
    lab = lab_factory()
    with contextlib.suppress(WireError), Flood(lab.nic, answer=True, rate=1000.0):
        # Not by way of init, which would end the programs first.
        lab.guest.start(f"ping -i 0.002 {lab.nic.peer_ip} & usleep 200000; poweroff -f")
        assert lab.wait_exit(20.0)
    assert any("reboot: Power down" in line for line in lab.console_tail(3))
