# SPDX-License-Identifier: GPL-2.0-or-later
"""Where in the guest's kernel the instructions of a frame are: places in its code, as functions."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

from labnic.guest import Guest

LEAST = 1.0
"""Instructions for each frame below which a function is not told of."""


GONE = "(a module that is not loaded now)"
"""pktgen above all, which is loaded for each run anew."""

_AREA = re.compile(r"^0x([0-9a-f]+)-0x([0-9a-f]+) ", re.MULTILINE)


class Symbols:
    """The functions of a running kernel and its modules, by address; ``areas`` of memory have a module each."""

    def __init__(self, found: Iterable[tuple[int, str]], areas: Iterable[tuple[int, int]] = ()) -> None:
        pairs = sorted(found)
        self._addresses = [address for address, _ in pairs]
        self._names = [name for _, name in pairs]
        self._areas = sorted(areas)

    @classmethod
    def of(cls, guest: Guest) -> Self:
        """Those of the guest now; modules that are loaded later are not among them."""
        # At 0 this file has made-up addresses; at 1 root gets the true ones.
        areas = guest.sh("echo 1 >/proc/sys/kernel/kptr_restrict && cat /proc/vmallocinfo")
        return cls.parse(guest.sh("grep ' [tTwW] ' /proc/kallsyms"), areas)

    @classmethod
    def parse(cls, symbols: str, areas: str = "") -> Self:
        """From lines as in ``/proc/kallsyms`` and ``/proc/vmallocinfo``."""
        words = (line.split() for line in symbols.splitlines())
        bounds = ((int(begin, 16), int(end, 16)) for begin, end in _AREA.findall(areas))
        return cls(((int(word[0], 16), word[2]) for word in words), bounds)

    def at(self, address: int) -> str:
        """The function that begins there or before, in the same area."""
        number = bisect_right(self._addresses, address) - 1
        if number < 0 or self._area(self._addresses[number]) != self._area(address):
            return GONE
        return self._names[number]

    def _area(self, address: int) -> tuple[int, int] | None:
        number = bisect_right(self._areas, (address, address)) - 1
        area = self._areas[number] if number >= 0 else None
        return area if area and address < area[1] else None

    def profile(self, places: Mapping[int, int], frames: int) -> dict[str, float]:
        """Instructions of each function for each frame, the most first; those with less than `LEAST` are left out."""
        sums: Counter[str] = Counter()
        for address, count in places.items():
            sums[self.at(address)] += count
        return {name: count / frames for name, count in sums.most_common() if count >= LEAST * frames}
