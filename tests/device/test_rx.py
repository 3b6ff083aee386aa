# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames from the wire to the driver: bytes, buffers, completions, ring laps, and what happens without buffers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .bench import HW, Bench, MakeBench, examples, settle
from .frames import BROADCAST, DEFAULT_MAX_FRAME, FRAME_MAX, FRAME_MIN, MULTICAST, OWN, frame, numbered

BUF_MIN = HW.constants.RX_BUF_MIN
RING_SIZES = [1 << power for power in range(6, 13)]
LENGTHS = [
    FRAME_MIN,
    15,
    59,
    60,
    61,
    64,
    255,
    256,
    257,
    1514,
    1518,
    2047,
    2048,
    2049,
    4096,
    4097,
    9000,
    9017,
    FRAME_MAX,
]
QUEUES = range(HW.constants.DEFAULT_QUEUES)
GUARD = 0xA7


@pytest.mark.parametrize("queue", QUEUES)
def test_a_frame_arrives_at_each_queue(bench: Bench, queue: int) -> None:
    """Steered there by the table: without RSS everything goes to queue pair 0."""
    nic = bench.nic
    pairs = nic.start(*QUEUES)
    nic.set_rss(bytes(40), [queue] * HW.constants.RSS_TABLE_SIZE, ["IPV4"])
    packet = OWN + bytes(6) + b"\x08\x00" + bytes.fromhex("4500001c000000004011000001020304050607080000000000080000")
    bench.cable.send(packet)
    (received,) = pairs[queue].rx.receive()
    assert received.data == packet
    assert [pair.rx.head for pair in pairs] == [int(pair.number == queue) for pair in pairs]


def test_a_frame_without_rss_goes_to_queue_pair_0(bench: Bench) -> None:
    pairs = bench.nic.start(0, 1, 2)
    bench.cable.send(frame())
    (received,) = pairs[0].rx.receive()
    assert received.data == frame()
    assert (received.hash, received.hash_type) == (0, HW.enum("HASH").NONE)


