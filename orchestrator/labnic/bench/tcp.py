# SPDX-License-Identifier: GPL-2.0-or-later
"""Bulk TCP between the guest's stack and the host's, with the NIC's offloads and without.

The guest always connects, since a backend without privileges (QEMU's user network) takes connections one way alone; who
sends is another matter.  It is measured here, from the first byte to the last.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from labnic.bench.sample import THROUGHPUT, NotMeasurableError, Sample
from labnic.bench.stage import Port, Stage
from labnic.bench.traffic import Measure
from labnic.build.cache import Cache
from labnic.build.program import IN_GUEST, build_program
from labnic.errors import CommandTimeoutError
from labnic.patience import patient

SOURCE = Path(__file__).with_name("stream.c")
PROGRAM = "/tmp/labnic-stream"
"""The guest's end, in the guest."""

PAIR_PORT = "5001"
"""Of the connection between two NICs; nothing else listens in the guest."""

LONGER = 2.0
"""A connection is measured for so many times as long as frames: it has to become fast first."""

LIMIT = 20.0
"""Seconds that a connection may take beyond its time."""

BLOCK = 1 << 18

WRONG_BYTE = 3
"""The status of the guest's end when what it received was not the pattern."""

PATTERN_SIZE = 65536  # as in stream.c
PATTERN = bytes((index * 0x9E3779B1 & 0xFFFFFFFF) >> 24 for index in range(PATTERN_SIZE))

OFFLOADS = {
    "rx-checksumming": "rx",
    "tx-checksumming": "tx",
    "tcp-segmentation-offload": "tso",
    "generic-segmentation-offload": "gso",
    "generic-receive-offload": "gro",
    "large-receive-offload": "lro",
    "rx-gro-hw": "rx-gro-hw",
}
"""As ``ethtool -k`` lists them, and as ``ethtool -K`` takes them."""


def build_stream(cache: Cache) -> Path:
    """The guest's end, which needs no library of the guest; raises `BuildError` with what the compiler said."""
    return build_program(SOURCE, cache, IN_GUEST)


def transfer(*, out: bool, offloads: bool) -> Measure:
    """The guest sends (``out``) or receives."""
    return partial(_transfer, out=out, offloads=offloads)


def _transfer(stage: Stage, port: Port, out: bool, offloads: bool) -> Sample:
    if port.nic is None:
        raise NotMeasurableError("it has no hardware")
    _install(stage)
    seconds = stage.seconds * LONGER
    with contextlib.nullcontext() if offloads else without_offloads(stage, port), _listener() as listener:
        where = [PROGRAM, port.nic.peer_ip, str(listener.getsockname()[1])]
        with stage.lab.guest.start([*where, *(["send", str(seconds)] if out else ["receive"])]) as process:
            connection = _accept(listener, port)
            with connection:
                done, took, good = _receive(connection) if out else _send(connection, seconds)
            result = process.wait(LIMIT)
    wrong = not good or result.status == WRONG_BYTE
    if not wrong and (result.status or int(result.stdout.split()[0]) != done):
        raise CommandTimeoutError(f"{port.contender.name}: the connection broke", log=str(result).splitlines())
    return Sample({THROUGHPUT.name: done * 8 / took / 1e6}, bad=int(wrong))


def between_nics(*, offloads: bool) -> Measure:
    """From one NIC of the guest to another of the same model, which is in a network namespace of its own."""
    return partial(_between_nics, offloads=offloads)


def _between_nics(stage: Stage, port: Port, offloads: bool) -> Sample:
    if port.nic is None or port.twin is None:
        raise NotMeasurableError("it has no twin")
    _install(stage)
    start = stage.lab.guest.start
    where = [PROGRAM, port.nic.peer_ip, PAIR_PORT]
    with (
        contextlib.nullcontext() if offloads else without_offloads(stage, port),
        start([*port.twin.enter, *where, "listen"]) as receiver,
        start([*where, "send", str(stage.seconds * LONGER)]) as sender,
    ):
        sent, received = sender.wait(LIMIT), receiver.wait(LIMIT)
    if not sent.ok or received.status not in (0, WRONG_BYTE):
        said = f"{sent}\n{received}".splitlines()
        raise CommandTimeoutError(f"{port.contender.name}: the connection broke", log=said)
    total, seconds = received.stdout.split()
    wrong = received.status == WRONG_BYTE or total != sent.stdout.split()[0]
    return Sample({THROUGHPUT.name: int(total) * 8 / float(seconds) / 1e6}, bad=int(wrong))


def _install(stage: Stage) -> None:
    guest = stage.lab.guest
    if not guest.run(["test", "-x", PROGRAM]).ok:
        guest.write(PROGRAM, build_stream(Cache()).read_bytes())
        guest.run(["chmod", "+x", PROGRAM], check=True)


@contextlib.contextmanager
def without_offloads(stage: Stage, port: Port) -> Iterator[None]:
    """The stateless offloads of the NIC, and of its twin, that are on are off for the block."""
    assert port.nic is not None
    with contextlib.ExitStack() as stack:
        stack.enter_context(_off(stage, port.nic.name, []))
        if port.twin:
            stack.enter_context(_off(stage, port.twin.name, port.twin.enter))
        yield


@contextlib.contextmanager
def _off(stage: Stage, name: str, enter: Sequence[str]) -> Iterator[None]:
    guest = stage.lab.guest
    names = offloads_on(guest.run([*enter, "ethtool", "-k", name], check=True).stdout)
    guest.run([*enter, "ethtool", "-K", name, *(word for each in names for word in (each, "off"))])
    try:
        yield
    finally:
        guest.run([*enter, "ethtool", "-K", name, *(word for each in names for word in (each, "on"))])


def offloads_on(text: str) -> list[str]:
    """What is on and can be switched, in what ``ethtool -k`` prints, under the names for ``ethtool -K``."""
    lines = (line.partition(": ") for line in text.splitlines())
    return [OFFLOADS[name] for name, _, value in lines if name in OFFLOADS and value == "on"]


@contextlib.contextmanager
def _listener() -> Iterator[socket.socket]:
    with socket.create_server(("", 0)) as listener:
        listener.settimeout(patient(LIMIT))
        yield listener


def _accept(listener: socket.socket, port: Port) -> socket.socket:
    try:
        connection, _ = listener.accept()
    except TimeoutError:
        raise CommandTimeoutError(f"{port.contender.name}: the guest does not connect") from None
    connection.settimeout(patient(LIMIT))
    return connection


def _receive(connection: socket.socket) -> tuple[int, float, bool]:
    """Bytes, seconds from the first to the last, and whether each was right."""
    expected = memoryview(PATTERN * (BLOCK // PATTERN_SIZE + 1))
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    total, good = 0, True
    begin = end = 0.0
    while count := connection.recv_into(buffer):
        end = time.monotonic()
        begin = begin or end
        at = total % PATTERN_SIZE
        good = good and view[:count] == expected[at : at + count]
        total += count
    return total, max(end - begin, 1e-3), good


def _send(connection: socket.socket, seconds: float) -> tuple[int, float, bool]:
    """Bytes, and seconds until the other end had them all."""
    begin = time.monotonic()
    total = 0
    block = PATTERN * (BLOCK // PATTERN_SIZE)
    while time.monotonic() < begin + seconds:
        connection.sendall(block)
        total += len(block)
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)
    return total, time.monotonic() - begin, True
