# SPDX-License-Identifier: GPL-2.0-or-later
"""Every register answers as the hardware map says: reset value, access, and nothing where the map has nothing."""

from __future__ import annotations

import random

import pytest

from labnic.hwmap import RegisterAt
from labnic.softnic import Nic

from .bench import HW, MAC, Bench

ALL_ONES = 0xFFFF_FFFF
PATTERNS = (0xFFFF_FFFF, 0x0000_0000, 0xA5A5_A5A5, 0x5A5A_5A5A)
REGISTERS = list(HW.registers())
STATE = [place for place in REGISTERS if not place.counter]
BAR_SIZE = HW.bar("REGS").size
MAC_VALUE = int.from_bytes(bytes.fromhex(MAC.replace(":", "")), "little")
UP = HW.reg("LINK").value(UP=1, FULL_DUPLEX=1, SPEED=10000)
DYNAMIC = {"MAC": MAC_VALUE, "PERM_MAC": MAC_VALUE, "LINK": UP}
QUEUES = HW.constants.DEFAULT_QUEUES
DANGEROUS = {"CTRL", "TX_CTRL", "RX_CTRL"}
"""Registers whose bits start something; tests of their own write those."""


def absent(place: RegisterAt) -> bool:
    """Whether the register belongs to a queue pair that a device with default properties does not have."""
    return place.element is not None and place.element >= QUEUES


def expected_reset(place: RegisterAt) -> int:
    """What a read gives after a reset."""
    return DYNAMIC[place.name] if place.reset is None else place.reset


