# SPDX-License-Identifier: GPL-2.0-or-later
"""Measurements that have no clock in them: what the plugin counts for each frame.

Starting and ending traffic costs as much for few frames as for many: the counts of a short run are taken from those of
a long one, and what is left belongs to the frames that the long one had more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from labnic.bench.counter import Counts
from labnic.bench.sample import DMA, INSTRUCTIONS, MMIO, NotMeasurableError, Sample
from labnic.bench.stage import Port, Stage
from labnic.bench.traffic import Measure
from labnic.pktgen import Load

SHORT, LONG = 2000, 20000
"""Frames that are sent; the plugin makes the guest several times slower."""

FLOOD_LIMIT = 20.0
"""Seconds within which QEMU must have taken them."""

SLACK = 0.3
"""Seconds of quiet beyond what a long run takes, after either."""

ECHOES, ECHO_PAUSE = 500, 0.0005
"""Round trips, and seconds between two."""

Done = TypeVar("Done")

Run = Callable[[int, float], tuple[int, int, float]]
"""Some frames within some seconds of quiet: gives how many went through, how many were lost, and how long it took."""


def transmit(load: Load) -> Measure:
    """The guest sends."""
    return partial(_transmit, load=load)


def _transmit(stage: Stage, port: Port, load: Load) -> Sample:
    def run(count: int, quiet: float) -> tuple[int, int, float]:
        if port.far:
            port.far.reset(load.length)
        port.pktgen.prepare(*load.senders(count))
        port.pktgen.run_quietly(quiet)
        sent = port.pktgen.collect()
        lost = sent.frames - port.far.arrived(sent.frames).frames if port.far else 0
        return sent.frames, lost, sent.seconds

    return _slope(stage, port, run)


def receive(length: int) -> Measure:
    """The guest is sent frames, as fast as QEMU takes them."""
    return partial(_receive, length=length)


def _receive(stage: Stage, port: Port, length: int) -> Sample:
    if not port.far:
        raise NotMeasurableError("no far end")
    far = port.far

    def run(count: int, quiet: float) -> tuple[int, int, float]:
        begin = stage.settled(port, "rx_packets")
        flood = far.flood(FLOOD_LIMIT, length, count)
        time.sleep(max(quiet - flood.seconds, SLACK))
        frames = stage.settled(port, "rx_packets") - begin
        return frames, flood.sent - frames, flood.seconds

    return _slope(stage, port, run)


def echo() -> Measure:
    """Single small frames go in and come out again."""
    return _echo


def _echo(stage: Stage, port: Port) -> Sample:
    with stage.reflecting(port) as far:
        pings, counts = _counts(stage, port, lambda: far.ping(ECHOES, ECHO_PAUSE))
        done = len(pings.ns) + pings.lost
        return _sample(stage, port, counts, done, pings.lost, pings.bad)


def _counts(stage: Stage, port: Port, action: Callable[[], Done]) -> tuple[Done, Counts]:
    """What the action gives, and what is counted meanwhile; to ask the NIC is work, and must not be."""
    dma = stage.dma(port)
    before = stage.counted(port)
    done = action()
    spent = stage.counted(port) - before
    return done, replace(spent, dma=stage.dma(port) - dma)


def _slope(stage: Stage, port: Port, run: Run) -> Sample:
    """A long run tells how long to be quiet; then a short and a long one, which differ in their frames alone."""
    *_, seconds = run(LONG, SLACK)
    frames, lost, counts = [], 0, []
    for count in (SHORT, LONG):
        (done, missing, _), spent = _counts(stage, port, partial(run, count, seconds * 1.5 + SLACK))
        counts.append(spent)
        frames.append(done)
        lost += missing
    if frames[1] <= frames[0]:
        return Sample(lost=lost)
    return _sample(stage, port, counts[1] - counts[0], frames[1] - frames[0], lost)


def _sample(stage: Stage, port: Port, counts: Counts, frames: int, lost: int, bad: int = 0) -> Sample:
    # A few accesses more or less in a whole run would make a negative number of what is as good as none.
    values = {INSTRUCTIONS.name: max(counts.instructions / frames, 0)}
    if port.nic:
        values[MMIO.name] = max(counts.accesses / frames, 0)
    if counts.dma:
        values[DMA.name] = counts.dma / frames
    profile = stage.symbols.profile(counts.places, frames) if counts.places else {}
    return Sample(values, lost, bad, profile)
