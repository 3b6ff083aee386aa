# SPDX-License-Identifier: GPL-2.0-or-later
"""Phases, exit codes, errors and folders."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from junitparser import JUnitXml

from labnic.errors import BootError
from labnic.report import FolderError, Phases, error_lines, merge_junit, run_folder, worst


def test_a_phase_is_timed_and_told() -> None:
    stream = io.StringIO()
    phases = Phases(stream)
    with phases.phase("work"):
        phases.note("half")
    assert [phase.name for phase in phases.done] == ["work"]
    lines = stream.getvalue().splitlines()
    assert lines[0] == "labnic: half"
    assert lines[1].startswith("labnic: work: 0.0 s")


def test_a_failed_phase_is_told_and_not_counted() -> None:
    stream = io.StringIO()
    phases = Phases(stream)
    with pytest.raises(KeyError), phases.phase("work"):
        raise KeyError
    assert "work: failed after" in stream.getvalue()
    assert phases.done == []


def test_the_table_has_the_launchers_phases_and_those_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LABNIC_BOOTSTRAP_PHASES", json.dumps([["host packages", 30.5]]))
    phases = Phases(io.StringIO())
    phases.add_bootstrap()
    phases.add("boot", 2.5)
    phases.save(tmp_path / "phases.json")
    other = Phases(io.StringIO())
    other.load(tmp_path / "phases.json", "  guest: ")
    other.load(tmp_path / "none.json")
    assert [phase.name for phase in other.done] == ["  guest: host packages", "  guest: boot"]
    out = io.StringIO()
    phases.table(out)
    rows = [line.replace("┃", "").replace("│", "").split() for line in out.getvalue().splitlines()]
    assert ["host", "packages", "30.5"] in rows
    assert ["boot", "2.5"] in rows
    (whole,) = (float(row[2]) for row in rows if row[:2] == ["whole", "run"])
    assert 30.5 <= whole < 60


def test_nonsense_from_the_launcher_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABNIC_BOOTSTRAP_PHASES", "{")
    phases = Phases(io.StringIO())
    phases.add_bootstrap()
    assert phases.done == []


@pytest.mark.parametrize(
    ("codes", "code"),
    [([], 0), ([0, 0], 0), ([0, 7], 7), ([7, 1], 1), ([1, 5], 5), ([5, 6], 6), ([6, 8], 8), ([8, 130], 130), ([99], 8)],
)
def test_the_worst_exit_code_wins(codes: list[int], code: int) -> None:
    assert worst(codes) == code


def test_an_error_has_its_log_and_hint() -> None:
    error = BootError("no boot", hint="look there", log=["one", "two"])
    assert error_lines(error) == ["labnic: error: no boot", "  | one", "  | two", "  hint: look there"]
    assert error_lines(BootError("x")) == ["labnic: error: x"]


def test_each_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    first, second = run_folder(tmp_path / "artifacts"), run_folder(tmp_path / "artifacts")
    assert first != second
    assert (tmp_path / "artifacts" / "latest").resolve() == second


def test_a_folder_that_cannot_be_made_is_a_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="cannot be made") as caught:
        run_folder(tmp_path / "file" / "artifacts")
    assert caught.value.exit_code == 2


def test_junit_files_are_put_into_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.xml").write_text(
            f'<testsuites><testsuite name="{name}" tests="1" failures="0" errors="0" skipped="0" time="1">'
            f'<testcase classname="c" name="test_{name}" time="1"/></testsuite></testsuites>'
        )
    (tmp_path / "empty.xml").write_text("")
    merge_junit([tmp_path / f"{name}.xml" for name in ("a", "none", "empty", "b")], tmp_path / "all.xml")
    merged = JUnitXml.fromfile(str(tmp_path / "all.xml"))
    assert [suite.name for suite in merged] == ["a", "b"]
    assert [case.name for suite in merged for case in suite] == ["test_a", "test_b"]
