# SPDX-License-Identifier: GPL-2.0-or-later
"""A small bench from boot to table: every kind of measurement once, on labnic and on the device without hardware."""

from __future__ import annotations

from pathlib import Path

from labnic.bench import contenders, rows, run
from labnic.bench.result import Result
from labnic.bench.sample import MEDIAN, RATE
from labnic.lab import Lab
from labnic.report import Phases

ROWS = ("tx-60-b16-dgram", "rx-60", "both-60", "rtt-load")


def test_every_kind_of_row_is_measured(lab: Lab, tmp_path: Path) -> None:
    """No frame is lost or changed on the way out, and each row has a figure for labnic."""
    result = Result({})
    options = run.Options(rounds=1, seconds=0.05)
    chosen = contenders.choose(("labnic", "dummy"))
    run.measure(rows.choose(ROWS), chosen, options, lab.config, lab.parts, tmp_path, Phases(quiet=True), result)
    assert result.sound, list(result.troubles())
    found = {line.row: line for line in result.lines() if line.quantity in (RATE, MEDIAN)}
    assert set(found) == set(ROWS)
    assert all(line.summaries["labnic"].median > 0 for line in found.values())
    assert result.cell("tx-60-b16-dgram", "labnic").lost == 0
    assert result.cell("tx-60-b16-dgram", "dummy").samples
    assert result.cell("rx-60", "dummy").reason == "it has no hardware"
