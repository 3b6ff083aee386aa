# SPDX-License-Identifier: GPL-2.0-or-later
"""PCI of a q35 machine without firmware: configuration space, base addresses and MSI-X, over qtest.

Constants are those of Linux's ``include/uapi/linux/pci_regs.h``, which quotes the PCI Express Base Specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labnic.errors import LabnicError
from labnic.qtest import Qtest, Width

CONFIG_ADDRESS = 0xCF8
CONFIG_DATA = 0xCFC
Q35_PCIEXBAR = 0x60
"""Register of q35's host bridge with the address of the memory-mapped configuration space (Intel MCH datasheet)."""
ECAM_BASE = 0xB000_0000
ECAM_BUSES = 256
BAR_WINDOW = 0xE000_0000
BAR_WINDOW_END = 0xFEB0_0000
"""Addresses between the configuration space and the interrupt controllers, where nothing else is."""

BRIDGE_WINDOW = 0x100_0000

VENDOR_ID = 0x00
COMMAND = 0x04
COMMAND_MEMORY = 0x2
COMMAND_MASTER = 0x4
COMMAND_INTX_DISABLE = 0x400
STATUS = 0x06
STATUS_CAP_LIST = 0x10
REVISION = 0x08
HEADER_TYPE = 0x0E
BAR0 = 0x10
PRIMARY_BUS = 0x18
MEMORY_WINDOW = 0x20
SUBSYSTEM = 0x2C
CAPABILITY_LIST = 0x34
EXTENDED_CAPABILITIES = 0x100
CAP_MSIX = 0x11
CAP_EXP = 0x10
CAP_PM = 0x01
PM_CONTROL = 0x04
EXP_DEVCAP = 0x04
EXP_DEVCAP_FLR = 1 << 28
EXP_DEVCTL = 0x08
EXP_DEVCTL_FLR = 1 << 15
MSIX_FLAGS = 0x02
MSIX_FLAGS_ENABLE = 0x8000
MSIX_FLAGS_MASKALL = 0x4000
MSIX_FLAGS_SIZE = 0x07FF
MSIX_TABLE = 0x04
MSIX_PBA = 0x08
MSIX_ENTRY_SIZE = 16
MSIX_ENTRY_DATA = 8
MSIX_ENTRY_CTRL = 12
MSIX_ENTRY_MASKED = 1


class PciError(LabnicError):
    """The machine has no such device, or the device lacks what the test needs of it."""

    exit_code = 8


@dataclass(frozen=True, order=True)
class PciAddress:
    """Bus, device and function number."""

    bus: int
    slot: int
    function: int = 0

    def __str__(self) -> str:
        return f"{self.bus:02x}:{self.slot:02x}.{self.function:x}"


@dataclass(frozen=True)
class Bar:
    """One base address register: ``index`` from 0, ``size`` in bytes."""

    index: int
    size: int
    is_64bit: bool
    prefetchable: bool
    is_io: bool


