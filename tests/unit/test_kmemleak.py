# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading what the kernel's leak detector reports."""

from __future__ import annotations

from labnic.kmemleak import parse

REPORT = """\
unreferenced object 0xffff888103a4c000 (size 1024):
  comm "insmod", pid 211, jiffies 4294901338 (age 14.020s)
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace:
    [<ffffffff8134b0f4>] __kmalloc+0x44/0x120
    [<ffffffffc0210a51>] labnic_setup_queues+0x31/0x1a0 [labnic]
unreferenced object 0xffff888103a4d000 (size 64):
  comm "ip", pid 212, jiffies 4294901400 (age 13.700s)
  backtrace (crc 9ad1a4b):
    kmalloc_trace+0x2a/0xe0
    labnic_open+0x10/0x20 [labnic]
"""


def test_each_object_is_a_leak_with_its_stack() -> None:
    first, second = parse(REPORT.splitlines())
    assert first.first == "1024 bytes, allocated by __kmalloc < labnic_setup_queues"
    assert second.lines[0].endswith("(size 64):")
    assert len(first.lines) == 7


def test_nothing_reported_is_no_leak() -> None:
    assert list(parse([])) == []
