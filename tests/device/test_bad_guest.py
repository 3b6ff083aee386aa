# SPDX-License-Identifier: GPL-2.0-or-later
"""What a driver must not do: each mistake stops its queue with the right code, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from labnic import pci
from labnic.pci import PciAddress, PciDevice
from labnic.registers import COUNT_MASK
from labnic.rings import Piece, QueuePair, RxQueue, TxQueue

from .bench import HW, SLOT, WITH_PEER, Bench, MakeBench, settle
from .frames import FRAME_MAX, FRAME_MIN, frame
from .test_registers import dump

ERR = HW.enum("ERR")
C = HW.constants
NOWHERE = 1 << 40
"""An address that no memory and no device has."""
SICK, WELL = 2, 5
"""Queue pairs: the one that the test makes fail, and one that must not notice."""


@pytest.fixture
def pairs(bench: Bench) -> tuple[QueuePair, QueuePair]:
    """The pair to break and its neighbour, both running."""
    sick, well = bench.nic.start(SICK, WELL)
    bench.nic.registers.put("MISC_ENABLE", QUEUE_ERROR=1)
    return sick, well


def steer(bench: Bench, queue: int) -> None:
    """Send every frame of :func:`ip` to one queue."""
    bench.nic.set_rss(bytes(C.RSS_KEY_SIZE), [queue] * C.RSS_TABLE_SIZE, ["IPV4"])


def ip(length: int = 60) -> bytes:
    """A frame that RSS steers."""
    header = bytes.fromhex("4500001c000000004011000001020304050607080000000000080000")
    return (frame(12) + b"\x08\x00" + header).ljust(length, b"\0")


def check_failed(bench: Bench, queue: TxQueue | RxQueue, error: int) -> None:
    """The queue has stopped with this code, said so everywhere it should, and an interrupt told the driver."""
    registers = bench.nic.registers
    kind = "TX" if isinstance(queue, TxQueue) else "RX"
    assert ERR.name_of(queue.error) == ERR.name_of(error)
    assert not queue.enabled
    assert registers.field("QUEUE_ERRORS", kind) == 1 << queue.number
    assert registers.field("MISC_CAUSE", "QUEUE_ERROR") == 1
    assert registers.counter("queue_errors") == 1
    assert bench.nic.interrupted(C.VECTOR_MISC)


def check_works(bench: Bench, pair: QueuePair) -> None:
    """The pair sends and receives."""
    pair.tx.send(frame(70))
    assert bench.cable.receive() == frame(70)
    steer(bench, pair.number)
    bench.cable.send(ip())
    assert pair.rx.receive()[-1].data == ip()


def check_recovers(bench: Bench, pair: QueuePair) -> None:
    """Enabling again clears the error, and the pair works."""
    pair.stop()
    pair.start()
    pair.rx.fill()
    assert (pair.tx.error, pair.rx.error) == (ERR.NONE, ERR.NONE)
    assert bench.nic.registers.read("QUEUE_ERRORS") == 0
    check_works(bench, pair)


def tx_mistake(*pieces: Piece) -> Callable[[QueuePair], None]:
    """Publish these descriptors; an address below 4096 is an offset into memory that is there."""

    def commit(pair: QueuePair) -> None:
        base = pair.tx.stage(bytes(FRAME_MAX))[0].address
        pair.tx.post(
            [
                Piece(
                    piece.address + base if piece.address < 4096 else piece.address,
                    piece.length,
                    piece.last,
                    piece.extra,
                )
                for piece in pieces
            ]
        )
        pair.tx.ring_doorbell()

    return commit


def reserved_bits(structure: str, word: str) -> list[int]:
    """Every bit of a descriptor's word that the map does not name."""
    defined = HW.struct(structure).word(word).defined
    return [1 << bit for bit in range(32) if not defined >> bit & 1]


