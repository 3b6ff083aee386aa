# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest plugin: inner pytest runs with a lab that is not real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import labnic.kmemleak
import labnic.plugin
from labnic.errors import BootError, LabnicError
from labnic.fault import Violation
from labnic.kmemleak import Leak
from labnic.splat import LogScanner, Splat

pytest_plugins = ["pytester"]


class FakeWire:
    def __init__(self) -> None:
        self.marks: list[str] = []

    def mark(self, text: str) -> None:
        self.marks.append(text)

    def flush(self) -> None:
        pass


class FakeMachine:
    def __init__(self, lab: FakeLab) -> None:
        self._lab = lab

    def alive(self) -> bool:
        return self._lab.error is None


class FakeNic:
    name = "eth0"
    has_faults = True

    def __init__(self) -> None:
        self.cleared = 0

        self.wrong: list[Violation] = []

    def clear_faults(self) -> None:
        self.cleared += 1

    def audit(self) -> list[Violation]:
        return list(self.wrong)

    def audit_clear(self) -> None:
        self.wrong.clear()


class FakeKernel:
    """A kernel that has what the class says."""

    features = frozenset({"lockdep"})

    def has(self, feature: str) -> bool:
        return feature in self.features


class FakeLab:
    """Has a log that tests write to, and an end that they give it."""

    boots = 0
    boot_fails = False

    def __init__(self, config: object, parts: object, directory: Path, progress: object, **more: Any) -> None:
        self.directory, self.config, self.parameters = directory, config, more.get("parameters", ())
        directory.mkdir(parents=True)
        self.log = directory / "console.log"
        self.log.touch()
        self.scanner = LogScanner(self.log)
        self.error: LabnicError | None = None
        self.wire = FakeWire()
        self.wires = {"w0": self.wire}
        self.machine = FakeMachine(self)
        self.nic, self.guest, self.qmp = FakeNic(), "guest", "qmp"
        self.nics = [self.nic]
        self.kernel = FakeKernel()
        self.closed = False

    def start(self) -> None:
        FakeLab.boots += 1
        if FakeLab.boot_fails:
            raise BootError("no boot", log=["last line"])

    def close(self) -> None:
        self.closed = True

    def collect(self) -> None:
        pass

    def say(self, text: str) -> None:
        self.log.write_text(f"{self.log.read_text()}{text}\n")

    def splats(self) -> list[Splat]:
        return self.scanner.scan()

    def console_tail(self, count: int) -> list[str]:
        return self.log.read_text().splitlines()[-count:]

    def check_alive(self) -> None:
        if self.error:
            raise self.error


@pytest.fixture(autouse=True)
def _no_real_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labnic.plugin, "Lab", FakeLab)
    monkeypatch.setattr(labnic.plugin.Session, "parts", lambda self, kernel: None)
    monkeypatch.setattr(labnic.plugin.Session, "fetch", lambda self, kernel: FakeKernel())
    monkeypatch.setattr(FakeLab, "boots", 0)
    # Loading the plugins of every installed package costs more than all the rest.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(pytester: pytest.Pytester, body: str, *options: str) -> tuple[pytest.RunResult, dict[str, Any]]:
    """An inner run of pytest and what it leaves for `labnic test`."""
    pytester.makeini("[pytest]\naddopts = --strict-markers")
    pytester.makepyfile(test_it=body)
    artifacts = pytester.path / "artifacts"
    options = ("-p", "labnic.plugin", "-p", "no:cacheprovider", "--labnic-artifacts", str(artifacts), *options)
    result = pytester.runpytest_inprocess(*options)
    outcome = artifacts / "outcome.json"
    return result, json.loads(outcome.read_text()) if outcome.exists() else {}


def test_the_lab_boots_once_and_only_when_needed(pytester: pytest.Pytester) -> None:
    body = """
    from labnic.plugin import Lab
    def test_without(): assert Lab.boots == 0
    def test_guest(guest, nic, wire, qmp): assert (guest, nic.name, qmp, Lab.boots) == ("guest", "eth0", "qmp", 1)
    def test_lab(lab): assert Lab.boots == 1 and lab.wire.marks[-1] == "begin test_it.py::test_lab"
    """
    result, outcome = run(pytester, body)
    result.assert_outcomes(passed=3)
    assert result.ret == 0
    assert (outcome["exit"], outcome["collected"]) == (0, 3)


def test_faults_end_with_their_test_before_its_fixtures(pytester: pytest.Pytester) -> None:
    body = """
    import pytest
    @pytest.fixture
    def tidy(nic):
        yield
        assert nic.cleared == 1
    def test_a(tidy): pass
    def test_b(nic): assert nic.cleared == 1
    """
    result, _ = run(pytester, body)
    result.assert_outcomes(passed=2)


