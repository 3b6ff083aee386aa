# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames from the driver to the wire: bytes, fragments, ring laps, bursts, doorbells."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .bench import HW, Bench, MakeBench, examples
from .frames import BROADCAST, FRAME_MAX, FRAME_MIN, MULTICAST, frame, numbered

FRAGS_MAX = HW.constants.TX_FRAGS_MAX
RING_SIZES = [1 << power for power in range(6, 13)]
LENGTHS = [
    FRAME_MIN,
    15,
    16,
    59,
    60,
    61,
    64,
    1513,
    1514,
    1515,
    1518,
    1519,
    4095,
    4096,
    4097,
    8192,
    9000,
    9017,
    FRAME_MAX,
]
QUEUES = range(HW.constants.DEFAULT_QUEUES)


def test_the_ring_sizes_here_are_all_that_the_map_allows() -> None:
    assert (RING_SIZES[0], RING_SIZES[-1]) == (HW.constants.RING_MIN, HW.constants.RING_MAX)


@pytest.mark.parametrize("queue", QUEUES)
def test_a_frame_leaves_by_each_queue(bench: Bench, queue: int) -> None:
    (pair,) = bench.nic.start(queue)
    pair.tx.send(frame(60, seed=queue))
    assert bench.cable.receive() == frame(60, seed=queue)
    pair.tx.wait_consumed()
    assert pair.tx.head == 1


def test_the_highest_queue_pair_of_the_map_works(make_bench: MakeBench) -> None:
    last = HW.constants.MAX_QUEUES - 1
    bench = make_bench(queues=HW.constants.MAX_QUEUES)
    (pair,) = bench.nic.start(last)
    pair.tx.send(frame(77))
    assert bench.cable.receive() == frame(77)
    bench.nic.registers.put("TX_CTRL", last, ENABLE=0)