LONG = [Piece(0, 4096, last=False)] * 2
TX_MISTAKES = {
    "length zero": (ERR.DESC_LEN, tx_mistake(Piece(0, 0))),
    "length zero in the middle": (
        ERR.DESC_LEN,
        tx_mistake(Piece(0, 20, last=False), Piece(0, 0, last=False), Piece(0, 20)),
    ),
    "too short": (ERR.FRAME_SHORT, tx_mistake(Piece(0, FRAME_MIN - 1))),
    "too short in pieces": (ERR.FRAME_SHORT, tx_mistake(Piece(0, 6, last=False), Piece(0, 7))),
    "too long": (ERR.FRAME_LONG, tx_mistake(Piece(0, FRAME_MAX + 1))),
    "longest length": (ERR.FRAME_LONG, tx_mistake(Piece(0, 0xFFFF))),
    "too long in pieces": (ERR.FRAME_LONG, tx_mistake(*LONG, Piece(0, FRAME_MAX + 1 - 8192))),
    "sum beyond 16 bits": (ERR.FRAME_LONG, tx_mistake(Piece(0, 0xFFFF, last=False), Piece(0, 61))),
    "too many pieces": (ERR.FRAGS, tx_mistake(*[Piece(0, 2, last=False)] * C.TX_FRAGS_MAX, Piece(0, 2))),
    "a whole ring of pieces": (ERR.FRAGS, tx_mistake(*[Piece(0, 1, last=False)] * 64)),
    "no last piece": (ERR.INCOMPLETE, tx_mistake(Piece(0, 60, last=False))),
    "no last of two pieces": (ERR.INCOMPLETE, tx_mistake(Piece(0, 60, last=False), Piece(0, 60, last=False))),
    "bytes nowhere": (ERR.DMA_READ, tx_mistake(Piece(NOWHERE, 60))),
    "second piece nowhere": (ERR.DMA_READ, tx_mistake(Piece(0, 60, last=False), Piece(NOWHERE, 60))),
    "bytes at the end of the address space": (ERR.DMA_READ, tx_mistake(Piece((1 << 64) - 8, 60))),
}


@pytest.mark.parametrize("mistake", TX_MISTAKES)
def test_a_bad_frame_stops_its_queue(bench: Bench, pairs: tuple[QueuePair, QueuePair], mistake: str) -> None:
    sick, well = pairs
    error, commit = TX_MISTAKES[mistake]
    commit(sick)
    check_failed(bench, sick.tx, error)
    assert bench.cable.waiting() == []
    check_works(bench, well)
    check_recovers(bench, sick)


@pytest.mark.parametrize("word", ["LEN", "FLAGS"])
def test_each_reserved_bit_of_a_tx_descriptor_stops_the_queue(bench: Bench, word: str) -> None:
    bits = reserved_bits("TX_DESC", word)
    assert bits
    (pair,) = bench.nic.start(SICK)
    for bit in bits:
        tx_mistake(Piece(0, 60, extra={word: bit}))(pair)
        assert ERR.name_of(pair.tx.error) == "DESC_RESERVED", f"{word} bit {bit:#x}"
        pair.start()
    assert bench.cable.waiting() == []


def test_the_frames_before_a_bad_one_are_sent_and_reported(bench: Bench, pairs: tuple[QueuePair, QueuePair]) -> None:
    sick, _ = pairs
    sick.tx.arm()
    for length in (60, 61, 62):
        sick.tx.push(frame(length))
    tx_mistake(Piece(0, 5))(sick)
    assert bench.cable.collect(3) == [frame(60), frame(61), frame(62)]
    assert sick.tx.consumed == 3
    assert bench.nic.interrupted(bench.nic.queue_vector(SICK))
    check_failed(bench, sick.tx, ERR.FRAME_SHORT)


