# SPDX-License-Identifier: GPL-2.0-or-later
"""How a command in the guest ended, and how to wait for such things."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from labnic import patience
from labnic.errors import LabnicError

FIRST_POLL, LAST_POLL = 0.004, 0.1
"""Seconds between two looks at a command's state: at first and at last, growing in between.  The agent cannot tell by
itself that a command ended."""


@dataclass(frozen=True)
class Result:
    """How a command ended.

    ``status`` is 128 + n when signal n killed it; ``output`` is what ``stdout`` is as text, byte for byte.
    """

    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str
    output: bytes = field(default=b"", repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the status is 0."""
        return self.status == 0

    @property
    def lines(self) -> list[str]:
        """The lines of the output."""
        return self.stdout.splitlines()

    def __str__(self) -> str:
        text = f"`{shlex.join(self.argv)}` ended with status {self.status}"
        for title, output in (("stdout", self.stdout), ("stderr", self.stderr)):
            if output.strip():
                text += f"\n{title}: {output.strip()}"
        return text


class GuestCommandError(LabnicError):
    """A command in the guest, which had to succeed, failed; ``result`` says how."""

    exit_code = 1

    def __init__(self, result: Result) -> None:
        super().__init__(str(result))
        self.result = result


def backoff(timeout: float) -> Iterator[float]:
    """Yield at once and then with growing pauses until ``timeout`` seconds are over, and a last time then.

    Like every limit it grows with the kernel's slowness; see `labnic.patience`.
    """
    deadline = patience.deadline(timeout)
    pause = FIRST_POLL
    while True:
        yield pause
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(pause, left))
        pause = min(1.5 * pause, LAST_POLL)
