# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits grow with the slowness of the kernel, everywhere and once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labnic import patience
from labnic.command import backoff
from labnic.config import MachineConfig
from labnic.wire import NoFrameError, Wire


@pytest.fixture(autouse=True)
def _own_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_factor", 1.0)


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    made = Wire("w0", tmp_path / "w0.pcapng")
    yield made
    made.close()


def test_limits_are_as_written_until_a_slow_kernel_comes() -> None:
    assert patience.patient(5.0) == 5.0
    patience.allow(4.0)
    assert patience.patient(5.0) == 20.0


def test_a_quick_kernel_beside_a_slow_one_shortens_nothing() -> None:
    patience.allow(4.0)
    patience.allow(1.0)
    assert patience.patient(1.0) == 4.0


def test_repeated_looks_go_on_for_the_longer_limit() -> None:
    patience.allow(4.0)
    begin = time.monotonic()
    for _ in backoff(0.05):
        pass
    assert time.monotonic() - begin >= 0.2


def test_a_wire_waits_the_longer_limit_once(wire: Wire) -> None:
    patience.allow(2.0)
    begin = time.monotonic()
    with pytest.raises(NoFrameError, match=r"0 of 3 frames within 0\.2 s"):
        wire.collect(3, timeout=0.1)
    assert time.monotonic() - begin >= 0.2


@pytest.mark.parametrize(
    ("configured", "least", "got"),
    [("256M", "768M", "768M"), ("1G", "768M", "1G"), ("512M", "", "512M"), ("1G", "1024M", "1G")],
)
def test_a_machine_has_the_greater_memory(configured: str, least: str, got: str) -> None:
    assert MachineConfig(memory=configured).with_memory(least).memory == got
