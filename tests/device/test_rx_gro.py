# SPDX-License-Identifier: GPL-2.0-or-later
"""Received TCP segments wait for each other and come as one frame: which of them, for how long, and with what headers.

Whatever comes is cut into segments again, by the RFCs and not as the device does, and must be what was sent.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import packets
import pytest
from packets import Shape, segments

from labnic.qtest import wait_until
from labnic.rings import Coalesced, QueuePair, Received

from .bench import HW, MAC, Bench, MakeBench
from .frames import PEER, frame

HOLD = 30_000
"""Microseconds that the driver lets its interrupts wait."""
GOOD = HW.enum("VERDICT").GOOD
PEER_MAC = PEER.hex(":")
ACK, PSH, URG, ECE = 0x10, 0x08, 0x20, 0x40
FEATURES = ("RX_CSUM", "RX_GRO", "MODERATION")


def finished(shape: Shape, data: bytes) -> Shape:
    """The same with other bytes and their right checksums."""
    ip = bytearray(data[shape.l3 : shape.l4])
    if not shape.ipv6:
        ip[10:12] = bytes(2)
        ip[10:12] = (~packets.ones_sum(bytes(ip)) & packets.ALL_ONES).to_bytes(2, "big")
    other = replace(shape, data=data[: shape.l3] + bytes(ip) + data[shape.l4 :])
    return replace(other, data=packets.filled(other.unfinished(), shape.l4, packets.TCP_CSUM_OFFSET))


def changed(shape: Shape, at: int, value: bytes) -> Shape:
    """The same with these bytes of its headers."""
    return finished(shape, shape.data[:at] + value + shape.data[at + len(value) :])


def stream(seed: int, payload: int, *, ipv6: bool, flags: int = ACK) -> Shape:
    """Data in the middle of a connection."""
    generator = random.Random(seed)
    while True:
        shape = packets.packet(generator, MAC, PEER_MAC, tcp=True, extended=False, payload=payload)
        if shape.ipv6 == ipv6:
            return changed(shape, shape.l4 + 13, bytes([flags]))


def cut(one: Received) -> list[bytes]:
    """The segments of what was received."""
    if one.coalesced is None:
        return [one.data]
    start = one.coalesced.tcp_start
    l3 = start - (40 if one.coalesced.ipv6 else 20)
    shape = Shape(one.data, l3, start, start + packets.TCP_CSUM_OFFSET, True, one.coalesced.ipv6)
    assert one.data == shape.unfinished(), "the sum is not that of the pseudo header"
    return segments(shape, one.coalesced.mss)


@dataclass
class Line:
    """A queue pair whose driver lets its interrupts wait, and the wire."""

    bench: Bench
    pair: QueuePair

    def receive(self, wanted: Sequence[bytes]) -> list[Received]:
        """What comes, until it is that; its segments have the order of what was sent."""
        got: list[Received] = []
        parts: list[bytes] = []

        def enough() -> bool:
            for one in self.pair.rx.frames():
                got.append(one)
                parts.extend(cut(one))
            self.pair.rx.fill()
            self.pair.rx.kick()
            return len(parts) >= len(wanted)

        wait_until(enough, f"{len(wanted)} segments")
        assert parts == list(wanted)
        return got

    def send(self, frames: Sequence[bytes]) -> list[Received]:
        """Send frames and receive them."""
        self.bench.cable.send(*frames)
        return self.receive(frames)


def start(bench: Bench, *features: str, hold: int = HOLD, rx_size: int = 256) -> Line:
    """The device has seen once how long interrupts may wait."""
    bench.nic.accept(*features)
    (pair,) = bench.nic.start(0, rx_size=rx_size)
    line = Line(bench, pair)
    pair.rx.hold(hold)
    line.send([frame()])
    return line


@pytest.fixture
def line(bench: Bench) -> Line:
    """With a driver that takes segments in one frame."""
    return start(bench, *FEATURES)


both_kinds = pytest.mark.parametrize("ipv6", [False, True])


@both_kinds
def test_segments_that_follow_each_other_come_as_one_frame(line: Line, ipv6: bool) -> None:
    for seed in range(20):
        shape = stream(seed, 10 * 1000 + 7, ipv6=ipv6)
        before = line.bench.nic.registers.counters()
        (one,) = line.send(segments(shape, 1000))
        assert one.data == shape.unfinished()
        assert one.coalesced == Coalesced(1000, shape.l4, ipv6)
        assert one.verdict == GOOD
        after = line.bench.nic.registers.counters()
        assert after["rx_gro"] - before["rx_gro"] == 1
        assert after["rx_frames"] - before["rx_frames"] == 11


@both_kinds
def test_a_push_ends_the_frame_at_once(line: Line, ipv6: bool) -> None:
    shape = stream(30, 5 * 1000, ipv6=ipv6, flags=ACK | PSH)
    (one,) = line.send(segments(shape, 1000))
    assert one.data == shape.unfinished()


def test_a_segment_that_pushes_does_not_wait(line: Line) -> None:
    shape = stream(31, 1000, ipv6=False, flags=ACK | PSH)
    (one,) = line.send([shape.data])
    assert one.coalesced is None


def test_what_nothing_follows_comes_when_the_time_is_over(line: Line) -> None:
    parts = segments(stream(32, 4 * 1000, ipv6=False), 1000)
    line.bench.cable.send(*parts)
    got = line.receive(parts)
    assert [one.coalesced is None for one in got] == [False]
    (lone,) = line.send(parts[:1])
    assert lone.coalesced is None


def test_a_frame_is_no_longer_than_can_be(line: Line) -> None:
    shape = stream(33, 60000, ipv6=True)
    first = segments(shape, 1400)[:-1]
    wanted = list(first)
    whole = len(shape.data) - shape.header
    sequence = int.from_bytes(shape.data[shape.l4 + 4 : shape.l4 + 8], "big") + len(first) * 1400
    more = changed(shape, shape.l4 + 4, (sequence & 0xFFFF_FFFF).to_bytes(4, "big"))
    wanted += segments(more, 1400)
    assert whole == 60000
    got = line.send(wanted)
    assert len(got) == 2
    assert all(len(one.data) <= HW.constants.TSO_MAX for one in got)


@pytest.mark.parametrize("missing", FEATURES)
def test_a_driver_that_did_not_accept_it_gets_each_by_itself(bench: Bench, missing: str) -> None:
    line = start(bench, *(name for name in FEATURES if name != missing))
    got = line.send(segments(stream(34, 5000, ipv6=False), 1000))
    assert [one.coalesced for one in got] == [None] * 5


def test_nothing_waits_while_interrupts_do_not(bench: Bench) -> None:
    line = start(bench, *FEATURES, hold=0)
    got = line.send(segments(stream(35, 5000, ipv6=False), 1000))
    assert [one.coalesced for one in got] == [None] * 5


DIFFERENT = {
    "acknowledgement": lambda one: changed(one, one.l4 + 8, b"\1\2\3\4"),
    "window": lambda one: changed(one, one.l4 + 14, b"\1\2"),
    "urgent": lambda one: changed(one, one.l4 + 13, bytes([ACK | URG])),
    "congestion": lambda one: changed(one, one.l4 + 13, bytes([ACK | ECE])),
    "end": lambda one: changed(one, one.l4 + 13, bytes([ACK | packets.FIN])),
    "port": lambda one: changed(one, one.l4, b"\1\2"),
    "sequence": lambda one: changed(one, one.l4 + 4, b"\1\2\3\4"),
    "time to live": lambda one: changed(one, one.l3 + 8, b"\7"),
    "identification": lambda one: changed(one, one.l3 + 4, b"\1\2"),
    "address": lambda one: changed(one, one.l3 + 12, b"\1"),
    "hardware address": lambda one: finished(one, one.data[:6] + b"\2" + one.data[7:]),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_a_segment_that_differs_is_not_put_together_with_others(line: Line, what: str) -> None:
    shape = stream(36, 3000, ipv6=False)
    parts = [replace(shape, data=data) for data in segments(shape, 1000)]
    sent = [parts[0].data, DIFFERENT[what](parts[1]).data, parts[2].data]
    assert sent[1] != parts[1].data
    got = line.send(sent)
    assert [one.coalesced for one in got] == [None] * 3


def test_a_segment_with_a_wrong_checksum_is_not_put_together_with_others(line: Line) -> None:
    parts = segments(stream(37, 5000, ipv6=True), 1000)
    parts[2] = parts[2][:-1] + bytes([parts[2][-1] ^ 1])
    got = line.send(parts)
    assert [(one.coalesced is None, one.verdict == GOOD) for one in got] == [
        (False, True),
        (True, False),
        (False, True),
    ]


def test_other_frames_keep_their_place_among_segments(line: Line) -> None:
    parts = segments(stream(38, 6000, ipv6=False), 1000)
    line.send([*parts[:3], frame(70), *parts[3:], frame(80)])


def test_without_buffers_nothing_is_lost_and_the_order_stays(bench: Bench) -> None:
    line = start(bench, *FEATURES, rx_size=64)
    streams = [segments(stream(40 + number, 60000, ipv6=bool(number % 2)), 1400) for number in range(4)]
    sent = [part for parts in streams for part in parts]
    bench.cable.send(*sent[:-1])
    bench.cable.send(sent[-1])
    got = line.receive(sent)
    assert len(got) < len(sent) / 4


def test_a_driver_that_takes_them_no_more_has_got_what_waits(line: Line) -> None:
    """Before its change of mind and in order; what comes after that comes one by one."""
    parts = segments(stream(45, 8000, ipv6=True), 1000)
    line.bench.cable.send(*parts[:3])
    line.bench.cable.wait_taken()
    line.bench.nic.accept("RX_CSUM", "MODERATION")
    line.bench.cable.send(*parts[3:])
    got = line.receive(parts)
    assert [one.coalesced is None for one in got] == [False] + [True] * 5


def test_what_a_device_without_backpressure_has_no_buffers_for_counts_as_often_as_it_has_segments(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(backpressure="off")
    line = start(bench, *FEATURES, rx_size=64)
    bench.cable.send(*[frame()] * 64)
    wait_until(lambda: line.pair.rx.head == 65, "the buffers to be used up")
    parts = segments(stream(46, 5000, ipv6=False, flags=ACK | PSH), 1000)
    bench.cable.send(*parts)
    wait_until(lambda: bench.nic.registers.counter("rx_no_buffer") == len(parts), "the segments to be lost")


def test_a_stopped_queue_forgets_what_waits(line: Line) -> None:
    parts = segments(stream(50, 3000, ipv6=False), 1000)
    line.bench.cable.send(*parts)
    line.bench.cable.wait_taken()
    before = line.bench.nic.registers.counter("rx_disabled")
    frames = line.bench.nic.registers.counter("rx_frames")
    line.pair.rx.enable(False)
    counters = line.bench.nic.registers.counters()
    assert counters["rx_disabled"] - before + counters["rx_frames"] - frames == 3


def test_what_waits_is_in_memory_when_the_machine_stops(line: Line) -> None:
    parts = segments(stream(51, 3000, ipv6=False), 1000)
    line.bench.cable.send(*parts)
    line.bench.cable.wait_taken()
    line.bench.qmp.execute("stop")
    got = line.pair.rx.frames()
    assert [part for one in got for part in cut(one)] == parts
    line.bench.qmp.execute("cont")
    line.send([frame()])


def mixed(generator: random.Random, count: int) -> Iterator[bytes]:
    """Segments of some connections, in runs; and all that comes between them on a wire."""
    flows = [
        stream(
            generator.randrange(1 << 30), 20000, ipv6=generator.random() < 0.5, flags=generator.choice([ACK, ACK | PSH])
        )
        for _ in range(4)
    ]
    queues = [segments(flow, generator.choice([1, 100, 536, 1000, 1400])) for flow in flows]
    for _ in range(count):
        number = generator.randrange(len(flows))
        run = [queues[number].pop(0) for _ in range(min(generator.randrange(1, 12), len(queues[number])))]
        if not run:
            continue
        kind = generator.randrange(12)
        if kind == 0:
            generator.shuffle(run)
        elif kind == 1:
            run.append(run[0])
        elif kind == 2:
            at = generator.randrange(14, len(run[0]))
            run[0] = run[0][:at] + bytes([run[0][at] ^ 1 << generator.randrange(8)]) + run[0][at + 1 :]
        elif kind == 3:
            flow = replace(flows[number], data=run[-1])
            at = generator.randrange(flow.l3 + 1, flow.header)
            run[-1] = changed(flow, at, generator.randbytes(1)).data
        elif kind == 4:
            run.append(packets.packet(generator, MAC, PEER_MAC).data)
        elif kind == 5:
            run.append(frame(generator.randrange(60, 300), seed=generator.randrange(100)))
        elif kind == 6:
            run.insert(0, run[0].ljust(60 + generator.randrange(1000), b"\0"))
        yield from run


@pytest.mark.parametrize("seed", range(8))
def test_whatever_comes_is_what_was_sent(bench: Bench, seed: int) -> None:
    """Thousands of frames: what was put together is cut again, and nothing differs from what the wire had."""
    line = start(bench, *FEATURES, hold=2000, rx_size=1024)
    generator = random.Random(seed)
    sent = [data for _ in range(10) for data in mixed(generator, 20)]
    got: list[Received] = []
    for at in range(0, len(sent), 100):
        got += line.send(sent[at : at + 100])
    assert len(sent) > 400
    assert len(got) < len(sent)
    assert bench.nic.registers.counter("rx_gro") > 20
