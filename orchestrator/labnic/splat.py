# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds in a kernel log what a kernel developer would not let pass: warnings, lockdep reports, stalls, panics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CONTEXT_LIMIT = 60
"""Lines of a report that are kept; a register dump with its call trace fits."""

# One pattern for each kind, tried in this order on a line without its time stamp. The words are those of the
# kernel's printk calls in 6.1 to 6.12.
KINDS: Sequence[tuple[str, re.Pattern[str]]] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("panic", r"Kernel panic - not syncing"),
        ("kasan", r"BUG: KASAN:"),
        ("kcsan", r"BUG: KCSAN:"),
        ("kmsan", r"BUG: KMSAN:"),
        ("kfence", r"BUG: KFENCE:"),
        ("soft lockup", r"watchdog: BUG: (?:soft|hard) lockup|NMI watchdog: Watchdog detected hard LOCKUP"),
        ("atomic sleep", r"BUG: (?:scheduling while atomic|sleeping function called from invalid context)"),
        ("workqueue lockup", r"BUG: workqueue (?:lockup|leaked)"),
        ("lockdep", r"WARNING: (?:possible|suspicious|inconsistent|bad|held|lock held|possibly)\b"),
        ("lockdep", r"WARNING: (?:\S+-safe -> \S+-unsafe|Nested lock|nested lock|chain_key|.+ still has locks held)"),
        ("lockdep", r"turning off the locking correctness validator"),
        ("lockdep", r"BUG: (?:MAX_LOCK|MAX_STACK|held lock|Invalid wait context)|\[ BUG: Invalid wait context"),
        ("lockdep", r"DEBUG_LOCKS_WARN_ON|INFO: trying to register non-static key"),
        ("dma-api", r"DMA-API: "),
        ("warning", r"WARNING: CPU: \d+|WARNING: at |WARNING: \S+:\d+ at "),
        ("bug", r"kernel BUG at |\bBUG: |BUG\(\)|BUG at "),
        ("oops", r"\bOops: |general protection fault|invalid opcode: 0|divide error: 0|double fault: |stack segment: "),
        ("oops", r"Unable to handle kernel |unable to handle page fault"),
        ("ubsan", r"UBSAN: "),
        ("refcount", r"refcount_t: |ref_tracker: "),
        ("kmemleak", r"unreferenced object 0x|kmemleak: \d+ new suspected memory leaks"),
        ("kmemleak", r"kmemleak: (?:Kernel memory leak detector disabled|Memory pool empty)"),
        ("rcu stall", r"rcu: INFO: |rcu_\w+ (?:self-)?detected stall|INFO: rcu_\w+ detected"),
        ("hung task", r"INFO: task .+ blocked for more than \d+ seconds"),
        ("irq storm", r"irq \d+: nobody cared"),
        ("tx timeout", r"NETDEV WATCHDOG: |transmit queue \d+ timed out"),
        ("device reference", r"unregister_netdevice: waiting for .+ to become free"),
        ("page pool", r"page_pool_release_retry\(\) stalled pool|page_pool_ref_holder|page_pool: leaking"),
        ("page state", r"BUG: Bad (?:page|rss-counter)|Bad page (?:state|map)|list_(?:add|del) corruption"),
        ("object", r"ODEBUG: |Out of memory\. ODEBUG disabled"),
        ("object", r"BUG \S+ \((?:Not tainted|Tainted)|Poison overwritten|Redzone overwritten"),
        ("allocation", r"page allocation failure: order:"),
        ("module taint", r"\w+: disagrees about version of symbol|\w+: Unknown symbol "),
        ("napi", r"netif_napi_add_weight\(\) called with weight|netdevice: .* NAPI|Budget exhausted after napi"),
    )
)

# Lines that look like the above and mean nothing here, each with its reason.
HARMLESS: Sequence[re.Pattern[str]] = tuple(
    re.compile(pattern)
    for pattern in (
        r"PCI: Fatal: No config space access function found",  # firmware without PCI BIOS; PCI works through ECAM
        # The checker of DMA tells that it is there, and that it has taken more memory.
        r"DMA-API: (?:preallocated \d+ debug entries|debugging enabled by|dma_debug_entry pool grown to)",
    )
)

