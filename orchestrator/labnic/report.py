# SPDX-License-Identifier: GPL-2.0-or-later
"""What long work tells the user: phases while they happen, their table at the end, and errors."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from xml.etree import ElementTree

from junitparser import JUnitXml

from labnic.errors import LabnicError

BOOTSTRAP_PHASES = "LABNIC_BOOTSTRAP_PHASES"
"""Environment variable with what the launcher did before this program began: a JSON list of [name, seconds]."""

SEVERITY = (0, 7, 1, 2, 3, 4, 5, 6, 8, 130)
"""Exit codes from good to bad; the worst of several wins."""


@dataclass(frozen=True)
class Phase:
    """A span of work and its duration in seconds."""

    name: str
    seconds: float


class Phases:
    """Times phases and prints a line for each; safe to use from several threads (see `labnic.build.Progress`)."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.done: list[Phase] = []
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._lock = threading.Lock()
        self._begin = time.monotonic()

    def add_bootstrap(self) -> None:
        """Take over the phases of the launcher that started this program."""
        with contextlib.suppress(ValueError, TypeError):
            for name, seconds in json.loads(os.environ.get(BOOTSTRAP_PHASES, "[]")):
                self.add(str(name), float(seconds))

    def add(self, name: str, seconds: float) -> None:
        """Record a phase that was timed elsewhere."""
        with self._lock:
            self.done.append(Phase(name, seconds))

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A span of work; when it fails, its line says so."""
        begin = time.monotonic()
        if not self._quiet and self._stream.isatty():
            self.note(f"{name} ...")
        try:
            yield
        except BaseException:
            self._line(f"{name}: failed after {time.monotonic() - begin:.1f} s")
            raise
        seconds = time.monotonic() - begin
        self.add(name, seconds)
        self._line(f"{name}: {seconds:.1f} s")

    def note(self, text: str) -> None:
        """One line for the user."""
        self._line(text)

    def _line(self, text: str) -> None:
        if not self._quiet:
            with self._lock:
                print(f"labnic: {text}", file=self._stream, flush=True)

    def table(self, stream: TextIO | None = None) -> None:
        """Print all phases with their durations; phases that ran side by side add up to more than the whole."""
        from rich.console import Console
        from rich.table import Table

        table = Table(title="phases", title_justify="left", show_edge=False)
        table.add_column("phase")
        table.add_column("seconds", justify="right")
        for phase in self.done:
            table.add_row(phase.name, f"{phase.seconds:.1f}")
        whole = time.monotonic() - self._begin + sum(p.seconds for p in self.done if p.name in self._bootstrap())
        table.add_section()
        table.add_row("whole run", f"{whole:.1f}")
        Console(file=stream or sys.stdout, highlight=False).print(table)

    def _bootstrap(self) -> set[str]:
        with contextlib.suppress(ValueError, TypeError):
            return {str(name) for name, _ in json.loads(os.environ.get(BOOTSTRAP_PHASES, "[]"))}
        return set()

    def save(self, path: Path) -> None:
        """Write the phases as a JSON list of [name, seconds]."""
        path.write_text(json.dumps([[phase.name, round(phase.seconds, 3)] for phase in self.done]))

    def load(self, path: Path, prefix: str = "") -> None:
        """Add the phases that another process saved."""
        with contextlib.suppress(OSError, ValueError):
            for name, seconds in json.loads(path.read_text()):
                self.add(prefix + name, seconds)


def worst(codes: Sequence[int]) -> int:
    """The exit code that wins; an unknown one counts as a fault of labnic."""
    known = [code if code in SEVERITY else 8 for code in codes]
    return max(known, key=SEVERITY.index, default=0)


def error_lines(error: LabnicError) -> list[str]:
    """What happened, the last lines of the log that explains it, and what to do."""
    lines = [f"labnic: error: {error.message}", *(f"  | {line}" for line in error.log)]
    return [*lines, f"  hint: {error.hint}"] if error.hint else lines


def print_error(error: LabnicError, stream: TextIO | None = None) -> None:
    """Print `error_lines`, by default to the standard error."""
    print("\n".join(error_lines(error)), file=stream or sys.stderr, flush=True)


def run_folder(base: Path) -> Path:
    """A new folder for one run's artifacts, named by the time; ``latest`` beside it points to it."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        path = base / (stamp + suffix)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise FolderError(path, error) from None
        link = base / f".latest-{os.getpid()}"
        with contextlib.suppress(OSError):
            link.symlink_to(path.name)
            link.replace(base / "latest")
        return path
    raise FolderError(base, OSError("too many runs in one second"))


class FolderError(LabnicError):
    """A folder for artifacts cannot be made."""

    exit_code = 2

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"the artifacts folder {path} cannot be made: {error.strerror or error}",
            hint="name another with the setting `artifacts` or LABNIC_ARTIFACTS",
        )


def merge_junit(parts: Sequence[Path], target: Path) -> None:
    """Put several JUnit files into one; missing ones, and those of a pytest that was killed, are left out."""
    whole = JUnitXml()
    for part in parts:
        with contextlib.suppress(OSError, ElementTree.ParseError):
            whole += JUnitXml.fromfile(str(part))
    whole.write(str(target))
