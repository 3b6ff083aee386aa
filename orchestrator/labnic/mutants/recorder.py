# SPDX-License-Identifier: GPL-2.0-or-later
"""What a pytest session found, in a few words for each failure."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from labnic.errors import (
    BootError,
    BuildError,
    CommandTimeoutError,
    GuestPanicError,
    LabnicError,
    VmLostError,
    WireError,
)
from labnic.plugin import AuditFailure, SplatFailure

KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (GuestPanicError, "panic"),
    (BootError, "no boot"),
    (BuildError, "build"),
    (VmLostError, "lost VM"),
    (CommandTimeoutError, "time-out"),
    (WireError, "no frame"),
    (LabnicError, "refused"),
    (AuditFailure, "audit"),
    (AssertionError, "assertion"),
)
"""Words for what a test failed with, the first that fits."""

SPLAT = "splat: "
"""How the kind of a failure begins when the kernel complained."""

_LONGEST = 160  # characters of a failure's text


@dataclass(frozen=True)
class Failure:
    """A test that failed; ``kind`` is a word or two, ``text`` the first line of the reason."""

    test: str
    kind: str
    text: str


@dataclass
class Findings:
    """How the tests of a session ended, by their names."""

    passed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    uncollected: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Take over what another session found."""
        self.passed += other.passed
        self.skipped += other.skipped
        self.failures += other.failures
        self.uncollected += other.uncollected

    def as_json(self) -> dict[str, Any]:
        """For another process; `of_json` reads it."""
        return asdict(self)

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Findings:
        """The reverse of `as_json`."""
        return cls(**{**data, "failures": [Failure(**failure) for failure in data["failures"]]})


def classify(error: BaseException) -> tuple[str, str]:
    """The kind of a failure, and the first line of its text."""
    if isinstance(error, BaseExceptionGroup):
        # Several parts of a test's clean-up failed; the first is as good as any.
        return classify(error.exceptions[0])
    if isinstance(error, SplatFailure):
        kinds = dict.fromkeys(splat.kind for splat in error.splats)
        return SPLAT + ", ".join(kinds), error.splats[0].first[:_LONGEST]
    # An audit's failure begins with a sentence that says no more than its kind.
    lines = str(error).strip().splitlines()[1 if isinstance(error, AuditFailure) else 0 :]
    text = (lines or [""])[0][:_LONGEST]
    if isinstance(error, pytest.fail.Exception):
        return ("time-out" if "pytest-timeout" in text else "assertion"), text
    for cls, kind in KINDS:
        if isinstance(error, cls):
            return kind, text
    return type(error).__name__, text


class Recorder:
    """A pytest plugin that fills `Findings`."""

    def __init__(self) -> None:
        self.findings = Findings()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, pytest.TestReport]:
        """Note how one stage of a test ended; a test that passed is one whose own stage did."""
        report: pytest.TestReport = yield
        if report.failed and call.excinfo is not None:
            self.findings.failures.append(Failure(item.nodeid, *classify(call.excinfo.value)))
        elif report.skipped:
            self.findings.skipped.append(item.nodeid)
        elif report.when == "call":
            self.findings.passed.append(item.nodeid)
        return report

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that pytest cannot read tests from."""
        if report.failed:
            self.findings.uncollected.append(report.nodeid)
