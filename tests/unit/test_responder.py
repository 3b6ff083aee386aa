# SPDX-License-Identifier: GPL-2.0-or-later
"""The neighbour that answers by itself, judged by scapy."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from labnic.responder import Responder

GUEST = "52:54:00:6c:62:01"
PEER = "52:54:00:6c:62:f0"
ASK = Responder("192.0.2.2", PEER)

ECHO = Ether(src=GUEST, dst=PEER) / IP(src="192.0.2.1", dst="192.0.2.2") / ICMP(id=7, seq=9)


def test_arp_is_answered() -> None:
    request = Ether(src=GUEST, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=GUEST, psrc="192.0.2.1", pdst="192.0.2.2")
    answer = ASK(bytes(request))
    assert answer is not None
    expected = Ether(src=PEER, dst=GUEST) / ARP(op=2, hwsrc=PEER, psrc="192.0.2.2", hwdst=GUEST, pdst="192.0.2.1")
    assert answer == bytes(expected)


@pytest.mark.parametrize("data", [b"", b"x", bytes(56), b"\xff" * 57, bytes(range(256)) * 5])
@pytest.mark.parametrize("options", [[], [b"\x94\x04\x00\x00"]])
def test_echo_comes_back_with_right_checksums(data: bytes, options: list[bytes]) -> None:
    request = ECHO.copy()
    request[IP].options = options
    answer = ASK(bytes(request / data))
    assert answer is not None
    got = Ether(answer)
    fresh = got.copy()
    del fresh[IP].chksum, fresh[ICMP].chksum
    assert bytes(fresh) == answer
    assert (got.src, got.dst, got[IP].src, got[IP].dst) == (PEER, GUEST, "192.0.2.2", "192.0.2.1")
    assert (got[ICMP].type, got[ICMP].id, got[ICMP].seq, bytes(got[ICMP].payload)) == (0, 7, 9, data)


def test_padding_behind_the_packet_is_not_echoed() -> None:
    assert ASK(bytes(ECHO) + bytes(18)) == ASK(bytes(ECHO))


@pytest.mark.parametrize(
    "frame",
    [
        Ether(src=GUEST) / ARP(hwsrc=GUEST, psrc="192.0.2.1", pdst="192.0.2.3"),
        Ether(src=GUEST) / ARP(op=2, hwsrc=GUEST, psrc="192.0.2.1", pdst="192.0.2.2"),
        Ether(src=GUEST, dst=PEER) / IP(src="192.0.2.1", dst="192.0.2.3") / ICMP(),
        Ether(src=GUEST, dst="52:54:00:00:00:01") / IP(src="192.0.2.1", dst="192.0.2.2") / ICMP(),
        Ether(src=GUEST, dst=PEER) / IP(src="192.0.2.1", dst="192.0.2.2") / ICMP(type=0),
        Ether(src=GUEST, dst=PEER) / IP(src="192.0.2.1", dst="192.0.2.2", flags="MF") / ICMP(),
        Ether(src=GUEST, dst=PEER) / IP(src="192.0.2.1", dst="192.0.2.2") / UDP(),
    ],
    ids=["other address", "an answer", "other host", "other station", "an echo reply", "a fragment", "UDP"],
)
def test_what_is_not_for_it_is_left_alone(frame: Packet) -> None:
    assert ASK(bytes(frame)) is None


@pytest.mark.parametrize("request_frame", [bytes(ECHO / b"data"), bytes(Ether() / ARP(pdst="192.0.2.2"))])
def test_cut_off_requests_are_left_alone(request_frame: bytes) -> None:
    assert [ASK(request_frame[:length]) for length in range(len(request_frame))] == [None] * len(request_frame)


def test_impossible_header_lengths_are_left_alone() -> None:
    frame = bytearray(bytes(ECHO / b"data"))
    for first in range(0x40, 0x50):
        frame[14] = first
        assert (ASK(bytes(frame)) is None) == (first != 0x45)