def test_frames_of_boundary_lengths_arrive_unpadded_and_unchanged(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    for length in LENGTHS:
        bench.cable.send(frame(length))
        (received,) = pair.rx.receive()
        assert received.data == frame(length), f"length {length}"
        pair.rx.fill()
        pair.rx.kick()


def test_frames_of_every_hundredth_length_arrive_unchanged(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    for length in range(FRAME_MIN, FRAME_MAX + 1, 97):
        bench.cable.send(frame(length))
        (received,) = pair.rx.receive()
        assert received.data == frame(length), f"length {length}"
        pair.rx.fill()
        pair.rx.kick()


@examples(60)
@given(
    buffers=st.lists(st.integers(BUF_MIN, 2048), min_size=1, max_size=40),
    length=st.integers(FRAME_MIN, FRAME_MAX),
)
def test_a_frame_into_random_buffers_arrives_byte_for_byte(bench: Bench, buffers: list[int], length: int) -> None:
    nic = bench.nic
    pair = nic.queue_pair(0, stride=2048 + 64).start()
    while sum(buffers) < length:
        buffers.append(2048)
    bench.qtest.fill(pair.rx.arena, pair.rx.stride * len(buffers), GUARD)
    pair.rx.post(buffers)
    pair.rx.kick()
    nic.registers.put("MAX_FRAME", LEN=FRAME_MAX)
    nic.enable()
    bench.cable.send(frame(length))
    (received,) = pair.rx.receive()
    assert received.data == frame(length)
    left = length
    for part, room in zip(received.completions, buffers, strict=False):
        assert part.length == min(room, left)
        left -= part.length
        beyond = bench.qtest.read(pair.rx.address_of(part.buffer) + part.length, pair.rx.stride - part.length)
        assert beyond == bytes([GUARD]) * len(beyond), "the device wrote beyond the frame"
    assert left == 0
    pair.stop()
    bench.memory.rewind()


def test_only_the_last_completion_of_a_frame_ends_it(bench: Bench) -> None:
    (pair,) = bench.nic.start(0, stride=256)
    bench.cable.send(frame(256 * 3 + 1))
    (received,) = pair.rx.receive()
    assert [part.last for part in received.completions] == [False, False, False, True]
    assert [part.length for part in received.completions] == [256, 256, 256, 1]
    assert [part.buffer for part in received.completions] == [0, 1, 2, 3]


def test_a_frame_that_fills_a_buffer_exactly_uses_no_second_one(bench: Bench) -> None:
    (pair,) = bench.nic.start(0, stride=256)
    bench.cable.send(frame(256))
    (received,) = pair.rx.receive()
    assert [(part.length, part.last) for part in received.completions] == [(256, True)]


@pytest.mark.parametrize("size", RING_SIZES)
def test_every_ring_size_goes_round_for_laps(bench: Bench, size: int) -> None:
    """Two and a half laps in bursts that do not divide the ring, so that the phase flips inside a burst."""
    (pair,) = bench.nic.start(0, rx_size=size, stride=256)
    burst = min(size - 1, 61)
    sent = 0
    while sent < size * 5 // 2:
        frames = numbered(burst, first=sent)
        bench.cable.send(*frames)
        assert [received.data for received in pair.rx.receive(burst)] == frames
        pair.rx.fill()
        pair.rx.kick()
        sent += burst
    assert pair.rx.head == sent
    assert bench.nic.registers.counter("rx_frames") == sent
    assert pair.rx.error == 0


def test_a_frame_may_wrap_round_the_end_of_the_ring(bench: Bench) -> None:
    (pair,) = bench.nic.start(0, stride=256)
    for length in range(256 * 6 + 1, 256 * 6 + 21):
        bench.cable.send(frame(length))
        (received,) = pair.rx.receive()
        assert received.data == frame(length)
        pair.rx.fill()
        pair.rx.kick()
    assert pair.rx.published > 2 * pair.rx.size


def test_no_doorbell_is_wanted_before_the_device_was_starved(bench: Bench) -> None:
    pair = bench.nic.queue_pair(0).start()
    bench.nic.enable()
    pair.rx.fill()
    assert not pair.rx.kick()
    for number in range(200):
        bench.cable.send(frame(60, seed=number))
        (received,) = pair.rx.receive()
        assert received.data == frame(60, seed=number)
        pair.rx.fill()
        assert not pair.rx.kick()
    assert bench.nic.registers.counter("rx_doorbells") == 0


def test_a_starved_device_asks_for_a_doorbell_and_then_no_more(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    frames = numbered(70)
    bench.cable.send(*frames)
    got = [received.data for received in pair.rx.receive(64)]
    pair.rx.fill()
    rung = bench.nic.registers.counter("rx_doorbells")
    assert pair.rx.kick(), "buffers after a famine must be announced"
    got += [received.data for received in pair.rx.receive(6)]
    assert got == frames
    pair.rx.fill()
    assert not pair.rx.kick()
    assert bench.nic.registers.counter("rx_doorbells") == rung + 1


def test_with_backpressure_nothing_is_lost_and_the_order_stays(bench: Bench) -> None:
    """Frames wait in the backend and in the socket while the ring is empty, and arrive after each refill."""
    (pair,) = bench.nic.start(0)
    frames = numbered(300, 100)
    waiting = list(frames)
    got: list[bytes] = []
    while len(got) < len(frames):
        while waiting and bench.cable.try_send(waiting[0]):
            waiting.pop(0)
        got += [received.data for received in pair.rx.receive(1)]
        pair.rx.fill(min(pair.rx.size - (pair.rx.published - pair.rx.collected), 7))
        pair.rx.kick()
    assert got == frames
    counters = bench.nic.registers.counters()
    assert counters["rx_frames"] == len(frames)
    assert counters["rx_no_buffer"] == 0


def test_a_frame_waits_whole_until_all_its_buffers_are_there(bench: Bench) -> None:
    pair = bench.nic.queue_pair(0, stride=256).start()
    bench.nic.enable()
    pair.rx.fill(3)
    bench.cable.send(frame(1000))
    bench.cable.wait_taken()
    assert pair.rx.collect() == []
    assert pair.rx.head == 0
    pair.rx.fill(1)
    pair.rx.kick()
    (received,) = pair.rx.receive()
    assert received.data == frame(1000)


def test_without_backpressure_frames_without_a_buffer_are_counted_and_dropped(make_bench: MakeBench) -> None:
    bench = make_bench(backpressure="off")
    (pair,) = bench.nic.start(0)
    frames = numbered(80)
    bench.cable.send(*frames)
    settle(bench, "frames", 80, "rx_frames", "rx_no_buffer")
    assert [received.data for received in pair.rx.receive(64)] == frames[:64]
    counters = bench.nic.registers.counters()
    assert (counters["rx_frames"], counters["rx_no_buffer"]) == (64, 16)
    pair.rx.fill()
    pair.rx.kick()
    bench.cable.send(frame(61))
    assert pair.rx.receive()[-1].data == frame(61)


def test_a_runt_is_counted_and_not_received(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    bench.cable.send(frame(FRAME_MIN - 1), b"\xff", frame())
    assert [received.data for received in pair.rx.receive()] == [frame()]
    assert bench.nic.registers.counter("rx_too_short") == 2


@pytest.mark.parametrize("limit", [64, DEFAULT_MAX_FRAME, 4000, FRAME_MAX])
def test_a_frame_longer_than_max_frame_is_counted_and_not_received(bench: Bench, limit: int) -> None:
    (pair,) = bench.nic.start(0)
    bench.nic.registers.put("MAX_FRAME", LEN=limit)
    bench.cable.send(frame(limit + 1), frame(limit))
    assert [received.data for received in pair.rx.receive()] == [frame(limit)]
    counters = bench.nic.registers.counters()
    assert counters["rx_too_long"] == 1
    assert counters["rx_frames"] == 1
    assert counters["rx_bytes"] == limit


def test_a_max_frame_beyond_the_longest_frame_does_not_make_it_longer(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    bench.nic.registers.put("MAX_FRAME", LEN=HW.reg("MAX_FRAME").field("LEN").limit)
    bench.cable.send(frame(FRAME_MAX + 1), frame(16000), frame(FRAME_MAX))
    assert [received.data for received in pair.rx.receive()] == [frame(FRAME_MAX)]
    assert bench.nic.registers.counter("rx_too_long") == 2


def test_frames_are_dropped_and_counted_while_the_device_is_disabled(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    bench.nic.enable(False)
    bench.cable.send(*numbered(3))
    settle(bench, "dropped", 3, "rx_disabled")
    bench.nic.enable()
    bench.cable.send(frame())
    assert [received.data for received in pair.rx.receive()] == [frame()]
    assert bench.nic.registers.counter("rx_disabled") == 3


def test_frames_are_dropped_and_counted_while_their_queue_is_disabled(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    pair.rx.enable(False)
    bench.cable.send(*numbered(3))
    settle(bench, "dropped", 3, "rx_disabled")
    assert bench.nic.registers.counter("rx_frames") == 0
    pair.rx.configure()
    pair.rx.enable()
    pair.rx.fill()
    bench.cable.send(frame())
    assert [received.data for received in pair.rx.receive()] == [frame()]
    assert pair.rx.head == 1


def test_disabling_a_starved_queue_lets_go_of_the_frames_it_held(bench: Bench) -> None:
    """Held frames belong to nobody once the queue is off: they are dropped, and the wire flows again."""
    pair = bench.nic.queue_pair(0).start()
    bench.nic.enable()
    bench.cable.send(*numbered(5))
    assert pair.rx.head == 0
    pair.rx.enable(False)
    settle(bench, "dropped", 5, "rx_disabled")
    pair.rx.configure()
    pair.rx.enable()
    pair.rx.fill()
    pair.rx.kick()
    bench.cable.send(frame())
    assert [received.data for received in pair.rx.receive()] == [frame()]


def test_counters_equal_what_was_received(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    generator = random.Random(11)
    kinds = {"unicast": OWN, "multicast": MULTICAST, "broadcast": BROADCAST}
    count = dict.fromkeys(kinds, 0)
    total = 0
    for _ in range(50):
        kind = generator.choice(sorted(kinds))
        data = frame(generator.randint(FRAME_MIN, 2000), to=kinds[kind])
        bench.cable.send(data)
        assert pair.rx.receive()[0].data == data
        pair.rx.fill()
        pair.rx.kick()
        count[kind] += 1
        total += len(data)
    counters = bench.nic.registers.counters()
    assert counters["rx_frames"] == 50
    assert counters["rx_bytes"] == total
    assert counters["rx_multicast"] == count["multicast"]
    assert counters["rx_broadcast"] == count["broadcast"]
    assert counters["tx_frames"] == counters["rx_filtered"] == counters["rx_dma_errors"] == 0
