# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults set from a test of the guest: they strike the NIC that the guest uses, and end when they are cleared."""

from __future__ import annotations

from labnic.nic import Nic


def test_held_frames_arrive_when_the_stall_is_cleared(nic: Nic) -> None:
    with nic.fault("rx-stall", count=0) as stall:
        before = nic.statistics()["rx_packets"]
        nic.wire.send(bytes.fromhex("ffffffffffff") + bytes(54))
        nic.guest.wait_until(["true"], timeout=5.0, predicate=lambda _: stall.hits > 0, what="the frame to be held")
        assert nic.statistics()["rx_packets"] == before
    assert nic.arp() == nic.mac
    assert nic.statistics()["rx_packets"] >= before + 2


def test_the_guest_reads_what_the_fault_says(nic: Nic) -> None:
    with nic.fault("register", register="LINK", value=0, count=0) as fault:
        assert "Speed: Unknown!" in nic.ethtool().stdout
    assert fault.hits > 0
    assert "Speed: 10000Mb/s" in nic.ethtool().stdout
