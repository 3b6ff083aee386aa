# SPDX-License-Identifier: GPL-2.0-or-later
"""What moved between two runs, once the machine's own change of speed is taken out."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from labnic.bench.contenders import OURS
from labnic.bench.result import Line, Result
from labnic.bench.stats import Quantity, moved

WITNESSES = 2
"""Others that a line needs for the machine's speed to be told from them."""


@dataclass(frozen=True)
class Move:
    """A median that is now ``factor`` times what it was on a machine of the same speed."""

    row: str
    quantity: Quantity
    contender: str
    before: float
    after: float
    factor: float

    @property
    def better(self) -> bool:
        """Whether that is good."""
        return (self.factor > 1) == (self.quantity.better == "more")

    def __str__(self) -> str:
        word = "better" if self.better else "worse"
        return (
            f"{self.row}: {self.contender}: {self.quantity.name} {self.before:.4g} -> {self.after:.4g} "
            f"{self.quantity.unit} ({self.factor:.2f} times, {word})"
        )


def moves(old: Result, new: Result) -> Iterator[Move]:
    """Everything that moved beyond the noise in the lines that both runs have."""
    before = {(line.row, line.quantity.name): line for line in old.lines()}
    for line in new.lines():
        if then := before.get((line.row, line.quantity.name)):
            yield from _of_line(then, line)


def _of_line(then: Line, now: Line) -> Iterator[Move]:
    factor = speed(then, now)
    for name, after in now.summaries.items():
        if name not in then.summaries:
            continue
        change = moved(then.summaries[name], after, factor)
        if change is not None:
            yield Move(now.row, now.quantity, name, then.summaries[name].median, after.median, change)


def speed(then: Line, now: Line) -> float:
    """How the machine changed, told from the contenders that nobody here works on; 1 for what has no clock in it."""
    if not now.quantity.clocked:
        return 1.0
    ratios = [
        each.median / then.summaries[name].median
        for name, each in now.summaries.items()
        if name != OURS and name in then.summaries and then.summaries[name].median
    ]
    return statistics.median(ratios) if len(ratios) >= WITNESSES else 1.0
