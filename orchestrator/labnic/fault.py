# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults of a running device, and what its audit says of the driver, with the names of the hardware map."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, Protocol, Self

from labnic.errors import LabnicError, UsageError
from labnic.hwmap import FaultKind, HwMap, default_path, load
from labnic.qmp import QmpCommandError

CHANCE_ALL = 1000
"""``chance`` of a fault that strikes every event (the device's LABNIC_FAULT_CHANCE_ALL)."""

COUNT_MAX = 0xFFFF_FFFF
"""Most that ``after``, ``count`` and ``seed`` can be: the device keeps 32 bits."""


class DeviceGoneError(LabnicError):
    """The device is not in the machine any more; with it went its faults and what its audit had to say."""


class Qom(Protocol):
    """What is needed of a QMP session."""

    def execute(self, command: str, **arguments: Any) -> Any:
        """Run one command."""
        ...


@dataclass(frozen=True)
class FaultState:
    """One fault as the device has it; an argument that its kind does not have is None.

    ``seen`` counts the events since it was set, ``hits`` those that it struck.
    """

    id: int
    kind: str
    after: int
    count: int
    chance: int
    seed: int
    seen: int
    hits: int
    queue: int | None = None
    misc: bool = False
    value: int | None = None
    register: int | None = None


@dataclass(frozen=True)
class Violation:
    """Something that the driver did and must not: how often, and what it was the first time."""

    rule: str
    count: int
    detail: str
    queue: int | None = None

    def __str__(self) -> str:
        where = "" if self.queue is None else f" on queue {self.queue}"
        times = "" if self.count == 1 else f", {self.count} times"
        return f"{self.rule}{where}{times}: {self.detail}"


