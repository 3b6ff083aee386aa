# SPDX-License-Identifier: GPL-2.0-or-later
"""A checksum that the device fills in: right for every packet, in the frame alone, and refused where it cannot be."""

from __future__ import annotations

import random

import packets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packets import filled

from labnic.rings import Piece, QueuePair

from .bench import HW, MAC, Bench, MakeBench, examples
from .frames import FRAME_MAX, FRAME_MIN, PEER, frame
from .test_bad_guest import check_failed

ERR = HW.enum("ERR")
OFFLOAD = HW.enum("OFFLOAD")
BURST = 50
PEER_MAC = PEER.hex(":")


def csum(start: int, offset: int) -> dict[str, int]:
    """The fields of a descriptor that asks for a checksum."""
    return {"FLAGS.OFFLOAD": OFFLOAD.CSUM, "FLAGS.CSUM_START": start, "FLAGS.CSUM_OFFSET": offset}


@pytest.fixture
def pair(bench: Bench) -> QueuePair:
    """A queue pair of a driver that has accepted the feature."""
    bench.nic.accept("TX_CSUM")
    (pair,) = bench.nic.start(0, tx_size=256)
    bench.nic.registers.put("MISC_ENABLE", QUEUE_ERROR=1)
    return pair


@pytest.mark.parametrize("seed", range(4))
def test_tcp_and_udp_leave_as_another_stack_makes_them(bench: Bench, pair: QueuePair, seed: int) -> None:
    """A thousand packets of each seed: VLAN tags, IPv4 options, IPv6 extension headers, odd lengths, in pieces."""
    generator = random.Random(seed)
    for _ in range(1000 // BURST):
        shapes = [packets.packet(generator, PEER_MAC, MAC) for _ in range(BURST)]
        for shape in shapes:
            cuts = sorted({generator.randrange(1, len(shape.data)) for _ in range(generator.randrange(3))})
            pair.tx.push(shape.unfinished(), cuts, csum_of(shape))
        pair.tx.kick()
        sent = bench.cable.collect(BURST)
        for shape, data in zip(shapes, sent, strict=True):
            # scapy leaves a sum of zero as it is for TCP, where Linux sends all ones as for UDP: both are right.
            value = int.from_bytes(shape.data[shape.csum : shape.csum + 2], "big")
            assert data == shape.with_sum(value or packets.ALL_ONES), shape
    assert bench.nic.registers.counter("tx_csum") == 1000


def csum_of(shape: packets.Shape) -> dict[str, int]:
    """The fields for a packet's own checksum."""
    return csum(shape.l4, shape.csum - shape.l4)


@examples(200)
@given(data=st.data(), length=st.integers(FRAME_MIN, FRAME_MAX))
def test_any_bytes_are_summed_from_any_place(bench: Bench, data: st.DataObject, length: int) -> None:
    start = data.draw(st.integers(0, length - 2))
    offset = data.draw(st.integers(0, min(255, length - start - 2)))
    cuts = data.draw(st.lists(st.integers(1, length - 1), max_size=20, unique=True).map(sorted))
    bench.nic.accept("TX_CSUM")
    pair = bench.nic.queue_pair(0).start()
    bench.nic.enable()
    pair.tx.send(frame(length), cuts, csum(start, offset))
    assert bench.cable.receive() == filled(frame(length), start, offset)
    pair.stop()
    bench.memory.rewind()


def test_a_sum_of_zero_is_sent_as_all_ones(bench: Bench, pair: QueuePair) -> None:
    """To UDP, zero says that there is no checksum."""
    data = frame(14) + b"\xff\xff" + bytes(40)
    pair.tx.send(data, offload=csum(14, 6))
    assert bench.cable.receive() == data[:20] + b"\xff\xff" + data[22:]


def test_the_frames_between_are_left_alone(bench: Bench, pair: QueuePair) -> None:
    data = [frame(60 + number) for number in range(20)]
    for number, one in enumerate(data):
        pair.tx.push(one, offload=csum(14, 16) if number % 2 else None)
    pair.tx.kick()
    wanted = [filled(one, 14, 16) if number % 2 else one for number, one in enumerate(data)]
    assert bench.cable.collect(20) == wanted
    assert bench.nic.registers.counter("tx_csum") == 10


def test_the_drivers_bytes_are_not_changed(bench: Bench, pair: QueuePair) -> None:
    """The packet may be another's, too, as what is in the page cache."""
    (piece,) = pair.tx.stage(frame(100), offload=csum(14, 6))
    pair.tx.post([piece])
    pair.tx.kick()
    bench.cable.receive()
    assert bench.qtest.read(piece.address, 100) == frame(100)


def test_the_last_two_bytes_of_a_frame_can_be_its_checksum(bench: Bench, pair: QueuePair) -> None:
    for length in (FRAME_MIN, 60, FRAME_MAX):
        pair.tx.send(frame(length), offload=csum(length - 2, 0))
        assert bench.cable.receive() == filled(frame(length), length - 2, 0)


BEYOND = {
    "offset": csum(50, 9),
    "odd place": csum(59, 0),
    "start at the end": csum(60, 0),
    "start far beyond": csum(0x3FFF, 255),
}


@pytest.mark.parametrize("place", BEYOND)
def test_a_place_beyond_the_frame_stops_the_queue(bench: Bench, pair: QueuePair, place: str) -> None:
    pair.tx.send(frame(60), offload=BEYOND[place])
    check_failed(bench, pair.tx, ERR.CSUM_PLACE)
    assert bench.cable.waiting() == []


STRAY = {
    "start without an offload": {"FLAGS.CSUM_START": 14},
    "offset without an offload": {"FLAGS.CSUM_OFFSET": 6},
    "an offload that does not exist": {"FLAGS.OFFLOAD": 3},
}


@pytest.mark.parametrize("fields", STRAY)
def test_fields_that_nothing_asks_for_stop_the_queue(bench: Bench, pair: QueuePair, fields: str) -> None:
    pair.tx.send(frame(60), offload=STRAY[fields])
    check_failed(bench, pair.tx, ERR.OFFLOAD)
    assert bench.cable.waiting() == []


def test_an_offload_after_the_first_descriptor_stops_the_queue(bench: Bench, pair: QueuePair) -> None:
    first, second = pair.tx.stage(frame(60), [30])
    pair.tx.post([first, Piece(second.address, second.length, fields=csum(14, 6))])
    pair.tx.ring_doorbell()
    check_failed(bench, pair.tx, ERR.OFFLOAD)


def test_an_offload_that_was_not_accepted_stops_the_queue(bench: Bench, pair: QueuePair) -> None:
    bench.nic.accept("RSS")
    pair.tx.send(frame(60), offload=csum(14, 6))
    check_failed(bench, pair.tx, ERR.OFFLOAD)
    assert bench.cable.waiting() == []


def test_a_device_without_the_feature_cannot_be_asked(make_bench: MakeBench) -> None:
    nic = make_bench(**{"tx-csum": "off"}).nic
    nic.accept("RSS", "TX_CSUM")
    assert nic.registers.read("DEV_FEATURES") & HW.features["TX_CSUM"] == 0
    assert nic.registers.field("DRV_FEATURES", "TX_CSUM") == 0
    assert nic.registers.field("DRV_FEATURES", "RSS") == 1
