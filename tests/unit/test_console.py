# SPDX-License-Identifier: GPL-2.0-or-later
"""The serial console: a shell of this machine on a pseudo-terminal takes the guest's place."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from labnic.console import Console
from labnic.errors import CommandTimeoutError, UsageError, VmLostError


class FakeSerial(threading.Thread):
    """Copies between a socket, as QEMU offers it, and a shell; one client at a time, its output also into a log."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.log = folder / "console.log"
        self.log.touch()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "console.sock"))
        self.listener.listen()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execve("/bin/sh", ["sh"], {"PS1": "prompt# ", "PATH": "/usr/bin:/bin"})

    def run(self) -> None:
        client: socket.socket | None = None
        while True:
            sources: list[int | socket.socket] = [self.terminal, client or self.listener]
            ready, _, _ = select.select(sources, [], [])
            if self.listener in ready:
                try:
                    client, _ = self.listener.accept()
                except OSError:
                    return
            if self.terminal in ready:
                try:
                    data = os.read(self.terminal, 4096)
                except OSError:
                    break
                with self.log.open("ab") as log:
                    log.write(data)
                if client:
                    with contextlib.suppress(BrokenPipeError):
                        client.sendall(data)
            if client and client in ready:
                try:
                    keys = client.recv(4096)
                except ConnectionResetError:
                    keys = b""
                if keys:
                    os.write(self.terminal, keys)
                else:
                    client.close()
                    client = None
        if client:
            client.close()

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.listener.shutdown(socket.SHUT_RDWR)
        self.join(5.0)
        self.listener.close()
        os.close(self.terminal)


@pytest.fixture
def serial(tmp_path: Path) -> Iterator[FakeSerial]:
    serial = FakeSerial(tmp_path)
    serial.start()
    yield serial
    serial.end()


@pytest.fixture
def console(serial: FakeSerial, tmp_path: Path) -> Console:
    return Console(tmp_path, serial.log)


def test_commands_give_their_output(console: Console) -> None:
    with console.session() as session:
        assert session.command("echo one; echo two") == "one\ntwo"
        assert session.command("") == ""
        assert session.command("expr 6 \\* 7") == "42"


def test_the_console_can_be_left_and_entered_again(console: Console) -> None:
    for number in range(3):
        with console.session() as session:
            assert session.command(f"echo {number}") == str(number)


def test_two_at_a_time_are_refused(console: Console, tmp_path: Path) -> None:
    with console.session(), pytest.raises(UsageError, match="in use"), Console(tmp_path, console.log).session():
        pass


def test_a_wait_in_vain_has_the_last_lines(console: Console) -> None:
    with console.session() as session:
        session.command("echo the last words")
        with pytest.raises(CommandTimeoutError, match="did not print 'never'") as caught:
            session.expect("never", timeout=0.1)
    assert any("the last words" in line for line in caught.value.log)


def test_the_end_of_qemu_is_told(console: Console, tmp_path: Path) -> None:
    with console.session() as session:
        session.send_line("exit")
        with pytest.raises(VmLostError, match="QEMU ended"):
            session.expect("never", timeout=10.0)


def test_a_console_that_is_not_there_is_a_lost_vm(tmp_path: Path) -> None:
    with pytest.raises(VmLostError, match="does not answer"), Console(tmp_path, tmp_path / "log").session():
        pass


def test_attaching_needs_a_terminal(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(UsageError, match="needs a terminal"):
            console.attach()


ATTACH = """
import sys
from pathlib import Path
from labnic.console import Console
left = Console(Path(sys.argv[1]), Path(sys.argv[2])).attach()
print("left" if left else "ended", sys.stdin.isatty())
"""


def attached(serial: FakeSerial, tmp_path: Path) -> pexpect.spawn[str]:
    package = str(Path(__file__).resolve().parents[2] / "orchestrator")
    return pexpect.spawn(
        sys.executable,
        ["-c", ATTACH, str(tmp_path), str(serial.log)],
        env={**os.environ, "PYTHONPATH": package},
        encoding="utf-8",
        timeout=20,
    )


def test_a_terminal_is_attached_until_the_key_to_leave(serial: FakeSerial, tmp_path: Path) -> None:
    terminal = attached(serial, tmp_path)
    terminal.expect("prompt# ")
    terminal.send("sleep 60\r")
    terminal.expect("sleep 60")
    # Goes to the shell there and does not end the program here.
    terminal.send("\x03")
    terminal.expect("prompt# ")
    terminal.send("echo a''b\r")
    terminal.expect("ab")
    terminal.send("\x1d")
    terminal.expect("left True")
    terminal.close()


def test_an_attached_terminal_notices_the_end(serial: FakeSerial, tmp_path: Path) -> None:
    terminal = attached(serial, tmp_path)
    terminal.expect("prompt# ")
    terminal.send("exit\r")
    terminal.expect("ended True")
    terminal.close()
