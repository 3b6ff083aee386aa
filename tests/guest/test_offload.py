# SPDX-License-Identifier: GPL-2.0-or-later
"""What the stack leaves to the NIC: the wire cannot tell who did it, and ethtool decides."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import packets
import pytest

from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic

from . import peer
from .frames import HEADER, TAG, assert_same, lossless_egress
from .helpers import deltas, device_counters, eventually, settled, works
from .peer import Packet
from .programs import installed, place
from .tcp import MSS, Connection
from .test_stack import CLIENT, ECHO, SERVICE, headers, tcp_echo, udp_echo

__all__ = ["headers"]

VNET = "vnet.c"
GOOD = 1
"""A VERDICT of the hardware map."""

NEEDS_CSUM = 1
"""Flag of a struct virtio_net_hdr (linux/virtio_net.h)."""
SOMEWHERE = "198.51.100.7"
"""An address beyond the wire's end (RFC 5737)."""
GSO_TCPV4, GSO_TCPV6 = 1, 4
"""Kinds of segmentation there."""
SWITCHES = {"tx": "tx-checksum-ip-generic", "rx": "rx-checksumming", "tso": "tcp-segmentation-offload"}
"""What ``ethtool -K`` sets, and what ``ethtool -k`` then shows."""


@pytest.fixture(scope="module", autouse=True)
def _program(lab: Lab) -> Iterator[None]:
    """The program that hands unfinished frames to the driver, in the guest."""
    with installed(lab.guest, VNET):
        yield


@pytest.fixture(autouse=True)
def _features(nic: Nic) -> Iterator[None]:
    """Every feature is on before and after each test."""
    yield
    switch(nic, **dict.fromkeys(SWITCHES, True))


def switch(nic: Nic, **features: bool) -> None:
    """Switch features by their names for ``ethtool -K``."""
    for name, on in features.items():
        nic.ethtool("-K", name, "on" if on else "off")


def features(nic: Nic) -> dict[str, str]:
    """What ``ethtool -k`` shows: "on", "off", and "[fixed]" after that where it cannot be changed."""
    lines = (line.partition(":") for line in nic.ethtool("-k").lines[1:])
    return {name.strip(): value.strip() for name, _, value in lines}


@dataclass(frozen=True)
class Unfinished:
    """A frame and what is left to do to it: where its checksum goes, if anywhere, and what segments it becomes."""

    data: bytes
    start: int = 0
    offset: int = 0
    kind: int = 0
    mss: int = 0
    header: int = 0

    def record(self) -> bytes:
        """As the program in the guest reads it."""
        flags = NEEDS_CSUM if self.start else 0
        header = struct.pack("<BBHHHH", flags, self.kind, self.header, self.mss, self.start, self.offset)
        return header + struct.pack("<I", len(self.data)) + self.data


def send_unfinished(guest: Guest, nic: Nic, frames: Sequence[Unfinished]) -> None:
    """Hand frames to the driver through a packet socket."""
    path = "/tmp/labnic-unfinished"
    guest.write(path, b"".join(one.record() for one in frames))
    assert guest.sh(f"{place(VNET)} {nic.name} <{path} && rm -f {path}") == str(len(frames))


def collect_sent(nic: Nic, count: int) -> list[bytes]:
    """The next frames that the guest sent to the wire's end, without those of its stack's own."""
    own = bytes.fromhex(nic.mac.replace(":", ""))
    return [frame.data for frame in nic.wire.collect(count, lambda one: one.data[6:12] == own, timeout=30.0)]


@pytest.mark.parametrize("name", SWITCHES)
def test_each_offload_is_on_and_can_be_switched(nic: Nic, name: str) -> None:
    assert features(nic)[SWITCHES[name]] == "on"
    switch(nic, **{name: False})
    assert features(nic)[SWITCHES[name]] == "off"
    switch(nic, **{name: True})
    assert features(nic)[SWITCHES[name]] == "on"


