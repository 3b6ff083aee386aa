# SPDX-License-Identifier: GPL-2.0-or-later
"""A small bench from boot to table, on labnic and on the device without hardware."""

from __future__ import annotations

from pathlib import Path

import pytest

from labnic.bench import contenders, rows, run
from labnic.bench.profile import GONE
from labnic.bench.result import Result
from labnic.bench.sample import DMA, INSTRUCTIONS, MEDIAN, MMIO, RATE, THROUGHPUT
from labnic.lab import Lab
from labnic.report import Phases


def bench(lab: Lab, folder: Path, *names: str, seconds: float = 0.05) -> Result:
    """One short round of the rows; no frame arrived otherwise than it was sent."""
    result = Result({})
    options = run.Options(rounds=1, seconds=seconds, profile=True)
    chosen = contenders.choose(("labnic", "dummy"))
    run.Bench(options, lab.config, lab.parts, folder, Phases(quiet=True), result).measure(rows.choose(names), chosen)
    assert result.sound, list(result.troubles())
    return result


def test_every_kind_of_row_is_measured(lab: Lab, tmp_path: Path) -> None:
    wanted = ("tx-60-b16-dgram", "rx-60", "both-60", "rtt-idle")
    result = bench(lab, tmp_path, *wanted)
    found = {line.row: line for line in result.lines() if line.quantity in (RATE, MEDIAN)}
    assert set(found) == set(wanted)
    assert all(line.summaries["labnic"].median > 0 for line in found.values())
    assert result.cell("tx-60-b16-dgram", "labnic").lost == 0
    assert result.cell("tx-60-b16-dgram", "dummy").samples
    assert set(result.cells["rx-60"]) == {"labnic"}, "what has no hardware receives nothing"


def test_what_a_frame_costs_is_counted_where_qemu_takes_plugins(lab: Lab, tmp_path: Path) -> None:
    """labnic rings its doorbell once for several frames that come one after the other; a QEMU without our plugins gives
    the reason instead."""
    result = bench(lab, tmp_path, "count-tx-b1")
    if not lab.parts.qemu.counts:
        assert "from source" in result.cell("count-tx-b1", "labnic").reason
        return
    medians = {line.quantity: {name: each.median for name, each in line.summaries.items()} for line in result.lines()}
    assert 0 < medians[MMIO]["labnic"] < 0.5
    assert 1 < medians[DMA]["labnic"] < 4, "its bytes, and its part in what is done once for those of a doorbell"
    assert medians[INSTRUCTIONS]["labnic"] > medians[INSTRUCTIONS]["dummy"] > 0
    # pktgen's own code belongs to no module that is loaded when the symbols are read.
    profile = result.cell("count-tx-b1", "labnic").profile()
    assert {"labnic_start_xmit", GONE} <= set(profile)
    assert not any("mirred" in name for name in profile)


@pytest.mark.parametrize("row", ["tcp-pair-on-hub", "tcp-two-on-guests"])
def test_bytes_come_from_one_nic_to_another(lab: Lab, tmp_path: Path, row: str) -> None:
    """On a hub of one guest, with which each QEMU must boot, and between two guests."""
    result = bench(lab, tmp_path, row, seconds=0.5)
    (line,) = result.lines()
    assert (line.row, line.quantity) == (row, THROUGHPUT)
    assert len(result.cell(row, "labnic").samples) == rows.TCP_REPEATS
    assert line.summaries["labnic"].median > 0
