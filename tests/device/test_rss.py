# SPDX-License-Identifier: GPL-2.0-or-later
"""Steering by the Toeplitz hash: the published vectors, the table, and packets that are not what they seem."""

from __future__ import annotations

import ipaddress
import random
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labnic.rings import QueuePair, Received
from labnic.softnic import Nic

from .bench import HW, Bench, examples
from .frames import OWN, PEER, frame

HASH = HW.enum("HASH")
KEY_SIZE = HW.constants.RSS_KEY_SIZE
TABLE_SIZE = HW.constants.RSS_TABLE_SIZE
ALL_KINDS = [field.name for field in HW.reg("RSS_CTRL").register.fields]
TCP, UDP, ICMP = 6, 17, 1
FRAGMENT_HEADER, HOP_BY_HOP = 44, 0

# Microsoft, Windows drivers documentation, "Verifying the RSS Hash Calculation": the key and both tables.
KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")


@dataclass(frozen=True)
class Vector:
    """A row of the tables: the packet's ends and its hash over the addresses, and over addresses and ports."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    addresses: int
    ports: int


VECTORS = [
    Vector("66.9.149.187", 2794, "161.142.100.80", 1766, 0x323E8FC2, 0x51CCC178),
    Vector("199.92.111.2", 14230, "65.69.140.83", 4739, 0xD718262A, 0xC626B0EA),
    Vector("24.19.198.95", 12898, "12.22.207.184", 38024, 0xD2D0A5DE, 0x5C2B394A),
    Vector("38.27.205.30", 48228, "209.142.163.6", 2217, 0x82989176, 0xAFC7327F),
    Vector("153.39.163.191", 44251, "202.188.127.2", 1303, 0x5D1809C5, 0x10E828A2),
    Vector("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2CC18CD5, 0x40207D3D),
    Vector("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0F0C461C, 0xDDE51BBF),
    Vector("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, "fe80::200:f8ff:fe21:67cf", 38024, 0x4B61E985, 0x02D1FEEF),
]


def toeplitz(key: bytes, data: bytes) -> int:
    """The hash as its definition has it: for each one bit of the data, the 32 bits of the key from there on."""
    whole = int.from_bytes(key, "big")
    result = 0
    for bit in range(8 * len(data)):
        if data[bit // 8] >> 7 - bit % 8 & 1:
            result ^= whole >> 8 * len(key) - 32 - bit & 0xFFFF_FFFF
    return result


def ends(vector: Vector, *, ports: bool) -> bytes:
    """What the hash is taken over."""
    addresses = [ipaddress.ip_address(text).packed for text in (vector.source, vector.destination)]
    return b"".join(addresses) + (struct.pack(">HH", vector.source_port, vector.destination_port) if ports else b"")


def packet(
    vector: Vector, protocol: int, *, tags: bytes = b"", options: bytes = b"", fragment: int = 0, extension: bytes = b""
) -> bytes:
    """An Ethernet frame with an IP packet whose payload begins with the ports."""
    ports = struct.pack(">HH", vector.source_port, vector.destination_port)
    payload = extension + ports + bytes(16)
    addresses = ends(vector, ports=False)
    if len(addresses) == 8:
        words = 5 + len(options) // 4
        header = struct.pack(">BBHHHBBH", 0x40 | words, 0, 4 * words + len(payload), 0, fragment, 64, protocol, 0)
        return OWN + PEER + tags + b"\x08\x00" + header + addresses + options + payload
    header = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
    return OWN + PEER + tags + b"\x86\xdd" + header + addresses + payload


def start(bench: Bench, *kinds: str) -> QueuePair:
    """Queue pair 0 takes everything and reports the hash."""
    (pair,) = bench.nic.start(0)
    bench.nic.set_rss(KEY, [0] * TABLE_SIZE, kinds or ALL_KINDS)
    return pair


def deliver(bench: Bench, pair: QueuePair, data: bytes) -> Received:
    """Send one frame and take it from the ring."""
    bench.cable.send(data)
    (received,) = pair.rx.receive()
    assert received.data == data
    pair.rx.fill()
    pair.rx.kick()
    return received


@pytest.fixture
def hashing(bench: Bench) -> QueuePair:
    """Queue pair 0, started once for all examples of a test."""
    return start(bench)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector.source))
def test_this_toeplitz_gives_the_published_hashes(vector: Vector) -> None:
    assert toeplitz(KEY, ends(vector, ports=False)) == vector.addresses
    assert toeplitz(KEY, ends(vector, ports=True)) == vector.ports


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector.source))
def test_the_device_gives_the_published_hashes(bench: Bench, vector: Vector) -> None:
    pair = start(bench)
    version = "V6" if ":" in vector.source else "V4"
    for protocol, kind, value in (
        (TCP, "TCP" + version, vector.ports),
        (UDP, "UDP" + version, vector.ports),
        (ICMP, "IP" + version, vector.addresses),
    ):
        received = deliver(bench, pair, packet(vector, protocol))
        assert (HASH.name_of(received.hash_type), hex(received.hash)) == (kind, hex(value))


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_kind_alone_covers_what_it_names(bench: Bench, kind: str) -> None:
    """Without the bit for its protocol a packet counts as plain IP, if that is enabled, and else has no hash."""
    pair = start(bench, kind)
    for vector in (VECTORS[0], VECTORS[5]):
        version = "V6" if ":" in vector.source else "V4"
        for protocol, name in ((TCP, "TCP"), (UDP, "UDP"), (ICMP, "IP")):
            received = deliver(bench, pair, packet(vector, protocol))
            if kind == name + version:
                wanted = (kind, vector.addresses if name == "IP" else vector.ports)
            elif kind == "IP" + version:
                wanted = (kind, vector.addresses)
            else:
                wanted = ("NONE", 0)
            assert (HASH.name_of(received.hash_type), received.hash) == wanted


@pytest.mark.parametrize("fragment", [0x2000, 0x2001, 0x0001, 0x1FFF])
def test_fragments_are_hashed_by_their_addresses(bench: Bench, fragment: int) -> None:
    """The later fragments have no ports, so that the first must not use them either."""
    received = deliver(bench, start(bench), packet(VECTORS[0], UDP, fragment=fragment))
    assert (HASH.name_of(received.hash_type), received.hash) == ("IPV4", VECTORS[0].addresses)


def test_dont_fragment_is_no_fragment(bench: Bench) -> None:
    received = deliver(bench, start(bench), packet(VECTORS[0], UDP, fragment=0x4000))
    assert (HASH.name_of(received.hash_type), received.hash) == ("UDPV4", VECTORS[0].ports)


@pytest.mark.parametrize("header", [FRAGMENT_HEADER, HOP_BY_HOP])
def test_ipv6_with_extension_headers_is_hashed_by_its_addresses(bench: Bench, header: int) -> None:
    received = deliver(bench, start(bench), packet(VECTORS[5], header, extension=bytes([UDP, 0]) + bytes(6)))
    assert (HASH.name_of(received.hash_type), received.hash) == ("IPV6", VECTORS[5].addresses)


def test_ipv4_options_are_stepped_over(bench: Bench) -> None:
    received = deliver(bench, start(bench), packet(VECTORS[1], TCP, options=b"\x01" * 40))
    assert (HASH.name_of(received.hash_type), received.hash) == ("TCPV4", VECTORS[1].ports)


@pytest.mark.parametrize("tags", [b"\x81\x00\x00\x05", b"\x88\xa8\x00\x05\x81\x00\x00\x07"])
def test_vlan_tags_are_looked_through(bench: Bench, tags: bytes) -> None:
    pair = start(bench)
    received = deliver(bench, pair, packet(VECTORS[0], TCP, tags=tags))
    assert (HASH.name_of(received.hash_type), received.hash) == ("TCPV4", VECTORS[0].ports)


def test_what_is_not_ip_has_no_hash(bench: Bench) -> None:
    received = deliver(bench, start(bench), frame())
    assert (HASH.name_of(received.hash_type), received.hash) == ("NONE", 0)


def test_without_the_feature_there_is_no_hash_and_no_steering(bench: Bench) -> None:
    zero, one = bench.nic.start(0, 1)
    bench.nic.set_rss(KEY, [1] * TABLE_SIZE, ALL_KINDS)
    bench.nic.registers.put("DRV_FEATURES", RSS=0)
    received = deliver(bench, zero, packet(VECTORS[0], TCP))
    assert (HASH.name_of(received.hash_type), received.hash) == ("NONE", 0)
    assert one.rx.head == 0


def flow(port: int) -> Vector:
    """A UDP flow."""
    return Vector("192.0.2.1", port, "198.51.100.1", 9, 0, 0)


def expected_entry(vector: Vector) -> int:
    """The entry of the table for a flow over UDP."""
    return toeplitz(KEY, ends(vector, ports=True)) % TABLE_SIZE


def test_the_table_steers_by_the_low_bits_of_the_hash(bench: Bench) -> None:
    """A random table over all queues; every flow goes where its entry points."""
    pairs = bench.nic.start(*range(HW.constants.DEFAULT_QUEUES), rx_size=256)
    generator = random.Random(42)
    table = [generator.randrange(len(pairs)) for _ in range(TABLE_SIZE)]
    bench.nic.set_rss(KEY, table, ALL_KINDS)
    flows = [flow(port) for port in range(1000, 1200)]
    expected: dict[int, list[bytes]] = {pair.number: [] for pair in pairs}
    for one in flows:
        expected[table[expected_entry(one)]].append(packet(one, UDP))
    bench.cable.send(*(packet(one, UDP) for one in flows))
    for pair in pairs:
        count = len(expected[pair.number])
        assert count > 0
        assert [received.data for received in pair.rx.receive(count)] == expected[pair.number]


def test_each_entry_of_the_table_is_used(bench: Bench) -> None:
    """One entry at a time points to queue 1: exactly the flows of that entry go there."""
    zero, one = bench.nic.start(0, 1, rx_size=64)
    flows: dict[int, Vector] = {}
    port = 1000
    while len(flows) < TABLE_SIZE:
        flows.setdefault(expected_entry(flow(port)), flow(port))
        port += 1
    for entry in range(TABLE_SIZE):
        table = [0] * TABLE_SIZE
        table[entry] = 1
        bench.nic.set_rss(KEY, table, ALL_KINDS)
        deliver(bench, one, packet(flows[entry], UDP))
        deliver(bench, zero, packet(flows[(entry + 1) % TABLE_SIZE], UDP))


@pytest.mark.parametrize("number", [1, 7, 8, 15, 16, 127, 128, 255])
def test_an_entry_that_names_no_enabled_queue_counts_as_0(bench: Bench, number: int) -> None:
    """Queue 1 exists and is off, those from 8 on do not exist, those from 16 on could not."""
    (zero,) = bench.nic.start(0)
    bench.nic.set_rss(KEY, [number] * TABLE_SIZE, ALL_KINDS)
    assert deliver(bench, zero, packet(VECTORS[0], TCP)).hash == VECTORS[0].ports


def tags_of(count: int) -> bytes:
    """So many VLAN tags."""
    return b"\x81\x00\x00\x05" * count


WHOLE = [
    packet(VECTORS[0], TCP),
    packet(VECTORS[5], TCP),
    packet(VECTORS[0], UDP, options=b"\x01" * 40),
    packet(VECTORS[5], UDP, tags=tags_of(2)),
    packet(VECTORS[0], UDP, tags=tags_of(1)),
    packet(VECTORS[0], UDP, tags=tags_of(7)),
]


@pytest.mark.parametrize("whole", WHOLE, ids=range(len(WHOLE)))
def test_headers_cut_off_anywhere_are_received_as_they_are(bench: Bench, whole: bytes) -> None:
    pair = start(bench)
    for length in range(HW.constants.FRAME_MIN, len(whole)):
        deliver(bench, pair, whole[:length])


@pytest.mark.parametrize("first", [0x40, 0x41, 0x44, 0x4F, 0x05, 0x65, 0xF5, 0xFF])
def test_an_ipv4_header_with_an_impossible_length_or_version_is_received(bench: Bench, first: int) -> None:
    data = bytearray(packet(VECTORS[0], TCP))
    data[14] = first
    deliver(bench, start(bench), bytes(data))


@examples(100)
@given(
    start_at=st.sampled_from(range(len(WHOLE))),
    noise=st.binary(max_size=80),
    at=st.integers(12, 80),
)
def test_noise_in_the_headers_is_received_as_it_is(
    bench: Bench, hashing: QueuePair, start_at: int, noise: bytes, at: int
) -> None:
    base = WHOLE[start_at]
    data = (base[:at] + noise + base[at + len(noise) :]).ljust(HW.constants.FRAME_MIN, b"\0")
    deliver(bench, hashing, data)


def test_a_key_written_in_pieces_takes_effect_whole(nic: Nic, bench: Bench) -> None:
    """A new key changes the hash; the old one back brings the old hash back."""
    pair = start(bench)
    other = bytes(range(KEY_SIZE))
    assert deliver(bench, pair, packet(VECTORS[0], TCP)).hash == VECTORS[0].ports
    nic.set_rss(other, [0] * TABLE_SIZE, ALL_KINDS)
    assert deliver(bench, pair, packet(VECTORS[0], TCP)).hash == toeplitz(other, ends(VECTORS[0], ports=True))
    nic.set_rss(KEY, [0] * TABLE_SIZE, ALL_KINDS)
    assert deliver(bench, pair, packet(VECTORS[0], TCP)).hash == VECTORS[0].ports
