# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's network stack through the NIC: ARP, ICMP, UDP and TCP, begun from either side, over IPv4 and IPv6."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labnic.guest import Guest, GuestProcess
from labnic.nic import Nic
from labnic.wire import Frame, Wire

from . import peer
from .helpers import ipv6
from .peer import ARP, ICMP, IP, UDP, Ether, ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6ND_NS, IPv6, Packet
from .tcp import MSS, Connection

ECHO = 7
"""Port of the guest's echo service (RFC 862)."""
CLIENT = 40000
"""Port of the test's end."""
SERVICE = 5001
"""Port at which the test accepts a connection."""


def wait_listening(guest: Guest, protocol: str, port: int) -> None:
    """Wait until a program in the guest listens at a port of ``tcp`` or ``udp``."""
    state = {"tcp": "0A", "udp": "07"}[protocol]
    guest.wait_until(
        f"cat /proc/net/{protocol} /proc/net/{protocol}6 | grep -q ':{port:04X} [0-9A-F]*:0000 {state} '",
        what=f"a listener at {protocol} port {port}",
    )


def tcp_echo(guest: Guest) -> GuestProcess:
    """A program in the guest that sends back what it gets over one TCP connection."""
    server = guest.start(["busybox", "nc", "-l", "-p", str(ECHO), "-e", "cat"])
    wait_listening(guest, "tcp", ECHO)
    return server


def udp_echo(guest: Guest) -> GuestProcess:
    """A program in the guest that sends back each datagram."""
    server = guest.start(["nc.traditional", "-u", "-l", "-p", str(ECHO), "-c", "exec cat"])
    wait_listening(guest, "udp", ECHO)
    return server


# ARP


def test_arp_request_is_answered(nic: Nic) -> None:
    answer = nic.wire.exchange(
        Ether(dst="ff:ff:ff:ff:ff:ff", src=nic.peer_mac) / ARP(hwsrc=nic.peer_mac, psrc=nic.peer_ip, pdst=nic.ip),
        lambda frame: ARP in frame.packet and frame.packet[ARP].op == 2,
    ).packet
    assert (answer.src, answer.dst) == (nic.mac, nic.peer_mac)
    assert (answer[ARP].hwsrc, answer[ARP].psrc) == (nic.mac, nic.ip)


def test_arp_request_for_another_host_is_not_answered(nic: Nic) -> None:
    nic.wire.send(
        Ether(dst="ff:ff:ff:ff:ff:ff", src=nic.peer_mac) / ARP(hwsrc=nic.peer_mac, psrc=nic.peer_ip, pdst="192.0.2.99")
    )
    assert not [f for f in nic.barrier() if ARP in f.packet and f.packet[ARP].psrc == "192.0.2.99"]


def test_guest_resolves_us_and_its_ping_is_answered(guest: Guest, nic: Nic, wire: Wire) -> None:
    guest.sh(f"ip neigh del {nic.peer_ip} dev {nic.name}")
    with guest.start(["ping", "-c", "1", "-W", "5", nic.peer_ip]) as ping:
        question = wire.receive(lambda f: ARP in f.packet and f.packet[ARP].pdst == nic.peer_ip).packet
        assert (question.src, question.dst) == (nic.mac, "ff:ff:ff:ff:ff:ff")
        wire.send(
            Ether(dst=nic.mac, src=nic.peer_mac)
            / ARP(op=2, hwsrc=nic.peer_mac, psrc=nic.peer_ip, hwdst=nic.mac, pdst=nic.ip)
        )
        request = peer.check_sums(wire.receive(lambda f: ICMP in f.packet and f.packet[ICMP].type == 8).packet)
        echo = request[ICMP]
        wire.send(peer.to_ipv4(nic) / ICMP(type=0, id=echo.id, seq=echo.seq) / bytes(echo.payload))
        result = ping.wait(10.0)
    assert result.ok, result


# ICMP


