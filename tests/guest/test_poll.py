# SPDX-License-Identifier: GPL-2.0-or-later
"""How the driver polls: its budget, and that it looks again."""

from __future__ import annotations

from labnic.nic import Nic
from labnic.qmp import Qmp

from . import frames
from .helpers import deltas, eventually, settled, works

BUDGET = 64
"""Frames that one poll may take (NAPI_POLL_WEIGHT in include/linux/netdevice.h)."""


def test_more_frames_at_once_than_a_poll_may_take(nic: Nic, qmp: Qmp) -> None:
    """They wait in the wire while the machine stands, and so the first poll finds them all."""
    count = 2 * BUDGET + 10
    before = settled(nic.statistics)
    for lap in range(3):
        qmp.execute("stop")
        try:
            nic.wire.send(*(frames.to_guest(nic, 60, seed=n) for n in range(count)))
        finally:
            qmp.cont()
        wanted = (lap + 1) * count
        eventually(lambda: deltas(before, nic.statistics()).get("rx_packets"), wanted, what="frames received")
    works(nic)
