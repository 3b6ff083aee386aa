# SPDX-License-Identifier: GPL-2.0-or-later
"""The launcher: which packages a command needs, and what it says when it cannot have them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from labnic import bootstrap, hostdeps
from labnic.bootstrap import StopError
from labnic.hostdeps import HostPackage

ABSENT = [HostPackage("no-such-package", "a test", "build"), HostPackage("neither-this", "a test", "build")]


@pytest.mark.parametrize(
    ("arguments", "group"),
    [
        ([], "python"),
        (["--help"], "python"),
        (["doctor"], "python"),
        (["test", "--help"], "python"),
        (["test"], "build"),
        (["--json", "up"], "build"),
        (["check"], "check"),
    ],
)
def test_a_command_asks_for_what_it_needs(arguments: list[str], group: str) -> None:
    assert bootstrap._group(arguments) == group


def test_the_static_checks_need_everything() -> None:
    names = {group: {package.name for package in hostdeps.host_packages(group)} for group in hostdeps.GROUPS}
    assert names["python"] == {"python3-venv"}
    assert names["python"] < names["build"] < names["check"]
    assert "qemu-system-x86" in names["build"]
    assert "shellcheck" in names["check"] - names["build"]


def test_a_program_or_module_stands_in_for_its_package() -> None:
    packages = [
        HostPackage("no-such-package", "", "build", program="sh"),
        HostPackage("no-such-package", "", "build", module="json"),
        HostPackage("no-such-package", "", "build", program="no-such-program"),
        HostPackage("no-such-package", "", "build", module="no_such_module"),
        HostPackage("dpkg", "", "build"),
    ]
    assert hostdeps.missing_packages(packages) == packages[2:4]


def test_without_root_one_line_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_root_prefix", lambda: None)
    with pytest.raises(StopError) as caught:
        bootstrap._install(ABSENT, tmp_path, bootstrap.Phases())
    assert caught.value.code == 3
    line = caught.value.lines[-1]
    assert line.endswith("sudo apt-get install -y --no-install-recommends no-such-package neither-this")


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[int]]) -> list[str]:
    """Run the installation with a pretended apt-get; returns the steps it was asked for."""
    steps = []

    def run(command: Sequence[str], log: Path, *, shield: bool = False) -> int:
        step = "download" if "--download-only" in command else "update" if "update" in command else "install"
        steps.append(step)
        assert shield == (step == "install")
        return answers[step].pop(0)

    monkeypatch.setattr(bootstrap, "_root_prefix", list)
    monkeypatch.setattr(bootstrap, "_run", run)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "host-packages.log").write_text("E: what apt said\n")
    bootstrap._install(ABSENT, tmp_path, bootstrap.Phases())
    return steps


def test_outdated_lists_are_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([self / "x_Packages"]))
    steps = install(tmp_path, monkeypatch, {"download": [100, 0], "update": [0], "install": [0]})
    assert steps == ["download", "update", "download", "install"]


def test_a_machine_without_lists_gets_them_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([]))
    steps = install(tmp_path, monkeypatch, {"download": [0], "update": [0], "install": [0]})
    assert steps == ["update", "download", "install"]


def test_a_failing_apt_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([]))
    with pytest.raises(StopError) as caught:
        install(tmp_path, monkeypatch, {"download": [], "update": [100], "install": []})
    assert any("what apt said" in line for line in caught.value.lines)


def test_an_unfinished_environment_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(folder: Path, python: Path, log: Path) -> None:
        assert not folder.exists()
        python.parent.mkdir(parents=True)
        python.touch()
        made.append(folder)
        if len(made) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "_make_environment", make)
    (tmp_path / "logs").mkdir()
    with pytest.raises(KeyboardInterrupt):
        bootstrap._environment(tmp_path, bootstrap.Phases())
    python = bootstrap._environment(tmp_path, bootstrap.Phases())
    assert python.exists()
    assert bootstrap._environment(tmp_path, bootstrap.Phases()) == python
    assert len(made) == 2


STEP = """
import signal, sys
from pathlib import Path
from labnic.bootstrap import _run
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    _run(["sh", "-c", sys.argv[2]], Path(sys.argv[1]), shield=sys.argv[3] == "shield")
except KeyboardInterrupt:
    sys.exit(130)
"""


def interrupt(log: Path, script: str, shield: str, release: Path) -> int:
    """Run a step, interrupt it once it has begun, then let it go on if it still can; returns the status."""
    command = [sys.executable, "-c", STEP, str(log), script, shield]
    with subprocess.Popen(command, cwd=bootstrap.PROJECT / "orchestrator") as process:
        deadline = time.monotonic() + 20
        while not (log.exists() and "\nbegun" in log.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        if shield == "shield":
            release.touch()
        return process.wait(20)


def test_an_interrupt_ends_a_download(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert interrupt(log, "echo begun; sleep 300; echo finished", "plain", tmp_path / "release") == 130
    assert "\nfinished" not in log.read_text()


def test_an_interrupt_waits_for_dpkg(tmp_path: Path) -> None:
    log, release = tmp_path / "log", tmp_path / "release"
    script = f"echo begun; until test -e '{release}'; do sleep 0.02; done; echo finished"
    assert interrupt(log, script, "shield", release) == 130
    assert "\nfinished" in log.read_text()


def test_every_locked_package_has_a_version_and_a_hash() -> None:
    text = bootstrap.LOCK_FILE.read_text()
    assert "http" not in text
    assert text.count("==") == bootstrap._count() > 20
    entries = [entry for entry in text.split("\n\n")[-1].replace("\\\n", " ").splitlines() if "==" in entry]
    assert all("--hash=sha256:" in entry for entry in entries)