def test_icmp_echo(nic: Nic) -> None:
    """Sizes around the bounds of one and two fragments; the answer has the same bytes in fragments of its own."""
    for size in (0, 1, 18, 56, 1471, 1472, 1473, 2961, 4000, 8000):
        data = peer.payload(size)
        nic.wire.send(*peer.fragments(peer.to_ipv4(nic) / ICMP(id=0x4C41, seq=size) / data, 1500))
        reply = peer.reassemble(nic, is_echo_reply)
        assert (reply[IP].src, reply[IP].dst, reply[ICMP].id, reply[ICMP].seq) == (nic.ip, nic.peer_ip, 0x4C41, size)
        assert bytes(reply[ICMP].payload) == data


def is_echo_reply(packet: Packet) -> bool:
    """Whether a packet is the answer to an ICMP echo request."""
    return ICMP in packet and packet[ICMP].type == 0


def test_icmp_echo_of_the_largest_jumbo_packet_is_not_fragmented(nic: Nic) -> None:
    nic.set_mtu(9000)
    data = peer.payload(9000 - 28)
    request = peer.to_ipv4(nic) / ICMP(id=1, seq=2) / data
    reply = nic.wire.exchange(request, lambda f: ICMP in f.packet and f.packet[ICMP].type == 0)
    assert len(reply) == 9014
    assert bytes(peer.check_sums(reply.packet)[ICMP].payload) == data


def test_port_without_listener_is_reported_unreachable(nic: Nic) -> None:
    reply = nic.wire.exchange(
        peer.to_ipv4(nic) / UDP(sport=CLIENT, dport=9) / b"nobody there", lambda f: ICMP in f.packet
    ).packet
    assert (reply[ICMP].type, reply[ICMP].code) == (3, 3)
    peer.check_sums(reply)


# UDP


def test_udp_echo(guest: Guest, nic: Nic) -> None:
    """Datagrams of one byte, of a full frame, and of several fragments come back as they were."""
    with udp_echo(guest):
        for size in (1, 17, 512, 1471, 1472, 1473, 4000):
            data = peer.payload(size)
            datagram = peer.to_ipv4(nic) / UDP(sport=CLIENT, dport=ECHO) / data
            nic.wire.send(*peer.fragments(datagram, 1500))
            reply = peer.reassemble(nic, lambda p: UDP in p and p[UDP].dport == CLIENT)
            assert reply[UDP].sport == ECHO
            assert bytes(reply[UDP].payload) == data


# TCP


@pytest.fixture(params=["ipv4", "ipv6"])
def headers(request: pytest.FixtureRequest, guest: Guest, nic: Nic) -> Iterator[Packet]:
    """Headers of a packet to the guest over one of the two protocols; the guest knows the way back."""
    if request.param == "ipv4":
        yield peer.to_ipv4(nic)
        return
    with ipv6(guest, nic) as address, peer.known_neighbour(guest, nic, peer.LINK_LOCAL):
        yield peer.to_ipv6(nic, address)


@pytest.fixture
def address6(guest: Guest, nic: Nic) -> Iterator[str]:
    """The guest's IPv6 address."""
    with ipv6(guest, nic) as address:
        yield address


def test_tcp_connection_from_the_wire(guest: Guest, nic: Nic, headers: Packet) -> None:
    """Open, echo of one byte, echo of many segments, close from our side."""
    with tcp_echo(guest) as server:
        connection = Connection(nic, headers, near=CLIENT, far=ECHO)
        connection.connect()
        connection.send(b"x")
        assert connection.receive(1) == b"x"
        data = peer.payload(20 * MSS + 7)
        connection.send(data)
        assert connection.receive(len(data)) == data
        connection.close()
        assert server.wait(5.0).ok
    assert 0 < connection.longest <= MSS


