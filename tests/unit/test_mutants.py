# SPDX-License-Identifier: GPL-2.0-or-later
"""The seeded bugs as files, and what the runner makes of findings; no VM."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from rich.console import Console

from labnic.build.cache import PROJECT, Cache
from labnic.config import Config
from labnic.errors import CommandTimeoutError, ConfigError, InterruptError, UsageError
from labnic.mutants import catalog, command, run, verdict, worker
from labnic.mutants.catalog import COMPILER, TEST, Mutant
from labnic.mutants.lane import Lane
from labnic.mutants.recorder import Failure, Findings, classify
from labnic.mutants.tree import StaleError, mutate
from labnic.mutants.verdict import Memory, Verdict, judge
from labnic.mutants.watch import Watch
from labnic.mutants.worker import Request
from labnic.plugin import SplatFailure
from labnic.report import Phases
from labnic.splat import Splat
from labnic.testrun import child_environment

PATCH = """\
--- a/kernel-driver/some.c
+++ b/kernel-driver/some.c
@@ -2,5 +2,5 @@
 two
 three
-four
+FOUR
 five
 six
"""
HEADER = """\
# A comment
Rule: S4
Bug: a sentence
  in two lines
Test: tests/guest/test_x.py::test_y
"""
TEN = "one two three four five six seven eight nine ten".replace(" ", "\n") + "\n"
EVERY = catalog.load()


def mutant(tmp_path: Path, header: str = HEADER, patch: str = PATCH, side: str = "driver") -> Mutant:
    """A mutant from such a file."""
    path = tmp_path / "x.patch"
    path.write_text(f"{header}\n{patch}")
    return catalog.parse(path, f"{side}/x")


def sources(tmp_path: Path, text: str = TEN) -> Path:
    """A project with one file in the driver's folder."""
    project = tmp_path / "project"
    for folder in ("kernel-driver", "qemu-device"):
        (project / folder).mkdir(parents=True)
        (project / folder / "some.c").write_text(text)
    return project


# The files


def test_header_is_read(tmp_path: Path) -> None:
    found = mutant(tmp_path, HEADER + "Test: tests/guest/test_x.py\n")
    assert (found.name, found.rule, found.bug, found.kernel) == ("driver/x", "S4", "a sentence in two lines", None)
    assert found.tests == ("tests/guest/test_x.py::test_y", "tests/guest/test_x.py")


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("Rul: S4\n", r"x.patch:1: not a field"),
        (HEADER + "what is this\n", r"x.patch:6: not a field"),
        (HEADER.replace("S4", "S9"), "there is no rule S9"),
        (HEADER.replace("Rule: S4\n", ""), "0 lines `Rule:`"),
        (HEADER + "Bug: another\n", "2 lines `Bug:`"),
        (HEADER.replace("test_x.py::", "x.py::"), "names no test"),
        (HEADER.replace("Test: tests/guest/test_x.py::test_y\n", ""), "no line `Test:`"),
        (HEADER + "Test: tests/device/test_x.py\n", "tests of the device run without the driver"),
        (HEADER + "Test: compiler\n", "`compiler` names no test"),
    ],
)
def test_header_that_cannot_be_is_refused(tmp_path: Path, header: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        mutant(tmp_path, header)


def test_file_without_a_patch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no patch in it"):
        mutant(tmp_path, patch="")


@pytest.mark.parametrize(
    ("word", "count"),
    [("S4", None), ("vectors-leaked", 1), ("driver/vectors-leaked", 1), ("*-leaked", None), ("device/*", None)],
)
def test_words_choose_mutants(word: str, count: int | None) -> None:
    chosen = catalog.select(EVERY, [word])
    assert 0 < len(chosen) < len(EVERY)
    assert count in (None, len(chosen))


def test_without_words_all_are_chosen_and_a_wrong_one_is_refused() -> None:
    assert catalog.select(EVERY, []) == EVERY
    with pytest.raises(UsageError, match="no mutant is named nonsense"):
        catalog.select(EVERY, ["driver/*", "nonsense"])


def test_every_rule_has_a_mutant() -> None:
    assert {each.rule for each in EVERY} == set(catalog.RULES)


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.name)
def test_every_mutant_has_its_place_in_the_sources(each: Mutant, tmp_path: Path) -> None:
    mutate(each, tmp_path / "copy")


