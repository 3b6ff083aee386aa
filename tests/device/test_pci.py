# SPDX-License-Identifier: GPL-2.0-or-later
"""What the PCI function shows of itself, and the properties that QEMU's user can set."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from labnic import pci
from labnic.softnic import Nic

from .bench import HW, SLOT, Bench, MakeBench, QemuFiles, boot_failure


def test_the_function_has_the_identity_of_the_map(bench: Bench) -> None:
    assert bench.pci.read(pci.VENDOR_ID, 2) == HW.device.vendor_id
    assert bench.pci.read(pci.VENDOR_ID + 2, 2) == HW.device.device_id
    assert bench.pci.read(pci.REVISION, 1) == HW.device.revision
    assert bench.pci.read(pci.REVISION + 2, 2) == HW.device.pci_class
    assert bench.pci.read(pci.HEADER_TYPE, 1) == 0


def test_enumeration_finds_the_function_by_its_identifiers(bench: Bench) -> None:
    found = bench.bus.find(HW.device.vendor_id, HW.device.device_id)
    assert [device.address for device in found] == [pci.PciAddress(0, SLOT)]


def test_the_base_address_registers_have_the_sizes_of_the_map(bench: Bench) -> None:
    bench.pci.enable(memory=False, master=False)
    sizes = {bar.index: bar.size for bar in bench.pci.bars()}
    assert sizes == {bar.index: bar.size for bar in HW.bars}
    assert not any(bar.is_io for bar in bench.pci.bars())


def test_the_capability_list_ends_and_has_msix_and_express(bench: Bench) -> None:
    found = [identifier for identifier, _ in bench.pci.capabilities()]
    assert pci.CAP_MSIX in found
    assert pci.CAP_EXP in found
    assert len(found) == len(set(found))


def test_registers_move_with_their_base_address(bench: Bench) -> None:
    bar = next(bar for bar in bench.pci.bars() if bar.index == HW.bar("REGS").index)
    place = bench.bus.allocate(bar.size)
    bench.pci.place(bar, place)
    assert bench.qtest.readl(place + HW.reg("ID").offset) == HW.reg("ID").reset


def test_registers_do_not_answer_while_memory_decoding_is_off(bench: Bench) -> None:
    bench.pci.enable(memory=False)
    assert bench.nic.registers.read("ID") != HW.reg("ID").reset
    bench.pci.enable()
    assert bench.nic.registers.read("ID") == HW.reg("ID").reset


def test_a_default_device_has_the_default_queues_and_a_vector_more(nic: Nic) -> None:
    assert nic.queues == HW.constants.DEFAULT_QUEUES
    assert nic.msix.vectors == HW.constants.DEFAULT_QUEUES + HW.constants.VECTOR_QUEUE0


@pytest.mark.parametrize("queues", [1, 2, 7, HW.constants.MAX_QUEUES])
def test_the_queues_property_sets_queue_pairs_and_vectors(make_bench: MakeBench, queues: int) -> None:
    nic = make_bench(queues=queues).nic
    assert nic.queues == queues
    assert nic.registers.field("LIMITS", "VECTORS") == queues + 1
    assert nic.msix.vectors == queues + 1


@pytest.mark.parametrize("queues", [0, HW.constants.MAX_QUEUES + 1, 4294967295])
def test_a_queues_property_out_of_bounds_is_refused_with_the_bounds(
    qemu_files: QemuFiles, rom: Path, tmp_path: Path, queues: int
) -> None:
    status, words = boot_failure(qemu_files, rom, tmp_path / "log", f"labnic,queues={queues}")
    assert status == 1
    assert "queues" in words
    assert "16" in words
    # QEMU itself may have a word on its ROMs before.
    assert len([line for line in words.splitlines() if "labnic" in line]) == 1


@pytest.mark.parametrize("mac", ["01:00:5e:00:00:01"])
def test_a_multicast_mac_is_refused(qemu_files: QemuFiles, rom: Path, tmp_path: Path, mac: str) -> None:
    status, words = boot_failure(qemu_files, rom, tmp_path / "log", f"labnic,mac={mac}")
    assert status == 1
    assert "mac" in words.lower()


def test_the_mac_property_is_the_permanent_address(make_bench: MakeBench) -> None:
    registers = make_bench(mac="02:ab:cd:ef:01:23").nic.registers
    value = int.from_bytes(bytes.fromhex("02abcdef0123"), "little")
    assert registers.read("PERM_MAC") == registers.read("MAC") == value


def test_qemu_lists_the_device_with_a_description_of_its_properties(qemu_files: QemuFiles) -> None:
    environment = {"LD_PRELOAD": str(qemu_files.plugin)} if qemu_files.plugin else {}
    answer = subprocess.run(
        [str(qemu_files.binary), "-device", "labnic,help"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    for name in ("mac", "netdev", "queues", "backpressure", "speed"):
        assert f"  {name}=<" in answer.stdout
