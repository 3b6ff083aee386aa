# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's serial console: a log, and a shell for people.  Tests run their commands through the agent instead."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pexpect
from pexpect.fdpexpect import fdspawn

from labnic.errors import CommandTimeoutError, UsageError, VmLostError
from labnic.patience import patient
from labnic.splat import clean, tail

LEAVE = b"\x1d"
"""Ctrl-], as in telnet: leaves the console and lets the guest run."""

_BEGIN, _DONE = "labnic-begin", "labnic-done"


class Console:
    """The console of one VM; ``run`` is its folder of sockets, ``log`` the file that QEMU copies the output to."""

    def __init__(self, run: Path, log: Path) -> None:
        self._socket = run / "console.sock"
        self._lock = run / "console.lock"
        self.log = log

    def tail(self, count: int = 20) -> list[str]:
        """The last lines of the log."""
        return tail(self.log, count)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        """A connection, held by one process at a time: QEMU would let a second one wait without a word."""
        with self._lock.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError("the console is in use by another labnic", hint="use `labnic exec`") from None
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                try:
                    sock.connect(str(self._socket))
                except OSError as error:
                    raise VmLostError(f"the console does not answer: {error.strerror}", log=self.tail()) from None
                yield sock

    @contextlib.contextmanager
    def session(self, timeout: float = 30.0) -> Iterator[ConsoleSession]:
        """Drive the guest's shell with pexpect."""
        with self._connected() as sock:
            spawn = fdspawn(sock.fileno(), timeout=timeout, encoding="utf-8", codec_errors="replace")
            yield ConsoleSession(spawn, self)

    def attach(self, alive: Callable[[], bool] = lambda: True) -> bool:
        """Connect the user's terminal until Ctrl-] is pressed (True) or the VM ends (False; ``alive`` is asked too)."""
        with self._connected() as sock, _raw_terminal():
            # The shell has printed its prompt long ago.
            sock.send(b"\r")
            return _copy(sock, alive)


class ConsoleSession:
    """pexpect on the console; errors come with the last lines of the log."""

    def __init__(self, spawn: Any, console: Console) -> None:
        self.spawn = spawn
        self._console = console

    def send_line(self, text: str) -> None:
        """Type a line."""
        self.spawn.send(text + "\r")

    def expect(self, pattern: str, timeout: float = 10.0) -> str:
        """Wait until the pattern (regular expression) is printed and give what came before it."""
        timeout = patient(timeout)
        try:
            self.spawn.expect(pattern, timeout=timeout)
        except pexpect.TIMEOUT:
            raise CommandTimeoutError(
                f"the console did not print {pattern!r} within {timeout:g} s", log=self._console.tail()
            ) from None
        except pexpect.EOF:
            raise VmLostError("the console was closed: QEMU ended", log=self._console.tail()) from None
        return str(self.spawn.before)

    def command(self, line: str, timeout: float = 10.0) -> str:
        """Type a command and give what it printed, kernel messages of that time included."""
        # The quotes keep the echo of the typed line from looking like the markers.
        begin, done = (f"{word[:6]}''{word[6:]}" for word in (_BEGIN, _DONE))
        self.send_line(f"echo {begin}; {line or ':'}; echo {done}")
        self.expect(_BEGIN + r"\r\n", timeout)
        return "\n".join(clean(text) for text in self.expect(_DONE, timeout).splitlines()).strip("\n")


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """The terminal hands on each key, Ctrl-C included; put back afterwards."""
    if not sys.stdin.isatty():
        raise UsageError("the console needs a terminal", hint="use `labnic exec -- COMMAND`")
    fd = sys.stdin.fileno()
    saved = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, saved)


def _copy(sock: socket.socket, alive: Callable[[], bool]) -> bool:
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    while True:
        ready, _, _ = select.select([sock, stdin], [], [], 1.0)
        if sock in ready:
            data = sock.recv(65536)
            if not data:
                return False
            os.write(stdout, data)
        if stdin in ready:
            keys = os.read(stdin, 4096)
            before, leave, _ = keys.partition(LEAVE)
            sock.sendall(before)
            if leave or not keys:
                return True
        if not ready and not alive():
            return False
