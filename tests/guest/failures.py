# SPDX-License-Identifier: GPL-2.0-or-later
"""Allocations of the guest's kernel that fail on demand (Documentation/fault-injection of the kernel).

A kernel that is built for it counts down the allocations of one task and lets the last one fail. That is how every
site is reached: the first, the second, and so on, until an operation ends before its number is up.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from labnic.guest import Guest

SITES = ("failslab", "fail_page_alloc")
"""The two kinds of allocation: by the byte, and by the page."""

MODULES = (0xFFFFFFFFA0000000, 0xFFFFFFFFFF000000)
"""Where the code of modules is (Documentation/arch/x86/x86_64/mm.rst): a stack with such an address is the driver's."""

DEEP, NEAR = 32, 10
"""Calls between the code and the allocation, at most: all that the kernel looks at, and those of the code's own needs.
A registration of an interface has some hundred allocations that only the kernel's other parts know of."""

EVERYWHERE = (0, 0xFFFFFFFFFFFFFFFF)

ALLOWANCE = 1000000
"""Failures that a site may have; what is left of it tells how many there were."""

MOST = 2000
"""Allocations of one operation, at most: a debug kernel's registration of an interface has some hundred."""

_SETUP = """\
cd /sys/kernel/debug
for site in failslab fail_page_alloc; do
  echo 0 >$site/probability
  echo 1 >$site/interval
  echo 0 >$site/verbose
  echo N >$site/task-filter
  echo {patient} >$site/ignore-gfp-wait
  echo {start:#x} >$site/require-start
  echo {end:#x} >$site/require-end
  echo {checker[0]} >$site/reject-start
  echo {checker[1]} >$site/reject-end
  echo {depth} >$site/stacktrace-depth
  echo {allowance} >$site/times
done
echo 0 >fail_page_alloc/min-order
echo N >fail_page_alloc/ignore-gfp-highmem
for site in {sites}; do echo {probability} >$site/probability; done
"""

_RESET = """\
cd /sys/kernel/debug
for site in failslab fail_page_alloc; do
  echo 0 >$site/probability
  echo Y >$site/ignore-gfp-wait
  echo 0 >$site/require-start
  echo 0xffffffffffffffff >$site/require-end
  echo 0 >$site/reject-start
  echo 0 >$site/reject-end
  echo 32 >$site/stacktrace-depth
done
"""

# All of a series in one shell: to start a program takes half a second on such a kernel. bash says why a write failed.
_SERIES = """\
cd /sys/kernel/debug
operation() {{
  {operation}
}}
for ((number = {first}; number <= {last}; number += {step})); do
  for site in failslab fail_page_alloc; do echo {allowance} >$site/times; done
  operation 2>/tmp/said
  status=$?
  read -r bytes <failslab/times
  read -r pages <fail_page_alloc/times
  read -r said </tmp/said
  injected=$((2 * {allowance} - bytes - pages))
  if {holds}; then state=1; else state=0; fi
  echo "$number $status $injected $state $said"
  if [ $injected = 0 ]; then break; fi
  if [ $state = 1 ]; then {undo}; fi
done
"""


@dataclass(frozen=True)
class Attempt:
    """One operation of which allocation ``number`` failed, unless there were fewer (then ``injected`` is False).

    ``holds`` is whether the guest was then as after a success; ``said`` the first line of the operation's complaint.
    """

    number: int
    ok: bool
    injected: bool
    holds: bool
    said: str

    def __str__(self) -> str:
        return f"allocation {self.number}: {'success' if self.ok else self.said or 'failure without a word'}"


@lru_cache(maxsize=1)
def _dma_checker(guest: Guest) -> tuple[str, str]:
    """Where the code of the kernel's checker of DMA begins and ends.

    It allocates for every page that is mapped, and goes off for good where that fails.
    """
    # In the order of addresses: the first of its functions, and what comes after the last.
    script = "/ [tT] debug_dma_/ { if (!first) first = $1; inside = 1; next } inside { end = $1; inside = 0 }"
    first, end = guest.sh(f"awk '{script} END {{ print first, end }}' /proc/kallsyms", timeout=60.0).split()
    return f"0x{first}", f"0x{end}"


def _attempt(line: str) -> Attempt:
    number, status, injected, state, said = line.split(" ", 4)
    return Attempt(int(number), status == "0", injected != "0", state == "1", said)


def command(*argv: str) -> str:
    """The operation of a program: the task that is told to fail becomes it."""
    return f"(echo $number >/proc/self/fail-nth && exec {shlex.join(argv)})"


def write(path: str, value: str) -> str:
    """The operation of a write to an attribute: its own allocations count and no others, as the files are open."""
    return (
        f"exec 3>{shlex.quote(path)} 4>/proc/self/fail-nth; echo $number >&4; "
        f"echo {shlex.quote(value)} >&3; local status=$?; echo 0 >&4; return $status"
    )


class Failures:
    """Failures that are set up; made by `failing`."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def series(
        self, operation: str, *, holds: str, undo: str, first: int = 1, step: int = 1, last: int = MOST
    ) -> list[Attempt]:
        """Let allocation ``first`` fail, then ``step`` further, up to ``last`` or until the operation ends before it.

        ``holds`` is a command that says whether the operation took effect, ``undo`` takes that back before the next.
        """
        script = _SERIES.format(
            operation=operation, holds=holds, undo=undo, first=first, step=step, last=last, allowance=ALLOWANCE
        )
        lines = self._guest.run(["bash", "-c", script], timeout=600.0, check=True).lines
        return [_attempt(line) for line in lines]

    def count(self) -> int:
        """How many allocations have failed since the set-up."""
        left = self._guest.sh("cd /sys/kernel/debug; cat " + " ".join(f"{site}/times" for site in SITES))
        return sum(ALLOWANCE - int(text) for text in left.split())


@contextmanager
def failing(
    guest: Guest,
    code: tuple[int, int],
    *,
    depth: int = DEEP,
    sites: Sequence[str] = (),
    probability: int = 0,
    patient: bool = True,
) -> Iterator[Failures]:
    """Failures of allocations below code at these addresses: of chosen ones, or at ``sites`` with a ``probability``.

    The code is at most ``depth`` calls above. The probability is in percent. ``patient`` lets those fail, too, that may
    wait for memory; without it only those in interrupts and under locks do.
    """
    wait = "N" if patient else "Y"
    start, end = code
    script = _SETUP.format(
        patient=wait,
        start=start,
        end=end,
        depth=depth,
        checker=_dma_checker(guest),
        allowance=ALLOWANCE,
        sites=" ".join(sites),
        probability=probability,
    )
    guest.sh(script)
    try:
        yield Failures(guest)
    finally:
        guest.sh(_RESET)


def judge(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts in which an allocation failed.

    Raises AssertionError when there were none, when an operation failed by itself, or took effect and yet failed, or
    the other way round, and when the series ended before the operation did.
    """
    assert attempts, "nothing was tried"
    *injected, last = attempts
    assert not last.injected, f"still another allocation after {last}"
    assert last.ok, f"it fails by itself: {last}"
    assert injected, "no allocation was reached"
    assert [str(tried) for tried in attempts if tried.ok != tried.holds] == [], "success and effect differ"
    return injected
