# SPDX-License-Identifier: GPL-2.0-or-later
"""Ethernet frames as tests see them: bytes first, scapy's view of them on demand, and what differs between two."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from scapy.packet import Packet


ETHERNET_HEADER = 14
"""Bytes: two addresses and the type."""


@dataclass(frozen=True)
class Frame:
    """A frame from the wire: its bytes (without checksum) and when it came, in seconds since the epoch."""

    data: bytes
    time: float = 0.0

    @cached_property
    def packet(self) -> Packet:
        """The frame dissected by scapy."""
        return dissect(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __str__(self) -> str:
        return f"{len(self.data):5} bytes  {self.packet.summary()}"


FrameLike: TypeAlias = "bytes | Frame | Packet"


def to_bytes(frame: FrameLike) -> bytes:
    """The bytes of a frame given as bytes, `Frame` or scapy packet."""
    return frame.data if isinstance(frame, Frame) else bytes(frame)


def dissect(data: bytes) -> Packet:
    """Scapy's view of the bytes; what is shorter than an Ethernet header is raw data."""
    # Only these two: importing all of scapy takes seconds.
    import scapy.layers.inet  # noqa: F401 - makes IP known to Ether
    from scapy.layers.l2 import Ether

    if len(data) < ETHERNET_HEADER:
        from scapy.packet import Raw

        return Raw(data)
    return Ether(data)


def first_difference(expected: FrameLike, got: FrameLike, ignore: Collection[str] = ()) -> str:
    """The first field that differs, by name with both values; empty when none does.

    ``ignore`` has names such as ``IP.id`` that are not compared.  Where the fields are equal but the bytes are not,
    the first differing byte is named.
    """
    ours, theirs = to_bytes(expected), to_bytes(got)
    if ours == theirs:
        return ""
    left, right = dissect(ours), dissect(theirs)
    for (name, value), (other_name, other) in zip(_fields(left), _fields(right), strict=False):
        if name != other_name:
            return f"expected field {name}, got {other_name}"
        if value != other and name not in ignore:
            return _payload_difference(name, value, other)
    rest = [name for name, _ in _fields(left)][len(list(_fields(right))) :]
    if rest:
        return f"field {rest[0]} is missing"
    extra = [name for name, _ in _fields(right)][len(list(_fields(left))) :]
    if extra:
        return f"field {extra[0]} was not expected"
    if ignore:
        return ""
    return _bytes_difference("frame", ours, theirs)


def _payload_difference(name: str, expected: Any, got: Any) -> str:
    if isinstance(expected, bytes) and isinstance(got, bytes):
        return _bytes_difference(name, expected, got)
    return f"{name}: expected {expected!r}, got {got!r}"


def _bytes_difference(name: str, expected: bytes, got: bytes) -> str:
    for index, (one, other) in enumerate(zip(expected, got, strict=False)):
        if one != other:
            return f"{name}: byte {index} of {len(expected)}: expected {one:#04x}, got {other:#04x}"
    return f"{name}: expected {len(expected)} bytes, got {len(got)}"


def _fields(packet: Packet) -> Iterator[tuple[str, Any]]:
    """All fields in the order of the layers, as ("IP.ttl", 64)."""
    for layer in packet.iterpayloads():
        name = type(layer).__name__
        for description in layer.fields_desc:
            yield f"{name}.{description.name}", layer.getfieldval(description.name)


def compare_report(expected: FrameLike, got: FrameLike, ignore: Collection[str] = ()) -> str:
    """What a failed comparison prints: the first difference, then both packets."""
    lines = [first_difference(expected, got, ignore) or "no difference"]
    for title, frame in (("expected", expected), ("got", got)):
        data = to_bytes(frame)
        lines += [f"{title}: {dissect(data).summary()}", *hexdump(data)]
    return "\n".join(lines)


def hexdump(data: bytes, limit: int = 512) -> list[str]:
    """Lines of 16 bytes with their offsets, at most ``limit`` bytes."""
    lines = [f"  {at:04x}  {data[at : at + 16].hex(' ')}" for at in range(0, min(len(data), limit), 16)]
    if len(data) > limit:
        lines.append(f"  ... {len(data) - limit} bytes more")
    return lines
