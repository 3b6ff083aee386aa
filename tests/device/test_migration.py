# SPDX-License-Identifier: GPL-2.0-or-later
"""The device's state is saved in the middle of traffic and goes on in another QEMU; a false state is refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from labnic.qtest import wait_until
from labnic.rings import QueuePair
from labnic.softnic import Nic

from .bench import HW, Bench, BenchOptions, MakeBench
from .frames import STRANGER, frame, numbered
from .stream import Stream
from .test_registers import dump
from .test_rss import ALL_KINDS, KEY, TABLE_SIZE, VECTORS, packet

RAM = 32 << 20
SMALL = BenchOptions(ram=RAM)
ERR = HW.enum("ERR")


def save(bench: Bench, path: Path) -> Path:
    """Write the machine's state to a file; the machine stands still afterwards."""
    bench.qmp.execute("migrate", uri=f"exec:cat > {path}")
    states: list[str] = []

    def done() -> bool:
        states.append(bench.qmp.execute("query-migrate").get("status", "setup"))
        return states[-1] in ("completed", "failed")

    wait_until(done, "the state to be written", limit=20)
    assert states[-1] == "completed"
    return path


# QEMU would tell the network about the move with frames of its own: zero rounds of announcements.
WAITING = BenchOptions(
    attach=False, ram=RAM, arguments=("-global", "migration.announce-rounds=0", "-incoming", "defer")
)


def begin_load(make_bench: MakeBench, path: Path, **properties: object) -> Bench:
    """Start a machine and let it take its state from a file."""
    bench = make_bench(WAITING, **properties)
    bench.qmp.execute("migrate-incoming", uri=f"exec:cat {path}")
    return bench


def load(make_bench: MakeBench, path: Path, state: str = "running", **properties: object) -> Bench:
    """Start a machine from a file and wait until it is in the state that the saved one was in."""
    bench = begin_load(make_bench, path, **properties)
    wait_until(lambda: bench.qmp.query_status() == state, "the state to be loaded", limit=20)
    return bench


def move(bench: Bench, make_bench: MakeBench, folder: Path) -> Bench:
    """Bring the machine into another QEMU; whoever drives the old one drives the new one from then on."""
    target = load(make_bench, save(bench, folder / "state"))
    bench.qtest.follow(target.qtest)
    return target


def occupied(nic: Nic) -> QueuePair:
    """A device with something to remember in every corner."""
    pairs = nic.start(0, 3, tx_size=128, rx_size=256)
    nic.set_mac(STRANGER)
    for slot in (0, 64, 127):
        nic.set_slot(slot, bytes([2, slot, 0, 0, 0, 255]))
    nic.qtest.writel(nic.registers.address("ADDR_SLOT", 5), 0x1234_5678)
    nic.set_rss(KEY, [number % 5 for number in range(TABLE_SIZE)], ALL_KINDS[:4])
    nic.registers.put("MAX_FRAME", LEN=1234)
    nic.registers.put("RX_MODE", BROADCAST=1, ALLMULTI=1)
    nic.registers.put("MISC_ENABLE", LINK=1)
    nic.registers.put("TX_CTRL", 6, ENABLE=1)
    return pairs[0]