def test_frames_of_boundary_lengths_leave_unpadded_and_unchanged(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    for length in LENGTHS:
        pair.tx.send(frame(length))
        assert bench.cable.receive() == frame(length), f"length {length}"


def test_frames_of_every_hundredth_length_leave_unchanged(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    for length in range(FRAME_MIN, FRAME_MAX + 1, 97):
        pair.tx.send(frame(length))
        assert bench.cable.receive() == frame(length), f"length {length}"


@examples(60)
@given(data=st.data(), length=st.integers(FRAME_MIN, FRAME_MAX))
def test_a_frame_in_random_pieces_arrives_byte_for_byte(bench: Bench, data: st.DataObject, length: int) -> None:
    cuts = data.draw(st.lists(st.integers(1, length - 1), max_size=FRAGS_MAX - 1, unique=True).map(sorted))
    pair = bench.nic.queue_pair(0).start()
    bench.nic.enable()
    pair.tx.send(frame(length), cuts)
    assert bench.cable.receive() == frame(length)
    assert pair.tx.head == len(cuts) + 1
    pair.stop()
    bench.memory.rewind()


def test_a_frame_may_have_as_many_pieces_as_the_map_says(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    pair.tx.send(frame(600), range(1, FRAGS_MAX))
    assert bench.cable.receive() == frame(600)


@pytest.mark.parametrize("size", RING_SIZES)
def test_every_ring_size_goes_round_for_laps(bench: Bench, size: int) -> None:
    """Two and a half laps, in bursts that do not divide the ring, so that the phase flips inside a burst."""
    (pair,) = bench.nic.start(0, tx_size=size)
    sent = 0
    burst = min(size - 1, 61)
    while sent < size * 5 // 2:
        frames = numbered(burst, 18, first=sent)
        for one in frames:
            pair.tx.push(one)
        pair.tx.kick()
        assert bench.cable.collect(burst) == frames
        pair.tx.wait_consumed()
        sent += burst
    assert pair.tx.head == sent
    assert pair.tx.error == 0


def test_a_full_ring_is_sent_whole(bench: Bench) -> None:
    (pair,) = bench.nic.start(0, tx_size=64)
    frames = numbered(64)
    for _ in range(3):
        for one in frames:
            pair.tx.push(one)
        pair.tx.kick()
        assert bench.cable.collect(64) == frames
        pair.tx.wait_consumed()


def test_a_frame_may_wrap_round_the_end_of_the_ring(bench: Bench) -> None:
    (pair,) = bench.nic.start(0, tx_size=64)
    for number, length in enumerate(range(500, 520)):
        pair.tx.send(frame(length), range(10, 10 + 6))
        assert bench.cable.receive() == frame(length), f"frame {number}"
        pair.tx.wait_consumed()
    assert pair.tx.published > 64


def test_consumption_is_written_once_for_a_burst(bench: Bench) -> None:
    """32 frames cost one write: TX_CONSUMED and, because the device is then idle, TX_DOORBELL_EVENT beside it."""
    (pair,) = bench.nic.start(0)
    pair.tx.send(frame())
    pair.tx.wait_consumed()
    before = bench.nic.registers.counters()
    for one in numbered(32):
        pair.tx.push(one)
    pair.tx.kick()
    pair.tx.wait_consumed()
    after = bench.nic.registers.counters()
    assert after["tx_frames"] - before["tx_frames"] == 32
    assert after["dma_writes"] - before["dma_writes"] == 1
    assert after["tx_doorbells"] - before["tx_doorbells"] == 1
    assert len(bench.cable.collect(32)) == 32


def test_descriptors_of_a_burst_are_fetched_together(bench: Bench) -> None:
    """A frame costs one read for its bytes; the descriptors of 32 frames cost a few reads together."""
    (pair,) = bench.nic.start(0)
    for one in numbered(32):
        pair.tx.push(one)
    before = bench.nic.registers.counter("dma_reads")
    pair.tx.kick()
    pair.tx.wait_consumed()
    assert bench.nic.registers.counter("dma_reads") - before <= 32 + 8


def test_a_lone_frame_costs_five_reads_and_one_write(bench: Bench) -> None:
    """Its descriptor, its bytes, a look for more before and after the event is written, the wish for an interrupt."""
    (pair,) = bench.nic.start(0, tx_size=256)
    pair.tx.send(frame())
    pair.tx.wait_consumed()
    before = bench.nic.registers.counters()
    pair.tx.send(frame())
    pair.tx.wait_consumed()
    after = bench.nic.registers.counters()
    assert (after["dma_reads"] - before["dma_reads"], after["dma_writes"] - before["dma_writes"]) == (5, 1)


def test_a_frame_that_was_sent_in_an_earlier_burst_is_not_sent_again(bench: Bench) -> None:
    """The copy of the ring still has the burst's descriptors when a lone frame follows."""
    (pair,) = bench.nic.start(0)
    burst = numbered(32)
    for one in burst:
        pair.tx.push(one)
    pair.tx.kick()
    assert bench.cable.collect(32) == burst
    pair.tx.wait_consumed()
    pair.tx.send(frame(333))
    assert bench.cable.receive() == frame(333)
    pair.tx.wait_consumed()
    assert not bench.cable.waiting()
    assert pair.tx.head == 33


@pytest.mark.parametrize("announced", [1, 2, 3, 4])
def test_what_is_published_beyond_the_doorbells_count_is_sent_too(bench: Bench, announced: int) -> None:
    """A count may end in the middle of a frame, and before others: all that is there is sent, each frame whole."""
    (pair,) = bench.nic.start(0)
    pair.tx.push(frame(300), (100, 200))
    pair.tx.push(frame(400), (100, 200))
    pair.tx.ring_doorbell(announced)
    assert bench.cable.collect(2) == [frame(300), frame(400)]
    pair.tx.wait_consumed()
    assert pair.tx.error == 0


def test_the_device_asks_for_the_next_doorbell_once_it_has_caught_up(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    for expected in range(1, 6):
        pair.tx.push(frame())
        assert pair.tx.kick(), "the event asks for a doorbell when nothing is left to send"
        pair.tx.wait_consumed()
        assert pair.status.word("TX_DOORBELL_EVENT") == expected
    assert bench.nic.registers.counter("tx_doorbells") == 5


def test_a_doorbell_that_announces_nothing_new_changes_nothing(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    pair.tx.send(frame())
    pair.tx.wait_consumed()
    for _ in range(3):
        pair.tx.ring_doorbell()
    assert pair.tx.head == 1
    assert pair.tx.error == 0
    assert len(bench.cable.waiting()) == 1


def test_published_frames_wait_until_the_device_is_enabled(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    bench.nic.enable(False)
    frames = numbered(5)
    for one in frames:
        pair.tx.push(one)
    pair.tx.ring_doorbell()
    assert pair.tx.head == 0
    assert bench.cable.waiting() == []
    bench.nic.enable()
    assert bench.cable.collect(5) == frames
    pair.tx.wait_consumed()


def test_queues_send_independently(bench: Bench) -> None:
    pairs = bench.nic.start(*QUEUES)
    expected = []
    for number, pair in itertools.product(range(20), pairs):
        data = frame(60 + number, seed=100 * number + pair.number)
        pair.tx.send(data)
        expected.append(data)
    assert sorted(bench.cable.collect(len(expected))) == sorted(expected)
    for pair in pairs:
        pair.tx.wait_consumed()
        assert pair.tx.head == 20


def test_frames_of_a_queue_keep_their_order_when_nobody_reads_the_wire(bench: Bench) -> None:
    """More frames than the socket holds: the device waits with the rest, loses none and repeats none."""
    (pair,) = bench.nic.start(0, tx_size=1024)
    frames = numbered(700, 200)
    for one in frames:
        pair.tx.push(one)
    pair.tx.kick()
    assert bench.nic.registers.read("ID") == HW.reg("ID").reset
    assert bench.cable.collect(len(frames)) == frames
    pair.tx.wait_consumed()
    assert bench.nic.registers.counter("tx_frames") == len(frames)
    assert bench.cable.waiting() == []


def test_other_queues_go_on_after_the_wire_was_blocked(bench: Bench) -> None:
    first, second = bench.nic.start(0, 1, tx_size=512)
    for one in numbered(400, 200):
        first.tx.push(one)
    first.tx.kick()
    second.tx.send(frame(99))
    frames = bench.cable.collect(401)
    assert frames.count(frame(99)) == 1
    assert [one for one in frames if one != frame(99)] == numbered(400, 200)
    first.tx.wait_consumed()
    second.tx.wait_consumed()


def test_a_queue_disabled_while_the_wire_is_blocked_sends_nothing_more(bench: Bench) -> None:
    (pair,) = bench.nic.start(0, tx_size=1024)
    for one in numbered(700, 200):
        pair.tx.push(one)
    pair.tx.kick()
    pair.tx.enable(False)
    head = pair.tx.head
    frames = bench.cable.waiting()
    while more := (bench.nic.registers.read("ID") and bench.cable.waiting()):
        frames += more
    assert head < 700, "the wire must have been blocked for this test to mean something"
    assert frames == numbered(700, 200)[: len(frames)]
    assert len(frames) <= head + 1
    pair.start()
    pair.tx.send(frame(61))
    assert frame(61) in bench.cable.collect(1)


def test_a_queue_that_is_enabled_again_starts_at_index_zero(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    for length in (60, 61, 62):
        pair.tx.send(frame(length))
        assert bench.cable.receive() == frame(length)
        pair.tx.wait_consumed()
        pair.tx.enable(False)
        pair.tx.configure()
        pair.tx.enable()
        assert pair.tx.head == 0
        assert pair.tx.consumed == 0


def test_counters_equal_what_was_sent(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    generator = random.Random(7)
    kinds = {"unicast": frame(60)[:6], "multicast": MULTICAST, "broadcast": BROADCAST}
    count = dict.fromkeys(kinds, 0)
    total = 0
    for _ in range(50):
        kind = generator.choice(sorted(kinds))
        data = frame(generator.randint(FRAME_MIN, 2000), to=kinds[kind])
        pair.tx.send(data)
        assert bench.cable.receive() == data
        count[kind] += 1
        total += len(data)
    counters = bench.nic.registers.counters()
    assert counters["tx_frames"] == 50
    assert counters["tx_bytes"] == total
    assert counters["tx_multicast"] == count["multicast"]
    assert counters["tx_broadcast"] == count["broadcast"]
    assert counters["rx_frames"] == counters["queue_errors"] == 0