def test_tcp_connection_from_the_guest(guest: Guest, nic: Nic, headers: Packet) -> None:
    """The guest opens, sends a file of several windows, closes; what arrives is the file."""
    data = peer.payload(150_000)
    guest.write("/tmp/labnic-tcp", data)
    ours = headers.payload.src if IP in headers else f"{headers[IPv6].src}%{nic.name}"
    with guest.start(f"exec busybox nc -w 5 {ours} {SERVICE} </tmp/labnic-tcp") as client:
        connection = Connection(nic, headers, near=SERVICE, far=0)
        connection.accept()
        received = connection.receive(len(data))
        connection.close()
        assert client.wait(10.0).ok
    assert received == data
    assert connection.longest == MSS


# IPv6


def test_ipv6_neighbour_discovery(nic: Nic, wire: Wire, address6: str) -> None:
    """A question to the solicited-node group, which the NIC must let through, is answered with the MAC address."""
    group, group_mac = peer.solicited_node(address6)
    question = (
        Ether(dst=group_mac, src=nic.peer_mac)
        / IPv6(src=peer.LINK_LOCAL, dst=group, hlim=255)
        / ICMPv6ND_NS(tgt=address6)
        / source_address_option(nic)
    )
    answer = wire.exchange(question, is_neighbour_advertisement).packet
    peer.check_sums(answer)
    assert answer.src == nic.mac
    assert answer[ICMPv6ND_NA].tgt == address6
    assert answer[ICMPv6ND_NA].S == 1


def test_ipv6_echo(guest: Guest, nic: Nic, wire: Wire, address6: str) -> None:
    with peer.known_neighbour(guest, nic, peer.LINK_LOCAL):
        for size in (0, 56, 1452):
            data = peer.payload(size)
            request = peer.to_ipv6(nic, address6) / ICMPv6EchoRequest(id=3, seq=size, data=data)
            reply = wire.exchange(request, lambda f: ICMPv6EchoReply in f.packet).packet
            assert peer.check_sums(reply)[ICMPv6EchoReply].data == data
            assert (reply[IPv6].src, reply[ICMPv6EchoReply].seq) == (address6, size)


def test_guest_finds_us_over_ipv6_and_its_ping_is_answered(guest: Guest, nic: Nic, wire: Wire, address6: str) -> None:
    with guest.start(["ping6", "-c", "1", "-W", "5", "-I", nic.name, peer.LINK_LOCAL]) as ping:
        question = wire.receive(lambda f: is_neighbour_question(f) and f.packet[ICMPv6ND_NS].tgt == peer.LINK_LOCAL)
        assert question.packet.dst == peer.solicited_node(peer.LINK_LOCAL)[1]
        wire.send(
            Ether(dst=nic.mac, src=nic.peer_mac)
            / IPv6(src=peer.LINK_LOCAL, dst=address6, hlim=255)
            / ICMPv6ND_NA(tgt=peer.LINK_LOCAL, R=0, S=1, O=1)
            / target_address_option(nic)
        )
        request = peer.check_sums(wire.receive(lambda f: ICMPv6EchoRequest in f.packet).packet)[ICMPv6EchoRequest]
        wire.send(peer.to_ipv6(nic, address6) / ICMPv6EchoReply(id=request.id, seq=request.seq, data=request.data))
        result = ping.wait(10.0)
    assert result.ok, result


def is_neighbour_question(frame: Frame) -> bool:
    """Whether a frame is an IPv6 neighbour solicitation."""
    return ICMPv6ND_NS in frame.packet


def is_neighbour_advertisement(frame: Frame) -> bool:
    """Whether a frame is an IPv6 neighbour advertisement."""
    return ICMPv6ND_NA in frame.packet


def source_address_option(nic: Nic) -> Packet:
    """The option that tells the guest the MAC address of the one who asks (RFC 4861, section 4.6.1)."""
    from scapy.layers.inet6 import ICMPv6NDOptSrcLLAddr

    return ICMPv6NDOptSrcLLAddr(lladdr=nic.peer_mac)


def target_address_option(nic: Nic) -> Packet:
    """The option that tells the guest the MAC address of the one it asked for."""
    from scapy.layers.inet6 import ICMPv6NDOptDstLLAddr

    return ICMPv6NDOptDstLLAddr(lladdr=nic.peer_mac)