@pytest.mark.parametrize("ahead", [1, 2, 1000, 0x7FFF_FFFF, 0xFFFF_FF00])
def test_a_tx_doorbell_beyond_the_ring_stops_the_queue(
    bench: Bench, pairs: tuple[QueuePair, QueuePair], ahead: int
) -> None:
    sick, well = pairs
    sick.tx.send(frame())
    assert bench.cable.receive() == frame()
    sick.tx.ring_doorbell(sick.tx.published + sick.tx.size + ahead)
    check_failed(bench, sick.tx, ERR.DOORBELL)
    check_works(bench, well)
    check_recovers(bench, sick)


def test_a_tx_doorbell_that_goes_back_stops_the_queue(bench: Bench, pairs: tuple[QueuePair, QueuePair]) -> None:
    sick, _ = pairs
    sick.tx.send(frame())
    sick.tx.wait_consumed()
    sick.tx.ring_doorbell(0)
    check_failed(bench, sick.tx, ERR.DOORBELL)


def test_a_tx_doorbell_without_descriptors_sends_nothing(bench: Bench, pairs: tuple[QueuePair, QueuePair]) -> None:
    """The count is a hint: the phase bit says what is there."""
    sick, _ = pairs
    sick.tx.ring_doorbell(sick.tx.size)
    assert sick.tx.head == 0
    assert bench.cable.waiting() == []
    sick.tx.send(frame())
    assert bench.cable.receive() == frame()


@pytest.mark.parametrize("ahead", [1, 1000, 0x7FFF_FFFF, 0xFFFF_FF00])
def test_an_rx_doorbell_beyond_the_ring_stops_the_queue(
    bench: Bench, pairs: tuple[QueuePair, QueuePair], ahead: int
) -> None:
    sick, well = pairs
    sick.rx.ring_doorbell(sick.rx.size + ahead)
    check_failed(bench, sick.rx, ERR.DOORBELL)
    check_works(bench, well)
    check_recovers(bench, sick)


def test_doorbells_of_queues_that_are_off_do_nothing(bench: Bench) -> None:
    for number in range(C.MAX_QUEUES):
        for value in (0, 1, 64, 0x8000_0000, COUNT_MASK):
            bench.nic.registers.write("TX_DOORBELL", value, number)
            bench.nic.registers.write("RX_DOORBELL", value, number)
    assert bench.nic.registers.read("QUEUE_ERRORS") == 0
    assert bench.nic.registers.counter("queue_errors") == 0


BAD_SIZES = [0, 1, 2, 32, 63, 65, 96, 100, 4095, 4097, 8192, 0x8000, 0xFFFF]


@pytest.mark.parametrize("kind", ["TX", "RX"])
def test_no_other_ring_size_than_the_map_allows_can_be_enabled(bench: Bench, kind: str) -> None:
    (pair,) = bench.nic.start(SICK)
    pair.stop()
    queue: TxQueue | RxQueue = pair.tx if kind == "TX" else pair.rx
    for size in BAD_SIZES:
        bench.nic.registers.put(f"{kind}_SIZE", SICK, ENTRIES=size)
        queue.enable()
        assert not queue.enabled, f"size {size}"
        assert ERR.name_of(queue.error) == "RING_SIZE", f"size {size}"
    assert bench.nic.registers.counter("queue_errors") == len(BAD_SIZES)
    bench.nic.registers.put(f"{kind}_SIZE", SICK, ENTRIES=queue.size)
    queue.enable()
    assert queue.enabled


@pytest.mark.parametrize(
    ("register", "kind", "address"),
    [
        (register, kind, address)
        for register, kind in (
            ("TX_BASE", "TX"),
            ("RX_BUF_BASE", "RX"),
            ("RX_CMPL_BASE", "RX"),
            ("STATUS_BASE", "TX"),
            ("STATUS_BASE", "RX"),
        )
        for address in (0, 1, 32, 0x10_0020, 0xFFFF_FFFF_FFFF_FFFF)
    ],
)
def test_an_address_that_is_zero_or_misaligned_cannot_be_enabled(
    bench: Bench, register: str, kind: str, address: int
) -> None:
    (pair,) = bench.nic.start(SICK)
    pair.stop()
    queue: TxQueue | RxQueue = pair.tx if kind == "TX" else pair.rx
    bench.nic.registers.write(register, address, SICK)
    queue.enable()
    assert not queue.enabled
    assert ERR.name_of(queue.error) == "RING_ADDR"


