# SPDX-License-Identifier: GPL-2.0-or-later
"""What became of a mutant, remembered by the content of everything that had a part in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from labnic.build.cache import PROJECT, Cache, JsonValue, hash_files, write_atomic
from labnic.mutants.catalog import COMPILER, SIDES, Mutant
from labnic.mutants.recorder import SPLAT, Findings

Outcome = Literal["killed", "survived", "stale", "no build", "not run", "not proven"]
"""``not run``: none of the tests ran, for a wrong name or because all were skipped; ``not proven``: the test that
noticed something does not pass without the bug either."""

_KIND = "mutants"
_WIDE = 320  # columns of a table that goes to a file


@dataclass(frozen=True)
class Verdict:
    """``killer`` is the test that noticed, ``reason`` how, ``detail`` the first line of what it said."""

    name: str
    rule: str
    bug: str
    outcome: Outcome
    killer: str = ""
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0
    remembered: bool = False


def judge(mutant: Mutant, findings: Findings) -> Verdict:
    """The verdict on a mutant from what its tests found."""
    verdict = Verdict(mutant.name, mutant.rule, mutant.bug, "survived")
    if findings.uncollected:
        return replace(verdict, outcome="not run", detail=f"cannot be read: {', '.join(findings.uncollected)}")
    if mutant.tests == (COMPILER,):
        return replace(verdict, detail="it builds")
    if not findings.failures and not findings.passed:
        skipped = f"all skipped: {', '.join(findings.skipped)}" if findings.skipped else "no test has such a name"
        return replace(verdict, outcome="not run", detail=skipped)
    if not findings.failures:
        return replace(verdict, detail=f"{len(findings.passed)} tests passed")
    test = findings.failures[0].test
    # The stages of a test fail one by one; what the kernel said tells more than what that led to.
    failures = [failure for failure in findings.failures if failure.test == test]
    failures.sort(key=lambda failure: not failure.kind.startswith(SPLAT))
    kinds = ", ".join(dict.fromkeys(failure.kind for failure in failures))
    return replace(verdict, outcome="killed", killer=test, reason=kinds, detail=failures[0].text)


class Memory:
    """Verdicts of earlier runs; only what was killed, and tests that passed without a bug, are remembered."""

    def __init__(self, cache: Cache, project: Path = PROJECT) -> None:
        self._cache = cache
        folders = [*SIDES.values(), "tests/device", "tests/guest", "orchestrator", "images"]
        files = [file for folder in folders for file in (project / folder).rglob("*") if _is_source(file)]
        self._files = Cache.name({"files": hash_files([*files, project / "pyproject.toml"], project)})

    def _path(self, kernel: str, tests: Sequence[str], patch: str) -> Path:
        key: dict[str, JsonValue] = {"files": self._files, "kernel": kernel, "tests": list(tests), "patch": patch}
        return self._cache.path(_KIND, key).with_suffix(".json")

    def recall(self, mutant: Mutant, kernel: str) -> Verdict | None:
        """How the mutant was killed before, or None."""
        try:
            data = json.loads(self._path(kernel, mutant.tests, mutant.text).read_text())
            return replace(Verdict(**data), name=mutant.name, remembered=True)
        except (OSError, ValueError, TypeError):
            return None

    def keep(self, mutant: Mutant, kernel: str, verdict: Verdict) -> None:
        """Remember how the mutant was killed."""
        data = json.dumps(asdict(verdict)).encode()
        write_atomic(self._path(kernel, mutant.tests, mutant.text), data)

    def passed(self, kernel: str, tests: Sequence[str]) -> bool:
        """Whether these tests have passed without a bug."""
        return self._path(kernel, tests, "").exists()

    def keep_passed(self, kernel: str, tests: Sequence[str]) -> None:
        """Remember that they did."""
        write_atomic(self._path(kernel, tests, ""), b"{}")


def _is_source(file: Path) -> bool:
    sources = (".c", ".h", ".py", ".yaml", ".toml", "")
    return file.is_file() and file.suffix in sources and "__pycache__" not in file.parts


def as_json(verdicts: Sequence[Verdict]) -> str:
    """For machines."""
    return json.dumps([asdict(verdict) for verdict in verdicts], indent=2)


def table(verdicts: Sequence[Verdict], console: Console | None = None) -> None:
    """Print a row for each mutant: what it broke, and who killed it."""
    shown = Table(title="seeded bugs", title_justify="left", show_edge=False)
    for column in ("mutant", "rule", "verdict", "killed by", "how"):
        shown.add_column(column, overflow="fold")
    shown.add_column("seconds", justify="right")
    for verdict in verdicts:
        killer = verdict.killer.rpartition("/")[2].replace("::", " ")
        seconds = "before" if verdict.remembered else f"{verdict.seconds:.1f}"
        how = f"{verdict.reason}: {verdict.detail}" if verdict.reason else verdict.detail
        shown.add_row(verdict.name, verdict.rule, verdict.outcome, killer, how, seconds)
    console = console or Console(highlight=False, markup=False)
    if not console.is_terminal:
        # A row is a line then: one can search for it.
        console.width = _WIDE
    console.print(shown)
