# SPDX-License-Identifier: GPL-2.0-or-later
"""The C header ``labnic_hw.h`` from the hardware map, for the device and for the driver.

Plain literals only: QEMU lacks the kernel's ``BIT()`` and the kernel lacks QEMU's. Lines keep to 80 columns.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from functools import reduce
from operator import or_

from labnic.errors import ConfigError
from labnic.hw.fields import Field
from labnic.hw.memory import Structure
from labnic.hw.model import Block, HwMap, Register
from labnic.hw.tester import FaultKind

WIDTH = 80
TAB = 8

_TOP = """\
/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Registers and structures in memory of the labnic network controller.
 *
 * Generated from qemu-device/spec/labnic.yaml by 'make gen'; do not edit.
 *
 * Shared by the device and the driver. LABNIC_REG_* are byte offsets in BAR
 * REGS; a 64-bit register is two of 32 bits, the low half first. A field's
 * name is its mask. LABNIC_INIT_* are reset values, LABNIC_RW_* the bits that
 * keep what is written, LABNIC_W1C_* those that a one clears, LABNIC_W1S_*
 * those where a one starts something.
 */

#ifndef LABNIC_HW_H
#define LABNIC_HW_H

#include <linux/types.h>
"""


def comment(text: str, indent: str = "") -> list[str]:
    """A C comment; on one line when it fits in 80 columns."""
    room = WIDTH - len(indent.expandtabs(TAB))
    if len(text) + 6 <= room:
        return [f"{indent}/* {text} */"]
    lines = textwrap.wrap(text, room - 3, break_on_hyphens=False)
    return [f"{indent}/*", *(f"{indent} * {line}" for line in lines), f"{indent} */"]


def number(value: int, width: int, digits: int = 1) -> str:
    """A hexadecimal literal that has the right type for a register of ``width`` bits."""
    return f"{value:#0{digits + 2}x}" + ("ULL" if width == 64 else "")


class Writer:
    """Collects lines, and refuses a name that is already taken."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._taken: dict[str, int] = {}

    def claim(self, name: str, line: int) -> str:
        """The name, once."""
        if name in self._taken:
            raise ConfigError(
                f"lines {self._taken[name]} and {line} of the hardware map both make the C name {name}",
                hint="rename one of them",
            )
        self._taken[name] = line
        return name

    def text(self, lines: Iterable[str]) -> None:
        """Lines as they are."""
        self.lines.extend(lines)

    def title(self, doc: str) -> None:
        """An empty line and a comment: a new section begins."""
        self.lines.append("")
        self.lines.extend(comment(doc))

    def defines(self, rows: Iterable[tuple[str, str, int]]) -> None:
        """Aligned ``#define`` lines from (name with its arguments, value, line of the map)."""
        rows = list(rows)
        column = max((len(name) for name, _, _ in rows), default=0)
        for name, value, line in rows:
            self.claim(name.partition("(")[0].rstrip(), line)
            self._define(name, value, column)

    def _define(self, name: str, value: str, column: int) -> None:
        single = f"#define {name:<{column}} {value}"
        self.lines.extend([single] if len(single) <= WIDTH else [f"#define {name} \\", f"    {value}"])


def _constants(out: Writer, hw: HwMap) -> None:
    device = hw.device
    out.title("Identity: PCI configuration space, and the version of this map.")
    out.defines(
        [
            ("LABNIC_VENDOR_ID", number(device.vendor_id, 16, 4), 0),
            ("LABNIC_DEVICE_ID", number(device.device_id, 16, 4), 0),
            ("LABNIC_REVISION", number(device.revision, 8), 0),
            ("LABNIC_PCI_CLASS", number(device.pci_class, 16, 4), 0),
            ("LABNIC_MAP_MAJOR", str(device.major), 0),
            ("LABNIC_MAP_MINOR", str(device.minor), 0),
        ]
    )
    for bar in hw.bars:
        out.title(bar.doc)
        name = f"LABNIC_BAR_{bar.name}"
        out.defines([(name, str(bar.index), bar.line), (f"{name}_SIZE", number(bar.size, 32), bar.line)])
    for name, value in hw.constants.items():
        out.title(hw.constants.docs[name])
        out.defines([(f"LABNIC_{name}", str(value), 0)])
    if hw.features:
        out.title(hw.features_doc)
        out.text([""])
    for name, mask in hw.features.items():
        out.text(comment(hw.features.docs[name]))
        out.defines([(f"LABNIC_FEATURE_{name}", number(mask, 32), 0)])