def test_a_status_block_that_is_only_aligned_like_a_ring_cannot_be_enabled(bench: Bench) -> None:
    (pair,) = bench.nic.start(SICK)
    pair.stop()
    bench.nic.registers.write("STATUS_BASE", pair.status.address + C.RING_ALIGN, SICK)
    pair.tx.enable()
    pair.rx.enable()
    assert [ERR.name_of(pair.tx.error), ERR.name_of(pair.rx.error)] == ["RING_ADDR", "RING_ADDR"]


@pytest.mark.parametrize("kind", ["TX", "RX"])
def test_a_status_block_nowhere_cannot_be_enabled(bench: Bench, kind: str) -> None:
    (pair,) = bench.nic.start(SICK)
    pair.stop()
    queue: TxQueue | RxQueue = pair.tx if kind == "TX" else pair.rx
    bench.nic.registers.write("STATUS_BASE", NOWHERE, SICK)
    queue.enable()
    assert not queue.enabled
    assert ERR.name_of(queue.error) == "DMA_WRITE"


def test_a_tx_ring_nowhere_stops_at_its_first_doorbell(bench: Bench, pairs: tuple[QueuePair, QueuePair]) -> None:
    sick, well = pairs
    sick.tx.enable(False)
    bench.nic.registers.write("TX_BASE", NOWHERE, SICK)
    sick.tx.enable()
    sick.tx.ring_doorbell(1)
    check_failed(bench, sick.tx, ERR.DMA_READ)
    check_works(bench, well)
    check_recovers(bench, sick)


def lose_completions(pair: QueuePair) -> None:
    """Good buffers, and a completion ring that is not there."""
    pair.rx.fill()
    pair.access.registers.write("RX_CMPL_BASE", NOWHERE, SICK)


RX_MISTAKES: dict[str, tuple[int, Callable[[QueuePair], object]]] = {
    "buffer of length zero": (ERR.BUF_LEN, lambda pair: pair.rx.post([0])),
    "buffer one byte too short": (ERR.BUF_LEN, lambda pair: pair.rx.post([C.RX_BUF_MIN - 1])),
    "buffer nowhere": (ERR.DMA_WRITE, lambda pair: pair.rx.post([2048], address=NOWHERE)),
    "buffer at the end of the address space": (
        ERR.DMA_WRITE,
        lambda pair: pair.rx.post([2048], address=(1 << 64) - 16),
    ),
    "buffer ring nowhere": (
        ERR.DMA_READ,
        lambda pair: pair.access.registers.write("RX_BUF_BASE", NOWHERE, SICK),
    ),
    "completion ring nowhere": (ERR.DMA_WRITE, lose_completions),
}


@pytest.mark.parametrize("mistake", RX_MISTAKES)
def test_a_bad_buffer_stops_its_queue(bench: Bench, pairs: tuple[QueuePair, QueuePair], mistake: str) -> None:
    sick, well = pairs
    error, commit = RX_MISTAKES[mistake]
    sick.rx.enable(False)
    sick.rx.configure()
    commit(sick)
    sick.rx.enable()
    steer(bench, SICK)
    bench.cable.send(ip())
    settle(bench, "queue errors", 1, "queue_errors")
    check_failed(bench, sick.rx, error)
    assert bench.nic.registers.counter("rx_frames") == 0
    check_works(bench, well)
    check_recovers(bench, sick)


@pytest.mark.parametrize("bit", reserved_bits("RX_BUF", "FLAGS"))
def test_each_reserved_bit_of_an_rx_buffer_stops_the_queue(bench: Bench, bit: int) -> None:
    pair = bench.nic.queue_pair(0).start()
    bench.nic.enable()
    pair.rx.post([2048], extra={"FLAGS": bit})
    bench.cable.send(frame())
    settle(bench, "queue errors", 1, "queue_errors")
    assert ERR.name_of(pair.rx.error) == "DESC_RESERVED"


