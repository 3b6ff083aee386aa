# SPDX-License-Identifier: GPL-2.0-or-later
"""What an interface in the guest sees, recorded by tcpdump there and read from here while it runs."""

from __future__ import annotations

import contextlib
import itertools
import struct
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from labnic.agent import AgentError
from labnic.command import GuestCommandError, backoff
from labnic.errors import CommandTimeoutError, LabnicError
from labnic.patience import patient

if TYPE_CHECKING:
    from labnic.guest import Guest, GuestProcess

FOLDER = "/tmp"
"""Where the guest keeps the captures."""

SNAPLEN = 9200
"""Bytes kept of each frame: a jumbo frame with its header and VLAN tag."""

BUFFER = 16384
"""KiB of the kernel's buffer.  In immediate mode each frame takes a slot of the snap length: this is room for 1,800."""

_HEADER = 24  # bytes: the pcap file header
_RECORD = struct.Struct("<IIII")  # seconds, microseconds, captured length, length on the wire

_numbers = itertools.count()


class Capture:
    """A running capture; a context manager that is ready (listening) on entry.

    ``filter`` is in tcpdump's language.  The interface is not put into promiscuous mode unless asked for: tests of the
    NIC's filters would see everything.  ``snaplen`` is how many bytes of each frame are kept.
    """

    def __init__(
        self,
        guest: Guest,
        interface: str,
        filter: str = "",
        *,
        direction: Literal["in", "out", "inout"] = "in",
        promiscuous: bool = False,
        snaplen: int = SNAPLEN,
    ) -> None:
        self._guest = guest
        self._path = f"{FOLDER}/labnic-capture-{next(_numbers)}.pcap"
        self._argv = ["tcpdump", "-i", interface, "-n", "-U", "--immediate-mode", "-s", str(snaplen), "-B", str(BUFFER)]
        self._argv += ["-Z", "root", "-Q", direction, "-w", self._path]
        self._argv += [] if promiscuous else ["-p"]
        self._argv += [filter] if filter else []
        self._process: GuestProcess | None = None
        self._handle = -1
        self._data = b""

    def __enter__(self) -> Self:
        self._process = self._guest.start(self._argv)
        # tcpdump writes the file's header after the socket is bound and its filter set: from then on it listens.
        for _ in backoff(10.0):
            ended = self._process.poll()
            if ended is not None:
                raise GuestCommandError(ended)
            if self._opened() and self._fill() >= _HEADER:
                return self
        self._process.stop("KILL")
        raise CommandTimeoutError("tcpdump in the guest did not start to listen within 10 s")

    def _opened(self) -> bool:
        if self._handle < 0:
            with contextlib.suppress(AgentError):
                self._handle = int(self._guest.agent.request("guest-file-open", {"path": self._path, "mode": "r"}))
        return self._handle >= 0

    def _fill(self) -> int:
        self._data += b"".join(self._guest.read_pieces(self._handle))
        return len(self._data)

    def frames(self) -> list[bytes]:
        """The frames captured so far, oldest first."""
        self._fill()
        frames = []
        at = _HEADER
        while at + _RECORD.size <= len(self._data):
            _, _, kept, _ = _RECORD.unpack_from(self._data, at)
            at += _RECORD.size
            if at + kept > len(self._data):
                break
            frames.append(self._data[at : at + kept])
            at += kept
        return frames

    def wait(
        self, count: int = 1, *, timeout: float = 10.0, match: Callable[[bytes], bool] | None = None
    ) -> list[bytes]:
        """The (matching) frames, once there are at least ``count``.

        Raises `CommandTimeoutError` after ``timeout`` seconds, `GuestCommandError` when tcpdump ended.
        """
        matching: list[bytes] = []
        for _ in backoff(timeout):
            matching = [frame for frame in self.frames() if match is None or match(frame)]
            if len(matching) >= count:
                return matching
            ended = self._process.poll() if self._process else None
            if ended is not None:
                raise GuestCommandError(ended)
        raise CommandTimeoutError(
            f"{len(matching)} of {count} frames captured in the guest within {patient(timeout):g} s",
            log=[frame[:64].hex(" ") for frame in self.frames()[-5:]],
        )

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # With the VM gone there is nothing to clean, and the first error is the one to report.
        with contextlib.suppress(LabnicError):
            if self._process:
                self._process.stop("INT")
            if self._handle >= 0:
                self._guest.agent.request("guest-file-close", {"handle": self._handle})
            self._guest.run(["rm", "-f", self._path])
