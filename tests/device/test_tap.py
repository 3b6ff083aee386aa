# SPDX-License-Identifier: GPL-2.0-or-later
"""A backend that takes a vnet header, the host's tap: what it can do is left to it, and the rest is done before."""

from __future__ import annotations

import itertools
import os
import random
import select
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import packets
import pytest
from packets import Shape, segments

from labnic.bench import tap
from labnic.pci import PciAddress, PciDevice
from labnic.qtest import ConditionTimeoutError
from labnic.rings import QueuePair
from labnic.softnic import Nic

from .bench import HW, MAC, SLOT, BenchOptions, MakeBench
from .frames import PEER, frame
from .test_tso import shape_of, tso
from .test_tx_csum import csum_of

pytestmark = pytest.mark.skipif(bool(tap.obstacle()), reason=tap.obstacle() or "a tap can be made")

# linux/if_packet.h
SOL_PACKET, PACKET_VNET_HDR = 263, 15
ETH_P_ALL = 3
VNET = "=BBHHHH"
VNET_LENGTH = struct.calcsize(VNET)
NEEDS_CSUM = 1
GSO_TCPV4, GSO_TCPV6, GSO_ECN = 1, 4, 0x80
PEER_MAC = PEER.hex(":")
_numbers = itertools.count()


@dataclass(frozen=True)
class Seen:
    """A frame as the host's kernel has it, and what it knows is left to do."""

    flags: int
    gso_type: int
    gso_size: int
    csum_start: int
    csum_offset: int
    data: bytes


class Host:
    """The host's end of a tap device."""

    def __init__(self, name: str) -> None:
        tap.set_up(name, PEER_MAC, "198.18.77.2/24")
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._sock.bind((name, ETH_P_ALL))

    def collect(self, count: int, *, limit: float = 5.0) -> list[Seen]:
        """The next frames from the device; the host's own are left out."""
        seen: list[Seen] = []
        while len(seen) < count:
            if not select.select([self._sock], [], [], limit)[0]:
                raise ConditionTimeoutError(f"{len(seen)} of {count} frames came within {limit:g} s")
            data = self._sock.recv(1 << 17)
            flags, kind, _, size, start, offset = struct.unpack(VNET, data[:VNET_LENGTH])
            one = Seen(flags, kind, size, start, offset, data[VNET_LENGTH:])
            if one.data[6:12].hex(":") == MAC:
                seen.append(one)
        return seen

    def send(self, data: bytes) -> None:
        """Send one finished frame to the device."""
        self._sock.send(bytes(VNET_LENGTH) + data)

    def close(self) -> None:
        """Listen no more; the device goes with QEMU."""
        self._sock.close()


@dataclass(frozen=True)
class Tapped:
    """A queue pair of a labnic on a tap, and the host's end of this."""

    nic: Nic
    pair: QueuePair
    host: Host


@pytest.fixture
def tapped(make_bench: MakeBench, request: pytest.FixtureRequest) -> Iterator[Tapped]:
    """``vnet-hdr`` is on unless the test says otherwise by a parameter."""
    name = f"lab{os.getpid() % 1000000}n{next(_numbers)}"
    device = f"labnic,id=nic1,netdev=t0,bus=pcie.0,addr={SLOT + 1:#x},mac={MAC}{getattr(request, 'param', '')}"
    netdev = f"tap,id=t0,ifname={name},script=no,downscript=no"
    bench = make_bench(BenchOptions(arguments=("-netdev", netdev, "-device", device)))
    nic = bench.drive(PciDevice(bench.bus, PciAddress(0, SLOT + 1)))
    host = Host(name)
    nic.accept("TSO", "TX_CSUM", "RX_CSUM")
    (pair,) = nic.start(0, tx_size=128)
    yield Tapped(nic, pair, host)
    host.close()


without = pytest.mark.parametrize("tapped", [",vnet-hdr=off"], indirect=True, ids=["without"])


def untagged(seed: int, payload: int, *, ipv6: bool) -> Shape:
    """A TCP packet without VLAN tags, which the host's kernel would take off, or extension headers."""
    shapes = (shape_of(number, payload, ipv6=ipv6, extended=False) for number in itertools.count(100 * seed))
    return next(one for one in shapes if one.l3 == 14)


def plain(data: bytes) -> Seen:
    """A frame with nothing left to do."""
    return Seen(0, 0, 0, 0, 0, data)


