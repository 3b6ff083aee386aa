# SPDX-License-Identifier: GPL-2.0-or-later
"""Interrupts that are held back: for how long, until how many, and when they do not come at all.

The machine's clock runs. A test that says "not yet" of a time that has passed meanwhile, because something else kept
the machine busy, has learnt nothing, and is done again. The last test has each moment exact, on a clock that it steps.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labnic.qtest import wait_until
from labnic.registers import COUNT_MASK
from labnic.rings import QueuePair, RxQueue, TxQueue, distance, passed

from .bench import Bench, MakeBench, examples
from .frames import frame
from .test_migration import SMALL, load, save

HOLD = 60_000
"""Microseconds, near to the most that the word holds."""
SECONDS = HOLD / 1e6
TRIES = 20
NEVER = COUNT_MASK


class TooSlowError(Exception):
    """The time was over before the test could look."""


class Line:
    """One queue pair and the interrupts of its vector, which has been silent for long. Nothing is asked for yet."""

    def __init__(self, bench: Bench, pair: QueuePair) -> None:
        self.bench = bench
        self.nic = bench.nic
        self.pair = pair
        self.restart()

    def restart(self) -> None:
        """Begin anew, as if nothing had been."""
        self.pair.stop()
        self.pair.start()
        self.pair.rx.fill()
        for queue in (self.pair.tx, self.pair.rx):
            queue.arm(NEVER)
            queue.hold(0)
        self.bench.cable.waiting()
        time.sleep(SECONDS)
        self._seen = self.nic.registers.counter("irq_queue")
        self._begun = time.monotonic()

    def fired(self) -> int:
        """Interrupts since the last call."""
        before, self._seen = self._seen, self.nic.registers.counter("irq_queue")
        return self._seen - before

    def at_once(self) -> None:
        """One interrupt has come, and a time begins."""
        assert self.fired() == 1

    def not_yet(self) -> None:
        """None has come; raises :class:`TooSlowError` when the time is over."""
        count = self.fired()
        if count and time.monotonic() >= self._begun + SECONDS:
            raise TooSlowError
        assert count == 0

    def comes(self) -> None:
        """One comes when the time is over, and no other follows."""
        before = self._seen
        wait_until(lambda: self.nic.registers.counter("irq_queue") != before, "the interrupt that is held")
        self.never()
        assert self._seen - before == 1

    def never(self) -> None:
        """None comes however long one waits."""
        before = self.nic.registers.counter("irq_queue")
        time.sleep(2 * SECONDS)
        assert self.nic.registers.counter("irq_queue") == before
        self._seen = before

    def send(self, count: int = 1) -> None:
        """Have the device send frames, one after the other."""
        for _ in range(count):
            self.pair.tx.send(frame())
            self.pair.tx.wait_consumed()
        self.bench.cable.collect(count)

    def receive(self, count: int = 1) -> None:
        """Have the device receive frames, one after the other; the driver takes them."""
        for _ in range(count):
            self.bench.cable.send(frame())
            self.pair.rx.receive()
            self.pair.rx.fill()


@pytest.fixture
def line(bench: Bench) -> Line:
    """Queue pair 0 of a driver that has accepted moderation."""
    bench.nic.accept("MODERATION")
    return Line(bench, bench.nic.start(0)[0])


def repeated_when_too_slow(test: Callable[..., None]) -> Callable[..., None]:
    """Do the test again, some times, when it was too slow."""

    @functools.wraps(test)
    def wrapper(line: Line, **rest: Any) -> None:
        for _ in range(TRIES):
            try:
                return test(line, **rest)
            except TooSlowError:
                line.restart()
        pytest.fail(f"{TRIES} times more than {SECONDS:g} s passed between two steps of the test")

    return wrapper


def sending(line: Line) -> tuple[TxQueue, Callable[..., None]]:
    """The direction of TX: its queue and what moves its count."""
    return line.pair.tx, line.send


def receiving(line: Line) -> tuple[RxQueue, Callable[..., None]]:
    """The direction of RX."""
    return line.pair.rx, line.receive


both_ways: Any = pytest.mark.parametrize("way", [sending, receiving])


def held(line: Line, way: Any, frames: int = 1, *, most: int = 0) -> tuple[TxQueue | RxQueue, Callable[..., None]]:
    """An interrupt has come at once, and frames after it wait for the time to be over, or to be so many."""
    queue, move = way(line)
    queue.hold(HOLD, most)
    queue.arm()
    move()
    line.at_once()
    queue.arm()
    move(frames)
    return queue, move


@both_ways
@repeated_when_too_slow
def test_after_silence_an_interrupt_comes_at_once_and_the_next_when_the_time_is_over(line: Line, way: Any) -> None:
    held(line, way)
    line.not_yet()
    line.comes()


@both_ways
@repeated_when_too_slow
def test_many_frames_within_the_time_make_one_interrupt(line: Line, way: Any) -> None:
    held(line, way, 10)
    line.not_yet()
    line.comes()


@both_ways
@pytest.mark.parametrize("count", [1, 2, 7])
@repeated_when_too_slow
def test_so_many_beyond_the_event_end_the_wait(line: Line, way: Any, count: int) -> None:
    _, move = held(line, way, count - 1, most=count)
    line.not_yet()
    move()
    line.at_once()
    line.never()


@both_ways
@repeated_when_too_slow
def test_no_interrupt_comes_for_what_the_driver_has_taken_meanwhile(line: Line, way: Any) -> None:
    queue, move = held(line, way, 3)
    queue.arm()
    line.not_yet()
    line.never()
    move()
    line.at_once()


@both_ways
@repeated_when_too_slow
def test_what_comes_after_that_is_held_by_itself(line: Line, way: Any) -> None:
    """The driver has come by itself, and the next frame finds the wish anew, within the same time."""
    queue, move = held(line, way, 3)
    queue.arm()
    move()
    line.not_yet()
    line.comes()


@both_ways
def test_an_event_that_is_not_passed_holds_nothing(line: Line, way: Any) -> None:
    queue, move = way(line)
    queue.hold(HOLD)
    queue.arm(5)
    move(5)
    line.never()
    move()
    line.at_once()


@both_ways
def test_without_a_time_each_interrupt_comes_at_once(line: Line, way: Any) -> None:
    queue, move = way(line)
    queue.hold(0, 30)
    for _ in range(5):
        queue.arm()
        move()
        line.at_once()


@both_ways
def test_a_driver_that_did_not_accept_moderation_is_not_held(line: Line, way: Any) -> None:
    line.nic.accept()
    queue, move = way(line)
    queue.hold(HOLD)
    for _ in range(5):
        queue.arm()
        move()
        line.at_once()


@repeated_when_too_slow
def test_a_frame_that_may_not_wait_takes_the_other_direction_with_it(line: Line) -> None:
    held(line, sending)
    line.not_yet()
    line.pair.rx.arm()
    line.receive()
    line.at_once()
    line.never()


def test_each_queue_pair_waits_by_itself(bench: Bench) -> None:
    nic = bench.nic
    nic.accept("MODERATION")
    one, other = (Line(bench, pair) for pair in nic.start(0, 1))
    one.pair.tx.hold(HOLD)
    other.pair.tx.hold(0)
    for _ in range(2):
        one.pair.tx.arm()
        one.send()
    assert nic.interrupted(nic.queue_vector(0))
    for _ in range(3):
        other.pair.tx.arm()
        other.send()
        assert nic.interrupted(nic.queue_vector(1))
    wait_until(lambda: nic.interrupted(nic.queue_vector(0)), "the interrupt that is held")


@both_ways
@pytest.mark.parametrize("how", ["disable", "reset"])
@repeated_when_too_slow
def test_a_queue_that_is_stopped_sends_no_interrupt_any_more(line: Line, way: Any, how: str) -> None:
    queue, _ = held(line, way)
    if how == "disable":
        queue.enable(False)
    else:
        line.nic.reset()
    line.not_yet()
    line.never()


@repeated_when_too_slow
def test_a_device_that_hung_sends_what_it_held_when_it_goes_on(line: Line) -> None:
    vector = line.nic.queue_vector(0)
    held(line, receiving)
    line.not_yet()
    assert line.nic.interrupted(vector)
    line.bench.faults.set("hang")
    time.sleep(2 * SECONDS)
    assert not line.nic.interrupted(vector)
    line.bench.faults.clear()
    wait_until(lambda: line.nic.interrupted(vector), "the interrupt that is held")


@both_ways
def test_what_is_held_when_the_machine_moves_comes_at_its_new_place(
    make_bench: MakeBench, way: Any, tmp_path: Path
) -> None:
    bench = make_bench(SMALL)
    bench.nic.accept("MODERATION")
    line = Line(bench, bench.nic.start(0)[0])
    vector = bench.nic.queue_vector(0)
    queue, move = way(line)
    queue.hold(HOLD)
    for _ in range(TRIES):
        queue.arm()
        move()
        bench.nic.interrupted(vector)
        queue.arm()
        move()
        bench.qmp.execute("stop")
        if not bench.nic.interrupted(vector):
            break
        bench.qmp.execute("cont")
    else:
        pytest.fail(f"{TRIES} times the machine did not stop within {SECONDS:g} s")
    target = load(make_bench, save(bench, tmp_path / "state"), "paused")
    bench.qtest.follow(target.qtest)
    assert not bench.nic.interrupted(vector)
    target.qmp.execute("cont")
    wait_until(lambda: bench.nic.interrupted(vector), "the interrupt that is held")


def test_the_feature_can_be_taken_away(make_bench: MakeBench) -> None:
    nic = make_bench(moderation="off").nic
    nic.accept("MODERATION")
    assert nic.registers.field("DRV_FEATURES", "MODERATION") == 0


class Model:
    """The rule, for TX: what the map says of a held interrupt, in its words. Times are in microseconds."""

    def __init__(self) -> None:
        self.now, self.last = 0, -HOLD
        self.count, self.event = 0, NEVER
        self.usecs, self.most = 0, 0
        self.due: int | None = None
        self.fired = 0

    def beyond(self) -> bool:
        """Whether the count has passed the event at some time."""
        return 0 < distance(self.event, self.count) < 1 << 31

    def fire(self) -> None:
        """An interrupt."""
        self.fired += 1
        self.last, self.due = self.now, None

    def send(self) -> None:
        """One frame more."""
        asked = passed(self.event, self.count, self.count + 1)
        self.count += 1
        if self.due is not None and not self.beyond():
            self.due = None
        elif self.due is not None or asked:
            if (self.most and distance(self.event, self.count) >= self.most) or self.now >= self.last + self.usecs:
                self.fire()
            else:
                self.due = min(self.due or self.last + self.usecs, self.last + self.usecs)

    def wait(self, usecs: int) -> None:
        """The time goes on."""
        end = self.now + usecs
        if self.due is not None and self.due <= end:
            self.now, self.due = max(self.now, self.due), None
            if self.beyond():
                self.fire()
        self.now = end


Step = tuple[str, int, int]
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("send"), st.just(0), st.just(0)),
    st.tuples(st.just("arm"), st.integers(-2, 4), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 500), st.just(0)),
    st.tuples(st.just("hold"), st.sampled_from([0, 50, 200, 400]), st.integers(0, 5)),
)


def follow(line: Line, model: Model, step: Step) -> None:
    """Do one step to the device and to the model."""
    what, first, second = step
    if what == "send":
        line.send()
        model.send()
    elif what == "arm":
        model.event = model.count + first & COUNT_MASK
        line.pair.tx.arm(model.event)
    elif what == "hold":
        model.usecs, model.most = first, second
        line.pair.tx.hold(first, second)
    else:
        line.bench.qtest.clock_step(first * 1000)
        model.wait(first)


@examples(60)
@given(steps=st.lists(STEPS, min_size=10, max_size=60))
def test_any_order_of_steps_gives_the_interrupts_of_the_rule(stepped: Bench, steps: list[Step]) -> None:
    stepped.nic.accept("MODERATION")
    pair = stepped.nic.queue_pair(0).start()
    stepped.nic.enable()
    stepped.qtest.clock_step(HOLD * 1000)
    line, model = Line(stepped, pair), Model()
    for step in steps:
        follow(line, model, step)
        assert line.fired() == model.fired, step
        model.fired = 0
    pair.stop()
    stepped.memory.rewind()
