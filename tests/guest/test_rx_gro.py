# SPDX-License-Identifier: GPL-2.0-or-later
"""Received frames that are several TCP segments: what the stack makes of them, and words of the device that cannot be.

The word that tells of segments is put into completions of ordinary frames by a fault, so that any wire will do.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import packets
import pytest
from packets import Shape

from labnic import hwmap
from labnic.nic import Nic
from labnic.wire import Frame

from .frames import assert_same
from .helpers import deltas, device_counters, eventually, settled, works
from .test_ethtool import registers
from .test_offload import features

HW = hwmap.load(hwmap.default_path())
COALESCED = HW.struct("RX_CMPL").word("COALESCED")
PAYLOAD, MSS = 1300, 500
ETH_HLEN = 14


@pytest.fixture(autouse=True)
def _usual(nic: Nic) -> Iterator[None]:
    """Every feature is on afterwards."""
    yield
    nic.ethtool("-K", "rx", "on", "rx-gro-hw", "on", "tso", "on")


def segment(nic: Nic, seed: int, *, ipv6: bool) -> Shape:
    """A TCP packet for the guest, without tags and options of IP."""
    generator = random.Random(seed)
    while True:
        shape = packets.packet(generator, nic.mac, nic.peer_mac, tcp=True, extended=False, payload=PAYLOAD)
        if shape.l3 == ETH_HLEN and shape.ipv6 == ipv6:
            return shape


def word(shape: Shape, mss: int = MSS) -> int:
    """What the device would write."""
    value = 0
    for name, content in (("MSS", mss), ("TCP_START", shape.l4), ("IPV6", int(shape.ipv6))):
        value = COALESCED.field(name).put(content, value)
    return value


def accepted(nic: Nic) -> bool:
    """Whether the driver has told the device that it takes segments in one frame."""
    register = HW.reg("DRV_FEATURES")
    value = int.from_bytes(registers(nic)[register.offset : register.offset + register.size], "little")
    return bool(register.field("RX_GRO").get(value))


def test_the_device_is_told_whether_the_driver_takes_segments_in_one_frame(nic: Nic) -> None:
    assert features(nic)["rx-gro-hw"] == "on"
    assert accepted(nic)
    nic.ethtool("-K", "rx-gro-hw", "off")
    assert not accepted(nic)
    nic.down()
    nic.up()
    assert not accepted(nic)
    nic.ethtool("-K", "rx-gro-hw", "on")
    assert accepted(nic)


def test_it_goes_with_the_checksums_that_it_needs(nic: Nic) -> None:
    nic.ethtool("-K", "rx", "off")
    assert features(nic)["rx-gro-hw"].startswith("off")
    assert not accepted(nic)


@pytest.mark.parametrize("tso", ["on", "off"])
@pytest.mark.parametrize("ipv6", [False, True])
def test_what_goes_on_to_the_wire_is_segments_again(nic: Nic, ipv6: bool, tso: str) -> None:
    """Straight back out: the device or the stack cuts it, and each segment is as if it had come by itself."""
    nic.ethtool("-K", "tso", tso)
    shapes = [segment(nic, seed, ipv6=ipv6) for seed in range(5)]

    def is_ours(frame: Frame) -> bool:
        return frame.data[:12] == shapes[0].data[:12]

    with nic.reflect():
        for shape in shapes:
            with nic.fault("rx-coalesced", value=word(shape)):
                nic.wire.send(shape.unfinished())
                wanted = packets.segments(shape, MSS)
                got = nic.wire.collect(len(wanted), is_ours)
            assert_same(wanted, [frame.data for frame in got])


def test_each_segment_counts(nic: Nic) -> None:
    shape = segment(nic, 1, ipv6=False)
    wanted = packets.segments(shape, MSS)
    before = settled(nic.statistics)
    with nic.fault("rx-coalesced", value=word(shape)):
        nic.wire.send(shape.unfinished())
        eventually(lambda: nic.statistics()["rx_packets"] - before["rx_packets"], len(wanted), what="segments")
    assert nic.statistics()["rx_bytes"] - before["rx_bytes"] == sum(map(len, wanted))


NONSENSE = {
    "no size": lambda shape: word(shape, 0),
    "one segment": lambda shape: word(shape, PAYLOAD),
    "longer than a frame": lambda shape: word(shape, 0x3FFF),
    "TCP in the Ethernet header": lambda shape: word(replace(shape, l4=4)),
    "TCP at the end": lambda shape: word(replace(shape, l4=len(shape.data) - 10)),
    "TCP past the frame": lambda shape: word(replace(shape, l4=0x3FFF)),
    "all ones": lambda shape: 0xFFFF_FFFF,
}


@pytest.mark.parametrize("how", NONSENSE)
def test_what_cannot_be_resets_the_device_and_goes_no_further(nic: Nic, how: str) -> None:
    shape = segment(nic, 2, ipv6=False)
    before = device_counters(nic)
    with nic.fault("rx-coalesced", value=NONSENSE[how](shape)):
        nic.wire.send(shape.unfinished())
        # In the middle of a reset there are no statistics to be had.
        eventually(lambda: nic.ethtool_stats().get("resets", 0) - before["resets"], 1, what="resets")
    growth = deltas(before, device_counters(nic))
    assert sum(count for name, count in growth.items() if name.endswith("_rx_errors")) == 1
    works(nic)