def test_a_failed_rx_queue_does_not_hold_up_the_wire(bench: Bench, pairs: tuple[QueuePair, QueuePair]) -> None:
    sick, well = pairs
    sick.rx.ring_doorbell(sick.rx.size + 1)
    steer(bench, SICK)
    bench.cable.send(*[ip()] * 100)
    settle(bench, "dropped", 100, "rx_disabled", "rx_frames")
    check_works(bench, well)


def test_queues_without_bus_mastering_stop_and_nothing_is_read(bench: Bench) -> None:
    (pair,) = bench.nic.start(SICK)
    bench.pci.enable(master=False)
    pair.tx.push(frame())
    pair.tx.ring_doorbell()
    assert ERR.name_of(pair.tx.error) in ("DMA_READ", "DMA_WRITE")
    assert bench.cable.waiting() == []
    bench.pci.enable()
    pair.stop()
    pair.start()
    pair.rx.fill()
    check_works(bench, pair)


# The device's own registers as memory: nothing may enter the device a second time, whatever the address.

OWN_TARGETS = ["CTRL", "ID", "TX_CTRL", "RX_CTRL", "TX_DOORBELL", "RX_DOORBELL", "STATUS_BASE", "ADDR_SLOT"]


def own_address(bench: Bench, target: str) -> int:
    """Where a register is on the bus, rounded down to what a ring must be aligned to."""
    indices = {"ADDR_SLOT": (0,)}.get(target, () if target in ("CTRL", "ID") else (SICK,))
    return bench.nic.registers.address(target, *indices) & ~(C.STATUS_BLOCK_ALIGN - 1)


def check_intact(bench: Bench, well: QueuePair) -> None:
    """The device is still enabled, still itself, and the neighbour works."""
    assert bench.nic.registers.read("ID") == HW.reg("ID").reset
    assert bench.nic.registers.field("CTRL", "ENABLE") == 1
    assert well.tx.enabled
    check_works(bench, well)


@pytest.mark.parametrize("target", OWN_TARGETS)
def test_frames_from_the_own_registers_do_no_harm(
    bench: Bench, pairs: tuple[QueuePair, QueuePair], target: str
) -> None:
    sick, well = pairs
    sick.tx.post([Piece(own_address(bench, target), 64)])
    sick.tx.ring_doorbell()
    bench.nic.registers.read("ID")
    bench.cable.waiting()
    check_intact(bench, well)


@pytest.mark.parametrize("target", OWN_TARGETS)
def test_frames_into_the_own_registers_do_no_harm(
    bench: Bench, pairs: tuple[QueuePair, QueuePair], target: str
) -> None:
    sick, well = pairs
    sick.rx.enable(False)
    sick.rx.configure()
    sick.rx.post([1024] * 4, address=own_address(bench, target))
    sick.rx.enable()
    steer(bench, SICK)
    bench.cable.send(ip(900).replace(b"\0" * 16, b"\xff" * 16))
    settle(bench, "dealt with", 1, "rx_frames", "rx_dma_errors")
    check_intact(bench, well)


@pytest.mark.parametrize("target", OWN_TARGETS)
@pytest.mark.parametrize("register", ["TX_BASE", "RX_BUF_BASE", "RX_CMPL_BASE", "STATUS_BASE"])
def test_rings_over_the_own_registers_do_no_harm(
    bench: Bench, pairs: tuple[QueuePair, QueuePair], register: str, target: str
) -> None:
    sick, well = pairs
    sick.stop()
    bench.nic.registers.write(register, own_address(bench, target), SICK)
    sick.tx.enable()
    sick.rx.enable()
    sick.tx.push(frame())
    sick.tx.ring_doorbell()
    steer(bench, SICK)
    bench.cable.send(ip())
    bench.nic.registers.read("ID")
    bench.cable.waiting()
    sick.stop()
    check_intact(bench, well)


