# SPDX-License-Identifier: GPL-2.0-or-later
"""Every length of frame arrives byte for byte: into the guest, out of the guest, and both at once.

Each direction has an observer of its own. Into the guest it is a capture of what the driver gave to the kernel; out
of the guest it is the wire, and the frames come from a packet socket, so that a fault of one direction shows in one
test alone.
"""

from __future__ import annotations

import pytest

from labnic.guest import Guest
from labnic.nic import Nic

from . import frames

MTU = 1500
JUMBO = 9000
BUFFERS = (2048, 3712, 4096)
"""Sizes in bytes that drivers give receive buffers: half a page, a page less its headroom, a page."""


def every_length() -> list[int]:
    """All lengths of the standard MTU: from the header alone to a full payload with a VLAN tag."""
    return list(range(frames.HEADER, MTU + frames.HEADER + frames.TAG + 1))


def jumbo_lengths() -> list[int]:
    """Lengths up to the longest: a sample, and all those around the bounds of one or more buffers."""
    longest = JUMBO + frames.HEADER + frames.TAG
    sample = set(range(frames.HEADER, longest, 97))
    edges = {n * size + off for size in BUFFERS for n in range(1, 5) for off in range(-20, 3)}
    ends = set(range(longest - 24, longest + 1)) | set(range(1500, 1540))
    return sorted(n for n in sample | edges | ends if n <= longest)


LENGTHS = pytest.mark.parametrize(
    ("mtu", "lengths"),
    [pytest.param(MTU, every_length(), id="14-1518"), pytest.param(JUMBO, jumbo_lengths(), id="jumbo")],
)


@LENGTHS
def test_received_byte_for_byte(guest: Guest, nic: Nic, mtu: int, lengths: list[int]) -> None:
    nic.set_mtu(mtu)
    sent = frames.of_lengths(lengths, mtu=mtu, dst=nic.mac, src=nic.peer_mac, seed=1)
    frames.assert_same(sent, frames.receive_in_guest(guest, nic, sent))


@LENGTHS
def test_sent_byte_for_byte(guest: Guest, nic: Nic, mtu: int, lengths: list[int]) -> None:
    nic.set_mtu(mtu)
    wanted = frames.of_lengths(lengths, mtu=mtu, dst=nic.peer_mac, src=nic.mac, seed=2)
    with frames.lossless_egress(guest, nic):
        frames.send_from_guest(guest, nic, wanted)
        frames.assert_same(wanted, frames.collect_test_frames(nic.wire, len(wanted)))


@LENGTHS
def test_both_ways_at_once(guest: Guest, nic: Nic, mtu: int, lengths: list[int]) -> None:
    nic.set_mtu(mtu)
    sent = frames.of_lengths(lengths, mtu=mtu, dst=nic.mac, src=nic.peer_mac, seed=3)
    got: list[bytes] = []
    with frames.lossless_egress(guest, nic), nic.reflect():
        for chunk in frames.chunks(sent):
            nic.wire.send(*chunk)
            got += frames.collect_test_frames(nic.wire, len(chunk))
    frames.assert_same(sent, got)


def test_broadcast_and_multicast_leave_the_guest(guest: Guest, nic: Nic) -> None:
    destinations = ("ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb", "33:33:00:00:00:01", "02:00:00:00:00:99")
    wanted = [frames.make(60, dst=dst, src=nic.mac, seed=n) for n, dst in enumerate(destinations)]
    frames.send_from_guest(guest, nic, wanted)
    frames.assert_same(wanted, frames.collect_test_frames(nic.wire, len(wanted)))


def test_burst_longer_than_the_rings_comes_back_whole(guest: Guest, nic: Nic) -> None:
    """Many times the ring in one go: the device holds frames back until there are buffers, and none is lost."""
    burst = [frames.to_guest(nic, 60 + n % 1000, seed=n) for n in range(2500)]
    with frames.lossless_egress(guest, nic), nic.reflect():
        nic.wire.send(*burst, timeout=20.0)
        frames.assert_same(burst, frames.collect_test_frames(nic.wire, len(burst), timeout=20.0))


def test_burst_longer_than_the_ring_is_sent_whole(guest: Guest, nic: Nic) -> None:
    burst = [frames.make(60 + n % 1000, dst=nic.peer_mac, src=nic.mac, seed=n) for n in range(2000)]
    with frames.lossless_egress(guest, nic):
        frames.send_from_guest(guest, nic, burst)
        frames.assert_same(burst, frames.collect_test_frames(nic.wire, len(burst)))
