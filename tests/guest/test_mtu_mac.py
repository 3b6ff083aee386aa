# SPDX-License-Identifier: GPL-2.0-or-later
"""MTU and MAC address: what is accepted, what is refused, and that frames follow at once, with traffic on the wire."""

from __future__ import annotations

import pytest

from labnic.guest import Guest, GuestCommandError
from labnic.lab import Lab
from labnic.nic import Nic

from . import frames
from .helpers import Flood, works

NEW_MAC = "52:54:00:aa:bb:cc"
LARGEST = 9000
SMALLEST = 68
"""Bytes: the shortest MTU of IPv4 (RFC 791)."""
ADDRESS_PERMANENT, ADDRESS_SET = "0", "3"
"""Values of addr_assign_type (include/uapi/linux/netdevice.h)."""


def received(guest: Guest, nic: Nic, sent: list[bytes]) -> list[bytes]:
    """Which of the frames arrive in the guest; one to its own address is sent after them to mark the end."""
    own = nic.sysfs("address")
    end = frames.make(60, dst=own, src=nic.peer_mac, seed=99)
    with guest.capture(nic.name, f"ether src {nic.peer_mac}") as capture:
        for chunk in frames.chunks([*sent, end]):
            nic.wire.send(*chunk)
        capture.wait(1, match=lambda frame: frame == end)
        return [frame for frame in capture.frames() if frame != end]


# MTU


def test_longest_frame_of_each_mtu_both_ways(nic: Nic) -> None:
    """With and without a VLAN tag, MTU + 18 and MTU + 14 bytes, while the interface stays up."""
    with nic.reflect():
        for mtu in (SMALLEST, 576, 1280, 1500, 1501, 3000, 4096, LARGEST):
            nic.set_mtu(mtu)
            assert nic.sysfs_int("mtu") == mtu
            longest = mtu + frames.HEADER + frames.TAG
            for frame in frames.of_lengths([longest - frames.TAG, longest], mtu=mtu, dst=nic.mac, src=nic.peer_mac):
                nic.wire.send(frame)
                frames.assert_same([frame], frames.collect_test_frames(nic.wire, 1))


def test_longer_frames_are_dropped_and_counted(nic: Nic) -> None:
    """The first frame that comes back is the one that fits, although longer ones were sent before it."""
    before = nic.ethtool_stats()["rx_too_long"]
    sent = 0
    with nic.reflect():
        for mtu in (SMALLEST, 1500, LARGEST):
            nic.set_mtu(mtu)
            longest = mtu + frames.HEADER + frames.TAG
            lengths = [longest + 1, longest + 2, longest + 500, longest]
            *too_long, fits = frames.of_lengths(lengths, mtu=mtu, dst=nic.mac, src=nic.peer_mac)
            nic.wire.send(*too_long, fits)
            frames.assert_same([fits], frames.collect_test_frames(nic.wire, 1))
            sent += len(too_long)
    assert nic.ethtool_stats()["rx_too_long"] - before == sent


@pytest.mark.parametrize("mtu", [SMALLEST - 1, LARGEST + 1, 65535])
def test_mtu_out_of_range_is_refused_and_changes_nothing(guest: Guest, nic: Nic, mtu: int) -> None:
    result = guest.run(f"ip link set {nic.name} mtu {mtu}")
    assert not result.ok
    assert nic.sysfs_int("mtu") == 1500
    works(nic)


def test_limits_are_published(guest: Guest, nic: Nic) -> None:
    details = guest.sh(f"ip -d link show {nic.name}")
    assert f"minmtu {SMALLEST} " in details
    assert f"maxmtu {LARGEST} " in details


def test_mtu_changes_under_traffic(nic: Nic) -> None:
    with Flood(nic, answer=True) as flood:
        for mtu in (9000, 1500, 4000, 576, 2000, 68, 9000, 1500):
            nic.set_mtu(mtu)
    assert flood.sent
    works(nic)


def test_mtu_set_while_down_holds_when_up(guest: Guest, nic: Nic) -> None:
    nic.down()
    nic.set_mtu(LARGEST)
    nic.up()
    sent = [frames.to_guest(nic, LARGEST + frames.HEADER)]
    frames.assert_same(sent, received(guest, nic, sent))


# MAC address


def test_new_address_is_used_at_once(guest: Guest, nic: Nic) -> None:
    """The guest answers with it and receives frames to it; frames to the old one are kept out."""
    nic.set_mac(NEW_MAC)
    assert nic.sysfs("address") == NEW_MAC
    assert nic.arp() == NEW_MAC
    old, new = frames.to_guest(nic, 100), frames.to_guest(nic, 100, dst=NEW_MAC)
    assert received(guest, nic, [old, new]) == [new]


def test_permanent_address_stays(nic: Nic) -> None:
    nic.set_mac(NEW_MAC)
    assert nic.ethtool("-P").stdout.strip().endswith(nic.config.mac)
    assert nic.sysfs("addr_assign_type") == ADDRESS_SET


def test_new_address_survives_down_and_up(guest: Guest, nic: Nic) -> None:
    nic.set_mac(NEW_MAC)
    nic.down()
    nic.up()
    old, new = frames.to_guest(nic, 100), frames.to_guest(nic, 100, dst=NEW_MAC)
    assert received(guest, nic, [old, new]) == [new]


def test_address_set_while_down_is_used_when_up(guest: Guest, nic: Nic) -> None:
    nic.down()
    nic.set_mac(NEW_MAC)
    nic.up()
    old, new = frames.to_guest(nic, 100), frames.to_guest(nic, 100, dst=NEW_MAC)
    assert received(guest, nic, [old, new]) == [new]


def test_new_driver_begins_with_the_permanent_address(lab: Lab, nic: Nic) -> None:
    nic.set_mac(NEW_MAC)
    lab.rmmod()
    lab.insmod()
    assert nic.sysfs("address") == nic.config.mac
    assert nic.sysfs("addr_assign_type") == ADDRESS_PERMANENT
    works(nic)


@pytest.mark.parametrize("mac", ["01:00:5e:00:00:01", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"])
def test_address_that_no_nic_can_have_is_refused(nic: Nic, mac: str) -> None:
    with pytest.raises(GuestCommandError):
        nic.set_mac(mac)
    assert nic.sysfs("address") == nic.config.mac
    works(nic)


def test_address_changes_under_traffic(nic: Nic) -> None:
    with Flood(nic, answer=True) as flood:
        for last in range(10):
            mac = f"52:54:00:aa:bb:{last:02x}"
            nic.set_mac(mac)
            assert nic.sysfs("address") == mac
    assert flood.sent
    assert nic.arp() == "52:54:00:aa:bb:09"
