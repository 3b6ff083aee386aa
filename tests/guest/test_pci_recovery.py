# SPDX-License-Identifier: GPL-2.0-or-later
"""Others reset the function under the driver, or report errors of its link: the NIC goes on afterwards as it was."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from labnic.guest import Guest
from labnic.nic import Nic

from . import frames
from .helpers import Flood, dmesg_since, pci_address, set_channels, wait_message, works

GROUP = "01:00:5e:7f:12:34"


def reset(guest: Guest, nic: Nic) -> None:
    """Reset the PCI function (Function Level Reset) as the administrator may."""
    guest.sh(f"echo 1 >/sys/bus/pci/devices/{pci_address(guest, nic)}/reset")


def test_function_reset_under_traffic(guest: Guest, nic: Nic) -> None:
    with Flood(nic, answer=True) as flood:
        for _ in range(3):
            reset(guest, nic)
            works(nic, size=56)
    assert flood.sent
    works(nic)


def test_function_reset_keeps_the_settings(guest: Guest, nic: Nic) -> None:
    """Filter, MTU, channels and rings are the driver's to remember: the device has forgotten all of them."""
    nic.set_mtu(4000)
    set_channels(nic, 3)
    nic.ethtool("-G", "rx", "128", "tx", "64")
    guest.run(["ip", "maddress", "add", GROUP, "dev", nic.name], check=True)
    try:
        reset(guest, nic)
        nic.wait_carrier(True)
        long, foreign = frames.to_guest(nic, 4014, dst=GROUP, seed=1), frames.to_guest(nic, 90, dst="01:00:5e:7f:12:35")
        assert frames.receive_in_guest(guest, nic, [long]) == [long]
        nic.wire.send(foreign)
        works(nic, size=3000)
        assert nic.ethtool_stats()["rx_filtered"] > 0
    finally:
        guest.run(["ip", "maddress", "del", GROUP, "dev", nic.name])


def test_function_reset_while_down(guest: Guest, nic: Nic) -> None:
    nic.down()
    reset(guest, nic)
    nic.up()
    works(nic)


ERRORS: Mapping[str, tuple[int, int]] = {
    "non-fatal": (0x4000, 0),  # a completion did not come
    "corrected": (0, 0x1),  # the receiver made an error good
}
"""Bits of the uncorrectable and of the correctable error status (PCI Express Base Specification, section 7.8.4).

No fatal ones: the kernel resets the bus below the port then, and QEMU's port does not say that its link is up again.
"""


def inject(guest: Guest, nic: Nic, uncorrectable: int, correctable: int) -> None:
    """Let the port above the NIC report these errors (the kernel's struct aer_error_inj)."""
    port = guest.sh(f"basename $(dirname $(readlink -f /sys/bus/pci/devices/{pci_address(guest, nic)}))")
    domain, bus, rest = port.split(":")
    device, function = rest.split(".")
    where = (int(bus, 16), int(device, 16), int(function))
    guest.sh("modprobe aer_inject")
    guest.write(
        "/dev/aer_inject", struct.pack("<3Bx7I", *where, uncorrectable, correctable, 0, 0, 0, 0, int(domain, 16))
    )


@pytest.mark.needs_kernel("aer_inject")
@pytest.mark.parametrize("severity", ERRORS)
def test_error_of_the_link_under_traffic(guest: Guest, nic: Nic, severity: str) -> None:
    before = len(dmesg_since(guest, 0))
    with Flood(nic, answer=True):
        inject(guest, nic, *ERRORS[severity])
        wait_message(guest, before, "error" if severity == "corrected" else "device recovery successful", timeout=10.0)
        nic.wait_carrier(True)
    works(nic)


@pytest.mark.needs_kernel("aer_inject")
def test_error_of_the_link_while_down(guest: Guest, nic: Nic) -> None:
    before = len(dmesg_since(guest, 0))
    nic.down()
    inject(guest, nic, *ERRORS["non-fatal"])
    wait_message(guest, before, "device recovery successful", timeout=10.0)
    nic.up()
    works(nic)
