# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands and files in the guest, by its agent: exit status, output and errors apart, and a limit on every wait."""

from __future__ import annotations

import base64
import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from labnic.agent import Agent, AgentError
from labnic.capture import SNAPLEN, Capture
from labnic.command import GuestCommandError, Result, backoff
from labnic.errors import CommandTimeoutError, LabnicError
from labnic.patience import patient

__all__ = ["Capture", "Guest", "GuestCommandError", "GuestProcess", "Result"]

COMMAND_TIMEOUT = 30.0
"""Seconds that a command may take unless its caller says otherwise."""

READ_SIZE = 1 << 20
"""Bytes of a file asked for at once."""

PATH = "/sbin:/usr/sbin:/bin:/usr/bin"
"""As in the guest's own shell: the full programs come before the names that busybox takes."""

_NO_SUCH_COMMAND = 127  # the status a shell gives for a program that it does not find
_SIGNALLED = 128  # a shell adds the signal's number to this


class GuestProcess:
    """A command that runs in the guest while the test goes on; as a context manager it is killed at the end."""

    def __init__(self, guest: Guest, argv: tuple[str, ...], pid: int) -> None:
        self.argv = argv
        self.pid = pid
        self._guest = guest
        self._result: Result | None = None

    def poll(self) -> Result | None:
        """How it ended, or None while it runs."""
        if self._result is None:
            state = self._guest.agent.request("guest-exec-status", {"pid": self.pid})
            if state["exited"]:
                self._result = _result(self.argv, state)
        return self._result

    def wait(self, timeout: float = COMMAND_TIMEOUT) -> Result:
        """Wait for the end; raises `CommandTimeoutError` after ``timeout`` seconds (the process then still runs)."""
        for _ in backoff(timeout):
            result = self.poll()
            if result is not None:
                return result
        raise CommandTimeoutError(f"`{shlex.join(self.argv)}` did not end within {patient(timeout):g} s in the guest")

    def kill(self, signal: str = "TERM") -> None:
        """Send a signal, named as in ``kill -TERM``; nothing happens when the process has ended."""
        if self.poll() is None:
            # The shell's own kill: the program is in a package that a small system lacks.
            self._guest.run(["sh", "-c", 'kill "-$1" "$2"', "sh", signal, str(self.pid)], timeout=10.0)

    def stop(self, signal: str = "TERM", timeout: float = 5.0) -> Result:
        """End it: the signal first, SIGKILL when that does not help within ``timeout`` seconds."""
        self.kill(signal)
        try:
            return self.wait(timeout)
        except CommandTimeoutError:
            self.kill("KILL")
            return self.wait(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # With the VM gone there is nothing to kill, and the first error is the one to report.
        with contextlib.suppress(LabnicError):
            self.stop()


class Guest:
    """The running guest; ``timeout`` is the default limit in seconds of `run`."""

    def __init__(self, agent: Agent, timeout: float = COMMAND_TIMEOUT) -> None:
        self.agent = agent
        self.timeout = timeout

    def run(
        self,
        argv: Sequence[str] | str,
        *,
        timeout: float | None = None,
        input: str | bytes | None = None,
        check: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run a command to its end; text instead of a list goes through ``sh -c``.

        Raises `GuestCommandError` when ``check`` is set and the status is not 0; `CommandTimeoutError` after
        ``timeout`` seconds, with the command killed; `VmLostError` or `GuestPanicError` when the VM goes away.
        A program that does not exist gives status 127, as in a shell.
        """
        limit = self.timeout if timeout is None else timeout
        try:
            process = self.start(argv, input=input, env=env)
        except AgentError as error:
            if "No such file" not in error.message and "not found" not in error.message:
                raise
            result = Result(_argv(argv), _NO_SUCH_COMMAND, "", error.message)
        else:
            result = self._finish(process, limit)
        if check and not result.ok:
            raise GuestCommandError(result)
        return result

    def _finish(self, process: GuestProcess, limit: float) -> Result:
        try:
            return process.wait(limit)
        except CommandTimeoutError as error:
            process.kill("KILL")
            log: list[str] = []
            with contextlib.suppress(CommandTimeoutError):
                partial = process.wait(5.0)
                log = (partial.stdout + partial.stderr).splitlines()[-20:]
            raise CommandTimeoutError(error.message, log=log) from None

    def sh(self, script: str, *, timeout: float | None = None, input: str | bytes | None = None) -> str:
        """The output of a shell script, without space at the ends; raises `GuestCommandError` when it fails."""
        return self.run(script, timeout=timeout, input=input, check=True).stdout.strip()

    def start(
        self,
        argv: Sequence[str] | str,
        *,
        input: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
    ) -> GuestProcess:
        """Start a command and do not wait for it; raises `AgentError` when the program does not exist."""
        words = _argv(argv)
        variables = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C", **(env or {})}
        request: dict[str, Any] = {
            "path": words[0],
            "arg": list(words[1:]),
            "env": [f"{name}={value}" for name, value in variables.items()],
            "capture-output": True,
        }
        if input is not None:
            request["input-data"] = base64.b64encode(input.encode() if isinstance(input, str) else input).decode()
        return GuestProcess(self, words, int(self.agent.request("guest-exec", request)["pid"]))

    def wait_until(
        self,
        argv: Sequence[str] | str,
        *,
        timeout: float = 10.0,
        predicate: Callable[[Result], bool] = lambda result: result.ok,
        what: str = "",
    ) -> Result:
        """Run a command again and again until ``predicate`` holds for its result (default: status 0).

        Raises `CommandTimeoutError` after ``timeout`` seconds, saying ``what`` was waited for and the last result.
        """
        result: Result | None = None
        deadline = time.monotonic() + timeout
        for _ in backoff(timeout):
            result = self.run(argv, timeout=max(1.0, deadline - time.monotonic()))
            if predicate(result):
                return result
        what = what or f"`{shlex.join(_argv(argv))}`"
        raise CommandTimeoutError(f"waited {patient(timeout):g} s in vain for {what}", log=str(result).splitlines())

    def capture(
        self,
        interface: str,
        filter: str = "",
        *,
        direction: Literal["in", "out", "inout"] = "in",
        promiscuous: bool = False,
        snaplen: int = SNAPLEN,
    ) -> Capture:
        """Record what the interface sees; see `Capture`."""
        return Capture(self, interface, filter, direction=direction, promiscuous=promiscuous, snaplen=snaplen)

    def read(self, path: str) -> bytes:
        """A file of the guest; raises `AgentError` when it cannot be opened."""
        with self.open(path) as handle:
            return b"".join(self.read_pieces(handle))

    def read_text(self, path: str) -> str:
        """A text file of the guest, without space at the ends."""
        return self.read(path).decode("utf-8", "replace").strip()

    def write(self, path: str, data: bytes | str) -> None:
        """Write a file of the guest; raises `GuestCommandError` when that fails, with the kernel's reason."""
        # By cat and not by the agent's file requests: a driver's refusal of a value in sysfs comes with write or close.
        self.run(["sh", "-c", 'cat > "$1"', "sh", path], input=data, check=True)

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[int]:
        """A handle of the agent for reading a file."""
        handle = int(self.agent.request("guest-file-open", {"path": path, "mode": "r"}))
        try:
            yield handle
        finally:
            with contextlib.suppress(LabnicError):
                self.agent.request("guest-file-close", {"handle": handle})

    def read_pieces(self, handle: int) -> Iterator[bytes]:
        """What is in an open file from where the last read ended."""
        while True:
            answer = self.agent.request("guest-file-read", {"handle": handle, "count": READ_SIZE})
            if answer["count"]:
                yield base64.b64decode(answer["buf-b64"])
            if answer["eof"] or not answer["count"]:
                return


def _argv(argv: Sequence[str] | str) -> tuple[str, ...]:
    return ("sh", "-c", argv) if isinstance(argv, str) else tuple(argv)


def _result(argv: tuple[str, ...], state: Mapping[str, Any]) -> Result:
    status = state["exitcode"] if "exitcode" in state else _SIGNALLED + int(state.get("signal", 0))
    out, err = (base64.b64decode(state.get(f"{name}-data", "")) for name in ("out", "err"))
    told = err.decode("utf-8", "replace")
    if state.get("out-truncated") or state.get("err-truncated"):
        told += "\n(labnic: the agent cut the output, which was longer than it keeps)"
    return Result(argv, int(status), out.decode("utf-8", "replace"), told, out)
