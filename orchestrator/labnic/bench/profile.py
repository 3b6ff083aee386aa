# SPDX-License-Identifier: GPL-2.0-or-later
"""Where in the guest's kernel the instructions of a frame are: places in its code, as functions."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

from labnic.guest import Guest

LEAST = 1.0
"""Instructions for each frame below which a function is not told of."""


class Symbols:
    """The functions of a running kernel and its modules, by address."""

    def __init__(self, found: Iterable[tuple[int, str]]) -> None:
        pairs = sorted(found)
        self._addresses = [address for address, _ in pairs]
        self._names = [name for _, name in pairs]

    @classmethod
    def of(cls, guest: Guest) -> Self:
        """Those of the guest now; modules that are loaded later are not among them."""
        return cls.parse(guest.sh("grep ' [tTwW] ' /proc/kallsyms"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From lines as in ``/proc/kallsyms``."""
        words = (line.split() for line in text.splitlines())
        return cls((int(word[0], 16), word[2]) for word in words)

    def at(self, address: int) -> str:
        """The function that begins there or before; ``?`` when none does."""
        number = bisect_right(self._addresses, address) - 1
        return self._names[number] if number >= 0 else "?"

    def profile(self, places: Mapping[int, int], frames: int) -> dict[str, float]:
        """Instructions of each function for each frame, the most first; those with less than `LEAST` are left out."""
        sums: Counter[str] = Counter()
        for address, count in places.items():
            sums[self.at(address)] += count
        return {name: count / frames for name, count in sums.most_common() if count >= LEAST * frames}
