# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of a bench, on the terminal and in Markdown."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from labnic.bench.compare import Move
from labnic.bench.contenders import CEILING, CONTENDERS, OURS
from labnic.bench.result import Line, Result
from labnic.bench.stats import Lead, Summary
from labnic.build.cache import write_atomic
from labnic.errors import UsageError
from labnic.page import replace_part

PART = "bench"
"""Name of the table's place in a page."""

PLAIN_WIDTH = 240
"""Columns of a table that goes to a file."""

LEGEND = (
    f"cells: median (lowest-highest). lead: how many times better {OURS} is than the best other NIC; "
    f"{CEILING} is none, it throws away what it is given"
)

FUNCTIONS = 20
"""So many are shown of a profile; the file has all."""

PROFILE = "kernel instructions a frame, by function"

GOAL = 1.25
"""From this lead on labnic is ahead by more than a lucky hour."""

Standing = Literal["behind", "ahead", "far"]
"""Of labnic beside the best other NIC; ``far`` is ahead by `GOAL`."""

STYLES: dict[Standing, str] = {"behind": "bold red", "ahead": "yellow", "far": "green"}


def table(result: Result, console: Console | None = None) -> None:
    """Print a line for each quantity of each row, and what is to be known beside them."""
    console = console or Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    names = contenders(result)
    shown = Table(title=heading(result), title_justify="left", show_edge=False)
    shown.add_column("quantity")
    for name in names:
        shown.add_column(name, justify="right")
    shown.add_column("lead", justify="right")
    last = ""
    for line in result.lines():
        if line.row != last:
            shown.add_section()
            shown.add_row(f"[bold]{result.titles[line.row]}[/]")
            last = line.row
        cells = [value(line, name) for name in names]
        shown.add_row(f"  {line.quantity.name}, {line.quantity.unit}", *cells, styled(line.lead))
    console.print(shown)
    for remark in (LEGEND, *score(result), *result.troubles()):
        console.print(remark, markup=False)


def profiles(result: Result, console: Console | None = None) -> None:
    """Print in which functions the kernel's instructions are, for each row and contender that was looked at."""
    console = console or Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    for row in result.cells:
        names, lines = functions(result, row)
        if not names:
            continue
        shown = Table(title=f"{result.titles[row]}: {PROFILE}", title_justify="left", show_edge=False)
        for name in names:
            shown.add_column(name, justify="right")
        for line in lines:
            shown.add_row(*line)
        console.print(shown)


def functions(result: Result, row: str) -> tuple[list[str], list[list[str]]]:
    """The contenders whose functions are known, and the `FUNCTIONS` of each that cost the most, side by side."""
    found = {name: profile for name, cell in result.cells[row].items() if (profile := cell.profile())}
    columns = [[f"{name} {number(cost):>6}" for name, cost in profile.items()] for profile in found.values()]
    lines = zip_longest(*columns, fillvalue="")
    return list(found), [list(line) for line in islice(lines, FUNCTIONS)]


def contenders(result: Result) -> list[str]:
    """Who is in the result, in the usual order."""
    found = {name for cells in result.cells.values() for name in cells}
    return [each.name for each in CONTENDERS if each.name in found]


def heading(result: Result) -> str:
    """On what it was made."""
    return ", ".join(f"{name} {value}" for name, value in result.made_with.items())


def value(line: Line, name: str) -> str:
    """The `cell` of a contender, or a dash for one that was not measured."""
    return cell(line.summaries[name]) if name in line.summaries else "-"


def cell(summary: Summary) -> str:
    """``148 (140-151)``, or the median alone where the ends look like it."""
    median, *ends = map(number, (summary.median, summary.low, summary.high))
    return median if ends == [median, median] else f"{median} ({'-'.join(ends)})"


def number(value: float) -> str:
    """Three digits, which is more than the noise leaves; never an exponent."""
    for limit, digits in ((0.0005, 0), (0.995, 3), (9.95, 2), (99.5, 1)):
        if abs(value) < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def standing(lead: Lead) -> Standing:
    """How good a lead is."""
    return "behind" if lead.ratio < 1 else "far" if lead.ratio >= GOAL else "ahead"


def styled(lead: Lead | None) -> str:
    """The lead in its colour."""
    return f"[{STYLES[standing(lead)]}]{lead.ratio:.2f}[/] {lead.best}" if lead else "-"


def score(result: Result) -> Iterator[str]:
    """In how many rows labnic is ahead, by the quantity that each row is for; nothing when there is no other NIC."""
    found = [standing(line.lead) for line in result.heads() if line.lead]
    if found:
        ahead = len(found) - found.count("behind")
        yield f"{OURS} is ahead in {ahead} of {len(found)} rows, in {found.count('far')} by {GOAL} times and more"


def show_moves(found: Sequence[Move], console: Console | None = None) -> None:
    """Print what moved since another run, the worst first."""
    console = console or Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    if not found:
        console.print("nothing moved beyond the noise")
    for move in sorted(found, key=lambda move: (move.better, -abs(move.factor - 1))):
        console.print(str(move), style="green" if move.better else "red", markup=False)


def write_page(path: Path, result: Result) -> None:
    """Put the table between the marks of a page; raises `UsageError` for a page without them."""
    text = read_page(path)
    remarks = "".join(f"{remark}.\n" for remark in (heading(result), *score(result)))
    made = f"{remarks}\n{markdown(result)}"
    write_atomic(path, replace_part(text, PART, made, str(path)).encode())


def read_page(path: Path) -> str:
    """The text of a page that has a place for the table; raises `UsageError` for another."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    replace_part(text, PART, "", str(path))
    return text


def markdown(result: Result) -> str:
    """The table for a page."""
    names = contenders(result)
    lines = [
        "| row | quantity | " + " | ".join(names) + " | lead |",
        "|---|---|" + "---|" * (len(names) + 1),
    ]
    last = ""
    for line in result.lines():
        cells = (value(line, name) for name in names)
        title = result.titles[line.row] if line.row != last else ""
        last = line.row
        head = f"| {title} | {line.quantity.name}, {line.quantity.unit} | "
        lines.append(head + " | ".join(cells) + f" | {_plain(line)} |")
    lines += ["", *(f"- {trouble}" for trouble in result.troubles())]
    return "\n".join(lines).rstrip() + "\n"


def _plain(line: Line) -> str:
    lead = line.lead
    return f"{lead.ratio:.2f} ({lead.best})" if lead else "-"