def _enum(out: Writer, name: str, doc: str, values: Iterable[tuple[str, str]]) -> None:
    out.title(doc)
    out.text([f"enum {name} {{"])
    for value, value_doc in values:
        out.text(comment(value_doc, "\t"))
        out.text([f"\t{value},"])
    out.text(["};"])


def _enums(out: Writer, hw: HwMap) -> None:
    for enum in hw.enums:
        prefix = f"LABNIC_{enum.name}"
        for name in enum.values:
            out.claim(f"{prefix}_{name}", enum.line)
        out.claim(f"{prefix}__END", enum.line)
        rows = [(f"{prefix}_{name} = {value}", enum.values.docs[name]) for name, value in enum.values.items()]
        end = max(value for _, value in enum.values.items()) + 1
        _enum(out, prefix.lower(), enum.doc, [*rows, (f"{prefix}__END = {end}", "No value is this or more.")])


def _offset(block: Block, register: Register, extra: int = 0) -> tuple[str, str]:
    """The parameters of a register's macro and its value."""
    base = number(block.base + register.offset + extra, 32, 4)
    element, index = block.count is not None, register.count is not None
    terms, parameters = [base], []
    if element:
        parameters.append("q")
        terms.append(f"(q) * {number(block.element_size, 32)}")
    if index:
        parameters.append("n")
        terms.append(f"(n) * {register.size}")
    if not parameters:
        return "", base
    return f"({', '.join(parameters)})", f"({' + '.join(terms)})"


def _register(out: Writer, block: Block, register: Register) -> None:
    name, width, line = register.name, register.width, register.line
    out.title(f"{name} ({register.access}): {register.doc}")
    rows = []
    for half, extra in (("", 0), ("_HI", 4)):
        if extra < register.size:
            parameters, value = _offset(block, register, extra)
            rows.append((f"LABNIC_REG_{name}{half}{parameters}", value, line))
    if register.reset is not None:
        rows.append((f"LABNIC_INIT_{name}", number(register.reset, width), line))
    rows.append((f"LABNIC_RW_{name}", number(register.writable, width), line))
    for access in ("w1c", "w1s"):
        if register.bits(access):
            rows.append((f"LABNIC_{access.upper()}_{name}", number(register.bits(access), width), line))
    out.defines(rows)
    _fields(out, f"LABNIC_{name}", register.fields, width)


def _fields(out: Writer, prefix: str, fields: tuple[Field, ...], width: int, union: int | None = None) -> None:
    """The masks of fields, and of all of them together when ``union`` gives the line of the map to blame."""
    rows = [(f"{prefix}_{field.name}", field.mask, field.line, field.doc) for field in fields]
    if union is not None:
        mask = reduce(or_, (field.mask for field in fields))
        rows.append((f"{prefix}__ALL", mask, union, "Every bit that is defined; the others are zero."))
    column = max((len(name) for name, _, _, _ in rows), default=0)
    for name, mask, line, doc in rows:
        out.text(comment(doc))
        out.defines([(name.ljust(column), number(mask, width), line)])


def _block(out: Writer, block: Block) -> None:
    out.title(f"Block {block.name}: {block.doc}")
    prefix = f"LABNIC_BLOCK_{block.name}"
    rows = [
        (f"{prefix}_BASE", number(block.base, 32, 4), block.line),
        (f"{prefix}_SIZE", number(block.size, 32), block.line),
    ]
    if block.stride is not None and block.count is not None:
        rows.append((f"{prefix}_STRIDE", number(block.stride, 32), block.line))
        rows.append((f"{prefix}_COUNT", str(block.count), block.line))
    rows.append((f"{prefix}_USED", number(block.used, 32), block.line))
    out.defines(rows)
    for register in block.registers:
        if not register.counter:
            _register(out, block, register)
    if any(register.counter for register in block.registers):
        _counters(out, block)


