# SPDX-License-Identifier: GPL-2.0-or-later
"""What one measurement gives, and the quantities that there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from labnic.bench.stats import Quantity

RATE = Quantity("rate", "kpps", "more")
INTERRUPTS = Quantity("interrupts", "/frame", "less", clocked=False)
MAIN_CPU = Quantity("main thread", "us/frame", "less")
ALL_CPU = Quantity("QEMU's CPU", "us/frame", "less")
INSTRUCTIONS = Quantity("kernel instructions", "/frame", "less", clocked=False)
MMIO = Quantity("register accesses", "/frame", "less", clocked=False)
DMA = Quantity("DMA operations", "/frame", "less", clocked=False)
THROUGHPUT = Quantity("throughput", "Mbit/s", "more")
MEDIAN = Quantity("round trip, median", "us", "less")
P99 = Quantity("round trip, 99 %", "us", "less")

BOOT = Quantity("boot to driver up", "s", "less")
RESTORE = Quantity("restore to first command", "s", "less")
RELOAD = Quantity("driver reloaded", "s", "less")
DRIVER_EDIT = Quantity("driver edited to running", "s", "less")
DEVICE_EDIT = Quantity("device edited to booted", "s", "less")

QUANTITIES = {
    each.name: each
    for each in (
        *(RATE, THROUGHPUT, MEDIAN, P99, INTERRUPTS, MAIN_CPU, ALL_CPU, INSTRUCTIONS, MMIO, DMA),
        *(BOOT, RESTORE, RELOAD, DRIVER_EDIT, DEVICE_EDIT),
    )
}


@dataclass(frozen=True)
class Sample:
    """One measurement: values by the name of their quantity, frames that were lost, and frames with a wrong byte or
    out of order; where it was asked for, the kernel's instructions for each frame by function."""

    values: Mapping[str, float] = field(default_factory=dict)
    lost: int = 0
    bad: int = 0
    profile: Mapping[str, float] = field(default_factory=dict)


class NotMeasurableError(Exception):
    """The contender has not what the row needs; the text says what, in a few words."""
