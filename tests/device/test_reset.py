# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways to stop the device while it works, and that it starts again from nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from labnic.pci import CAP_PM, MSIX_FLAGS, MSIX_FLAGS_ENABLE, PM_CONTROL, Msix
from labnic.registers import COUNT_MASK
from labnic.rings import QueuePair
from labnic.softnic import Nic

from .bench import HW, Bench, settle
from .frames import STRANGER, frame, numbered
from .test_registers import DANGEROUS, STATE, absent, dump, reset_values, words


def busy(bench: Bench) -> QueuePair:
    """A queue pair in the middle of traffic both ways: the wire is full of its frames, and it is starved."""
    (pair,) = bench.nic.start(0, tx_size=1024)
    bench.nic.set_slot(3, STRANGER)
    bench.nic.set_mac(STRANGER)
    for one in numbered(700, 200):
        pair.tx.push(one)
    pair.tx.kick()
    bench.cable.send(*numbered(66))
    settle(bench, "received", 64, "rx_frames")
    assert pair.tx.head < 700
    return pair


def by_register(bench: Bench) -> Nic:
    """CTRL.RESET."""
    bench.nic.reset()
    return bench.nic


def by_machine(bench: Bench) -> Nic:
    """The reset button."""
    return bench.reset()


def by_function(bench: Bench) -> Nic:
    """A function-level reset, after which the function has lost its addresses."""
    bench.pci.function_level_reset()
    return bench.drive(bench.pci)


WAYS: list[Callable[[Bench], Nic]] = [by_register, by_machine, by_function]


def check_works(bench: Bench, nic: Nic) -> None:
    """A fresh driver sends and receives, and sees nothing of the time before."""
    bench.cable.waiting()
    (pair,) = nic.start(0)
    pair.tx.send(frame(61))
    assert bench.cable.receive() == frame(61)
    bench.cable.send(frame(62))
    assert pair.rx.receive()[-1].data == frame(62)


@pytest.mark.parametrize("reset", WAYS)
def test_every_register_is_back_after_a_reset_in_the_middle_of_traffic(
    bench: Bench, reset: Callable[[Bench], Nic]
) -> None:
    busy(bench)
    nic = reset(bench)
    assert dump(nic) == reset_values()


@pytest.mark.parametrize("reset", WAYS)
def test_every_bit_that_can_be_written_is_back_after_a_reset(bench: Bench, reset: Callable[[Bench], Nic]) -> None:
    for place in STATE:
        if place.register.name in DANGEROUS or absent(place):
            continue
        for offset, shift in words(place):
            bench.nic.qtest.writel(bench.nic.registers.base + offset, place.writable >> shift & COUNT_MASK)
    nic = reset(bench)
    assert dump(nic) == reset_values()


@pytest.mark.parametrize("reset", WAYS)
def test_the_device_works_after_a_reset_in_the_middle_of_traffic(bench: Bench, reset: Callable[[Bench], Nic]) -> None:
    busy(bench)
    check_works(bench, reset(bench))


@pytest.mark.parametrize("reset", WAYS)
def test_the_frame_that_waits_for_the_wire_is_not_sent_after_a_reset(
    bench: Bench, reset: Callable[[Bench], Nic]
) -> None:
    """What was consumed before is in the wire; the next frame, which the backend kept, has gone with its ring."""
    consumed = busy(bench).tx.head
    (pair,) = reset(bench).start(0)
    pair.tx.push(frame(61))
    pair.tx.kick()
    got = [bench.cable.receive() for _ in range(consumed + 1)]
    assert got == [*numbered(700, 200)[:consumed], frame(61)]
    pair.tx.wait_consumed()


@pytest.mark.parametrize("reset", WAYS)
def test_memory_is_left_alone_after_a_reset(bench: Bench, reset: Callable[[Bench], Nic]) -> None:
    """Everything the device could still write is filled with a pattern, and stays so while frames come."""
    pair = busy(bench)
    reset(bench)
    bench.qtest.fill(pair.rx.arena, 64 * pair.rx.stride, 0x5C)
    bench.qtest.fill(pair.rx.completions, 64 * 16, 0x5C)
    bench.qtest.fill(pair.status.address, 128, 0x5C)
    bench.cable.waiting()
    bench.cable.send(*numbered(5))
    bench.cable.wait_taken()
    for address, size in (
        (pair.rx.arena, 64 * pair.rx.stride),
        (pair.rx.completions, 64 * 16),
        (pair.status.address, 128),
    ):
        assert bench.qtest.read(address, size) == b"\x5c" * size


