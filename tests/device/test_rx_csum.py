# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict on the checksums of what is received: given where it can be, and never good for what is not."""

from __future__ import annotations

import random
import struct

import packets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packets import Shape, ones_sum

from labnic.rings import QueuePair

from .bench import HW, MAC, Bench, MakeBench, examples
from .frames import FRAME_MAX, FRAME_MIN, PEER, frame

VERDICT = HW.enum("VERDICT")
BURST = 50
PEER_MAC = PEER.hex(":")


@pytest.fixture
def pair(bench: Bench) -> QueuePair:
    """A queue pair that receives everything with a verdict."""
    bench.nic.accept("RX_CSUM")
    (pair,) = bench.nic.start(0, rx_size=128)
    return pair


def verdicts(bench: Bench, pair: QueuePair, frames: list[bytes]) -> list[str]:
    """What the device says of each frame, which must come unchanged."""
    found = []
    for start in range(0, len(frames), BURST):
        burst = frames[start : start + BURST]
        bench.cable.send(*burst)
        received = pair.rx.receive(len(burst))
        assert [one.data for one in received] == burst
        found += [VERDICT.name_of(one.verdict) for one in received]
        pair.rx.fill()
        pair.rx.kick()
    return found


def shapes(seed: int, count: int, **fixed: bool | int) -> list[Shape]:
    """Random packets to the device."""
    generator = random.Random(seed)
    return [packets.packet(generator, MAC, PEER_MAC, **fixed) for _ in range(count)]  # type: ignore[arg-type]


def plain(seed: int, *, tcp: bool, ipv6: bool) -> Shape:
    """A packet of this kind without options or extension headers."""
    return next(one for one in shapes(seed, 50, tcp=tcp, extended=False, payload=50) if one.ipv6 == ipv6)


def hidden(shape: Shape) -> bool:
    """Whether TCP or UDP is behind an extension header, where the device does not look."""
    return shape.ipv6 and shape.l4 - shape.l3 > 40


@pytest.mark.parametrize("seed", range(3))
def test_right_checksums_of_another_stack_are_good(bench: Bench, pair: QueuePair, seed: int) -> None:
    """A thousand packets of each seed: TCP and UDP, IPv4 and IPv6, VLAN tags, options, odd lengths."""
    made = shapes(seed, 1000)
    found = verdicts(bench, pair, [one.data for one in made])
    for shape, verdict in zip(made, found, strict=True):
        assert verdict == ("NONE" if hidden(shape) else "GOOD"), shape
    assert bench.nic.registers.counter("rx_csum_good") == found.count("GOOD")
    assert bench.nic.registers.counter("rx_csum_bad") == 0


