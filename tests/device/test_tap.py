# SPDX-License-Identifier: GPL-2.0-or-later
"""A backend that takes a vnet header, the host's tap: what it can do is left to it, and the rest is done before."""

from __future__ import annotations

import array
import fcntl
import itertools
import os
import random
import select
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import packets
import pytest
from packets import Shape, segments

from labnic.bench import tap
from labnic.pci import PciAddress, PciDevice
from labnic.qtest import ConditionTimeoutError
from labnic.rings import Coalesced, QueuePair, Received
from labnic.softnic import Nic

from .bench import HW, MAC, SLOT, BenchOptions, MakeBench
from .frames import PEER, frame
from .test_rx_gro import changed
from .test_rx_gro import cut as recut
from .test_tso import shape_of, tso
from .test_tx_csum import csum_of

pytestmark = pytest.mark.skipif(bool(tap.obstacle()), reason=tap.obstacle() or "a tap can be made")

# linux/if_packet.h
SOL_PACKET, PACKET_VNET_HDR = 263, 15
ETH_P_ALL = 3
VNET = "=BBHHHH"
VNET_LENGTH = struct.calcsize(VNET)
NEEDS_CSUM = 1
GOOD = HW.enum("VERDICT").GOOD
GSO_TCPV4, GSO_TCPV6, GSO_ECN = 1, 4, 0x80
# linux/sockios.h, linux/ethtool.h
SIOCETHTOOL, ETHTOOL_GTSO = 0x8946, 0x1E
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
        self._name = name
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

    def send_unfinished(self, shape: Shape, mss: int = 0) -> None:
        """Send a packet whose checksum is to be filled in and which, with an MSS, is to be cut."""
        kind = (GSO_TCPV6 if shape.ipv6 else GSO_TCPV4) if mss else 0
        if mss and shape.data[shape.l4 + 13] & packets.CWR:
            kind |= GSO_ECN
        offset = shape.csum - shape.l4
        header = struct.pack(VNET, NEEDS_CSUM, kind, shape.header, mss, shape.l4, offset)
        self._sock.send(header + shape.unfinished())

    def leaves_segments(self) -> bool:
        """Whether the host leaves it to the device to cut TCP over IPv4 into segments."""
        value = array.array("I", [ETHTOOL_GTSO, 0])
        request = struct.pack("16sP16x", self._name.encode(), value.buffer_info()[0])
        fcntl.ioctl(self._sock, SIOCETHTOOL, request)
        return bool(value[1])

    def close(self) -> None:
        """Listen no more; the device goes with QEMU."""
        self._sock.close()


@dataclass
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


def untagged(seed: int, payload: int, *, ipv6: bool, to_host: bool = True) -> Shape:
    """A TCP packet without VLAN tags, which the host's kernel would take off, or extension headers."""
    shapes = (shape_of(number, payload, ipv6=ipv6, extended=False) for number in itertools.count(100 * seed))
    shape = next(one for one in shapes if one.l3 == 14)
    return shape if to_host else replace(shape, data=shape.data[6:12] + shape.data[:6] + shape.data[12:])


def received(tapped: Tapped, wanted: Iterable[bytes]) -> list[Received]:
    """The frames with these bytes, in the order of their arrival, once all have come; the host sends others, too."""
    left, found = list(wanted), []
    while left:
        for one in tapped.pair.rx.receive():
            if one.data in left:
                left.remove(one.data)
                found.append(one)
        tapped.pair.rx.fill()
        tapped.pair.rx.kick()
    return found


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
    got = received(tapped, sent)
    assert [one.data for one in got] == sent
    assert {(one.verdict, one.coalesced) for one in got} == {(GOOD, None)}


def start_whole(tapped: Tapped, **sizes: int) -> None:
    """Have the driver take segments whole, into buffers of these sizes."""
    tapped.pair.stop()
    tapped.nic.accept("TSO", "TX_CSUM", "RX_CSUM", "RX_GRO")
    (pair,) = tapped.nic.start(0, **sizes)
    tapped.pair = pair


@pytest.mark.parametrize("ipv6", [False, True])
def test_segments_come_whole_to_a_driver_that_takes_them(tapped: Tapped, ipv6: bool) -> None:
    """With what the driver must know to cut them again; the counters are as if each had come by itself."""
    start_whole(tapped)
    for seed, mss in enumerate([1, 536, 1400, 1448, 8900]):
        shape = untagged(30 + seed, 40 * mss if mss == 1 else 20000 + seed, ipv6=ipv6, to_host=False)
        wanted = segments(shape, mss)
        tapped.nic.registers.put("RX_MODE", PROMISC=0)  # the host's multicast frames are not counted
        before = tapped.nic.registers.counters()
        tapped.host.send_unfinished(shape, mss)
        (one,) = received(tapped, [shape.unfinished()])
        assert one.verdict == GOOD
        assert one.coalesced == Coalesced(mss, shape.l4, ipv6)
        assert {part.coalesced for part in one.completions} == {one.coalesced}
        after = tapped.nic.registers.counters()
        assert after["rx_gro"] - before["rx_gro"] == 1
        assert after["rx_frames"] - before["rx_frames"] == len(wanted)
        assert after["rx_bytes"] - before["rx_bytes"] == sum(map(len, wanted))
        assert after["rx_csum_good"] - before["rx_csum_good"] == len(wanted)


