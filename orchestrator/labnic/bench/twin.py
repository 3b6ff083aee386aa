# SPDX-License-Identifier: GPL-2.0-or-later
"""The other end of a connection between two NICs of the same model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labnic.guest import Guest


@dataclass(frozen=True)
class Twin:
    """Its interface's name, its guest, and the words that run a command where its network is."""

    name: str
    guest: Guest
    enter: Sequence[str] = ()
