# SPDX-License-Identifier: GPL-2.0-or-later
"""The neighbour at the other end of a wire that no test uses: whoever works in the guest by hand can ping it."""

from __future__ import annotations

import ipaddress
import struct

ETHERTYPE_IPV4 = 0x0800  # IEEE 802 Numbers, as are the next
ETHERTYPE_ARP = 0x0806
_ARP_IPV4 = bytes.fromhex("0001 0800 06 04")  # RFC 826: Ethernet, IPv4, lengths of their addresses
_ARP_LENGTH = 42  # bytes with the Ethernet header
_ICMP = 1
_ECHO_REQUEST = 8  # RFC 792; the reply's type is 0


class Responder:
    """Answers ARP and ICMP echo requests to ``ip``, as the station ``mac``."""

    def __init__(self, ip: str, mac: str) -> None:
        self._ip = ipaddress.IPv4Address(ip).packed
        self._mac = bytes.fromhex(mac.replace(":", ""))

    def __call__(self, frame: bytes) -> bytes | None:
        """The answer to a frame; None when it asks nothing of this station."""
        kind = int.from_bytes(frame[12:14], "big")
        if kind == ETHERTYPE_ARP:
            return self._arp(frame)
        if kind == ETHERTYPE_IPV4:
            return self._echo(frame)
        return None

    def _arp(self, frame: bytes) -> bytes | None:
        request = _ARP_IPV4 + b"\x00\x01"
        if len(frame) < _ARP_LENGTH or frame[14:22] != request or frame[38:42] != self._ip:
            return None
        asking = frame[22:32]  # address and IP address of the sender
        header = frame[6:12] + self._mac + frame[12:14]
        return header + _ARP_IPV4 + b"\x00\x02" + self._mac + self._ip + asking

    def _echo(self, frame: bytes) -> bytes | None:
        """Addresses change places, which leaves IP's checksum as it is; one word of ICMP's message changes."""
        if len(frame) < 14 + 20 + 8 or frame[:6] != self._mac or frame[30:34] != self._ip or frame[23] != _ICMP:
            return None
        length = int.from_bytes(frame[16:18], "big")
        start = 14 + (frame[14] & 0x0F) * 4
        fragment = int.from_bytes(frame[20:22], "big") & 0x3FFF
        if (
            fragment
            or start < 34
            or 14 + length < start + 8
            or len(frame) < 14 + length
            or frame[start] != _ECHO_REQUEST
        ):
            return None
        (checksum,) = struct.unpack_from(">H", frame, start + 2)
        checksum += _ECHO_REQUEST << 8  # RFC 1624: what the message loses, its complement gains
        checksum = (checksum & 0xFFFF) + (checksum >> 16)
        header = frame[6:12] + frame[:6] + frame[12:26] + frame[30:34] + frame[26:30] + frame[34:start]
        return header + bytes([0, frame[start + 1]]) + struct.pack(">H", checksum) + frame[start + 4 : 14 + length]
