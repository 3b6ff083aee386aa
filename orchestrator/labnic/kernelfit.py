# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests and the kernel they run on: what it must have, how long they may take on it, what it found leaked.

A part of the pytest plugin.  A test that needs a checker or failures on demand has the marker ``needs_kernel``; on a
kernel without them it is left out, and the summary says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from labnic import kmemleak
from labnic.build import Kernel, kernel_entry
from labnic.errors import LabnicError
from labnic.lab import Lab
from labnic.splat import Splat

MARKER = "needs_kernel(feature...): left out on a kernel that lacks one of these (names: labnic.build.kerneltable)"

_BOOTED = frozenset({"lab", "lab_factory"})  # fixtures of tests that wait for a guest


class KernelFit:
    """Fits the collected tests to the kernel; ``name`` is asked when the first test needs one."""

    def __init__(self, name: Callable[[], str], fetch: Callable[[str], Kernel]) -> None:
        self._name = name
        self._fetch = fetch
        self._left_out: Counter[str] = Counter()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what the kernel cannot do, and give the others its time."""
        booted = [item for item in items if _BOOTED & set(getattr(item, "fixturenames", ()))]
        if not booted:
            return
        try:
            self._leave_out(config, items, booted)
            self._allow_time(config, booted)
        except LabnicError:
            # The lab fixture meets the same error and tells it as a test's; here pytest would take it for its own.
            return

    def _leave_out(self, config: pytest.Config, items: list[pytest.Item], booted: Sequence[pytest.Item]) -> None:
        wanted = {item: [name for mark in item.iter_markers("needs_kernel") for name in mark.args] for item in booted}
        # Without such a test nothing is fetched only for being collected.
        if not any(wanted.values()):
            return
        kernel = self._fetch(self._name())
        lacking = {item: [name for name in wanted[item] if not kernel.has(name)] for item in booted}
        left_out = [item for item in booted if lacking[item]]
        if left_out:
            items[:] = [item for item in items if not lacking.get(item)]
            config.hook.pytest_deselected(items=left_out)
            self._left_out.update(", ".join(dict.fromkeys(lacking[item])) for item in left_out)

    def _allow_time(self, config: pytest.Config, booted: Sequence[pytest.Item]) -> None:
        slower = getattr(kernel_entry(self._name()), "slower", 1.0)
        if slower == 1 or not config.pluginmanager.hasplugin("timeout"):
            return
        limit = float(config.getini("timeout") or 0)
        for item in booted:
            if limit and item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(limit * slower))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """What was left out, and why."""
        for lack, count in self._left_out.items():
            terminalreporter.write_line(f"labnic: {count} tests left out: kernel {self._name()} has no {lack}")


def leaked(lab: Lab) -> list[Splat]:
    """What the guest's kernel found leaked since the last call; nothing where it does not look for leaks."""
    if not lab.kernel.has("kmemleak"):
        return []
    return [Splat("kmemleak", leak.first, 0, leak.lines) for leak in kmemleak.scan(lab.guest)]