@pytest.mark.parametrize("each", EVERY, ids=lambda each: each.name)
def test_every_test_that_a_mutant_names_is_there(each: Mutant) -> None:
    for test in each.tests:
        match = TEST.fullmatch(test)
        if test != COMPILER:
            assert match
            text = (PROJECT / "tests" / match["group"] / match["file"]).read_text()
            assert match["name"] is None or re.search(rf"^def {match['name']}\(", text, re.MULTILINE), test


def test_mutants_of_a_kernel_that_is_built_are_run_on_request_alone() -> None:
    run, left_out = command.chosen([], None)
    assert {each.kernel for each in left_out} == {"debug"}
    assert "debug" not in {each.kernel for each in run}
    assert command.chosen([left_out[0].name], None) == ([left_out[0]], [])
    assert command.chosen(["*"], None)[1] == []
    assert command.chosen([], "debug")[1] == []


# The copy


def test_the_bug_is_in_the_copy_alone(tmp_path: Path) -> None:
    project = sources(tmp_path)
    copy = mutate(mutant(tmp_path), tmp_path / "copy", project)
    assert (copy / "kernel-driver" / "some.c").read_text() == TEN.replace("four", "FOUR")
    assert (project / "kernel-driver" / "some.c").read_text() == TEN


def test_the_bug_survives_edits_nearby(tmp_path: Path) -> None:
    edited = "zero\nhalf\n" + TEN.replace("two", "2").replace("six", "6")
    copy = mutate(mutant(tmp_path), tmp_path / "copy", sources(tmp_path, edited))
    assert (copy / "kernel-driver" / "some.c").read_text() == edited.replace("four", "FOUR")


def test_the_copy_may_lie_inside_of_a_work_tree(tmp_path: Path) -> None:
    """As it does when the artifacts are in the checkout."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    for folder in ("objects", "refs"):
        (tmp_path / ".git" / folder).mkdir()
    copy = mutate(mutant(tmp_path), tmp_path / "deep" / "copy", sources(tmp_path))
    assert "FOUR" in (copy / "kernel-driver" / "some.c").read_text()


def test_a_patch_without_its_place_is_stale(tmp_path: Path) -> None:
    with pytest.raises(StaleError, match="driver/x is stale") as raised:
        mutate(mutant(tmp_path), tmp_path / "copy", sources(tmp_path, TEN.replace("four", "4")))
    assert "some.c" in "\n".join(raised.value.log)


def test_a_mutant_of_the_other_side_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StaleError, match=r"changes kernel-driver/some\.c"):
        mutate(mutant(tmp_path, side="device"), tmp_path / "copy", sources(tmp_path))


# Verdicts


def test_no_failure_means_that_it_survived(tmp_path: Path) -> None:
    assert judge(mutant(tmp_path), Findings(passed=["a", "b"])).outcome == "survived"


def test_the_first_test_that_fails_has_killed_it(tmp_path: Path) -> None:
    """The kernel's report comes after the assertion that failed with it, and tells more."""
    failures = [Failure("a", "assertion", "1 == 2"), Failure("a", "splat: kasan", "use after free")]
    found = judge(mutant(tmp_path), Findings(passed=["z"], failures=[*failures, Failure("b", "time-out", "late")]))
    assert (found.outcome, found.killer, found.detail) == ("killed", "a", "use after free")
    assert found.reason == "splat: kasan, assertion"


@pytest.mark.parametrize("findings", [Findings(), Findings(skipped=["a"]), Findings(uncollected=["a"], passed=["b"])])
def test_a_mutant_whose_tests_do_not_run_is_not_judged(tmp_path: Path, findings: Findings) -> None:
    assert judge(mutant(tmp_path), findings).outcome == "not run"


def test_a_bug_that_the_compiler_lets_pass_survived(tmp_path: Path) -> None:
    header = HEADER.replace("tests/guest/test_x.py::test_y", "compiler")
    assert judge(mutant(tmp_path, header), Findings()).outcome == "survived"


def test_a_survivor_fails_the_run_and_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    dead = judge(mutant(tmp_path), Findings(failures=[Failure("a", "assertion", "no")]))
    assert command.conclude([dead], tmp_path, {}) == 0
    alive = judge(mutant(tmp_path), Findings(passed=["a"]))
    for outcome in ("survived", "stale", "no build", "not run"):
        assert command.conclude([dead, replace(alive, outcome=outcome)], tmp_path, {}) == 1
        assert f"{outcome}: driver/x: a sentence in two lines" in capsys.readouterr().err


