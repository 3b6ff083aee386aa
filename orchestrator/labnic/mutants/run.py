# SPDX-License-Identifier: GPL-2.0-or-later
"""``labnic mutants``: builds each seeded bug, runs the tests that must notice it, and says which did.

The tests run without any bug first: one that fails then kills nothing.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from labnic.build import Driver, Kernel, build_driver, build_qemu, fetch_kernel, tool
from labnic.build.cache import PROJECT, Cache
from labnic.config import Config
from labnic.errors import BuildError, CommandTimeoutError, LabnicError
from labnic.mutants.catalog import COMPILER, TEST, Mutant
from labnic.mutants.lane import PATIENCE, Lane
from labnic.mutants.recorder import Failure, Findings
from labnic.mutants.tree import StaleError, mutate
from labnic.mutants.verdict import Memory, Verdict, judge
from labnic.mutants.worker import TEST_LIMIT, Request
from labnic.report import Phases, run_folder

LIMIT = 3 * TEST_LIMIT + 60.0
"""Seconds for all tests of one mutant with the boots that they need; a mutant that takes longer has hung them."""

CONTROL_LIMIT = 600.0
"""Seconds for the tests of one file without a bug."""


@dataclass(frozen=True)
class Options:
    """What the user asked for: ``kernel`` for every mutant that names none, how many ``lanes``, ``again`` for those
    that were killed before, too; ``environment`` of the workers and the ``config`` file that they read."""

    kernel: str
    lanes: int
    again: bool = False
    config: str = ""
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Job:
    """Tests to run in a lane; ``mutant`` is None for those that must pass. ``build`` gives the request."""

    name: str
    kernel: str
    tests: tuple[str, ...]
    mutant: Mutant | None
    build: Future[Request]


@dataclass(frozen=True)
class Ended:
    """How a job ended: with findings, or with an error."""

    job: Job
    findings: Findings
    error: LabnicError | None
    seconds: float


def control_tests(mutants: Sequence[Mutant], options: Options) -> dict[tuple[str, str], tuple[str, ...]]:
    """The tests that the mutants name, each once, by kernel and file: what runs together without a bug."""
    found: dict[tuple[str, str], list[str]] = {}
    for mutant in mutants:
        for test in mutant.tests:
            match = TEST.fullmatch(test)
            if match is None:  # the compiler has nothing to prove
                continue
            key = mutant.kernel or options.kernel, f"{match['group']}-{match['file'].removesuffix('.py')}"
            tests = found.setdefault(key, [])
            if test not in tests:
                tests.append(test)
    return {key: tuple(tests) for key, tests in sorted(found.items())}


class Run:
    """One run: the tests without a bug, then each mutant in the next free lane, while the next ones are built."""

    def __init__(self, config: Config, options: Options, cache: Cache, phases: Phases) -> None:
        self._config = config
        self._options = options
        self._cache = cache
        self._phases = phases
        self._folder = run_folder(config.artifacts)
        self._memory = Memory(cache)
        self._quiet = Phases(quiet=True)
        self._kernels: dict[str, Kernel] = {}
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self._lanes: list[Lane] = []
        self._stopping = threading.Event()
        self.unproven: dict[str, str] = {}
        """Tests that do not pass without a bug, and why; known at the end."""

    @property
    def folder(self) -> Path:
        """Where the logs are."""
        return self._folder

    def verdicts(self, mutants: Sequence[Mutant]) -> list[Verdict]:
        """Judge the mutants, in their order."""
        known = {} if self._options.again else self._recalled(mutants)
        left = [mutant for mutant in mutants if mutant.name not in known]
        # The device's tests need none.
        with_guest = [mutant for mutant in left if mutant.tests != mutant.tests_of("device")]
        for name in dict.fromkeys(mutant.kernel or self._options.kernel for mutant in with_guest):
            self._kernels[name] = fetch_kernel(name, self._cache, self._phases)
        builders = ThreadPoolExecutor(1)
        threads: list[threading.Thread] = []
        try:
            jobs = [*self._control_jobs(left, builders), *self._mutant_jobs(left, builders)]
            for job in jobs:
                self._jobs.put(job)
            threads = self._start_lanes(len(jobs))
            known |= self._proven(self._collect(jobs, len(mutants), len(known)))
        except BaseException:
            tool.stop_all()
            raise
        finally:
            self._end(builders, threads)
        return [known[mutant.name] for mutant in mutants]

    def _recalled(self, mutants: Sequence[Mutant]) -> dict[str, Verdict]:
        found = ((m.name, self._memory.recall(m, m.kernel or self._options.kernel)) for m in mutants)
        return {name: verdict for name, verdict in found if verdict}

    # What is to be done

    def _control_jobs(self, mutants: Sequence[Mutant], builders: ThreadPoolExecutor) -> list[Job]:
        jobs = []
        for (kernel, name), tests in control_tests(mutants, self._options).items():
            if self._options.again or not self._memory.passed(kernel, tests):
                # Tests of the guest run in a restored VM, as those of the driver's mutants do.
                side = "device" if name.startswith("device-") else "driver"
                name = f"control-{kernel}-{name}"
                build = builders.submit(self._built, name, side, kernel, tests)
                jobs.append(Job(name, kernel, tests, None, build))
        return jobs

    def _mutant_jobs(self, mutants: Sequence[Mutant], builders: ThreadPoolExecutor) -> list[Job]:
        # By kernel, since a lane has a VM of one kernel at a time.
        jobs = []
        for mutant in sorted(mutants, key=lambda mutant: mutant.kernel or ""):
            kernel = mutant.kernel or self._options.kernel
            build = builders.submit(self._mutated, mutant, kernel)
            jobs.append(Job(mutant.name, kernel, mutant.tests, mutant, build))
        return jobs

    def _mutated(self, mutant: Mutant, kernel: str) -> Request:
        folder = self._folder / "sources" / mutant.name
        folder.parent.mkdir(parents=True, exist_ok=True)
        name = mutant.name.replace("/", "-")
        return self._built(name, mutant.side, kernel, mutant.tests, mutate(mutant, folder))

    def _built(self, name: str, side: str, kernel: str, tests: tuple[str, ...], project: Path = PROJECT) -> Request:
        """Build what the tests need. Without a module those of the guest boot what the worker builds from ``project``,
        as a bug in the device needs, which is there from QEMU's start."""
        module = ""
        if any(test.startswith("tests/device/") for test in tests):
            build_qemu(self._config, self._cache, self._quiet, project)
        if side == "driver":
            module = str(self._stripped(build_driver(self._kernels[kernel], self._cache, self._quiet, project), name))
        first = project != PROJECT
        return Request(name, tests, str(project), kernel, module, self._options.config, first)

    def _stripped(self, driver: Driver, name: str) -> Path:
        """The module without its debugging information: a tenth of the bytes to be brought into the guest."""
        folder = self._folder / "modules" / name
        folder.mkdir(parents=True)
        module = folder / driver.module.name
        command: list[str | Path] = ["strip", "--strip-debug", "-o", module, driver.module]
        tool.run(command, what="stripping the driver", log=folder / "strip.log")
        return module

    # Doing it

    def _start_lanes(self, jobs: int) -> list[threading.Thread]:
        environment = dict(self._options.environment)
        self._lanes = [Lane(self._folder / f"lane-{n}", environment) for n in range(min(self._options.lanes, jobs))]
        threads = [threading.Thread(target=self._serve, args=(lane,), daemon=True) for lane in self._lanes]
        for thread in threads:
            thread.start()
        return threads

    def _serve(self, lane: Lane) -> None:
        """One lane's thread: job after job until there is none."""
        try:
            while not self._stopping.is_set():
                self._ended.put(self._do(lane, self._jobs.get_nowait()))
        except queue.Empty:
            pass
        finally:
            lane.close()

    def _do(self, lane: Lane, job: Job) -> Ended:
        begin = time.monotonic()
        findings, error = Findings(), None
        try:
            request = job.build.result()
            begin = time.monotonic()
            findings = lane.ask(request, self._limit(job))
        except CommandTimeoutError as problem:
            findings.failures.append(Failure(job.tests[0], "hang", problem.message))
        except LabnicError as problem:
            error = problem
        except Exception as problem:
            error = LabnicError(f"{job.name}: {problem!r}")
        return Ended(job, findings, error, time.monotonic() - begin)

    def _limit(self, job: Job) -> float:
        """Seconds for the tests of a job: more on a kernel that is slower than others."""
        kernel = self._kernels.get(job.kernel)
        return (LIMIT if job.mutant else CONTROL_LIMIT) * (kernel.slower if kernel else 1)

    def _collect(self, jobs: Sequence[Job], mutants: int, known: int) -> dict[str, Verdict]:
        """Wait for all jobs. A verdict counts, and is remembered, once every test has passed without a bug."""
        found: dict[str, Verdict] = {}
        unproven = sum(job.mutant is None for job in jobs)  # jobs that are to prove tests
        killed: list[tuple[Mutant, str, Verdict]] = []
        for _ in jobs:
            ended = self._next()
            if ended.job.mutant is None:
                self._control(ended)
                unproven -= 1
            else:
                verdict = found[ended.job.name] = self._verdict(ended.job.mutant, ended)
                if verdict.outcome == "killed":
                    killed.append((ended.job.mutant, ended.job.kernel, verdict))
                place = f"{len(found) + known}/{mutants}"
                self._phases.note(f"{place} {verdict.name}: {_sentence(verdict)} ({verdict.seconds:.1f} s)")
            while killed and not unproven:
                mutant, kernel, verdict = killed.pop()
                if verdict.killer not in self.unproven:
                    self._memory.keep(mutant, kernel, verdict)
        return found

    def _proven(self, verdicts: dict[str, Verdict]) -> dict[str, Verdict]:
        """Take back the kills of tests that do not pass without a bug."""
        return {
            name: replace(
                verdict, outcome="not proven", detail=f"without the bug, too: {self.unproven[verdict.killer]}"
            )
            if verdict.killer in self.unproven
            else verdict
            for name, verdict in verdicts.items()
        }

    def _next(self) -> Ended:
        # With a time limit, so that Ctrl-C reaches the main thread.
        while True:
            try:
                return self._ended.get(timeout=0.5)
            except queue.Empty:
                continue

    def _control(self, ended: Ended) -> None:
        """Note the tests that do not pass without a bug: they kill nothing."""
        if ended.error:
            raise ended.error
        found = ended.findings
        bad = {failure.test: f"{failure.kind}: {failure.text}" for failure in reversed(found.failures)}
        bad |= {test: "skipped" for test in found.skipped if test not in bad}
        bad |= dict.fromkeys(found.uncollected, "cannot be read")
        if not bad and not found.passed:
            bad = dict.fromkeys(ended.job.tests, "not found")
        if bad:
            self.unproven |= bad
            self._phases.note(f"{ended.job.name}: {len(bad)} TESTS DO NOT PASS without a bug ({ended.seconds:.1f} s)")
            return
        self._memory.keep_passed(ended.job.kernel, ended.job.tests)
        self._phases.note(f"{ended.job.name}: {len(found.passed)} tests pass ({ended.seconds:.1f} s)")

    def _verdict(self, mutant: Mutant, ended: Ended) -> Verdict:
        error = ended.error
        if error is None:
            return replace(judge(mutant, ended.findings), seconds=ended.seconds)
        if not isinstance(error, BuildError):
            raise error
        verdict = Verdict(mutant.name, mutant.rule, mutant.bug, "no build", detail=error.message)
        if isinstance(error, StaleError):
            return replace(verdict, outcome="stale")
        # The compiler's first error says more than that there was one.
        said = next((line.strip() for line in error.log if "error:" in line), error.message)
        if mutant.tests == (COMPILER,):
            return replace(verdict, outcome="killed", killer=COMPILER, reason="no build", detail=said)
        return replace(verdict, detail=said)

    def _end(self, builders: ThreadPoolExecutor, threads: Sequence[threading.Thread]) -> None:
        """Everything that was started has ended afterwards, whatever happened."""
        self._stopping.set()
        for lane in self._lanes:
            lane.stop()
        builders.shutdown(cancel_futures=True)
        for thread in threads:
            thread.join(2 * PATIENCE)


def _sentence(verdict: Verdict) -> str:
    if verdict.outcome == "killed":
        return f"killed by {verdict.killer.rpartition('/')[2]}: {verdict.reason}"
    return f"{verdict.outcome.upper()}: {verdict.detail}"


def default_lanes() -> int:
    """A lane for each CPU: a VM under TCG keeps one busy."""
    return os.cpu_count() or 1
