# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults that the tester sets: each kind does what the map says, when it was told to, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from labnic.errors import UsageError
from labnic.fault import DeviceGoneError, FaultDevice
from labnic.pci import CAP_MSIX, PciAddress, PciBus, PciDevice, PciError
from labnic.qmp import QmpCommandError
from labnic.qtest import ConditionTimeoutError, wait_until
from labnic.snapshot import Snapshots

from .bench import HW, SLOT, Bench, BenchOptions, MakeBench, QemuFiles, boot_failure, settle
from .frames import frame, numbered
from .test_migration import SMALL, move
from .test_unplug import NATIVE, unplug

GONE = 0xFFFF_FFFF
MISC = HW.constants.VECTOR_MISC


@pytest.fixture
def faults(bench: Bench) -> FaultDevice:
    """The tester's side of the device."""
    return bench.faults


def quiet(bench: Bench, vector: int) -> bool:
    """Whether the vector did not fire; what was under way before the answer over QMP has happened."""
    bench.qmp.query_status()
    return not bench.nic.interrupted(vector)


# TX


def test_withheld_completions_are_not_reported_but_their_frames_are_sent(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    pair.tx.arm()
    fault = faults.set("tx-withhold", queue=0, count=0)
    for one in numbered(5):
        pair.tx.send(one)
    assert bench.cable.collect(5) == numbered(5)
    assert pair.tx.head == 5
    assert pair.tx.consumed == 0
    assert quiet(bench, bench.nic.queue_vector(0))
    assert fault.hits == fault.seen == 5
    fault.clear()
    pair.tx.wait_consumed()
    wait_until(lambda: bench.nic.interrupted(bench.nic.queue_vector(0)), "the interrupt that was withheld")
    pair.tx.send(frame(61))
    assert bench.cable.receive() == frame(61)
    pair.tx.wait_consumed()


def test_other_queues_report_while_one_withholds(bench: Bench, faults: FaultDevice) -> None:
    first, second = bench.nic.start(0, 1)
    with faults.set("tx-withhold", queue=1, count=0):
        first.tx.send(frame())
        second.tx.send(frame())
        first.tx.wait_consumed()
        assert second.tx.consumed == 0


def test_the_report_after_a_withheld_one_has_everything(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    fault = faults.set("tx-withhold", queue=0)
    pair.tx.send(frame())
    assert pair.tx.consumed == 0
    pair.tx.send(frame())
    pair.tx.wait_consumed()
    assert (fault.seen, fault.hits) == (2, 1)


def test_a_corrupt_consumed_count_is_off_by_the_value(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    faults.set("tx-consumed", queue=0, value=7)
    pair.tx.send(frame())
    assert pair.tx.consumed == 8
    pair.tx.send(frame())
    assert pair.tx.consumed == 2


def test_a_consumed_count_can_be_too_small(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    faults.set("tx-consumed", value=-2, after=1)
    pair.tx.send(frame())
    assert pair.tx.consumed == 1
    pair.tx.send(frame())
    assert pair.tx.consumed == 0


# Interrupts


def test_a_lost_interrupt_does_not_come_and_the_next_does(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    vector = bench.nic.queue_vector(0)
    fault = faults.set("irq-lose", queue=0)
    pair.tx.arm()
    pair.tx.send(frame())
    pair.tx.wait_consumed()
    assert quiet(bench, vector)
    pair.tx.arm()
    pair.tx.send(frame())
    assert bench.nic.interrupted(vector)
    assert (fault.seen, fault.hits) == (2, 1)
    assert bench.nic.registers.counter("irq_queue") == 1


def test_an_interrupt_of_another_queue_is_not_lost(bench: Bench, faults: FaultDevice) -> None:
    first, second = bench.nic.start(0, 1)
    faults.set("irq-lose", queue=0, count=0)
    for pair in (first, second):
        pair.tx.arm()
        pair.tx.send(frame())
    assert quiet(bench, bench.nic.queue_vector(0))
    assert bench.nic.interrupted(bench.nic.queue_vector(1))


def test_the_misc_interrupt_can_be_lost(bench: Bench, faults: FaultDevice) -> None:
    bench.nic.registers.put("MISC_ENABLE", LINK=1)
    faults.set("irq-lose", misc=True)
    bench.qmp.set_link("nic0", False)
    assert quiet(bench, MISC)
    bench.nic.registers.write("MISC_CAUSE", GONE)
    bench.qmp.set_link("nic0", True)
    assert bench.nic.interrupted(MISC)


def test_a_delayed_interrupt_comes_later(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    vector = bench.nic.queue_vector(0)
    faults.set("irq-delay", queue=0, value=300_000)
    pair.tx.arm()
    pair.tx.send(frame())
    pair.tx.wait_consumed()
    assert bench.nic.registers.counter("irq_queue") == 0
    wait_until(lambda: bench.nic.interrupted(vector), "the delayed interrupt")
    assert bench.nic.registers.counter("irq_queue") == 1


def test_an_interrupt_that_is_repeated_comes_as_often_as_it_was_told(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    faults.set("irq-repeat", queue=0, value=4)
    pair.tx.arm()
    pair.tx.send(frame())
    assert bench.nic.registers.counter("irq_queue") == 5
    assert bench.nic.interrupted(bench.nic.queue_vector(0))


@pytest.mark.parametrize("queue", [0, 3])
def test_a_spurious_interrupt_comes_at_once(bench: Bench, faults: FaultDevice, queue: int) -> None:
    faults.set("irq-spurious", queue=queue)
    assert bench.nic.interrupted(bench.nic.queue_vector(queue))
    assert bench.nic.registers.counter("irq_queue") == 1
    assert bench.nic.registers.counter("irq_misc") == 0


def test_spurious_misc_interrupts_come_with_their_period_until_their_count(bench: Bench, faults: FaultDevice) -> None:
    fault = faults.set("irq-spurious", misc=True, count=5, value=2000)
    wait_until(lambda: bench.nic.registers.counter("irq_misc") == 5, "five interrupts")
    assert fault.hits == 5
    assert bench.nic.interrupted(MISC)


def test_a_storm_of_interrupts_ends_when_it_is_cleared(bench: Bench, faults: FaultDevice) -> None:
    with faults.set("irq-spurious", misc=True, count=0, value=100):
        wait_until(lambda: bench.nic.registers.counter("irq_misc") > 20, "interrupts")
    count = bench.nic.registers.counter("irq_misc")
    bench.qmp.query_status()
    assert bench.nic.registers.counter("irq_misc") == count


# RX


def test_a_stalled_queue_holds_frames_until_it_is_cleared(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    fault = faults.set("rx-stall", queue=0, count=0)
    bench.cable.send(*numbered(3))
    wait_until(lambda: fault.hits > 0, "the first frame to find the queue stalled")
    assert pair.rx.frames() == []
    fault.clear()
    assert [one.data for one in pair.rx.receive(3)] == numbered(3)


def test_a_stall_with_a_count_ends_by_itself_and_loses_nothing(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    fault = faults.set("rx-stall", queue=0, count=4)
    bench.cable.send(*numbered(3))
    assert [one.data for one in pair.rx.receive(3)] == numbered(3)
    assert fault.hits == 4


def test_a_stall_without_backpressure_drops_frames(make_bench: MakeBench) -> None:
    bench = make_bench(backpressure="off")
    (pair,) = bench.nic.start(0)
    bench.faults.set("rx-stall", queue=0, count=2)
    bench.cable.send(*numbered(3))
    assert [one.data for one in pair.rx.receive()] == numbered(1, first=2)
    assert bench.nic.registers.counter("rx_no_buffer") == 2


def test_a_completion_has_the_wrong_length(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    faults.set("rx-length", queue=0, value=0xFFFF, after=1)
    bench.cable.send(*numbered(3))
    settle(bench, "frames", 3, "rx_frames")
    assert [one.length for one in pair.rx.collect()] == [64, 0xFFFF, 64]


def test_a_completion_names_another_buffer(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    faults.set("rx-index", queue=0, value=5, after=1)
    bench.cable.send(*numbered(3))
    settle(bench, "frames", 3, "rx_frames")
    assert [one.buffer for one in pair.rx.collect()] == [0, 6, 2]


def test_a_completion_has_the_wrong_verdict(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    faults.set("rx-verdict", queue=0, value=HW.enum("VERDICT").GOOD, after=1)
    bench.cable.send(*numbered(3))
    settle(bench, "frames", 3, "rx_frames")
    assert [HW.enum("VERDICT").name_of(one.verdict) for one in pair.rx.collect()] == ["NONE", "GOOD", "NONE"]


def test_a_completion_seems_not_to_be_there(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    faults.set("rx-phase", queue=0, after=1)
    bench.cable.send(*numbered(3))
    settle(bench, "frames", 3, "rx_frames")
    assert [one.buffer for one in pair.rx.collect()] == [0]


def test_completions_of_other_queues_stay_right(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    fault = faults.set("rx-length", queue=1, value=0, count=0)
    bench.cable.send(frame())
    assert pair.rx.receive()[0].data == frame()
    assert fault.seen == 0


# DMA


def test_a_read_of_memory_that_fails_stops_the_queue(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    fault = faults.set("dma-read")
    pair.tx.send(frame())
    assert pair.tx.error == HW.enum("ERR").DMA_READ
    assert not pair.tx.enabled
    assert fault.hits == 1
    assert bench.cable.waiting() == []


def test_a_write_of_memory_that_fails_stops_the_queue(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    faults.set("dma-write")
    bench.cable.send(frame())
    wait_until(lambda: pair.rx.error == HW.enum("ERR").DMA_WRITE, "the RX queue to stop")
    assert bench.nic.registers.counter("rx_dma_errors") == 1


# Registers


def test_a_register_reads_wrong_for_the_nth_read(bench: Bench, faults: FaultDevice) -> None:
    fault = faults.set("register", register="ID", value=0x1234, after=2, count=2)
    right = HW.reg("ID").reset
    assert [bench.nic.registers.read("ID") for _ in range(5)] == [right, right, 0x1234, 0x1234, right]
    assert (fault.seen, fault.hits) == (5, 2)
    assert bench.nic.registers.read("VERSION") == HW.reg("VERSION").reset


def test_one_half_of_a_wide_register_can_read_wrong(bench: Bench, faults: FaultDevice) -> None:
    mac = bench.nic.registers.read("PERM_MAC")
    faults.set("register", register="PERM_MAC_HI", value=0)
    assert bench.nic.registers.read("PERM_MAC") == mac & 0xFFFF_FFFF
    assert bench.nic.registers.read("PERM_MAC") == mac


# Gone and hung


def test_a_gone_function_reads_all_ones_everywhere(bench: Bench, faults: FaultDevice) -> None:
    bench.nic.start(0)
    faults.set("gone")
    assert bench.nic.registers.read("ID") == GONE
    assert bench.nic.registers.read("TX_CTRL", 0) == GONE
    assert bench.qtest.readl(bench.nic.msix.table) == GONE
    assert bench.pci.read(0, 4) == GONE
    assert bench.pci.read(4, 2) == 0xFFFF
    assert not bench.pci.present()


def test_a_gone_function_does_neither_dma_nor_interrupts(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    pair.rx.arm()
    pair.tx.arm()
    with faults.set("gone"):
        pair.tx.push(frame())
        pair.tx.ring_doorbell()
        bench.cable.send(frame(61))
        bench.cable.wait_taken()
        assert quiet(bench, bench.nic.queue_vector(0))
        assert bench.cable.waiting() == []
        assert pair.tx.consumed == 0
        assert pair.rx.frames() == []


def test_a_function_that_comes_back_is_as_after_a_reset(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    pair.tx.send(frame())
    bench.cable.collect(1)
    faults.set("gone").clear()
    assert bench.pci.present()
    nic = bench.attach()
    assert nic.registers.read("CTRL") == 0
    assert nic.registers.counter("tx_frames") == 0
    (pair,) = nic.start(0)
    pair.tx.send(frame(61))
    assert bench.cable.receive() == frame(61)


def test_a_function_can_go_at_the_nth_access(bench: Bench, faults: FaultDevice) -> None:
    faults.set("gone", after=3)
    right = HW.reg("ID").reset
    assert [bench.nic.registers.read("ID") for _ in range(5)] == [right] * 3 + [GONE] * 2


def test_a_hung_device_keeps_its_registers_and_does_nothing(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    pair.tx.arm()
    before = bench.nic.registers.counters()
    with faults.set("hang"):
        bench.nic.registers.write("CTRL", 0)
        pair.tx.push(frame())
        pair.tx.ring_doorbell()
        bench.cable.send(frame(61))
        bench.cable.wait_taken()
        assert bench.nic.registers.read("CTRL") == 1
        assert bench.nic.registers.field("TX_CTRL", "ENABLE", 0) == 1
        assert bench.cable.waiting() == []
        assert pair.tx.consumed == 0
        bench.qmp.set_link("nic0", False)
        assert bench.nic.registers.field("LINK", "UP") == 1
        now = bench.nic.registers.counters()
        # Reading them was counted before the device hung.
        moved = {name for name in now if now[name] != before[name]} - {"mmio_reads"}
        assert moved == set()


def test_a_hung_device_goes_on_where_it_was(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    with faults.set("hang"):
        pair.tx.push(frame())
        pair.tx.ring_doorbell()
        bench.cable.send(frame(61))
        bench.cable.wait_taken()
    assert bench.cable.receive() == frame()
    assert pair.rx.receive()[0].data == frame(61)
    pair.tx.wait_consumed()


def test_a_hung_device_comes_back_reset_when_a_write_was_ignored(bench: Bench, faults: FaultDevice) -> None:
    """Its rings may be memory that the driver has freed since."""
    (pair,) = bench.nic.start(0)
    with faults.set("hang"):
        bench.nic.registers.put("TX_CTRL", 0, ENABLE=0)
        pair.tx.push(frame())
    assert bench.nic.registers.read("CTRL") == 0
    assert not pair.tx.enabled
    bench.qmp.query_status()
    assert bench.cable.waiting() == []


# Which events


def test_a_fault_lets_events_pass_first_and_strikes_as_often_as_it_was_told(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    fault = faults.set("irq-lose", queue=0, after=2, count=3)
    fired = []
    for _ in range(8):
        pair.tx.arm()
        pair.tx.send(frame())
        pair.tx.wait_consumed()
        fired.append(not quiet(bench, bench.nic.queue_vector(0)))
    assert fired == [True] * 2 + [False] * 3 + [True] * 3
    assert (fault.seen, fault.hits) == (8, 3)


def struck(bench: Bench, faults: FaultDevice, seed: int) -> list[bool]:
    """Which of 60 reads a fault by chance strikes."""
    with faults.set("register", register="VERSION", value=0, chance=400, count=0, seed=seed):
        return [bench.nic.registers.read("VERSION") == 0 for _ in range(60)]


def test_chance_is_the_same_again_for_the_same_seed(bench: Bench, faults: FaultDevice) -> None:
    first = struck(bench, faults, 1)
    assert first == struck(bench, faults, 1)
    assert first != struck(bench, faults, 2)
    assert 10 < sum(first) < 40


def test_the_first_of_two_faults_that_strike_decides(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    first = faults.set("tx-consumed", queue=0, value=5)
    second = faults.set("tx-consumed", queue=0, value=6, count=0)
    pair.tx.send(frame())
    assert pair.tx.consumed == 6
    pair.tx.send(frame())
    assert pair.tx.consumed == 8
    assert (first.hits, second.hits) == (1, 1)
    assert (first.seen, second.seen) == (2, 2)


# The list


def test_set_faults_are_listed_with_their_arguments(bench: Bench, faults: FaultDevice) -> None:
    faults.set("irq-delay", misc=True, value=10, after=1, count=2, chance=500, seed=9)
    faults.set("register", register=8, value=1)
    first, second = faults.faults()
    assert (first.kind, first.misc, first.queue, first.value) == ("irq-delay", True, None, 10)
    assert (first.after, first.count, first.chance, first.seed) == (1, 2, 500, 9)
    assert (second.kind, second.register, second.value, second.count) == ("register", 8, 1, 1)
    assert second.id > first.id


def test_clearing_one_fault_leaves_the_others(faults: FaultDevice) -> None:
    first, second = faults.set("irq-lose"), faults.set("irq-lose")
    first.clear()
    assert [fault.id for fault in faults.faults()] == [second.id]
    faults.clear()
    assert faults.faults() == []


def test_an_unknown_id_is_refused_with_those_that_are_set(faults: FaultDevice) -> None:
    fault = faults.set("irq-lose")
    with pytest.raises(UsageError, match="no fault 999 is set"):
        faults.clear(999)
    assert [state.id for state in faults.faults()] == [fault.id]


# Bad input, as someone sends it who does not use the Python side


def send(bench: Bench, name: str = "fault", **value: object) -> None:
    """Set a property of the device with nothing in between."""
    whole = value.get("whole", value)
    bench.qmp.execute("qom-set", path="/machine/peripheral/nic0", property=name, value=whole)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"kind": "nothing"}, "there is no fault 'nothing'; there are: tx-withhold, .*register"),
        ({}, "kind"),
        ({"kind": 7}, "kind"),
        ({"kind": "tx-withhold", "queue": 8}, "'queue' is 8, it must be 0 to 7"),
        ({"kind": "tx-withhold", "queue": -1}, "'queue' is -1"),
        ({"kind": "tx-withhold", "queue": "0"}, "queue"),
        ({"kind": "tx-withhold", "value": 1}, "takes no 'value'"),
        ({"kind": "tx-withhold", "misc": True}, "takes no 'misc'"),
        ({"kind": "tx-withhold", "register": 0}, "takes no a? ?'register'"),
        ({"kind": "tx-withhold", "colour": 1}, "colour"),
        ({"kind": "tx-withhold", "count": -1}, "'count' is -1"),
        ({"kind": "tx-withhold", "after": 1 << 32}, "'after' is 4294967296"),
        ({"kind": "tx-withhold", "chance": 0}, "'chance' is 0, it must be 1 to 1000"),
        ({"kind": "tx-withhold", "chance": 1001}, "'chance' is 1001"),
        ({"kind": "tx-withhold", "seed": -1}, "'seed' is -1"),
        ({"kind": "irq-lose", "misc": True, "queue": 0}, "about a 'queue' or about 'misc'"),
        ({"kind": "irq-delay"}, "needs a 'value'"),
        ({"kind": "irq-delay", "value": 0}, "'value' is 0, it must be 1 to"),
        ({"kind": "hang", "queue": 0}, "takes no 'queue'"),
        ({"kind": "gone", "count": 1}, "lasts until it is cleared"),
        ({"kind": "register", "value": 0}, "needs the offset of a 'register'"),
        ({"kind": "register", "value": 0, "register": 2}, "must be a multiple of 4"),
        ({"kind": "register", "value": 0, "register": 0x10000}, "'register' is 65536"),
    ],
)
def test_the_device_refuses_what_a_fault_cannot_be(bench: Bench, value: dict[str, object], says: str) -> None:
    with pytest.raises(QmpCommandError, match=says):
        send(bench, **value)
    assert bench.faults.faults() == []


@pytest.mark.parametrize("whole", [1, "hang", [], None])
def test_the_device_refuses_what_is_no_structure(bench: Bench, whole: object) -> None:
    with pytest.raises(QmpCommandError):
        send(bench, whole=whole)


def test_the_device_refuses_one_fault_more_than_it_has_room_for(bench: Bench) -> None:
    for _ in range(32):
        send(bench, kind="irq-lose")
    with pytest.raises(QmpCommandError, match="32 faults are set"):
        send(bench, kind="irq-lose")


def test_the_device_refuses_to_clear_what_is_not_set(bench: Bench) -> None:
    with pytest.raises(QmpCommandError, match="no fault has the id 77"):
        send(bench, "fault-clear", whole=77)


# What is not there


def test_a_wait_for_a_withheld_completion_ends(bench: Bench, faults: FaultDevice) -> None:
    (pair,) = bench.nic.start(0)
    with faults.set("tx-withhold", count=0):
        pair.tx.send(frame())
        with pytest.raises(ConditionTimeoutError):
            pair.tx.wait_consumed(limit=0.2)


def test_a_link_that_flaps_changes_as_often_as_it_was_told(bench: Bench, faults: FaultDevice) -> None:
    bench.nic.registers.put("MISC_ENABLE", LINK=1)
    fault = faults.set("link-flap", value=20, count=3)
    assert bench.nic.registers.field("LINK", "UP") == 0
    assert bench.nic.interrupted(MISC)
    settle(bench, "the flaps", 6, "link_changes")
    assert bench.nic.registers.field("LINK", "UP") == 1
    assert fault.hits == 3


def test_a_flap_that_is_cleared_leaves_the_link_up(bench: Bench, faults: FaultDevice) -> None:
    with faults.set("link-flap", value=60_000):
        assert bench.nic.registers.field("LINK", "UP") == 0
    assert bench.nic.registers.field("LINK", "UP") == 1


# The machine around it


def test_a_reset_of_any_kind_leaves_faults_set(bench: Bench, faults: FaultDevice) -> None:
    fault = faults.set("register", register="VERSION", value=0, count=0)
    bench.nic.reset()
    assert bench.nic.registers.read("VERSION") == 0
    nic = bench.reset()
    assert nic.registers.read("VERSION") == 0
    assert fault.hits == 2


def test_a_loaded_state_has_no_faults(make_bench: MakeBench, tmp_path: Path) -> None:
    """A restored machine is a fresh one; what was withheld in the old one is reported in the new one."""
    bench = make_bench(SMALL)
    (pair,) = bench.nic.start(0)
    bench.faults.set("tx-withhold", count=0)
    bench.faults.set("link-flap", value=60_000)
    pair.tx.send(frame())
    assert pair.tx.consumed == 0
    target = move(bench, make_bench, tmp_path)
    assert target.faults.faults() == []
    pair.tx.wait_consumed()
    assert bench.nic.registers.field("LINK", "UP") == 1


def test_the_faults_of_the_machine_that_loads_are_cleared(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench(SMALL)
    bench.nic.start(0)
    snapshots = Snapshots(bench.qmp, tmp_path)
    snapshots.save("before")
    bench.faults.set("gone")
    bench.faults.set("irq-spurious", misc=True, count=0)
    snapshots.load("before")
    assert bench.faults.faults() == []
    assert bench.nic.registers.read("ID") == HW.reg("ID").reset
    assert bench.nic.registers.read("CTRL") == 1


def test_a_device_that_has_left_has_no_faults(make_bench: MakeBench) -> None:
    bench = make_bench(BenchOptions(behind_port=True, arguments=NATIVE))
    fault = bench.faults.set("irq-lose")
    unplug(bench)
    with pytest.raises(DeviceGoneError, match="no device nic0"):
        fault.state()


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("irq-spurious", {"misc": True, "count": 0, "value": 10}),
        ("link-flap", {"count": 0, "value": 1}),
        ("irq-delay", {"queue": 0, "value": 200_000}),
        ("tx-withhold", {"count": 0}),
        ("rx-stall", {"count": 0}),
        ("hang", {}),
        ("gone", {}),
    ],
)
def test_a_device_leaves_with_a_fault_set(make_bench: MakeBench, kind: str, arguments: dict[str, int]) -> None:
    bench = make_bench(BenchOptions(behind_port=True, arguments=NATIVE))
    (pair,) = bench.nic.start(0)
    pair.tx.arm()
    bench.faults.set(kind, **arguments)
    pair.tx.send(frame())
    bench.cable.send(frame())
    unplug(bench)
    assert not bench.pci.present()
    for _ in range(20):
        bench.qmp.query_status()
    assert bench.alive()


# What is decided when the device is made


def test_a_device_can_have_too_few_vectors(make_bench: MakeBench) -> None:
    bench = make_bench(vectors=3)
    assert bench.nic.msix.vectors == 3
    assert bench.nic.registers.field("LIMITS", "VECTORS") == 3
    pairs = bench.nic.start(0, 7)
    for pair in pairs:
        pair.tx.arm()
        pair.tx.send(frame())
        pair.tx.wait_consumed()
    assert bench.nic.interrupted(1)
    assert bench.nic.registers.counter("irq_queue") == 1


def test_a_device_can_have_no_vectors(make_bench: MakeBench) -> None:
    bench = make_bench(BenchOptions(attach=False), vectors=0)
    bus = PciBus(bench.qtest)
    device = PciDevice(bus, PciAddress(0, SLOT))
    assert device.present()
    with pytest.raises(PciError):
        device.capability(CAP_MSIX)
    base = device.assign_bars()[HW.bar("REGS").index]
    device.enable()
    assert bench.qtest.readl(base + HW.reg("LIMITS").offset) == HW.constants.DEFAULT_QUEUES
    bench.faults.set("gone").clear()
    assert device.present()


def test_the_registers_can_have_too_little_room(make_bench: MakeBench) -> None:
    bench = make_bench(BenchOptions(attach=False), **{"regs-size": 0x8000})
    device = PciDevice(PciBus(bench.qtest), PciAddress(0, SLOT))
    assert {bar.index: bar.size for bar in device.bars()}[HW.bar("REGS").index] == 0x8000


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ("vectors=10", "property 'vectors' is 10, it must be 0 to 9"),
        ("vectors=4,queues=2", "property 'vectors' is 4, it must be 0 to 3"),
        ("regs-size=100", "property 'regs-size' is 100, it must be a power of two from 4096 to 65536"),
        ("regs-size=0x20000", "property 'regs-size' is 131072"),
    ],
)
def test_a_false_property_is_refused(
    qemu_files: QemuFiles, rom: Path, tmp_path: Path, properties: str, says: str
) -> None:
    status, words = boot_failure(qemu_files, rom, tmp_path / "log", f"labnic,{properties}")
    assert status == 1
    assert says in words
