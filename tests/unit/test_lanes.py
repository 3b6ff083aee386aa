# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs side by side: order, width, output apart, and nothing left behind by an interrupt."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from labnic.lanes import Lanes, Program, _percentage

LIMIT = 20  # seconds that a program of these tests waits for another one at most

MEET = """
import pathlib, sys, time
mine, other = map(pathlib.Path, sys.argv[1:3])
mine.touch()
limit = time.monotonic() + {limit}
while not other.exists():
    if time.monotonic() > limit:
        sys.exit(3)
    time.sleep(0.01)
"""


def program(name: str, code: str, tmp_path: Path, *arguments: str) -> Program:
    return Program(name, (sys.executable, "-c", code, *arguments), tmp_path / f"{name}.log")


def lanes(width: int, tmp_path: Path) -> Lanes:
    return Lanes(width, tmp_path, os.environ)


def test_two_programs_run_at_the_same_time(tmp_path: Path) -> None:
    code = MEET.format(limit=LIMIT)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    ends: dict[str, int] = {}
    lanes(2, tmp_path).run(
        [program("one", code, tmp_path, a, b), program("two", code, tmp_path, b, a)],
        lambda which, status, seconds: ends.update({which.name: status}),
    )
    assert ends == {"one": 0, "two": 0}


def test_one_lane_runs_them_in_order(tmp_path: Path) -> None:
    order: list[tuple[str, int]] = []
    codes = {"first": "raise SystemExit(4)", "second": "pass", "third": "raise SystemExit(1)"}
    lanes(1, tmp_path).run(
        [program(name, code, tmp_path) for name, code in codes.items()],
        lambda which, status, seconds: order.append((which.name, status)),
    )
    assert order == [("first", 4), ("second", 0), ("third", 1)]


def test_outputs_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys\nfor _ in range(200): print(sys.argv[1], flush=True)"
    lanes(2, tmp_path).run(
        [program(letter, code, tmp_path, letter) for letter in "xy"], lambda which, status, seconds: None
    )
    lines = capsys.readouterr().out.split()
    assert lines in (["x"] * 200 + ["y"] * 200, ["y"] * 200 + ["x"] * 200)


def test_an_interrupt_ends_those_that_run_and_starts_no_other(tmp_path: Path) -> None:
    patient = f"""
import os, pathlib, signal, sys, time
def stop(*_):
    pathlib.Path("cleaned").touch()
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
pathlib.Path("pid").write_text(str(os.getpid()))
time.sleep({LIMIT})
"""
    waits_for_it = f"""
import pathlib, time
limit = time.monotonic() + {LIMIT}
while not pathlib.Path("pid").exists() and time.monotonic() < limit: time.sleep(0.01)
"""

    def interrupt(which: Program, status: int, seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lanes(2, tmp_path).run(
            [
                program("patient", patient, tmp_path),
                program("quick", waits_for_it, tmp_path),
                program("never", "open('started', 'w')", tmp_path),
            ],
            interrupt,
        )
    assert (tmp_path / "cleaned").exists()
    assert not (tmp_path / "started").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIG_DFL)


def test_percentage_is_the_newest_that_pytest_printed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("tests/a.py .....   [ 12%]\n" + "x" * 5000 + "\ntests/b.py ...  [ 47%]\n.")
    assert _percentage(log) == 47
    log.write_text("collected 3 items\n")
    assert _percentage(log) == 0
    assert _percentage(tmp_path / "missing") == 0
