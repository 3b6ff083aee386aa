# SPDX-License-Identifier: GPL-2.0-or-later
"""What the device says of its driver: each rule when it is broken, and nothing when none is."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from labnic.fault import Violation
from labnic.pci import CAP_PM, PM_CONTROL
from labnic.qmp import QmpCommandError
from labnic.qtest import wait_until
from labnic.rings import Piece, QueuePair

from .bench import HW, Bench, BenchOptions, MakeBench, settle
from .frames import FRAME_MAX, frame, numbered
from .test_migration import RAM, SMALL, load, save

D0, D3 = 0, 3
NOWHERE = 1 << 40
RULES = {rule.name for rule in HW.audits}


@pytest.fixture(autouse=True)
def _watched(bench: Bench) -> None:
    """The shared machine's device has its audit on; nothing of an earlier test is left in it."""
    assert bench.faults.audit() == []


def the_only(bench: Bench, rule: str) -> Violation:
    """The one violation that there is."""
    assert rule in RULES
    found = bench.faults.audit()
    assert [violation.rule for violation in found] == [rule]
    return found[0]


def power(bench: Bench, state: int) -> None:
    """Bring the function into a power state."""
    bench.pci.write(bench.pci.capability(CAP_PM) + PM_CONTROL, state, 2)


# Silence


def exchange(bench: Bench, pair: QueuePair, generator: random.Random, rounds: int) -> None:
    """Traffic in both directions, with an interrupt armed after each round as a poll does it."""
    for _ in range(rounds):
        frames = [frame(generator.randint(60, 3000)) for _ in range(generator.randint(1, 20))]
        for one in frames:
            pair.tx.push(one, sorted(generator.sample(range(1, len(one)), generator.randint(0, 3))))
        pair.tx.kick()
        assert bench.cable.collect(len(frames)) == frames
        pair.tx.wait_consumed()
        pair.tx.arm()
        bench.cable.send(*frames)
        assert [one.data for one in pair.rx.receive(len(frames))] == frames
        pair.rx.fill()
        pair.rx.kick()
        pair.rx.arm()


@pytest.mark.parametrize("size", [64, 128, 1024])
def test_a_correct_driver_is_not_accused(bench: Bench, size: int) -> None:
    (pair,) = bench.nic.start(0, tx_size=size, rx_size=size)
    exchange(bench, pair, random.Random(size), 25)
    pair.stop()
    bench.nic.enable(False)
    bench.pci.enable(master=False)
    assert bench.faults.audit() == []