@pytest.mark.parametrize("ipv6", [False, True])
def test_segments_are_left_to_the_backend(tapped: Tapped, ipv6: bool) -> None:
    """One frame goes to the host, with the MSS; the counters are as if all segments had."""
    kinds = set()
    for seed in range(10):
        shape = untagged(seed, 20000 + seed, ipv6=ipv6)
        before = tapped.nic.registers.counters()
        tapped.pair.tx.send(shape.unfinished(), offload=tso(shape, 1400))
        (seen,) = tapped.host.collect(1)
        assert seen.data == shape.unfinished()
        kind = GSO_TCPV6 if ipv6 else GSO_TCPV4
        if shape.data[shape.l4 + 13] & packets.CWR:
            kind |= GSO_ECN
        assert (seen.flags, seen.gso_type, seen.gso_size) == (NEEDS_CSUM, kind, 1400)
        assert (seen.csum_start, seen.csum_offset) == (shape.l4, packets.TCP_CSUM_OFFSET)
        tapped.pair.tx.wait_consumed()
        after = tapped.nic.registers.counters()
        wanted = segments(shape, 1400)
        assert after["tx_frames"] - before["tx_frames"] == len(wanted)
        assert after["tx_bytes"] - before["tx_bytes"] == sum(map(len, wanted))
        assert after["tx_tso"] - before["tx_tso"] == 1
        kinds.add(seen.gso_type)
    assert len(kinds) == 2


def test_a_checksum_is_left_to_the_backend(tapped: Tapped) -> None:
    shape = untagged(1, 500, ipv6=False)
    tapped.pair.tx.send(shape.unfinished(), offload=csum_of(shape))
    assert tapped.host.collect(1) == [Seen(NEEDS_CSUM, 0, 0, shape.l4, 16, shape.unfinished())]
    assert tapped.nic.registers.counter("tx_csum") == 1


def test_a_checksum_where_the_backend_expects_none_is_filled_in_before(tapped: Tapped) -> None:
    """The sum of a whole IPv4 header, and more: the host might refuse the frame."""
    fields = {"FLAGS.OFFLOAD": HW.enum("OFFLOAD").CSUM, "FLAGS.CSUM_START": 14, "FLAGS.CSUM_OFFSET": 10}
    tapped.pair.tx.send(frame(100, source=bytes.fromhex(MAC.replace(":", ""))), offload=fields)
    wanted = packets.filled(frame(100, source=bytes.fromhex(MAC.replace(":", ""))), 14, 10)
    assert tapped.host.collect(1) == [plain(wanted)]


def test_what_the_backend_cannot_cut_the_device_cuts(tapped: Tapped) -> None:
    """One identification for all, and a single segment, which is none to the host."""
    fixed, single = untagged(2, 5000, ipv6=False), untagged(3, 300, ipv6=True)
    tapped.pair.tx.send(fixed.unfinished(), [700], tso(fixed, 1, fixed_id=True) | {"LEN.MSS": 999})
    wanted = segments(fixed, 999, fixed_id=True)
    assert tapped.host.collect(len(wanted)) == [plain(one) for one in wanted]
    tapped.pair.tx.send(single.unfinished(), offload=tso(single, 300))
    assert tapped.host.collect(1) == [plain(single.data)]


def test_what_one_frame_leaves_undone_the_next_does_not(tapped: Tapped) -> None:
    shape = untagged(4, 4000, ipv6=True)
    short = [frame(60 + number, source=bytes.fromhex(MAC.replace(":", ""))) for number in range(3)]
    tapped.pair.tx.push(short[0])
    tapped.pair.tx.push(shape.unfinished(), offload=tso(shape, 1000))
    tapped.pair.tx.push(short[1])
    tapped.pair.tx.push(shape.unfinished(), offload=csum_of(shape))
    tapped.pair.tx.push(short[2])
    tapped.pair.tx.kick()
    seen = tapped.host.collect(5)
    assert [seen[number] for number in (0, 2, 4)] == [plain(one) for one in short]
    assert [(one.flags, one.gso_size) for one in (seen[1], seen[3])] == [(NEEDS_CSUM, 1000), (NEEDS_CSUM, 0)]


@without
def test_without_the_header_the_device_does_it_all(tapped: Tapped) -> None:
    shape = untagged(5, 30000, ipv6=False)
    wanted = segments(shape, 1400)
    tapped.pair.tx.send(shape.unfinished(), offload=tso(shape, 1400))
    assert tapped.host.collect(len(wanted)) == [plain(one) for one in wanted]
    shape = untagged(6, 100, ipv6=True)
    tapped.pair.tx.send(shape.unfinished(), offload=csum_of(shape))
    assert tapped.host.collect(1) == [plain(shape.data)]


@pytest.mark.parametrize("tapped", ["", ",vnet-hdr=off"], indirect=True, ids=["with", "without"])
def test_frames_from_the_backend_come_without_a_header(tapped: Tapped) -> None:
    generator = random.Random(7)
    sent = [packets.packet(generator, MAC, PEER_MAC, extended=False, payload=n).data for n in (0, 1, 500, 1400)]
    for data in sent:
        tapped.host.send(data)
    received: dict[bytes, int] = {}
    while not set(sent) <= set(received):
        received |= {one.data: one.verdict for one in tapped.pair.rx.receive()}
    assert {received[data] for data in sent} == {HW.enum("VERDICT").GOOD}
