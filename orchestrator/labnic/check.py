# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the static checks: all of them even when one fails, one line for each, and what the failed ones said."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from labnic import gen
from labnic.build.cache import Cache
from labnic.build.progress import Progress
from labnic.build.tool import stop_all
from labnic.checks import device, driver, python, text
from labnic.checks.base import Check, Context, FindingsError, explain
from labnic.errors import LabnicError, UsageError


@dataclass(frozen=True)
class Outcome:
    """How a check ended: ``said`` is empty when it passed; ``seconds`` is its duration."""

    check: Check
    said: str
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether all was well."""
        return not self.said


def all_checks() -> tuple[Check, ...]:
    """Every check, the quick ones first."""
    return (*text.CHECKS, *python.CHECKS, *driver.checks(), *device.CHECKS)


def names() -> tuple[str, ...]:
    """The names that ``run(only=...)`` takes."""
    return tuple(check.name for check in all_checks())


def select(only: Sequence[str] | None) -> tuple[Check, ...]:
    """The checks with these names, in their own order; all of them without names. UsageError for an unknown name."""
    known = all_checks()
    unknown = sorted(set(only or ()) - {check.name for check in known})
    if unknown:
        raise UsageError(
            f"there is no check {', '.join(unknown)}", hint=f"the checks are {', '.join(check.name for check in known)}"
        )
    return tuple(check for check in known if not only or check.name in only)


def attempt(check: Check, context: Context) -> Outcome:
    """Run one check. Whatever goes wrong in it, a missing program included, is a failure of that check alone."""
    begin = time.monotonic()
    try:
        check.run(context)
        said = ""
    except FindingsError as failure:
        said = str(failure) or "it failed without a word"
    except LabnicError as error:
        said = explain(error)
    return Outcome(check, said, time.monotonic() - begin)


def run(
    progress: Progress,
    only: Sequence[str] | None = None,
    *,
    cache: Cache | None = None,
    root: Path | None = None,
) -> int:
    """Run the checks (those named in ``only``, or all) and say how each ended; 0 when all passed, else 1.

    Two or more run at once, as the machine has processors. Raises :class:`UsageError` for an unknown name.
    """
    checks = select(only)
    width = max(len(check.name) for check in checks)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="labnic-check-") as scratch:
        context = Context(root or gen.root(), Path(scratch), cache or Cache(), progress)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            futures = [pool.submit(attempt, check, context) for check in checks]
            try:
                for future in futures:
                    outcomes.append(future.result())
                    progress.note(line(outcomes[-1], width))
            except BaseException:
                _abandon(futures)
                raise
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failed:
        progress.note(f"\n--- {outcome.check.name}: {outcome.check.about}\n{outcome.said}")
    if failed:
        progress.note(
            f"\n{len(failed)} of {len(outcomes)} checks failed: {', '.join(one.check.name for one in failed)}"
        )
    return 1 if failed else 0


def line(outcome: Outcome, width: int) -> str:
    """One line about a check."""
    word = "ok" if outcome.passed else "FAILED"
    return f"{outcome.check.name:<{width}}  {word:<6} {outcome.seconds:6.1f} s  {outcome.check.about}"


def _abandon(futures: Sequence[Future[Outcome]]) -> None:
    """Leaving the pool waits for its threads, which wait for their programs: end those."""
    for future in futures:
        future.cancel()
    stop_all()
