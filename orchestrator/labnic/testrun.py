# SPDX-License-Identifier: GPL-2.0-or-later
"""``labnic test``: runs the groups of tests, one pytest process each, and puts their results into one folder."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labnic.build.cache import PROJECT, Cache
from labnic.config import Config
from labnic.errors import UsageError
from labnic.lanes import Lanes, Program
from labnic.plugin import OUTCOME
from labnic.report import Phases, merge_junit, run_folder, worst

GROUPS = ("unit", "device", "guest")
"""The groups in the order in which they run: what is quick and needs least comes first."""

_USAGE = 4  # pytest's exit code for arguments that it does not know


@dataclass(frozen=True)
class Options:
    """What the user asked for; ``at_once`` jobs run side by side (default: `default_width`)."""

    targets: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    keyword: str = ""
    seed: int | None = None
    at_once: int | None = None
    config_file: Path | None = None
    passed_on: tuple[str, ...] = ()
    overrides: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Job:
    """One pytest process: ``name`` is that of its folder."""

    name: str
    paths: tuple[str, ...]
    kernel: str | None = None


@dataclass
class Outcome:
    """How a job ended."""

    code: int
    collected: int


def jobs(options: Options, config: Config, tests: Path) -> list[Job]:
    """The pytest processes for the groups and paths asked for; guest tests run once on each kernel.

    Raises `UsageError` for a path that does not exist.
    """
    chosen: dict[str, list[str]] = {}
    for target in options.targets or GROUPS:
        if target in GROUPS:
            chosen.setdefault(target, []).append(str(tests / target))
            continue
        path = _existing(target.partition("::")[0])
        chosen.setdefault(_group(path, tests), []).append(str(path) + target[len(target.partition("::")[0]) :])
    kernels = options.kernels or config.test.kernels
    result = []
    for group in (*GROUPS, "other"):
        if group not in chosen:
            continue
        paths = tuple(chosen[group])
        if group in ("guest", "other"):
            result += [Job(f"{group}-{kernel}", paths, kernel) for kernel in kernels]
        else:
            result.append(Job(group, paths))
    return result


def _existing(text: str) -> Path:
    for base in (Path.cwd(), PROJECT):
        if (base / text).exists():
            return (base / text).resolve()
    raise UsageError(f"{text}: no such test file, and no group of tests", hint=f"groups: {', '.join(GROUPS)}")


def _group(path: Path, tests: Path) -> str:
    with contextlib.suppress(ValueError):
        first = path.relative_to(tests).parts[:1]
        if first and first[0] in GROUPS:
            return first[0]
    return "other"


def run(options: Options, config: Config, phases: Phases, build: bool = True) -> int:
    """Build, run all jobs, write one JUnit file, print the table of phases; gives the exit code."""
    planned = jobs(options, config, PROJECT / "tests")
    folder = run_folder(config.artifacts)
    outcomes: list[Outcome] = []
    try:
        if build:
            _build(planned, config, phases)
        _run(planned, options, folder, phases, outcomes)
    finally:
        merge_junit([folder / job.name / "junit.xml" for job in planned], folder / "junit.xml")
        phases.save(folder / "phases.json")
        print()
        phases.table()
        print(f"artifacts: {folder}", flush=True)
    return _verdict(outcomes)


def default_width() -> int:
    """How many jobs run at once: one more than there are CPUs, since each of them waits for its VM now and then."""
    return (os.cpu_count() or 1) + 1


def _run(planned: Sequence[Job], options: Options, folder: Path, phases: Phases, outcomes: list[Outcome]) -> None:
    """Run the jobs side by side; a job that is alone writes to the terminal as it goes."""
    width = min(len(planned), options.at_once or default_width())

    def ended(program: Program, status: int, seconds: float) -> None:
        outcome = _outcome(folder / program.name, status)
        outcomes.append(outcome)
        phases.add(f"tests: {program.name}", seconds)
        phases.load(folder / program.name / "phases.json", f"  {program.name}: ")
        phases.note(f"tests: {program.name}: {'passed' if outcome.code == 0 else 'failed'} after {seconds:.1f} s")
        if outcome.code == 130:
            raise KeyboardInterrupt

    programs = []
    for job in planned:
        (folder / job.name).mkdir()
        output = folder / job.name / "output.log" if width > 1 else None
        programs.append(Program(job.name, tuple(_pytest(job, options, folder / job.name)), output))
    Lanes(width, PROJECT, child_environment(options.overrides)).run(programs, ended)


def _verdict(outcomes: Sequence[Outcome]) -> int:
    """Zero collected tests are a failure; zero in one of several groups are what -k asked for."""
    if not sum(outcome.collected for outcome in outcomes):
        print("labnic: error: no test was collected", file=sys.stderr)
        return worst([1, *(outcome.code for outcome in outcomes)])
    return worst([outcome.code for outcome in outcomes])


def _build(planned: Sequence[Job], config: Config, phases: Phases) -> None:
    """Everything the jobs need, before the first test: a broken build is told at once."""
    from labnic.build import build_qemu
    from labnic.prepare import prepare

    cache = Cache()
    kernels = list(dict.fromkeys(job.kernel for job in planned if job.kernel))
    if any(job.name == "device" for job in planned) and not kernels:
        build_qemu(config, cache, phases)
    for kernel in kernels:
        accel = prepare(config, kernel, cache, phases).accel
        phases.note(f"accelerator: {accel.name} ({accel.reason})")


def _pytest(job: Job, options: Options, artifacts: Path) -> list[str]:
    argv = [sys.executable, "-m", "pytest", "-p", "labnic.plugin", *job.paths]
    argv += ["--labnic-artifacts", str(artifacts), f"--junit-xml={artifacts / 'junit.xml'}"]
    argv += ["-o", f"junit_suite_name={job.name}", f"--rootdir={PROJECT}"]
    if sys.stdout.isatty():
        argv += ["--color=yes"]
    if job.kernel:
        argv += ["--labnic-kernel", job.kernel]
    if options.config_file:
        argv += ["--labnic-config", str(options.config_file)]
    if options.seed is not None:
        argv += ["--labnic-seed", str(options.seed)]
    if options.keyword:
        argv += ["-k", options.keyword]
    return argv + list(options.passed_on)


def child_environment(overrides: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The environment of a process that is to have these settings and this package."""
    environment = dict(os.environ)
    package = str(Path(__file__).resolve().parents[1])
    environment.update({f"LABNIC_{name.replace('.', '_').upper()}": value for name, value in overrides})
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, environment.get("PYTHONPATH"))))
    return environment


def _outcome(artifacts: Path, status: int) -> Outcome:
    try:
        outcome = json.loads((artifacts / OUTCOME).read_text())
    except (OSError, ValueError):
        # pytest ended before its session began: bad arguments, or a plugin that cannot be loaded.
        return Outcome(2 if status == _USAGE else 8, 0)
    # One of several groups may have nothing for -k; `_verdict` sees to the whole.
    return Outcome(outcome["exit"] if outcome["collected"] or outcome["exit"] != 1 else 0, outcome["collected"])
