# SPDX-License-Identifier: GPL-2.0-or-later
"""The device answers no more: it has been taken away without a word (all ones), or it hangs (registers frozen).

Everything that a user may do then ends, soon and with an error that is true; nothing is touched that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic

from . import frames
from .helpers import Flood, dmesg_since, eventually, pci_address, set_channels, wait_message, works

SOON = 10.0
"""Seconds that a command may take at a device that does not answer, on a machine with much else to do."""


@pytest.fixture
def restored(lab: Lab) -> Iterator[None]:
    """The function is there again at the end, found by the guest, with a driver that has begun anew."""
    yield
    nic = lab.nic
    nic.clear_faults()
    address = "0000:01:00.0"
    lab.guest.sh(
        "rmmod labnic 2>/dev/null; "
        f"[ ! -e /sys/bus/pci/devices/{address} ] || echo 1 >/sys/bus/pci/devices/{address}/remove; "
        "echo 1 >/sys/bus/pci/rescan"
    )
    lab.insmod()
    works(nic)


def notice(guest: Guest, nic: Nic, before: int) -> None:
    """Read what needs the device's registers, until the driver has said that it is gone, after so many messages."""
    nic.ethtool("-S", check=False)
    wait_message(guest, before, "the device is gone")


def test_taken_away_under_traffic(guest: Guest, nic: Nic, restored: None) -> None:
    """The interface loses its carrier and is detached; it can be looked at, set down, and not be set up."""
    before = len(dmesg_since(guest, 0))
    with Flood(nic, answer=True), nic.fault("gone"):
        seen = nic.statistics()
        notice(guest, nic, before)
        eventually(lambda: nic.sysfs("carrier"), "0", what="carrier")
        now = nic.statistics()
        assert {name: value for name, value in now.items() if value < seen[name]} == {}
        for option in ("-i", "-S", "-d", "-g"):
            assert not nic.ethtool(option, check=False, timeout=SOON).ok
        assert not guest.run(["ip", "link", "set", nic.name, "mtu", "1400"], timeout=SOON).ok
        guest.run(["ip", "link", "set", nic.name, "down"], check=True, timeout=SOON)
        assert "No such device" in guest.run(["ip", "link", "set", nic.name, "up"], timeout=SOON).stderr


def test_taken_away_and_unloaded_before_anybody_notices(guest: Guest, nic: Nic, restored: None) -> None:
    with Flood(nic, answer=True), nic.fault("gone"):
        guest.run(["rmmod", "labnic"], check=True, timeout=SOON)


def test_taken_away_and_unloaded_after_it_was_noticed(guest: Guest, nic: Nic, restored: None) -> None:
    before = len(dmesg_since(guest, 0))
    with nic.fault("gone"):
        notice(guest, nic, before)
        guest.run(["rmmod", "labnic"], check=True, timeout=SOON)


@pytest.mark.parametrize("after", [1, 7, 40, 90])
@pytest.mark.parametrize("action", ["ip link set {name} down", "ethtool -G {name} tx 128", "ethtool -S {name}"])
def test_taken_away_in_the_middle_of_something(guest: Guest, nic: Nic, restored: None, action: str, after: int) -> None:
    """After so many accesses to registers: the action ends, with whatever result, and the module can go."""
    with nic.fault("gone", after=after):
        guest.run(action.format(name=nic.name), timeout=SOON)
        guest.run(["ip", "link", "set", nic.name, "down"], timeout=SOON)
        guest.run(["rmmod", "labnic"], check=True, timeout=SOON)


TRIES = 4
"""Resets, a second apart, that follow a change which has failed."""


def failed_resets(guest: Guest, before: int) -> int:
    """Resets that the driver says have failed."""
    return sum("reset failed" in line for line in dmesg_since(guest, before))


def test_hanging_device_is_given_up_after_some_tries(guest: Guest, nic: Nic) -> None:
    """A reset fails, is tried again a few times, and no more; the interface comes back with down and up."""
    before = len(dmesg_since(guest, 0))
    with nic.fault("hang"):
        assert not nic.ethtool("-G", "tx", "128", check=False, timeout=SOON).ok
        assert nic.sysfs("carrier") == "0"
        eventually(lambda: failed_resets(guest, before), TRIES, timeout=15.0, what="failed resets")
        guest.sh("usleep 1500000")
        assert failed_resets(guest, before) == TRIES
    nic.down()
    nic.up()
    nic.ethtool("-G", "tx", "512")
    works(nic)


def test_hanging_device_that_recovers_loses_and_repeats_nothing(guest: Guest, nic: Nic) -> None:
    """What is in the ring when it hangs, copied or not, is sent, once and in order, when a later reset succeeds.

    What waits before the ring is dropped by the stack, which does so when a carrier goes.
    """
    set_channels(nic, 1)
    least = nic.path("queues/tx-0/byte_queue_limits/limit_min")
    guest.sh(f"echo 100000 >{least}")
    nic.ping()  # the limit in force is found anew when a frame has been sent
    sent = [frames.make(60 + 20 * n, dst=nic.peer_mac, src=nic.mac, seed=n) for n in range(30)]
    with frames.lossless_egress(guest, nic):
        with nic.fault("hang"):
            frames.send_from_guest(guest, nic, sent)
            in_ring = nic.sysfs_int("queues/tx-0/byte_queue_limits/inflight")
            assert not nic.ethtool("-G", "tx", "128", check=False, timeout=SOON).ok
            guest.sh("usleep 1500000")  # one more reset fails
        nic.wait_carrier(True)
        got = [frame.data for frame in nic.barrier() if frames.is_test_frame(frame)]
    frames.assert_same(sent[: len(got)], got)
    assert sum(map(len, got)) == in_ring == sum(map(len, sent))
    guest.sh(f"echo 0 >{least}")
    nic.ethtool("-G", "tx", "512")
    works(nic)


def test_hanging_device_can_be_unloaded(guest: Guest, lab: Lab, nic: Nic) -> None:
    with Flood(nic), nic.fault("hang"):
        nic.ethtool("-S", timeout=SOON)
        nic.statistics()
        guest.run(["ip", "link", "set", nic.name, "down"], check=True, timeout=SOON)
        guest.run(["ip", "link", "set", nic.name, "up"], timeout=SOON)
        guest.run(["rmmod", "labnic"], check=True, timeout=SOON)
    lab.insmod()
    works(nic)


def test_hanging_device_lets_go_of_its_memory(guest: Guest, nic: Nic) -> None:
    """The driver frees rings that the device has not given back: it may not reach memory any more."""
    address = pci_address(guest, nic)
    command = f"od -An -tx2 -j4 -N2 /sys/bus/pci/devices/{address}/config"
    bus_master = 0x4
    assert int(guest.sh(command), 16) & bus_master
    with nic.fault("hang"):
        nic.down()
        assert not int(guest.sh(command), 16) & bus_master
    nic.up()
    assert int(guest.sh(command), 16) & bus_master
    works(nic)
