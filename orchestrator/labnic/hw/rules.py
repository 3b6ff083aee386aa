# SPDX-License-Identifier: GPL-2.0-or-later
"""What a hardware map must satisfy beyond its shape; each refusal names the line.

Every byte of the registers' BAR belongs to exactly one block or is declared reserved, and so does every byte of a
block. A declared reservation that overlaps something is refused like a register that does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from labnic.hw.spec import (
    BlockSpec,
    FaultSpec,
    FieldSpec,
    HwMapError,
    MapSpec,
    RegisterSpec,
    ReservedSpec,
    StructSpec,
    WordSpec,
)

PAGE = 0x1000
"""Blocks begin at a multiple of this, so that one can be mapped, or made an eventfd, without its neighbours."""

WORD = 4
COUNTER = 8

FAULTS_MAX = 32
"""Kinds of faults: the device has a bit for each in one word."""

ACCESS_OF_FIELDS = {
    "ro": {"ro"},
    "wo": {"wo"},
    "w1c": {"w1c", "ro"},
    "w1s": {"w1s", "ro"},
    "rw": {"rw", "ro", "w1s", "w1c"},
}
"""Which accesses a field may have in a register of each access."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def line(self) -> int: ...


@dataclass(frozen=True)
class _Span:
    """Bytes that something takes."""

    offset: int
    size: int
    what: str
    line: int

    @property
    def end(self) -> int:
        return self.offset + self.size


