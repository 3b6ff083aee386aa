# SPDX-License-Identifier: GPL-2.0-or-later
"""The command: verbs, messages and exit codes, as a user meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import labnic.cli
import labnic.up
from labnic.config import Config
from labnic.errors import BootError, GuestPanicError, LabnicError
from labnic.qmp import Qmp
from labnic.rundir import RunDir

PACKAGE = Path(__file__).resolve().parents[2] / "orchestrator"


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's labs and settings gets in."""
    for name in list(os.environ):
        if name.startswith("LABNIC_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LABNIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labnic.yaml").write_text("machine:\n  cpus: 1\n")


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """`main` sets handlers; the next test gets the ones from before."""
    saved = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in saved.items():
        signal.signal(number, handler)


def test_the_version_is_told_in_a_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    """There the package is not installed, and nobody but itself knows its version."""
    assert labnic.cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{labnic.__version__}\n"


def test_config_show_names_the_sources(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABNIC_MACHINE_MEMORY", "1G")
    assert labnic.cli.main(["--set", "timeouts.boot=5", "config", "show"]) == 0
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in capsys.readouterr().out.splitlines()}
    assert rows["machine.cpus"] == ["1", "labnic.yaml:2"]
    assert rows["machine.memory"] == ["1G", "environment LABNIC_MACHINE_MEMORY"]
    assert rows["timeouts.boot"] == ["5.0", "command line"]
    assert rows["machine.accel"] == ["auto", "default"]


