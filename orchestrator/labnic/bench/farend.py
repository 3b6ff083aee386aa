# SPDX-License-Identifier: GPL-2.0-or-later
"""The program at the far end of a NIC's wire, ``farend.c``: one process for each wire, one line for each command."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labnic.build.cache import Cache
from labnic.build.program import build_program
from labnic.errors import WireError
from labnic.machine import leashed
from labnic.patience import patient
from labnic.wire import Wire

SOURCE = Path(__file__).with_name("farend.c")
OPTIONS = ("-O2", "-std=gnu11", "-D_GNU_SOURCE")

PING_LIMIT = 20.0
"""Seconds that many round trips may take: each may take one until it counts as lost."""

QUIET = 0.5
"""Seconds without a frame after which those that are missing are lost."""

ANSWER_LIMIT = 10.0
"""Seconds for an answer, beyond what the command itself takes."""


def build_farend(cache: Cache) -> Path:
    """The program; raises `BuildError` with what the compiler said."""
    return build_program(SOURCE, cache, OPTIONS)


@dataclass(frozen=True)
class Counts:
    """What came from the NIC: pktgen's frames, those of them (or of the echoes) with a wrong byte, those that overtook
    others, and frames of nobody's."""

    frames: int
    bad: int
    disorder: int
    foreign: int


@dataclass(frozen=True)
class Flood:
    """What went to the NIC in so many seconds, and how many of pktgen's frames came from it meanwhile."""

    sent: int
    seconds: float
    received: int


@dataclass(frozen=True)
class Echo:
    """Frames that the guest was sent, and what came back of them."""

    sent: int
    echoes: int
    bad: int
    disorder: int


@dataclass(frozen=True)
class Pings:
    """Round trips in nanoseconds, and how many frames did not come back."""

    ns: tuple[int, ...]
    lost: int
    bad: int


class FarEnd:
    """A process that has our end of a wire; a context manager that ends it."""

    def __init__(self, program: Path, wire: Wire, nic_mac: str, peer_mac: str) -> None:
        fd = wire.our_end.fileno()
        self._name = wire.name
        self._process = subprocess.Popen(
            leashed([str(program), str(fd), nic_mac, peer_mac], {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(fd,),
            text=True,
            start_new_session=True,
        )

    def close(self) -> None:
        """End the process: by the end of its input, or by force.  Safe to call twice."""
        process = self._process
        if process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5.0)
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()

    def reset(self, length: int) -> None:
        """Forget the counts; from now on pktgen's frames must have this length."""
        self._ask(f"reset {length}")

    def count(self) -> Counts:
        """What came since then."""
        return Counts(**self._ask("count"))

    def arrived(self, frames: int) -> Counts:
        """The counts when so many frames of pktgen have come, or when no more come for a while."""
        counts, since = self.count(), time.monotonic()
        while counts.frames < frames and time.monotonic() - since < QUIET:
            time.sleep(QUIET / 20)
            now = self.count()
            if now.frames > counts.frames:
                counts, since = now, time.monotonic()
        return counts

    def flood(self, seconds: float, length: int, count: int = 0) -> Flood:
        """Send frames as fast as they are taken, for so long or, unless ``count`` is 0, until so many are sent."""
        return Flood(**self._ask(f"flood {seconds} {length} {count}", seconds))

    def echo(self, count: int, length: int) -> Echo:
        """Send frames that the guest sends back, and compare each byte."""
        return Echo(**self._ask(f"echo {count} {length}", 60.0))

    def ping(self, count: int, pause: float, load: int = 0) -> Pings:
        """Time frames that the guest sends back, ``pause`` seconds apart, beside ``load`` frames a second to it.

        A guest that cannot cope with the load is asked fewer times, for `PING_LIMIT` seconds.
        """
        answer = self._ask(f"ping {count} {int(pause * 1e6)} {load} {PING_LIMIT}", PING_LIMIT)
        return Pings(tuple(answer["ns"]), answer["lost"], answer["bad"])

    def _ask(self, command: str, seconds: float = 0.0) -> Mapping[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(command + "\n")
            stdin.flush()
        except OSError:
            raise self._ended(command) from None
        line = _line(stdout.fileno(), seconds + patient(ANSWER_LIMIT))
        if not line:
            raise self._ended(command)
        answer: Mapping[str, Any] = json.loads(line)
        if "error" in answer:
            raise WireError(f"the far end of {self._name} refuses {command!r}: {answer['error']}")
        return answer

    def _ended(self, command: str) -> WireError:
        said = ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
            said = self._process.stderr.read().strip() if self._process.stderr else ""
        return WireError(f"the far end of {self._name} does not answer {command!r}", log=said.splitlines())


def _line(fd: int, limit: float) -> bytes:
    """One line, or nothing when it does not come in time; read without a buffer, so that `select` tells the truth."""
    deadline = time.monotonic() + limit
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return b""
        piece = os.read(fd, 1 << 16)
        if not piece:
            return b""
        line += piece
    return line
