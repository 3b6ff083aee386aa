# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults as Python sees them: what is asked of the device, and what is refused before it is asked."""

from __future__ import annotations

from typing import Any

import pytest

from labnic.config import NicConfig
from labnic.errors import UsageError
from labnic.fault import DeviceGoneError, FaultDevice, Violation, fault_arguments, hardware, register_offset
from labnic.nic import Nic
from labnic.qmp import QmpCommandError

HW = hardware()


class FakeDevice:
    """QMP with a device that keeps faults and strikes none."""

    def __init__(self) -> None:
        self.set: dict[int, dict[str, Any]] = {}
        self.wrong: list[dict[str, Any]] = []
        self.last = 0

    def execute(self, command: str, **arguments: Any) -> Any:
        assert arguments["path"] == "/machine/peripheral/eth0"
        match command, arguments["property"]:
            case "qom-get", "faults":
                return list(self.set.values())
            case "qom-set", "fault":
                self.last += 1
                rest = {"after": 0, "count": 1, "chance": 1000, "seed": 0, "seen": 0, "hits": 0}
                self.set[self.last] = {**rest, **arguments["value"], "id": self.last}
            case "qom-get", "audit":
                return self.wrong
            case "qom-set", "audit-clear":
                assert arguments["value"] is True
                self.wrong = []
            case "qom-set", "fault-clear":
                wanted = arguments["value"]
                self.set = {} if wanted == -1 else {key: one for key, one in self.set.items() if key != wanted}
            case _:
                raise AssertionError(command, arguments)
        return None


@pytest.fixture
def fake() -> FakeDevice:
    """The other end."""
    return FakeDevice()


@pytest.fixture
def device(fake: FakeDevice) -> FaultDevice:
    """A labnic of two queue pairs."""
    return FaultDevice(fake, "eth0", 2)


def test_a_fault_is_found_among_those_that_are_set(device: FaultDevice, fake: FakeDevice) -> None:
    device.set("irq-lose")
    fault = device.set("tx-withhold", queue=1, count=0)
    assert fault.id == 2
    assert fault.kind == "tx-withhold"
    fake.set[2] |= {"seen": 7, "hits": 3}
    assert (fault.seen, fault.hits) == (7, 3)
    assert fault.state().queue == 1


def test_a_cleared_fault_remembers_what_it_struck(device: FaultDevice, fake: FakeDevice) -> None:
    with device.set("irq-lose") as fault:
        fake.set[1] |= {"seen": 7, "hits": 3}
    assert device.faults() == []
    assert (fault.seen, fault.hits) == (7, 3)
    fault.clear()


def test_clearing_all_leaves_none(device: FaultDevice) -> None:
    device.set("irq-lose")
    device.set("hang")
    device.clear()
    assert device.faults() == []


def test_clearing_what_is_not_set_names_what_is(device: FaultDevice) -> None:
    device.set("irq-lose")
    with pytest.raises(UsageError) as caught:
        device.clear(5)
    assert caught.value.hint == "set are: 1"


def test_every_kind_is_taken_with_what_it_needs() -> None:
    for kind in HW.faults:
        needs: dict[str, int] = {}
        if kind.value and kind.value.default is None:
            needs["value"] = kind.value.min
        if "register" in kind.takes:
            needs["register"] = 0
        assert fault_arguments(HW, kind.name, **needs) == {"kind": kind.name, **needs}


