# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory of the guest's kernel that nothing points to any more, as its leak detector finds it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from labnic.guest import Guest

FILE = "/sys/kernel/debug/kmemleak"

AGE = 6
"""Seconds before a scan: the detector does not speak of objects younger than five (MSECS_MIN_AGE of mm/kmemleak.c)."""

SCAN_LIMIT = 240.0
"""Seconds for two scans of an emulated guest's whole memory."""

# A pointer that only a register or another CPU's stack held during the first scan is found by the second one.
_SCAN = f"sleep {AGE}; echo scan >{FILE} && echo scan >{FILE} && cat {FILE} && echo clear >{FILE}"

_OBJECT = re.compile(r"unreferenced object 0x[0-9a-f]+ \(size (\d+)\)")
_FRAME = re.compile(r"(\S+)\+0x[0-9a-f]+/0x[0-9a-f]+")


@dataclass(frozen=True)
class Leak:
    """One object; ``lines`` are the detector's report with the stack that allocated it."""

    lines: tuple[str, ...]

    @property
    def first(self) -> str:
        """Size and allocating function in one line."""
        size = _OBJECT.search(self.lines[0])
        stack = [found[1] for line in self.lines if (found := _FRAME.search(line))]
        return f"{size[1] if size else '?'} bytes, allocated by {' < '.join(stack[:6])}"


def scan(guest: Guest) -> list[Leak]:
    """What has leaked since the last call; each object is told once.

    Takes some ten seconds in an emulated guest.  Raises `GuestCommandError` on a kernel without the detector.
    """
    return list(parse(guest.sh(_SCAN, timeout=SCAN_LIMIT).splitlines()))


def parse(lines: Iterable[str]) -> Iterable[Leak]:
    """The reports in the detector's file."""
    report: list[str] = []
    for line in lines:
        if _OBJECT.match(line) and report:
            yield Leak(tuple(report))
            report = []
        if report or _OBJECT.match(line):
            report.append(line)
    if report:
        yield Leak(tuple(report))