def test_a_violation_fails_the_test_in_which_it_came(pytester: pytest.Pytester) -> None:
    body = """
    import pytest
    from labnic.fault import Violation
    def wrong(nic, rule): nic.wrong.append(Violation(rule, 2, "what it was", 3))
    def test_a(nic): wrong(nic, "buffer-twice")
    def test_b(nic): pass
    @pytest.mark.expect_audit("buffer-twice")
    def test_c(nic): wrong(nic, "buffer-twice")
    @pytest.mark.expect_audit("buffer-twice")
    def test_d(nic): wrong(nic, "ring-moved")
    """
    result, outcome = run(pytester, body)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*buffer-twice on queue 3, 2 times: what it was"])
    assert outcome["exit"] == 1


def test_a_violation_while_a_test_cleans_up_is_the_tests_own(pytester: pytest.Pytester) -> None:
    body = """
    import pytest
    from labnic.fault import Violation
    @pytest.fixture
    def untidy(nic):
        yield
        nic.wrong.append(Violation("ring-moved", 1, "too late"))
    def test_a(untidy): pass
    def test_b(nic): pass
    """
    result, _ = run(pytester, body)
    result.assert_outcomes(passed=2, errors=1)


def test_a_rule_that_does_not_exist_is_told(pytester: pytest.Pytester) -> None:
    body = """
    import pytest
    @pytest.mark.expect_audit("no-such-rule")
    def test_a(nic): pass
    """
    result, _ = run(pytester, body)
    result.stdout.fnmatch_lines(["*expect_audit: there is no rule no-such-rule*"])