def test_failures_have_kinds() -> None:
    assert classify(AssertionError("first\nsecond")) == ("assertion", "first")
    assert classify(SplatFailure([Splat("kasan", "BUG: KASAN: x", 1, ())])) == ("splat: kasan", "BUG: KASAN: x")
    assert classify(pytest.fail.Exception("Timeout (>60.0s) from pytest-timeout."))[0] == "time-out"
    assert classify(ValueError("odd")) == ("ValueError", "odd")
    assert classify(BaseExceptionGroup("both", [CommandTimeoutError("late")])) == ("time-out", "late")


def test_the_table_has_a_line_for_each(tmp_path: Path) -> None:
    stream = io.StringIO()
    found = judge(mutant(tmp_path), Findings(failures=[Failure("tests/guest/test_x.py::test_y", "panic", "Oops")]))
    verdict.table([found], Console(file=stream))
    assert re.search(r"driver/x .* S4 .* killed .* test_x.py test_y .* panic: Oops", stream.getvalue())


# Watching

KASAN = "[    1.0] BUG: KASAN: use-after-free in labnic_poll\n"


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Watch, Path, Mock]]:
    """A watch that follows a VM, which is a log file and a process to be killed."""
    log, process, watch = tmp_path / "console.log", Mock(), Watch()
    log.write_text(KASAN)
    watch.follow(Mock(machine=Mock(console_log=log, process=process)))
    yield watch, log, process
    watch.pytest_sessionfinish()


def test_the_kernels_complaint_ends_a_test_at_once(watched: tuple[Watch, Path, Mock]) -> None:
    watch, log, process = watched
    running = watch.pytest_runtest_call()
    next(running)
    with log.open("a") as file:
        file.write(KASAN)
    with pytest.raises(SplatFailure, match="KASAN"):
        time.sleep(10.0)
    assert not process.kill.called
    running.close()


def test_a_complaint_between_tests_interrupts_nothing(watched: tuple[Watch, Path, Mock]) -> None:
    _, log, _ = watched
    with log.open("a") as file:
        file.write(KASAN)
    time.sleep(0.3)


def test_a_clean_up_that_hangs_ends_with_its_vm(
    watched: tuple[Watch, Path, Mock], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, _, process = watched
    killed = threading.Event()
    process.kill.side_effect = killed.set
    monkeypatch.setattr("labnic.mutants.watch.CLEANUP_LIMIT", 0.0)
    watch.pytest_runtest_makereport(pytest.CallInfo.from_call(lambda: 1 / 0, "call"))
    assert killed.wait(10.0)


# Memory


def test_what_was_killed_is_remembered_for_the_same_content(tmp_path: Path) -> None:
    one = mutant(tmp_path)
    killed = judge(one, Findings(failures=[Failure("a", "assertion", "no")]))
    memory = Memory(Cache(tmp_path / "cache"))
    assert memory.recall(one, "6.1") is None
    memory.keep(one, "6.1", killed)
    assert memory.recall(one, "6.1") == replace(killed, remembered=True)
    assert memory.recall(one, "6.12") is None
    assert memory.recall(replace(one, text=one.text + "\n"), "6.1") is None
    assert memory.recall(replace(one, tests=("tests/guest/test_z.py",)), "6.1") is None


def test_an_edit_of_the_sources_forgets(tmp_path: Path) -> None:
    project, cache = sources(tmp_path), Cache(tmp_path / "cache")
    (project / "pyproject.toml").touch()
    Memory(cache, project).keep_passed("6.1", ["a"])
    assert Memory(cache, project).passed("6.1", ["a"])
    (project / "qemu-device" / "some.c").write_text("other")
    assert not Memory(cache, project).passed("6.1", ["a"])


# Running


def test_each_named_test_runs_once_without_a_bug() -> None:
    options = run.Options("6.1", 1)
    chosen = catalog.select(EVERY, ["X7", "X8", "device/last-*"])
    control = control_names(run.control_tests(chosen, options))
    named = [test for each in chosen for test in each.tests if test != COMPILER]
    assert sorted(control) == sorted(set(named))


def control_names(control: dict[tuple[str, str], tuple[str, ...]]) -> list[str]:
    """All tests of the control run."""
    return [test for tests in control.values() for test in tests]


def run_mocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lane: type[Lane], phases: Phases, mutants: Sequence[Mutant]
) -> tuple[list[Verdict], run.Run]:
    """A run of mutants of the device that builds nothing, in such lanes."""
    monkeypatch.setattr(run, "Lane", lane)
    monkeypatch.setattr(run, "build_qemu", Mock())
    monkeypatch.setattr(run.tool, "stop_all", Mock())
    made = run.Run(Config(artifacts=tmp_path), run.Options("6.1", 1), Cache(tmp_path / "cache"), phases)
    return made.verdicts(mutants), made