@pytest.mark.parametrize("direction", ["TX", "RX"])
@pytest.mark.parametrize("target", ["CTRL", "TX_DOORBELL", "TX_CTRL", "MISC_CAUSE"])
def test_messages_into_the_own_registers_do_no_harm(
    bench: Bench, pairs: tuple[QueuePair, QueuePair], target: str, direction: str
) -> None:
    """A vector whose address is the device itself: its write arrives while the device works."""
    sick, well = pairs
    indices = () if target in ("CTRL", "MISC_CAUSE") else (SICK,)
    address = bench.nic.registers.address(target, *indices)
    bench.nic.msix.program(bench.nic.queue_vector(SICK), address, COUNT_MASK)
    if direction == "TX":
        sick.tx.arm()
        sick.tx.send(frame())
        assert bench.cable.receive() == frame()
    else:
        steer(bench, SICK)
        sick.rx.arm()
        bench.cable.send(ip())
        assert sick.rx.receive()[0].data == ip()
    assert bench.nic.registers.counter("irq_queue") == 1
    assert bench.nic.registers.field("CTRL", "ENABLE") == 1
    check_intact(bench, well)


def test_a_message_into_an_own_register_while_a_frame_comes_changes_nothing(
    bench: Bench, pairs: tuple[QueuePair, QueuePair]
) -> None:
    sick, _ = pairs
    before = bench.nic.registers.read("MAX_FRAME")
    bench.nic.msix.program(bench.nic.queue_vector(SICK), bench.nic.registers.address("MAX_FRAME"), before + 1)
    steer(bench, SICK)
    sick.rx.arm()
    bench.cable.send(ip())
    assert sick.rx.receive()[0].data == ip()
    assert bench.nic.registers.counter("irq_queue") == 1
    assert bench.nic.registers.read("MAX_FRAME") == before


def test_frames_into_the_registers_of_another_device_stop_the_queue(make_bench: MakeBench) -> None:
    bench = make_bench(WITH_PEER)
    peer = bench.drive(PciDevice(bench.bus, PciAddress(0, SLOT + 1)))
    (pair,) = bench.nic.start(0)
    pair.rx.enable(False)
    pair.rx.configure()
    pair.rx.post([1024], address=peer.registers.address("ADDR_SLOT", 0))
    pair.rx.enable()
    before = dump(peer)
    bench.cable.send(ip(900).replace(b"\0" * 16, b"\xff" * 16))
    settle(bench, "dealt with", 1, "rx_frames", "rx_dma_errors")
    assert dump(peer) == before
    assert ERR.name_of(pair.rx.error) == "DMA_WRITE"


def test_dma_into_the_own_msix_table_does_no_harm(bench: Bench, pairs: tuple[QueuePair, QueuePair]) -> None:
    sick, well = pairs
    sick.rx.enable(False)
    sick.rx.configure()
    sick.rx.post([1024], address=bench.nic.msix.table)
    sick.rx.enable()
    steer(bench, SICK)
    bench.cable.send(ip(900))
    settle(bench, "dealt with", 1, "rx_frames", "rx_dma_errors")
    check_intact(bench, well)


def test_all_ones_everywhere_does_no_harm(bench: Bench) -> None:
    """What a driver writes that has lost its device; the reset afterwards brings everything back."""
    nic = bench.nic
    for place in HW.registers():
        for half in range(place.size // 4):
            bench.qtest.writel(nic.registers.base + place.offset + 4 * half, COUNT_MASK)
    bench.cable.send(frame())
    bench.qtest.fill(nic.msix.table, nic.msix.vectors * pci.MSIX_ENTRY_SIZE, 0xFF)
    nic.reset()
    assert nic.registers.read("CTRL") == 0
    nic.registers.write("MISC_CAUSE", COUNT_MASK)
    for vector in range(nic.msix.vectors):
        nic.catch(vector)
    (pair,) = nic.start(0)
    check_works(bench, pair)
