# SPDX-License-Identifier: GPL-2.0-or-later
"""The measurements: each puts traffic on one contender and gives a `Sample`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from labnic.bench.sample import MEDIAN, P99, RATE, NotMeasurableError, Sample
from labnic.bench.stage import Port, Stage
from labnic.bench.stats import percentile
from labnic.command import backoff
from labnic.errors import CommandTimeoutError
from labnic.pktgen import Load

Measure = Callable[[Stage, Port], Sample]

TRIAL_FRAMES = 2000
"""Frames of the first run, on each queue: tells how many make a measurement, and lets TCG translate the code."""

FRAMES_MAX = 5_000_000

WARM_UP = 0.2
"""Seconds of the first flood."""

PINGS, PING_PAUSE = 300, 0.001
"""Round trips of a measurement, and seconds between two: long enough for the guest to become idle."""

PING_LOAD = 5000
"""Frames a second that the guest receives beside the pings, so many that no NIC here is near its end."""


def transmit(load: Load) -> Measure:
    """The guest sends."""
    return partial(_transmit, load=load)


def _transmit(stage: Stage, port: Port, load: Load) -> Sample:
    if load.queues > port.tx_queues:
        raise NotMeasurableError(f"{port.tx_queues} queue{'s' * (port.tx_queues > 1)}")
    if load not in port.rates:
        _send(stage, port, load, TRIAL_FRAMES)
    per_queue = port.rates[load] * stage.seconds / load.queues
    return _send(stage, port, load, max(TRIAL_FRAMES, min(int(per_queue), FRAMES_MAX)))


def _send(stage: Stage, port: Port, load: Load, count: int) -> Sample:
    if port.far:
        port.far.reset(load.length)
    port.pktgen.prepare(*load.senders(count))
    before = stage.cost(port)
    port.pktgen.run()
    after = stage.cost(port, last=True)
    sent = port.pktgen.collect()
    port.rates[load] = sent.rate
    lost, bad = _arrived(port, sent.frames)
    costs = after.since(before, sent.frames) if port.nic else {}
    # A NIC that throws frames away is not faster for that.
    return Sample({RATE.name: (sent.frames - lost) / sent.seconds / 1e3, **costs}, lost + sent.errors, bad)


def _arrived(port: Port, frames: int) -> tuple[int, int]:
    """Frames that did not arrive at the far end, and those that did with wrong bytes or too late."""
    if not port.far:
        return 0, 0
    counts = port.far.arrived(frames)
    return frames - counts.frames, counts.bad + counts.disorder


def receive(length: int) -> Measure:
    """The guest is sent frames that nobody in it wants, as fast as QEMU takes them."""
    return partial(_receive, length=length)


def _receive(stage: Stage, port: Port, length: int) -> Sample:
    if not port.far:
        raise NotMeasurableError("no far end")
    key = ("receive", length)
    if key not in port.rates:
        port.far.flood(WARM_UP, length)
    begin = stage.settled(port, "rx_packets")
    before = stage.cost(port)
    flood = port.far.flood(stage.seconds, length)
    after = stage.cost(port, last=True)
    frames = stage.settled(port, "rx_packets") - begin
    port.rates[key] = frames / flood.seconds
    values = {RATE.name: frames / flood.seconds / 1e3, **after.since(before, max(frames, 1))}
    return Sample(values, flood.sent - frames)


def both(load: Load) -> Measure:
    """Both at once; the rate is the sum."""
    return partial(_both, load=load)


def _both(stage: Stage, port: Port, load: Load) -> Sample:
    if not port.far:
        raise NotMeasurableError("no far end")
    port.far.reset(load.length)
    port.pktgen.prepare(*load.senders(0))
    begin = stage.settled(port, "rx_packets")
    with port.pktgen.running():
        _wait_first(port)
        flood = port.far.flood(stage.seconds, load.length)
    sent = port.pktgen.collect()
    frames = stage.settled(port, "rx_packets") - begin
    lost, bad = _arrived(port, sent.frames)
    return Sample({RATE.name: (frames + flood.received) / flood.seconds / 1e3}, flood.sent - frames + lost, bad)


def _wait_first(port: Port) -> None:
    assert port.far
    for _ in backoff(10.0):
        if port.far.count().frames:
            return
    raise CommandTimeoutError(f"pktgen sends nothing on {port.contender.name}")


def round_trip(load: int) -> Measure:
    """A small frame goes in and comes out again."""
    return partial(_round_trip, load=load)


def _round_trip(stage: Stage, port: Port, load: int) -> Sample:
    if not port.far:
        raise NotMeasurableError("no far end")
    with stage.reflecting(port) as far:
        port.far.reset(60)
        time.sleep(WARM_UP)
        pings = far.ping(PINGS, PING_PAUSE, load)
    if not pings.ns:
        return Sample({}, pings.lost, pings.bad)
    us = [value / 1e3 for value in pings.ns]
    return Sample({MEDIAN.name: percentile(us, 50), P99.name: percentile(us, 99)}, pings.lost, pings.bad)