# Checksums that the device fills in


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_tcp_carries_data_with_the_checksum_by_device_or_stack(
    guest: Guest, nic: Nic, headers: Packet, on: bool
) -> None:
    """The wire's end verifies every checksum; the device says by whom they are."""
    switch(nic, tx=on, tso=False)
    before = device_counters(nic)
    with tcp_echo(guest) as server:
        connection = Connection(nic, headers, near=CLIENT, far=ECHO)
        connection.connect()
        data = peer.payload(20 * MSS + 7)
        connection.send(data)
        assert connection.receive(len(data)) == data
        connection.close()
        assert server.wait(5.0).ok
    moved = deltas(before, settled(lambda: device_counters(nic)))
    if on:
        assert moved["tx_csum"] >= 20
    else:
        assert "tx_csum" not in moved


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_udp_carries_data_with_the_checksum_by_device_or_stack(guest: Guest, nic: Nic, on: bool) -> None:
    switch(nic, tx=on)
    before = device_counters(nic)
    with udp_echo(guest):
        for size in (1, 2, 17, 512, 1471, 1472):
            data = peer.payload(size)
            nic.wire.send(peer.to_ipv4(nic) / peer.UDP(sport=CLIENT, dport=ECHO) / data)
            reply = peer.reassemble(nic, lambda p: peer.UDP in p and p[peer.UDP].dport == CLIENT)
            assert bytes(reply[peer.UDP].payload) == data
    moved = deltas(before, settled(lambda: device_counters(nic)))
    assert moved.get("tx_csum", 0) == (6 if on else 0)


def test_the_device_fills_in_what_the_stack_would(guest: Guest, nic: Nic) -> None:
    """Hundreds of packets of all shapes, once finished by the device and once by the kernel: the same bytes."""
    generator = random.Random(11)
    shapes = [packets.packet(generator, nic.peer_mac, nic.mac) for _ in range(400)]
    unfinished = [Unfinished(one.unfinished(), one.l4, one.csum - one.l4) for one in shapes]
    sent: dict[bool, list[bytes]] = {}
    nic.ethtool("-L", "combined", "1")
    with lossless_egress(guest, nic):
        for on in (True, False):
            switch(nic, tx=on)
            before = device_counters(nic)
            send_unfinished(guest, nic, unfinished)
            sent[on] = collect_sent(nic, len(shapes))
            moved = deltas(before, settled(lambda: device_counters(nic)))
            assert moved.get("tx_csum", 0) == (len(shapes) if on else 0)
    assert sent[True] == sent[False]


def test_finished_frames_among_them_are_left_alone(guest: Guest, nic: Nic) -> None:
    """In a ring of 64 entries, of which each is used by both kinds."""
    generator = random.Random(12)
    shapes = [packets.packet(generator, nic.peer_mac, nic.mac, payload=20) for _ in range(195)]
    wrong = [one.with_sum(0x1234) for one in shapes]
    frames = [
        Unfinished(data) if number % 3 else Unfinished(shape.unfinished(), shape.l4, shape.csum - shape.l4)
        for number, (shape, data) in enumerate(zip(shapes, wrong, strict=True))
    ]
    nic.ethtool("-L", "combined", "1")
    nic.ethtool("-G", "tx", "64")
    try:
        with lossless_egress(guest, nic):
            send_unfinished(guest, nic, frames)
            sent = collect_sent(nic, len(frames))
    finally:
        nic.ethtool("-G", "tx", "512")
    for number, data in enumerate(sent):
        assert data == (wrong[number] if number % 3 else finished(frames[number])), f"frame {number}"


def finished(frame: Unfinished) -> bytes:
    """The frame with its checksum, by definition."""
    return packets.filled(frame.data, frame.start, frame.offset)


def test_a_checksum_too_far_off_for_the_device_is_filled_in_all_the_same(guest: Guest, nic: Nic) -> None:
    """A packet socket may ask for any place; what a descriptor has no bits for the driver does itself."""
    data = packets.packet(random.Random(1), nic.peer_mac, nic.mac, tcp=False, payload=600).data
    before = device_counters(nic)
    for offset in (255, 256, 300):
        send_unfinished(guest, nic, [Unfinished(data, 64, offset)])
        assert collect_sent(nic, 1) == [packets.filled(data, 64, offset)]
    moved = deltas(before, settled(lambda: device_counters(nic)))
    assert moved["tx_csum"] == 1


