# SPDX-License-Identifier: GPL-2.0-or-later
"""Others reset the function under the driver: the NIC goes on afterwards as it was."""

from __future__ import annotations

from labnic.guest import Guest
from labnic.nic import Nic

from . import frames
from .helpers import Flood, pci_address, set_channels, works

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
