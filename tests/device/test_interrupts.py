# SPDX-License-Identifier: GPL-2.0-or-later
"""MSI-X messages: who gets one, how many, and when none is wanted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labnic.pci import PciAddress, PciDevice
from labnic.registers import COUNT_MASK
from labnic.rings import QueuePair, passed

from .bench import HW, WITH_PEER, Bench, MakeBench, examples
from .frames import frame, numbered

MISC = HW.constants.VECTOR_MISC
QUEUES = range(HW.constants.DEFAULT_QUEUES)
NEVER = COUNT_MASK
"""An event that counts near zero do not pass."""


def queue_interrupts(bench: Bench) -> int:
    """How many interrupts of queue vectors there have been."""
    return bench.nic.registers.counter("irq_queue")


def quiet(pair: QueuePair) -> None:
    """Ask for no interrupt in the lifetime of a test."""
    pair.tx.arm(NEVER)
    pair.rx.arm(NEVER)


def send_burst(bench: Bench, pair: QueuePair, count: int) -> None:
    """Send frames that the device takes up together."""
    for one in numbered(count):
        pair.tx.push(one)
    pair.tx.kick()
    pair.tx.wait_consumed()
    bench.cable.collect(count)


@pytest.mark.parametrize("queue", QUEUES)
def test_a_sent_frame_fires_the_vector_of_its_queue_pair_alone(bench: Bench, queue: int) -> None:
    pairs = bench.nic.start(*QUEUES)
    for pair in pairs:
        quiet(pair)
    pairs[queue].tx.arm()
    pairs[queue].tx.send(frame())
    pairs[queue].tx.wait_consumed()
    fired = [vector for vector in range(bench.nic.msix.vectors) if bench.nic.interrupted(vector)]
    assert fired == [bench.nic.queue_vector(queue)]


@pytest.mark.parametrize("queue", QUEUES)
def test_a_received_frame_fires_the_vector_of_its_queue_pair_alone(bench: Bench, queue: int) -> None:
    nic = bench.nic
    pairs = nic.start(*QUEUES)
    for pair in pairs:
        quiet(pair)
    nic.set_rss(bytes(40), [queue] * HW.constants.RSS_TABLE_SIZE, ["IPV4"])
    pairs[queue].rx.arm()
    header = bytes.fromhex("4500001c000000004011000001020304050607080000000000080000")
    bench.cable.send(frame(12) + b"\x08\x00" + header)
    pairs[queue].rx.receive()
    fired = [vector for vector in range(nic.msix.vectors) if nic.interrupted(vector)]
    assert fired == [nic.queue_vector(queue)]


@pytest.mark.parametrize("event", [*range(8, 20), NEVER])
def test_a_burst_fires_once_if_it_passes_the_event_and_not_otherwise(bench: Bench, event: int) -> None:
    (pair,) = bench.nic.start(0)
    quiet(pair)
    send_burst(bench, pair, 10)
    before = queue_interrupts(bench)
    pair.tx.arm(event)
    send_burst(bench, pair, 8)
    wanted = 10 <= event < 18
    assert queue_interrupts(bench) - before == int(wanted)
    assert bench.nic.interrupted(bench.nic.queue_vector(0)) == wanted


def test_a_vector_is_silent_until_the_driver_moves_the_event(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    quiet(pair)
    pair.tx.arm()
    for _ in range(10):
        send_burst(bench, pair, 3)
    assert queue_interrupts(bench) == 1
    pair.tx.arm()
    for _ in range(10):
        send_burst(bench, pair, 3)
    assert queue_interrupts(bench) == 2


def test_arming_after_each_frame_gives_an_interrupt_for_each(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    quiet(pair)
    for count in range(1, 41):
        pair.rx.arm()
        bench.cable.send(frame(60, seed=count))
        pair.rx.receive()
        pair.rx.fill()
        assert bench.nic.interrupted(bench.nic.queue_vector(0))
    assert queue_interrupts(bench) == 40


def test_a_moderating_driver_gets_an_interrupt_for_so_many_frames(bench: Bench) -> None:
    """An event four completions ahead: one interrupt for each five frames, not one for each."""
    (pair,) = bench.nic.start(0)
    quiet(pair)
    for number in range(50):
        if number % 5 == 0:
            pair.rx.arm(number + 4)
        bench.cable.send(frame(60, seed=number))
        pair.rx.receive()
        pair.rx.fill()
        assert queue_interrupts(bench) == (number + 1) // 5


def test_a_completion_before_arming_is_found_by_looking_again(bench: Bench) -> None:
    """The race of every driver: what came before the event was written makes no interrupt, but is there to see."""
    (pair,) = bench.nic.start(0)
    quiet(pair)
    assert pair.rx.collect() == []
    bench.cable.send(frame())
    bench.qtest.readl(pair.status.address)
    while not pair.rx.head:
        bench.qtest.readl(pair.status.address)
    pair.rx.arm(0)
    assert queue_interrupts(bench) == 0
    assert len(pair.rx.collect()) == 1
    pair.rx.arm()
    bench.cable.send(frame())
    pair.rx.receive()
    assert queue_interrupts(bench) == 1


@examples(30)
@given(steps=st.lists(st.sampled_from(["send", "burst", "arm", "arm late", "arm ahead"]), min_size=5, max_size=40))
def test_interrupts_are_exactly_those_that_the_rule_gives(bench: Bench, steps: list[str]) -> None:
    """Any order of sending and arming: each passed event is one interrupt, and there are no others."""
    pair = bench.nic.queue_pair(0).start()
    bench.nic.enable()
    quiet(pair)
    event, expected, before = NEVER, 0, queue_interrupts(bench)
    for step in steps:
        old = pair.tx.published
        if step.startswith("arm"):
            event = old + {"arm": 0, "arm late": -1, "arm ahead": 3}[step] & COUNT_MASK
            pair.tx.arm(event)
            continue
        send_burst(bench, pair, 1 if step == "send" else 5)
        expected += passed(event, old, pair.tx.published)
    assert queue_interrupts(bench) - before == expected
    pair.stop()
    bench.memory.rewind()


def test_each_interrupt_is_one_message(make_bench: MakeBench) -> None:
    """The vector of one labnic points at a doorbell of another, whose counter then counts the messages on the bus."""
    bench = make_bench(WITH_PEER)
    peer = bench.drive(PciDevice(bench.bus, PciAddress(0, 5)))
    (pair,) = bench.nic.start(0)
    quiet(pair)
    bench.nic.msix.program(bench.nic.queue_vector(0), peer.registers.address("TX_DOORBELL", 0), 0)
    for count in range(1, 26):
        pair.tx.arm()
        send_burst(bench, pair, 3)
        assert peer.registers.counter("tx_doorbells") == count
    assert queue_interrupts(bench) == 25


def test_a_masked_vector_keeps_its_message_until_it_is_unmasked(bench: Bench) -> None:
    nic = bench.nic
    (pair,) = nic.start(0)
    quiet(pair)
    vector = nic.queue_vector(0)
    nic.msix.mask(vector, True)
    for _ in range(3):
        pair.tx.arm()
        send_burst(bench, pair, 1)
    assert nic.msix.pending(vector)
    assert not nic.interrupted(vector)
    nic.msix.mask(vector, False)
    assert nic.interrupted(vector)
    assert not nic.msix.pending(vector)


def test_the_function_mask_keeps_the_messages_of_all_vectors(bench: Bench) -> None:
    nic = bench.nic
    pairs = nic.start(0, 1)
    nic.msix.enable(mask_all=True)
    for pair in pairs:
        quiet(pair)
        pair.tx.arm()
        send_burst(bench, pair, 1)
    vectors = [nic.queue_vector(pair.number) for pair in pairs]
    assert [nic.msix.pending(vector) for vector in vectors] == [True, True]
    assert not any(nic.interrupted(vector) for vector in vectors)
    nic.msix.enable()
    assert all(nic.interrupted(vector) for vector in vectors)


def test_without_msix_the_device_works_and_sends_no_message(bench: Bench) -> None:
    nic = bench.nic
    nic.msix.enable(False)
    (pair,) = nic.start(0)
    pair.tx.arm()
    send_burst(bench, pair, 5)
    bench.cable.send(frame())
    assert pair.rx.receive()[0].data == frame()
    assert not any(nic.interrupted(vector) for vector in range(nic.msix.vectors))


def test_the_misc_vector_fires_when_an_enabled_cause_appears_and_not_again(bench: Bench) -> None:
    nic = bench.nic
    nic.registers.put("MISC_ENABLE", LINK=1)
    bench.qmp.set_link("nic0", False)
    assert nic.interrupted(MISC)
    bench.qmp.set_link("nic0", True)
    assert not nic.interrupted(MISC), "the cause was still set"
    nic.registers.put("MISC_CAUSE", LINK=1)
    bench.qmp.set_link("nic0", False)
    assert nic.interrupted(MISC)
    assert nic.registers.counter("irq_misc") == 2


def test_a_cause_that_is_not_enabled_is_shown_and_fires_nothing(bench: Bench) -> None:
    bench.qmp.set_link("nic0", False)
    assert bench.nic.registers.field("MISC_CAUSE", "LINK") == 1
    assert not bench.nic.interrupted(MISC)
    assert bench.nic.registers.counter("irq_misc") == 0


def test_enabling_a_cause_that_is_there_fires_at_once(bench: Bench) -> None:
    bench.qmp.set_link("nic0", False)
    bench.nic.registers.put("MISC_ENABLE", LINK=1)
    assert bench.nic.interrupted(MISC)
    bench.nic.registers.put("MISC_ENABLE", LINK=1)
    assert not bench.nic.interrupted(MISC)


def test_a_failing_queue_fires_the_misc_vector(bench: Bench) -> None:
    nic = bench.nic
    nic.registers.put("MISC_ENABLE", QUEUE_ERROR=1)
    nic.registers.put("TX_CTRL", 3, ENABLE=1)
    assert nic.interrupted(MISC)
    assert nic.registers.field("QUEUE_ERRORS", "TX") == 1 << 3
    nic.registers.put("RX_CTRL", 2, ENABLE=1)
    assert not nic.interrupted(MISC)
    assert nic.registers.field("QUEUE_ERRORS", "RX") == 1 << 2
