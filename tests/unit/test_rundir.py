# SPDX-License-Identifier: GPL-2.0-or-later
"""The register of running labs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from labnic.errors import PrerequisiteError, UsageError
from labnic.process import ProcessId
from labnic.rundir import LabInUseError, NoSuchLabError, RunDir, base_folder, find, running

PACKAGE = Path(__file__).resolve().parents[2] / "orchestrator"


def in_another_process(base: Path, name: str, more: str = "") -> subprocess.Popen[str]:
    """A process that owns a lab until its input ends."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom labnic.rundir import RunDir\n"
        f"lab = RunDir({name!r}, Path({str(base)!r}))\n{more}\nprint('ready', flush=True)\nsys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_lab_is_listed_while_it_is_open(tmp_path: Path) -> None:
    lab = RunDir("one", tmp_path)
    lab.update(kernel="6.1")
    (entry,) = running(tmp_path)
    assert (entry.name, entry.state["kernel"], entry.owner) == ("one", "6.1", ProcessId.of(os.getpid()))
    assert find(None, tmp_path).name == "one"
    lab.close()
    lab.close()
    assert running(tmp_path) == []


def test_a_name_in_use_is_refused_with_its_owner(tmp_path: Path) -> None:
    other = in_another_process(tmp_path, "one")
    with pytest.raises(LabInUseError, match=f"process {other.pid}.*in use") as caught:
        RunDir("one", tmp_path)
    assert caught.value.exit_code == 2
    assert "labnic down --name one" in caught.value.hint
    end(other)
    RunDir("one", tmp_path).close()


def test_what_a_killed_owner_left_is_cleared_with_its_vm(tmp_path: Path) -> None:
    vm = subprocess.Popen(["sleep", "60"])
    other = in_another_process(tmp_path, "one", f"lab.set_qemu({vm.pid})")
    assert [lab.name for lab in running(tmp_path)] == ["one"]
    assert vm.poll() is None
    end(other)
    assert running(tmp_path) == []
    assert vm.wait(5.0) != 0
    assert list(tmp_path.iterdir()) == []


def test_a_stale_folder_is_taken_over(tmp_path: Path) -> None:
    other = in_another_process(tmp_path, "one")
    (tmp_path / "one" / "console.sock").touch()
    end(other)
    lab = RunDir("one", tmp_path)
    assert not (tmp_path / "one" / "console.sock").exists()
    assert json.loads((tmp_path / "one" / "lab.json").read_text())["owner"][0] == os.getpid()
    lab.close()


def test_find_asks_for_a_name_when_there_are_several(tmp_path: Path) -> None:
    with pytest.raises(NoSuchLabError, match="no lab is running"):
        find(None, tmp_path)
    labs = [RunDir("a", tmp_path), RunDir("b", tmp_path)]
    with pytest.raises(UsageError, match="several labs are running: a, b"):
        find(None, tmp_path)
    with pytest.raises(NoSuchLabError, match="no lab 'c'"):
        find("c", tmp_path)
    assert find("b", tmp_path).name == "b"
    for lab in labs:
        lab.close()


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a" * 33, "a b"])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a lab's name"):
        RunDir(name, tmp_path)


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    with pytest.raises(PrerequisiteError, match="too long"):
        RunDir("one", deep)


def test_the_register_is_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = base_folder()
    assert path == tmp_path / "labnic"
    assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o755)
    assert base_folder().stat().st_mode & 0o777 == 0o700
    path.rmdir()
    path.symlink_to(tmp_path)
    with pytest.raises(PrerequisiteError, match="not a folder of yours"):
        base_folder()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert base_folder() == tmp_path / f"labnic-{os.getuid()}"