_STAMP = re.compile(r"^(?:<\d+>)?(?:\[ *\d+\.\d+\](?:\[[ TC]*\d+\])? ?)?")
_END = re.compile(r"---\[ end |^={10,}$|^-{60,}$")
# Some reports end with the call trace, others go on with registers: only what follows the trace tells.
_TRACE_END = re.compile(r"</TASK>$|</IRQ>$")
_AFTER_TRACE = re.compile(
    r"\s*(?:<|RIP:|Code:|RSP:|[RCDEF][A-Z0-9]{1,2}:|PKRU:|Modules linked in|irq event stamp|(?:hard|soft)irqs last|"
    r"---\[ end |Call Trace|ORIG_RAX|Kernel panic)"
)
_ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()][A-Z0-9]|\r")


@dataclass(frozen=True)
class Splat:
    """One report in a kernel log; ``line`` counts from 1 in that log, 0 is for one that came another way."""

    kind: str
    first: str
    line: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} at line {self.line}: {self.first}" if self.line else f"{self.kind}: {self.first}"


@dataclass
class _Open:
    kind: str
    first: str
    line: int
    lines: list[str] = field(default_factory=list)
    trace_over: bool = False


class Scanner:
    """Scans a growing log piece by piece: a line, or a report, may be split between two pieces."""

    def __init__(self) -> None:
        self._partial = ""
        self._line = 0
        self._open: _Open | None = None

    def feed(self, text: str) -> list[Splat]:
        """The reports that this piece of the log completes."""
        self._partial += text
        *whole, self._partial = self._partial.split("\n")
        found: list[Splat] = []
        for line in whole:
            self._line += 1
            found += self._take(line, self._line)
        return found

    def finish(self) -> list[Splat]:
        """Also the report that has begun but whose end has not been seen, and a last line without its newline."""
        found: list[Splat] = []
        if self._partial and (self._open or self._kind(clean(self._partial))):
            found = self._take(self._partial, self._line + 1)
            self._partial = ""
        return found + self._close()

    def _take(self, raw: str, number: int) -> list[Splat]:
        line = clean(raw)
        if self._open is None:
            kind = self._kind(line)
            if kind:
                self._open = _Open(kind, strip_stamp(line), number, [line])
            return []
        # A panic is the last word even when it comes within another report.
        if self._open.kind != "panic" and "Kernel panic - not syncing" in line:
            closed = self._close()
            self._open = _Open("panic", strip_stamp(line), number, [line])
            return closed
        text = strip_stamp(line)
        if self._open.trace_over and not _AFTER_TRACE.match(text):
            return self._close() + self._take(raw, number)
        self._open.trace_over = bool(_TRACE_END.search(text))
        self._open.lines.append(line)
        # An "=====" line opens lockdep's and KASAN's reports as well; near the start it is no end.
        if len(self._open.lines) >= CONTEXT_LIMIT or (len(self._open.lines) > 3 and _END.search(text)):
            return self._close()
        return []

    @staticmethod
    def _kind(line: str) -> str | None:
        text = strip_stamp(line)
        if any(pattern.search(text) for pattern in HARMLESS):
            return None
        return next((kind for kind, pattern in KINDS if pattern.search(text)), None)

    def _close(self) -> list[Splat]:
        closed, self._open = self._open, None
        return [Splat(closed.kind, closed.first, closed.line, tuple(closed.lines))] if closed else []


class LogScanner:
    """Scans a log file from where the last scan ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self._scanner = Scanner()

    def scan(self) -> list[Splat]:
        """New reports, also those not finished yet; an empty list when the file does not exist (yet)."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self.offset += len(data)
        return self._scanner.feed(data.decode("utf-8", "replace")) + self._scanner.finish()


def clean(line: str) -> str:
    """A console line without carriage returns and terminal codes."""
    return _ANSI.sub("", line)


def strip_stamp(line: str) -> str:
    """A log line without the kernel's time stamp."""
    return _STAMP.sub("", line)


def tail(path: Path, count: int = 20) -> list[str]:
    """The last lines of a log, readable in a terminal; empty when there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 200 * count))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return [line for line in (clean(line) for line in text.split("\n")) if line.strip()][-count:]


def unexpected(splats: Iterable[Splat], patterns: Sequence[str]) -> list[Splat]:
    """The reports of which no line matches one of the patterns (regular expressions)."""
    allowed = [re.compile(pattern) for pattern in patterns]
    return [splat for splat in splats if not any(p.search(line) for p in allowed for line in splat.lines)]