def words(place: RegisterAt) -> list[tuple[int, int]]:
    """Offset and shift of each 32-bit half of the register."""
    return [(place.offset + 4 * half, 32 * half) for half in range(place.size // 4)]


def dump(nic: Nic) -> dict[str, int]:
    """Every register but the counters, by name."""
    base = nic.registers.base
    values = nic.qtest.loads(base + offset for place in STATE for offset, _ in words(place))
    rest = iter(values)
    return {place.name: sum(next(rest) << shift for _, shift in words(place)) for place in STATE}


def reset_values() -> dict[str, int]:
    """What :func:`dump` gives after a reset."""
    return {place.name: expected_reset(place) for place in STATE}


def described(byte: int) -> bool:
    """Whether the map has a register at this byte of the BAR."""
    return bool(COVERED[byte])


COVERED = bytearray(BAR_SIZE)
for _place in REGISTERS:
    COVERED[_place.offset : _place.offset + _place.size] = b"\x01" * _place.size


def test_every_register_has_its_reset_value(nic: Nic) -> None:
    assert dump(nic) == reset_values()


def test_every_counter_is_zero_after_a_machine_reset_but_for_the_look_at_it(nic: Nic) -> None:
    counters = nic.registers.counters()
    assert counters.pop("mmio_reads") > 0
    assert counters == dict.fromkeys(counters, 0)


def test_read_write_bits_keep_what_is_written_and_no_other_bit_does(nic: Nic) -> None:
    wrong = []
    base = nic.registers.base
    for place in STATE:
        if place.register.name in DANGEROUS or absent(place):
            continue
        for offset, shift in words(place):
            keep = place.writable >> shift & ALL_ONES
            fixed = expected_reset(place) >> shift & ALL_ONES & ~keep
            for pattern in PATTERNS:
                nic.qtest.writel(base + offset, pattern)
                got, want = nic.qtest.readl(base + offset), pattern & keep | fixed
                if got != want:
                    wrong.append(f"{place.name}+{shift // 8}: wrote {pattern:#x}, read {got:#x} instead of {want:#x}")
    assert wrong == []


@pytest.mark.parametrize("name", ["ro", "wo", "w1c"])
def test_registers_that_keep_nothing_ignore_writes(nic: Nic, name: str) -> None:
    before = dump(nic)
    with nic.qtest.batch():
        for place in STATE:
            if place.access == name and not absent(place):
                for offset, _ in words(place):
                    nic.qtest.writel(nic.registers.base + offset, ALL_ONES)
    assert dump(nic) == before


def test_counters_ignore_writes(nic: Nic) -> None:
    with nic.qtest.batch():
        for place in REGISTERS:
            if place.counter:
                nic.registers.write(place.register.name, (1 << 64) - 1)
    counters = nic.registers.counters()
    moved = {name: value for name, value in counters.items() if name not in ("mmio_reads", "mmio_writes")}
    assert moved == dict.fromkeys(moved, 0)
    assert counters["mmio_writes"] == 2 * len(counters)


def test_w1c_keeps_a_bit_that_is_written_zero_and_clears_the_one_that_is_written_one(bench: Bench) -> None:
    registers = bench.nic.registers
    bench.qmp.set_link("nic0", False)
    bench.nic.registers.put("TX_CTRL", 0, ENABLE=1)  # ring size zero: the queue fails
    both = HW.reg("MISC_CAUSE").value(LINK=1, QUEUE_ERROR=1)
    assert registers.read("MISC_CAUSE") == both
    registers.write("MISC_CAUSE", 0)
    assert registers.read("MISC_CAUSE") == both
    registers.put("MISC_CAUSE", LINK=1)
    assert registers.read("MISC_CAUSE") == HW.reg("MISC_CAUSE").value(QUEUE_ERROR=1)
    registers.put("MISC_CAUSE", QUEUE_ERROR=1)
    assert registers.read("MISC_CAUSE") == 0


def test_ctrl_keeps_enable_and_reads_reset_as_zero(nic: Nic) -> None:
    reserved = ALL_ONES & ~HW.reg("CTRL").defined
    nic.registers.write("CTRL", reserved | HW.reg("CTRL").value(ENABLE=1))
    assert nic.registers.read("CTRL") == HW.reg("CTRL").value(ENABLE=1)
    nic.registers.write("CTRL", ALL_ONES)
    assert nic.registers.read("CTRL") & HW.reg("CTRL").w1s == 0


def test_drv_features_takes_no_feature_that_the_device_lacks(nic: Nic) -> None:
    nic.registers.write("DRV_FEATURES", ALL_ONES)
    assert nic.registers.read("DRV_FEATURES") == nic.registers.read("DEV_FEATURES")


def test_space_without_a_register_reads_zero(nic: Nic) -> None:
    content = nic.qtest.read(nic.registers.base, BAR_SIZE)
    assert [hex(byte) for byte in range(BAR_SIZE) if content[byte] and not described(byte)] == []


def test_space_without_a_register_ignores_writes(nic: Nic) -> None:
    before = dump(nic)
    holes = [offset for offset in range(0, BAR_SIZE, 4) if not described(offset)]
    for start in range(0, len(holes), 4096):
        with nic.qtest.batch():
            for offset in holes[start : start + 4096]:
                nic.qtest.writel(nic.registers.base + offset, ALL_ONES)
    assert dump(nic) == before
    content = nic.qtest.read(nic.registers.base, BAR_SIZE)
    assert not any(content[offset] for offset in holes)


def test_registers_of_queue_pairs_that_do_not_exist_read_zero_and_ignore_writes(nic: Nic) -> None:
    places = [place for place in STATE if absent(place)]
    assert places
    with nic.qtest.batch():
        for place in places:
            for offset, _ in words(place):
                nic.qtest.writel(nic.registers.base + offset, ALL_ONES)
    assert {name: value for name, value in dump(nic).items() if value} == {
        name: value for name, value in reset_values().items() if value
    }
    assert nic.registers.read("QUEUE_ERRORS") == 0


def test_the_doorbell_page_reads_zero_and_counts_the_writes(nic: Nic) -> None:
    for number in range(QUEUES):
        nic.registers.write("TX_DOORBELL", 0, number)
        nic.registers.write("RX_DOORBELL", 0, number)
        nic.registers.write("RX_DOORBELL", 0, number)
        assert nic.registers.read("TX_DOORBELL", number) == nic.registers.read("RX_DOORBELL", number) == 0
    assert nic.registers.counter("tx_doorbells") == QUEUES
    assert nic.registers.counter("rx_doorbells") == 2 * QUEUES


@pytest.mark.parametrize("width", [1, 2])
def test_narrow_accesses_do_no_harm(bench: Bench, width: int) -> None:
    nic = bench.nic
    before = dump(nic)
    generator = random.Random(width)
    letter = {1: "b", 2: "w"}[width]
    for place in STATE:
        if place.register.name in DANGEROUS:
            continue
        for step in range(0, place.size, width):
            address = nic.registers.base + place.offset + step
            nic.qtest.command(f"read{letter} {address:#x}")
            nic.qtest.command(f"write{letter} {address:#x} {generator.getrandbits(8 * width):#x}")
    nic.registers.write("MISC_CAUSE", ALL_ONES)
    nic.reset()
    assert dump(nic) == before


def test_an_access_of_8_bytes_is_two_of_4(nic: Nic) -> None:
    """QEMU cuts it, low half first, so that a 64-bit register can be used with either."""
    value = 0x1122_3344_5566_7740
    nic.qtest.writeq(nic.registers.address("TX_BASE", 3), value)
    assert nic.registers.read("TX_BASE", 3) == value
    assert nic.qtest.readq(nic.registers.address("TX_BASE", 3)) == value


def test_unaligned_accesses_do_no_harm(nic: Nic) -> None:
    for place in STATE:
        if place.register.name not in DANGEROUS:
            nic.qtest.readl(nic.registers.base + place.offset + 2)
            nic.qtest.writel(nic.registers.base + place.offset + 2, 0)
    assert nic.registers.read("ID") == HW.reg("ID").reset


def test_a_register_above_frame_max_is_kept_as_written(nic: Nic) -> None:
    """MAX_FRAME beyond FRAME_MAX counts as FRAME_MAX and reads as it was written."""
    limit = HW.reg("MAX_FRAME").field("LEN").limit
    nic.registers.put("MAX_FRAME", LEN=limit)
    assert nic.registers.field("MAX_FRAME", "LEN") == limit


def test_each_access_is_counted_once(nic: Nic) -> None:
    before = nic.registers.counters()
    for _ in range(7):
        nic.registers.read("ID")
    for _ in range(5):
        nic.registers.put("RX_MODE", PROMISC=1)
    after = nic.registers.counters()
    assert after["mmio_writes"] - before["mmio_writes"] == 5
    # The counter is read before those behind it, and after those before it: a whole round lies between.
    assert after["mmio_reads"] - before["mmio_reads"] == 7 + 2 * len(before)


def test_an_address_slot_is_in_force_only_after_its_high_half(nic: Nic) -> None:
    """The two halves read back as written, whichever of them is in force."""
    address = nic.registers.address("ADDR_SLOT", 5)
    nic.qtest.writel(address, 0x1234_5678)
    assert nic.registers.read("ADDR_SLOT", 5) == 0x1234_5678
    nic.qtest.writel(address + 4, ALL_ONES)
    assert nic.registers.read("ADDR_SLOT", 5) == HW.reg("ADDR_SLOT", 5).defined & (ALL_ONES << 32) | 0x1234_5678
