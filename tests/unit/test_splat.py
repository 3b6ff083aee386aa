# SPDX-License-Identifier: GPL-2.0-or-later
"""The scanner of kernel logs."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labnic.splat import LogScanner, Scanner, Splat, tail, unexpected

WARNING = """\
[    5.000000] labnic 0000:00:10.0 eth0: link is up
[    6.100000] ------------[ cut here ]------------
[    6.100001] WARNING: CPU: 1 PID: 77 at net/core/dev.c:123 some_function+0x12/0x30
[    6.100002] Modules linked in: labnic(OE)
[    6.100003] Call Trace:
[    6.100004]  <TASK>
[    6.100005]  other_function+0x1/0x2
[    6.100006]  </TASK>
[    6.100007] ---[ end trace 0000000000000000 ]---
[    7.000000] labnic 0000:00:10.0 eth0: link is down
"""


def scan(text: str) -> list[Splat]:
    scanner = Scanner()
    return scanner.feed(text) + scanner.finish()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Kernel panic - not syncing: Fatal exception in interrupt", "panic"),
        ("BUG: KASAN: use-after-free in labnic_poll+0x1/0x2", "kasan"),
        ("BUG: KCSAN: data-race in a / b", "kcsan"),
        ("BUG: scheduling while atomic: swapper/0/0/0x00000100", "atomic sleep"),
        ("BUG: sleeping function called from invalid context at mm/slab.h:494", "atomic sleep"),
        ("WARNING: possible circular locking dependency detected", "lockdep"),
        ("WARNING: inconsistent lock state", "lockdep"),
        ("WARNING: suspicious RCU usage", "lockdep"),
        ("WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected", "lockdep"),
        ("WARNING: Nested lock was not taken", "lockdep"),
        ("WARNING: ip/77 still has locks held!", "lockdep"),
        ("turning off the locking correctness validator.", "lockdep"),
        ("INFO: trying to register non-static key.", "lockdep"),
        ("DMA-API: labnic 0000:00:10.0: device driver failed to check map error", "dma-api"),
        ("WARNING: CPU: 0 PID: 1 at kernel/foo.c:1 foo+0x1/0x2", "warning"),
        ("WARNING: net/core/dev.c:123 at foo+0x1/0x2, CPU#0: ip/77", "warning"),
        ("kernel BUG at net/core/skbuff.c:100!", "bug"),
        ("BUG: kernel NULL pointer dereference, address: 0000000000000010", "bug"),
        ("Oops: 0000 [#1] PREEMPT SMP NOPTI", "oops"),
        ("general protection fault, probably for non-canonical address 0xdead", "oops"),
        ("UBSAN: array-index-out-of-bounds in labnic_rx.c:10:5", "ubsan"),
        ("refcount_t: underflow; use-after-free.", "refcount"),
        ("ref_tracker: eth0@ffff888102345678 has 1/1 users at", "refcount"),
        ("unreferenced object 0xffff888100000000 (size 32):", "kmemleak"),
        ("kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)", "kmemleak"),
        ("kmemleak: Kernel memory leak detector disabled", "kmemleak"),
        ("kmemleak: Memory pool empty, consider increasing CONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE", "kmemleak"),
        ("DMA-API: debugging out of memory - disabling", "dma-api"),
        ("ODEBUG: free active (active state 0) object: ffff888102345678 object type: work_struct", "object"),
        ("Out of memory. ODEBUG disabled", "object"),
        ("BUG skbuff_head_cache (Tainted: G           O      ): Objects remaining", "object"),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", "rcu stall"),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [ip:77]", "soft lockup"),
        ("INFO: task ip:77 blocked for more than 120 seconds.", "hung task"),
        ('irq 24: nobody cared (try booting with the "irqpoll" option)', "irq storm"),
        ("NETDEV WATCHDOG: eth0 (labnic): transmit queue 0 timed out", "tx timeout"),
        ("labnic 0000:00:10.0 eth0: NETDEV WATCHDOG: CPU: 1: transmit queue 0 timed out 5012 ms", "tx timeout"),
        ("unregister_netdevice: waiting for eth0 to become free. Usage count = 2", "device reference"),
        ("page_pool_release_retry() stalled pool shutdown: id 3, 12 inflight 60 sec", "page pool"),
        ("BUG: Bad page state in process ip  pfn:12345", "bug"),
        ("ip: page allocation failure: order:5, mode:0x40dc0", "allocation"),
    ],
)
@pytest.mark.parametrize("stamp", ["", "[   12.345678] ", "[   12.345678][   T77] ", "<4>[   12.345678] "])
def test_each_kind_is_found(line: str, kind: str, stamp: str) -> None:
    (splat,) = scan(f"something before\n{stamp}{line}\n")
    assert (splat.kind, splat.first, splat.line) == (kind, line, 2)


@pytest.mark.parametrize(
    "line",
    [
        "[    0.119496] SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs=2, Nodes=1",
        "[    0.100000] rcu: Preemptible hierarchical RCU implementation.",
        "[    0.100000] PCI: Fatal: No config space access function found",
        "[    1.109243] DMA-API: preallocated 65536 debug entries",
        "[    1.109243] DMA-API: debugging enabled by kernel config",
        "[   17.312151] kmemleak: Kernel memory leak detector initialized (mem pool available: 31428)",
        "[    0.000000] rcu: \tRCU callback double-/use-after-free debug is enabled.",
        "[    3.538728] labnic: loading out-of-tree module taints kernel.",
        "[    3.539390] labnic: module verification failed: signature and/or required key missing - tainting kernel",
        "[    0.270327] tsc: Marking TSC unstable due to TSCs unsynchronized",
        "[    0.447000] Spectre V2 : Mitigation: Retpolines",
        "[    0.600000] Warning: unable to open an initial console.",
        "[    1.000000] NMI watchdog: Perf NMI watchdog permanently disabled",
        "[    5.576543] hrtimer: interrupt took 71712390 ns",
    ],
)
def test_ordinary_lines_are_none(line: str) -> None:
    assert scan(line + "\n") == []


def test_a_report_goes_to_its_end_and_no_further() -> None:
    (splat,) = scan(WARNING)
    assert splat.line == 3
    assert splat.lines[-1].endswith("---[ end trace 0000000000000000 ]---")
    assert len(splat.lines) == 7


def test_two_reports_are_two() -> None:
    assert [splat.line for splat in scan(WARNING + WARNING)] == [3, 13]


def test_a_panic_within_a_report_is_told_as_well() -> None:
    text = WARNING.replace("---[ end trace 0000000000000000 ]---", "Kernel panic - not syncing: panic_on_warn set")
    assert [splat.kind for splat in scan(text)] == ["warning", "panic"]


def test_a_report_that_never_ends_is_cut() -> None:
    (first,) = scan("BUG: something\n" + "x\n" * 500)
    assert len(first.lines) == 60


@given(cuts=st.lists(st.integers(0, len(WARNING)), max_size=8))
def test_pieces_give_the_same_as_the_whole(cuts: list[int]) -> None:
    scanner = Scanner()
    found: list[Splat] = []
    edges = [0, *sorted(cuts), len(WARNING)]
    for begin, end in itertools.pairwise(edges):
        found += scanner.feed(WARNING[begin:end])
    assert found + scanner.finish() == scan(WARNING)


def test_the_log_scanner_goes_on_where_it_ended(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    scanner = LogScanner(log)
    assert scanner.scan() == []
    log.write_text(WARNING)
    assert len(scanner.scan()) == 1
    assert scanner.scan() == []
    with log.open("a") as file:
        file.write("quiet\nBUG: again")
    (splat,) = scanner.scan()
    assert (splat.first, splat.line) == ("BUG: again", 12)


def test_terminal_codes_do_not_hide_a_report(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"\x1b[6n\x1b[1m[    1.000000] BUG: hidden\r\n\xff\xfe\n")
    (splat,) = LogScanner(log).scan()
    assert splat.first == "BUG: hidden"


def test_expected_reports_are_left_out() -> None:
    splats = scan("NETDEV WATCHDOG: eth0 (labnic): transmit queue 0 timed out\n")
    assert unexpected(splats, [r"NETDEV WATCHDOG: eth\d"]) == []
    assert unexpected(splats, ["KASAN"]) == splats


def test_tail_gives_the_last_lines_readably(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\r\n\n" for number in range(1000)))
    assert tail(log, 2) == ["line 998", "line 999"]
    assert tail(tmp_path / "none") == []
