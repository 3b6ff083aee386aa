# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of the Python code, with the tools of labnic's own environment."""

from __future__ import annotations

import sys

from labnic.checks.base import Check, Context


def _ruff(context: Context) -> None:
    context.run([sys.executable, "-m", "ruff", "check", "--quiet", "--cache-dir", context.cache.root / "ruff", "."])


def _format(context: Context) -> None:
    cache = context.cache.root / "ruff"
    context.run([sys.executable, "-m", "ruff", "format", "--quiet", "--diff", "--cache-dir", cache, "."])


def _mypy(context: Context) -> None:
    cache = context.cache.root / "mypy"
    context.run([sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", cache])


CHECKS = (
    Check("ruff", "Python: ruff", _ruff),
    Check("ruff-format", "Python: formatted by ruff", _format),
    Check("mypy", "Python: mypy --strict", _mypy),
)
