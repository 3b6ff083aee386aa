# SPDX-License-Identifier: GPL-2.0-or-later
"""Bulk TCP between the guest's stack and the host's, with the NIC's offloads and without.

The guest always connects, since a backend without privileges (QEMU's user network) takes connections one way alone; who
sends is another matter.  The same small program is at both ends: a slow one on the host would bound every NIC.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from labnic.bench.sample import THROUGHPUT, NotMeasurableError, Sample
from labnic.bench.stage import Port, Stage
from labnic.bench.traffic import Measure
from labnic.build.cache import Cache
from labnic.build.program import IN_GUEST, build_program
from labnic.command import Result
from labnic.errors import CommandTimeoutError
from labnic.guest import Guest
from labnic.machine import leashed
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

WRONG_BYTE = 3
"""The status of an end when what it received was not the pattern."""

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
    """Either end, which needs no library of the guest; raises `BuildError` with what the compiler said."""
    return build_program(SOURCE, cache, IN_GUEST)


def transfer(*, out: bool, offloads: bool) -> Measure:
    """The guest sends (``out``) or receives."""
    return partial(_transfer, out=out, offloads=offloads)


def _transfer(stage: Stage, port: Port, out: bool, offloads: bool) -> Sample:
    if port.nic is None:
        raise NotMeasurableError("it has no hardware")
    _install(stage.lab.guest)
    send, receive = ("send", str(stage.seconds * LONGER)), ("receive",)
    with contextlib.nullcontext() if offloads else without_offloads(stage, port), _listener() as listener:
        where = [PROGRAM, "connect", port.nic.peer_ip, str(listener.getsockname()[1])]
        with stage.lab.guest.start([*where, *(send if out else receive)]) as process:
            here = _on_host(_accept(listener, port), receive if out else send)
            there = process.wait(LIMIT)
    return _sample(port, *((there, here) if out else (here, there)))


def _sample(port: Port, sender: Result, receiver: Result) -> Sample:
    """What arrived, by the receiver's clock."""
    if not sender.ok or receiver.status not in (0, WRONG_BYTE):
        said = f"{sender}\n{receiver}".splitlines()
        raise CommandTimeoutError(f"{port.contender.name}: the connection broke", log=said)
    total, timed, seconds = receiver.stdout.split()
    wrong = receiver.status == WRONG_BYTE or total != sender.stdout.split()[0]
    values = {THROUGHPUT.name: int(timed) * 8 / float(seconds) / 1e6} if int(timed) else {}
    return Sample(values, bad=int(wrong))


def _on_host(connection: socket.socket, words: Sequence[str]) -> Result:
    """Our end of the connection; it is closed afterwards."""
    command = [str(build_stream(Cache())), "stdin", *words]
    with connection:
        try:
            done = subprocess.run(
                leashed(command, {}),
                stdin=connection.fileno(),
                capture_output=True,
                text=True,
                timeout=patient(LIMIT),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CommandTimeoutError(f"`{shlex.join(command)}` does not end within {LIMIT:g} s") from None
    return Result(tuple(command), done.returncode, done.stdout, done.stderr)


def between_nics(*, offloads: bool) -> Measure:
    """From a NIC to its twin of the same model, in a network of its own or in another guest."""
    return partial(_between_nics, offloads=offloads)


def _between_nics(stage: Stage, port: Port, offloads: bool) -> Sample:
    if port.nic is None or port.twin is None:
        raise NotMeasurableError("it has no twin")
    here, there = stage.lab.guest, port.twin.guest
    for guest in (here, there):
        _install(guest)
    where = (port.nic.peer_ip, PAIR_PORT)
    with (
        contextlib.nullcontext() if offloads else without_offloads(stage, port),
        there.start([*port.twin.enter, PROGRAM, "listen", *where, "receive"]) as receiver,
        here.start([PROGRAM, "connect", *where, "send", str(stage.seconds * LONGER)]) as sender,
    ):
        return _sample(port, sender.wait(LIMIT), receiver.wait(LIMIT))


def _install(guest: Guest) -> None:
    if not guest.run(["test", "-x", PROGRAM]).ok:
        guest.write(PROGRAM, build_stream(Cache()).read_bytes())
        guest.run(["chmod", "+x", PROGRAM], check=True)


@contextlib.contextmanager
def without_offloads(stage: Stage, port: Port) -> Iterator[None]:
    """The stateless offloads of the NIC, and of its twin, that are on are off for the block."""
    assert port.nic is not None
    with contextlib.ExitStack() as stack:
        stack.enter_context(_off(stage.lab.guest, port.nic.name, []))
        if port.twin:
            stack.enter_context(_off(port.twin.guest, port.twin.name, port.twin.enter))
        yield


@contextlib.contextmanager
def _off(guest: Guest, name: str, enter: Sequence[str]) -> Iterator[None]:
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
    return connection
