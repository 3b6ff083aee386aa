# SPDX-License-Identifier: GPL-2.0-or-later
"""``labnic cycles``: the driver comes, works and goes a thousand times, and nothing may be left of it.

The cycles go in batches.  After each the kernel's log, its leak detector and its memory are looked at, and how far it
came is written down: a run that was interrupted goes on where it stopped, in a new VM.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from labnic import kmemleak
from labnic.build.cache import Cache, JsonValue, hash_files, write_atomic
from labnic.build.image import DRIVER_IN_GUEST
from labnic.cmdline import DRIVER_NOT_LOADED
from labnic.config import Config
from labnic.flood import Flood
from labnic.guest import Guest
from labnic.lab import Lab, Parts
from labnic.prepare import prepare
from labnic.report import Phases, run_folder
from labnic.responder import Responder
from labnic.splat import unexpected

COUNT, BATCH = 1000, 50
"""Cycles of a whole run, and of one batch."""

CYCLE_LIMIT = 60.0
"""Seconds for one cycle, many times what it takes under emulation on a debug kernel."""

MEASURE_LIMIT = 120.0

GROWTH = 0.5
"""Objects of one slab cache, or pages, per cycle from which on it is growth.  Half of what the smallest leak in every
cycle makes; what comes and goes is far less after the caches have been shrunk."""

CYCLE = """
insmod {module} || exit 11
ip -batch - <<END || exit 12
addr add {address} dev {name}
link set {name} up
neigh replace {peer_ip} lladdr {peer_mac} nud permanent dev {name}
END
ping -q -c 3 -i 0.02 -W 5 {peer_ip} >/run/ping || {{ cat /run/ping; exit 13; }}
ip link set {name} down || exit 14
rmmod labnic || exit 15
[ ! -e /sys/class/net/{name} ] || exit 16
"""

# Shrinking a cache also takes its objects out of KASAN's quarantine, where freed memory otherwise looks used.
MEASURE = """
echo 3 >/proc/sys/vm/drop_caches
for cache in /sys/kernel/slab/*/shrink; do [ -L "${cache%/*}" ] || echo 1 >"$cache" 2>/dev/null; done
cat /proc/slabinfo
grep -E '^(MemTotal|MemFree|Buffers|Cached):' /proc/meminfo
grep -E '^ +count:' /proc/zoneinfo
"""

CHECKERS_OWN = "debug_objects_cache"
"""Slab cache of the checker of timers, work and RCU (lib/debugobjects.c): a pool of free records of changing size, and
one record for each such thing in the whole kernel, which drifts without any cycle."""

# Free pages that a CPU has at hand count as used in meminfo: some hundreds after rings were freed.
_AT_HAND = re.compile(r"^ +count: +(\d+)$")
_SLAB = re.compile(r"^(\S+)\s+(\d+)\s+\d+\s+\d+\s+\d+\s+\d+ : tunables")
_PAGE_KIB = 4


@dataclass
class Journal:
    """How far a run came; kept in a file, so that it can go on."""

    path: Path
    done: int = 0
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def open(cls, folder: Path, key: Mapping[str, JsonValue], again: bool) -> Journal:
        """The journal of these very builds; a damaged one, or ``again``, begins anew."""
        journal = cls(folder / f"{Cache.name(key)}.json")
        if not again:
            try:
                state = json.loads(journal.path.read_text())
                journal.done, journal.seconds = int(state["done"]), float(state["seconds"])
            except (OSError, ValueError, KeyError, TypeError):
                return journal
        return journal

    def save(self) -> None:
        """Write it down; cycles count once their batch has been found good."""
        write_atomic(self.path, json.dumps({"done": self.done, "seconds": round(self.seconds, 1)}).encode())


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    count: int = COUNT
    batch: int = BATCH
    kernel: str | None = None
    again: bool = False


def run(options: Options, config: Config, phases: Phases) -> int:
    """Do the cycles that are still to be done; gives 0 when all were good, 1 when something was left behind."""
    kernel = options.kernel or config.kernel
    parts = prepare(config, kernel, Cache(), phases)
    journal = Journal.open(config.artifacts / "cycles", _key(parts), options.again)
    if journal.done >= options.count:
        phases.note(f"{journal.done} cycles on {kernel} have been done with these builds; --again begins anew")
        return 0
    if journal.done:
        phases.note(f"going on after {journal.done} cycles")
    folder = run_folder(config.artifacts)
    with Lab(config, parts, folder, phases, parameters=(DRIVER_NOT_LOADED,)) as lab:
        lab.wire.answer = Responder(lab.nic.peer_ip, lab.nic.peer_mac)
        _batches(lab, options, journal, phases)
    for problem in journal.problems:
        print(f"labnic: {problem}")
    rate = journal.seconds / max(journal.done, 1)
    print(f"{journal.done} of {options.count} cycles on {kernel}, {rate:.2f} s each; artifacts: {folder}")
    return 1 if journal.problems else 0


def _key(parts: Parts) -> dict[str, JsonValue]:
    plugin = [parts.qemu.plugin] if parts.qemu.plugin else []
    return {
        "kernel": parts.kernel.identity,
        "driver": hash_files([parts.driver.module], parts.driver.module.parent),
        "device": [str(path.parent.name) for path in plugin],
        "qemu": parts.qemu.version,
    }


def _batches(lab: Lab, options: Options, journal: Journal, phases: Phases) -> None:
    first: Memory | None = None
    since = 0
    with _bar(options.count, journal.done) as advance:
        while journal.done < options.count and not journal.problems:
            count = min(options.batch, options.count - journal.done)
            begin = time.monotonic()
            with Flood(lab.nic, rate=200.0):
                for _ in range(count):
                    lab.guest.run(_script(lab), timeout=CYCLE_LIMIT, check=True)
                    advance()
            journal.seconds += time.monotonic() - begin
            memory = Memory.measure(lab.guest)
            journal.problems += _problems(lab)
            if first is None:
                first = memory
            else:
                since += count
                journal.problems += memory.growth(first, since)
            if not journal.problems:
                journal.done += count
                journal.save()
            phases.note(f"{journal.done} cycles: {memory}, {(time.monotonic() - begin) / count:.2f} s a cycle")


def _script(lab: Lab) -> str:
    nic = lab.nic
    return CYCLE.format(
        module=DRIVER_IN_GUEST,
        address=nic.config.address,
        name=nic.config.name,
        peer_ip=nic.peer_ip,
        peer_mac=nic.peer_mac,
    )


def _problems(lab: Lab) -> Iterator[str]:
    for splat in unexpected(lab.splats(), ()):
        yield str(splat)
    if lab.kernel.has("kmemleak"):
        for leak in kmemleak.scan(lab.guest):
            yield "\n  ".join(("kmemleak:", *leak.lines))
    for violation in lab.nic.audit():
        yield f"device audit: {violation.rule}: {violation.detail}"


@dataclass(frozen=True)
class Memory:
    """What the kernel uses with the driver unloaded: objects of each slab cache, and pages."""

    objects: Mapping[str, int]
    pages: int

    @classmethod
    def measure(cls, guest: Guest) -> Memory:
        """Read it after giving back all that can be given back."""
        return cls.parse(guest.sh(MEASURE, timeout=MEASURE_LIMIT))

    @classmethod
    def parse(cls, text: str) -> Memory:
        """From ``/proc/slabinfo``, ``/proc/meminfo`` and the lists of the CPUs in ``/proc/zoneinfo``, in this order."""
        objects, sizes, at_hand = {}, {}, 0
        for line in text.splitlines():
            if match := _SLAB.match(line):
                objects[match[1]] = int(match[2])
            elif match := _AT_HAND.match(line):
                at_hand += int(match[1])
            elif line.endswith(" kB"):
                name, _, size = line.partition(":")
                sizes[name] = int(size.split()[0])
        used = sizes["MemTotal"] - sizes["MemFree"] - sizes["Buffers"] - sizes["Cached"]
        objects.pop(CHECKERS_OWN, None)
        return cls(objects, used // _PAGE_KIB - at_hand)

    def growth(self, before: Memory, cycles: int) -> list[str]:
        """One line for each thing of which there is more, by as much as a leak in every cycle would make it."""
        found = []
        for name, now in self.objects.items():
            more = now - before.objects.get(name, 0)
            if more > GROWTH * cycles + _NOISE:
                found.append(f"slab cache {name} has {more} objects more after {cycles} cycles")
        more = self.pages - before.pages
        if more > GROWTH * cycles + _NOISE:
            found.append(f"{more} pages more are in use after {cycles} cycles")
        return found

    def __str__(self) -> str:
        return f"{sum(self.objects.values())} slab objects, {self.pages} pages in use"


_NOISE = 256
"""Objects or pages that come and go without any cycle: half-filled slabs of each CPU, the log, the agent."""


@contextmanager
def _bar(total: int, done: int) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal."""
    columns = (TextColumn("cycles"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("cycles", total=total, completed=done)
        yield lambda: progress.advance(task)
