# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labnic.build import tool
from labnic.config import Model
from labnic.errors import UsageError


@dataclass(frozen=True)
class Contender:
    """A NIC of QEMU by its model, or without one a network device of the guest's kernel that has no hardware."""

    name: str
    model: Model | None


OURS = "labnic"
CEILING = "dummy"
"""Throws away what it is given to send: what the guest's own stack costs, and the most that a NIC could reach."""

CONTENDERS = (
    Contender(OURS, "labnic"),
    Contender("virtio-net", "virtio-net-pci"),
    Contender("e1000", "e1000"),
    Contender("e1000e", "e1000e"),
    Contender("igb", "igb"),
    Contender("vmxnet3", "vmxnet3"),
    Contender(CEILING, None),
)


def choose(names: Sequence[str]) -> tuple[Contender, ...]:
    """The contenders with these names, in the usual order; all of them without names.  Raises `UsageError`."""
    known = {each.name: each for each in CONTENDERS}
    for name in names:
        if name not in known:
            raise UsageError(f"there is no contender {name!r}", hint=f"contenders: {', '.join(known)}")
    return tuple(each for each in CONTENDERS if not names or each.name in names)


def models_of(binary: Path) -> frozenset[str]:
    """The devices that a QEMU program has, by its own account; those that a plugin brings are not among them."""
    text = tool.output([binary, "-device", "help"], what=f"asking {binary} for its devices")
    return frozenset(parse_devices(text))


def parse_devices(text: str) -> list[str]:
    """The names in what ``-device help`` prints: ``name "e1000e", bus PCI, desc "..."``."""
    return [line.split('"')[1] for line in text.splitlines() if line.startswith('name "')]
