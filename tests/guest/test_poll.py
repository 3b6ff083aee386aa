# SPDX-License-Identifier: GPL-2.0-or-later
"""How the driver polls: its budget, and its end."""

from __future__ import annotations

import pytest

from labnic.guest import Guest
from labnic.nic import Nic
from labnic.observer import Observer
from labnic.qmp import Qmp

from . import frames
from .helpers import deltas, eventually, settled, works

BUDGET = 64
"""Frames that one poll may take (NAPI_POLL_WEIGHT in include/linux/netdevice.h)."""
LAPS = 20
"""Bursts in which the device runs dry at least once."""


def burst(nic: Nic, qmp: Qmp, count: int) -> None:
    """Frames that wait in the wire while the machine stands, and so are all there when it goes on."""
    qmp.execute("stop")
    try:
        nic.wire.send(*(frames.to_guest(nic, 60, seed=n) for n in range(count)))
    finally:
        qmp.cont()


def test_more_frames_at_once_than_a_poll_may_take(nic: Nic, qmp: Qmp) -> None:
    count = 2 * BUDGET + 10
    before = settled(nic.statistics)
    for lap in range(3):
        burst(nic, qmp, count)
        wanted = (lap + 1) * count
        eventually(lambda: deltas(before, nic.statistics()).get("rx_packets"), wanted, what="frames received")
    works(nic)


def test_device_without_buffers_is_told_of_new_ones(nic: Nic, qmp: Qmp) -> None:
    """More frames than the ring has buffers come at once, and the device must be told when there are some again.

    The driver may be fast enough to keep it from running dry: then once more.
    """
    nic.ethtool("-G", "rx", "64")
    count = 6 * 64
    before, doorbells = settled(nic.statistics), nic.ethtool_stats()["rx_doorbells"]
    for lap in range(LAPS):
        burst(nic, qmp, count)
        wanted = (lap + 1) * count
        eventually(lambda: deltas(before, nic.statistics()).get("rx_packets"), wanted, what="frames received")
        if nic.ethtool_stats()["rx_doorbells"] > doorbells:
            break
    else:
        pytest.fail(f"the device never ran dry in {LAPS} bursts")
    works(nic)


def storm(nic: Nic) -> None:
    """Begin a storm, on a wire that sends everything back, and wait until it goes."""
    wanted = nic.statistics()["rx_packets"] + 4 * BUDGET
    nic.wire.send(*(frames.to_guest(nic, 60, seed=n) for n in range(BUDGET)))
    eventually(lambda: nic.statistics()["rx_packets"] > wanted, True, what="a storm goes")


def test_stop_ends_polls_that_never_rest(guest: Guest, nic: Nic) -> None:
    """Frames go round between guest and wire, so that a poll runs, or is about to, whenever the interface goes down."""
    with Observer(guest) as observer, nic.reflect():
        observer.attach_dev(nic.name)
        nic.wire.answer = lambda frame: frame
        try:
            for _ in range(8):
                storm(nic)
                nic.ip_link("down")
                nic.ip_link("up")
                nic.wait_carrier(True)
        finally:
            nic.wire.answer = None
        violations = observer.violations()
    assert not violations, "\n".join(map(str, violations))
    nic.configure()
    works(nic)
