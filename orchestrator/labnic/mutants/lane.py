# SPDX-License-Identifier: GPL-2.0-or-later
"""The other end of `labnic.mutants.worker`: one process with one VM, replaced when it does not answer in time."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from labnic.build.cache import PROJECT
from labnic.errors import CommandTimeoutError, InternalError, InterruptError
from labnic.machine import leashed
from labnic.mutants.recorder import Findings
from labnic.mutants.worker import Request

PATIENCE = 15.0
"""Seconds that a worker gets to end its VM."""

_LOOK = 0.2  # seconds between two looks at whether the run is to end


class Lane:
    """A worker, started when the first request comes; ``folder`` gets its logs. Close it at the end."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self.process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._stopping = False

    def ask(self, request: Request, limit: float) -> Findings:
        """What the tests found. Raises `CommandTimeoutError` after ``limit`` seconds, with the worker and its VM ended;
        `InternalError` when the worker ends by itself, `InterruptError` once the lane is to stop."""
        if self._stopping:
            raise InterruptError("the run is to end")
        channel = self._started()
        with contextlib.suppress(OSError):
            channel.sendall(request.line())
        try:
            return Findings.of_json(json.loads(self._answer(channel, time.monotonic() + limit, limit)))
        except BaseException:
            self.close()
            raise

    def _started(self) -> socket.socket:
        if self._channel is not None:
            return self._channel
        self._folder.mkdir(parents=True, exist_ok=True)
        self._channel, theirs = socket.socketpair()
        with theirs, (self._folder / "worker.log").open("ab") as log:
            argv = [sys.executable, "-m", "labnic.mutants.worker", str(self._folder), str(theirs.fileno())]
            self.process = subprocess.Popen(
                leashed(argv, {}),
                cwd=PROJECT,
                env=self._environment,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C of the terminal goes to us, who end the worker in order.
                start_new_session=True,
            )
        return self._channel

    def _answer(self, channel: socket.socket, deadline: float, limit: float) -> bytes:
        data = b""
        while not data.endswith(b"\n"):
            if self._stopping:
                raise InterruptError("the run is to end")
            if time.monotonic() > deadline:
                raise CommandTimeoutError(f"no answer within {limit:g} s")
            if not select.select([channel], [], [], _LOOK)[0]:
                continue
            piece = channel.recv(1 << 16)
            if not piece:
                log = (self._folder / "worker.log").read_text(errors="replace").splitlines()[-20:]
                raise InternalError(f"the worker in {self._folder} ended by itself", log=log)
            data += piece
        return data

    def stop(self) -> None:
        """From another thread: have `ask` end soon."""
        self._stopping = True

    def close(self) -> None:
        """End the worker with its VM: it sees the channel close, or is interrupted, or killed."""
        process, self.process = self.process, None
        channel, self._channel = self._channel, None
        if channel:
            channel.close()
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        process.kill()  # its VM dies with it
        process.wait()
