# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast the host's time stamp counter goes, which is the guest's under TCG.

A guest's kernel measures that as it boots, against a timer that the host may keep from it for a while: one boot in some
hundred found 59 MHz in place of 2,594, and its clock went forty times too fast. So it is told.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import platform
import time
from collections.abc import Callable, Sequence

# rdtsc; shl $32, %rdx; or %rdx, %rax; ret
_CODE = bytes.fromhex("0f31 48c1e220 4809d0 c3")

_SECONDS = 0.02
"""Between two looks; each is good to a microsecond."""

_TRIES = 10
"""Reads of the counter of which the one that took least time counts."""


def parameters(accel: str, extra: Sequence[str]) -> tuple[str, ...]:
    """Words for the kernel of a guest under this accelerator, with these further arguments of QEMU."""
    # With -icount the guest's counter goes by its instructions.
    khz = host_khz() if accel == "tcg" and "-icount" not in extra else None
    return (f"tsc_early_khz={khz}",) if khz else ()


@functools.cache
def host_khz() -> int | None:
    """Of this machine, in kHz; None when it is not known: the guest then measures."""
    if platform.machine() != "x86_64":
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None  # some systems execute nothing that was written
    page.write(_CODE)
    code = ctypes.c_char.from_buffer(page)
    khz = measure(ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(code)))
    return khz if 100_000 < khz < 10_000_000 else None


def measure(read: Callable[[], int]) -> int:
    """How many thousands a second a counter goes on."""
    begun, first = _look(read)
    time.sleep(_SECONDS)
    ended, last = _look(read)
    return round((last - first) * 1e6 / (ended - begun))


def _look(read: Callable[[], int]) -> tuple[float, int]:
    """Nanoseconds, and the counter at that time."""
    looks = []
    for _ in range(_TRIES):
        before = time.perf_counter_ns()
        count = read()
        after = time.perf_counter_ns()
        looks.append((after - before, (before + after) / 2, count))
    return min(looks)[1:]
