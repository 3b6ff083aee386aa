# SPDX-License-Identifier: GPL-2.0-or-later
"""The wire without QEMU: the test holds both ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.utils import PcapNgReader

from labnic.errors import VmLostError, WireError
from labnic.frame import Frame, first_difference
from labnic.wire import MismatchError, NoFrameError, Wire

PACKET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="192.0.2.1", dst="192.0.2.2", ttl=64, id=7)
PACKET = PACKET / UDP(sport=1000, dport=2000) / b"payload"


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    wire = Wire("w0", tmp_path / "w0.pcapng")
    yield wire
    wire.close()


@pytest.fixture
def nic(wire: Wire) -> socket.socket:
    """The end that QEMU would have."""
    sock = wire.qemu_end
    sock.settimeout(5.0)
    return sock


def test_a_frame_arrives_as_it_was_sent(wire: Wire, nic: socket.socket) -> None:
    wire.send(b"bytes", Frame(b"frame"), PACKET)
    assert [nic.recv(9999) for _ in range(3)] == [b"bytes", b"frame", bytes(PACKET)]
    assert wire.sent == 3


def test_receive_skips_what_does_not_match(wire: Wire, nic: socket.socket) -> None:
    for number in range(5):
        nic.send(bytes([number]))
    assert wire.receive(lambda frame: frame.data == b"\x03").data == b"\x03"
    assert wire.receive().data == b"\x04"


def test_receive_waits_for_a_frame_that_comes_later(wire: Wire, nic: socket.socket) -> None:
    timer = threading.Timer(0.05, nic.send, (b"late",))
    timer.start()
    assert wire.receive(timeout=5.0).data == b"late"
    timer.join()


def test_silence_tells_what_came_instead(wire: Wire, nic: socket.socket) -> None:
    with pytest.raises(NoFrameError, match="no frame has been seen"):
        wire.receive(timeout=0.01)
    nic.send(bytes(PACKET))
    with pytest.raises(NoFrameError, match=r"1 others came, the last:\n.*IP / UDP 192.0.2.1:1000"):
        wire.receive(lambda frame: False, timeout=0.1)


def test_collect_says_how_many_came(wire: Wire, nic: socket.socket) -> None:
    nic.send(b"1")
    nic.send(b"2")
    with pytest.raises(NoFrameError, match="2 of 3 frames"):
        wire.collect(3, timeout=0.1)


def test_expect_finds_the_frame_among_others(wire: Wire, nic: socket.socket) -> None:
    nic.send(b"x" * 60)
    nic.send(bytes(PACKET))
    assert wire.expect(PACKET).data == bytes(PACKET)


def test_expect_names_the_first_field_that_differs_and_shows_both(wire: Wire, nic: socket.socket) -> None:
    other = PACKET.copy()
    other[IP].ttl = 63
    nic.send(b"y" * 60)
    nic.send(bytes(other))
    with pytest.raises(MismatchError) as caught:
        wire.expect(PACKET, timeout=0.1)
    text = str(caught.value)
    assert "IP.ttl: expected 64, got 63" in text
    assert "expected: Ether / IP / UDP" in text
    assert "got: Ether / IP / UDP" in text
    assert "last frames seen" in text


def test_expect_with_match_compares_the_first_match(wire: Wire, nic: socket.socket) -> None:
    nic.send(b"short")
    nic.send(b"other" * 20)
    nic.send(bytes(PACKET))
    with pytest.raises(MismatchError):
        wire.expect(PACKET, match=lambda frame: len(frame) > 40)


def test_ignored_fields_may_differ(wire: Wire, nic: socket.socket) -> None:
    other = PACKET.copy()
    other[IP].id = 99
    nic.send(bytes(other))
    assert wire.expect(PACKET, ignore=("IP.id", "IP.chksum")).data == bytes(other)


def test_expect_without_any_frame_says_so(wire: Wire) -> None:
    with pytest.raises(NoFrameError, match="expected:"):
        wire.expect(PACKET, timeout=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: Ether(bytes(p)[:-1]), "Raw.load: expected 7 bytes, got 6"),
        (lambda p: Ether(bytes(p)[:-7]), "field Raw.load is missing"),
        (lambda p: bytes(p)[:5], "expected field Ether.dst, got Raw.load"),
        (lambda p: Ether(bytes(p)[:-2] + b"xd"), "Raw.load: byte 5 of 7: expected 0x61, got 0x78"),
        (lambda p: Ether(src=p.src, dst=p.dst) / Dot1Q(vlan=5) / p[IP], "Ether.type: expected 2048, got 33024"),
    ],
)
def test_differences_have_names(change: object, message: str) -> None:
    assert callable(change)
    difference = first_difference(Ether(bytes(PACKET)), change(PACKET))
    assert difference == message


def test_equal_frames_have_no_difference() -> None:
    assert first_difference(PACKET, bytes(PACKET)) == ""


def test_silence_is_proved_by_a_marker(wire: Wire, nic: socket.socket) -> None:
    def marker(frame: Frame) -> bool:
        return frame.data == b"marker"

    nic.send(b"harmless")
    nic.send(b"marker")
    assert wire.expect_silence(lambda frame: frame.data == b"bad", until=marker).data == b"marker"
    nic.send(b"bad")
    nic.send(b"marker")
    with pytest.raises(MismatchError, match="should not have come"):
        wire.expect_silence(lambda frame: frame.data == b"bad", until=marker)


def test_flush_takes_everything_away(wire: Wire, nic: socket.socket) -> None:
    nic.send(b"old")
    nic.send(b"sign")
    wire.receive(lambda frame: frame.data == b"old")
    while wire.received < 2:
        wire.receive()
    wire.flush()
    nic.send(b"new")
    assert wire.receive().data == b"new"


def test_the_wire_is_drained_when_nobody_reads(wire: Wire, nic: socket.socket) -> None:
    for number in range(5000):
        nic.send(number.to_bytes(2, "big") * 500)
    assert len(wire.collect(5000)) == 5000
    assert wire.dropped == 0


def test_a_receiver_that_takes_nothing_ends_send(wire: Wire) -> None:
    many = [b"x" * 1500] * 100_000
    with pytest.raises(WireError, match=r"took no frame for 0.2 s"):
        wire.send(*many, timeout=0.2)


def test_send_goes_on_when_there_is_room_again(wire: Wire, nic: socket.socket) -> None:
    counted: list[int] = []

    def take() -> None:
        while len(counted) < 3000:
            counted.append(len(nic.recv(9999)))

    reader = threading.Thread(target=take)
    reader.start()
    for _ in range(3000):
        wire.send(b"x" * 1500)
    reader.join(10.0)
    assert len(counted) == 3000


def test_the_end_of_qemu_is_noticed(wire: Wire, nic: socket.socket) -> None:
    nic.send(b"last")
    wire.release_qemu_end()
    assert wire.receive().data == b"last"
    with pytest.raises(WireError, match="gone"):
        wire.send(b"x")


def test_a_wait_in_vain_asks_whether_the_vm_is_there(wire: Wire) -> None:
    def gone() -> None:
        raise VmLostError("QEMU was killed")

    wire.check_peer = gone
    with pytest.raises(VmLostError, match="killed"):
        wire.receive(timeout=0.01)


def test_close_may_be_called_twice(wire: Wire) -> None:
    wire.close()
    wire.close()


def test_the_capture_has_both_directions_and_the_comments(wire: Wire, nic: socket.socket, tmp_path: Path) -> None:
    wire.mark("begin test_a")
    wire.send(PACKET)
    nic.send(bytes(PACKET)[:43])
    wire.receive()
    wire.close()
    with PcapNgReader(str(tmp_path / "w0.pcapng")) as reader:
        sent, received = list(reader)
    assert bytes(sent) == bytes(PACKET)
    assert bytes(received) == bytes(PACKET)[:43]
    assert sent.comment == b"begin test_a"
    assert received.comment is None
    assert (sent.direction, received.direction) == (2, 1)
    assert sent.sniffed_on == "w0"
    assert abs(float(sent.time) - float(received.time)) < 5
