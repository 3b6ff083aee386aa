# SPDX-License-Identifier: GPL-2.0-or-later
"""The link: what set_link does to the register, the cause, and frames in both directions."""

from __future__ import annotations

import pytest

from labnic.pci import PciAddress, PciDevice

from .bench import HW, WITH_PEER, Bench, MakeBench
from .frames import frame, numbered

LINK = HW.reg("LINK")
MISC = HW.constants.VECTOR_MISC


def test_set_link_shows_in_the_register_and_in_the_cause(bench: Bench) -> None:
    registers = bench.nic.registers
    for up in (False, True, False, True):
        bench.qmp.set_link("nic0", up)
        assert registers.read("LINK") == (LINK.value(UP=1, FULL_DUPLEX=1, SPEED=10000) if up else 0)
        assert registers.field("MISC_CAUSE", "LINK") == 1
        registers.put("MISC_CAUSE", LINK=1)
    assert registers.counter("link_changes") == 4


def test_setting_the_link_to_what_it_is_changes_nothing(bench: Bench) -> None:
    bench.nic.registers.put("MISC_ENABLE", LINK=1)
    bench.qmp.set_link("nic0", True)
    assert bench.nic.registers.read("MISC_CAUSE") == 0
    assert bench.nic.registers.counter("link_changes") == 0
    assert not bench.nic.interrupted(MISC)


def test_the_backend_can_lose_the_carrier_too(bench: Bench) -> None:
    bench.qmp.set_link("w0", False)
    assert bench.nic.registers.field("LINK", "UP") == 0
    bench.qmp.set_link("w0", True)
    assert bench.nic.registers.field("LINK", "UP") == 1


@pytest.mark.parametrize("speed", [1, 10, 1000, 2500, 10000, 400000])
def test_the_speed_property_shows_in_the_register(make_bench: MakeBench, speed: int) -> None:
    assert make_bench(speed=speed).nic.registers.field("LINK", "SPEED") == speed


def test_frames_sent_without_a_carrier_are_consumed_and_counted(bench: Bench) -> None:
    (pair,) = bench.nic.start(0)
    bench.qmp.set_link("nic0", False)
    for one in numbered(10):
        pair.tx.send(one)
    pair.tx.wait_consumed()
    counters = bench.nic.registers.counters()
    assert (counters["tx_no_link"], counters["tx_frames"], counters["tx_bytes"]) == (10, 0, 0)
    bench.qmp.set_link("nic0", True)
    pair.tx.send(frame())
    assert bench.cable.receive() == frame()


def test_nothing_is_received_without_a_carrier(bench: Bench) -> None:
    """A frame sent while the link was down is gone; the first one after it came up is the first to arrive."""
    (pair,) = bench.nic.start(0)
    bench.qmp.set_link("nic0", False)
    bench.cable.send(*numbered(5))
    bench.cable.wait_taken()
    bench.qmp.set_link("nic0", True)
    bench.cable.send(frame(99))
    assert pair.rx.receive()[-1].data == frame(99)
    assert bench.nic.registers.counter("rx_frames") == 1


def test_frames_that_wait_in_the_wire_survive_a_link_flap_without_repeats(bench: Bench) -> None:
    """The wire is full when the carrier goes: what was not sent is counted, what was sent arrives once, in order."""
    (pair,) = bench.nic.start(0, tx_size=1024)
    frames = numbered(700, 200)
    for one in frames:
        pair.tx.push(one)
    pair.tx.kick()
    bench.qmp.set_link("nic0", False)
    pair.tx.wait_consumed()
    bench.qmp.set_link("nic0", True)
    counters = bench.nic.registers.counters()
    got = bench.cable.collect(counters["tx_frames"])
    assert got == frames[: len(got)]
    assert counters["tx_frames"] + counters["tx_no_link"] == len(frames)
    assert counters["tx_no_link"] > 0
    pair.tx.send(frame(61))
    assert bench.cable.receive() == frame(61)


def test_a_link_that_is_down_stays_down_over_a_reset(bench: Bench) -> None:
    bench.qmp.set_link("nic0", False)
    bench.nic.reset()
    assert bench.nic.registers.read("LINK") == 0
    nic = bench.reset()
    assert nic.registers.read("LINK") == 0


def test_a_device_without_a_backend_has_no_carrier_and_drops_what_it_sends(make_bench: MakeBench) -> None:
    bench = make_bench(WITH_PEER)
    nic = bench.drive(PciDevice(bench.bus, PciAddress(0, 5)))
    assert nic.registers.read("LINK") == 0
    (pair,) = nic.start(0)
    pair.tx.send(frame())
    pair.tx.wait_consumed()
    assert nic.registers.counter("tx_no_link") == 1
