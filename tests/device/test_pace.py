# SPDX-License-Identifier: GPL-2.0-or-later
"""One doorbell for several lone frames that come one soon after the other, on a clock that the test steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from labnic.rings import QueuePair

from .bench import Bench, MakeBench
from .frames import frame, numbered
from .test_migration import SMALL, load, save

RUN = 32
"""Frames after which the device knows of a succession that began at any of its doorbells."""
STEP = 10_000
"""Nanoseconds between two frames of a succession."""
STRIDE = 6
"""Frames that come in the 64 us from one doorbell to the next."""
END = 128_000
"""Nanoseconds after the last doorbell, or its last look, until the device looks by itself."""


def send(bench: Bench, pair: QueuePair, count: int, step: int = STEP) -> list[bool]:
    """Have the driver publish frames, some time before each; whether each has rung. What was rung for is sent."""
    rung = []
    for one in numbered(count):
        bench.qtest.clock_step(step)
        pair.tx.push(one)
        rung.append(pair.tx.kick())
        if rung[-1]:
            pair.tx.wait_consumed()
    return rung


def paced(bench: Bench, **sizes: int) -> QueuePair:
    """A queue whose driver has sent a succession and has just rung."""
    pair = bench.nic.start(0, **sizes)[0]
    send(bench, pair, RUN)
    while not send(bench, pair, 1)[0]:
        pass
    bench.cable.waiting()
    return pair


def test_frames_in_succession_ring_once_for_those_of_some_time(stepped: Bench) -> None:
    pair = paced(stepped)
    assert send(stepped, pair, 4 * STRIDE) == 4 * [*(STRIDE - 1) * [False], True]
    assert stepped.cable.collect(4 * STRIDE) == numbered(4 * STRIDE)


def test_frames_further_apart_ring_each(stepped: Bench) -> None:
    (pair,) = stepped.nic.start(0)
    assert all(send(stepped, pair, 3 * RUN, step=20_000))


def test_long_frames_are_no_succession_for_their_descriptors(stepped: Bench) -> None:
    (pair,) = stepped.nic.start(0)
    for number in range(3 * RUN):
        stepped.qtest.clock_step(30_000)
        pair.tx.push(frame(160), range(20, 160, 20))
        assert pair.tx.kick(), f"frame {number}"
        pair.tx.wait_consumed()
        stepped.cable.waiting()


def test_a_few_frames_at_once_are_no_succession(stepped: Bench) -> None:
    (pair,) = stepped.nic.start(0)
    for _ in range(8):
        assert all(send(stepped, pair, 10, step=100))
        stepped.qtest.clock_step(1_000_000)


def test_what_does_not_ring_is_sent_without(stepped: Bench) -> None:
    pair = paced(stepped)
    assert send(stepped, pair, STRIDE - 1) == (STRIDE - 1) * [False]
    assert not stepped.cable.waiting()
    stepped.qtest.clock_step(END)
    assert stepped.cable.collect(STRIDE - 1) == numbered(STRIDE - 1)
    pair.tx.wait_consumed()


def test_a_succession_that_pauses_keeps_its_pace(stepped: Bench) -> None:
    pair = paced(stepped)
    send(stepped, pair, STRIDE - 1)
    stepped.qtest.clock_step(END)
    pair.tx.wait_consumed()
    assert send(stepped, pair, STRIDE) == [*(STRIDE - 1) * [False], True]


def test_a_succession_that_has_ended_is_over(stepped: Bench) -> None:
    pair = paced(stepped)
    stepped.qtest.clock_step(END)
    assert send(stepped, pair, 3, step=100) == [True, True, True]
    assert stepped.cable.collect(3) == numbered(3)


def test_a_quarter_of_a_ring_is_the_most_that_one_doorbell_is_for(stepped: Bench) -> None:
    (pair,) = stepped.nic.start(0, tx_size=64)
    rung = []
    for _ in range(4):
        rung += send(stepped, pair, RUN, step=100)
        stepped.cable.waiting()
    assert max(len(quiet) for quiet in "".join("x" if one else "." for one in rung).split("x")) == 64 // 4 - 1


def test_a_doorbell_that_was_not_asked_for_is_answered(stepped: Bench) -> None:
    """Also when the event stays where it is: the head has gone ahead by one, and the pace is slower by one."""
    pair = paced(stepped)
    stepped.qtest.clock_step(64_000 // (STRIDE - 1))
    pair.tx.push(frame())
    before = pair.status.word("TX_DOORBELL_EVENT")
    pair.tx.ring_doorbell()
    pair.tx.wait_consumed()
    assert pair.status.word("TX_DOORBELL_EVENT") == before


def test_one_queues_end_leaves_another_its_pace(stepped: Bench) -> None:
    one, other = stepped.nic.start(0, 1)
    for _ in range(2 * RUN):
        send(stepped, one, 1, STEP // 2)
        rung = send(stepped, other, 1, STEP // 2)
    while not rung[0]:
        send(stepped, one, 1, STEP // 2)
        rung = send(stepped, other, 1, STEP // 2)
    for _ in range(3):
        assert send(stepped, other, STRIDE) == [*(STRIDE - 1) * [False], True]
    one.tx.wait_consumed()
    assert send(stepped, one, 1) == [True]


def test_a_sender_that_changes_its_queue_keeps_its_order(stepped: Bench) -> None:
    pair = paced(stepped)
    other = stepped.nic.queue_pair(1).start()
    send(stepped, pair, STRIDE - 1)
    other.tx.push(frame(99))
    assert other.tx.kick()
    assert stepped.cable.collect(STRIDE) == [*numbered(STRIDE - 1), frame(99)]


@pytest.mark.parametrize("how", ["disable", "reset"])
def test_a_queue_that_begins_anew_has_no_pace(stepped: Bench, how: str) -> None:
    pair = paced(stepped)
    send(stepped, pair, STRIDE - 1)
    if how == "disable":
        pair.stop()
    else:
        stepped.nic.reset()
        stepped.nic.enable()
    pair.start()
    assert send(stepped, pair, 2) == [True, True]
    stepped.qtest.clock_step(END)
    assert stepped.cable.collect(2) == numbered(2)
    assert not stepped.cable.waiting()


def test_a_device_that_hung_at_the_end_sends_when_it_goes_on(stepped: Bench) -> None:
    pair = paced(stepped)
    send(stepped, pair, STRIDE - 1)
    stepped.faults.set("hang")
    stepped.qtest.clock_step(2 * END)
    assert not stepped.cable.waiting()
    stepped.faults.clear()
    assert stepped.cable.collect(STRIDE - 1) == numbered(STRIDE - 1)
    pair.tx.wait_consumed()
    assert send(stepped, pair, 1) == [True]


def test_what_has_not_rung_when_the_machine_moves_is_sent_at_its_new_place(
    make_stepped: MakeBench, make_bench: MakeBench, tmp_path: Path
) -> None:
    bench = make_stepped(SMALL)
    pair = paced(bench)
    send(bench, pair, STRIDE - 1)
    target = load(make_bench, save(bench, tmp_path / "state"))
    bench.qtest.follow(target.qtest)
    assert target.cable.collect(STRIDE - 1) == numbered(STRIDE - 1)
    pair.tx.wait_consumed()
    pair.tx.push(frame())
    assert pair.tx.kick()


def test_it_can_be_switched_off(make_stepped: MakeBench) -> None:
    bench = make_stepped(pacing="off")
    (pair,) = bench.nic.start(0)
    assert all(send(bench, pair, 4 * RUN))
