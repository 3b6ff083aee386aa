# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of a build: their output is kept, their time is limited, and they end with us."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from labnic.build import tool
from labnic.errors import BuildError, PrerequisiteError


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie that nobody waits for has)."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_gone(pid: int, limit: float = 10.0) -> bool:
    deadline = time.monotonic() + limit
    while not gone(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_failure_carries_the_last_lines(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"the step failed \(sh ended with status 3\)") as caught:
        tool.run(["sh", "-c", "seq 100; echo why >&2; exit 3"], what="the step", log=tmp_path / "log")
    assert caught.value.log[-2:] == ("100", "why")
    assert len(caught.value.log) == tool.LAST_LINES
    assert str(tmp_path / "log") in caught.value.hint


def test_a_program_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    script = "sleep 300 & echo $! >child; echo begun; wait"
    with pytest.raises(BuildError, match="took more than 1 s") as caught:
        tool.run(["sh", "-c", script], what="the step", log=tmp_path / "log", cwd=tmp_path, limit=1.0)
    assert caught.value.log[-1] == "begun"
    assert wait_gone(int((tmp_path / "child").read_text()))


def test_a_missing_program_is_a_prerequisite(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="no-such-program is not installed"):
        tool.run(["no-such-program"], what="the step", log=tmp_path / "log")


def test_output_keeps_errors_apart() -> None:
    assert tool.output(["sh", "-c", "echo out; echo err >&2"], what="asking") == "out\n"
    with pytest.raises(BuildError) as caught:
        tool.output(["sh", "-c", "echo out; echo err >&2; exit 1"], what="asking")
    assert caught.value.log == ("err",)


def test_builds_do_not_inherit_the_users_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/somewhere/else:/usr/bin")
    monkeypatch.setenv("MAKEFLAGS", "-j --jobserver-auth=3,4")
    monkeypatch.setenv("LD_PRELOAD", "")
    environment = tool.clean_environment({"EXTRA": "1"})
    assert environment["PATH"] == "/usr/sbin:/usr/bin:/sbin:/bin"
    assert not {"MAKEFLAGS", "LD_PRELOAD"} & environment.keys()
    assert environment["EXTRA"] == "1"
    assert environment["HOME"] == os.environ["HOME"]
