# SPDX-License-Identifier: GPL-2.0-or-later
"""Counting by ``count.c``, a plugin of QEMU's TCG: instructions of the guest, and accesses to a NIC's registers."""

from __future__ import annotations

import mmap
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labnic.bench.costs import PCI_FUNCTION
from labnic.build import tool
from labnic.build.cache import Cache
from labnic.build.program import build_program
from labnic.build.qemu import QemuBuild
from labnic.guest import Guest

SOURCE = Path(__file__).with_name("count.c")
OPTIONS = ("-O2", "-std=gnu11", "-shared", "-fPIC", "-Wno-unused-parameter")

# As in count.c.
CPUS, RANGES, PLACES = 8, 64, 1 << 19
_CPUS = struct.Struct(f"<{CPUS}Q{CPUS}Q")
_RANGE = struct.Struct("<4Q")
_PLACES = _CPUS.size + RANGES * _RANGE.size
SIZE = _PLACES + PLACES * 16

_IORESOURCE_MEM = 0x200  # include/linux/ioport.h

Range = tuple[int, int]
"""First physical address and size in bytes."""


@dataclass(frozen=True)
class Counts:
    """Instructions of the kernel on all CPUs, and accesses to one NIC's registers, since the machine's start.

    ``places`` has the instructions by the address of their code, when that was asked for.  ``dma`` are operations that
    the NIC itself has counted.
    """

    instructions: int = 0
    accesses: int = 0
    places: Mapping[int, int] = field(default_factory=dict)
    dma: int = 0

    def __sub__(self, before: Counts) -> Counts:
        places = {at: count - before.places.get(at, 0) for at, count in self.places.items()}
        dma = self.dma - before.dma
        return Counts(self.instructions - before.instructions, self.accesses - before.accesses, places, dma)


def build_counter(qemu: QemuBuild, cache: Cache) -> Path:
    """The plugin for a QEMU that was built from source; raises `BuildError` with what the compiler said."""
    header = qemu.source / "include" / "qemu" / "qemu-plugin.h"
    glib = tool.output(["pkg-config", "--cflags", "glib-2.0"], what="finding glib").split()
    options: list[str | Path] = [*OPTIONS, "-isystem", header.parent, *glib]
    return build_program(SOURCE, cache, options, name="count.so", headers=[header])


class Counter:
    """The file that the plugin counts in."""

    def __init__(self, plugin: Path, file: Path) -> None:
        self._plugin = plugin
        self._path = file
        self._watched: dict[str, range] = {}
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb+") as handle:
            handle.truncate(SIZE)
            self._map = mmap.mmap(handle.fileno(), SIZE)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()

    @property
    def extra(self) -> tuple[str, ...]:
        """Words for QEMU's command line."""
        return ("-plugin", f"{self._plugin},counts={self._path}")

    def watch(self, name: str, ranges: Sequence[Range]) -> None:
        """Count accesses to these addresses from now on."""
        first = max((each.stop for each in self._watched.values()), default=0)
        if first + len(ranges) > RANGES:
            raise ValueError(f"more than {RANGES} ranges of addresses")
        for number, (base, size) in enumerate(ranges, first):
            # The size last: it switches the range on.
            struct.pack_into("<Q", self._map, _CPUS.size + number * _RANGE.size, base)
            struct.pack_into("<Q", self._map, _CPUS.size + number * _RANGE.size + 8, size)
        self._watched[name] = range(first, first + len(ranges))

    def read(self, name: str, *, places: bool = False) -> Counts:
        """The counts now; of nobody's registers for a name that is not watched."""
        kernel = _CPUS.unpack_from(self._map)[CPUS:]
        accesses = 0
        for number in self._watched.get(name, ()):
            _, _, reads, writes = _RANGE.unpack_from(self._map, _CPUS.size + number * _RANGE.size)
            accesses += reads + writes
        return Counts(sum(kernel), accesses, self._places() if places else {})

    def _places(self) -> dict[int, int]:
        words = array("Q", self._map[_PLACES:])
        return {at: count for at, count in zip(words[::2], words[1::2], strict=True) if count}


def ranges_of(guest: Guest, interface: str) -> list[Range]:
    """Where the registers of the interface's PCI function are."""
    return parse_resources(guest.sh(PCI_FUNCTION.format(name=interface) + "cat $pci/resource"))


def parse_resources(text: str) -> list[Range]:
    """The memory among the resources of a PCI function, as sysfs lists them: begin, end and flags in each line."""
    found = []
    # The first six are the function's own; what follows is its ROM, a bridge's windows, those of virtual functions.
    for line in text.splitlines()[:6]:
        begin, end, flags = (int(word, 16) for word in line.split())
        if flags & _IORESOURCE_MEM and end > begin:
            found.append((begin, end - begin + 1))
    return found
