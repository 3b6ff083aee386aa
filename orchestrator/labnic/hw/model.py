# SPDX-License-Identifier: GPL-2.0-or-later
"""The hardware map as Python sees it: registers, blocks and names, all frozen.

Offsets are bytes from the start of BAR ``REGS`` unless a name says otherwise, masks and values are unsigned
integers of the register's width, lengths are bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from labnic.hw.fields import Field, by_name, union
from labnic.hw.memory import Structure
from labnic.hw.tester import AuditRule, FaultKind


@dataclass(frozen=True, slots=True)
class Register:
    """A register as the map describes it: once, however often it exists. :class:`RegisterAt` is one of them."""

    name: str
    block: str
    offset: int  # bytes from the start of the block's element
    width: int  # bits: 32 or 64
    count: int | None  # of an array; None for a single register
    access: str  # ro, rw, wo, w1c or w1s
    reset: int | None  # None: depends on the machine
    fields: tuple[Field, ...]
    doc: str
    line: int
    counter: bool = False

    @property
    def size(self) -> int:
        """Bytes of one of them."""
        return self.width // 8

    @property
    def span(self) -> int:
        """Bytes of all of them in one element of the block."""
        return self.size * (self.count or 1)

    @property
    def defined(self) -> int:
        """The bits that mean something; the others read as zero and ignore writes."""
        return union(self.fields) if self.fields else (1 << self.width) - 1

    def bits(self, access: str) -> int:
        """The bits that have this access."""
        if not self.fields:
            return self.defined if access == self.access else 0
        return union(tuple(field for field in self.fields if field.access == access))

    @property
    def writable(self) -> int:
        """The bits that keep what is written."""
        return self.bits("rw")

    @property
    def readable(self) -> int:
        """The bits that can read as one: those that are neither ``wo`` nor ``w1s``."""
        return self.defined & ~self.bits("wo") & ~self.bits("w1s")

    def field(self, name: str) -> Field:
        """The field of that name; KeyError names those that exist."""
        return by_name(self.fields, name, self.name)

    def value(self, **fields: int) -> int:
        """A register value with these fields set and all other bits zero."""
        word = 0
        for name, value in fields.items():
            word = self.field(name).put(value, word)
        return word

    def split(self, value: int) -> dict[str, int]:
        """Every field's value in ``value``."""
        return {field.name: field.get(value) for field in self.fields}


@dataclass(frozen=True, slots=True)
class RegisterAt:
    """One register of the device, at its place in BAR ``REGS``."""

    register: Register
    offset: int
    element: int | None  # which element of a strided block
    index: int | None  # which one of an array

    @property
    def name(self) -> str:
        """``CTRL``, ``TX_BASE[3]``, ``RSS_KEY[0]``: the name and what it takes to find it again."""
        places = "".join(f"[{place}]" for place in (self.element, self.index) if place is not None)
        return self.register.name + places

    @property
    def size(self) -> int:
        """Bytes: 4 or 8; 8 means two 32-bit halves, the low one first."""
        return self.register.size

    @property
    def access(self) -> str:
        """Access of the register as a whole; a field may differ, see the masks."""
        return self.register.access

    @property
    def reset(self) -> int | None:
        """Value after a reset; None when it depends on the machine, and of every counter."""
        return self.register.reset

    @property
    def defined(self) -> int:
        """The bits that mean something."""
        return self.register.defined

    @property
    def writable(self) -> int:
        """The bits that keep what is written."""
        return self.register.writable

    @property
    def readable(self) -> int:
        """The bits that can read as one."""
        return self.register.readable

    @property
    def w1c(self) -> int:
        """The bits that a one clears."""
        return self.register.bits("w1c")

    @property
    def w1s(self) -> int:
        """The bits where a one starts something."""
        return self.register.bits("w1s")

    @property
    def counter(self) -> bool:
        """Whether this is an event counter: it moves by itself and only a PCI reset clears it."""
        return self.register.counter

    def field(self, name: str) -> Field:
        """The field of that name; KeyError names those that exist."""
        return self.register.field(name)

    def value(self, **fields: int) -> int:
        """A register value with these fields set and all other bits zero."""
        return self.register.value(**fields)

    def split(self, value: int) -> dict[str, int]:
        """Every field's value in ``value``."""
        return self.register.split(value)


@dataclass(frozen=True, slots=True)
class Reserved:
    """Bytes without a meaning yet: they read as zero and ignore writes."""

    offset: int  # bytes from the start of the block's element, or of the BAR
    size: int
    doc: str
    line: int


