# SPDX-License-Identifier: GPL-2.0-or-later
"""Both ends of a measured TCP connection, on this machine, and what the NICs are plugged into for it."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labnic.bench import backend, tcp
from labnic.bench.contenders import choose
from labnic.bench.stage import SETTINGS, machine_config
from labnic.build.cache import Cache
from labnic.config import Config

FEATURES = """\
Features for eth0:
rx-checksumming: on [fixed]
tx-checksumming: on
\ttx-checksum-ipv4: off [fixed]
scatter-gather: on
tcp-segmentation-offload: off
generic-segmentation-offload: on
large-receive-offload: on
"""


@pytest.fixture(scope="module")
def stream() -> Path:
    return tcp.build_stream(Cache())


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with tcp._listener() as listener:
        yield listener


def run(stream: Path, listener: socket.socket, *words: str) -> subprocess.Popen[str]:
    command = [str(stream), "127.0.0.1", str(listener.getsockname()[1]), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_what_the_guest_sends_is_counted_and_compared(stream: Path, listener: socket.socket) -> None:
    with run(stream, listener, "send", "0.05") as guest, listener.accept()[0] as connection:
        total, seconds, good = tcp._receive(connection)
        connection.close()
        out, _ = guest.communicate(timeout=10)
    assert total == int(out.split()[0]) > 0
    assert seconds > 0
    assert good


def test_what_the_guest_receives_is_counted_and_compared(stream: Path, listener: socket.socket) -> None:
    with run(stream, listener, "receive") as guest, listener.accept()[0] as connection:
        total, seconds, _ = tcp._send(connection, 0.05)
        out, _ = guest.communicate(timeout=10)
    assert guest.returncode == 0
    assert total == int(out.split()[0]) > 0
    assert seconds >= 0.05


def test_the_guest_connects_to_itself_whoever_is_ready_first(stream: Path, listener: socket.socket) -> None:
    """As between two of its NICs: the port is free again, and who sends tries until the other listens."""
    port = str(listener.getsockname()[1])
    listener.close()
    command = [str(stream), "127.0.0.1", port]
    with subprocess.Popen([*command, "send", "0.05"], stdout=subprocess.PIPE, text=True) as sender:
        receiver = subprocess.run([*command, "listen"], capture_output=True, text=True, timeout=10)
        sent, _ = sender.communicate(timeout=10)
    assert receiver.returncode == 0, receiver.stderr
    assert receiver.stdout.split()[0] == sent.split()[0]


def test_a_wrong_byte_is_noticed_at_either_end(stream: Path, listener: socket.socket) -> None:
    wrong = bytearray(tcp.PATTERN)
    wrong[-1] ^= 1
    with run(stream, listener, "receive") as guest, listener.accept()[0] as connection:
        connection.sendall(tcp.PATTERN + wrong)
        connection.close()
        guest.communicate(timeout=10)
    assert guest.returncode == tcp.WRONG_BYTE
    sender = socket.create_connection(listener.getsockname())
    connection, _ = listener.accept()
    sender.sendall(wrong)
    sender.close()
    with connection:
        assert tcp._receive(connection)[2] is False


def test_offloads_are_found_by_the_names_that_switch_them() -> None:
    assert tcp.offloads_on(FEATURES) == ["tx", "gso", "lro"], "what is fixed cannot be switched"


def test_the_host_has_the_same_address_on_a_tap_and_in_the_user_network() -> None:
    nics = machine_config(Config(), SETTINGS["tap"], choose(["labnic", "igb"])).nics
    user, _ = backend.backends_of("user", nics)
    assert user["w1"] == "user,net=198.18.1.0/24,host=198.18.1.2"
    taps, _ = backend.backends_of("tap", nics)
    assert taps["w1"] == f"tap,ifname={backend.tap_name(nics[1])},script=no,downscript=no"
    assert len({backend.tap_name(nic) for nic in nics}) == 2
    assert all(len(backend.tap_name(nic)) <= 15 for nic in nics), "as the kernel's names"


def test_sockets_are_what_a_lab_has_by_itself() -> None:
    assert backend.backends_of("dgram", machine_config(Config(), SETTINGS["dgram"], choose([])).nics) == ({}, ())
