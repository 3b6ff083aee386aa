# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole labnic driven by a test in Python: device-wide registers, filter, steering, vectors and queue pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labnic.hwmap import HwMap
from labnic.pci import Msix
from labnic.qtest import Qtest
from labnic.registers import Access, GuestMemory, Registers, RingError
from labnic.rings import QueuePair

IRQ_MAGIC = 0x4C42_0000
"""High half of the data that a vector writes, so that a message is told from cleared memory."""


class Nic:
    """One labnic, driven by a test. ``places`` are the addresses of its BARs; its vectors are pointed at memory."""

    def __init__(self, qtest: Qtest, hw: HwMap, places: Mapping[int, int], msix: Msix, memory: GuestMemory) -> None:
        self.qtest = qtest
        self.hw = hw
        self.memory = memory
        self.msix = msix
        self.registers = Registers(qtest, places[hw.bar("REGS").index], hw)
        self.access = Access(qtest, hw, self.registers, memory)
        self._messages = memory.take(4 * msix.vectors)
        for vector in range(msix.vectors):
            self.catch(vector)
        msix.enable()
        memory.mark()

    def catch(self, vector: int, *, masked: bool = False) -> None:
        """Point a vector at its word in memory, where :meth:`interrupted` finds its message."""
        self.msix.program(vector, self._messages + 4 * vector, IRQ_MAGIC | vector, masked=masked)

    def interrupted(self, vector: int) -> bool:
        """Whether the vector has fired since the last call; several messages in between look like one."""
        address = self._messages + 4 * vector
        data = self.qtest.readl(address)
        if not data:
            return False
        if data != IRQ_MAGIC | vector:
            raise RingError(f"vector {vector} wrote {data:#x} instead of its data")
        self.qtest.writel(address, 0)
        return True

    def queue_vector(self, queue: int) -> int:
        """The vector of a queue pair."""
        return self.hw.constants.VECTOR_QUEUE0 + queue

    @property
    def queues(self) -> int:
        """Queue pairs that this device has."""
        return self.registers.field("LIMITS", "QUEUES")

    def enable(self, enabled: bool = True) -> None:
        """Switch the whole device on or off."""
        self.registers.put("CTRL", ENABLE=int(enabled))

    def reset(self) -> None:
        """The reset of CTRL; the rings of this driver are to be started again."""
        self.registers.put("CTRL", RESET=1)

    def queue_pair(self, number: int, *, tx_size: int = 64, rx_size: int = 64, stride: int = 2048) -> QueuePair:
        """A queue pair that is not started yet; sizes in entries, ``stride`` the longest buffer in bytes."""
        return QueuePair(self.access, number, tx_size=tx_size, rx_size=rx_size, stride=stride)

    def start(
        self, *numbers: int, tx_size: int = 64, rx_size: int = 64, stride: int = 2048, promiscuous: bool = True
    ) -> list[QueuePair]:
        """Start these queue pairs, fill their RX rings, receive everything, and enable the device."""
        pairs = [self.queue_pair(number, tx_size=tx_size, rx_size=rx_size, stride=stride).start() for number in numbers]
        for pair in pairs:
            pair.rx.fill()
            pair.rx.kick()
        self.registers.put("MAX_FRAME", LEN=self.hw.constants.FRAME_MAX)
        self.registers.put("RX_MODE", PROMISC=int(promiscuous))
        self.enable()
        return pairs

    def accept(self, *features: str) -> None:
        """Use these features of the device and no others, by their names in DRV_FEATURES."""
        self.registers.put("DRV_FEATURES", **dict.fromkeys(features, 1))

    def set_mac(self, address: bytes) -> None:
        """Change the device's own address (6 bytes)."""
        self.registers.put("MAC", ADDR=int.from_bytes(address, "little"))

    def set_slot(self, slot: int, address: bytes | None) -> None:
        """Put an address (6 bytes) into a slot of the filter, or empty the slot."""
        if address is None:
            self.registers.write("ADDR_SLOT", 0, slot)
        else:
            self.registers.put("ADDR_SLOT", slot, ADDR=int.from_bytes(address, "little"), VALID=1)

    def set_rss(self, key: bytes, table: Sequence[int], kinds: Sequence[str]) -> None:
        """Spread received frames: ``key`` of 40 bytes, a queue for each of the 128 hash values, ``RSS_CTRL`` fields."""
        self.accept("RSS")
        with self.qtest.batch():
            for number in range(0, len(key), 4):
                self.registers.write("RSS_KEY", int.from_bytes(key[number : number + 4], "little"), number // 4)
            for number in range(0, len(table), 4):
                word = int.from_bytes(bytes(table[number : number + 4]), "little")
                self.registers.write("RSS_TABLE", word, number // 4)
            self.registers.put("RSS_CTRL", **dict.fromkeys(kinds, 1))
