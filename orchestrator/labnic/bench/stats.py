# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures of several rounds: their median and spread, who is ahead, and what is more than noise."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Better = Literal["more", "less"]

LEAST_MOVE = 0.03
"""A median that moves by less than this is not worth a line, however quiet the machine was."""


@dataclass(frozen=True)
class Quantity:
    """Something that is measured; ``clocked`` when the machine's speed is in it."""

    name: str
    unit: str
    better: Better
    clocked: bool = True


@dataclass(frozen=True)
class Summary:
    """The middle and the ends of a quantity's values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def times(self, factor: float) -> Summary:
        """The same on a machine that is so much faster."""
        return Summary(self.median * factor, self.low * factor, self.high * factor)

    def apart(self, other: Summary) -> bool:
        """Whether not even the ends meet."""
        return self.low > other.high or self.high < other.low


@dataclass(frozen=True)
class Lead:
    """How far ahead of the best of the others: 1.25 is a quarter better, whichever way is better; below 1 is behind."""

    ratio: float
    best: str


def lead(ours: float, others: Mapping[str, float], better: Better) -> Lead | None:
    """Compare with the best of the others; None where there is none, or nothing can be divided by."""
    if not others:
        return None
    pick = max if better == "more" else min
    best = pick(others, key=lambda name: others[name])
    above, below = (ours, others[best]) if better == "more" else (others[best], ours)
    if below == 0:
        return Lead(1.0, best) if above == 0 else None
    return Lead(above / below, best)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent of them do not exceed (nearest rank); of at least one value."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


def moved(before: Summary, after: Summary, speed: float = 1.0) -> float | None:
    """By what factor a median moved, seen from a machine whose speed changed by ``speed``; None when it is noise."""
    scaled = before.times(speed)
    if scaled.median == 0 or not scaled.apart(after):
        return None
    factor = after.median / scaled.median
    return factor if abs(factor - 1) >= LEAST_MOVE else None