@dataclass(frozen=True, slots=True)
class Block:
    """Registers that belong together, once or, with a stride, ``count`` times."""

    name: str
    base: int
    size: int
    stride: int | None
    count: int | None
    registers: tuple[Register, ...]
    reserved: tuple[Reserved, ...]
    rest: str | None
    doc: str
    line: int

    @property
    def element_size(self) -> int:
        """Bytes of one element; of a block without a stride, the block's."""
        return self.stride or self.size

    @property
    def used(self) -> int:
        """Bytes up to the end of the last register of one element."""
        return max((register.offset + register.span for register in self.registers), default=0)

    def places(self) -> Iterator[RegisterAt]:
        """Every register of the block, in the order of their offsets."""
        for element in range(self.count or 1):
            start = self.base + element * self.element_size
            for register in sorted(self.registers, key=lambda register: register.offset):
                for index in range(register.count or 1):
                    yield RegisterAt(
                        register,
                        start + register.offset + index * register.size,
                        None if self.count is None else element,
                        None if register.count is None else index,
                    )


class Names(Mapping[str, int]):
    """Numbers by name, as attributes or items: ``constants.RING_MIN``, ``err["DMA_READ"]``."""

    def __init__(self, title: str, values: Mapping[str, int], docs: Mapping[str, str]) -> None:
        self._title = title
        self._values = dict(values)
        self.docs = dict(docs)

    def __getattr__(self, name: str) -> int:
        # Copying asks for special names before there are any values.
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"{self._title} has no {name}; it has {', '.join(self._values)}") from None

    def __getitem__(self, name: str) -> int:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def name_of(self, value: int) -> str:
        """The name of a value; the number itself, as text, when it has none."""
        return next((name for name, number in self._values.items() if number == value), f"{value:#x}")


@dataclass(frozen=True, slots=True)
class Bar:
    """A base address register of the PCI function."""

    name: str
    index: int
    size: int
    doc: str
    line: int


@dataclass(frozen=True, slots=True)
class Device:
    """What the PCI configuration space and the version register say."""

    name: str
    vendor_id: int
    device_id: int
    revision: int
    pci_class: int
    major: int
    minor: int
    doc: str


@dataclass(frozen=True, slots=True)
class Enumeration:
    """A set of values that a field holds."""

    name: str
    values: Names
    doc: str
    line: int


@dataclass(frozen=True)
class HwMap:
    """The whole map."""

    device: Device
    bars: tuple[Bar, ...]
    blocks: tuple[Block, ...]
    reserved: tuple[Reserved, ...]
    constants: Names
    enums: tuple[Enumeration, ...]
    features: Names  # masks in DEV_FEATURES and DRV_FEATURES
    features_doc: str
    structures: tuple[Structure, ...]
    faults: tuple[FaultKind, ...]
    audits: tuple[AuditRule, ...]

    @cached_property
    def _places(self) -> Mapping[tuple[str, tuple[int, ...]], RegisterAt]:
        return {
            (place.register.name, tuple(number for number in (place.element, place.index) if number is not None)): place
            for block in self.blocks
            for place in block.places()
        }

    @cached_property
    def _structures(self) -> Mapping[str, Structure]:
        return {structure.name: structure for structure in self.structures}

    def registers(self) -> Iterator[RegisterAt]:
        """Every register of the device: arrays, elements and counters one by one, by rising offset."""
        return iter(sorted(self._places.values(), key=lambda place: place.offset))

    def reg(self, name: str, *indices: int) -> RegisterAt:
        """One register: ``reg("CTRL")``, ``reg("TX_BASE", 3)``, ``reg("RSS_KEY", 0)``; KeyError when there is none."""
        try:
            return self._places[name, indices]
        except KeyError:
            raise KeyError(f"the map has no register {name}{''.join(f'[{index}]' for index in indices)}") from None

    def block(self, name: str) -> Block:
        """The block of that name."""
        return next(block for block in self.blocks if block.name == name)

    def bar(self, name: str) -> Bar:
        """The BAR of that name."""
        return next(bar for bar in self.bars if bar.name == name)

    def enum(self, name: str) -> Names:
        """The values of an enumeration: ``enum("ERR").DMA_READ``."""
        return next(enum.values for enum in self.enums if enum.name == name)

    def struct(self, name: str) -> Structure:
        """The structure of that name."""
        return self._structures[name]

    @property
    def counters(self) -> tuple[str, ...]:
        """Names of the counters in the order of their registers, in small letters as ``ethtool -S`` has them."""
        return tuple(place.register.name for place in self.registers() if place.counter)
