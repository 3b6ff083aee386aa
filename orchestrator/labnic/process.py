# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes of others, recognised by pid and start time together: a pid alone may have been given to someone else."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_START_TIME = 19  # of the fields after the program's name in /proc/PID/stat; proc(5) counts it as the 22nd


@dataclass(frozen=True)
class ProcessId:
    """A process; ``start`` is its start time in clock ticks since the machine booted."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """The process that has this pid now; raises `ProcessLookupError` when there is none."""
        start = _start_time(pid)
        if start is None:
            raise ProcessLookupError(pid)
        return cls(pid, start)

    def alive(self) -> bool:
        """Whether it still runs (a zombie does not)."""
        return _start_time(self.pid) == self.start

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        with contextlib.suppress(ProcessLookupError), _pidfd(self.pid) as handle:
            # With the handle open the pid cannot change its owner any more: the check holds.
            if self.alive():
                signal.pidfd_send_signal(handle.fd, number)

    def wait(self, timeout: float) -> bool:
        """Wait for its end; False when it still runs after ``timeout`` seconds."""
        try:
            with _pidfd(self.pid) as handle:
                if not self.alive():
                    return True
                poller = select.poll()
                poller.register(handle.fd, select.POLLIN)
                return bool(poller.poll(timeout * 1000))
        except ProcessLookupError:
            return True

    def end(self, patience: float) -> bool:
        """SIGTERM, and SIGKILL after ``patience`` seconds; False when it outlives even that."""
        self.signal(signal.SIGTERM)
        if self.wait(patience):
            return True
        self.signal(signal.SIGKILL)
        return self.wait(5.0)


class _pidfd:  # noqa: N801 - reads as the system call that it wraps
    def __init__(self, pid: int) -> None:
        self.fd = os.pidfd_open(pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def _start_time(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is in parentheses and may hold spaces and parentheses itself.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[_START_TIME])