# Segments


def to_cut(shape: packets.Shape, mss: int) -> Unfinished:
    """A TCP packet that is to become segments."""
    kind = GSO_TCPV6 if shape.ipv6 else GSO_TCPV4
    return Unfinished(shape.unfinished(), shape.l4, packets.TCP_CSUM_OFFSET, kind, mss, shape.header)


def test_the_device_cuts_as_the_stack_does(guest: Guest, nic: Nic) -> None:
    """Hundreds of packets, thousands of segments, cut by the device and by the kernel: the same bytes on the wire."""
    generator = random.Random(13)
    frames, wanted, cut = [], [], 0
    for _ in range(300):
        mss = generator.choice([100, 536, 1220, 1400, generator.randrange(88, 1400)])
        size = mss + generator.choice([1, mss - 1, mss, mss + 1, generator.randrange(1, 16 * mss)])
        shape = packets.packet(generator, nic.peer_mac, nic.mac, tcp=True, payload=size)
        frames.append(to_cut(shape, mss))
        wanted += packets.segments(shape, mss)
        # The kernel leaves no device frames with two VLAN tags.
        cut += shape.l3 <= HEADER + TAG
    sent: dict[bool, list[bytes]] = {}
    nic.ethtool("-L", "combined", "1")
    with lossless_egress(guest, nic):
        for on in (True, False):
            switch(nic, tx=on, tso=on)
            before = device_counters(nic)
            send_unfinished(guest, nic, frames)
            sent[on] = collect_sent(nic, len(wanted))
            moved = deltas(before, settled(lambda: device_counters(nic)))
            assert moved.get("tx_tso", 0) == (cut if on else 0)
            assert moved["tx_frames"] == len(wanted)
    assert_same(sent[False], sent[True])
    assert_same(wanted, sent[True])


def both_counters(nic: Nic) -> dict[str, int]:
    """The device's counters and the interface's, of a moment in which nothing is sent."""
    return settled(lambda: device_counters(nic) | {f"link {name}": n for name, n in nic.statistics().items()})


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_tcp_sends_a_file_cut_by_device_or_stack(guest: Guest, nic: Nic, headers: Packet, on: bool) -> None:
    """What arrives is the file, no segment is longer than was agreed, and the counters are those of the wire."""
    switch(nic, tso=on)
    data = peer.payload(400_000)
    guest.write("/tmp/labnic-tcp", data)
    ours = headers.payload.src if peer.IP in headers else f"{headers[peer.IPv6].src}%{nic.name}"
    before = both_counters(nic)
    with guest.start(f"exec busybox nc -w 5 {ours} {SERVICE} </tmp/labnic-tcp") as client:
        connection = Connection(nic, headers, near=SERVICE, far=0)
        connection.accept()
        received = connection.receive(len(data))
        connection.close()
        assert client.wait(10.0).ok
    assert received == data
    assert connection.longest == MSS
    moved = deltas(before, both_counters(nic))
    if on:
        assert 0 < moved["tx_tso"] < len(data) // MSS
    else:
        assert "tx_tso" not in moved
    assert moved["tx_frames"] > len(data) // MSS
    assert moved["link tx_packets"] == moved["tx_frames"]
    assert moved["link tx_bytes"] == moved["tx_bytes"]
    assert "link tx_dropped" not in moved


def test_without_checksums_by_the_device_there_are_no_segments_by_it(nic: Nic) -> None:
    """A segment's checksum can be the device's alone; the kernel knows that, and the driver leaves it to the kernel."""
    switch(nic, tx=False)
    assert features(nic)["tcp-segmentation-offload"].startswith("off")
    switch(nic, tx=True)
    assert features(nic)["tcp-segmentation-offload"] == "on"


