# SPDX-License-Identifier: GPL-2.0-or-later
"""What all groups of tests share: nothing of the machine's own settings gets into a test."""

from __future__ import annotations

import os

import pytest

KEPT = {"LABNIC_CACHE", "LABNIC_CONFIG", "LABNIC_BOOTSTRAP_PHASES"}


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from the environment."""
    for name in os.environ:
        if name.startswith("LABNIC_") and name not in KEPT:
            monkeypatch.delenv(name)
