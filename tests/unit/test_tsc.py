# SPDX-License-Identifier: GPL-2.0-or-later
"""The rate of the time stamp counter that a guest is told."""

from __future__ import annotations

import platform
import time

import pytest

from labnic import tsc


def test_a_counter_of_known_rate_is_measured() -> None:
    assert tsc.measure(lambda: time.perf_counter_ns() * 2) == pytest.approx(2_000_000, rel=0.001)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="another machine has another counter")
def test_two_measurements_agree() -> None:
    first = tsc.host_khz()
    tsc.host_khz.cache_clear()
    assert first
    assert tsc.host_khz() == pytest.approx(first, rel=0.001)


def test_a_guest_is_told_where_its_counter_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tsc, "host_khz", lambda: 2_594_179)
    assert tsc.parameters("tcg", ()) == ("tsc_early_khz=2594179",)
    assert tsc.parameters("kvm", ()) == ()
    assert tsc.parameters("tcg", ("-icount", "shift=2")) == ()


def test_a_guest_measures_where_the_host_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tsc, "host_khz", lambda: None)
    assert tsc.parameters("tcg", ()) == ()