@pytest.mark.parametrize("ipv6", [False, True])
def test_segments_come_one_by_one_to_a_driver_that_does_not(tapped: Tapped, ipv6: bool) -> None:
    """The host is told, and cuts them itself."""
    assert not tapped.host.leaves_segments()
    shape = untagged(40, 20000, ipv6=ipv6, to_host=False)
    wanted = segments(shape, 1448)
    tapped.host.send_unfinished(shape, 1448)
    got = received(tapped, wanted)
    assert [one.data for one in got] == wanted
    assert {(one.verdict, one.coalesced) for one in got} == {(GOOD, None)}


@pytest.mark.parametrize("how", ["refused", "reset"])
def test_a_driver_that_takes_them_no_more_gets_them_one_by_one(tapped: Tapped, how: str) -> None:
    start_whole(tapped)
    assert tapped.host.leaves_segments()
    if how == "reset":
        tapped.nic.reset()
        (tapped.pair,) = tapped.nic.start(0)
    else:
        tapped.nic.accept("RX_CSUM")
    assert not tapped.host.leaves_segments()
    shape = untagged(41, 20000, ipv6=False, to_host=False)
    tapped.host.send_unfinished(shape, 1000)
    wanted = segments(shape, 1000)
    assert [one.data for one in received(tapped, wanted)] == wanted


@pytest.mark.parametrize("ipv6", [False, True])
def test_what_short_buffers_do_not_take_whole_the_device_cuts(tapped: Tapped, ipv6: bool) -> None:
    """All the buffers that it looks at would not do, so waiting for others would be for ever."""
    start_whole(tapped, stride=256, rx_size=512)
    tapped.nic.registers.put("RX_MODE", PROMISC=0)
    shape = untagged(42, 60000, ipv6=ipv6, to_host=False)
    wanted = segments(shape, 1448)
    tapped.host.send_unfinished(shape, 1448)
    got = received(tapped, wanted)
    assert [one.data for one in got] == wanted
    assert {(one.verdict, one.coalesced) for one in got} == {(GOOD, None)}
    assert tapped.nic.registers.counter("rx_gro") == 0


def test_a_segment_longer_than_the_longest_frame_is_not_received(tapped: Tapped) -> None:
    start_whole(tapped)
    tapped.nic.registers.put("MAX_FRAME", LEN=1000)
    long, short = (untagged(number, 5000, ipv6=False, to_host=False) for number in (43, 44))
    tapped.host.send_unfinished(long, 1400)
    tapped.host.send_unfinished(short, 900)
    assert received(tapped, [short.unfinished()])
    assert tapped.nic.registers.counter("rx_too_long") >= 1


@pytest.mark.parametrize("tcp", [False, True])
def test_a_checksum_that_the_host_has_left_open_is_filled_in(tapped: Tapped, tcp: bool) -> None:
    start_whole(tapped)
    generator = random.Random(9)
    shapes = (packets.packet(generator, MAC, PEER_MAC, tcp=tcp, extended=False) for _ in itertools.count())
    for shape in itertools.islice((one for one in shapes if one.l3 == 14), 20):
        tapped.host.send_unfinished(shape)
        (one,) = received(tapped, [shape.data])
        assert (one.verdict, one.coalesced) == (GOOD, None)


@pytest.mark.parametrize("stride", [2048, 256])
def test_segments_of_the_host_come_after_those_that_wait(tapped: Tapped, stride: int) -> None:
    """The device puts together what the host has cut, and gives it first, into buffers of whatever length."""
    tapped.pair.stop()
    tapped.nic.accept("RX_CSUM", "RX_GRO", "MODERATION")
    (tapped.pair,) = tapped.nic.start(0, rx_size=512, stride=stride)
    tapped.pair.rx.hold(30_000)
    tapped.nic.registers.put("RX_MODE", PROMISC=0)
    flags = bytes([0x10])  # ACK
    before = tapped.nic.registers.counters()
    count = 0
    for seed in range(5):
        own, host = (untagged(number + seed, 20000, ipv6=False, to_host=False) for number in (60, 70))
        own = changed(own, own.l4 + 13, flags)
        cut = segments(own, 1400)[:-1]
        for data in cut:
            tapped.host.send(data)
        tapped.host.send_unfinished(host, 1000)
        wanted = cut + segments(host, 1000)
        got: list[bytes] = []
        while len(got) < len(wanted):
            for one in tapped.pair.rx.receive():
                if one.data[:6].hex(":") == MAC:
                    got += recut(one)
            tapped.pair.rx.fill()
            tapped.pair.rx.kick()
        assert got == wanted
        count += len(wanted)
    after = tapped.nic.registers.counters()
    assert after["rx_frames"] - before["rx_frames"] == count
