# SPDX-License-Identifier: GPL-2.0-or-later
"""From what was provoked and what the witnesses say to one verdict for each rule; pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from labnic.contract.rules import AUDIT, COMPILER, NEWER_KERNELS, OBSERVER, RULES, Rule, checked
from labnic.observer import ContractViolation, RuleReport

Verdict = Literal["kept", "violated", "not provoked", "not in this driver", "not in this kernel"]

KEPT: Verdict = "kept"
VIOLATED: Verdict = "violated"
NOT_PROVOKED: Verdict = "not provoked"
NO_CALLBACK: Verdict = "not in this driver"
NO_KERNEL: Verdict = "not in this kernel"


IMPLIED = frozenset({"atomic"})
"""Contexts that the table leaves out: BHs or interrupts that are off say it already."""


@dataclass(frozen=True)
class Finding:
    """One thing that a witness saw go wrong; ``text`` is one line, ``detail`` what else it said."""

    witness: str
    text: str
    detail: tuple[str, ...] = ()


@dataclass
class Provoked:
    """How one provocation went: ``reason`` says why it could not be done, empty when it was.

    ``proofs`` are the witnesses of the harness that spoke for a rule (packets that came, attributes that were read);
    ``findings`` what was seen to go wrong for a rule; ``seconds`` how long it took.
    """

    name: str
    rules: tuple[str, ...]
    reason: str = ""
    proofs: dict[str, str] = field(default_factory=dict)
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    seconds: float = 0.0

    def find(self, rules: Iterable[str], finding: Finding) -> None:
        """Book a finding for each of these rules."""
        for name in rules:
            self.findings.setdefault(name, []).append(finding)


@dataclass(frozen=True)
class Row:
    """One line of the contract's table."""

    rule: Rule
    verdict: Verdict
    calls: int
    contexts: tuple[str, ...]
    locks: tuple[str, ...]
    witnesses: tuple[str, ...]
    note: str = ""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """All that one run on one kernel brought."""

    provoked: Sequence[Provoked]
    reports: Sequence[RuleReport]
    violations: Sequence[ContractViolation] = ()
    has: frozenset[str] = frozenset()
    """The checkers of the kernel that watched, keys of `rules.CHECKERS`."""
    audited: bool = False
    """Whether the device audited its driver."""


def judge(evidence: Evidence) -> list[Row]:
    """One row for each rule, in the order of the table."""
    reports: dict[str, list[RuleReport]] = {}
    for report in evidence.reports:
        reports.setdefault(report.rule, []).append(report)
    return [_row(rule, reports.get(rule.name, []), evidence) for rule in RULES]


def _row(rule: Rule, reports: Sequence[RuleReport], evidence: Evidence) -> Row:
    provoked = [each for each in evidence.provoked if rule.name in each.rules]
    findings = [finding for each in provoked for finding in each.findings.get(rule.name, ())]
    findings += [_finding(each) for each in evidence.violations if each.rule == rule.name]
    proofs = [each.proofs[rule.name] for each in provoked if rule.name in each.proofs]
    verdict, note = _verdict(rule, reports, proofs, provoked)
    if findings:
        verdict, note = VIOLATED, findings[0].text
    judged = verdict in (KEPT, VIOLATED)
    own = [report for report in reports if report.callback in rule.callback] or reports
    return Row(
        rule,
        verdict,
        sum(report.calls for report in own),
        tuple(word for word in _words(report.contexts for report in own) if word not in IMPLIED),
        _words(report.locks for report in own),
        _witnesses(rule, reports, proofs, evidence) if judged else (),
        note,
        tuple(findings),
    )


def _finding(violation: ContractViolation) -> Finding:
    first, *rest = str(violation).splitlines()
    return Finding(OBSERVER, first, tuple(rest))


def _verdict(
    rule: Rule, reports: Sequence[RuleReport], proofs: Sequence[str], provoked: Sequence[Provoked]
) -> tuple[Verdict, str]:
    """Without a finding: kept when a witness that can judge has judged, else why none did."""
    if proofs or any(report.judged for report in reports):
        return KEPT, ""
    if rule.name == NEWER_KERNELS:
        return NO_KERNEL, "the kernel has no such callback"
    if provoked and all(each.reason for each in provoked):
        return NOT_PROVOKED, "; ".join(dict.fromkeys(each.reason for each in provoked))
    if not any(report.callback in rule.callback for report in reports):
        return NO_CALLBACK, "the driver has no such callback"
    return NOT_PROVOKED, "the callback was not called"


def _witnesses(rule: Rule, reports: Sequence[RuleReport], proofs: Sequence[str], evidence: Evidence) -> tuple[str, ...]:
    """Who judged: the observer by its probes (and by lockdep), the harness, the device, the kernel's checkers."""
    told = [report.witness for report in reports if report.judged]
    found = [COMPILER] if COMPILER in told else [OBSERVER] if told else []
    found += sorted(proofs)
    found += [AUDIT] if AUDIT in rule.judged and evidence.audited else []
    found += checked(rule, evidence.has)
    return tuple(dict.fromkeys(found))


def _words(parts: Iterable[Mapping[str, int]]) -> tuple[str, ...]:
    """The words with a count, the most frequent first."""
    sums: dict[str, int] = {}
    for part in parts:
        for word, count in part.items():
            sums[word] = sums.get(word, 0) + count
    return tuple(word for word, count in sorted(sums.items(), key=lambda item: -item[1]) if count)


def counts(rows: Sequence[Row]) -> Mapping[Verdict, int]:
    """How many rules have each verdict; verdicts that no rule has are left out."""
    found: dict[Verdict, int] = {}
    for row in rows:
        found[row.verdict] = found.get(row.verdict, 0) + 1
    return found