class _Rules:
    def __init__(self, path: Path, described: MapSpec) -> None:
        self.path = path
        self.map = described

    def refuse(self, line: int, problem: str, hint: str = "") -> NoReturn:
        raise HwMapError(self.path, line, problem, hint=hint)

    # Names

    def unique(self, kind: str, items: Iterable[_Named]) -> None:
        seen: dict[str, int] = {}
        for item in items:
            if item.name in seen:
                self.refuse(item.line, f"{kind} {item.name} is already on line {seen[item.name]}")
            seen[item.name] = item.line

    def names(self) -> None:
        described = self.map
        self.unique("BAR", described.bars)
        self.unique("constant", described.constants)
        self.unique("enum", described.enums)
        self.unique("block", described.blocks)
        self.unique("structure", described.structures)
        self.unique("register", (register for block in described.blocks for register in block.registers))
        self.unique("fault", described.faults)
        self.unique("audit rule", described.audits)
        self.unique("counter", (counter for block in described.blocks for counter in block.counters))
        for enum in described.enums:
            self.unique(f"value of enum {enum.name}", enum.values)
            self.unique_numbers(f"enum {enum.name}", [(one.value, one.name, one.line) for one in enum.values])
        if described.features:
            self.unique("feature", described.features.bits)
            self.unique_numbers("the features", [(one.bit, one.name, one.line) for one in described.features.bits])
        self.unique_numbers("the BARs", [(one.index, one.name, one.line) for one in described.bars])

    def unique_numbers(self, owner: str, numbers: Iterable[tuple[int, str, int]]) -> None:
        seen: dict[int, str] = {}
        for number, name, line in numbers:
            if number in seen:
                self.refuse(line, f"{name} has the number {number} that {seen[number]} of {owner} has already")
            seen[number] = name

    # Fields

    def fields(self, owner: str, width: int, fields: Sequence[FieldSpec]) -> None:
        self.unique(f"field of {owner}", fields)
        taken: dict[int, FieldSpec] = {}
        for field in fields:
            if field.high < field.low:
                self.refuse(field.line, f"field {owner}.{field.name}: bits are written high:low, not {field.bits}")
            if field.high >= width:
                self.refuse(field.line, f"field {owner}.{field.name} goes to bit {field.high} of {width} bits")
            for bit in range(field.low, field.high + 1):
                if bit in taken:
                    other = taken[bit]
                    self.refuse(
                        field.line,
                        f"field {owner}.{field.name} overlaps field {other.name} (line {other.line}) in bit {bit}",
                    )
                taken[bit] = field
            if field.reset is not None and field.reset >> field.high - field.low + 1:
                self.refuse(
                    field.line,
                    f"field {owner}.{field.name}: reset value {field.reset:#x} is larger than its"
                    f" {field.high - field.low + 1} bits",
                )

    # Registers

    def register(self, register: RegisterSpec) -> None:
        size = register.width // 8
        if register.offset % size:
            self.refuse(
                register.line,
                f"register {register.name} is misaligned: offset {register.offset:#x} is no multiple of {size}",
            )
        self.fields(register.name, register.width, register.fields)
        for field in register.fields:
            access = field.access or register.access
            if access not in ACCESS_OF_FIELDS[register.access]:
                self.refuse(
                    field.line,
                    f"field {register.name}.{field.name} cannot be {access} in a register that is {register.access}",
                )
        self.reset(register)

    def reset(self, register: RegisterSpec) -> None:
        with_reset = [field for field in register.fields if field.reset is not None]
        if register.reset is None:
            lacking = [field for field in register.fields if field.reset is None]
            if lacking:
                self.refuse(lacking[0].line, f"field {register.name}.{lacking[0].name} has no reset value")
            if not register.fields:
                self.refuse(register.line, f"register {register.name} has no reset value")
        elif with_reset:
            self.refuse(
                with_reset[0].line,
                f"field {register.name}.{with_reset[0].name} has a reset value although the register has one"
                f" (line {register.line})",
            )
        if register.reset is not None and register.reset != "dynamic":
            self.reset_mask(register, int(register.reset))
        else:
            for field in register.fields:
                self.silent_reset(register, field, field.reset or 0)

    def reset_mask(self, register: RegisterSpec, reset: int) -> None:
        mask = sum((1 << field.high + 1) - (1 << field.low) for field in register.fields)
        if not register.fields:
            mask = (1 << register.width) - 1
        if reset & ~mask:
            self.refuse(
                register.line,
                f"register {register.name}: reset value {reset:#x} has bits outside its mask {mask:#x}",
            )
        for field in register.fields:
            self.silent_reset(register, field, reset >> field.low & (1 << field.high - field.low + 1) - 1)
        if register.access in ("wo", "w1s") and reset and not register.fields:
            self.refuse(register.line, f"register {register.name} reads as zero: its reset value is 0, not {reset:#x}")

    def silent_reset(self, register: RegisterSpec, field: FieldSpec, reset: int) -> None:
        if reset and (field.access or register.access) in ("wo", "w1s"):
            self.refuse(
                field.line,
                f"field {register.name}.{field.name} reads as zero, so its reset value is 0, not {reset:#x}",
            )

    # Bytes

    def cover(self, owner: str, size: int, spans: Sequence[_Span], line: int, rest: str | None = None) -> None:
        """Refuse an overlap, a gap, or an end beyond ``size``; ``rest`` declares what follows the last span."""
        position, previous = 0, _Span(0, 0, f"the start of {owner}", line)
        for span in sorted(spans, key=lambda span: (span.offset, span.line)):
            if span.offset < position:
                self.refuse(
                    span.line, f"{span.what} at {span.offset:#x} overlaps {previous.what} (line {previous.line})"
                )
            self.gap(owner, position, span.offset, previous, span.line)
            position, previous = span.end, span
            if position > size:
                self.refuse(span.line, f"{span.what} ends at {position:#x}, beyond the {size:#x} bytes of {owner}")
        if rest is None:
            self.gap(owner, position, size, previous, previous.line)
        elif position == size:
            self.refuse(line, f"{owner} has no room left, but its rest is declared reserved")

    def gap(self, owner: str, start: int, end: int, previous: _Span, line: int) -> None:
        if start < end:
            self.refuse(
                line,
                f"undeclared gap in {owner}: {start:#x} to {end - 1:#x}, after {previous.what}",
                hint=f"declare it: {{offset: {start:#x}, size: {end - start:#x}, doc: ...}} under 'reserved'",
            )

    def block(self, block: BlockSpec) -> None:
        owner = f"block {block.name}"
        if block.base % PAGE or block.size % PAGE:
            self.refuse(block.line, f"{owner} is misaligned: base and size are multiples of {PAGE:#x}")
        if (block.stride is None) != (block.count is None):
            self.refuse(block.line, f"{owner}: stride and count go together")
        if bool(block.counters) == bool(block.registers):
            self.refuse(block.line, f"{owner} has either registers or counters")
        spans = [*map(_register_span, block.registers), *map(_reserved_span, block.reserved)]
        spans += [_Span(i * COUNTER, COUNTER, f"counter {one.name}", one.line) for i, one in enumerate(block.counters)]
        for register in block.registers:
            self.register(register)
        for reserved in block.reserved:
            self.words(reserved)
        if block.stride is None or block.count is None:
            self.cover(owner, block.size, spans, block.line, block.rest)
        else:
            self.elements(block, block.stride, block.count, spans)

    def elements(self, block: BlockSpec, stride: int, count: int, spans: Sequence[_Span]) -> None:
        """A block with a stride: one element is covered by registers, the block by its elements."""
        widest = max(register.width // 8 for register in block.registers) if block.registers else COUNTER
        if stride % widest:
            self.refuse(block.line, f"block {block.name} is misaligned: stride {stride:#x} is no multiple of {widest}")
        self.cover(f"an element of block {block.name}", stride, spans, block.line)
        elements = _Span(0, stride * count, f"the {count} elements of block {block.name}", block.line)
        self.cover(f"block {block.name}", block.size, [elements], block.line, block.rest)

    def words(self, reserved: ReservedSpec) -> None:
        if reserved.offset % WORD or reserved.size % WORD:
            self.refuse(reserved.line, f"reserved bytes at {reserved.offset:#x} are no whole words: misaligned")

    def blocks(self) -> None:
        for block in self.map.blocks:
            self.block(block)
        spans = [_Span(one.base, one.size, f"block {one.name}", one.line) for one in self.map.blocks]
        spans += map(_reserved_span, self.map.reserved)
        bar = self.map.bars[0]
        self.cover(f"BAR {bar.name}", bar.size, spans, bar.line)

    def bars(self) -> None:
        for bar in self.map.bars:
            if bar.size & bar.size - 1 or bar.size < PAGE:
                self.refuse(bar.line, f"BAR {bar.name}: a size is a power of two from {PAGE:#x} up, not {bar.size:#x}")

    # Structures

    def structure(self, structure: StructSpec) -> None:
        self.unique(f"word of structure {structure.name}", structure.words)
        size = WORD * sum(word.count or 1 for word in structure.words)
        if size != structure.size:
            self.refuse(structure.line, f"structure {structure.name} has {structure.size} bytes, its words {size}")
        for word in structure.words:
            self.word(structure, word)

    def word(self, structure: StructSpec, word: WordSpec) -> None:
        if word.count is not None and word.fields:
            self.refuse(word.line, f"word {structure.name}.{word.name}: several words cannot have fields")
        self.fields(f"{structure.name}.{word.name}", WORD * 8, word.fields)
        for field in word.fields:
            if field.access is not None or field.reset is not None:
                self.refuse(
                    field.line,
                    f"field {structure.name}.{word.name}.{field.name} is in memory: neither access nor reset value",
                )

    # Faults

    def fault(self, fault: FaultSpec) -> None:
        value = fault.value
        if value is None:
            return
        if value.min > value.max:
            self.refuse(value.line, f"the value of fault {fault.name}: min {value.min} is more than max {value.max}")
        if value.default is not None and not value.min <= value.default <= value.max:
            self.refuse(
                value.line,
                f"the value of fault {fault.name}: default {value.default} is not in {value.min} to {value.max}",
            )

    def faults(self) -> None:
        if len(self.map.faults) > FAULTS_MAX:
            last = self.map.faults[FAULTS_MAX]
            self.refuse(last.line, f"fault {last.name} is one more than the {FAULTS_MAX} that the device has bits for")
        for fault in self.map.faults:
            self.fault(fault)


def _register_span(register: RegisterSpec) -> _Span:
    size = register.width // 8 * (register.count or 1)
    return _Span(register.offset, size, f"register {register.name}", register.line)


def _reserved_span(reserved: ReservedSpec) -> _Span:
    return _Span(reserved.offset, reserved.size, "the reserved space", reserved.line)


def check(path: Path, described: MapSpec) -> None:
    """Raise :class:`labnic.hw.spec.HwMapError` for the first rule that the map breaks."""
    rules = _Rules(path, described)
    rules.names()
    rules.bars()
    rules.blocks()
    for structure in described.structures:
        rules.structure(structure)
    rules.faults()
