# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of the table: what is measured, and in which kind of VM."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from labnic.bench import counted, start, tcp, traffic
from labnic.bench.stage import SETTINGS, Setting
from labnic.errors import UsageError
from labnic.pktgen import Load


@dataclass(frozen=True)
class Row:
    """One measurement of every contender; ``sends`` when the ceiling can do it, too.

    ``measure`` works on a running VM; a row whose setting gives each NIC its own has ``whole`` instead.  ``repeats`` is
    how often it is taken in each round.
    """

    name: str
    title: str
    setting: Setting
    measure: traffic.Measure | None = None
    sends: bool = False
    whole: start.Whole | None = None
    repeats: int = 1


LENGTHS, BURSTS, QUEUES = (60, 1500), (1, 16), (1, 2, 4)


def _tx() -> Iterator[Row]:
    for backend in ("dgram", "none"):
        for length in LENGTHS:
            for burst in BURSTS:
                name = f"tx-{length}-b{burst}-{backend}"
                title = f"TX {length} B, burst {burst}, {_words(backend)}"
                yield Row(name, title, SETTINGS[backend], traffic.transmit(Load(length, burst)), sends=True)


def _queues() -> Iterator[Row]:
    for backend in ("dgram", "none"):
        for burst in BURSTS:
            for queues in QUEUES:
                name = f"tx-60-b{burst}-{backend}-q{queues}"
                title = f"TX 60 B, burst {burst}, {_words(backend)}, {queues} of 4 queues"
                measure = traffic.transmit(Load(60, burst, queues))
                yield Row(name, title, SETTINGS[f"{backend}-4cpu"], measure)


def _words(backend: str) -> str:
    return "no backend" if backend == "none" else backend


def _others() -> Iterator[Row]:
    dgram = SETTINGS["dgram"]
    for length in LENGTHS:
        yield Row(f"rx-{length}", f"RX {length} B, saturated, dgram", dgram, traffic.receive(length))
    yield Row("both-60", "both ways 60 B, burst 16, dgram, sum", dgram, traffic.both(Load(60, 16)))
    yield Row("rtt-idle", "round trip 60 B, idle, dgram", dgram, traffic.round_trip(0))
    yield Row(
        "rtt-load",
        f"round trip 60 B beside {traffic.PING_LOAD} frames/s, dgram",
        dgram,
        traffic.round_trip(traffic.PING_LOAD),
    )


def _counted() -> Iterator[Row]:
    setting = SETTINGS["counted"]
    for burst in BURSTS:
        title = f"counted: TX 60 B, burst {burst}, dgram"
        yield Row(f"count-tx-b{burst}", title, setting, counted.transmit(Load(60, burst)), sends=True)
    yield Row("count-rx", "counted: RX 60 B, saturated, dgram", setting, counted.receive(60))
    yield Row("count-echo", "counted: one frame of 60 B in and out again, dgram", setting, counted.echo())


TCP_REPEATS = 3
"""Single transfers of one NIC spread by a factor of two on two cores, which share out guest, QEMU and host anew."""


def _tcp() -> Iterator[Row]:
    for backend in ("tap", "user"):
        for out in (True, False):
            for offloads in (True, False):
                name = f"tcp-{'out' if out else 'in'}-{'on' if offloads else 'off'}-{backend}"
                way = "guest to host" if out else "host to guest"
                title = f"TCP {way}, offloads {'on' if offloads else 'off'}, {backend}"
                measure = tcp.transfer(out=out, offloads=offloads)
                yield Row(name, title, SETTINGS[backend], measure, repeats=TCP_REPEATS)
    pairs = (("pair", "from NIC to NIC in one guest", "hub"), ("two", "between two guests", "guests"))
    for name, words, backend in pairs:
        for offloads in (True, False):
            word = "on" if offloads else "off"
            title = f"TCP {words}, offloads {word}"
            measure = tcp.between_nics(offloads=offloads)
            yield Row(f"tcp-{name}-{word}-{backend}", title, SETTINGS[backend], measure, repeats=TCP_REPEATS)


_STARTS = (
    Row("start", "a VM with this NIC alone", SETTINGS["alone"], whole=start.start),
    Row("edit", "an edit of the sources", SETTINGS["alone"], whole=start.edit),
)

ROWS = (*_tx(), *_others(), *_tcp(), *_queues(), *_counted(), *_STARTS)


def choose(patterns: Sequence[str]) -> tuple[Row, ...]:
    """The rows whose names match one of the patterns (``tx-60-*``), in the usual order; all of them without patterns.

    Raises `UsageError` for a pattern that matches none.
    """
    names = [row.name for row in ROWS]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(f"there is no row {pattern!r}", hint=f"rows: {', '.join(names)}")
    return tuple(row for row in ROWS if not patterns or any(fnmatchcase(row.name, each) for each in patterns))