def _counters(out: Writer, block: Block) -> None:
    counters = [register for register in block.registers if register.counter]
    out.title("Offset of counter n, and of its high half.")
    base = block.base
    out.defines(
        [
            ("LABNIC_REG_COUNTER(n)", f"({number(base, 32, 4)} + (n) * 8)", block.line),
            ("LABNIC_REG_COUNTER_HI(n)", f"({number(base + 4, 32, 4)} + (n) * 8)", block.line),
        ]
    )
    for name in [*(register.name.upper() for register in counters), "S"]:
        out.claim(f"LABNIC_COUNTER_{name}", block.line)
    out.claim("LABNIC_N_COUNTERS", block.line)
    values = [(f"LABNIC_COUNTER_{register.name.upper()}", register.doc) for register in counters]
    _enum(out, "labnic_counter", "The counters.", [*values, ("LABNIC_N_COUNTERS", "How many there are.")])
    out.title("Calls X(name) for every counter, in the order of the numbers above.")
    names = [f"X({register.name})" for register in counters]
    out.text(["#define LABNIC_COUNTERS(X) \\", *(f"\t{name} \\" for name in names[:-1]), f"\t{names[-1]}"])


def _structure(out: Writer, structure: Structure) -> None:
    prefix = f"LABNIC_{structure.name}"
    out.title(structure.doc)
    out.text([f"struct {prefix.lower()} {{"])
    for word in structure.words:
        out.text(comment(word.doc, "\t"))
        places = "" if word.count is None else f"[{word.count}]"
        out.text([f"\t__le32 {word.name.lower()}{places};"])
    out.text(["};", ""])
    out.defines([(f"{prefix}_SIZE", str(structure.size), structure.line)])
    for word in structure.words:
        if word.fields:
            out.title(f"Word {word.name.lower()} of struct {prefix.lower()}.")
            out.text([""])
            _fields(out, f"{prefix}_{word.name}", word.fields, 32, word.line)


def _list(out: Writer, name: str, doc: str, rows: Iterable[str]) -> None:
    """A macro that calls X for each row."""
    out.title(doc)
    calls = [f"X({row})" for row in rows]
    out.text([f"#define {name}(X) \\", *(f"\t{call} \\" for call in calls[:-1]), f"\t{calls[-1]}"])


def _tester(out: Writer, hw: HwMap) -> None:
    if hw.faults:
        for fault in hw.faults:
            out.claim(f"LABNIC_FAULT_{fault.symbol}", fault.line)
        kinds = [(f"LABNIC_FAULT_{fault.symbol}", fault.doc) for fault in hw.faults]
        _enum(out, "labnic_fault_kind", "Kinds of faults.", [*kinds, ("LABNIC_N_FAULTS", "How many there are.")])
        _list(out, "LABNIC_FAULTS", _FAULT_ROWS, map(_fault_row, hw.faults))
    if hw.audits:
        for rule in hw.audits:
            out.claim(f"LABNIC_AUDIT_{rule.symbol}", rule.line)
        rules = [(f"LABNIC_AUDIT_{rule.symbol}", rule.doc) for rule in hw.audits]
        _enum(out, "labnic_audit_rule", "Rules of the audit.", [*rules, ("LABNIC_N_AUDITS", "How many there are.")])
        doc = "Calls X(ID, name) for every rule, in the order of the numbers above."
        _list(out, "LABNIC_AUDITS", doc, (f'{rule.symbol}, "{rule.name}"' for rule in hw.audits))


_FAULT_ROWS = (
    "Calls X(ID, name, takes, value, min, max, default) for every kind, in the order of the numbers above."
    " In takes bit 0 is a queue, bit 1 the misc vector, bit 2 a register; bit 3 says that it has no count."
    " value is 0 where the kind has none, 1 where it has a default, 2 where it must be given."
)


def _fault_row(fault: FaultKind) -> str:
    takes = sum(bit for bit, name in ((1, "queue"), (2, "misc"), (4, "register")) if name in fault.takes)
    takes |= 8 if fault.lasting else 0
    value = fault.value
    if value is None:
        numbers = "0, 0, 0, 0"
    else:
        numbers = f"{1 if value.default is not None else 2}, {value.min}, {value.max}, {value.default or 0}"
    return f'{fault.symbol}, "{fault.name}", {takes}, {numbers}'


def render(hw: HwMap) -> str:
    """The whole header."""
    out = Writer()
    out.text(_TOP.splitlines())
    _constants(out, hw)
    _enums(out, hw)
    for block in hw.blocks:
        _block(out, block)
    for structure in hw.structures:
        _structure(out, structure)
    _tester(out, hw)
    out.text(["", "#endif /* LABNIC_HW_H */"])
    return "\n".join(line.rstrip() for line in out.lines) + "\n"
