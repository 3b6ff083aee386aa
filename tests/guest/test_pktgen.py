# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's packet generator as tests drive it: a run that fails is in nobody's way."""

from __future__ import annotations

import pytest

from labnic.command import GuestCommandError
from labnic.guest import Guest
from labnic.nic import Nic
from labnic.pktgen import Pktgen


@pytest.fixture
def pktgen(guest: Guest, nic: Nic) -> Pktgen:
    return Pktgen(guest, nic.name, nic.peer_mac, nic.peer_ip)


def test_a_setting_that_it_does_not_take_leaves_no_generator(guest: Guest, pktgen: Pktgen) -> None:
    with pytest.raises(GuestCommandError):
        pktgen.send(("count 1", "no_such_setting 1"))
    assert not guest.run(["test", "-e", "/proc/net/pktgen"]).ok


def test_what_another_run_left_is_forgotten(pktgen: Pktgen) -> None:
    pktgen.prepare(("count 7",), ("count 7",))
    assert pktgen.send(("count 3",)).frames == 3
