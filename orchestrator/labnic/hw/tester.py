# SPDX-License-Identifier: GPL-2.0-or-later
"""What a tester has of the device beside its registers: the faults that can be set, the rules that its audit knows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FaultValue:
    """The argument ``value`` of a kind of fault; without a ``default`` it must be given."""

    unit: str
    min: int
    max: int
    default: int | None
    doc: str


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of fault; ``takes`` are the names of its arguments that not every kind has, without ``value``."""

    name: str
    takes: tuple[str, ...]
    value: FaultValue | None
    lasting: bool  # no count: once begun, it stays until it is cleared
    event: str
    doc: str
    line: int

    @property
    def symbol(self) -> str:
        """As in the name of a C constant."""
        return self.name.upper().replace("-", "_")


@dataclass(frozen=True, slots=True)
class AuditRule:
    """Something that a correct driver never does."""

    name: str
    doc: str
    line: int

    @property
    def symbol(self) -> str:
        """As in the name of a C constant."""
        return self.name.upper().replace("-", "_")
