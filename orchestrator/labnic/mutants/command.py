# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``labnic mutants`` prints, and its exit code."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labnic.build import kernel_table
from labnic.build.cache import Cache
from labnic.config import Config
from labnic.mutants import catalog
from labnic.mutants import run as runner
from labnic.mutants.catalog import Mutant
from labnic.mutants.verdict import Verdict, as_json, table
from labnic.report import Phases
from labnic.testrun import child_environment


@dataclass(frozen=True)
class Options:
    """The command line; ``words`` choose mutants."""

    words: tuple[str, ...]
    kernel: str | None
    only_list: bool
    again: bool
    jobs: int | None
    as_json: bool
    config_file: Path | None
    overrides: Mapping[str, str]


def run(options: Options, config: Config, phases: Phases) -> int:
    """List the mutants, or run them; 1 when one is not killed."""
    mutants, left_out = chosen(options.words, options.kernel)
    if options.only_list:
        print(_list_json(mutants) if options.as_json else _list(mutants))
        return 0
    for kernel, count in Counter(mutant.kernel for mutant in left_out).items():
        phases.note(f"{count} mutants left out that only the kernel {kernel} shows: name them, or all with '*'")
    run = runner.Run(config, _run_options(options, config), Cache(), phases)
    with phases.phase("mutants"):
        verdicts = run.verdicts(mutants)
    if options.as_json:
        print(as_json(verdicts))
    else:
        table(verdicts)
        phases.table()
    return conclude(verdicts, run.folder, run.unproven)


def chosen(words: Sequence[str], kernel: str | None) -> tuple[list[Mutant], list[Mutant]]:
    """The mutants to run, and those that are left out.

    A kernel that is built here takes many minutes, so its mutants must be asked for.
    """
    mutants = catalog.select(catalog.load(), words)
    if words:
        return mutants, []
    packaged = {*kernel_table().packaged(), kernel, None}
    return [m for m in mutants if m.kernel in packaged], [m for m in mutants if m.kernel not in packaged]


def _run_options(options: Options, config: Config) -> runner.Options:
    return runner.Options(
        kernel=options.kernel or config.kernel,
        lanes=options.jobs or runner.default_lanes(),
        again=options.again,
        config=str(options.config_file.absolute()) if options.config_file else "",
        environment=tuple(child_environment(tuple(options.overrides.items())).items()),
    )


def conclude(verdicts: Sequence[Verdict], folder: Path, unproven: Mapping[str, str]) -> int:
    """Say how many were killed, name those that were not, and tests that fail without a bug; the exit code."""
    alive = [verdict for verdict in verdicts if verdict.outcome != "killed"]
    print(f"labnic: {len(verdicts) - len(alive)} of {len(verdicts)} mutants killed, logs: {folder}", file=sys.stderr)
    for verdict in alive:
        print(f"labnic: {verdict.outcome}: {verdict.name}: {verdict.bug} ({verdict.detail})", file=sys.stderr)
    for test, reason in unproven.items():
        print(f"labnic: does not pass without a bug: {test}: {reason}", file=sys.stderr)
    return 1 if alive or unproven else 0


def _list(mutants: Sequence[Mutant]) -> str:
    lines = []
    for mutant in mutants:
        on = f" [kernel {mutant.kernel}]" if mutant.kernel else ""
        lines += [f"{mutant.rule:<3} {mutant.name}{on}: {mutant.bug}", *(f"      {test}" for test in mutant.tests)]
    return "\n".join(lines)


def _list_json(mutants: Sequence[Mutant]) -> str:
    keys = ("name", "rule", "bug", "kernel", "tests")
    return json.dumps([{key: getattr(mutant, key) for key in keys} for mutant in mutants], indent=2)
