# SPDX-License-Identifier: GPL-2.0-or-later
"""All that was measured, as it is kept in a file and read again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from labnic.bench.contenders import CEILING, OURS
from labnic.bench.sample import QUANTITIES, Sample
from labnic.bench.stats import Lead, Quantity, Summary, lead
from labnic.errors import UsageError

FORMAT = 1
"""Of the file; raised when an older reader would misunderstand it."""


@dataclass
class Cell:
    """One contender in one row: a sample for each round, or the reason why there is none."""

    samples: list[Sample] = field(default_factory=list)
    reason: str = ""

    def summary(self, quantity: Quantity) -> Summary | None:
        """Median and spread of a quantity; None when it was not measured."""
        values = [sample.values[quantity.name] for sample in self.samples if quantity.name in sample.values]
        return Summary.of(values) if values else None

    def profile(self) -> Mapping[str, float]:
        """The kernel's instructions by function, of the median sample; empty when they were not asked for."""
        having = sorted(
            (sample for sample in self.samples if sample.profile), key=lambda sample: sum(sample.profile.values())
        )
        return having[len(having) // 2].profile if having else {}

    @property
    def lost(self) -> int:
        """Frames lost, in all rounds together."""
        return sum(sample.lost for sample in self.samples)

    @property
    def bad(self) -> int:
        """Frames with wrong bytes or out of order, in all rounds together."""
        return sum(sample.bad for sample in self.samples)


@dataclass(frozen=True)
class Line:
    """One line of the table: a quantity of a row, for each contender that has it."""

    row: str
    quantity: Quantity
    summaries: Mapping[str, Summary]

    @property
    def lead(self) -> Lead | None:
        """How far labnic is ahead of the best other NIC; None when there is no other or labnic was not measured."""
        if OURS not in self.summaries:
            return None
        medians = {name: each.median for name, each in self.summaries.items() if name not in (OURS, CEILING)}
        return lead(self.summaries[OURS].median, medians, self.quantity.better)


@dataclass
class Result:
    """Everything: ``made_with`` says on what, ``cells`` is by row and contender, ``wrong`` tells of wrong content."""

    made_with: Mapping[str, str]
    titles: dict[str, str] = field(default_factory=dict)
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def cell(self, row: str, contender: str) -> Cell:
        """The cell, made when it is not there."""
        return self.cells.setdefault(row, {}).setdefault(contender, Cell())

    def lines(self) -> Iterator[Line]:
        """The table, line by line."""
        for row, cells in self.cells.items():
            for quantity in QUANTITIES.values():
                found = {name: summary for name, cell in cells.items() if (summary := cell.summary(quantity))}
                if found:
                    yield Line(row, quantity, found)

    def heads(self) -> Iterator[Line]:
        """The first line of each row, which has the quantity that the row is for."""
        for _, lines in groupby(self.lines(), key=lambda line: line.row):
            yield next(lines)

    def troubles(self) -> Iterator[str]:
        """What is to be known beside the figures: frames lost, frames not as they were sent, contenders missing."""
        yield from self.wrong
        reasons: dict[tuple[str, str], list[str]] = {}
        for row, cells in self.cells.items():
            for name, cell in cells.items():
                if cell.lost:
                    yield f"{row}: {name} lost {cell.lost} frames"
                if cell.bad:
                    yield f"{row}: {name} had {cell.bad} frames with other bytes or out of order"
                if cell.reason:
                    reasons.setdefault((name, cell.reason), []).append(row)
        alike: dict[tuple[str, str], list[str]] = {}
        for (name, reason), rows in reasons.items():
            alike.setdefault((", ".join(rows), reason), []).append(name)
        for (which, reason), names in alike.items():
            yield f"{', '.join(names)}: not in {which}: {reason}"

    @property
    def sound(self) -> bool:
        """Whether every frame that arrived was the one that had been sent."""
        return not self.wrong and not any(cell.bad for cells in self.cells.values() for cell in cells.values())

    def to_json(self) -> str:
        """For a file."""
        rows = {
            row: {
                "title": self.titles[row],
                "contenders": {
                    name: {"reason": cell.reason, "samples": [vars(sample) for sample in cell.samples]}
                    for name, cell in cells.items()
                },
            }
            for row, cells in self.cells.items()
        }
        whole = {"format": FORMAT, "made_with": self.made_with, "wrong": self.wrong, "rows": rows}
        return json.dumps(whole, indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> Result:
        """From a file; raises `UsageError` when it is none of ours."""
        try:
            return cls._from(json.loads(path.read_text()))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(
                f"{path} is no result of `labnic bench`", hint="name a file that --json wrote, or bench.json of a run"
            ) from None

    @classmethod
    def _from(cls, whole: Mapping[str, Any]) -> Result:
        if whole["format"] != FORMAT:
            raise ValueError("another format")
        result = cls(whole["made_with"], wrong=list(whole["wrong"]))
        for row, content in whole["rows"].items():
            result.titles[row] = content["title"]
            for name, cell in content["contenders"].items():
                samples = [Sample(**sample) for sample in cell["samples"]]
                result.cells.setdefault(row, {})[name] = Cell(samples, cell["reason"])
        return result
