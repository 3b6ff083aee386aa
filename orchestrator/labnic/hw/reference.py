# SPDX-License-Identifier: GPL-2.0-or-later
"""The register reference, ``docs/registers.md``, from the hardware map: for people, in the order of the addresses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labnic.hw.fields import Field
from labnic.hw.memory import Structure
from labnic.hw.model import Block, HwMap, Names, Register
from labnic.hw.tester import FaultKind

_TOP = """\
<!-- SPDX-License-Identifier: GPL-2.0-or-later -->
<!-- Generated from qemu-device/spec/labnic.yaml by 'make gen'; do not edit. -->

# The registers of labnic

{doc}

Registers are 32 bits wide and little-endian; one of 64 bits is two of them, the low half first. Bits that no field
names, and reserved space, read as zero and ignore writes. Structures in memory are made of little-endian words of 32
bits.

Access: `ro` ignores writes, `rw` keeps what is written, `wo` reads as zero, `w1c` is cleared by writing a one, `w1s`
starts something when a one is written and reads as zero. A dynamic reset value depends on the machine.
"""


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(titles)} |", f"|{'|'.join(' --- ' for _ in titles)}|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return [*lines, ""]


def _bits(field: Field) -> str:
    return f"{field.low}" if field.width == 1 else f"{field.high}:{field.low}"


def _reset(register: Register) -> str:
    if register.counter:
        return "0"
    return "dynamic" if register.reset is None else f"`{register.reset:#x}`"


def _name(block: Block, register: Register) -> str:
    places = [f"0..{count - 1}" for count in (block.count, register.count) if count is not None]
    return register.name + "".join(f"[{place}]" for place in places)


def _address(block: Block, register: Register) -> str:
    address = f"{block.base + register.offset:#06x}"
    if block.count is not None:
        address += f" + {block.element_size:#x} q"
    if register.count is not None:
        address += f" + {register.size} n"
    return f"`{address}`"


def _identity(hw: HwMap) -> list[str]:
    device = hw.device
    rows = [
        ("Vendor", f"`{device.vendor_id:#06x}`"),
        ("Device", f"`{device.device_id:#06x}`"),
        ("Revision", f"{device.revision}"),
        ("Class", f"`{device.pci_class:#06x}`"),
        ("Version of the map", f"{device.major}.{device.minor}"),
    ]
    lines = ["## The PCI function", "", *_table(("What", "Value"), rows)]
    bars = [(f"{bar.index}", bar.name, f"`{bar.size:#x}`", bar.doc) for bar in hw.bars]
    return [*lines, *_table(("BAR", "Name", "Size", "Use"), bars)]


def _space(hw: HwMap) -> list[str]:
    rows = [(one.base, one.size, f"[{one.name}](#block-{one.name.lower()})", one.doc) for one in hw.blocks]
    rows += [(one.offset, one.size, "reserved", one.doc) for one in hw.reserved]
    table = [(f"`{base:#06x}`", f"`{size:#x}`", name, doc) for base, size, name, doc in sorted(rows)]
    return [f"## BAR {hw.bars[0].name}", "", *_table(("Offset", "Size", "Block", "Use"), table)]


def _block(block: Block) -> list[str]:
    lines = [f"## Block {block.name}", "", block.doc, ""]
    if block.count is not None:
        lines += [f"There are {block.count}, each `{block.element_size:#x}` bytes; q is the number of one.", ""]
    rows = []
    for register in sorted(block.registers, key=lambda register: register.offset):
        row = (_address(block, register), f"`{_name(block, register)}`", str(register.width), register.access)
        rows.append((*row, _reset(register), register.doc))
    lines += _table(("Offset", "Register", "Bits", "Access", "Reset", "Meaning"), rows)
    for register in block.registers:
        if register.fields:
            lines += [f"### {register.name}", "", *_fields(register)]
    lines += _reserved(block)
    return lines


def _fields(register: Register) -> list[str]:
    rows = []
    for field in register.fields:
        reset = "dynamic" if field.reset is None else f"`{field.reset:#x}`"
        rows.append((_bits(field), f"`{field.name}`", field.access, reset, field.doc))
    return _table(("Bits", "Field", "Access", "Reset", "Meaning"), rows)


def _reserved(block: Block) -> list[str]:
    rows = [(f"`{one.offset:#05x}`", f"`{one.size:#x}`", one.doc) for one in block.reserved]
    lines = _table(("Reserved at", "Size", "Use"), rows) if rows else []
    return [*lines, f"Everything after that is reserved. {block.rest}", ""] if block.rest else lines


def _structure(structure: Structure) -> list[str]:
    lines = [f"### {structure.name}", "", f"{structure.doc} {structure.size} bytes.", ""]
    rows = []
    for word in structure.words:
        name = word.name if word.count is None else f"{word.name}[0..{word.count - 1}]"
        rows.append((f"`{word.offset:#04x}`", f"`{name}`", "", word.doc))
        rows += [("", f"`{word.name}.{field.name}`", _bits(field), field.doc) for field in word.fields]
    return [*lines, *_table(("Offset", "Word", "Bits", "Meaning"), rows)]


def _names(title: str, doc: str, names: Names, form: str = "d") -> list[str]:
    rows = [(f"`{value:{form}}`", f"`{name}`", names.docs[name]) for name, value in names.items()]
    return [title, "", *([doc, ""] if doc else []), *_table(("Value", "Name", "Meaning"), rows)]


def _fault_arguments(fault: FaultKind) -> str:
    words = [f"`{name}`" for name in fault.takes]
    if fault.value:
        value = fault.value
        default = "" if value.default is None else f", default {value.default}"
        words.append(f"`value` ({value.unit}, {value.min} to {value.max}{default}): {value.doc}")
    return ", ".join(words)


def _faults(hw: HwMap) -> list[str]:
    rows = [(f"`{one.name}`", f"{one.event}", _fault_arguments(one), one.doc) for one in hw.faults]
    table = _table(("Kind", "Event", "Arguments", "Meaning"), rows)
    return ["## Faults", "", "[faults.md](faults.md) tells how to set them.", "", *table]


def _audits(hw: HwMap) -> list[str]:
    rows = [(f"`{rule.name}`", rule.doc) for rule in hw.audits]
    return ["## Rules of the audit", "", *_table(("Rule", "A correct driver never does this"), rows)]


def render(hw: HwMap) -> str:
    """The whole page."""
    lines = [_TOP.format(doc=hw.device.doc), *_identity(hw), *_space(hw)]
    for block in sorted(hw.blocks, key=lambda block: block.base):
        lines += _block(block)
    lines += ["## Structures in memory", ""]
    for structure in hw.structures:
        lines += _structure(structure)
    lines += _names("## Constants", "", hw.constants)
    for enum in hw.enums:
        lines += _names(f"## Values of {enum.name}", enum.doc, enum.values)
    if hw.features:
        lines += _names("## Features", hw.features_doc, hw.features, "#x")
    if hw.faults:
        lines += _faults(hw)
    if hw.audits:
        lines += _audits(hw)
    return "\n".join(lines).rstrip("\n") + "\n"
