# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP/IP packets of all shapes, made by scapy from a random generator, and sums by their definition.

Only what is used of scapy is imported: the whole of it takes seconds.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, PadN
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet

TCP_CSUM_OFFSET, UDP_CSUM_OFFSET = 16, 6
"""Bytes from the beginning of the header to its checksum (RFC 9293, RFC 768)."""
NEXT_HEADER = {TCP: 6, UDP: 17}
ALL_ONES = 0xFFFF


@dataclass(frozen=True)
class Shape:
    """A packet with right checksums, and where its parts are, in bytes of the frame."""

    data: bytes
    l3: int
    l4: int
    csum: int
    tcp: bool
    ipv6: bool

    @property
    def header(self) -> int:
        """Bytes before the payload."""
        return self.l4 + (self.data[self.l4 + 12] >> 4) * 4 if self.tcp else self.l4 + 8

    def with_sum(self, value: int) -> bytes:
        """The same with another checksum of TCP or UDP."""
        return self.data[: self.csum] + value.to_bytes(2, "big") + self.data[self.csum + 2 :]

    def unfinished(self) -> bytes:
        """The same as a stack hands it to a NIC that fills in the checksum: with the sum of the pseudo header."""
        length = len(self.data) - self.l4
        addresses = self.data[self.l3 + 8 : self.l3 + 40] if self.ipv6 else self.data[self.l3 + 12 : self.l3 + 20]
        protocol = NEXT_HEADER[TCP if self.tcp else UDP]
        return self.with_sum(ones_sum(addresses + length.to_bytes(4, "big") + protocol.to_bytes(4, "big")))


