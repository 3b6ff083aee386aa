# SPDX-License-Identifier: GPL-2.0-or-later
"""Fields: neighbouring bits with a name, of a register or of a word in memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """Some neighbouring bits of a register or of a structure's word."""

    name: str
    low: int
    high: int
    access: str
    reset: int | None
    doc: str
    line: int

    @property
    def width(self) -> int:
        """How many bits."""
        return self.high - self.low + 1

    @property
    def limit(self) -> int:
        """The largest value."""
        return (1 << self.width) - 1

    @property
    def mask(self) -> int:
        """The bits, in place."""
        return self.limit << self.low

    def get(self, word: int) -> int:
        """The field's value in ``word``."""
        return (word & self.mask) >> self.low

    def put(self, value: int, word: int = 0) -> int:
        """``word`` with the field set to ``value``; ValueError when it does not fit."""
        if not 0 <= value <= self.limit:
            raise ValueError(f"{value:#x} does not fit in the {self.width} bits of field {self.name}")
        return word & ~self.mask | value << self.low


def by_name(fields: tuple[Field, ...], name: str, owner: str) -> Field:
    """The field of that name; KeyError, which says whose it would be, when there is none."""
    for field in fields:
        if field.name == name:
            return field
    raise KeyError(f"{owner} has no field {name}; it has {', '.join(field.name for field in fields) or 'none'}")


def union(fields: tuple[Field, ...]) -> int:
    """The bits of all the fields."""
    mask = 0
    for field in fields:
        mask |= field.mask
    return mask
