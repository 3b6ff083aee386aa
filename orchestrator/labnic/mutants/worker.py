# SPDX-License-Identifier: GPL-2.0-or-later
"""The process that runs tests against mutants, one request after the other, each a line of JSON.

Run as ``python -m labnic.mutants.worker FOLDER FD``: ``FOLDER`` gets the logs of the VMs, ``FD`` is one end of a socket
pair. pytest runs in this process, since the VM that it is lent does: booting it for each mutant would take three times
as long. What pytest prints goes to the standard output.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

import labnic.plugin
from labnic.build.cache import PROJECT
from labnic.lab import Lab
from labnic.mutants.recorder import Findings, Recorder
from labnic.mutants.stand import Stand
from labnic.mutants.watch import Watch
from labnic.report import Phases
from labnic.settings import load_settings

TEST_LIMIT = 60
"""Seconds for one test: longer than the waits inside of a test for one thing, since a mutant may be that slow."""


@dataclass(frozen=True)
class Request:
    """Tests to run: ``project`` holds the sources, ``module`` is the driver built from them.

    With ``module`` the guest's tests are lent a restored VM into which it is loaded; without, they boot what
    ``project`` gives. ``first`` ends the run at the first failure.
    """

    name: str
    tests: tuple[str, ...]
    project: str
    kernel: str
    module: str = ""
    config: str = ""
    first: bool = True

    def line(self) -> bytes:
        """As it goes to the worker."""
        return json.dumps(asdict(self)).encode() + b"\n"


class Worker:
    """Answers requests with findings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stand: Stand | None = None

    def run(self, request: Request) -> Findings:
        """The device's tests first, since they take milliseconds; then those in the guest."""
        findings = Findings()
        for group in ("device", "guest"):
            tests = [test for test in request.tests if test.startswith(f"tests/{group}/")]
            if tests and not (request.first and findings.failures):
                findings.add(self._session(request, group, tests))
        return findings

    def _session(self, request: Request, group: str, tests: Sequence[str]) -> Findings:
        recorder = Recorder()
        plugins: list[object] = [labnic.plugin, recorder]
        argv = [*(str(PROJECT / test) for test in tests), "-c", str(PROJECT / "pyproject.toml")]
        argv += [f"--rootdir={PROJECT}", "-p", "no:cacheprovider"]
        argv += ["--labnic-project", request.project, "--labnic-kernel", request.kernel]
        argv += ["--labnic-artifacts", str(self._folder / request.name), "-o", f"timeout={TEST_LIMIT}"]
        # Fixtures and reports have limits of their own; a time-out in the midst of a report ends pytest itself.
        argv += ["-o", "timeout_func_only=true"]
        argv += ["--labnic-config", request.config] if request.config else []
        argv += ["-x"] if request.first else []
        if group == "guest" and request.module:
            watch = Watch()
            plugins += [watch, self._lender(request, watch)]
        try:
            broken = pytest.main(argv, plugins) == pytest.ExitCode.INTERNAL_ERROR
        except Exception:
            traceback.print_exc()
            broken = True
        if broken and not recorder.findings.failures:
            # No test has noticed anything: that kills nothing.
            recorder.findings.uncollected.append(f"{tests[0]} (pytest failed, see the worker's log)")
        return recorder.findings

    def _lender(self, request: Request, watch: Watch) -> object:
        if self._stand is None:
            config = load_settings(Path(request.config) if request.config else None).config
            self._stand = Stand(config, self._folder, Phases())
        self._stand.kernel, self._stand.module = request.kernel, Path(request.module)
        return _Lending(self._stand, watch)

    def close(self) -> None:
        """End the VM."""
        if self._stand:
            self._stand.close()


class _Lending:
    """The plugin of one session, registered under the name that `labnic.plugin` looks for."""

    __name__ = labnic.plugin.LENDER

    def __init__(self, stand: Stand, watch: Watch) -> None:
        self._stand = stand
        self._watch = watch

    def lend(self) -> Lab:
        """See `labnic.plugin.Lender`."""
        lab = self._stand.fresh()
        self._watch.follow(lab)
        self._stand.load(lab)
        return lab


def main(folder: Path, channel: socket.socket) -> None:
    """Answer requests until the other end closes the channel."""
    worker = Worker(folder)
    try:
        _serve(worker, channel)
    except (KeyboardInterrupt, BrokenPipeError):
        pass  # the other end has given up; what it wants now is that nothing stays
    finally:
        worker.close()


def _serve(worker: Worker, channel: socket.socket) -> None:
    try:
        with channel.makefile("rwb") as stream:
            for line in stream:
                data = json.loads(line)
                request = Request(**{**data, "tests": tuple(data["tests"])})
                stream.write(json.dumps(worker.run(request).as_json()).encode() + b"\n")
                stream.flush()
    finally:
        # However it ended: an interrupt that follows the end of the channel must not disturb the closing.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
