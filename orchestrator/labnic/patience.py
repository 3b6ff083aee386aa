# SPDX-License-Identifier: GPL-2.0-or-later
"""How much longer than usual to wait: limits are written for a stock kernel, and some kernels are slower.

The factor belongs to the process, not to a lab: a process has labs of one kernel, and every wait, also one that has no
lab at hand, should know it.
"""

from __future__ import annotations

import time

_factor = 1.0


def allow(slower: float) -> None:
    """From now on multiply every limit by ``slower``, at least 1; a factor that is greater already stays."""
    global _factor
    _factor = max(_factor, slower)


def patient(seconds: float) -> float:
    """A limit in seconds, as long as the slowest kernel of this process needs it."""
    return seconds * _factor


def deadline(seconds: float) -> float:
    """The moment of `time.monotonic` at which a limit in seconds, made longer by `patient`, is over."""
    return time.monotonic() + patient(seconds)