class Interrupted(Phases):
    """The user presses Ctrl-C at the second verdict."""

    def note(self, text: str) -> None:
        if text.startswith("2/2"):
            raise KeyboardInterrupt


class Deadly(Lane):
    """A lane in which every mutant is killed, and all else passes."""

    def ask(self, request: Request, limit: float) -> Findings:
        mutated = request.project != str(PROJECT)
        return Findings(failures=[Failure("a", "assertion", "no")] if mutated else [], passed=["b"])


def test_what_was_killed_before_an_interrupt_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutants = catalog.select(EVERY, ["vectors-mixed-up", "link-change-is-silent"])
    with pytest.raises(KeyboardInterrupt):
        run_mocked(tmp_path, monkeypatch, Deadly, Interrupted(quiet=True), mutants)
    again, _ = run_mocked(tmp_path, monkeypatch, Deadly, Phases(quiet=True), mutants)
    assert [verdict.outcome for verdict in again] == ["killed", "killed"]
    assert [verdict.remembered for verdict in again] == [True, False]


class Failing(Lane):
    """A lane in which one test fails with and without a bug."""

    def ask(self, request: Request, limit: float) -> Findings:
        bad = [test for test in request.tests if "test_link.py" in test]
        good = [test for test in request.tests if "test_link.py" not in test]
        mutated = request.project != str(PROJECT)
        return Findings(
            failures=[Failure(test, "time-out", "late") for test in (good if mutated else []) + bad], passed=good
        )


def test_a_test_that_fails_without_a_bug_kills_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mutants = catalog.select(EVERY, ["vectors-mixed-up", "device/link-change-is-silent"])
    for _ in range(2):
        verdicts, made = run_mocked(tmp_path, monkeypatch, Failing, Phases(quiet=True), mutants)
        assert {verdict.name: verdict.outcome for verdict in verdicts} == {
            "device/vectors-mixed-up": "killed",
            "device/link-change-is-silent": "not proven",
        }
        assert command.conclude(verdicts, tmp_path, made.unproven) == 1
        assert "does not pass without a bug: tests/device/test_link.py::" in capsys.readouterr().err


@pytest.fixture
def lane(tmp_path: Path) -> Lane:
    """A lane whose worker is not started yet."""
    return Lane(tmp_path / "lane", child_environment(()))


NOTHING = Request("nothing", (), str(PROJECT), "6.1")


def test_a_worker_answers_and_ends(lane: Lane) -> None:
    assert lane.ask(NOTHING, 30.0) == Findings()
    assert lane.ask(NOTHING, 30.0) == Findings()
    process = lane.process
    lane.close()
    assert process
    assert process.returncode == 0


def test_an_interrupt_that_follows_the_end_of_the_channel_does_not_disturb_the_closing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed = []

    def close(self: worker.Worker) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        closed.append(self)

    monkeypatch.setattr(worker.Worker, "close", close)
    ours, theirs = socket.socketpair()
    ours.close()
    handler = signal.getsignal(signal.SIGINT)
    try:
        with theirs:
            worker.main(tmp_path, theirs)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert len(closed) == 1


def test_a_worker_that_does_not_answer_is_ended(lane: Lane) -> None:
    with pytest.raises(CommandTimeoutError, match="no answer within 0 s"):
        lane.ask(NOTHING, 0.0)
    assert lane.process is None


def test_a_stopped_lane_starts_nothing(lane: Lane) -> None:
    lane.stop()
    with pytest.raises(InterruptError):
        lane.ask(NOTHING, 30.0)
    assert lane.process is None
