# SPDX-License-Identifier: GPL-2.0-or-later
"""The contract's table: on the terminal, as JSON, and as a part of a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from labnic.build.cache import write_atomic
from labnic.contract.judge import KEPT, NO_CALLBACK, NO_KERNEL, NOT_PROVOKED, VIOLATED, Row, Verdict, counts
from labnic.contract.rules import RULES
from labnic.errors import UsageError
from labnic.page import replace_part

if TYPE_CHECKING:
    from labnic.contract.run import Verdicts

STYLES: Mapping[Verdict, str] = {
    KEPT: "green",
    VIOLATED: "bold red",
    NOT_PROVOKED: "yellow",
    NO_CALLBACK: "dim",
    NO_KERNEL: "dim",
}


RULES_PART, REPORT_PART = "contract rules", "contract report"


PLAIN_WIDTH = 132
"""Columns of a table that goes to a file."""


def table(verdicts: Verdicts, console: Console | None = None) -> None:
    """Print one kernel's verdicts, what was found broken in full, and the sum."""
    console = console or Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    title = f"{verdicts.driver} on Linux {verdicts.release} ({verdicts.kernel}), QEMU {verdicts.qemu.split()[0]}"
    shown = Table(title=title, title_justify="left", show_edge=False)
    for column in ("rule", "callback", "calls", "contexts", "locks", "verdict", "witnesses"):
        wide = column in ("contexts", "locks", "witnesses")
        shown.add_column(column, justify="right" if column == "calls" else "left", overflow="fold", no_wrap=not wide)
    for row in verdicts.rows:
        shown.add_row(
            row.rule.name,
            row.rule.callback,
            str(row.calls) if row.calls else "",
            ", ".join(row.contexts).replace("_", " "),
            ", ".join(row.locks).replace("_", " "),
            f"[{STYLES[row.verdict]}]{row.verdict}[/]",
            ", ".join(row.witnesses) or row.note,
        )
    console.print(shown)
    for row in verdicts.rows:
        for finding in row.findings:
            console.print(
                f"[bold red]{row.rule.name}[/] {row.rule.says}: {finding.witness}: {finding.text}", markup=True
            )
            for line in finding.detail[:40]:
                console.print(f"  | {line}", markup=False)
    if verdicts.lost:
        console.print(f"[bold red]the VM was lost[/]: {verdicts.lost.message}")
    console.print(_sum(verdicts))


def _sum(verdicts: Verdicts) -> str:
    parts = ", ".join(f"{number} {verdict}" for verdict, number in counts(verdicts.rows).items())
    after = verdicts.seconds - verdicts.boot_seconds
    return f"{parts}; boot {verdicts.boot_seconds:.1f} s, contract {after:.1f} s"


def as_json(found: Sequence[Verdicts]) -> str:
    """All of it, for machines: a list with one object for each kernel."""
    return json.dumps([_object(each) for each in found], indent=2)


def _object(verdicts: Verdicts) -> dict[str, object]:
    return {
        "driver": verdicts.driver,
        "kernel": verdicts.kernel,
        "release": verdicts.release,
        "qemu": verdicts.qemu,
        "seconds": round(verdicts.seconds, 1),
        "boot_seconds": round(verdicts.boot_seconds, 1),
        "lost": verdicts.lost.message if verdicts.lost else None,
        "rules": [_row(row) for row in verdicts.rows],
        "provocations": [
            {"name": each.name, "rules": each.rules, "seconds": round(each.seconds, 1), "not_done": each.reason or None}
            for each in verdicts.provoked
        ],
    }


def _row(row: Row) -> dict[str, object]:
    return {
        "rule": row.rule.name,
        "callback": row.rule.callback,
        "says": row.rule.says,
        "verdict": row.verdict,
        "calls": row.calls,
        "contexts": row.contexts,
        "locks": row.locks,
        "witnesses": row.witnesses,
        "note": row.note,
        "findings": [vars(finding) for finding in row.findings],
    }


def write_page(path: Path, found: Sequence[Verdicts]) -> None:
    """Put rules and report between the marks of a page; raises `UsageError` for a page without them."""
    try:
        text = path.read_text()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    text = replace_part(text, RULES_PART, rules_table(), str(path))
    text = replace_part(text, REPORT_PART, report_table(found), str(path))
    write_atomic(path, text.encode())


def rules_table() -> str:
    """What holds, in Markdown."""
    lines = ["| rule | callback | what holds today | the first text's name |", "|---|---|---|---|"]
    lines += [f"| {rule.name} | `{rule.callback}` | {rule.says} | {_code(rule.then)} |" for rule in RULES]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def report_table(found: Sequence[Verdicts]) -> str:
    """One table in Markdown with a column for each kernel, and under it what it was made with."""
    lines = [
        "| rule | " + " | ".join(each.kernel for each in found) + " | witnesses |",
        "|---|" + "---|" * (len(found) + 1),
    ]
    for number, rule in enumerate(RULES):
        rows = [each.rows[number] for each in found]
        witnesses = dict.fromkeys(witness for row in rows for witness in row.witnesses)
        cells = " | ".join(_cell(row) for row in rows)
        lines.append(f"| {rule.name} | {cells} | {', '.join(witnesses)} |")
    lines.append("")
    for each in found:
        lines.append(f"- {each.kernel}: {each.driver} on Linux {each.release}, QEMU {each.qemu}: {_sum(each)}.")
    return "\n".join(lines) + "\n"


def _cell(row: Row) -> str:
    calls = f", {row.calls} calls" if row.calls else ""
    return f"{row.verdict}{calls}"
