# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the frames of a wire to a pcapng file: both directions with their times, and the test that they belong to."""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

# Block types, options and flags: draft-ietf-opsawg-pcapng, sections 4 and 3.5.
_SECTION = 0x0A0D0D0A
_INTERFACE = 1
_PACKET = 6
_COMMENT, _IF_NAME, _IF_TSRESOL, _EPB_FLAGS = 1, 2, 9, 2
_NANOSECONDS = 9  # negative power of ten
_LINKTYPE_ETHERNET = 1

INBOUND = 1
"""Direction of a frame that came from the guest."""
OUTBOUND = 2
"""Direction of a frame that the test sent."""

SIZE_LIMIT = 256 << 20
"""Bytes after which a file takes no more frames: a run that floods the wire must not fill the disk."""


class Recorder:
    """One pcapng file with one interface; safe to use from several threads."""

    def __init__(self, path: Path, interface: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._comment = ""
        self._written = 0
        self._file = path.open("wb")
        self._write(_block(_SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        options = _option(_IF_NAME, interface.encode()) + _option(_IF_TSRESOL, bytes([_NANOSECONDS]))
        self._write(_block(_INTERFACE, struct.pack("<HHI", _LINKTYPE_ETHERNET, 0, 0), options))

    def comment(self, text: str) -> None:
        """Mark the next frame with ``text``; it shows as the packet's comment in Wireshark."""
        with self._lock:
            self._comment = text

    def frame(self, data: bytes, time: float, direction: int) -> None:
        """Record one frame; ``time`` is in seconds since the epoch, ``direction`` `INBOUND` or `OUTBOUND`."""
        stamp = int(time * 1e9)
        head = struct.pack("<IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data))
        body = head + data + bytes(-len(data) % 4)
        with self._lock:
            if self._file.closed or self._written > SIZE_LIMIT:
                return
            options = _option(_EPB_FLAGS, struct.pack("<I", direction))
            if self._comment:
                options += _option(_COMMENT, self._comment.encode())
                self._comment = ""
            self._write(_block(_PACKET, body, options))

    def _write(self, block: bytes) -> None:
        self._file.write(block)
        self._written += len(block)

    def flush(self) -> None:
        """Put what was recorded into the file."""
        with self._lock:
            if not self._file.closed:
                self._file.flush()

    def close(self) -> None:
        """End the file; later frames are not recorded."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes, options: bytes = b"") -> bytes:
    if options:
        options += struct.pack("<HH", 0, 0)
    length = 12 + len(body) + len(options)
    return struct.pack("<II", kind, length) + body + options + struct.pack("<I", length)
