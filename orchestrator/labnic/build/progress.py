# SPDX-License-Identifier: GPL-2.0-or-later
"""What the build layer tells the user; the command line decides how it looks."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TextIO


class Progress(Protocol):
    """Receives the phases of a build and the facts worth a line. Must allow calls from several threads."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """A span of work that takes noticeable time; entered only when there is something to do."""
        ...

    def note(self, text: str) -> None:
        """One line for the user, such as which version was taken."""
        ...


class PlainProgress:
    """A :class:`Progress` that writes plain lines, for scripts and the build layer's own trials."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Print the duration when the span ends well."""
        begin = time.monotonic()
        yield
        self.note(f"{name}: {time.monotonic() - begin:.2f} s")

    def note(self, text: str) -> None:
        """Print the line."""
        print(text, file=self.stream, flush=True)