def ones_sum(data: bytes) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071); an odd byte is the first of its word."""
    words = (len(data) + 1) // 2
    total = sum(struct.unpack(f">{words}H", data.ljust(2 * words, b"\0")))
    while total >> 16:
        total = (total & ALL_ONES) + (total >> 16)
    return total


def filled(data: bytes, start: int, offset: int) -> bytes:
    """The frame as it leaves a NIC that fills in a checksum: by definition and not as the device computes it."""
    at = start + offset
    value = ~ones_sum(data[start:]) & ALL_ONES or ALL_ONES
    return data[:at] + value.to_bytes(2, "big") + data[at + 2 :]


FIN, PSH, CWR = 0x01, 0x08, 0x80
"""Flags of TCP (RFC 9293, RFC 3168)."""


def segments(shape: Shape, mss: int, *, fixed_id: bool = False) -> list[bytes]:
    """What a stack sends for a TCP packet that is too long, made by the RFCs and not as the device makes it."""
    data, payload = shape.data, shape.data[shape.header :]
    chunks = [payload[at : at + mss] for at in range(0, len(payload), mss)] or [b""]
    made = []
    for number, chunk in enumerate(chunks):
        ip, tcp = bytearray(data[shape.l3 : shape.l4]), bytearray(data[shape.l4 : shape.header])
        length = len(tcp) + len(chunk)
        sequence = int.from_bytes(tcp[4:8], "big") + number * mss
        tcp[4:8] = (sequence & 0xFFFF_FFFF).to_bytes(4, "big")
        if number:
            tcp[13] &= ~CWR
        if number < len(chunks) - 1:
            tcp[13] &= ~(FIN | PSH)
        if shape.ipv6:
            ip[4:6] = (len(ip) - 40 + length).to_bytes(2, "big")
            addresses = ip[8:40]
        else:
            ip[2:4] = (len(ip) + length).to_bytes(2, "big")
            identification = int.from_bytes(ip[4:6], "big") + (0 if fixed_id else number)
            ip[4:6] = (identification & 0xFFFF).to_bytes(2, "big")
            ip[10:12] = bytes(2)
            ip[10:12] = (~ones_sum(bytes(ip)) & ALL_ONES).to_bytes(2, "big")
            addresses = ip[12:20]
        tcp[16:18] = bytes(2)
        pseudo = bytes(addresses) + length.to_bytes(4, "big") + NEXT_HEADER[TCP].to_bytes(4, "big")
        tcp[16:18] = (~ones_sum(pseudo + bytes(tcp) + chunk) & ALL_ONES).to_bytes(2, "big")
        made.append(data[: shape.l3] + bytes(ip) + bytes(tcp) + chunk)
    return made


def sums_are_right(data: bytes) -> bool:
    """Whether a frame is TCP or UDP directly over IP, all there, with right checksums: RFC by RFC, byte by byte."""
    at = 12
    while data[at : at + 2] in (b"\x81\x00", b"\x88\xa8") and at < 20:
        at += 4
    kind, ip = data[at : at + 2], data[at + 2 :]
    if kind == b"\x08\x00" and len(ip) >= 20 and ip[0] >> 4 == 4:
        header, total = (ip[0] & 15) * 4, int.from_bytes(ip[2:4], "big")
        fragment = int.from_bytes(ip[6:8], "big") & 0x3FFF
        if header < 20 or fragment or not header <= total <= len(ip) or ones_sum(ip[:header]) != ALL_ONES:
            return False
        addresses, protocol, upper = ip[12:20], ip[9], ip[header:total]
    elif kind == b"\x86\xdd" and len(ip) >= 40 and ip[0] >> 4 == 6:
        length = int.from_bytes(ip[4:6], "big")
        if length > len(ip) - 40:
            return False
        addresses, protocol, upper = ip[8:40], ip[6], ip[40 : 40 + length]
    else:
        return False
    if protocol == NEXT_HEADER[UDP]:
        there = len(upper) >= 8 and int.from_bytes(upper[4:6], "big") == len(upper) and any(upper[6:8])
    else:
        there = protocol == NEXT_HEADER[TCP] and len(upper) >= 20
    pseudo = addresses + len(upper).to_bytes(4, "big") + protocol.to_bytes(4, "big")
    return there and ones_sum(pseudo + upper) == ALL_ONES


def tags(generator: random.Random) -> Packet | None:
    """None, one or two VLAN tags."""
    kind = generator.randrange(4)
    if kind == 0:
        return Dot1Q(vlan=generator.randrange(4096), prio=generator.randrange(8))
    if kind == 1:
        return Dot1AD(vlan=generator.randrange(4096)) / Dot1Q(vlan=generator.randrange(4096))
    return None


def tcp_header(generator: random.Random) -> Packet:
    """A TCP header with any flags, and none, a few or as many options as fit."""
    options = generator.choice([[], [("Timestamp", (generator.getrandbits(32), 7))], [("NOP", None)] * 40])
    return TCP(
        sport=generator.randrange(1, 65536),
        dport=generator.randrange(1, 65536),
        seq=generator.getrandbits(32),
        ack=generator.getrandbits(32),
        flags=generator.randrange(256),
        window=generator.randrange(65536),
        urgptr=generator.randrange(65536),
        options=options,
    )


def network_header(generator: random.Random, ipv6: bool, extended: bool) -> Packet:
    """An IP header; ``extended`` has options or an extension header."""
    if ipv6:
        source, destination = (":".join(f"{generator.randrange(1, 65536):x}" for _ in range(8)) for _ in range(2))
        header = IPv6(src=source, dst=destination, tc=generator.randrange(256), fl=generator.getrandbits(20))
        return header / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(4))]) if extended else header
    source, destination = (".".join(str(generator.randrange(1, 224)) for _ in range(4)) for _ in range(2))
    options = [IPOption_NOP()] * (4 * generator.randrange(1, 11)) if extended else []
    return IP(
        src=source,
        dst=destination,
        id=generator.randrange(65536),
        flags=generator.choice(["", "DF"]),
        tos=generator.randrange(256),
        options=options,
    )


def packet(
    generator: random.Random,
    to: str,
    by: str,
    *,
    tcp: bool | None = None,
    extended: bool | None = None,
    payload: int | None = None,
) -> Shape:
    """A random packet from one MAC address to another; what else is given is fixed. ``payload`` is in bytes."""
    tcp = generator.random() < 0.5 if tcp is None else tcp
    extended = generator.random() < 0.2 if extended is None else extended
    ipv6 = generator.random() < 0.5
    length = generator.choice([0, 1, 2, 3, generator.randrange(100), generator.randrange(1400)])
    data = generator.randbytes(length if payload is None else payload)
    lower: Packet = Ether(dst=to, src=by)
    if tag := tags(generator):
        lower = lower / tag
    l3 = len(lower)
    lower = lower / network_header(generator, ipv6, extended)
    l4 = len(lower)
    upper = tcp_header(generator) if tcp else UDP(sport=generator.randrange(65536), dport=generator.randrange(65536))
    csum = l4 + (TCP_CSUM_OFFSET if tcp else UDP_CSUM_OFFSET)
    return Shape(bytes(lower / upper / data), l3, l4, csum, tcp, ipv6)
