# SPDX-License-Identifier: GPL-2.0-or-later
"""The hardware map of labnic, read from ``qemu-device/spec/labnic.yaml``, checked, and ready to use.

hw = load(default_path())
hw.reg("TX_CTRL", 3).offset, hw.reg("MAX_FRAME").field("LEN").mask, hw.constants.RING_MIN
hw.struct("TX_DESC").pack({"ADDR_LO": 0x1000, "LEN.BYTES": 60, "FLAGS.PHASE": 1})
"""

from __future__ import annotations

from pathlib import Path

from labnic.hw import rules, spec
from labnic.hw.fields import Field
from labnic.hw.memory import Structure, Word
from labnic.hw.model import (
    Bar,
    Block,
    Device,
    Enumeration,
    HwMap,
    Names,
    Register,
    RegisterAt,
    Reserved,
)
from labnic.hw.spec import HwMapError
from labnic.hw.tester import AuditRule, FaultKind, FaultValue

__all__ = [
    "AuditRule",
    "Bar",
    "Block",
    "Device",
    "Enumeration",
    "FaultKind",
    "FaultValue",
    "Field",
    "HwMap",
    "HwMapError",
    "Names",
    "Register",
    "RegisterAt",
    "Reserved",
    "Structure",
    "Word",
    "default_path",
    "load",
]

COUNTER_BYTES = 8


def default_path() -> Path:
    """The map of this source tree."""
    return Path(__file__).resolve().parents[2] / "qemu-device" / "spec" / "labnic.yaml"


def load(path: Path) -> HwMap:
    """Read and check the map; raises :class:`HwMapError`, whose message names the file and line of the first fault."""
    described = spec.read(path)
    rules.check(path, described)
    return _build(described)


def _fields(specs: tuple[spec.FieldSpec, ...], access: str, reset: int | str | None) -> tuple[Field, ...]:
    fields = []
    for one in specs:
        initial = one.reset
        if initial is None and isinstance(reset, int):
            initial = reset >> one.low & (1 << one.high - one.low + 1) - 1
        fields.append(Field(one.name, one.low, one.high, one.access or access, initial, one.doc, one.line))
    return tuple(fields)


def _register(one: spec.RegisterSpec, block: str) -> Register:
    fields = _fields(one.fields, one.access, one.reset)
    reset: int | None
    if one.reset is None:
        reset = sum(field.put(field.reset or 0) for field in fields)
    else:
        reset = None if one.reset == "dynamic" else one.reset
    return Register(one.name, block, one.offset, one.width, one.count, one.access, reset, fields, one.doc, one.line)


def _counter(one: spec.CounterSpec, block: str, index: int) -> Register:
    return Register(one.name, block, index * COUNTER_BYTES, 64, None, "ro", None, (), one.doc, one.line, counter=True)


def _reserved(specs: tuple[spec.ReservedSpec, ...]) -> tuple[Reserved, ...]:
    return tuple(Reserved(one.offset, one.size, one.doc, one.line) for one in specs)


def _block(one: spec.BlockSpec) -> Block:
    registers = tuple(_register(register, one.name) for register in one.registers)
    counters = tuple(_counter(counter, one.name, index) for index, counter in enumerate(one.counters))
    return Block(
        name=one.name,
        base=one.base,
        size=one.size,
        stride=one.stride,
        count=one.count,
        registers=registers + counters,
        reserved=_reserved(one.reserved),
        rest=one.rest,
        doc=one.doc,
        line=one.line,
    )


def _structure(one: spec.StructSpec) -> Structure:
    words = []
    index = 0
    for word in one.words:
        words.append(Word(word.name, index, word.count, _fields(word.fields, "rw", None), word.doc, word.line))
        index += word.count or 1
    return Structure(one.name, one.size, tuple(words), one.doc, one.line)


def _names(title: str, values: tuple[spec.ValueSpec, ...]) -> Names:
    return Names(title, {one.name: one.value for one in values}, {one.name: one.doc for one in values})


def _fault(one: spec.FaultSpec) -> FaultKind:
    value = one.value
    return FaultKind(
        name=one.name,
        takes=one.takes,
        value=FaultValue(value.unit, value.min, value.max, value.default, value.doc) if value else None,
        lasting=one.lasting,
        event=one.event,
        doc=one.doc,
        line=one.line,
    )


def _build(described: spec.MapSpec) -> HwMap:
    device = described.device
    features = described.features.bits if described.features else ()
    return HwMap(
        device=Device(
            name=device.name,
            vendor_id=device.vendor_id,
            device_id=device.device_id,
            revision=device.revision,
            pci_class=device.pci_class,
            major=device.version.major,
            minor=device.version.minor,
            doc=device.doc,
        ),
        bars=tuple(Bar(one.name, one.index, one.size, one.doc, one.line) for one in described.bars),
        blocks=tuple(_block(one) for one in described.blocks),
        reserved=_reserved(described.reserved),
        constants=_names("constants", described.constants),
        enums=tuple(
            Enumeration(one.name, _names(f"enum {one.name}", one.values), one.doc, one.line) for one in described.enums
        ),
        features=Names(
            "features", {one.name: 1 << one.bit for one in features}, {one.name: one.doc for one in features}
        ),
        features_doc=described.features.doc if described.features else "",
        structures=tuple(_structure(one) for one in described.structures),
        faults=tuple(map(_fault, described.faults)),
        audits=tuple(AuditRule(one.name, one.doc, one.line) for one in described.audits),
    )