def test_a_driver_that_starts_again_is_not_accused(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    for _ in range(5):
        exchange(bench, pair, random.Random(1), 2)
        bench.nic.reset()
        bench.memory.rewind()
        (pair,) = bench.nic.start(0)
    assert bench.faults.audit() == []


def test_a_driver_whose_wire_is_blocked_is_not_accused(bench: Bench) -> None:
    (pair,) = bench.nic.start(0, tx_size=1024)
    frames = numbered(700, 200)
    for one in frames:
        pair.tx.push(one)
        pair.tx.kick()
    assert bench.cable.collect(len(frames)) == frames
    pair.tx.wait_consumed()
    assert bench.faults.audit() == []


def test_a_starved_driver_is_not_accused(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    bench.cable.send(*numbered(150))
    got = 0
    while got < 150:
        got += len(pair.rx.receive())
        pair.rx.fill()
        pair.rx.kick()
    assert bench.faults.audit() == []


def test_the_audit_is_counted_nowhere(bench: Bench, make_bench: MakeBench) -> None:
    """Reads that only the audit makes would spoil what tests count."""
    counted = []
    for one in (bench, make_bench()):
        (pair,) = one.nic.start(0)
        for length in (60, 600):
            pair.tx.send(frame(length))
            one.cable.collect(1)
            pair.tx.wait_consumed()
        counted.append(one.nic.registers.counters())
    # One reset more or less lies behind them.
    names = ("dma_reads", "dma_writes", "tx_frames", "tx_bytes", "tx_doorbells")
    assert [counted[0][name] for name in names] == [counted[1][name] for name in names]


# Doorbells


@pytest.mark.parametrize("kind", ["tx", "rx"])
def test_a_doorbell_beyond_the_ring(bench: Bench, kind: str) -> None:
    (pair,) = bench.nic.start(3)
    queue = pair.tx if kind == "tx" else pair.rx
    queue.ring_doorbell(queue.size + 1)
    violation = the_only(bench, "doorbell-range")
    assert (violation.queue, violation.count) == (3, 1)
    assert violation.detail.startswith(f"{kind.upper()} doorbell {queue.size + 1} of a ring of {queue.size}")


@pytest.mark.parametrize("kind", ["tx", "rx"])
def test_a_doorbell_for_what_is_not_published(bench: Bench, kind: str) -> None:
    pair = bench.nic.queue_pair(1).start()
    bench.nic.enable()
    queue = pair.tx if kind == "tx" else pair.rx
    queue.ring_doorbell(1)
    assert the_only(bench, "doorbell-early").queue == 1


def test_a_doorbell_before_the_queue_is_enabled(bench: Bench) -> None:
    bench.nic.registers.write("TX_DOORBELL", 1, 2)
    bench.nic.registers.write("RX_DOORBELL", 1, 2)
    violation = the_only(bench, "doorbell-stopped")
    assert (violation.queue, violation.count, violation.detail) == (2, 2, "TX doorbell 1")


@pytest.mark.parametrize("stop", [lambda nic, pair: pair.stop(), lambda nic, pair: nic.reset()])
def test_a_doorbell_after_the_driver_has_stopped_the_queue(bench: Bench, stop: Callable[..., None]) -> None:
    (pair,) = bench.nic.start(0)
    stop(bench.nic, pair)
    pair.tx.push(frame())
    pair.tx.ring_doorbell()
    the_only(bench, "doorbell-stopped")


def test_a_doorbell_after_the_device_has_stopped_the_queue_is_excused(bench: Bench) -> None:
    """The driver cannot know yet."""
    (pair,) = bench.nic.start(0)
    with bench.faults.set("dma-read"):
        pair.tx.send(frame())
    assert not pair.tx.enabled
    pair.tx.push(frame())
    pair.tx.ring_doorbell()
    assert bench.faults.audit() == []


def test_a_doorbell_after_a_reset_of_the_function_is_excused(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    bench.faults.set("gone").clear()
    bench.pci.assign_bars()
    bench.pci.enable()
    pair.tx.push(frame())
    bench.attach().registers.write("TX_DOORBELL", 1, 0)
    assert bench.faults.audit() == []


# Rings


def test_a_tx_descriptor_that_changes_while_it_waits(bench: Bench) -> None:
    (pair,) = bench.nic.start(0, tx_size=1024)
    for one in numbered(700, 200):
        pair.tx.push(one)
    pair.tx.kick()
    assert pair.tx.head < 690, "the wire must be blocked for this test to mean something"
    at = pair.tx.ring + 690 * HW.struct("TX_DESC").size + HW.struct("TX_DESC").word("LEN").offset
    bench.qtest.writel(at, 100)
    bench.cable.collect(700)
    pair.tx.wait_consumed()
    violation = the_only(bench, "descriptor-changed")
    assert violation.count == 1
    assert "TX 690 was" in violation.detail
    assert "0xc8 0x3, is" in violation.detail
    assert violation.detail.endswith("0x64 0x3")


def test_an_rx_buffer_that_changes_while_it_is_the_devices(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    bench.cable.send(frame())
    settle(bench, "frames", 1, "rx_frames")
    at = pair.rx.buffers + 2 * HW.struct("RX_BUF").size
    bench.qtest.writel(at, bench.qtest.readl(at) + 64)
    bench.cable.send(*numbered(4))
    settle(bench, "frames", 5, "rx_frames")
    violation = the_only(bench, "descriptor-changed")
    assert violation.count == 1
    assert violation.detail.startswith("RX 2 was")


def test_a_descriptor_that_changes_under_a_device_that_lies_is_excused(bench: Bench) -> None:
    """The driver was told that it may."""
    (pair,) = bench.nic.start(0)
    bench.cable.send(*numbered(1))
    settle(bench, "frames", 1, "rx_frames")
    with bench.faults.set("rx-index", count=0):
        bench.cable.send(*numbered(1))
        settle(bench, "frames", 2, "rx_frames")
        bench.qtest.writel(pair.rx.buffers + 3 * HW.struct("RX_BUF").size, 0x1000)
        bench.cable.send(*numbered(2))
        settle(bench, "frames", 4, "rx_frames")
    assert bench.faults.audit() == []


@pytest.mark.parametrize("apart", [1, 200])
def test_a_buffer_that_is_posted_twice(bench: Bench, apart: int) -> None:
    """However far the two are from each other in the ring."""
    pair = bench.nic.queue_pair(0, rx_size=256).start()
    bench.nic.enable()
    place = bench.memory.take(2048)
    pair.rx.post([2048], address=place)
    pair.rx.post([2048] * (apart - 1))
    pair.rx.post([2048], address=place)
    pair.rx.ring_doorbell()
    violation = the_only(bench, "buffer-twice")
    assert violation.detail == (f"buffer {apart} is at {place:#x}, as is the one in slot 0, which is the device's")


def test_a_buffer_that_is_posted_again_after_it_was_filled(bench: Bench) -> None:
    pair = bench.nic.queue_pair(0).start()
    bench.nic.registers.put("RX_MODE", PROMISC=1)
    bench.nic.enable()
    place = bench.memory.take(2048)
    for number in range(150):
        pair.rx.post([2048], address=place)
        pair.rx.kick()
        bench.cable.send(frame(seed=number))
        assert pair.rx.receive()[0].data == frame(seed=number)
    assert bench.faults.audit() == []


def test_a_buffer_that_is_posted_twice_before_the_queue_is_enabled(bench: Bench) -> None:
    pair = bench.nic.queue_pair(0)
    bench.nic.registers.write("STATUS_BASE", pair.status.address, 0)
    pair.rx.configure()
    place = bench.memory.take(2048)
    pair.rx.post([2048, 2048], address=place)
    pair.rx.enable()
    the_only(bench, "buffer-twice")


def test_two_frames_of_the_same_bytes_are_not_judged(bench: Bench) -> None:
    """Clones and files are sent so."""
    (pair,) = bench.nic.start(0)
    (piece,) = pair.tx.stage(frame(60))
    pair.tx.post([Piece(piece.address, 30, last=False), Piece(piece.address, 30)])
    pair.tx.post([piece])
    pair.tx.kick()
    bench.cable.collect(2)
    assert bench.faults.audit() == []


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([(0, True)], HW.enum("ERR").DESC_LEN),
        ([(13, True)], HW.enum("ERR").FRAME_SHORT),
        ([(FRAME_MAX + 1, True)], HW.enum("ERR").FRAME_LONG),
        ([(60, False)], HW.enum("ERR").INCOMPLETE),
    ],
)
def test_a_descriptor_that_the_device_refuses(bench: Bench, pieces: list[tuple[int, bool]], error: int) -> None:
    (pair,) = bench.nic.start(5)
    place = pair.tx.stage(bytes(FRAME_MAX))[0].address
    pair.tx.post([Piece(place, length, last) for length, last in pieces])
    pair.tx.kick()
    violation = the_only(bench, "bad-descriptor")
    assert violation.queue == 5
    assert violation.detail == f"TX stops with error {error} at head 0"


def test_a_ring_that_the_device_refuses(bench: Bench) -> None:
    bench.nic.registers.put("RX_CTRL", 1, ENABLE=1)
    assert the_only(bench, "bad-descriptor").detail.startswith("RX stops with error 1")


def test_a_ring_that_is_moved_while_it_is_in_use(bench: Bench) -> None:
    bench.nic.start(4)
    bench.nic.registers.put("TX_SIZE", 4, ENTRIES=128)
    assert the_only(bench, "ring-moved").queue == 4


# Power, bus mastering, memory


def test_a_register_written_while_bus_mastering_is_off(bench: Bench) -> None:
    bench.pci.enable(master=False)
    assert bench.nic.registers.read("ID") == HW.reg("ID").reset
    assert bench.faults.audit() == []
    bench.nic.registers.write("MAX_FRAME", 100)
    violation = the_only(bench, "write-disabled")
    assert violation.queue is None
    assert violation.detail == "write of 0x64 to 0x0018"


def test_a_device_brought_to_rest_while_bus_mastering_is_off(bench: Bench) -> None:
    """Someone else may have left it at work, before DMA is allowed."""
    bench.nic.start(0)
    bench.nic.enable(False)
    bench.nic.reset()
    bench.pci.enable(master=False)
    bench.nic.enable(False)
    bench.nic.registers.put("TX_CTRL", 0, ENABLE=0)
    bench.nic.registers.write("MISC_ENABLE", 0)
    bench.nic.reset()
    assert bench.faults.audit() == []


def test_a_register_read_while_the_function_sleeps(bench: Bench) -> None:
    power(bench, D3)
    bench.nic.registers.read("ID")
    assert the_only(bench, "access-asleep").detail == "read of 0x0000"
    power(bench, D0)
    bench.faults.audit_clear()
    bench.nic.registers.read("ID")
    assert bench.faults.audit() == []


def test_bus_mastering_taken_away_from_a_running_queue(bench: Bench) -> None:
    bench.nic.start(0)
    bench.pci.enable(master=False)
    assert the_only(bench, "stop-running").detail == "bus mastering goes off while its TX queue is enabled"


def test_a_running_queue_put_to_sleep(bench: Bench) -> None:
    (pair,) = bench.nic.start(2)
    pair.tx.enable(False)
    power(bench, D3)
    assert the_only(bench, "stop-running").detail == "D0 is left while its RX queue is enabled"


def test_bus_mastering_taken_away_from_a_device_that_hangs_is_excused(bench: Bench) -> None:
    bench.nic.start(0)
    with bench.faults.set("hang"):
        bench.nic.registers.put("TX_CTRL", 0, ENABLE=0)
        bench.pci.enable(master=False)
    assert bench.faults.audit() == []


def test_memory_out_of_reach_because_bus_mastering_is_off(bench: Bench) -> None:
    bench.nic.start(0)
    bench.pci.enable(master=False)
    bench.cable.send(frame())
    settle(bench, "the frame", 1, "rx_dma_errors")
    assert {violation.rule for violation in bench.faults.audit()} == {"stop-running", "dma-off"}


def test_an_address_without_memory(bench: Bench) -> None:
    pair = bench.nic.queue_pair(0).start()
    bench.nic.registers.put("RX_MODE", PROMISC=1)
    bench.nic.enable()
    pair.rx.post([2048], address=NOWHERE)
    bench.cable.send(frame())
    settle(bench, "the frame", 1, "rx_dma_errors")
    assert the_only(bench, "dma-nowhere").detail == f"write of 60 bytes at {NOWHERE:#x}"


def test_memory_that_a_fault_keeps_away_is_not_the_drivers_doing(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    with bench.faults.set("dma-write"):
        bench.cable.send(frame())
        settle(bench, "the frame", 1, "rx_dma_errors")
    assert not pair.rx.enabled
    assert bench.faults.audit() == []


# Events


def receive_armed(bench: Bench, pair: QueuePair, rounds: int, event: Callable[[int], int]) -> None:
    """Frame after frame; before each the driver arms what ``event`` makes of the count that it has been shown."""
    for number in range(rounds):
        pair.rx.arm(event(number))
        bench.cable.send(frame())
        settle(bench, "frames", number + 1, "rx_frames")


def test_events_armed_in_the_middle_of_a_poll(bench: Bench) -> None:
    """The driver works through what was shown long ago and asks for an interrupt each time."""
    (pair,) = bench.nic.start(0)
    receive_armed(bench, pair, 30, lambda shown: shown // 2)
    violation = the_only(bench, "event-stale")
    assert violation.detail.startswith("RX event")


def test_events_armed_after_the_ring_was_found_empty(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    receive_armed(bench, pair, 50, lambda shown: shown)
    assert bench.faults.audit() == []


def test_events_that_lose_the_race_with_a_frame_every_time(bench: Bench) -> None:
    """One frame always comes between the look at the empty ring and the event: unlucky, and right."""
    (pair,) = bench.nic.start(0)
    receive_armed(bench, pair, 50, lambda shown: shown - 1)
    assert bench.faults.audit() == []


def test_events_that_are_taken_back(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    receive_armed(bench, pair, 50, lambda shown: shown - shown % 3 - (shown % 3 == 1))
    assert bench.faults.audit() == []


def test_a_poll_that_never_rests_arms_nothing(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    receive_armed(bench, pair, 50, lambda shown: 0)
    assert bench.faults.audit() == []


# The list


def test_violations_are_counted_with_the_detail_of_the_first(bench: Bench) -> None:
    bench.nic.start(0, 1)
    for number in range(3):
        bench.nic.registers.put("TX_SIZE", 1, ENTRIES=64)
        bench.nic.registers.write("RX_BUF_BASE", number << 32, 0)
    first, second = bench.faults.audit()
    assert (first.queue, first.count, second.queue, second.count) == (0, 6, 1, 3)
    assert second.detail == "write of 0x4008"
    bench.faults.audit_clear()
    assert bench.faults.audit() == []


def test_a_device_without_the_audit_says_so(make_bench: MakeBench) -> None:
    bench = make_bench()
    with pytest.raises(QmpCommandError, match="was not made with auditing=on"):
        bench.faults.audit()
    with pytest.raises(QmpCommandError, match="was not made with auditing=on"):
        bench.faults.audit_clear()


def test_a_correct_driver_is_not_accused_after_a_move(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench(SMALL, auditing="on")
    (pair,) = bench.nic.start(0, tx_size=1024)
    frames = numbered(700, 200)
    for one in frames:
        pair.tx.push(one)
    pair.tx.kick()
    path = save(bench, tmp_path / "state")
    first = bench.cable.waiting()
    target = load(make_bench, path, auditing="on")
    bench.qtest.follow(target.qtest)
    assert first + target.cable.collect(len(frames) - len(first)) == frames
    pair.tx.wait_consumed()
    target.cable.send(*numbered(10))
    wait_until(lambda: pair.rx.head == 10, "the frames")
    assert target.faults.audit() == []


def test_a_ring_of_another_size_after_a_load_that_failed_is_watched_anew(make_bench: MakeBench) -> None:
    """The shadow follows the ring that there is."""
    bench = make_bench(BenchOptions(ram=RAM), auditing="on")
    for size in (64, 4096, 64):
        (pair,) = bench.nic.start(0, tx_size=size, rx_size=size)
        pair.tx.send(frame())
        assert bench.cable.receive() == frame()
        bench.nic.reset()
        bench.memory.rewind()
    assert bench.faults.audit() == []