@pytest.mark.parametrize("reset", WAYS)
def test_a_reset_is_quick_to_repeat(bench: Bench, reset: Callable[[Bench], Nic]) -> None:
    for _ in range(10):
        nic = reset(bench)
        (pair,) = nic.start(0)
        pair.tx.send(frame())
        assert bench.cable.receive() == frame()


def test_counters_outlive_a_reset_by_register_and_by_nothing_else(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    pair.tx.send(frame())
    pair.tx.wait_consumed()
    assert by_register(bench).registers.counter("tx_frames") == 1
    assert by_function(bench).registers.counter("tx_frames") == 0
    (pair,) = bench.attach().start(0)
    pair.tx.send(frame())
    pair.tx.wait_consumed()
    assert by_machine(bench).registers.counter("tx_frames") == 0


def test_a_reset_clears_pending_messages_and_the_enable_of_msix(bench: Bench) -> None:
    nic = bench.nic
    (pair,) = nic.start(0)
    vector = nic.queue_vector(0)
    nic.msix.mask(vector, True)
    pair.tx.arm()
    pair.tx.send(frame())
    pair.tx.wait_consumed()
    assert nic.msix.pending(vector)
    bench.pci.function_level_reset()
    places = bench.pci.assign_bars()
    bench.pci.enable()
    assert not Msix(bench.pci, places).pending(vector)
    assert bench.pci.read(nic.msix.offset + MSIX_FLAGS, 2) & MSIX_FLAGS_ENABLE == 0


def test_reset_and_enable_in_one_write_leaves_the_device_reset(bench: Bench) -> None:
    """When the write ends every register has its reset value, CTRL too."""
    bench.nic.start(0)
    bench.nic.registers.put("CTRL", RESET=1, ENABLE=1)
    assert dump(bench.nic) == reset_values()


def test_disabling_the_device_pauses_sending_and_keeps_the_rings(bench: Bench) -> None:
    pair = busy(bench)
    bench.nic.enable(False)
    sent = bench.cable.waiting()
    bench.nic.registers.read("ID")
    sent += bench.cable.waiting()
    head = pair.tx.head
    pair.tx.ring_doorbell()
    assert pair.tx.head == head
    bench.nic.enable()
    sent += bench.cable.collect(700 - len(sent))
    assert sent == numbered(700, 200)
    pair.tx.wait_consumed()
    assert bench.nic.registers.counter("tx_frames") == 700


def test_bus_mastering_off_in_the_middle_of_traffic_stops_all_dma(bench: Bench) -> None:
    pair = busy(bench)
    bench.pci.enable(master=False)
    bench.qtest.fill(pair.status.address, 128, 0x5C)
    bench.cable.waiting()
    bench.cable.send(*numbered(5))
    for _ in range(3):
        bench.cable.waiting()
        bench.nic.registers.read("ID")
    assert bench.qtest.read(pair.status.address, 128) == b"\x5c" * 128
    bench.pci.enable()
    bench.nic.reset()
    check_works(bench, bench.nic)


@pytest.mark.parametrize("queue", range(HW.constants.DEFAULT_QUEUES))
def test_disabling_one_queue_in_the_middle_of_traffic_leaves_the_others(bench: Bench, queue: int) -> None:
    pairs = bench.nic.start(*range(HW.constants.DEFAULT_QUEUES))
    for pair in pairs:
        for one in numbered(40, 100, first=1000 * pair.number):
            pair.tx.push(one)
        pair.tx.ring_doorbell()
    pairs[queue].tx.enable(False)
    wanted = {one for pair in pairs if pair.number != queue for one in numbered(40, 100, first=1000 * pair.number)}
    got: set[bytes] = set()
    while not wanted <= got:
        got.add(bench.cable.receive())
    for pair in pairs:
        if pair.number != queue:
            pair.tx.wait_consumed()


@pytest.mark.parametrize("way", [by_machine, by_function])
def test_a_reset_of_the_function_wakes_it(bench: Bench, way: Callable[[Bench], Nic]) -> None:
    control = bench.pci.capability(CAP_PM) + PM_CONTROL
    bench.pci.write(control, 3, 2)
    assert bench.pci.read(control, 2) & 3 == 3
    way(bench)
    assert bench.pci.read(control, 2) & 3 == 0