def test_a_ring_full_of_long_frames_loses_none(guest: Guest, nic: Nic) -> None:
    """The smallest ring, each frame in as many pieces as the kernel makes: the queue stops and goes on.

    Short frames come after them, in the same slots.
    """
    generator = random.Random(14)
    shapes = [packets.packet(generator, nic.peer_mac, nic.mac, tcp=True, payload=60000) for _ in range(30)]
    wanted = [one for shape in shapes for one in packets.segments(shape, 1400)]
    short = [packets.packet(generator, nic.peer_mac, nic.mac, payload=10).data for _ in range(100)]
    frames = [*(to_cut(shape, 1400) for shape in shapes), *map(Unfinished, short)]
    nic.ethtool("-L", "combined", "1")
    nic.ethtool("-G", "tx", "64")
    try:
        with lossless_egress(guest, nic):
            send_unfinished(guest, nic, frames)
            assert_same(wanted + short, collect_sent(nic, len(wanted) + len(short)))
    finally:
        nic.ethtool("-G", "tx", "512")


@contextmanager
def forwarding(guest: Guest, nic: Nic) -> Iterator[None]:
    """The guest sends what is for SOMEWHERE on to the wire's end, and waits a while for segments that it can merge."""
    folder, forward = f"/sys/class/net/{nic.name}", "/proc/sys/net/ipv4/ip_forward"
    guest.sh(f"echo 1 >{forward}; ip route add {SOMEWHERE} via {nic.peer_ip} dev {nic.name}")
    guest.sh(f"echo 50000000 >{folder}/gro_flush_timeout")
    try:
        yield
    finally:
        guest.sh(f"echo 0 >{folder}/gro_flush_timeout")
        guest.sh(f"ip route del {SOMEWHERE} dev {nic.name}; echo 0 >{forward}")


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "counted"])
def test_merged_segments_are_cut_again_as_they_came(guest: Guest, nic: Nic, fixed: bool) -> None:
    """Segments may all have one IPv4 identification: what the stack merged, the device cuts with that, if it may."""
    generator = random.Random(16)
    ids = [0x1234 + (0 if fixed else number) for number in range(12)]
    head = peer.to_ipv4(nic)
    head[peer.IP].src, head[peer.IP].dst, head[peer.IP].flags = "203.0.113.5", SOMEWHERE, "DF"
    came = []
    for number, identification in enumerate(ids):
        head[peer.IP].id = identification
        segment = peer.TCP(sport=CLIENT, dport=9, seq=1000 * number, flags="PA" if number == 11 else "A")
        came.append(peer.Ether(bytes(head / segment / generator.randbytes(1000))))
    wanted = []
    for packet in came:
        onward = packet.copy()
        onward.src, onward.dst = nic.mac, nic.peer_mac
        onward[peer.IP].ttl -= 1
        del onward[peer.IP].chksum
        wanted.append(bytes(onward))
    nic.ethtool("-L", "combined", "1")
    with forwarding(guest, nic):
        for mangling in ("on", "off"):
            nic.ethtool("-K", "tx-tcp-mangleid-segmentation", mangling)
            before = device_counters(nic)
            nic.wire.send(*came)
            sent = nic.wire.collect(12, lambda frame: peer.TCP in frame.packet and frame.packet.src == nic.mac)
            assert_same(wanted, [frame.data for frame in sent])
            moved = deltas(before, settled(lambda: device_counters(nic)))
            assert ("tx_tso" in moved) == (mangling == "on" or not fixed)


def test_segments_that_the_device_would_refuse_stop_no_queue(guest: Guest, nic: Nic) -> None:
    """A packet socket may ask for segments longer than any frame, or than the descriptor can say."""
    generator = random.Random(15)
    shapes = [packets.packet(generator, nic.peer_mac, nic.mac, tcp=True, payload=50000) for _ in range(10)]
    untagged = [shape for shape in shapes if shape.l3 == HEADER]
    assert untagged
    before = device_counters(nic)
    send_unfinished(guest, nic, [to_cut(shape, mss) for shape in untagged for mss in (9000, 16384, 20000)])
    works(nic)
    moved = deltas(before, settled(lambda: device_counters(nic)))
    assert "queue_errors" not in moved
    assert "tx_tso" not in moved


