# SPDX-License-Identifier: GPL-2.0-or-later
"""The far end of a wire that is measured, with the test in QEMU's place."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labnic.bench.farend import FarEnd, build_farend
from labnic.build.cache import Cache
from labnic.errors import WireError
from labnic.wire import Wire

NIC, PEER = "52:54:00:00:00:01", "52:54:00:00:00:02"
ECHO = b"\x88\xb5"


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def pktgen_frame(seq: int, length: int = 60, flow: int = 1024) -> bytes:
    """As pktgen makes it: IPv4 and UDP, its own header with a number, zeros."""
    ip = bytes.fromhex("4500") + (length - 14).to_bytes(2, "big") + bytes.fromhex("0000000020110000c6120001c6120002")
    total = sum(int.from_bytes(ip[at : at + 2], "big") for at in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + (~total & 0xFFFF).to_bytes(2, "big") + ip[12:]
    udp = flow.to_bytes(2, "big") + (9).to_bytes(2, "big") + (length - 34).to_bytes(2, "big") + bytes(2)
    own = bytes.fromhex("be9be955") + seq.to_bytes(4, "big") + bytes.fromhex("0102030405060708")
    return (mac(PEER) + mac(NIC) + b"\x08\x00" + ip + udp + own).ljust(length, b"\0")


@pytest.fixture(scope="module")
def program() -> Path:
    return build_farend(Cache())


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire("w0", read=False)
    yield wire
    wire.close()


@pytest.fixture
def far(program: Path, wire: Wire) -> Iterator[FarEnd]:
    far = FarEnd(program, wire, NIC, PEER)
    yield far
    far.close()


@pytest.fixture
def nic(wire: Wire) -> socket.socket:
    """The end that QEMU would have."""
    wire.qemu_end.settimeout(5.0)
    return wire.qemu_end


class Guest(threading.Thread):
    """Sends back what it gets, after ``change``, until the wire is closed."""

    def __init__(self, sock: socket.socket, change: bytes | None = None) -> None:
        super().__init__(daemon=True)
        self._sock, self._change = sock, change
        self.loads = 0
        self.start()

    def run(self) -> None:
        while True:
            try:
                frame = self._sock.recv(9999)
            except OSError:
                return
            if frame[12:14] != ECHO:
                self.loads += 1
                continue
            self._sock.send(frame[: -len(self._change)] + self._change if self._change else frame)


def test_good_frames_are_counted(far: FarEnd, nic: socket.socket) -> None:
    far.reset(60)
    for seq in (1, 1, 2, 2):
        nic.send(pktgen_frame(seq))
    counts = far.count()
    assert (counts.frames, counts.bad, counts.disorder, counts.foreign) == (4, 0, 0, 0)


@pytest.mark.parametrize("at", [0, 6, 14, 20, 36, 59])
def test_a_wrong_byte_is_noticed_wherever_it_is(far: FarEnd, nic: socket.socket, at: int) -> None:
    far.reset(60)
    frame = bytearray(pktgen_frame(1))
    frame[at] ^= 0x10
    nic.send(frame)
    assert far.count().bad == 1


def test_a_wrong_length_is_noticed(far: FarEnd, nic: socket.socket) -> None:
    far.reset(1500)
    nic.send(pktgen_frame(1, 1500))
    nic.send(pktgen_frame(2, 1499))
    assert far.count().bad == 1


def test_each_flow_has_an_order_of_its_own(far: FarEnd, nic: socket.socket) -> None:
    far.reset(60)
    for seq, flow in ((5, 1024), (1, 1025), (6, 1024), (2, 1025)):
        nic.send(pktgen_frame(seq, flow=flow))
    assert far.count().disorder == 0
    nic.send(pktgen_frame(3, flow=1024))
    assert far.count().disorder == 1


def test_other_frames_are_told_apart_and_forgotten_with_the_rest(far: FarEnd, nic: socket.socket) -> None:
    nic.send(b"\xff" * 60)
    assert far.count().foreign == 1
    far.reset(60)
    assert far.count().foreign == 0


def test_an_echo_is_compared_byte_for_byte(far: FarEnd, nic: socket.socket) -> None:
    Guest(nic)
    echo = far.echo(200, 300)
    assert (echo.sent, echo.echoes, echo.bad, echo.disorder) == (200, 200, 0, 0)


def test_an_echo_with_another_last_byte_is_bad(far: FarEnd, nic: socket.socket) -> None:
    Guest(nic, b"\xaa\x55")
    echo = far.echo(3, 300)
    assert (echo.echoes, echo.bad) == (3, 3)


def test_a_flood_counts_what_was_taken(far: FarEnd, nic: socket.socket) -> None:
    guest = Guest(nic)
    flood = far.flood(0.05, 60)
    assert flood.seconds >= 0.05
    assert flood.sent > 100
    for _ in range(100):
        if guest.loads == flood.sent:
            break
        threading.Event().wait(0.02)
    assert guest.loads == flood.sent


def test_pings_are_timed_and_their_loss_is_counted(far: FarEnd, nic: socket.socket) -> None:
    guest = Guest(nic)
    pings = far.ping(20, 0.001, 2000)
    assert len(pings.ns) == 20
    assert pings.lost == pings.bad == 0
    assert all(0 < value < 1e9 for value in pings.ns)
    assert guest.loads > 0


def test_an_unanswered_ping_is_lost(far: FarEnd) -> None:
    pings = far.ping(1, 0)
    assert (pings.ns, pings.lost) == ((), 1)


def test_the_end_of_qemu_is_an_error_with_its_reason(far: FarEnd, wire: Wire) -> None:
    wire.release_qemu_end()
    with pytest.raises(WireError, match="does not answer 'flood") as error:
        far.flood(5.0, 60)
    assert any("QEMU's end is gone" in line for line in error.value.log)


def test_frames_that_still_come_are_waited_for(far: FarEnd, nic: socket.socket) -> None:
    far.reset(60)

    def trickle() -> None:
        for seq in range(1, 11):
            time.sleep(0.02)
            nic.send(pktgen_frame(seq))

    sender = threading.Thread(target=trickle)
    sender.start()
    assert far.arrived(10).frames == 10
    sender.join()
    assert far.arrived(11).frames == 10, "and those that do not come are not"
