# SPDX-License-Identifier: GPL-2.0-or-later
"""What a driver in Python reaches a labnic with: its registers by their names in the map, and memory for its rings."""

from __future__ import annotations

from dataclasses import dataclass

from labnic.errors import LabnicError
from labnic.hwmap import HwMap
from labnic.qtest import Qtest

COUNT_MASK = 0xFFFF_FFFF


class RingError(LabnicError):
    """The test asked for what the ring has no room for."""

    exit_code = 8


class GuestMemory:
    """Hands out pieces of the machine's RAM from ``base`` on; they are given back all at once."""

    def __init__(self, qtest: Qtest | None, base: int, size: int) -> None:
        self._qtest = qtest
        self._next = self._marked = base
        self._end = base + size

    def take(self, size: int, align: int = 64, *, clear: bool = True) -> int:
        """The address of ``size`` bytes, zeroed if ``clear``; raises :class:`RingError` when RAM is used up."""
        address = -(-self._next // align) * align
        if address + size > self._end:
            raise RingError(f"no {size:#x} bytes of guest memory are left")
        self._next = address + size
        if clear and self._qtest:
            self._qtest.fill(address, size)
        return address

    def mark(self) -> None:
        """What has been taken so far stays taken at :meth:`rewind`."""
        self._marked = self._next

    def rewind(self) -> None:
        """Give back all that was taken since the mark; the device must not use it any more."""
        self._next = self._marked


class Registers:
    """The registers in BAR ``REGS``, by their names in the map; ``base`` is the guest-physical address of the BAR."""

    def __init__(self, qtest: Qtest, base: int, hw: HwMap) -> None:
        self.qtest = qtest
        self.base = base
        self.hw = hw

    def address(self, name: str, *indices: int) -> int:
        """Where a register is."""
        return self.base + self.hw.reg(name, *indices).offset

    def read(self, name: str, *indices: int) -> int:
        """The register's value; one of 64 bits is read in two halves."""
        place = self.hw.reg(name, *indices)
        words = self.qtest.loads(range(self.base + place.offset, self.base + place.offset + place.size, 4))
        return sum(word << 32 * number for number, word in enumerate(words))

    def write(self, name: str, value: int, *indices: int) -> None:
        """Write a register; one of 64 bits low half first."""
        place = self.hw.reg(name, *indices)
        for number in range(place.size // 4):
            self.qtest.writel(self.base + place.offset + 4 * number, value >> 32 * number & COUNT_MASK)

    def put(self, name: str, *indices: int, **fields: int) -> None:
        """Write a register with these fields and all other bits zero."""
        self.write(name, self.hw.reg(name, *indices).value(**fields), *indices)

    def field(self, name: str, field: str, *indices: int) -> int:
        """One field of a register."""
        return self.hw.reg(name, *indices).field(field).get(self.read(name, *indices))

    def counter(self, name: str) -> int:
        """One event counter."""
        return self.read(name)

    def counters(self) -> dict[str, int]:
        """All event counters. Reading them moves ``mmio_reads``."""
        places = [place for place in self.hw.registers() if place.counter]
        words = self.qtest.loads(self.base + place.offset + half for place in places for half in (0, 4))
        return {
            place.register.name: words[2 * number] | words[2 * number + 1] << 32 for number, place in enumerate(places)
        }


@dataclass(frozen=True)
class Access:
    """Everything that a queue needs of the machine and of the device that it belongs to."""

    qtest: Qtest
    hw: HwMap
    registers: Registers
    memory: GuestMemory
