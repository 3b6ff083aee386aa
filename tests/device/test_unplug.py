# SPDX-License-Identifier: GPL-2.0-or-later
"""The function leaves the machine while frames are under way, and a new one takes its place.

A root port asks the guest before it lets a device go; the guest's part (attention button acknowledged, power off) is
a write to the port's slot control register, as the PCI Express Base Specification has it.
"""

from __future__ import annotations

import pytest

from labnic import pci
from labnic.pci import PciAddress, PciDevice
from labnic.qtest import wait_until
from labnic.rings import QueuePair

from .bench import HW, MAC, SLOT, Bench, BenchOptions, MakeBench
from .frames import frame, numbered

NATIVE = ("-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off")
"""q35 would have the guest's ACPI code do it, and there is no guest."""
EXP_SLTCTL = 0x18
EXP_SLTSTA = 0x1A
SLTCTL_POWER_INDICATOR_ON = 0x0100
SLTCTL_POWER_INDICATOR_OFF = 0x0300
SLTCTL_POWER_OFF = 0x0400
SLTSTA_ALL = 0x001F


@pytest.fixture
def plugged(make_bench: MakeBench) -> Bench:
    """A labnic behind a root port."""
    return make_bench(BenchOptions(behind_port=True, arguments=NATIVE))


def port(bench: Bench) -> PciDevice:
    """The root port."""
    return PciDevice(bench.bus, PciAddress(0, SLOT))


def unplug(bench: Bench) -> None:
    """What QEMU's user and the guest's hot-plug driver do together."""
    bench.qmp.execute("device_del", id="nic0")
    release(bench)
    bench.qmp.wait_event("DEVICE_DELETED", match=lambda event: event["data"].get("device") == "nic0")


def release(bench: Bench) -> None:
    """The guest's part: the power of the slot goes off."""
    bridge = port(bench)
    express = bridge.capability(pci.CAP_EXP)
    bridge.write(express + EXP_SLTSTA, SLTSTA_ALL, 2)
    bridge.write(express + EXP_SLTCTL, SLTCTL_POWER_INDICATOR_OFF | SLTCTL_POWER_OFF, 2)


def power_on(bench: Bench) -> None:
    """The guest switches the slot on again for the new device."""
    bridge = port(bench)
    express = bridge.capability(pci.CAP_EXP)
    bridge.write(express + EXP_SLTSTA, SLTSTA_ALL, 2)
    bridge.write(express + EXP_SLTCTL, SLTCTL_POWER_INDICATOR_ON, 2)


def busy(bench: Bench) -> QueuePair:
    """Frames wait in both directions."""
    (pair,) = bench.nic.start(0, tx_size=1024)
    for one in numbered(700, 200):
        pair.tx.push(one)
    pair.tx.kick()
    bench.cable.send(*numbered(66))
    wait_until(lambda: pair.rx.head == 64, "the ring to be used up")
    return pair


def test_the_device_works_behind_a_root_port(plugged: Bench) -> None:
    (pair,) = plugged.nic.start(0)
    pair.tx.send(frame())
    assert plugged.cable.receive() == frame()
    plugged.cable.send(frame(61))
    assert pair.rx.receive()[0].data == frame(61)


def test_an_idle_device_can_be_unplugged(plugged: Bench) -> None:
    assert plugged.pci.present()
    unplug(plugged)
    assert not plugged.pci.present()
    assert plugged.alive()


def test_a_device_can_be_unplugged_while_frames_wait_in_both_directions(plugged: Bench) -> None:
    pair = busy(plugged)
    unplug(plugged)
    assert not plugged.pci.present()
    plugged.qtest.fill(pair.status.address, 128, 0x5C)
    plugged.cable.waiting()
    plugged.cable.send(*numbered(3))
    plugged.qmp.query_status()
    assert plugged.qtest.read(pair.status.address, 128) == b"\x5c" * 128
    assert plugged.alive()


def test_a_new_device_in_the_same_slot_works(plugged: Bench) -> None:
    busy(plugged)
    unplug(plugged)
    plugged.cable.waiting()
    plugged.qmp.execute("device_add", driver="labnic", id="nic1", bus="slot0", netdev="w0", mac=MAC)
    power_on(plugged)
    nic = plugged.drive(PciDevice(plugged.bus, PciAddress(1, 0)))
    assert nic.registers.read("ID") == HW.reg("ID").reset
    assert nic.registers.counter("rx_frames") == 0
    (pair,) = nic.start(0)
    plugged.cable.waiting()
    pair.tx.send(frame(61))
    assert plugged.cable.receive() == frame(61)
    plugged.cable.send(frame(99))
    frames = [received.data for received in pair.rx.receive()]
    while frame(99) not in frames:
        frames += [received.data for received in pair.rx.receive()]


def test_plugging_and_unplugging_again_and_again_leaks_no_slot(plugged: Bench) -> None:
    unplug(plugged)
    for number in range(10):
        plugged.qmp.execute("device_add", driver="labnic", id="nic0", bus="slot0", netdev="w0", mac=MAC)
        power_on(plugged)
        nic = plugged.drive(PciDevice(plugged.bus, PciAddress(1, 0)))
        (pair,) = nic.start(0)
        pair.tx.send(frame(60, seed=number))
        assert plugged.cable.receive() == frame(60, seed=number)
        unplug(plugged)
    assert plugged.alive()


def test_the_wire_taken_away_under_the_device_is_a_lost_carrier(make_bench: MakeBench) -> None:
    """netdev_del in the middle of traffic: the device stays, without a link."""
    bench = make_bench()
    pair = busy(bench)
    bench.qmp.execute("netdev_del", id="w0")
    assert bench.nic.registers.field("LINK", "UP") == 0
    pair.tx.send(frame())
    pair.tx.wait_consumed()
    assert bench.nic.registers.counter("tx_no_link") > 0
    assert bench.alive()
