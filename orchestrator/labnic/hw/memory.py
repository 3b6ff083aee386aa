# SPDX-License-Identifier: GPL-2.0-or-later
"""Structures in guest memory, made of little-endian words of 32 bits: layout, packing, unpacking."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from labnic.hw.fields import Field, by_name, union

WORD_BYTES = 4


@dataclass(frozen=True, slots=True)
class Word:
    """One little-endian 32-bit word of a structure in guest memory, or ``count`` of them."""

    name: str
    index: int  # in words from the start of the structure
    count: int | None
    fields: tuple[Field, ...]
    doc: str
    line: int

    @property
    def offset(self) -> int:
        """Bytes from the start of the structure."""
        return self.index * WORD_BYTES

    @property
    def defined(self) -> int:
        """The bits that mean something; the others are zero."""
        return union(self.fields) if self.fields else 0xFFFFFFFF

    def field(self, name: str) -> Field:
        """The field of that name; KeyError names those that exist."""
        return by_name(self.fields, name, self.name)


@dataclass(frozen=True)
class Structure:
    """A structure in guest memory. Values go by name: ``ADDR_LO``, ``FLAGS.PHASE``, ``RESERVED[2]``."""

    name: str
    size: int
    words: tuple[Word, ...]
    doc: str
    line: int

    @cached_property
    def _layout(self) -> struct.Struct:
        return struct.Struct(f"<{self.size // WORD_BYTES}I")

    def word(self, name: str) -> Word:
        """The word of that name; KeyError names those that exist."""
        for word in self.words:
            if word.name == name:
                return word
        raise KeyError(f"{self.name} has no word {name}; it has {', '.join(word.name for word in self.words)}")

    def field(self, name: str) -> Field:
        """The field of a name like ``FLAGS.PHASE``."""
        word, _, field = name.partition(".")
        return self.word(word).field(field)

    def _index(self, name: str) -> int:
        plain, bracket, rest = name.partition("[")
        word = self.word(plain)
        if word.count is None and not bracket:
            return word.index
        place = rest.removesuffix("]")
        if word.count is None or not rest.endswith("]") or not place.isdecimal() or int(place) >= word.count:
            raise KeyError(f"{self.name} has no word {name}; {plain} has {word.count or 'no'} places")
        return word.index + int(place)

    def pack(self, values: Mapping[str, int]) -> bytes:
        """The bytes of a structure with these words and fields; what is not named is zero.

        A field that is named after its whole word changes the word. ValueError when a value does not fit.
        """
        words = [0] * (self.size // WORD_BYTES)
        for name, value in values.items():
            word, dot, field = name.partition(".")
            index = self._index(word)
            if dot:
                words[index] = self.word(word).field(field).put(value, words[index])
            elif 0 <= value <= 0xFFFFFFFF:
                words[index] = value
            else:
                raise ValueError(f"{value:#x} does not fit in the 32 bits of {self.name}.{name}")
        return self._layout.pack(*words)

    def unpack(self, data: bytes) -> dict[str, int]:
        """Every field, and every word that has no fields, by the names that :meth:`pack` takes.

        Bits that no field names are left out; :meth:`raw` has them. ValueError for a wrong number of bytes.
        """
        words = self.raw(data)
        result: dict[str, int] = {}
        for word in self.words:
            if word.count is not None:
                result.update({f"{word.name}[{i}]": words[word.index + i] for i in range(word.count)})
            elif word.fields:
                result.update({f"{word.name}.{field.name}": field.get(words[word.index]) for field in word.fields})
            else:
                result[word.name] = words[word.index]
        return result

    def raw(self, data: bytes) -> tuple[int, ...]:
        """The words as they are."""
        if len(data) != self.size:
            raise ValueError(f"{self.name} has {self.size} bytes, not {len(data)}")
        return self._layout.unpack(data)
