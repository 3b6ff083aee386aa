# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole runner of seeded bugs: it builds them, runs tests without and with them, and tells who survived."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labnic.build.cache import PROJECT, Cache
from labnic.command import backoff
from labnic.mutants import command, run
from labnic.mutants.catalog import Mutant, parse
from labnic.report import Phases
from labnic.settings import load_settings
from labnic.testrun import child_environment

HEADER = """\
# a mutant of this test's
Rule: HW
Bug: {bug}
Test: tests/device/test_registers.py::test_every_register_has_its_reset_value

"""
FATAL = """\
--- a/qemu-device/labnic.c
+++ b/qemu-device/labnic.c
@@ -95,3 +95,3 @@
     s->max_frame = LABNIC_INIT_MAX_FRAME;
-    s->rx_mode = LABNIC_INIT_RX_MODE;
+    s->rx_mode = LABNIC_RX_MODE_PROMISC;
     s->mac = labnic_addr_from_wire(s->conf.macaddr.a);
"""
HARMLESS = FATAL.replace("LABNIC_RX_MODE_PROMISC", "(LABNIC_INIT_RX_MODE)")
BROKEN = FATAL.replace("LABNIC_RX_MODE_PROMISC", "no_such_name")
STALE = FATAL.replace("-    s->rx_mode", "-    s->no_such_register")


def mutant(folder: Path, name: str, patch: str) -> Mutant:
    """A mutant of the device from such a patch."""
    path = folder / f"{name}.patch"
    path.write_text(HEADER.format(bug=name) + patch)
    return parse(path, f"device/{name}")


def test_only_what_a_test_notices_is_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patches = {"fatal": FATAL, "harmless": HARMLESS, "broken": BROKEN, "stale": STALE}
    mutants = [mutant(tmp_path, name, patch) for name, patch in patches.items()]
    config = load_settings(None).config.model_copy(update={"artifacts": tmp_path})
    environment = tuple(child_environment(()).items())
    # What an earlier run remembers is of no use here.
    options = run.Options("6.1", 1, again=True, environment=environment)
    verdicts = run.Run(config, options, Cache(), Phases(quiet=True)).verdicts(mutants)
    assert [verdict.outcome for verdict in verdicts] == ["killed", "survived", "no build", "stale"]
    assert verdicts[0].killer.endswith("test_every_register_has_its_reset_value")
    assert "no_such_name" in verdicts[2].detail
    assert command.conclude(verdicts, tmp_path, {}) == 1
    assert "survived: device/harmless" in capsys.readouterr().err
    assert json.loads(command.as_json(verdicts))[1]["outcome"] == "survived"


def processes(text: str) -> list[int]:
    """The processes that have this text in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def test_an_interrupt_leaves_no_process(tmp_path: Path) -> None:
    # Long enough to be interrupted in the middle: 41 tests without a bug, in a worker that has its QEMU.
    argv = [sys.executable, "-m", "labnic", "--set", f"artifacts={tmp_path}", "mutants", "--again", "device/*"]
    log = tmp_path / "output.log"
    with log.open("wb") as output:
        run = subprocess.Popen(
            argv, stdout=output, stderr=output, env=child_environment(()), cwd=PROJECT, start_new_session=True
        )
        try:
            for _ in backoff(60.0):
                if "tests pass" in log.read_text() or run.poll() is not None:
                    break
            assert len(processes(str(tmp_path))) > 1, log.read_text()
            run.send_signal(signal.SIGINT)
            assert run.wait(40.0) == 130, log.read_text()
        finally:
            run.kill()
            run.wait()
    assert processes(str(tmp_path)) == []