def test_config_show_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert labnic.cli.main(["config", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["machine.cpus"] == {"value": 1, "source": "labnic.yaml:2"}


def test_a_bad_setting_ends_with_2_and_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labnic.yaml").write_text("kernal: x\n")
    assert labnic.cli.main(["config", "show"]) == 2
    assert "labnic: error: labnic.yaml:1: kernal: unknown key (did you mean kernel?)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["up", "--nonsense"],
        ["--set", "x", "config", "show"],
        ["--set", "machine.cpu=1", "config", "show"],
        ["--config", "none.yaml", "config", "show"],
        ["up", "--detach", "--keep"],
        ["down"],
        ["console"],
        ["down", "--name", "none"],
        ["test", "no/such/test.py"],
    ],
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert labnic.cli.main(arguments) == 2
    assert "rror" in capsys.readouterr().err


def test_a_broken_file_does_not_keep_from_ps_and_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labnic.yaml").write_text("[")
    assert labnic.cli.main(["ps"]) == 0
    assert labnic.cli.main(["down", "--all"]) == 0
    assert "no lab is running" in capsys.readouterr().out


def test_ps_lists_what_runs(capsys: pytest.CaptureFixture[str]) -> None:
    lab = RunDir("mine")
    lab.update(kernel="6.1.0-test", nics=[{"name": "eth0", "mac": "52:54:00:00:00:01"}])
    assert labnic.cli.main(["ps"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("mine ")
    assert "6.1.0-test" in line
    assert "eth0 52:54:00:00:00:01" in line
    assert labnic.cli.main(["ps", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "mine"
    assert labnic.cli.main(["clean"]) == 2
    assert "labs are running: mine" in capsys.readouterr().err
    lab.close()


def test_down_ends_the_owner(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys\nfrom labnic.rundir import RunDir\nlab = RunDir('mine')\nprint(flush=True)\nsys.stdin.read()\n"
    owner = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    )
    assert owner.stdout is not None
    owner.stdout.readline()
    assert labnic.cli.main(["down"]) == 0
    assert capsys.readouterr().out == "mine has ended\n"
    assert owner.wait(5.0) == -signal.SIGTERM
    owner.communicate()


def test_exec_without_a_lab_is_125(capsys: pytest.CaptureFixture[str]) -> None:
    assert labnic.cli.main(["exec", "--", "true"]) == 125
    assert "no lab is running" in capsys.readouterr().err


def test_clean_removes_the_artifacts(tmp_path: Path) -> None:
    (tmp_path / "artifacts" / "old").mkdir(parents=True)
    assert labnic.cli.main(["clean"]) == 0
    assert not (tmp_path / "artifacts").exists()
    assert labnic.cli.main(["clean", "--cache"]) == 0
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BootError("no boot", log=["last line"], hint="look"), 5),
        (GuestPanicError("panic", log=["last line"], hint="look"), 6),
        (KeyboardInterrupt(), 130),
        (RuntimeError("bug"), 8),
    ],
)
def test_each_error_has_its_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: labnic.up.UpOptions, config: Config, phases: object) -> int:
        raise error

    monkeypatch.setattr(labnic.up, "up", fail)
    monkeypatch.setattr("labnic.build.tool.stop_all", lambda: None)
    assert labnic.cli.main(["up"]) == code
    shown = capsys.readouterr().err
    if isinstance(error, LabnicError):
        assert f"labnic: error: {error.message}\n  | last line\n  hint: look\n" in shown
    elif code == 130:
        assert shown.strip() == "labnic: interrupted"
    else:
        assert "RuntimeError: bug" in shown


def test_up_hands_its_options_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[labnic.up.UpOptions] = []

    def record(options: labnic.up.UpOptions, config: Config, phases: object) -> int:
        seen.append(options)
        return 42

    monkeypatch.setattr(labnic.up, "up", record)
    assert labnic.cli.main(["up", "-c", "echo x", "--kernel", "6.12", "--append", "a=b", "--name", "n"]) == 42
    assert seen == [labnic.up.UpOptions("n", "6.12", "echo x", False, False, ("a=b",), None)]


WAITS = """
import sys, time
import labnic.up, labnic.cli
def wait(options, config, phases):
    try:
        print("waiting", flush=True)
        # In short pieces: a signal that comes just before the system call does not end it.
        for _ in range(600):
            time.sleep(0.1)
    finally:
        print("cleaned up", flush=True)
labnic.up.up = wait
sys.exit(labnic.cli.main(["up"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_130_after_cleaning_up(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "cleaned up\n")
    assert err.strip().startswith("labnic: ")
    assert "Traceback" not in err


def test_ctrl_c_while_the_package_loads_is_quiet() -> None:
    """As the launcher does it: the signal is held back before Python starts, and so from the first moment."""
    held = {signal.SIGINT}
    saved = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "labnic", "config", "show"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        )
        process.send_signal(signal.SIGINT)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, saved)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "labnic: interrupted\n")


class FakeQmp:
    """A device that takes every fault."""

    def __init__(self) -> None:
        self.faults: list[dict[str, Any]] = []
        self.wrong: list[dict[str, Any]] = []

    def execute(self, command: str, **arguments: Any) -> Any:
        assert arguments["path"] == "/machine/peripheral/card0"
        if arguments["property"] == "audit":
            return self.wrong
        if command == "qom-get":
            return self.faults
        if arguments["property"] == "audit-clear":
            self.wrong = []
            return None
        if arguments["property"] == "fault":
            rest = {"id": 4, "after": 0, "count": 1, "chance": 1000, "seed": 0, "seen": 3, "hits": 2}
            self.faults.append({**rest, **arguments["value"]})
        else:
            self.faults.clear()
        return None

    def close(self) -> None:
        pass


@pytest.fixture
def running_lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeQmp]:
    """A lab of which there is only a monitor."""
    lab = RunDir("mine")
    card = {"model": "labnic", "name": "eth7", "device": "card0", "queues": 2}
    lab.update(nics=[{"model": "e1000e", "name": "eth0", "device": "old", "queues": 1}, card])
    qmp = FakeQmp()
    monkeypatch.setattr(Qmp, "at", lambda path: qmp)
    yield qmp
    lab.close()


def test_a_fault_is_set_listed_and_cleared(running_lab: FakeQmp, capsys: pytest.CaptureFixture[str]) -> None:
    assert labnic.cli.main(["fault", "set", "irq-lose", "--queue", "1", "--count", "0"]) == 0
    assert running_lab.faults[0]["kind"] == "irq-lose"
    assert labnic.cli.main(["fault", "list"]) == 0
    assert labnic.cli.main(["fault", "list", "--json", "--nic", "eth7"]) == 0
    assert labnic.cli.main(["fault", "clear", "4"]) == 0
    assert labnic.cli.main(["fault", "list"]) == 0
    said, row, listed = capsys.readouterr().out.partition("\n")[2].partition("\n")
    assert said.split() == ["4", "irq-lose", "queue", "1", "3", "seen,", "2", "hit", "(until", "cleared)"], row
    assert json.loads(listed.rpartition("]")[0] + "]")[0]["queue"] == 1
    assert listed.endswith("no fault is set\n")


@pytest.mark.parametrize("register", ["TX_CTRL[1]", "0x410c"])
def test_the_register_of_a_fault_is_a_name_or_an_offset(running_lab: FakeQmp, register: str) -> None:
    assert labnic.cli.main(["fault", "set", "register", "--register", register, "--value", "0"]) == 0
    assert running_lab.faults[0]["register"] == 0x410C


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["set", "nothing"], "hint: faults: tx-withhold, "),
        (["set", "irq-lose", "--queue", "2"], "hint: queue can be 0 to 1"),
        (["set", "irq-lose", "--nic", "eth0"], "has no labnic eth0"),
        (["clear", "4"], "no fault 4 is set"),
    ],
)
def test_a_false_fault_is_refused(
    running_lab: FakeQmp, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert labnic.cli.main(["fault", *words]) == 2
    assert says in capsys.readouterr().err
    assert running_lab.faults == []


def test_the_audit_is_printed_and_forgotten(running_lab: FakeQmp, capsys: pytest.CaptureFixture[str]) -> None:
    running_lab.wrong = [{"rule": "ring-moved", "queue": 1, "count": 2, "detail": "write of 0x4100"}]
    assert labnic.cli.main(["fault", "audit"]) == 1
    assert capsys.readouterr().out == "ring-moved on queue 1, 2 times: write of 0x4100\n"
    assert labnic.cli.main(["fault", "audit", "--json", "--clear"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["rule"] == "ring-moved"
    assert labnic.cli.main(["fault", "audit"]) == 0
    assert capsys.readouterr().out == "the driver did nothing wrong\n"


def test_fault_without_a_lab_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert labnic.cli.main(["fault", "list"]) == 2
    assert "no lab is running" in capsys.readouterr().err


def test_fault_kinds_needs_no_lab(capsys: pytest.CaptureFixture[str]) -> None:
    assert labnic.cli.main(["fault", "kinds"]) == 0
    assert "tx-withhold" in capsys.readouterr().out
    assert labnic.cli.main(["fault", "kinds", "--json"]) == 0
    assert {kind["name"] for kind in json.loads(capsys.readouterr().out)} >= {"hang", "gone"}
