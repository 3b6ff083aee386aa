# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends what a seeded bug would drag out: a test at the kernel's first complaint, a clean-up that hangs with its VM."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from labnic.lab import Lab
from labnic.plugin import SplatFailure
from labnic.splat import LogScanner, Splat, unexpected

CLEANUP_LIMIT = 8.0
"""Seconds that a failed test gets to clean up. The VM is restored or replaced anyhow."""

_PERIOD = 0.1  # seconds between two looks at the kernel's log


class Watch:
    """A pytest plugin for one session in the process's main thread; `follow` gives it the VM."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._allowed: tuple[str, ...] = ()
        self._armed = False
        self._due = float("inf")
        self._found: list[Splat] = []
        signal.signal(signal.SIGUSR1, self._interrupt)

    def follow(self, lab: Lab) -> None:
        """Watch this VM's log from here on, until the session's end."""
        scanner = LogScanner(lab.machine.console_log)
        scanner.scan()
        threading.Thread(target=self._run, args=(lab, scanner), name="labnic-watch", daemon=True).start()

    def _run(self, lab: Lab, scanner: LogScanner) -> None:
        while not self._end.wait(_PERIOD):
            self._found += unexpected(scanner.scan(), self._allowed)
            if self._found and self._armed:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            if time.monotonic() > self._due:
                lab.machine.process.kill()
                return

    def _interrupt(self, *_: object) -> None:
        # Only here, between two steps of the main thread, is it certain what that is doing.
        if self._armed:
            self._armed = False
            raise SplatFailure(self._found)

    # What pytest calls

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Each test may expect reports of its own."""
        self._allowed = tuple(pattern for mark in item.iter_markers("expect_splat") for pattern in mark.args)
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        """Only the test itself is interrupted: fixtures make and clean up things that others need."""
        self._armed = True
        try:
            return (yield)
        finally:
            self._armed = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, call: pytest.CallInfo[None]) -> None:
        """From the first failure on the VM is worth nothing; telling of it is a part of the clean-up."""
        if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
            self._due = min(self._due, time.monotonic() + CLEANUP_LIMIT)

    def pytest_sessionfinish(self) -> None:
        """The VM is used again after this."""
        self._end.set()
