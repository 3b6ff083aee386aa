# SPDX-License-Identifier: GPL-2.0-or-later
"""Several programs side by side, the output of each apart and shown when it has ended."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from labnic.machine import leashed

INTERRUPT_PATIENCE = 20.0
"""Seconds that interrupted programs get, together, to end what they started."""

_POLL = 0.05  # seconds between two looks at the running programs
_PERCENT = re.compile(rb"\[ *(\d{1,3})%\]")
_TAIL = 4096  # bytes of the output in which the newest percentage is looked for


@dataclass(frozen=True)
class Program:
    """A command to run; without ``output`` it writes to this process's own output."""

    name: str
    argv: tuple[str, ...]
    output: Path | None = None


class Lanes:
    """Runs programs, at most ``width`` at a time, in the order given; none of them outlives this process."""

    def __init__(self, width: int, folder: Path, environment: Mapping[str, str]) -> None:
        self._width = width
        self._folder = folder
        self._environment = dict(environment)
        self._running: dict[Program, tuple[subprocess.Popen[bytes], float]] = {}

    def run(self, programs: Sequence[Program], ended: Callable[[Program, int, float], None]) -> None:
        """Run all of them; ``ended`` gets each program with its exit status and its seconds, when it has ended.

        An exception, Ctrl-C above all, interrupts those that run and waits for their clean-up before it goes on.
        """
        waiting = list(programs)
        try:
            with _Bars() as bars:
                while waiting or self._running:
                    while waiting and len(self._running) < self._width:
                        self._start(waiting.pop(0))
                    self._look(ended, bars)
        except BaseException:
            self._interrupt()
            raise

    def _start(self, program: Program) -> None:
        sys.stdout.flush()
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(program.output.open("wb")) if program.output else None
            process = subprocess.Popen(
                leashed(list(program.argv), {}),
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL if output else None,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
            )
        self._running[program] = (process, time.monotonic())

    def _look(self, ended: Callable[[Program, int, float], None], bars: _Bars) -> None:
        """One look at each running program."""
        time.sleep(_POLL)
        for program, (process, begin) in list(self._running.items()):
            status = process.poll()
            if status is None:
                bars.show(program)
                continue
            del self._running[program]
            bars.remove(program)
            if program.output:
                sys.stdout.write(program.output.read_text(errors="replace"))
                sys.stdout.flush()
            ended(program, status, time.monotonic() - begin)

    def _interrupt(self) -> None:
        """End what runs: with Ctrl-C, and by force when that does not do."""
        processes = [process for process, _ in self._running.values()]
        for process in processes:
            process.send_signal(signal.SIGINT)
        limit = time.monotonic() + INTERRUPT_PATIENCE
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, limit - time.monotonic()))
            process.kill()
            process.wait()
        for program in self._running:
            if program.output:
                sys.stdout.write(program.output.read_text(errors="replace"))


class _Bars:
    """How far each program is, by the percentage that it printed last; on a terminal only."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:<12}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        console = Console(stderr=True)
        self._progress = Progress(
            *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
        )
        self._tasks: dict[Program, TaskID] = {}

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, program: Program) -> None:
        """Bring the bar of a running program up to date."""
        if program.output is None or self._progress.disable:
            return
        if program not in self._tasks:
            self._progress.start()
            self._tasks[program] = self._progress.add_task(program.name, total=100)
        self._progress.update(self._tasks[program], completed=_percentage(program.output))

    def remove(self, program: Program) -> None:
        """Take away the bar, and all of them while output is printed."""
        if program in self._tasks:
            self._progress.remove_task(self._tasks.pop(program))


def _percentage(output: Path) -> int:
    """The newest percentage in the last lines of a file of pytest's output; 0 when there is none."""
    try:
        with output.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            found = _PERCENT.findall(file.read())
    except OSError:
        return 0
    return int(found[-1]) if found else 0
