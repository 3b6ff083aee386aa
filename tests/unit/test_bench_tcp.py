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
from labnic.bench.sample import Sample
from labnic.bench.stage import SETTINGS, Port, machine_config
from labnic.build.cache import Cache
from labnic.command import Result
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


def start(stream: Path, listener: socket.socket, *words: str) -> subprocess.Popen[str]:
    command = [str(stream), "connect", "127.0.0.1", str(listener.getsockname()[1]), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("out", [True, False])
def test_the_host_is_the_other_end_of_what_the_guest_connects_to(
    stream: Path, listener: socket.socket, out: bool
) -> None:
    sending, receiving = ("send", "0.05"), ("receive",)
    with start(stream, listener, *(sending if out else receiving)) as guest:
        here = tcp._on_host(listener.accept()[0], receiving if out else sending)
        said, _ = guest.communicate(timeout=10)
    assert (here.status, guest.returncode) == (0, 0), here
    assert int(said.split()[0]) == int(here.stdout.split()[0]) > 0


def test_the_guest_connects_to_itself_whoever_is_ready_first(stream: Path, listener: socket.socket) -> None:
    """As between two of its NICs: the port is free again, and who sends tries until the other listens."""
    end = ["127.0.0.1", str(listener.getsockname()[1])]
    listener.close()
    with subprocess.Popen([stream, "connect", *end, "send", "0.05"], stdout=subprocess.PIPE, text=True) as sender:
        receiver = subprocess.run([stream, "listen", *end, "receive"], capture_output=True, text=True, timeout=10)
        sent, _ = sender.communicate(timeout=10)
    assert receiver.returncode == 0, receiver.stderr
    assert receiver.stdout.split()[0] == sent.split()[0]


@pytest.mark.parametrize("right", [0, 1, 200])
def test_wrong_bytes_are_noticed(stream: Path, listener: socket.socket, right: int) -> None:
    """One among the first, and a block of them after as many as are looked at each."""
    with start(stream, listener, "send", "0.01") as guest, listener.accept()[0] as connection:
        block = connection.recv(1 << 16, socket.MSG_WAITALL)
        connection.close()
        guest.communicate(timeout=10)
    wrong = bytearray(block)
    wrong[-1] ^= 1
    with start(stream, listener, "receive") as guest, listener.accept()[0] as connection:
        for _ in range(right):
            connection.sendall(block)
        connection.sendall(wrong if right < 2 else bytes(len(block)))
        connection.close()
        guest.communicate(timeout=10)
    assert guest.returncode == tcp.WRONG_BYTE


def test_a_connection_too_short_to_be_timed_has_no_throughput(stream: Path, listener: socket.socket) -> None:
    with start(stream, listener, "send", "0") as guest:
        here = tcp._on_host(listener.accept()[0], ("receive",))
        said, _ = guest.communicate(timeout=10)
    there = Result(("stream",), guest.returncode, said, "")
    port = Port(choose(["labnic"])[0], pktgen=None, tx_queues=1)  # type: ignore[arg-type]  # nobody asks it
    assert tcp._sample(port, there, here) == Sample()


def test_an_end_with_other_words_says_which_there_are(stream: Path) -> None:
    for words in ((), ("connect", "nowhere", "1", "receive"), ("stdin",), ("stdin", "send"), ("stdin", "receive", "1")):
        said = subprocess.run([stream, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
        assert (said.returncode, said.stderr[:13]) == (2, "usage: stream"), words


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
