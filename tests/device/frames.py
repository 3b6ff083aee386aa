# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames for the device tests, as bytes."""

from __future__ import annotations

import random

from .bench import HW, MAC

OWN = bytes.fromhex(MAC.replace(":", ""))
PEER = bytes.fromhex("52546c620099")
BROADCAST = b"\xff" * 6
MULTICAST = bytes.fromhex("01005e000001")
STRANGER = bytes.fromhex("525400aabbcc")
ETHERTYPE = bytes.fromhex("88b5")  # IEEE 802.1 local experimental ethertype 1: no stack takes it for its own

FRAME_MIN = HW.constants.FRAME_MIN
FRAME_MAX = HW.constants.FRAME_MAX
DEFAULT_MAX_FRAME = HW.reg("MAX_FRAME").reset or 0


def frame(length: int = 60, *, to: bytes = OWN, source: bytes = PEER, seed: int | None = None) -> bytes:
    """A frame of ``length`` bytes whose payload, of the random ``seed``, no other frame has."""
    payload = random.Random(length if seed is None else seed).randbytes(max(length - FRAME_MIN, 0))
    return (to + source + ETHERTYPE + payload)[:length]


def numbered(count: int, length: int = 64, *, to: bytes = OWN, first: int = 0) -> list[bytes]:
    """Frames that tell their place in a sequence: a 4-byte number follows the header."""
    filler = bytes(length - FRAME_MIN - 4)
    return [to + PEER + ETHERTYPE + (first + number).to_bytes(4, "big") + filler for number in range(count)]
