# SPDX-License-Identifier: GPL-2.0-or-later
"""What frames cost, apart from time: interrupts of one NIC, and CPU time of QEMU's threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labnic.bench.sample import ALL_CPU, INTERRUPTS, MAIN_CPU
from labnic.guest import Guest


@dataclass(frozen=True)
class Costs:
    """Counts since the machine's start: interrupts, and nanoseconds on a CPU of QEMU's main thread and of them all."""

    interrupts: int
    main_ns: int
    all_ns: int

    def since(self, before: Costs, frames: int) -> dict[str, float]:
        """Per frame, by the name of the quantity."""
        return {
            INTERRUPTS.name: (self.interrupts - before.interrupts) / frames,
            MAIN_CPU.name: (self.main_ns - before.main_ns) / frames / 1e3,
            ALL_CPU.name: (self.all_ns - before.all_ns) / frames / 1e3,
        }


PCI_FUNCTION = """
pci=$(readlink -f /sys/class/net/{name}/device)
[ -e $pci/irq ] || pci=${{pci%/*}}  # virtio has a device of its own on top
"""
"""For a script: the folder in sysfs of the PCI function of an interface."""


def irqs_of(guest: Guest, interface: str) -> frozenset[int]:
    """Numbers of the interrupts of the interface's PCI function: its MSIs, or its line when it has none."""
    script = PCI_FUNCTION.format(name=interface) + "ls $pci/msi_irqs 2>/dev/null || cat $pci/irq"
    return frozenset(map(int, guest.sh(script).split()))


def interrupts(table: str, irqs: frozenset[int]) -> int:
    """How often these interrupts came, on all CPUs, by ``/proc/interrupts``."""
    total = 0
    cpus = len(table.splitlines()[0].split())
    for line in table.splitlines()[1:]:
        number, _, rest = line.partition(":")
        if number.strip().isdigit() and int(number) in irqs:
            total += sum(map(int, rest.split()[:cpus]))
    return total


def cpu_times(pid: int) -> Mapping[int, int]:
    """Nanoseconds that each thread of a process has been on a CPU, by its id.

    From schedstat (Documentation/scheduler/sched-stats.rst): the clock ticks of ``stat`` are too coarse.
    """
    times = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            times[int(thread.name)] = int((thread / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # it has just ended
            continue
    return times


def measure(guest: Guest, pid: int, irqs: frozenset[int], *, last: bool = False) -> Costs:
    """The costs now.  Asking the guest costs, too: the CPU time is read after it at the begin, before it at the end."""
    times = cpu_times(pid) if last else {}
    table = guest.read_text("/proc/interrupts")
    times = times or cpu_times(pid)
    return Costs(interrupts(table, irqs), times[pid], sum(times.values()))
