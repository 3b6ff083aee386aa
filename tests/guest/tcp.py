# SPDX-License-Identifier: GPL-2.0-or-later
"""One TCP connection between the test and the guest's stack, spoken by hand so that each segment is looked at.

It does what RFC 9293 asks of a peer on a wire that loses nothing: every segment is acknowledged, one that comes out of
order or twice is acknowledged again and left away. Checksums of all that the guest sends are verified.
"""

from __future__ import annotations

from labnic.nic import Nic
from labnic.wire import Frame

from .peer import TCP, Packet, check_sums

WINDOW = 65535
"""Bytes that the guest may send ahead."""
MSS = 1440
"""Longest piece of data in a segment, in bytes: fits the standard MTU with IPv4 and IPv6."""
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10


class Connection:
    """A connection whose near end is the test; ``headers`` are those of all segments sent, up to IP."""

    def __init__(self, nic: Nic, headers: Packet, *, near: int, far: int, timeout: float = 5.0) -> None:
        self._nic = nic
        self._headers = headers
        self._near = near
        self._far = far
        self._timeout = timeout
        self._next = 0x1000  # sequence number of the next byte sent
        self._expected = 0  # sequence number of the next byte received
        self.acknowledged = 0
        self.longest = 0
        self.finished = False

    # Opening

    def connect(self) -> None:
        """Open the connection to a port at which the guest listens."""
        self._send(SYN, options=[("MSS", MSS)])
        answer = self._receive()
        assert answer.flags == SYN | ACK, f"flags {answer.flags} instead of SYN and ACK"
        assert answer.ack == self._next
        self._expected = answer.seq + 1
        self._send(ACK)

    def accept(self) -> None:
        """Wait for the guest to connect, and let it."""
        request = self._receive()
        assert request.flags == SYN, f"flags {request.flags} instead of SYN"
        self._far = request.sport
        self._expected = request.seq + 1
        self._send(SYN | ACK, options=[("MSS", MSS)])
        answer = self._receive()
        assert answer.flags & ACK
        assert answer.ack == self._next

    # Data

    def send(self, data: bytes, *, size: int = MSS) -> None:
        """Send data in segments of ``size`` bytes, all at once; at most WINDOW bytes."""
        for start in range(0, len(data), size):
            self._send(ACK | PSH, data[start : start + size])

    def receive(self, count: int) -> bytes:
        """The next ``count`` bytes of the guest's data, each segment acknowledged."""
        got = b""
        while len(got) < count and not self.finished:
            got += self._take(self._receive())
        assert len(got) >= count, f"the guest closed after {len(got)} of {count} bytes"
        return got

    def close(self) -> None:
        """Close the near side and wait until the guest has closed its own and acknowledged ours."""
        self._send(ACK | FIN)
        while not self.finished or self.acknowledged != self._next:
            self._take(self._receive())

    # Segments

    def _take(self, segment: Packet) -> bytes:
        assert not segment.flags & RST, "the guest reset the connection"
        data = bytes(segment.payload)
        self.longest = max(self.longest, len(data))
        self.acknowledged = segment.ack
        if segment.seq != self._expected:
            self._send(ACK)
            return b""
        self._expected += len(data)
        if segment.flags & FIN:
            self._expected += 1
            self.finished = True
        if data or self.finished:
            self._send(ACK)
        return data

    def _send(self, flags: int, data: bytes = b"", options: list[tuple[str, int]] | None = None) -> None:
        segment = TCP(
            sport=self._near,
            dport=self._far,
            seq=self._next,
            ack=self._expected,
            flags=flags,
            window=WINDOW,
            options=options or [],
        )
        self._nic.wire.send(self._headers / segment / data)
        self._next += len(data) + bool(flags & SYN) + bool(flags & FIN)

    def _receive(self) -> Packet:
        packet = check_sums(self._nic.wire.receive(self._is_ours, timeout=self._timeout).packet)
        segment: Packet = packet[TCP]
        return segment

    def _is_ours(self, frame: Frame) -> bool:
        if frame.data[12:14] not in (b"\x08\x00", b"\x86\xdd") or TCP not in frame.packet:
            return False
        segment = frame.packet[TCP]
        return bool(segment.dport == self._near and (not self._far or segment.sport == self._far))
