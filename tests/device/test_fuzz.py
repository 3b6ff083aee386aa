# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that writes whatever comes to its mind: QEMU survives, and a reset brings a working device back."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from labnic.hwmap import FaultKind
from labnic.registers import COUNT_MASK

from .bench import HW, RAM_BASE, Bench, examples
from .frames import FRAME_MAX, frame

SEED = int(os.environ.get("LABNIC_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
REGISTERS = list(HW.registers())
QUEUES = HW.constants.DEFAULT_QUEUES
PLAYGROUND = RAM_BASE + (16 << 20)
"""A page in RAM for rings, status blocks and buffers, all on top of each other."""
PLAYGROUND_SIZE = 0x4000

interesting = st.sampled_from(
    [0, 1, 2, 3, 64, 128, 256, 4096, 0x8000, 0xFFFF, PLAYGROUND, 0x7FFF_FFFF, 0x8000_0000, COUNT_MASK]
)
values = interesting | st.integers(0, COUNT_MASK)
numbers = st.integers(0, QUEUES - 1)
"""What a step may take: hypothesis shrinks a failure to the fewest and smallest steps."""


@dataclass(frozen=True)
class Step:
    """One thing that the guest does, printed as such when it kills QEMU."""

    text: str
    run: Callable[[Bench], object]

    def __repr__(self) -> str:
        return self.text


def write_register(offset: int, value: int) -> Step:
    """Write any word of the BAR."""
    return Step(
        f"reg+{offset:#x}={value:#x}", lambda bench: bench.qtest.writel(bench.nic.registers.base + offset, value)
    )


def write_memory(offset: int, data: bytes) -> Step:
    """Write something into the rings."""
    return Step(f"mem+{offset:#x}={data.hex()}", lambda bench: bench.qtest.write(PLAYGROUND + offset, data))


def start_queue(number: int, size: int, *offsets: int) -> Step:
    """Enable both queues of a pair with rings anywhere in the playground or in the registers."""

    def run(bench: Bench) -> None:
        registers = bench.nic.registers
        places = [PLAYGROUND + offset if offset >= 0 else registers.base - offset for offset in offsets]
        names = ("TX_BASE", "RX_BUF_BASE", "RX_CMPL_BASE", "STATUS_BASE")
        with bench.qtest.batch():
            for name, place in zip(names, places, strict=True):
                registers.write(name, place, number)
            registers.write("DRV_FEATURES", COUNT_MASK)
            registers.put("TX_SIZE", number, ENTRIES=size)
            registers.put("RX_SIZE", number, ENTRIES=size)
            registers.put("TX_CTRL", number, ENABLE=1)
            registers.put("RX_CTRL", number, ENABLE=1)
            registers.put("CTRL", ENABLE=1)
            registers.put("RX_MODE", PROMISC=1)

    return Step(f"start({number}, {size}, {offsets})", run)


def descriptors(offset: int, words: list[tuple[int, int, int, int]]) -> Step:
    """Write plausible descriptors: places in the playground, or the registers, with lengths and flags of all kinds."""

    def run(bench: Bench) -> None:
        data = b""
        for place, length, kind, flags in words:
            address = PLAYGROUND + place if kind < 6 else bench.nic.registers.base + place if kind < 7 else place << 40
            data += b"".join(
                word.to_bytes(4, "little") for word in (address & COUNT_MASK, address >> 32, length, flags)
            )
        bench.qtest.write(PLAYGROUND + offset, data)

    return Step(f"descriptors({offset:#x}, {words})", run)


def packet_to_cut(offset: int, mss: int, start: int, length: int, ipv6: bool) -> Step:
    """A descriptor that asks for segments of what is nearly a TCP packet, right behind it."""

    def run(bench: Bench) -> None:
        head = bytes(12) + (b"\x86\xdd\x60\0\0\0\0\0\x06" if ipv6 else b"\x08\0\x45\0\0\0\0\0\0\0\x40\x06")
        tcp = (54 if ipv6 else 34) + 12
        packet = (head.ljust(tcp, b"\x01") + b"\x50").ljust(100, b"\x02")
        flags = offload_flags(HW.enum("OFFLOAD").TSO, start)
        words = (PLAYGROUND + offset + 16, 0, mss << 16 | length, flags)
        descriptor = b"".join(word.to_bytes(4, "little") for word in words)
        bench.qtest.write(PLAYGROUND + offset, descriptor + packet)

    return Step(f"packet_to_cut({offset:#x}, {mss}, {start}, {length}, {ipv6})", run)


def doorbell(number: int, kind: str, value: int) -> Step:
    """Ring."""
    return Step(f"{kind}[{number}]={value:#x}", lambda bench: bench.nic.registers.write(kind, value, number))


def receive(length: int) -> Step:
    """Let a frame come from the wire."""
    return Step(f"receive({length})", lambda bench: bench.cable.try_send(frame(length)))


def set_fault(kind: FaultKind, data: dict[str, int], register: int) -> Step:
    """Have the device go wrong, too."""
    wanted = {key: value for key, value in data.items() if key in ("after", "chance", "seed")}
    if not kind.lasting:
        wanted["count"] = data["count"]
    if "queue" in kind.takes and data["queue"] < QUEUES:
        wanted["queue"] = data["queue"]
    if "register" in kind.takes:
        wanted["register"] = register
    if kind.value:
        wanted["value"] = kind.value.min + data["value"] % (kind.value.max - kind.value.min + 1)

    def run(bench: Bench) -> None:
        # There is room for so many; the device's refusal has a test of its own.
        if len(bench.faults.faults()) < 32:
            bench.faults.set(kind.name, **wanted)

    return Step(f"fault({kind.name}, {wanted})", run)


def clear_faults() -> Step:
    """Have it go on."""
    return Step("clear", lambda bench: bench.faults.clear())


def offload_flags(offload: int, start: int) -> int:
    """The flags of a whole frame with an offload."""
    return start << 16 | 16 << 8 | offload << 2 | 3


places = st.integers(0, PLAYGROUND_SIZE // 128 - 1).map(lambda number: number * 128)
registers_or_places = places | st.sampled_from(REGISTERS).map(lambda place: -(place.offset & ~127))
words = st.tuples(
    places,
    st.sampled_from([0, 1, 14, 60, 256, 2048, FRAME_MAX, 0xFFFF]) | st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 7),
    st.sampled_from([0, 1, 2, 3, 3, 3, 1])
    | st.builds(offload_flags, st.integers(0, 3), st.integers(0, 120))
    | st.integers(0, COUNT_MASK),
)
steps = st.one_of(
    st.builds(write_register, st.sampled_from(REGISTERS).map(lambda place: place.offset), values),
    st.builds(write_register, st.integers(0, HW.bar("REGS").size // 4 - 1).map(lambda word: word * 4), values),
    st.builds(write_memory, places, st.binary(min_size=4, max_size=64)),
    st.builds(
        start_queue, numbers, st.sampled_from([64, 64, 128, 4096]),
        registers_or_places, registers_or_places, registers_or_places, registers_or_places,
    ),
    st.builds(start_queue, numbers, st.just(64), places, places, places, places),
    st.builds(descriptors, places, st.lists(words, min_size=1, max_size=64)),
    st.builds(
        packet_to_cut, places, st.integers(0, 0x3FFF) | st.integers(0, 100), st.sampled_from([34, 54, 0, 0x3FFF]),
        st.integers(0, 0xFFFF) | st.integers(50, 120), st.booleans(),
    ),
    st.builds(doorbell, numbers, st.sampled_from(["TX_DOORBELL", "RX_DOORBELL"]), values | st.integers(0, 70)),
    st.builds(receive, st.sampled_from([1, 14, 60, 300, 1514, FRAME_MAX])),
    st.builds(lambda up: Step(f"link({up})", lambda bench: bench.qmp.set_link("nic0", up)), st.booleans()),
)  # fmt: skip


faults = st.builds(
    set_fault,
    st.sampled_from(HW.faults),
    st.fixed_dictionaries(
        {
            "after": st.integers(0, 20),
            "count": st.integers(0, 5),
            "chance": st.integers(1, 1000),
            "seed": st.integers(0, COUNT_MASK),
            "queue": st.integers(0, QUEUES * 2),
            "value": st.integers(0, 2000) | values,
        }
    ),
    st.sampled_from(REGISTERS).map(lambda place: place.offset),
)
faulty_steps = steps | faults | st.builds(clear_faults)


@pytest.fixture
def said_seed() -> None:
    """Failing output names the seed, and the variable that brings it back."""
    print(f"LABNIC_FUZZ_SEED={SEED}")


@seed(SEED)
@examples(int(os.environ.get("LABNIC_FUZZ_EXAMPLES", "150")))
@given(story=st.lists(steps, min_size=5, max_size=40))
def test_no_story_of_writes_kills_qemu(said_seed: None, bench: Bench, story: list[Step]) -> None:
    bench.qtest.fill(PLAYGROUND, PLAYGROUND_SIZE)
    for step in story:
        step.run(bench)
        bench.cable.waiting()
    nic = bench.nic
    assert nic.registers.read("ID") == HW.reg("ID").reset
    nic.reset()
    assert nic.registers.read("CTRL") == 0
    assert nic.registers.read("QUEUE_ERRORS") == 0


@seed(SEED)
@examples(int(os.environ.get("LABNIC_FUZZ_EXAMPLES", "150")))
@given(story=st.lists(faulty_steps, min_size=5, max_size=40))
def test_no_story_kills_a_qemu_whose_device_goes_wrong(said_seed: None, bench: Bench, story: list[Step]) -> None:
    """Afterwards the device is as good as new."""
    bench.qtest.fill(PLAYGROUND, PLAYGROUND_SIZE)
    for step in story:
        step.run(bench)
        bench.cable.waiting()
    bench.faults.clear()
    bench.faults.audit()
    bench.qmp.set_link("nic0", True)
    # What was gone has lost its addresses.
    nic = bench.reset()
    assert nic.registers.read("ID") == HW.reg("ID").reset
    assert nic.registers.read("QUEUE_ERRORS") == 0
    assert nic.registers.field("LINK", "UP") == 1


def test_a_device_that_was_fuzzed_works_after_a_reset(bench: Bench) -> None:
    """One long random story, and then an ordinary driver."""
    generator = random.Random(SEED)
    print(f"LABNIC_FUZZ_SEED={SEED}")
    for _ in range(40):
        start_queue(generator.randrange(QUEUES), 64, *(generator.randrange(128) * 128 for _ in range(4))).run(bench)
        bench.qtest.write(PLAYGROUND, generator.randbytes(PLAYGROUND_SIZE))
        for _ in range(10):
            kind = generator.choice(["TX_DOORBELL", "RX_DOORBELL"])
            doorbell(generator.randrange(QUEUES), kind, generator.randrange(65)).run(bench)
            bench.cable.try_send(frame(generator.randrange(1, FRAME_MAX)))
        bench.cable.waiting()
    bench.qmp.set_link("nic0", True)
    bench.nic.reset()
    bench.nic.registers.write("MISC_CAUSE", COUNT_MASK)
    (pair,) = bench.nic.start(0)
    bench.cable.waiting()
    pair.tx.send(frame(61))
    while bench.cable.receive() != frame(61):
        pass  # what the wire still held
    bench.cable.send(frame(62))
    assert pair.rx.receive()[-1].data == frame(62)