def test_every_register_and_counter_is_the_same(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench(SMALL)
    occupied(bench.nic)
    before = dump(bench.nic)
    counters = bench.nic.registers.counters()
    move(bench, make_bench, tmp_path)
    assert dump(bench.nic) == before
    after = bench.nic.registers.counters()
    # The start of the machine makes the queues look at their rings.
    moved = {name for name in counters if after[name] != counters[name]}
    assert moved <= {"mmio_reads", "dma_reads", "dma_writes"}
    assert before["TX_STATUS[6]"] == ERR.RING_SIZE


def test_a_blocked_wire_loses_and_repeats_no_frame(make_bench: MakeBench, tmp_path: Path) -> None:
    """What the old QEMU has put into its wire and what the new one sends are together all frames, once, in order."""
    bench = make_bench(SMALL)
    (pair,) = bench.nic.start(0, tx_size=1024)
    frames = numbered(700, 200)
    for one in frames:
        pair.tx.push(one)
    pair.tx.kick()
    target = move(bench, make_bench, tmp_path)
    first = bench.cable.waiting()
    assert 0 < len(first) < len(frames)
    assert first + target.cable.collect(len(frames) - len(first)) == frames
    pair.tx.wait_consumed()
    assert target.cable.waiting() == []
    assert bench.nic.registers.counter("tx_frames") == len(frames)


def test_rings_go_on_at_their_index_and_phase(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench(SMALL)
    (pair,) = bench.nic.start(0)
    for number in range(100):
        pair.tx.send(frame(60, seed=number))
        pair.tx.wait_consumed()
        bench.cable.receive()
        bench.cable.send(frame(80, seed=number))
        pair.rx.receive()
        pair.rx.fill()
        pair.rx.kick()
    target = move(bench, make_bench, tmp_path)
    for number in range(100):
        pair.tx.send(frame(60, seed=number))
        assert target.cable.receive() == frame(60, seed=number)
        pair.tx.wait_consumed()
        target.cable.send(frame(80, seed=number))
        (received,) = pair.rx.receive()
        assert received.data == frame(80, seed=number)
        pair.rx.fill()
        pair.rx.kick()
    assert pair.tx.head == pair.rx.head == 200


def test_a_starved_ring_wakes_up_in_the_new_machine(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench(SMALL)
    (pair,) = bench.nic.start(0)
    bench.cable.send(*numbered(64))
    assert len(pair.rx.receive(64)) == 64
    target = move(bench, make_bench, tmp_path)
    target.cable.send(*numbered(5, first=64))
    pair.rx.fill()
    pair.rx.kick()
    assert [received.data for received in pair.rx.receive(5)] == numbered(5, first=64)


def test_frames_published_while_the_machine_stands_are_sent_by_the_new_one(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    bench = make_bench(SMALL)
    (pair,) = bench.nic.start(0)
    bench.qmp.execute("stop")
    for one in numbered(10):
        pair.tx.push(one)
    pair.tx.ring_doorbell()
    assert bench.cable.waiting() == []
    target = load(make_bench, save(bench, tmp_path / "state"), "paused")
    bench.qtest.follow(target.qtest)
    target.qmp.cont()
    assert target.cable.collect(10) == numbered(10)
    pair.tx.wait_consumed()


def test_events_and_masked_messages_are_remembered(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench(SMALL)
    nic = bench.nic
    first, second = nic.start(0, 1)
    nic.msix.mask(nic.queue_vector(0), True)
    first.tx.arm()
    first.tx.send(frame())
    first.tx.wait_consumed()
    second.tx.arm()
    target = move(bench, make_bench, tmp_path)
    assert nic.msix.pending(nic.queue_vector(0))
    nic.msix.mask(nic.queue_vector(0), False)
    assert nic.interrupted(nic.queue_vector(0))
    second.tx.send(frame(61))
    assert target.cable.receive() == frame(61)
    assert nic.interrupted(nic.queue_vector(1))
    assert nic.registers.counter("irq_queue") == 2


def test_filter_and_steering_are_in_force(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench(SMALL)
    pair = occupied(bench.nic)
    target = move(bench, make_bench, tmp_path)
    inside, outside = bytes([2, 127, 0, 0, 0, 255]), bytes([2, 126, 0, 0, 0, 255])
    target.cable.send(frame(to=outside), frame(to=inside), frame(to=STRANGER))
    assert [received.data[:6] for received in pair.rx.receive(2)] == [inside, STRANGER]
    bench.nic.registers.put("RX_MODE", PROMISC=1)
    bench.nic.set_rss(KEY, [0] * TABLE_SIZE, ALL_KINDS)
    target.cable.send(packet(VECTORS[0], 6))
    assert pair.rx.receive()[-1].hash == VECTORS[0].ports


def test_a_link_that_is_down_only_in_the_old_machine_comes_up_with_an_interrupt(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    bench = make_bench(SMALL)
    bench.qmp.set_link("nic0", False)
    bench.nic.registers.put("MISC_CAUSE", LINK=1)
    bench.nic.registers.put("MISC_ENABLE", LINK=1)
    move(bench, make_bench, tmp_path)
    assert bench.nic.registers.field("LINK", "UP") == 1
    assert bench.nic.interrupted(HW.constants.VECTOR_MISC)


def test_the_old_machine_goes_on_when_it_is_told_to(make_bench: MakeBench, tmp_path: Path) -> None:
    """As after a failed migration: what it had not sent, it sends."""
    bench = make_bench(SMALL)
    (pair,) = bench.nic.start(0, tx_size=1024)
    for one in numbered(700, 200):
        pair.tx.push(one)
    pair.tx.kick()
    save(bench, tmp_path / "state")
    bench.qmp.cont()
    assert bench.cable.collect(700) == numbered(700, 200)
    pair.tx.wait_consumed()


def test_a_stopped_machine_changes_no_memory(make_bench: MakeBench) -> None:
    bench = make_bench(SMALL)
    (pair,) = bench.nic.start(0)
    bench.qmp.execute("stop")
    before = bench.qtest.read(pair.rx.arena, 4096), bench.qtest.read(pair.rx.completions, 1024)
    bench.cable.send(*numbered(3))
    pair.tx.push(frame())
    pair.tx.ring_doorbell()
    bench.qmp.query_status()
    assert (bench.qtest.read(pair.rx.arena, 4096), bench.qtest.read(pair.rx.completions, 1024)) == before
    assert pair.tx.consumed == 0
    bench.qmp.cont()
    assert [received.data for received in pair.rx.receive(3)] == numbered(3)
    assert bench.cable.receive() == frame()


def test_counts_wrap_at_32_bits(make_bench: MakeBench, tmp_path: Path) -> None:
    """A state with counts just below 2**32: rings, events and interrupts go over the wrap as over any other count.

    Getting there by traffic would take days.
    """
    bench = make_bench(SMALL)
    pair = bench.nic.queue_pair(0).start()
    bench.nic.registers.put("RX_MODE", PROMISC=1)
    bench.nic.enable()
    near = (1 << 32) - 2 * pair.tx.size
    stream = Stream(save(bench, tmp_path / "young"))
    for queue in ("tx", "rx"):
        for field in ("ring.head", "reported"):
            stream.data = stream.with_field(f"{queue}[0].{field}", near)
    (tmp_path / "old").write_bytes(stream.data)
    target = load(make_bench, tmp_path / "old")
    bench.qtest.follow(target.qtest)
    pair.tx.jump(near)
    pair.rx.jump(near)
    pair.rx.fill()
    interrupts = 0
    for number in range(4 * pair.tx.size):
        pair.tx.arm()
        pair.tx.send(frame(60, seed=number))
        assert target.cable.receive() == frame(60, seed=number)
        pair.tx.wait_consumed()
        interrupts += bench.nic.interrupted(bench.nic.queue_vector(0))
        target.cable.send(frame(80, seed=number))
        assert pair.rx.receive()[0].data == frame(80, seed=number)
        pair.rx.fill()
        pair.rx.kick()
        pair.rx.arm(pair.rx.published + 1000)
        bench.nic.interrupted(bench.nic.queue_vector(0))
    assert pair.tx.head == pair.rx.head == 2 * pair.tx.size
    assert interrupts == 4 * pair.tx.size
    assert (pair.tx.error, pair.rx.error) == (ERR.NONE, ERR.NONE)


# States that no device could have been in


def outcome(make_bench: MakeBench, path: Path, **properties: object) -> tuple[int | None, str]:
    """How QEMU takes a stream: its exit status, None while it runs on, and what it said."""
    bench = begin_load(make_bench, path, **properties)

    def settled() -> bool:
        if bench.process.poll() is not None:
            return True
        return bench.loaded()

    wait_until(settled, "QEMU to take or refuse the stream", limit=20)
    alive = bench.alive()
    return (None if alive else bench.process.wait(10)), bench.messages()


@pytest.fixture(scope="module")
def good(new_bench: MakeBench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a device with something in every corner."""
    with new_bench(SMALL) as bench:
        occupied(bench.nic)
        return save(bench, tmp_path_factory.mktemp("state") / "good")


@pytest.fixture
def saved(good: Path) -> Stream:
    """The same, understood."""
    return Stream(good)


def ring(queue: str, field: str) -> str:
    """Path of a ring's field in the stream."""
    return f"{queue}[0].ring.{field}"


FALSE_STATES = {
    "feature that does not exist": ("drv_features", 0xFFFF_FFFF),
    "reserved bit of CTRL": ("ctrl", 0x3),
    "frame limit beyond its bits": ("max_frame", 0xFFFF_FFFF),
    "receive mode that does not exist": ("rx_mode", 0x8),
    "address of more than 48 bits": ("mac", 1 << 63),
    "cause that does not exist": ("misc_cause", 0x80),
    "enabled cause that does not exist": ("misc_enable", 0x80),
    "error of a queue that does not exist": ("queue_errors", 0x8000_8000),
    "kind of hash that does not exist": ("rss_ctrl", 0x40),
    "slot with a reserved bit": ("slot[127]", 1 << 63),
    "slot in force with a reserved bit": ("slot_used[0]", 1 << 49),
    "status block at zero": ("status_base[0]", 0),
    "status block misaligned": ("status_base[0]", 0x10_0040),
    "TX ring of no size": (ring("tx", "size"), 0),
    "TX ring of a huge size": (ring("tx", "size"), 0x8000_0000),
    "TX ring of an odd size": (ring("tx", "size"), 100),
    "TX ring at zero": (ring("tx", "base"), 0),
    "TX report beyond the head": ("tx[0].reported", 0x7FFF_FFFF),
    "TX error that does not exist": ("tx[0].error", 200),
    "TX queue that does not exist": ("tx[15].ring.enabled", 1),
    "RX ring of a huge size": (ring("rx", "size"), 0xFFFF_FFFF),
    "RX ring misaligned": (ring("rx", "base"), 0x10_0001),
    "RX completion ring at zero": ("rx[0].cmpl_base", 0),
    "RX report beyond the head": ("rx[0].reported", 0x7FFF_FFFF),
    "RX queue that does not exist": ("rx[8].ring.enabled", 1),
    "other number of queues": ("num_queues", 16),
}


@pytest.mark.parametrize("false", FALSE_STATES)
def test_a_state_that_cannot_be_is_refused(make_bench: MakeBench, saved: Stream, tmp_path: Path, false: str) -> None:
    field, value = FALSE_STATES[false]
    path = tmp_path / "bad"
    path.write_bytes(saved.with_field(field, value))
    status, words = outcome(make_bench, path)
    assert status == 1, words
    assert "labnic" in words


def test_the_stream_is_understood_by_these_tests(make_bench: MakeBench, saved: Stream, tmp_path: Path) -> None:
    """A value changed to a possible one is loaded: the offsets are right, and the tests above refuse for a reason."""
    assert saved.value("num_queues") == HW.constants.DEFAULT_QUEUES
    assert saved.value("max_frame") == 1234
    path = tmp_path / "other"
    path.write_bytes(saved.with_field("max_frame", 4321))
    bench = load(make_bench, path)
    assert bench.qtest.readl(bench.registers_base() + HW.reg("MAX_FRAME").offset) == 4321


@pytest.mark.parametrize("queues", [1, 7, 9, 16])
def test_a_device_with_other_queues_refuses_the_state(make_bench: MakeBench, good: Path, queues: int) -> None:
    status, words = outcome(make_bench, good, queues=queues)
    assert status == 1, words
    assert "queues" in words or "labnic" in words


def test_a_device_without_a_feature_that_the_driver_uses_refuses_the_state(make_bench: MakeBench, good: Path) -> None:
    status, words = outcome(make_bench, good, rss="off")
    assert status == 1, words
    assert "the driver uses a feature that this device does not have" in words


def test_a_device_without_a_feature_that_the_driver_does_not_use_takes_the_state(
    make_bench: MakeBench, good: Path
) -> None:
    status, words = outcome(make_bench, good, **{"tx-csum": "off"})
    assert status is None, words


def test_a_stream_that_ends_early_is_refused(make_bench: MakeBench, saved: Stream, tmp_path: Path) -> None:
    at, _ = saved.fields["tx[3].ring.head"]
    path = tmp_path / "short"
    path.write_bytes(saved.data[:at])
    status, words = outcome(make_bench, path)
    assert status == 1, words


@pytest.mark.parametrize("seed", range(8))
def test_noise_in_the_state_never_crashes(make_bench: MakeBench, saved: Stream, tmp_path: Path, seed: int) -> None:
    """Several fields random at once: refused, or loaded and then able to take traffic without harm."""
    generator = random.Random(seed)
    names = [name for name in saved.fields if not name.startswith("parent_obj") and name != "num_queues"]
    stream = saved
    for name in generator.sample(names, 12):
        stream.data = stream.with_field(name, generator.getrandbits(8 * saved.fields[name][1]))
    path = tmp_path / "noise"
    path.write_bytes(stream.data)
    status, words = outcome(make_bench, path)
    assert status in (None, 1), f"seed {seed}: {words}"