def test_without_an_audit_nothing_is_asked(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABNIC_QEMU_AUDIT", "false")
    body = """
    from labnic.fault import Violation
    def test_a(nic): nic.wrong.append(Violation("ring-moved", 1, "never read"))
    """
    result, _ = run(pytester, body)
    result.assert_outcomes(passed=1)


def test_a_kernel_warning_fails_its_test_alone(pytester: pytest.Pytester) -> None:
    body = """
    def test_a(lab): pass
    def test_b(lab): lab.say("[ 1.0] BUG: something bad\\nmore of it")
    def test_c(lab): pass
    """
    result, outcome = run(pytester, body)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*bug at line 1: BUG: something bad*", "*more of it*"])
    assert (result.ret, outcome["exit"]) == (7, 7)


def test_a_failed_test_outweighs_a_warning(pytester: pytest.Pytester) -> None:
    body = """
    def test_a(lab): lab.say("BUG: x")
    def test_b(lab): assert False
    """
    result, _ = run(pytester, body)
    assert result.ret == 1


def test_a_provoked_warning_is_allowed(pytester: pytest.Pytester) -> None:
    body = """
    import pytest
    @pytest.mark.expect_splat("BUG: wanted")
    def test_a(lab): lab.say("BUG: wanted, really")
    @pytest.mark.expect_splat("BUG: wanted")
    def test_b(lab): lab.say("BUG: another")
    """
    result, _ = run(pytester, body)
    result.assert_outcomes(passed=1, failed=1)


def test_a_warning_in_the_clean_up_counts(pytester: pytest.Pytester) -> None:
    body = """
    import pytest
    @pytest.fixture
    def dirty(lab):
        yield
        lab.say("WARNING: CPU: 0 PID: 1 at x.c:1 f+0x1/0x2")
    def test_a(dirty): pass
    """
    result, _ = run(pytester, body)
    result.assert_outcomes(passed=1, errors=1)
    assert result.ret == 7


def test_after_a_lost_vm_the_rest_is_skipped_with_the_reason(pytester: pytest.Pytester) -> None:
    body = """
    from labnic.errors import VmLostError
    def test_a(lab): lab.error = VmLostError("QEMU was killed by SIGKILL"); raise lab.error
    def test_b(lab): pass
    def test_c(): pass
    """
    result, outcome = run(pytester, body, "-rs")
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*the VM is lost: QEMU was killed by SIGKILL*"])
    assert (result.ret, outcome["exit"]) == (5, 5)


def test_a_vm_lost_behind_a_tests_back_fails_it(pytester: pytest.Pytester) -> None:
    body = """
    from labnic.errors import GuestPanicError
    def test_a(lab): lab.error = GuestPanicError("the guest's kernel panicked")
    def test_b(lab): pass
    """
    result, _ = run(pytester, body)
    result.assert_outcomes(failed=1, skipped=1)
    assert result.ret == 6


def test_a_lab_that_does_not_boot_is_told_once(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeLab, "boot_fails", True)
    body = """
    def test_a(lab): pass
    def test_b(lab): pass
    """
    result, _ = run(pytester, body)
    result.assert_outcomes(errors=1, skipped=1)
    result.stdout.fnmatch_lines(["labnic: error: no boot", "  | last line"])
    assert result.ret == 5


def test_a_failure_shows_the_console_and_how_to_run_it_again(pytester: pytest.Pytester) -> None:
    body = """
    def test_a(lab):
        lab.say("the last words")
        assert 1 == 2
    """
    result, _ = run(pytester, body, "--labnic-seed", "42", "--labnic-kernel", "6.12")
    result.stdout.fnmatch_lines(
        [
            "*seed 42*",
            "*last console lines:*",
            "| the last words",
            "logs and captures: *",
            "run it again: labnic test test_it.py::test_a --seed 42 --kernel 6.12",
        ]
    )


def test_the_same_seed_gives_the_same_numbers(pytester: pytest.Pytester) -> None:
    body = """
    import random
    def test_a(): print("number", random.random())
    """
    numbers = []
    for seed in ("1", "1", "2"):
        result, _ = run(pytester, body, "--labnic-seed", seed, "-s")
        numbers.append([line for line in result.outlines if "number" in line])
    assert numbers[0]
    assert numbers[0] == numbers[1] != numbers[2]


def test_another_lab_of_a_test_is_closed_and_its_log_read(pytester: pytest.Pytester) -> None:
    body = """
    labs = []
    def test_a(lab_factory): labs.append(lab_factory(cmdline=("labnic.up=0",)))
    def test_b(): assert labs[0].closed and labs[0].parameters == ("labnic.up=0",)
    def test_c(lab_factory): lab_factory().say("BUG: in the other")
    """
    result, _ = run(pytester, body)
    result.assert_outcomes(passed=2, failed=1)
    assert result.ret == 7


@pytest.mark.parametrize(("body", "code"), [("import nothing_there", 1), ("", 1), ("def broken(", 1)])
def test_nothing_to_run_is_a_failure(pytester: pytest.Pytester, body: str, code: int) -> None:
    result, outcome = run(pytester, body)
    assert (result.ret, outcome["exit"]) == (code, code)


def test_an_interrupt_has_its_own_code(pytester: pytest.Pytester) -> None:
    result, outcome = run(pytester, "def test_a(): raise KeyboardInterrupt")
    assert (result.ret, outcome["exit"]) == (130, 130)


# The kernel


NEEDS = """
    import pytest

    @pytest.mark.needs_kernel("failslab", "kasan")
    def test_failing(lab): pass

    @pytest.mark.needs_kernel("lockdep")
    def test_locking(lab): pass

    def test_any(lab): pass
"""


def test_what_the_kernel_cannot_do_is_left_out_and_told(pytester: pytest.Pytester) -> None:
    result, outcome = run(pytester, NEEDS)
    result.assert_outcomes(passed=2, deselected=1)
    assert outcome["collected"] == 2
    result.stdout.fnmatch_lines(["labnic: 1 tests left out: kernel 6.1 has no failslab, kasan"])


def test_without_such_tests_no_kernel_is_fetched(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(self: object, kernel: str) -> FakeKernel:
        raise AssertionError("fetched")

    monkeypatch.setattr(labnic.plugin.Session, "fetch", fetch)
    run(pytester, "def test_one(lab): pass\ndef test_two(): pass")[0].assert_outcomes(passed=2)


def test_a_kernel_that_cannot_be_fetched_is_told_by_the_lab(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, kernel: str) -> FakeKernel:
        raise BootError("no such thing")

    monkeypatch.setattr(labnic.plugin.Session, "fetch", fail)
    monkeypatch.setattr(labnic.plugin.Session, "parts", fail)
    result, _ = run(pytester, NEEDS)
    assert result.parseoutcomes()["errors"] == 1
    result.stdout.fnmatch_lines(["*no such thing*"])


def test_memory_that_leaked_fails_the_session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    leak = Leak(("unreferenced object 0xffff888103a4c000 (size 64):", "    labnic_open+0x1/0x2 [labnic]"))
    monkeypatch.setattr(FakeKernel, "features", frozenset({"kmemleak"}))
    monkeypatch.setattr(labnic.kmemleak, "scan", lambda guest: [leak])
    result, outcome = run(pytester, "def test_one(lab): pass")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*kmemleak: 64 bytes, allocated by labnic_open*"])
    assert outcome["exit"] == 7
