# SPDX-License-Identifier: GPL-2.0-or-later
"""The report of a bench: one HTML file that needs no other, with each row's lead first, then tables and plots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from itertools import groupby
from typing import Any

from labnic.bench.contenders import OURS
from labnic.bench.result import Line, Result
from labnic.bench.show import LEGEND, PROFILE, contenders, functions, heading, score, standing, value

WIDTH, BAR_HEIGHT, FRAME_HEIGHT = 560, 26, 110
"""Of a plot in pixels; the frame is its title and axis."""

OUR_COLOUR, OTHER_COLOUR = "#d9541e", "#7a8ba0"

STYLE = """
body { font: 15px/1.4 sans-serif; max-width: 78em; margin: 2em auto; padding: 0 1em; }
.wide { overflow-x: auto; font-size: 85%; }
.plots { display: flex; flex-wrap: wrap; gap: 1em; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: 0.2em 0.8em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; }
.behind { color: #b00; font-weight: bold; }
.ahead { color: #960; }
.far { color: #060; }
"""


def html(result: Result) -> str:
    """The whole page."""
    title = "labnic beside QEMU's other NICs"
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f"<title>{title}</title><style>{STYLE}</style></head>",
        f"<body><h1>{title}</h1>",
        *(f"<p>{escape(remark)}</p>" for remark in (heading(result), LEGEND, *score(result))),
    ]
    troubles = "".join(f"<li>{escape(trouble)}</li>" for trouble in result.troubles())
    parts += [f"<ul>{troubles}</ul>"] if troubles else []
    parts += [_overview(result)]
    for row, lines in groupby(result.lines(), key=lambda line: line.row):
        parts += [f'<h2 id="{escape(row)}">{escape(result.titles[row])}</h2>', _table(result, row)]
        parts += ['<div class="plots">', *(plot(line) for line in lines), "</div>"]
        parts += _functions(result, row)
    return "\n".join([*parts, "</body></html>\n"])


def _overview(result: Result) -> str:
    """A line for each row, with the quantity that it is for, and a way to the rest of it."""
    lines = (
        f'<tr><td><a href="#{escape(line.row)}">{escape(result.titles[line.row])}</a></td>'
        f"{_cells('td', (_label(line), value(line, OURS)))}{_lead(line)}</tr>"
        for line in result.heads()
    )
    return f"<table><tr>{_cells('th', ('row', 'quantity', OURS, 'lead'))}</tr>{''.join(lines)}</table>"


def _table(result: Result, row: str) -> str:
    names = contenders(result)
    head = _cells("th", ("", "lead", *names))
    body = "".join(_row(line, names) for line in result.lines() if line.row == row)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _row(line: Line, names: list[str]) -> str:
    values = _cells("td", (value(line, name) for name in names))
    return f"<tr>{_cells('td', (_label(line),))}{_lead(line)}{values}</tr>"


def _lead(line: Line) -> str:
    lead = line.lead
    if lead is None:
        return "<td>-</td>"
    return f'<td class="{standing(lead)}">{lead.ratio:.2f} {escape(lead.best)}</td>'


def _label(line: Line) -> str:
    return f"{line.quantity.name}, {line.quantity.unit}"


def _functions(result: Result, row: str) -> Iterator[str]:
    """Where the kernel's instructions are, when that was asked for."""
    names, lines = functions(result, row)
    if names:
        yield f"<h3>{PROFILE}</h3><table><tr>{_cells('th', names)}</tr>"
        yield from (f"<tr>{_cells('td', line)}</tr>" for line in lines)
        yield "</table>"


def _cells(kind: str, texts: Iterable[str]) -> str:
    return "".join(f"<{kind}>{escape(text)}</{kind}>" for text in texts)


def plot(line: Line) -> str:
    """Bars of the medians as SVG, the first contender at the top."""
    import leather

    chart = leather.Chart(f"{_label(line)} ({line.quantity.better} is better)")
    chart.add_bars(list(_bars(line)), fill_color=_colour)
    highest = max(summary.median for summary in line.summaries.values())
    chart.set_x_scale(leather.Linear(0, highest * 1.05 or 1))
    height = FRAME_HEIGHT + BAR_HEIGHT * len(line.summaries)
    return str(chart.to_svg(width=WIDTH, height=height))


def _bars(line: Line) -> Iterator[tuple[float, str]]:
    for name, summary in line.summaries.items():
        yield summary.median, name


def _colour(bar: Any) -> str:
    return OUR_COLOUR if bar.y == OURS else OTHER_COLOUR