def test_arguments_that_were_not_given_are_left_to_the_device() -> None:
    wanted = fault_arguments(HW, "irq-lose", queue=None, misc=False, after=0, count=None)
    assert wanted == {"kind": "irq-lose", "after": 0}


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        ("tx-witthold", {}, "there is no fault 'tx-witthold'; did you mean tx-withhold"),
        ("", {}, "there is no fault ''"),
        ("hang", {"queue": 0}, "takes no queue"),
        ("hang", {"value": 0}, "takes no value"),
        ("hang", {"count": 1}, "count is 1"),
        ("tx-withhold", {"queue": 2}, "queue is 2"),
        ("tx-withhold", {"queue": -1}, "queue is -1"),
        ("tx-withhold", {"queue": "0"}, "queue is '0'"),
        ("tx-withhold", {"misc": True}, "takes no misc"),
        ("irq-lose", {"misc": True, "queue": 0}, "not both"),
        ("irq-lose", {"after": -1}, "after is -1"),
        ("irq-lose", {"count": 1 << 32}, "count is 4294967296"),
        ("irq-lose", {"chance": 0}, "chance is 0"),
        ("irq-lose", {"chance": 1001}, "chance is 1001"),
        ("irq-lose", {"seed": -1}, "seed is -1"),
        ("irq-delay", {}, "needs a value in us"),
        ("irq-delay", {"value": 0}, "value is 0"),
        ("register", {"value": 0}, "there is no register None"),
        ("register", {"value": 0, "register": 6}, "no register is at 0x6"),
        ("register", {"value": 1 << 32, "register": 0}, "value is 4294967296"),
    ],
)
def test_what_a_fault_cannot_be_is_refused_with_what_it_can(kind: str, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        fault_arguments(HW, kind, 2, **arguments)
    assert caught.value.hint or "not both" in says


def test_an_unknown_kind_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError) as caught:
        fault_arguments(HW, "nothing")
    assert all(kind.name in caught.value.hint for kind in HW.faults)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("ID", HW.reg("ID").offset),
        ("TX_CTRL[3]", HW.reg("TX_CTRL", 3).offset),
        ("PERM_MAC_HI", HW.reg("PERM_MAC").offset + 4),
        ("TX_BASE_HI[1]", HW.reg("TX_BASE", 1).offset + 4),
        ("RSS_KEY[9]", HW.reg("RSS_KEY", 9).offset),
        ("rx_frames", HW.reg("rx_frames").offset),
        (0x2004, 0x2004),
    ],
)
def test_a_register_is_given_by_name_or_offset(name: str | int, place: int) -> None:
    assert register_offset(HW, name) == place


@pytest.mark.parametrize("name", ["NOTHING", "TX_CTRL", "TX_CTRL[16]", "ID[0]", "", "TX_CTRL[3", -4, 0x10000, 2, True])
def test_a_register_that_is_not_there_is_refused(name: object) -> None:
    with pytest.raises(UsageError):
        register_offset(HW, name)


def test_a_violation_reads_as_a_sentence() -> None:
    assert str(Violation("a-rule", 1, "what it was")) == "a-rule: what it was"
    assert str(Violation("a-rule", 3, "what it was", 5)) == "a-rule on queue 5, 3 times: what it was"


def test_a_device_that_was_unplugged_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: FakeDevice, command: str, **arguments: Any) -> Any:
        raise QmpCommandError(f"QEMU refused {command}: Device '{arguments['path']}' not found")

    monkeypatch.setattr(FakeDevice, "execute", refuse)
    with pytest.raises(DeviceGoneError, match="there is no device eth0"):
        FaultDevice(FakeDevice(), "eth0", 2).faults()


def test_violations_are_read_and_forgotten(device: FaultDevice, fake: FakeDevice) -> None:
    fake.wrong = [
        {"rule": "ring-moved", "queue": 1, "count": 2, "detail": "write of 0x4100"},
        {"rule": "dma-off", "count": 1, "detail": "read"},
    ]
    assert device.audit() == [
        Violation("ring-moved", 2, "write of 0x4100", 1),
        Violation("dma-off", 1, "read"),
    ]
    device.audit_clear()
    assert device.audit() == []


def nic(model: str, fake: FakeDevice) -> Nic:
    """A NIC whose guest and wire are never asked."""
    other: Any = None
    qmp: Any = fake
    config = NicConfig.model_validate({"model": model, "queues": 2})
    return Nic(config, 0, other, qmp, other)


def test_a_nic_sets_faults_on_its_own_device(fake: FakeDevice) -> None:
    card = nic("labnic", fake)
    assert card.has_faults
    with card.fault("irq-lose", queue=1):
        assert [fault.queue for fault in card.faults()] == [1]
    assert card.faults() == []
    with pytest.raises(UsageError, match="queue is 2"):
        card.fault("irq-lose", queue=2)
    card.fault("hang")
    card.clear_faults()
    assert card.faults() == []
    assert card.audit() == []
    card.audit_clear()


def test_another_model_has_no_faults(fake: FakeDevice) -> None:
    card = nic("e1000e", fake)
    assert not card.has_faults
    with pytest.raises(UsageError, match="eth0 is a e1000e"):
        card.fault("hang")