# Checksums that the device has verified


def checksum_errors(guest: Guest, protocol: str) -> int:
    """What the stack has found wrong itself: the counter InCsumErrors of ``Tcp`` or ``Udp``."""
    lines = [line.split() for line in guest.read_text("/proc/net/snmp").splitlines() if line.startswith(f"{protocol}:")]
    return int(lines[1][lines[0].index("InCsumErrors")])


def with_wrong_sum(packet: Packet) -> Packet:
    """The packet with its TCP or UDP checksum off by one."""
    whole = type(packet)(bytes(packet))
    layer = whole[peer.UDP] if peer.UDP in whole else whole[peer.TCP]
    layer.chksum ^= 1
    return whole


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_tcp_carries_data_with_the_checksum_verified_by_device_or_stack(
    guest: Guest, nic: Nic, headers: Packet, on: bool
) -> None:
    """The device's verdicts are there in any case; ethtool decides whether the stack is told."""
    switch(nic, rx=on)
    before = device_counters(nic)
    with tcp_echo(guest) as server:
        connection = Connection(nic, headers, near=CLIENT, far=ECHO)
        connection.connect()
        data = peer.payload(20 * MSS + 7)
        connection.send(data)
        assert connection.receive(len(data)) == data
        connection.close()
        assert server.wait(5.0).ok
    moved = deltas(before, settled(lambda: device_counters(nic)))
    assert moved["rx_csum_good"] >= 21
    assert "rx_csum_bad" not in moved


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_a_wrong_checksum_is_dropped_and_counted_by_the_stack(guest: Guest, nic: Nic, on: bool) -> None:
    switch(nic, rx=on)
    errors = {protocol: checksum_errors(guest, protocol) for protocol in ("Tcp", "Udp")}
    before = device_counters(nic)
    with udp_echo(guest):
        datagram = peer.to_ipv4(nic) / peer.UDP(sport=CLIENT, dport=ECHO) / b"is there anybody"
        nic.wire.send(with_wrong_sum(datagram))
        nic.wire.send(with_wrong_sum(peer.to_ipv4(nic) / peer.TCP(sport=CLIENT, dport=ECHO, flags="S")))
        nic.wire.send(datagram)
        answers = [nic.wire.receive(lambda frame: peer.UDP in frame.packet or peer.TCP in frame.packet)]
        answers += [frame for frame in nic.barrier() if peer.UDP in frame.packet or peer.TCP in frame.packet]
    assert [bytes(answer.packet.lastlayer()) for answer in answers] == [b"is there anybody"]
    # The barrier's frames take another queue.
    for protocol, count in errors.items():
        eventually(lambda protocol=protocol: checksum_errors(guest, protocol), count + 1, what=f"errors of {protocol}")
    assert deltas(before, device_counters(nic))["rx_csum_bad"] == 2


def test_the_stack_believes_a_good_verdict_while_it_wants_one(guest: Guest, nic: Nic) -> None:
    """A device that says good of what is bad shows that its word counts, and no longer when it is not asked for."""
    datagram = with_wrong_sum(peer.to_ipv4(nic) / peer.UDP(sport=CLIENT, dport=ECHO) / b"believe me")
    with udp_echo(guest), nic.fault("rx-verdict", value=GOOD, count=0):
        nic.wire.exchange(datagram, lambda frame: peer.UDP in frame.packet)
        switch(nic, rx=False)
        errors = checksum_errors(guest, "Udp")
        nic.wire.send(datagram)
        # Not by the barrier alone: its frames take another queue.
        eventually(lambda: checksum_errors(guest, "Udp"), errors + 1, what="datagrams with a wrong checksum")
        assert not [frame for frame in nic.barrier() if peer.UDP in frame.packet]
