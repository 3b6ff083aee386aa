# SPDX-License-Identifier: GPL-2.0-or-later
"""Client of QEMU's qtest protocol: a test reads and writes the machine's memory and ports without a guest.

The protocol is one line of text for each command and one for each answer (QEMU's ``softmmu/qtest.c``, since 9.0
``system/qtest.c``). It answers under every accelerator; ``clock_step`` alone needs ``-accel qtest``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from labnic.errors import LabnicError, VmLostError

Width = Literal[1, 2, 4, 8]

_LETTER: dict[int, str] = {1: "b", 2: "w", 4: "l", 8: "q"}
_RECEIVE_SIZE = 1 << 16
_PIECE = 1 << 18
"""Most bytes of one memory command; a longer transfer is cut, so that no answer line grows without bound."""
_POLL_TURNS = 50
"""Looks at a condition without a pause; a round trip takes about 50 microseconds, so most conditions come true here."""
_POLL_PAUSE = 0.001


class QtestError(LabnicError):
    """QEMU refused a qtest command, or answered what the protocol does not have."""

    exit_code = 8


class ConditionTimeoutError(LabnicError, AssertionError):
    """What a test waited for did not come true in time; counts as a failed assertion."""

    exit_code = 1


class Qtest:
    """One connection to QEMU's qtest server.

    ``sock`` is a connected stream socket whose other end QEMU has; ``limit`` is the most seconds that one command may
    take. Addresses are guest-physical, numbers little-endian. Every method raises :class:`QtestError` when QEMU
    refuses the command and :class:`labnic.errors.VmLostError` when QEMU is gone or silent for longer than the limit.
    """

    def __init__(self, sock: socket.socket, *, limit: float = 10.0) -> None:
        self._sock = sock
        self._limit = limit
        self._rest = b""
        self._sock.setblocking(False)
        self._held: list[str] | None = None
        self.irqs: dict[int, bool] = {}
        """Level of each intercepted interrupt line that has changed since :meth:`irq_intercept`."""

    def close(self) -> None:
        """Close the connection; QEMU goes on."""
        self._sock.close()

    def follow(self, other: Qtest) -> None:
        """Talk to the QEMU of ``other`` from now on: the machine has moved there, and all who use this client with it.

        ``other`` must not be used any more.
        """
        self._sock.close()
        self._sock, self._rest, self.irqs = other._sock, other._rest, other.irqs

    # Commands

    def command(self, line: str, *, limit: float | None = None) -> str:
        """Send one command line and return what its answer has after ``OK``."""
        if self._held is not None:
            raise QtestError(
                f"qtest: `{line}` inside a batch would be answered out of turn", hint="read after the batch"
            )
        deadline = time.monotonic() + (self._limit if limit is None else limit)
        self._send(line.encode() + b"\n", deadline, line)
        return self._answer(line, deadline)

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Hold the writes made inside and send them at once: a round trip for all instead of one for each.

        QEMU runs them in order. Reading inside raises :class:`QtestError`. Nothing is sent when the body raises.
        """
        if self._held is not None:
            yield
            return
        self._held = []
        try:
            yield
            lines = self._held
        finally:
            self._held = None
        deadline = time.monotonic() + self._limit
        # QEMU's answers wait in the socket; the number in flight is bounded so that neither side blocks on the other.
        for start in range(0, len(lines), 64):
            part = lines[start : start + 64]
            self._send("".join(line + "\n" for line in part).encode(), deadline, part[0])
            for line in part:
                self._answer(line, deadline)

    def _post(self, line: str) -> None:
        if self._held is None:
            self.command(line)
        else:
            self._held.append(line)

    def _send(self, data: bytes, deadline: float, line: str) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline, line)
            except OSError as error:
                raise VmLostError(f"QEMU's qtest socket broke at `{line[:80]}`: {error.strerror}") from None

    def _answer(self, line: str, deadline: float) -> str:
        while True:
            word, _, payload = self._line(line, deadline).partition(" ")
            if word == "IRQ":
                level, _, number = payload.partition(" ")
                self.irqs[int(number)] = level == "raise"
                continue
            if word == "OK":
                return payload
            raise QtestError(f"qtest: `{line[:80]}` was refused: {word} {payload}".rstrip())

    def _line(self, line: str, deadline: float) -> str:
        pieces = [self._rest]
        while b"\n" not in pieces[-1]:
            self._wait(select.POLLIN, deadline, line)
            try:
                data = self._sock.recv(_RECEIVE_SIZE)
            except BlockingIOError:
                continue
            except OSError as error:
                raise VmLostError(f"QEMU's qtest socket broke at `{line[:80]}`: {error.strerror}") from None
            if not data:
                raise VmLostError(f"QEMU ended at the qtest command `{line[:80]}`")
            pieces.append(data)
        head, _, self._rest = b"".join(pieces).partition(b"\n")
        return head.decode("ascii", "replace")

    def _wait(self, event: int, deadline: float, line: str) -> None:
        poller = select.poll()
        poller.register(self._sock, event)
        left = deadline - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            raise VmLostError(f"QEMU did not answer the qtest command `{line[:80]}` in time")

    # Memory and ports

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes of the address space; over a device's registers QEMU makes accesses of their width."""
        pieces = []
        for start in range(0, size, _PIECE):
            length = min(_PIECE, size - start)
            text = self.command(f"b64read {address + start:#x} {length:#x}")
            try:
                piece = base64.b64decode(text, validate=True)
            except binascii.Error:
                raise QtestError(f"qtest: b64read answered {text[:40]!r}, which is not base64") from None
            if len(piece) != length:
                raise QtestError(f"qtest: b64read of {length} bytes answered {len(piece)}")
            pieces.append(piece)
        return b"".join(pieces)

    def write(self, address: int, data: bytes) -> None:
        """Put bytes into the address space."""
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            if len(piece) < 3:
                # The server takes fewer than three characters of base64 for a mistake, and pads no short text.
                for index, byte in enumerate(piece):
                    self.store(address + start + index, byte, 1)
                continue
            text = base64.b64encode(piece).decode()
            self._post(f"b64write {address + start:#x} {len(piece):#x} {text}")

    def fill(self, address: int, size: int, byte: int = 0) -> None:
        """Set ``size`` bytes to the value ``byte``."""
        if size:
            self._post(f"memset {address:#x} {size:#x} {byte:#x}")

    def load(self, address: int, width: Width) -> int:
        """One read of 1, 2, 4 or 8 bytes."""
        return int(self.command(f"read{_LETTER[width]} {address:#x}"), 16)

    def store(self, address: int, value: int, width: Width) -> None:
        """One write of 1, 2, 4 or 8 bytes."""
        self._post(f"write{_LETTER[width]} {address:#x} {value:#x}")

    def loads(self, addresses: Iterable[int], width: Width = 4) -> list[int]:
        """One read of each address, in order and in few round trips."""
        lines = [f"read{_LETTER[width]} {address:#x}" for address in addresses]
        values = []
        deadline = time.monotonic() + self._limit
        for start in range(0, len(lines), 64):
            part = lines[start : start + 64]
            self._send("".join(line + "\n" for line in part).encode(), deadline, part[0])
            values += [int(self._answer(line, deadline), 16) for line in part]
        return values

    def readb(self, address: int) -> int:
        """One read of a byte."""
        return self.load(address, 1)

    def readw(self, address: int) -> int:
        """One read of 2 bytes."""
        return self.load(address, 2)

    def readl(self, address: int) -> int:
        """One read of 4 bytes."""
        return self.load(address, 4)

    def readq(self, address: int) -> int:
        """One read of 8 bytes."""
        return self.load(address, 8)

    def writeb(self, address: int, value: int) -> None:
        """One write of a byte."""
        self.store(address, value, 1)

    def writew(self, address: int, value: int) -> None:
        """One write of 2 bytes."""
        self.store(address, value, 2)

    def writel(self, address: int, value: int) -> None:
        """One write of 4 bytes."""
        self.store(address, value, 4)

    def writeq(self, address: int, value: int) -> None:
        """One write of 8 bytes."""
        self.store(address, value, 8)

    def inl(self, port: int) -> int:
        """Read 4 bytes from an I/O port."""
        return int(self.command(f"inl {port:#x}"), 16)

    def outl(self, port: int, value: int) -> None:
        """Write 4 bytes to an I/O port."""
        self._post(f"outl {port:#x} {value:#x}")

    def outb(self, port: int, value: int) -> None:
        """Write a byte to an I/O port."""
        self._post(f"outb {port:#x} {value:#x}")

    # Interrupt lines and time

    def irq_intercept(self, path: str, side: Literal["in", "out"] = "in") -> None:
        """Take the interrupt lines of the device at the QOM ``path`` away from their receiver and into :attr:`irqs`.

        QEMU allows one device in the life of the process. MSI-X messages are no lines: they are memory writes.
        """
        self.command(f"irq_intercept_{side} {path}")

    def clock_step(self, nanoseconds: int | None = None) -> int:
        """Let the virtual clock run to its next timer, or by ``nanoseconds``; returns its new value in nanoseconds.

        Raises :class:`QtestError` under an accelerator other than qtest, whose clock runs by itself.
        """
        return int(self.command("clock_step" if nanoseconds is None else f"clock_step {nanoseconds}"))


def wait_until(condition: Callable[[], bool], what: str, *, limit: float = 5.0) -> None:
    """Look at ``condition`` until it holds; raises :class:`ConditionTimeoutError` with ``what`` after ``limit`` s.

    A condition over qtest makes a round trip through QEMU's main loop, so that QEMU works on between looks.
    """
    deadline = time.monotonic() + limit
    turns = 0
    while not condition():
        if time.monotonic() > deadline:
            raise ConditionTimeoutError(f"not within {limit:g} s: {what}")
        turns += 1
        if turns > _POLL_TURNS:
            time.sleep(_POLL_PAUSE)
