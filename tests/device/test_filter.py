# SPDX-License-Identifier: GPL-2.0-or-later
"""Which addresses are received, with counters that equal what was sent."""

from __future__ import annotations

import random

import pytest

from labnic.rings import QueuePair

from .bench import HW, Bench
from .frames import BROADCAST, MULTICAST, OWN, STRANGER, frame

SLOTS = HW.constants.ADDR_SLOTS


def received(bench: Bench, pair: QueuePair, *addresses: bytes) -> list[bytes]:
    """Send a frame to each address; returns the addresses of those that came through.

    A frame to the device's own address is the last: what has not come before it was filtered.
    """
    end = frame(99, to=own(bench))
    for number, address in enumerate(addresses):
        bench.cable.send(frame(60, to=address, seed=number))
    bench.cable.send(end)
    frames: list[bytes] = []
    while not frames or frames[-1] != end:
        frames += [one.data for one in pair.rx.receive()]
        pair.rx.fill()
        pair.rx.kick()
    return [one[:6] for one in frames[:-1]]


def own(bench: Bench) -> bytes:
    """The device's own address now."""
    return bench.nic.registers.read("MAC").to_bytes(6, "little")


def start(bench: Bench, **mode: int) -> QueuePair:
    """Queue pair 0, receiving as RX_MODE's fields say."""
    (pair,) = bench.nic.start(0, promiscuous=False)
    bench.nic.registers.put("RX_MODE", **mode)
    return pair


@pytest.mark.parametrize("mac", ["0200000000ff", "02ffffffffff", "fe8080808080", "020000008000", "020000000001"])
def test_the_own_address_may_have_any_bits(bench: Bench, mac: str) -> None:
    pair = start(bench)
    bench.nic.set_mac(bytes.fromhex(mac))
    assert received(bench, pair, bytes.fromhex(mac), OWN) == [bytes.fromhex(mac)]


def test_only_the_own_address_is_received_by_default(bench: Bench) -> None:
    pair = start(bench)
    assert received(bench, pair, OWN, STRANGER, BROADCAST, MULTICAST) == [OWN]
    assert bench.nic.registers.counter("rx_filtered") == 3


def test_an_address_that_differs_in_one_bit_is_not_the_own_one(bench: Bench) -> None:
    pair = start(bench)
    value = int.from_bytes(OWN, "big")
    near = [(value ^ 1 << bit).to_bytes(6, "big") for bit in range(48)]
    assert received(bench, pair, *near) == []
    assert bench.nic.registers.counter("rx_filtered") == 48


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ({"BROADCAST": 1}, [BROADCAST]),
        ({"ALLMULTI": 1}, [MULTICAST]),
        ({"ALLMULTI": 1, "BROADCAST": 1}, [BROADCAST, MULTICAST]),
        ({"PROMISC": 1}, [STRANGER, BROADCAST, MULTICAST]),
        ({"PROMISC": 1, "ALLMULTI": 1, "BROADCAST": 1}, [STRANGER, BROADCAST, MULTICAST]),
    ],
)
def test_each_mode_lets_its_frames_through(bench: Bench, mode: dict[str, int], expected: list[bytes]) -> None:
    pair = start(bench, **mode)
    got = received(bench, pair, STRANGER, BROADCAST, MULTICAST)
    assert sorted(got) == sorted(expected)
    assert bench.nic.registers.counter("rx_filtered") == 3 - len(expected)


def test_leaving_promiscuous_mode_closes_the_door_again(bench: Bench) -> None:
    pair = start(bench, PROMISC=1)
    assert received(bench, pair, STRANGER) == [STRANGER]
    bench.nic.registers.put("RX_MODE", PROMISC=0)
    assert received(bench, pair, STRANGER) == []


def test_all_slots_hold_an_address_each(bench: Bench) -> None:
    pair = start(bench)
    generator = random.Random(128)
    addresses = [bytes([2 | slot & 1, 0, slot]) + generator.randbytes(3) for slot in range(SLOTS)]
    for slot, address in enumerate(addresses):
        bench.nic.set_slot(slot, address)
    generator.shuffle(addresses)
    assert received(bench, pair, *addresses) == addresses
    strangers = [bytes([2, 1, slot, 0, 0, 0]) for slot in range(32)]
    assert received(bench, pair, *strangers) == []
    assert bench.nic.registers.counter("rx_filtered") == 32


def test_each_slot_alone_receives_its_address(bench: Bench) -> None:
    pair = start(bench)
    for slot in range(SLOTS):
        address = bytes([2, 0, 0, 0, 0, slot])
        bench.nic.set_slot(slot, address)
        assert received(bench, pair, address) == [address], f"slot {slot}"
        bench.nic.set_slot(slot, None)
        assert received(bench, pair, address) == [], f"slot {slot}"


def test_a_slot_without_its_valid_bit_is_not_used(bench: Bench) -> None:
    pair = start(bench)
    bench.nic.registers.put("ADDR_SLOT", 9, ADDR=int.from_bytes(STRANGER, "little"), VALID=0)
    assert received(bench, pair, STRANGER) == []


def test_an_address_in_two_slots_stays_when_one_is_emptied(bench: Bench) -> None:
    pair = start(bench)
    bench.nic.set_slot(3, STRANGER)
    bench.nic.set_slot(100, STRANGER)
    bench.nic.set_slot(3, None)
    assert received(bench, pair, STRANGER) == [STRANGER]
    bench.nic.set_slot(100, None)
    assert received(bench, pair, STRANGER) == []


def test_half_a_slot_changes_nothing(bench: Bench) -> None:
    """Between the writes of the two halves the old address is received, not a mixture."""
    pair = start(bench)
    other = bytes.fromhex("525400aabb00")
    bench.nic.set_slot(0, STRANGER)
    address = bench.nic.registers.address("ADDR_SLOT", 0)
    new = HW.reg("ADDR_SLOT", 0).value(ADDR=int.from_bytes(bytes.fromhex("020304050607"), "little"), VALID=1)
    bench.qtest.writel(address, new & 0xFFFF_FFFF)
    assert received(bench, pair, STRANGER, other) == [STRANGER]
    bench.qtest.writel(address + 4, new >> 32)
    assert received(bench, pair, STRANGER, bytes.fromhex("020304050607")) == [bytes.fromhex("020304050607")]


def test_broadcast_in_a_slot_is_received_without_the_mode(bench: Bench) -> None:
    pair = start(bench)
    bench.nic.set_slot(1, BROADCAST)
    assert received(bench, pair, BROADCAST) == [BROADCAST]


def test_a_changed_address_is_received_and_the_old_one_no_more(bench: Bench) -> None:
    pair = start(bench)
    bench.nic.set_mac(STRANGER)
    assert received(bench, pair, OWN, STRANGER) == [STRANGER]
    assert bench.nic.registers.read("PERM_MAC") == int.from_bytes(OWN, "little")
    bench.nic.reset()
    assert own(bench) == OWN


def test_qemu_is_told_about_a_changed_address(bench: Bench) -> None:
    bench.nic.set_mac(STRANGER)
    shown = bench.qmp.hmp("info network")
    assert ":".join(f"{byte:02x}" for byte in STRANGER) in shown
