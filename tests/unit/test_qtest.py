# SPDX-License-Identifier: GPL-2.0-or-later
"""The qtest client against a server of a few lines: what it sends and makes of answers, and that it never hangs."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from labnic.errors import VmLostError
from labnic.qtest import ConditionTimeoutError, Qtest, QtestError, wait_until

Answer = Callable[[str], str]


class Server:
    """Answers each line with what ``answer`` makes of it, and keeps the lines."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.lines: list[str] = []
        self.answer: Answer = lambda line: "OK"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self.sock.makefile("rwb", buffering=0) as stream:
            for raw in stream:
                line = raw.decode().rstrip("\n")
                self.lines.append(line)
                answer = self.answer(line)
                if answer == "GO":
                    self.sock.shutdown(socket.SHUT_RDWR)
                    return
                if answer:
                    stream.write(answer.encode() + b"\n")

    def stop(self) -> None:
        self._thread.join(5)
        self.sock.close()


@pytest.fixture
def server_and_client() -> Iterator[tuple[Server, Qtest]]:
    ours, theirs = socket.socketpair()
    server = Server(theirs)
    client = Qtest(ours, limit=5.0)
    yield server, client
    client.close()
    server.stop()


def test_accesses_have_the_letter_of_their_width(server_and_client: tuple[Server, Qtest]) -> None:
    server, client = server_and_client
    server.answer = lambda line: "OK 0x1f" if line.startswith("read") else "OK"
    assert [client.readb(1), client.readw(2), client.readl(4), client.readq(8)] == [0x1F] * 4
    client.writeb(1, 2)
    client.writew(1, 2)
    client.writel(1, 2)
    client.writeq(1, 0x12)
    assert server.lines == [
        "readb 0x1", "readw 0x2", "readl 0x4", "readq 0x8",
        "writeb 0x1 0x2", "writew 0x1 0x2", "writel 0x1 0x2", "writeq 0x1 0x12",
    ]  # fmt: skip


def test_memory_goes_as_base64(server_and_client: tuple[Server, Qtest]) -> None:
    server, client = server_and_client
    server.answer = lambda line: "OK " + base64.b64encode(b"hello").decode() if line.startswith("b64read") else "OK"
    assert client.read(0x1000, 5) == b"hello"
    client.write(0x2000, b"world")
    assert server.lines == ["b64read 0x1000 0x5", "b64write 0x2000 0x5 d29ybGQ="]


def test_a_write_too_short_for_base64_goes_byte_by_byte(server_and_client: tuple[Server, Qtest]) -> None:
    server, client = server_and_client
    client.write(0x10, b"\x01\x02")
    assert server.lines == ["writeb 0x10 0x1", "writeb 0x11 0x2"]


def test_an_answer_of_another_length_is_an_error(server_and_client: tuple[Server, Qtest]) -> None:
    server, client = server_and_client
    server.answer = lambda line: "OK AAAA"
    with pytest.raises(QtestError, match="answered 3"):
        client.read(0, 5)


def test_a_refusal_is_an_error_with_the_command_in_it(server_and_client: tuple[Server, Qtest]) -> None:
    server, client = server_and_client
    server.answer = lambda line: "FAIL Unknown command 'clock_step'"
    with pytest.raises(QtestError, match=r"clock_step.*FAIL"):
        client.clock_step(5)


def test_interrupt_lines_between_answers_are_kept(server_and_client: tuple[Server, Qtest]) -> None:
    server, client = server_and_client
    server.answer = lambda line: "IRQ raise 11\nIRQ raise 3\nIRQ lower 3\nOK"
    client.irq_intercept("/machine/unattached/device[0]")
    assert client.irqs == {11: True, 3: False}


def test_a_batch_is_sent_in_order_when_it_ends(server_and_client: tuple[Server, Qtest]) -> None:
    server, client = server_and_client
    with client.batch():
        for number in range(200):
            client.writel(number, number)
        assert server.lines == []
    assert server.lines == [f"writel {number:#x} {number:#x}" for number in range(200)]


def test_a_batch_that_raises_sends_nothing(server_and_client: tuple[Server, Qtest]) -> None:
    server, client = server_and_client

    def spoil() -> None:
        with client.batch():
            client.writel(0, 0)
            raise KeyError("spoilt")

    with pytest.raises(KeyError, match="spoilt"):
        spoil()
    client.writel(1, 1)
    assert server.lines == ["writel 0x1 0x1"]


def test_reading_inside_a_batch_is_refused(server_and_client: tuple[Server, Qtest]) -> None:
    _, client = server_and_client
    with pytest.raises(QtestError, match="inside a batch"), client.batch():
        client.readl(0)


def test_many_reads_take_few_round_trips_and_keep_their_order(server_and_client: tuple[Server, Qtest]) -> None:
    server, client = server_and_client
    server.answer = lambda line: f"OK {line.split()[1]}"
    assert client.loads(range(0, 1000, 4)) == list(range(0, 1000, 4))


def test_a_qemu_that_ends_is_a_lost_vm(server_and_client: tuple[Server, Qtest]) -> None:
    server, client = server_and_client
    server.answer = lambda line: "GO"
    with pytest.raises(VmLostError, match="readl 0x0"):
        client.readl(0)


def test_a_qemu_that_says_nothing_is_a_lost_vm(server_and_client: tuple[Server, Qtest]) -> None:
    server, client = server_and_client
    server.answer = lambda line: ""
    with pytest.raises(VmLostError, match="in time"):
        client.command("readl 0x0", limit=0.05)


def test_following_another_machine_talks_to_that_one(server_and_client: tuple[Server, Qtest]) -> None:
    first, client = server_and_client
    ours, theirs = socket.socketpair()
    second = Server(theirs)
    client.follow(Qtest(ours))
    client.writel(1, 2)
    assert (first.lines, second.lines) == ([], ["writel 0x1 0x2"])
    client.close()
    second.stop()


def test_waiting_ends_with_what_was_waited_for() -> None:
    with pytest.raises(ConditionTimeoutError, match=r"not within 0\.01 s: the moon"):
        wait_until(lambda: False, "the moon", limit=0.01)


def test_waiting_looks_at_least_once() -> None:
    wait_until(lambda: True, "nothing", limit=0)
