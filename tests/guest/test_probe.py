# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver meets a device that it cannot use: it says why, gives back all that it had taken, and takes a good one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest

from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic
from labnic.qmp import Qmp

from .helpers import Flood, dmesg_since, interrupts, pci_address, sections, works
from .test_unplug import plug, unplug

BIND, UNBIND = "/sys/bus/pci/drivers/labnic/bind", "/sys/bus/pci/drivers/labnic/unbind"
STEPS: Mapping[str, tuple[Mapping[str, int | str], str]] = {
    "another device": ({"register": "ID", "value": 0x12345678}, "no labnic: ID is 12345678"),
    "no answer": ({"register": "ID", "value": 0xFFFFFFFF}, "no labnic: ID is ffffffff"),
    "another interface": ({"register": "VERSION", "value": 0x00020003}, "interface version 2.3"),
    "no queues": ({"register": "LIMITS", "value": 0}, "impossible number of queues: 0"),
    "too many queues": ({"register": "LIMITS", "value": 17}, "impossible number of queues: 17"),
    "no reset": ({"register": "CTRL", "value": 1}, "the device cannot be reset"),
}
"""Registers that answer so when the driver comes, and what it says then."""


@pytest.fixture
def unbound(lab: Lab) -> Iterator[str]:
    """The function without its driver, by its PCI address; with it again at the end."""
    address = pci_address(lab.guest, lab.nic)
    lab.guest.write(UNBIND, address)
    yield address
    lab.nic.clear_faults()
    if not lab.guest.run(["test", "-e", f"/sys/bus/pci/devices/{address}/driver"]).ok:
        lab.guest.write(BIND, address)
    lab.nic.configure()
    works(lab.nic)


def taken(guest: Guest, address: str) -> dict[str, str]:
    """What the driver has of the function."""
    return {
        "memory": guest.run("grep labnic /proc/iomem").stdout,
        "vectors": guest.run(f"ls /sys/bus/pci/devices/{address}/msi_irqs").stdout,
        "interrupts": guest.run("grep labnic /proc/interrupts").stdout,
        "enabled": guest.read_text(f"/sys/bus/pci/devices/{address}/enable").replace("0", ""),
        "interface": guest.run(f"ls /sys/bus/pci/devices/{address}/net").stdout,
    }


@pytest.mark.parametrize("step", STEPS)
def test_device_that_cannot_be_used_is_refused(guest: Guest, nic: Nic, unbound: str, step: str) -> None:
    register, message = STEPS[step]
    before = len(dmesg_since(guest, 0))
    with Flood(nic), nic.fault("register", count=0, **register):
        assert not guest.run(f"echo {unbound} >{BIND}").ok
    assert any(message in line for line in dmesg_since(guest, before))
    assert set(taken(guest, unbound).values()) == {""}


def test_invalid_address_is_replaced(guest: Guest, nic: Nic, unbound: str) -> None:
    """A device without an address of its own works with a random one."""
    low, high = (nic.fault("register", register=name, value=0, count=0) for name in ("PERM_MAC", "PERM_MAC_HI"))
    with low, high:
        guest.write(BIND, unbound)
    nic.configure()
    address = nic.sysfs("address")
    assert address != nic.mac
    assert int(address[:2], 16) & 3 == 2
    assert nic.arp() == address
    nic.set_mac(nic.mac)


@pytest.mark.parametrize("after", [0, 3, 8, 20, 60, 61, 62])
def test_device_that_goes_while_the_driver_comes(guest: Guest, nic: Nic, unbound: str, after: int) -> None:
    """After so many accesses to registers it answers nothing: binding ends, and the driver can go again."""
    with nic.fault("gone", after=after):
        guest.run(f"echo {unbound} >{BIND}", timeout=10.0)
        guest.run(
            f"[ ! -e /sys/bus/pci/devices/{unbound}/driver ] || echo {unbound} >{UNBIND}", check=True, timeout=10.0
        )
        assert set(taken(guest, unbound).values()) == {""}
    guest.sh(f"echo 1 >/sys/bus/pci/devices/{unbound}/remove; echo 1 >/sys/bus/pci/rescan")


@pytest.mark.parametrize(
    ("properties", "message"),
    [({"vectors": 0}, "no MSI-X vectors"), ({"vectors": 1}, "no MSI-X vectors"), ({"regs-size": 4096}, "too small")],
    ids=["no interrupts", "one interrupt", "small BAR"],
)
def test_device_made_wrong_is_refused(
    guest: Guest, nic: Nic, qmp: Qmp, properties: dict[str, int], message: str
) -> None:
    before = len(dmesg_since(guest, 0))
    unplug(qmp, nic)
    plug(qmp, nic, wait=False, **properties)
    address = "0000:01:00.0"
    guest.wait_until(f"dmesg | tail -n +{before} | grep -q '{message}'", what="the driver's refusal")
    assert set(taken(guest, address).values()) == {""}
    unplug(qmp, nic)
    plug(qmp, nic)
    works(nic)


def test_device_with_few_interrupts_has_as_many_queues(guest: Guest, nic: Nic, qmp: Qmp) -> None:
    unplug(qmp, nic)
    plug(qmp, nic, vectors=4)
    assert sections(nic.ethtool("-l").stdout)[0]["Combined"] == "3"
    nic.ethtool("-L", "combined", "3")
    assert len(interrupts(guest, pci_address(guest, nic))) == 4
    works(nic)
    unplug(qmp, nic)
    plug(qmp, nic)


CYCLES = """
cycle() {{
    for n in $(seq $1); do
        echo {address} >{unbind} && echo {address} >{bind} && ip link set dev {name} up || exit 1
        ip neigh replace {peer_ip} lladdr {peer_mac} nud permanent dev {name}
        ping -c 2 -i 0.002 -w 1 {peer_ip} >/dev/null 2>&1 &
    done
    wait
    usleep 300000
    grep -E '^(Slab|Percpu|VmallocUsed):' /proc/meminfo
}}
cycle 5; cycle 25
"""


def test_repeated_binding_does_not_grow(guest: Guest, nic: Nic) -> None:
    """Memory in use after 30 binds under traffic is that after 5, but for what the kernel caches."""
    script = CYCLES.format(
        address=pci_address(guest, nic),
        bind=BIND,
        unbind=UNBIND,
        name=nic.name,
        peer_ip=nic.peer_ip,
        peer_mac=nic.peer_mac,
    )
    with Flood(nic, answer=True):
        text = guest.sh(script, timeout=60.0)
    few, many = (
        {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB$", part, re.MULTILINE)}
        for part in (text[: len(text) // 2], text[len(text) // 2 :])
    )
    # One net_device, its queues and one ring are more than 64 KiB; 25 of them would be.
    grown = {name: many[name] - few[name] for name in few if many[name] - few[name] > 1024}
    assert len(few) == len(many) == 3
    assert grown == {}
    nic.configure()
    works(nic)
