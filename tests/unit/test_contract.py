# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts from what witnesses say, without any VM."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest

from labnic.build.cache import PROJECT
from labnic.contract.control import GROUP_FRAMES, judge_group
from labnic.contract.judge import (
    KEPT,
    NO_CALLBACK,
    NO_KERNEL,
    NOT_PROVOKED,
    VIOLATED,
    Evidence,
    Finding,
    Provoked,
    Row,
    judge,
)
from labnic.contract.rules import CHECKERS, NAMES, RULES
from labnic.contract.run import PROVOCATIONS, model_of
from labnic.contract.show import RULES_PART, rules_table, write_page
from labnic.contract.stage import Stage
from labnic.errors import UsageError
from labnic.observer import ContractViolation, RuleReport
from labnic.page import replace_part


def seen(
    rule: str, calls: int = 1, judged: int | None = None, witness: str = "probe", callback: str = ""
) -> RuleReport:
    looks = calls if judged is None else judged
    own = next(each.callback for each in RULES if each.name == rule)
    return RuleReport(
        rule=rule,
        dev="eth0",
        driver="labnic",
        callback=callback or own,
        witness=witness,
        calls=calls,
        judged=looks,
        violations=0,
        own=0,
        contexts={"process": calls},
        locks={"rtnl": calls},
    )


def broken(rule: str) -> ContractViolation:
    return ContractViolation(
        rule=rule,
        dev="eth0",
        driver="labnic",
        callback="ndo_x",
        count=1,
        own=False,
        value=0,
        contexts=("process",),
        text="without rtnl",
        task="ip",
        stack=("labnic_open",),
    )


def row(name: str, *reports: RuleReport, provoked: tuple[Provoked, ...] = (), **evidence: Any) -> Row:
    rows = judge(Evidence(provoked, reports, **evidence))
    return next(each for each in rows if each.rule.name == name)


def test_a_rule_whose_callback_was_seen_without_violation_is_kept() -> None:
    found = row("O1", seen("O1", calls=7))
    assert (found.verdict, found.calls, found.witnesses) == (KEPT, 7, ("observer",))
    assert (found.contexts, found.locks) == (("process",), ("rtnl",))


def test_one_violation_among_many_calls_violates() -> None:
    found = row("O1", seen("O1", calls=7), violations=[broken("O1"), broken("S1")])
    assert found.verdict == VIOLATED
    assert "without rtnl" in found.findings[0].text
    assert found.findings[0].detail == ("    labnic_open",)
    assert len(found.findings) == 1


def test_a_rule_that_nobody_judged_is_not_kept() -> None:
    assert row("O1", seen("O1", calls=0)).verdict == NOT_PROVOKED
    assert row("O1", seen("O1", calls=3, judged=0)).verdict == NOT_PROVOKED


def test_the_reason_why_a_provocation_was_not_done_is_told() -> None:
    found = row("T1", provoked=(Provoked("timeout", ("T1",), reason="no faults here"),))
    assert (found.verdict, found.note) == (NOT_PROVOKED, "no faults here")


def test_a_provocation_that_was_done_outweighs_one_that_was_not() -> None:
    both = (Provoked("load", ("N2",)), Provoked("removal", ("N2",), reason="no faults here"))
    assert row("N2", seen("N2", judged=0, callback="register_netdevice"), provoked=both).verdict == NO_CALLBACK


def test_what_a_driver_or_kernel_lacks_is_no_rule_kept() -> None:
    assert row("N4").verdict == NO_CALLBACK
    assert row("N5", seen("N5", calls=0, witness="none")).verdict == NO_KERNEL


def test_the_compiler_judges_the_name_that_is_gone() -> None:
    found = row("X8", seen("X8", calls=0, judged=1, witness="compiler"))
    assert (found.verdict, found.witnesses) == (KEPT, ("compiler",))


def test_packets_judge_what_the_observer_cannot() -> None:
    assert row("X3", seen("X3", calls=0, witness="none")).verdict == NOT_PROVOKED
    found = row("X3", provoked=(Provoked("filters", ("X3",), proofs={"X3": "packets"}),))
    assert (found.verdict, found.witnesses) == (KEPT, ("packets",))


def test_a_finding_of_the_harness_violates_a_rule_that_the_observer_saw_kept() -> None:
    broken = Provoked("timeout", ("T3",))
    broken.find(("T3",), Finding("harness", "a frame came twice"))
    found = row("T3", seen("T3"), provoked=(broken,))
    assert (found.verdict, found.note) == (VIOLATED, "a frame came twice")


def test_the_kernels_checkers_are_witnesses_where_it_has_them() -> None:
    found = row("O1", seen("O1"), has=frozenset({"lockdep", "kasan"}))
    assert found.witnesses == ("observer", "lockdep")


def test_the_device_is_a_witness_where_it_audits() -> None:
    assert "device audit" in row("S4", seen("S4"), audited=True).witnesses
    assert "device audit" not in row("S4", seen("S4"), audited=False).witnesses


def test_each_rule_has_a_provocation_or_needs_none() -> None:
    provoked = {name for each in PROVOCATIONS for name in each.rules}
    assert set(NAMES) - provoked == {"X8", "N5"}
    assert provoked <= set(NAMES)


def test_checkers_of_rules_are_known() -> None:
    assert {checker for rule in RULES for checker in rule.checkers} <= set(CHECKERS)


@pytest.mark.parametrize(
    ("given", "model"), [("virtio_net", "virtio-net-pci"), ("e1000e", "e1000e"), ("labnic", "labnic")]
)
def test_a_driver_names_its_device(given: str, model: str) -> None:
    assert model_of(given) == model


def test_an_unknown_driver_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as refused:
        model_of("e100")
    assert "virtio_net" in refused.value.hint


def test_the_page_has_the_rules_as_they_are() -> None:
    page = (PROJECT / "docs" / "callback-contract.md").read_text()
    assert replace_part(page, RULES_PART, rules_table()) == page, (
        "run: ./labnic contract --write docs/callback-contract.md"
    )


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(UsageError):
        write_page(page, [])
    assert page.read_text() == "nothing\n"


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        ([n for n in range(GROUP_FRAMES) if n not in (3, 4)], r"these were lost: \[3, 4\]"),
        ([0, *range(GROUP_FRAMES)], "twice"),
        ([1, 0, *range(2, GROUP_FRAMES)], "disordered"),
    ],
)
def test_frames_lost_while_the_filter_changes_break_one_rule_alone(numbers: list[int], what: str) -> None:
    """The same provocation shows rules of locks, which such a driver may well keep."""
    done = Provoked("filters", ("M1", "M2", "X3", "X1"))
    judge_group(Stage(cast("Any", None), done), numbers)
    assert list(done.findings) == ["X3"]
    assert any(re.search(what, finding.text) for finding in done.findings["X3"])


def test_frames_that_all_came_are_a_proof() -> None:
    done = Provoked("filters", ("X3",))
    judge_group(Stage(cast("Any", None), done), range(GROUP_FRAMES))
    assert (done.findings, list(done.proofs)) == ({}, ["X3"])
