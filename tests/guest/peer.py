# SPDX-License-Identifier: GPL-2.0-or-later
"""The host at the other end of the wire: packets that it sends, and checks of all that the guest's stack answers.

Only what is used of scapy is imported: the whole of it takes seconds.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from labnic.guest import Guest
from labnic.nic import Nic
from labnic.wire import Frame

from .helpers import IPV4_HEADER

__all__ = [
    "ARP",
    "ICMP",
    "IP",
    "TCP",
    "UDP",
    "Ether",
    "ICMPv6EchoReply",
    "ICMPv6EchoRequest",
    "ICMPv6ND_NA",
    "ICMPv6ND_NS",
    "IPv6",
    "Packet",
]

LINK_LOCAL = "fe80::2"
"""IPv6 address of the wire's end."""


def payload(length: int, seed: int = 0) -> bytes:
    """Random bytes, the same for the same length and seed."""
    return random.Random(f"payload {seed}/{length}").randbytes(length)


def check_sums(packet: Packet) -> Packet:
    """The packet, after every checksum in it was computed anew and compared; fragments have only that of IP."""
    again = packet.copy()
    whole = IP not in packet or not (packet[IP].flags.MF or packet[IP].frag)
    layers = [layer for layer in again.iterpayloads() if whole or isinstance(layer, Ether | IP)]
    found = {}
    for layer in layers:
        for field in ("chksum", "cksum"):
            if field in layer.fields:
                found[type(layer).__name__] = (field, layer.fields.pop(field))
    rebuilt = Ether(bytes(again))
    for layer in rebuilt.iterpayloads():
        name = type(layer).__name__
        if name in found:
            field, sent = found[name]
            wanted = getattr(layer, field)
            assert sent == wanted, f"{name}.{field} is {sent:#06x} and should be {wanted:#06x}: {packet.summary()}"
    return packet


def to_ipv4(nic: Nic) -> Packet:
    """Headers of an IPv4 packet from the wire's end to the guest."""
    return Ether(dst=nic.mac, src=nic.peer_mac) / IP(src=nic.peer_ip, dst=nic.ip)


def to_ipv6(nic: Nic, address: str) -> Packet:
    """Headers of an IPv6 packet from the wire's end to the guest's ``address``."""
    return Ether(dst=nic.mac, src=nic.peer_mac) / IPv6(src=LINK_LOCAL, dst=address)


def fragments(packet: Packet, mtu: int) -> list[Packet]:
    """An IPv4 packet cut so that no piece is longer than ``mtu`` bytes; one piece when it fits."""
    size = (mtu - IPV4_HEADER) // 8 * 8
    pieces: list[Packet] = fragment(packet, fragsize=size)  # type: ignore[no-untyped-call]
    return pieces


def reassemble(nic: Nic, match: Callable[[Packet], bool], *, mtu: int = 1500, timeout: float = 5.0) -> Packet:
    """The next IPv4 packet from the guest for which ``match`` holds, put together from its fragments.

    ``match`` sees the first fragment (or the whole packet). Every fragment's length and checksum is checked on the way.
    """
    pieces: dict[int, dict[int, bytes]] = {}
    heads: dict[int, Packet] = {}
    totals: dict[int, int] = {}
    while True:
        packet = nic.wire.receive(is_ipv4, timeout=timeout).packet
        ip = check_sums(packet)[IP]
        assert ip.len <= mtu, f"an IPv4 packet of {ip.len} bytes although the MTU is {mtu}"
        body = bytes(ip.payload)[: ip.len - 4 * ip.ihl]
        pieces.setdefault(ip.id, {})[8 * ip.frag] = body
        if ip.frag == 0:
            heads[ip.id] = packet
        if not ip.flags.MF:
            totals[ip.id] = 8 * ip.frag + len(body)
        if sum(map(len, pieces[ip.id].values())) != totals.get(ip.id):
            continue
        data = b"".join(pieces[ip.id][offset] for offset in sorted(pieces[ip.id]))
        whole = Ether(bytes(Ether(src=packet.src, dst=packet.dst) / IP(src=ip.src, dst=ip.dst, proto=ip.proto) / data))
        if match(whole):
            return check_sums(whole)


def is_ipv4(frame: Frame) -> bool:
    """Whether a frame carries IPv4."""
    return frame.data[12:14] == b"\x08\x00"


def solicited_node(address: str) -> tuple[str, str]:
    """Multicast group (address, MAC) at which a host is asked for its IPv6 ``address`` (RFC 4291, section 2.7.1)."""
    last = ipaddress.IPv6Address(address).packed[-3:]
    group = ipaddress.IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + last)
    return str(group), "33:33:ff:" + last.hex(":")


@contextmanager
def known_neighbour(guest: Guest, nic: Nic, address: str) -> Iterator[None]:
    """The guest knows the MAC address of the wire's end at ``address`` and asks nobody for it."""
    guest.sh(f"ip neigh replace {address} lladdr {nic.peer_mac} dev {nic.name} nud permanent")
    try:
        yield
    finally:
        guest.run(f"ip neigh del {address} dev {nic.name}")