class PciBus:
    """Access to the configuration space of every function of the machine.

    Making one switches q35's memory-mapped configuration space on; that is lost at each reset of the machine.
    """

    def __init__(self, qtest: Qtest) -> None:
        self.qtest = qtest
        self._next = BAR_WINDOW
        self.enable_ecam()

    def enable_ecam(self) -> None:
        """Map the configuration space at :data:`ECAM_BASE`, through the ports that work from the first moment."""
        for offset, value in ((Q35_PCIEXBAR + 4, 0), (Q35_PCIEXBAR, ECAM_BASE | 1)):
            self.qtest.outl(CONFIG_ADDRESS, 0x8000_0000 | offset)
            self.qtest.outl(CONFIG_DATA, value)

    def config_address(self, address: PciAddress, offset: int) -> int:
        """Where a byte of configuration space is in memory."""
        return ECAM_BASE + (address.bus << 20 | address.slot << 15 | address.function << 12) + offset

    def scan(self, bus: int = 0) -> list[PciAddress]:
        """The functions on one bus; function 0 of each slot, and the others of slots that have several."""
        found = []
        for slot in range(32):
            for function in range(8):
                address = PciAddress(bus, slot, function)
                if self.qtest.readw(self.config_address(address, VENDOR_ID)) == 0xFFFF:
                    if function == 0:
                        break
                    continue
                found.append(address)
                if function == 0 and not self.qtest.readb(self.config_address(address, HEADER_TYPE)) & 0x80:
                    break
        return found

    def find(self, vendor: int, device: int, bus: int = 0) -> list[PciDevice]:
        """The functions on ``bus`` with these identifiers, in the order of their addresses."""
        wanted = device << 16 | vendor
        return [
            PciDevice(self, address)
            for address in self.scan(bus)
            if self.qtest.readl(self.config_address(address, VENDOR_ID)) == wanted
        ]

    def allocate(self, size: int) -> int:
        """A naturally aligned piece of the window for base addresses."""
        address = -(-self._next // size) * size
        if address + size > BAR_WINDOW_END:
            raise PciError(f"no room for {size:#x} more bytes of PCI memory")
        self._next = address + size
        return address

    def open_bridge(self, bridge: PciDevice, secondary: int) -> None:
        """Give a PCI bridge or root port a secondary bus and a memory window, the place of what is assigned next."""
        bridge.write(PRIMARY_BUS, secondary << 16 | secondary << 8 | bridge.address.bus, 4)
        window = self.allocate(BRIDGE_WINDOW)
        self._next = window
        last = window + BRIDGE_WINDOW - 1
        bridge.write(MEMORY_WINDOW, window >> 16 & 0xFFF0 | last & 0xFFF0_0000, 4)
        bridge.enable()


class PciDevice:
    """One PCI function."""

    def __init__(self, bus: PciBus, address: PciAddress) -> None:
        self.bus = bus
        self.address = address
        self.qtest = bus.qtest

    def read(self, offset: int, width: Width) -> int:
        """Read configuration space."""
        return self.qtest.load(self.bus.config_address(self.address, offset), width)

    def write(self, offset: int, value: int, width: Width) -> None:
        """Write configuration space."""
        self.qtest.store(self.bus.config_address(self.address, offset), value, width)

    def present(self) -> bool:
        """Whether a function still answers at this address."""
        return self.read(VENDOR_ID, 2) != 0xFFFF

    def capabilities(self) -> Iterator[tuple[int, int]]:
        """Identifier and offset of each capability; raises :class:`PciError` when the list does not end."""
        if not self.read(STATUS, 2) & STATUS_CAP_LIST:
            return
        offset = self.read(CAPABILITY_LIST, 1) & 0xFC
        seen: set[int] = set()
        while offset:
            if offset in seen:
                raise PciError(f"{self.address}: the capability list has a loop at {offset:#x}")
            seen.add(offset)
            yield self.read(offset, 1), offset
            offset = self.read(offset + 1, 1) & 0xFC

    def capability(self, identifier: int) -> int:
        """Offset of a capability; raises :class:`PciError` when the function lacks it."""
        for found, offset in self.capabilities():
            if found == identifier:
                return offset
        raise PciError(f"{self.address}: no capability {identifier:#x}")

    def bars(self) -> list[Bar]:
        """The base address registers that are used, their sizes found as the specification says (all ones, read back).

        The registers keep their values; memory decoding should be off.
        """
        result = []
        index = 0
        while index < 6:
            bar = self._probe(index)
            if bar:
                result.append(bar)
            index += 2 if bar and bar.is_64bit else 1
        return result

    def _probe(self, index: int) -> Bar | None:
        offset = BAR0 + 4 * index
        old = self.read(offset, 4)
        self.write(offset, 0xFFFF_FFFF, 4)
        probe = self.read(offset, 4)
        self.write(offset, old, 4)
        if not probe:
            return None
        is_io = bool(probe & 1)
        is_64bit = not is_io and probe >> 1 & 3 == 2
        size = -(probe & ~(0x3 if is_io else 0xF)) & 0xFFFF_FFFF
        return Bar(index, size, is_64bit, not is_io and bool(probe & 8), is_io)

    def assign_bars(self) -> dict[int, int]:
        """Give each memory base address register a place; returns the address of each by index."""
        places = {}
        for bar in self.bars():
            if bar.is_io:
                continue
            places[bar.index] = self.bus.allocate(bar.size)
            self.place(bar, places[bar.index])
        return places

    def place(self, bar: Bar, address: int) -> None:
        """Write one base address register."""
        self.write(BAR0 + 4 * bar.index, address & 0xFFFF_FFFF, 4)
        if bar.is_64bit:
            self.write(BAR0 + 4 * bar.index + 4, address >> 32, 4)

    def enable(self, *, memory: bool = True, master: bool = True) -> None:
        """Switch memory decoding and bus mastering on or off; the function never uses its interrupt line."""
        value = (COMMAND_MEMORY if memory else 0) | (COMMAND_MASTER if master else 0) | COMMAND_INTX_DISABLE
        self.write(COMMAND, value, 2)

    def function_level_reset(self) -> None:
        """Reset this function alone; raises :class:`PciError` when it cannot."""
        express = self.capability(CAP_EXP)
        if not self.read(express + EXP_DEVCAP, 4) & EXP_DEVCAP_FLR:
            raise PciError(f"{self.address}: no function-level reset")
        self.write(express + EXP_DEVCTL, self.read(express + EXP_DEVCTL, 2) | EXP_DEVCTL_FLR, 2)


class Msix:
    """The MSI-X capability of a function whose base addresses are assigned (``places`` by index)."""

    def __init__(self, device: PciDevice, places: dict[int, int]) -> None:
        self.device = device
        self.qtest = device.qtest
        self.offset = device.capability(CAP_MSIX)
        table, pending = (device.read(self.offset + field, 4) for field in (MSIX_TABLE, MSIX_PBA))
        self.table = places[table & 7] + (table & ~7)
        self.pending_bits = places[pending & 7] + (pending & ~7)
        self.vectors = (device.read(self.offset + MSIX_FLAGS, 2) & MSIX_FLAGS_SIZE) + 1

    def entry(self, vector: int) -> int:
        """Address of a vector's table entry."""
        return self.table + vector * MSIX_ENTRY_SIZE

    def program(self, vector: int, address: int, data: int, *, masked: bool = False) -> None:
        """Let a vector write the 32 bits ``data`` to ``address``.

        A message is a memory write: an address in RAM makes it something that a test can read there.
        """
        entry = self.entry(vector)
        with self.qtest.batch():
            self.qtest.writel(entry, address & 0xFFFF_FFFF)
            self.qtest.writel(entry + 4, address >> 32)
            self.qtest.writel(entry + MSIX_ENTRY_DATA, data)
            self.qtest.writel(entry + MSIX_ENTRY_CTRL, MSIX_ENTRY_MASKED if masked else 0)

    def mask(self, vector: int, masked: bool) -> None:
        """Mask or unmask one vector."""
        self.qtest.writel(self.entry(vector) + MSIX_ENTRY_CTRL, MSIX_ENTRY_MASKED if masked else 0)

    def pending(self, vector: int) -> bool:
        """Whether a message waits for the vector to be unmasked."""
        return bool(self.qtest.readl(self.pending_bits + vector // 32 * 4) >> vector % 32 & 1)

    def enable(self, enabled: bool = True, *, mask_all: bool = False) -> None:
        """Switch MSI-X on or off for the function."""
        flags = (MSIX_FLAGS_ENABLE if enabled else 0) | (MSIX_FLAGS_MASKALL if mask_all else 0)
        self.device.write(self.offset + MSIX_FLAGS, flags, 2)