class Fault:
    """A fault that was set; leaving its context clears it."""

    def __init__(self, device: FaultDevice, state: FaultState) -> None:
        self._device = device
        self._last = state
        self.id = state.id
        self.kind = state.kind

    def state(self) -> FaultState:
        """As the device has it now; after it was cleared, as it was then."""
        found = {fault.id: fault for fault in self._device.faults()}
        self._last = found.get(self.id, self._last)
        return self._last

    @property
    def seen(self) -> int:
        """Events since it was set."""
        return self.state().seen

    @property
    def hits(self) -> int:
        """Events that it struck."""
        return self.state().hits

    def clear(self) -> None:
        """Take it back; the device goes on by itself. Safe to call twice."""
        if self.id in {fault.id for fault in self._device.faults()}:
            self.state()
            self._device.clear(self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def __repr__(self) -> str:
        return f"<fault {self.id}, {self.kind}>"


class FaultDevice:
    """The tester's side of one labnic, named by its ``device`` id in QEMU; after it was unplugged `DeviceGoneError`.

    ``queues`` are its queue pairs; without the number the device alone judges which there are.
    """

    def __init__(self, qmp: Qom, device: str, queues: int | None = None, hw: HwMap | None = None) -> None:
        self._qmp = qmp
        self._path = f"/machine/peripheral/{device}"
        self._queues = queues
        self._hw = hw or hardware()

    def set(self, kind: str, **arguments: int | bool | str | None) -> Fault:
        """Set a fault; see `fault_arguments` for what it takes and for what raises `UsageError`."""
        wanted = fault_arguments(self._hw, kind, self._queues, **arguments)
        before = {fault.id for fault in self.faults()}
        self._set("fault", wanted)
        (state,) = (fault for fault in self.faults() if fault.id not in before)
        return Fault(self, state)

    def faults(self) -> list[FaultState]:
        """What is set, spent faults too, in no order that means something."""
        return [FaultState(**fault) for fault in self._get("faults")]

    def clear(self, fault: int | None = None) -> None:
        """Clear one fault by its id, or all; raises `UsageError` with the ids that there are."""
        ids = [state.id for state in self.faults()]
        if fault is not None and fault not in ids:
            raise UsageError(
                f"no fault {fault} is set", hint=f"set are: {', '.join(map(str, ids))}" if ids else "none is set"
            )
        self._set("fault-clear", -1 if fault is None else fault)

    def audit(self) -> list[Violation]:
        """What the driver did wrong since the start or the last `audit_clear`; an error when the audit is off."""
        return [Violation(**found) for found in self._get("audit")]

    def audit_clear(self) -> None:
        """Forget what the driver did wrong."""
        self._set("audit-clear", True)

    def _get(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._execute("qom-get", name)
        return found

    def _set(self, name: str, value: object) -> None:
        self._execute("qom-set", name, value=value)

    def _execute(self, command: str, name: str, **more: object) -> Any:
        try:
            return self._qmp.execute(command, path=self._path, property=name, **more)
        except QmpCommandError as error:
            if f"'{self._path}' not found" in error.message:
                raise DeviceGoneError(f"there is no device {self._path.rpartition('/')[2]} in the machine") from None
            raise


@cache
def hardware() -> HwMap:
    """The map of this source tree, read once."""
    return load(default_path())


def fault_kind(hw: HwMap, name: str) -> FaultKind:
    """The kind of that name; raises `UsageError` with those that there are."""
    for kind in hw.faults:
        if kind.name == name:
            return kind
    names = [kind.name for kind in hw.faults]
    near = difflib.get_close_matches(name, names, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"there is no fault {name!r}{meant}", hint=f"faults: {', '.join(names)}")


def fault_arguments(
    hw: HwMap, name: str, queues: int | None = None, **arguments: int | bool | str | None
) -> Mapping[str, int | bool | str]:
    """What the device's property ``fault`` gets for a fault; an argument of None is left out.

    ``queue`` is a queue pair or, without, any; ``misc`` the vector of all else; ``after`` how many events pass first;
    ``count`` how many are struck, 0 until it is cleared (default 1); ``chance`` how many of 1000 are struck, drawn
    from ``seed``; ``value`` and ``register`` depend on the kind, and a register may be named as in the map
    (``TX_CTRL[3]``).  Raises `UsageError` for everything that the kind does not take.
    """
    kind = fault_kind(hw, name)
    given = {key: value for key, value in arguments.items() if value is not None and value is not False}
    known = ["after", "count", "chance", "seed", *kind.takes, *(["value"] if kind.value else [])]
    for key in given:
        if key not in known:
            raise UsageError(f"fault {name} takes no {key}", hint=f"it takes {', '.join(known)}")
    if "queue" in given and "misc" in given:
        raise UsageError(f"fault {name} is about a queue or about the misc vector, not both")
    if "register" in kind.takes:
        given["register"] = register_offset(hw, given.get("register"))
    _check_ranges(kind, given, queues or hw.constants.MAX_QUEUES)
    return {"kind": name, **given}


def _check_ranges(kind: FaultKind, given: Mapping[str, int | bool | str], queues: int) -> None:
    limits = {"queue": (0, queues - 1), "chance": (1, CHANCE_ALL)}
    limits |= dict.fromkeys(("after", "count", "seed"), (0, COUNT_MAX))
    if kind.lasting:
        limits["count"] = (0, 0)
    if kind.value:
        limits["value"] = (kind.value.min, kind.value.max)
        if kind.value.default is None and "value" not in given:
            raise UsageError(f"fault {kind.name} needs a value in {kind.value.unit}", hint=kind.value.doc)
    for key, (low, high) in limits.items():
        number = given.get(key, low)
        if not isinstance(number, int) or not low <= number <= high:
            what = "0: it lasts until it is cleared" if kind.lasting and key == "count" else f"{low} to {high}"
            raise UsageError(f"fault {kind.name}: {key} is {number!r}", hint=f"{key} can be {what}")


def register_offset(hw: HwMap, register: object) -> int:
    """The offset of a register that is given by its offset or its name; raises `UsageError`."""
    size = hw.bar("REGS").size
    if isinstance(register, int) and not isinstance(register, bool):
        if register % 4 or not 0 <= register < size:
            raise UsageError(f"no register is at {register:#x}", hint=f"a multiple of 4 below {size:#x}")
        return register
    if isinstance(register, str):
        match = re.fullmatch(r"(\w+?)(_HI)?((?:\[\d+\])*)", register)
        places = [int(place) for place in re.findall(r"\d+", match[3])] if match else []
        for name, half in _halves(match):
            try:
                return hw.reg(name, *places).offset + half
            except KeyError:
                continue
    names = sorted({place.register.name for place in hw.registers()})
    raise UsageError(f"there is no register {register!r}", hint=f"an offset or a name: {', '.join(names)}")


def _halves(match: re.Match[str] | None) -> Iterable[tuple[str, int]]:
    if match is None:
        return
    yield match[1] + (match[2] or ""), 0
    if match[2]:
        yield match[1], 4