@pytest.mark.parametrize("seed", range(3))
def test_no_packet_with_a_bit_turned_over_is_good(bench: Bench, pair: QueuePair, seed: int) -> None:
    """A bit anywhere in what the checksums cover; of the rest the definition tells what is to be said."""
    generator = random.Random(100 + seed)
    damaged = []
    for shape in shapes(seed, 1000):
        bit = generator.randrange(8 * 12, 8 * len(shape.data))
        data = bytearray(shape.data)
        data[bit // 8] ^= 0x80 >> bit % 8
        damaged.append((shape, bit // 8, bytes(data)))
    found = verdicts(bench, pair, [data for _, _, data in damaged])
    for (shape, at, data), verdict in zip(damaged, found, strict=True):
        assert (verdict == "GOOD") == packets.sums_are_right(data), (shape, at)
        if at >= shape.l4 + 8 and not hidden(shape):
            assert verdict == ("NONE" if data[shape.csum : shape.csum + 2] == bytes(2) else "BAD"), (shape, at)
    assert found.count("BAD") > 500


def test_every_wrong_checksum_is_bad(bench: Bench, pair: QueuePair) -> None:
    """All of one packet's would take too long: a thousand, with those next to the right one."""
    for tcp in (True, False):
        shape = plain(5, tcp=tcp, ipv6=tcp)
        right = int.from_bytes(shape.data[shape.csum : shape.csum + 2], "big")
        wrong = {(right + step) % 0x10000 for step in (*range(-300, 300), *range(0, 0x10000, 131))} - {right, 0}
        assert set(verdicts(bench, pair, [shape.with_sum(value) for value in sorted(wrong)])) == {"BAD"}


def test_a_wrong_ipv4_header_checksum_is_bad(bench: Bench, pair: QueuePair) -> None:
    """Though that of TCP is right: what is known of the packet is what both cover."""
    shape = plain(6, tcp=True, ipv6=False)
    data = bytearray(shape.data)
    data[shape.l3 + 8] ^= 1  # time to live
    assert verdicts(bench, pair, [bytes(data), shape.data]) == ["BAD", "GOOD"]


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("tcp", [False, True])
def test_a_packet_that_is_cut_off_has_no_verdict(bench: Bench, pair: QueuePair, tcp: bool, ipv6: bool) -> None:
    data = plain(7, tcp=tcp, ipv6=ipv6).data
    cut = [data[:length] for length in range(FRAME_MIN, len(data))]
    assert set(verdicts(bench, pair, cut)) == {"NONE"}


@pytest.mark.parametrize("ipv6", [False, True])
def test_bytes_after_the_packet_do_not_count(bench: Bench, pair: QueuePair, ipv6: bool) -> None:
    """A short packet is padded on real wires, with whatever comes to hand."""
    data = plain(8, tcp=True, ipv6=ipv6).data
    assert set(verdicts(bench, pair, [data + frame(60)[:extra] for extra in range(1, 60)])) == {"GOOD"}


def with_ipv4(shape: Shape, at: int, value: bytes) -> bytes:
    """The packet with bytes of its IPv4 header changed, and the header's checksum with them."""
    header = bytearray(shape.data[shape.l3 : shape.l4])
    header[at : at + len(value)] = value
    header[10:12] = bytes(2)
    header[10:12] = (~ones_sum(bytes(header)) & 0xFFFF).to_bytes(2, "big")
    return shape.data[: shape.l3] + bytes(header) + shape.data[shape.l4 :]


@pytest.mark.parametrize("fragment", [0x2000, 0x2001, 0x0001, 0x1FFF])
def test_a_fragment_has_no_verdict(bench: Bench, pair: QueuePair, fragment: int) -> None:
    for tcp in (True, False):
        shape = plain(9, tcp=tcp, ipv6=False)
        assert verdicts(bench, pair, [with_ipv4(shape, 6, struct.pack(">H", fragment))]) == ["NONE"]
        assert verdicts(bench, pair, [with_ipv4(shape, 6, struct.pack(">H", 0x4000))]) == ["GOOD"]


@pytest.mark.parametrize("protocol", [0, 1, 2, 5, 7, 16, 18, 44, 58, 132, 136, 255])
def test_another_protocol_has_no_verdict(bench: Bench, pair: QueuePair, protocol: int) -> None:
    four, six = (plain(10, tcp=True, ipv6=ipv6) for ipv6 in (False, True))
    data = six.data[: six.l3 + 6] + bytes([protocol]) + six.data[six.l3 + 7 :]
    assert verdicts(bench, pair, [with_ipv4(four, 9, bytes([protocol])), data, frame(100)]) == ["NONE"] * 3


@pytest.mark.parametrize("ipv6", [False, True])
def test_udp_without_a_checksum_has_no_verdict(bench: Bench, pair: QueuePair, ipv6: bool) -> None:
    assert verdicts(bench, pair, [plain(11, tcp=False, ipv6=ipv6).with_sum(0)]) == ["NONE"]


def test_udp_of_another_length_than_ip_says_has_no_verdict(bench: Bench, pair: QueuePair) -> None:
    shape = plain(12, tcp=False, ipv6=True)
    length = int.from_bytes(shape.data[shape.l4 + 4 : shape.l4 + 6], "big")
    for wrong in (0, 7, 8, length - 1, length + 1, 0xFFFF):
        data = shape.data[: shape.l4 + 4] + wrong.to_bytes(2, "big") + shape.data[shape.l4 + 6 :]
        assert verdicts(bench, pair, [data]) == ["NONE"]


def test_a_frame_of_several_buffers_has_the_verdict_in_each_completion(bench: Bench) -> None:
    bench.nic.accept("RX_CSUM")
    bench.nic.registers.put("MAX_FRAME", LEN=FRAME_MAX)
    (pair,) = bench.nic.start(0, stride=256, rx_size=128)
    made = shapes(13, 20, extended=False, payload=8000)
    for good, data in [(True, one.data) for one in made] + [(False, one.with_sum(0x1234)) for one in made]:
        bench.cable.send(data)
        (received,) = pair.rx.receive()
        assert received.data == data
        assert len(received.completions) > 30
        assert {one.verdict for one in received.completions} == {VERDICT.GOOD if good else VERDICT.BAD}
        pair.rx.fill()
        pair.rx.kick()


WHOLE = [plain(14, tcp=tcp, ipv6=ipv6).data for tcp in (True, False) for ipv6 in (True, False)]


@examples(300)
@given(start=st.sampled_from(range(len(WHOLE))), noise=st.binary(max_size=60), at=st.integers(12, 80))
def test_noise_is_never_good_unless_it_is(bench: Bench, start: int, noise: bytes, at: int) -> None:
    data = WHOLE[start][:at] + noise + WHOLE[start][at + len(noise) :]
    bench.nic.accept("RX_CSUM")
    pair = bench.nic.queue_pair(0).start()
    pair.rx.fill()
    bench.nic.registers.put("RX_MODE", PROMISC=1)
    bench.nic.enable()
    (verdict,) = verdicts(bench, pair, [data])
    assert (verdict == "GOOD") == packets.sums_are_right(data)
    pair.stop()
    bench.memory.rewind()


def test_without_the_feature_there_is_no_verdict(bench: Bench, pair: QueuePair) -> None:
    bench.nic.accept("RSS")
    assert set(verdicts(bench, pair, WHOLE)) == {"NONE"}
    assert bench.nic.registers.counter("rx_csum_good") == 0


def test_a_device_without_the_feature_gives_no_verdict(make_bench: MakeBench) -> None:
    bench = make_bench(**{"rx-csum": "off"})
    bench.nic.accept("RX_CSUM")
    (pair,) = bench.nic.start(0)
    assert bench.nic.registers.read("DEV_FEATURES") & HW.features["RX_CSUM"] == 0
    assert set(verdicts(bench, pair, WHOLE)) == {"NONE"}


def test_the_verdict_and_the_hash_come_together(bench: Bench, pair: QueuePair) -> None:
    kinds = [field.name for field in HW.reg("RSS_CTRL").register.fields]
    bench.nic.set_rss(bytes(range(40)), [0] * 128, kinds)
    bench.nic.accept("RSS", "RX_CSUM")
    bench.cable.send(WHOLE[0])
    (received,) = pair.rx.receive()
    assert received.verdict == VERDICT.GOOD
    assert received.hash
