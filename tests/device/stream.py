# SPDX-License-Identifier: GPL-2.0-or-later
"""A migration stream in a file: where the device's fields are in it, so that a test can falsify one.

QEMU appends a description of every section to its stream (docs/devel/migration, "VMState description"); the offsets
come from there, so that a new field of the device needs no change here.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

SECTION_FULL = 0x04  # migration/savevm.h
SECTION_NAME = "0000:00:04.0/labnic"


class Stream:
    """The stream in ``path``, complete."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()

    @cached_property
    def _description(self) -> Mapping[str, Any]:
        # The last section: its kind, a length, and JSON of that length, which begins differently in each QEMU.
        for match in reversed(list(re.finditer(rb"\x06(.{4})(?=\{)", self.data, re.DOTALL))):
            (length,) = struct.unpack(">I", match[1])
            text = self.data[match.end() : match.end() + length]
            if len(text) == length and text.endswith(b"}"):
                found: Mapping[str, Any] = json.loads(text)
                return found
        raise ValueError("the stream has no description")

    @cached_property
    def fields(self) -> dict[str, tuple[int, int]]:
        """Offset in the stream and size of each field of the device: ``ctrl``, ``tx[3].ring.head``, ``counters[0]``."""
        device = next(one for one in self._description["devices"] if one["name"] == SECTION_NAME)
        name = SECTION_NAME.encode()
        at = self.data.index(bytes([len(name)]) + name) + 1 + len(name) + 8  # instance and version follow the name
        return dict(_walk(device["fields"], at, ""))

    def value(self, field: str) -> int:
        """The value of a field."""
        at, size = self.fields[field]
        return int.from_bytes(self.data[at : at + size], "big")

    def with_field(self, field: str, value: int) -> bytes:
        """The stream with another value in one field."""
        at, size = self.fields[field]
        return self.data[:at] + value.to_bytes(size, "big") + self.data[at + size :]


def _walk(fields: list[dict[str, Any]], at: int, prefix: str) -> Iterator[tuple[str, tuple[int, int]]]:
    for field in fields:
        count = field.get("array_len")
        for index in range(count or 1):
            path = f"{prefix}{field['name']}" + ("" if count is None else f"[{index}]")
            if "struct" in field:
                yield from _walk(field["struct"]["fields"], at, path + ".")
            else:
                yield path, (at, field["size"])
            at += field["size"]
