# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands in the guest, against a fake agent that runs them on this machine."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labnic.agent import AgentError, AgentPort, AgentServer, RemoteAgent
from labnic.errors import CommandTimeoutError, GuestPanicError, LabnicError, VmLostError
from labnic.guest import Guest, GuestCommandError


class FakeAgent(threading.Thread):
    """The protocol of qemu-ga on one end of a socket pair; commands run as processes of this machine."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self.sock = sock
        self.noise = b""
        self.silent = False
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.files: dict[int, Any] = {}

    def run(self) -> None:
        with self.sock.makefile("rb") as lines:
            for line in lines:
                if self.silent:
                    continue
                request = json.loads(line.lstrip(b"\xff"))
                name = request["execute"].replace("-", "_")
                try:
                    answer = {"return": getattr(self, name)(**_words(request.get("arguments", {})))}
                except OSError as error:
                    answer = {"error": {"class": "GenericError", "desc": f"failed: {error.strerror}"}}
                sync = b"\xff" if name == "guest_sync_delimited" else b""
                try:
                    self.sock.sendall(self.noise + sync + json.dumps(answer).encode() + b"\n")
                except OSError:
                    return
                self.noise = b""

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.communicate()
        for file in self.files.values():
            file.close()

    def guest_sync_delimited(self, id: int) -> int:
        return id

    def guest_exec(self, path: str, arg: list[str], env: list[str], capture_output: bool, input_data: str = "") -> Any:
        process = subprocess.Popen(
            [path, *arg],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(pair.split("=", 1) for pair in env),
        )
        assert process.stdin is not None
        # A command that ends without reading its input is no fault of the agent.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(base64.b64decode(input_data))
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdin = None
        self.processes[process.pid] = process
        return {"pid": process.pid}

    def guest_exec_status(self, pid: int) -> Any:
        process = self.processes[pid]
        if process.poll() is None:
            return {"exited": False}
        out, err = process.communicate()
        state: dict[str, Any] = {"exited": True}
        if process.returncode < 0:
            state["signal"] = -process.returncode
        else:
            state["exitcode"] = process.returncode
        for name, data in (("out", out), ("err", err)):
            if data:
                state[f"{name}-data"] = base64.b64encode(data).decode()
        return state

    def guest_file_open(self, path: str, mode: str) -> int:
        self.files[len(self.files)] = Path(path).open(mode + "b")  # noqa: SIM115 - closed by guest-file-close
        return len(self.files) - 1

    def guest_file_read(self, handle: int, count: int) -> Any:
        data = self.files[handle].read(count)
        return {"count": len(data), "buf-b64": base64.b64encode(data).decode(), "eof": len(data) < count}

    def guest_file_close(self, handle: int) -> Any:
        self.files[handle].close()
        return {}


def _words(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in arguments.items()}


def explain(what: str) -> LabnicError:
    return GuestPanicError("panic") if what.startswith("QEMU closed") else VmLostError(what)


@pytest.fixture
def fake() -> Iterator[tuple[FakeAgent, AgentPort]]:
    ours, theirs = socket.socketpair()
    agent = FakeAgent(theirs)
    agent.start()
    port = AgentPort(ours, explain)
    port.wait_ready(5.0)
    yield agent, port
    port.close()
    theirs.shutdown(socket.SHUT_RDWR) if theirs.fileno() >= 0 else None
    agent.join(5.0)
    agent.close()
    theirs.close()


@pytest.fixture
def guest(fake: tuple[FakeAgent, AgentPort]) -> Guest:
    return Guest(fake[1], timeout=10.0)


def test_status_and_outputs_are_apart(guest: Guest) -> None:
    result = guest.run("echo out; echo err >&2; exit 7")
    assert (result.status, result.stdout, result.stderr, result.ok) == (7, "out\n", "err\n", False)
    assert result.argv == ("sh", "-c", "echo out; echo err >&2; exit 7")


def test_a_list_is_not_touched_by_a_shell(guest: Guest) -> None:
    assert guest.run(["echo", "$HOME", "a  b"]).stdout == "$HOME a  b\n"


def test_check_raises_with_everything(guest: Guest) -> None:
    with pytest.raises(GuestCommandError, match=r"ended with status 3\nstdout: o\nstderr: e") as caught:
        guest.run("echo o; echo e >&2; exit 3", check=True)
    assert caught.value.result.status == 3
    with pytest.raises(GuestCommandError):
        guest.sh("false")
    assert guest.sh("echo '  x '") == "x"


def test_input_and_environment_reach_the_command(guest: Guest) -> None:
    assert guest.run(["cat"], input=b"\x00hello").stdout == "\x00hello"
    assert guest.run("echo $WORD", env={"WORD": "w"}).stdout == "w\n"


def test_bytes_that_are_no_text_do_not_hurt(guest: Guest) -> None:
    result = guest.run(["printf", r"a\377b"])
    assert (result.stdout, result.output) == ("a\ufffdb", b"a\xffb")


def test_a_killed_command_has_the_shells_status(guest: Guest) -> None:
    assert guest.run("kill -9 $$").status == 137


def test_a_program_that_does_not_exist_is_127(guest: Guest) -> None:
    assert guest.run(["no-such-program"]).status == 127
    with pytest.raises(GuestCommandError):
        guest.run(["no-such-program"], check=True)


def test_a_command_over_its_limit_is_killed(fake: tuple[FakeAgent, AgentPort], guest: Guest) -> None:
    with pytest.raises(CommandTimeoutError, match=r"did not end within 0.2 s") as caught:
        guest.run(["sh", "-c", "echo partly; exec sleep 60"], timeout=0.2)
    assert caught.value.log == ("partly",)
    assert all(process.poll() is not None for process in fake[0].processes.values())


def test_a_background_command_is_killed_at_the_end(guest: Guest) -> None:
    with guest.start(["sleep", "60"]) as process:
        assert process.poll() is None
    result = process.poll()
    assert result is not None
    assert result.status == 128 + 15


def test_a_background_command_can_end_by_itself(guest: Guest) -> None:
    process = guest.start(["echo", "done"])
    assert process.wait(5.0).stdout == "done\n"
    process.kill()
    with pytest.raises(CommandTimeoutError):
        guest.start(["sleep", "1"]).wait(0.05)


def test_wait_until_runs_until_it_holds(guest: Guest, tmp_path: Path) -> None:
    file = tmp_path / "count"
    command = f"echo x >> {file}; wc -l < {file}"
    result = guest.wait_until(command, predicate=lambda result: result.stdout.strip() == "3")
    assert result.stdout.strip() == "3"
    with pytest.raises(CommandTimeoutError, match=r"waited 0\.1 s in vain for the impossible") as caught:
        guest.wait_until("echo no; false", timeout=0.1, what="the impossible")
    assert "status 1" in caught.value.log[0]


def test_files_go_both_ways(guest: Guest, tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    data = bytes(range(256)) * 9000
    guest.write(path, data)
    assert guest.read(path) == data
    guest.write(path, "text\n")
    assert guest.read_text(path) == "text"
    with pytest.raises(GuestCommandError):
        guest.write("/no/such/folder/file", "x")
    with pytest.raises(AgentError):
        guest.read("/no/such/file")


def test_what_came_before_the_synchronisation_is_ignored(fake: tuple[FakeAgent, AgentPort], guest: Guest) -> None:
    fake[0].noise = b'{"return": {"stale": 1}}\n{"half": '
    fake[1].resynchronise()
    assert guest.run(["echo", "fresh"]).stdout == "fresh\n"


def test_after_a_lost_answer_the_next_request_gets_its_own(fake: tuple[FakeAgent, AgentPort], guest: Guest) -> None:
    fake[0].silent = True
    with pytest.raises(VmLostError, match="does not answer"):
        fake[1].request("guest-sync-delimited", {"id": 9}, timeout=0.1)
    fake[0].silent = False
    assert guest.run(["echo", "again"]).stdout == "again\n"


def test_the_end_of_qemu_is_explained(fake: tuple[FakeAgent, AgentPort], guest: Guest) -> None:
    fake[0].sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(GuestPanicError):
        guest.run(["true"])


def test_another_process_can_use_the_agent(fake: tuple[FakeAgent, AgentPort], tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    server = AgentServer(fake[1], path)
    remotes = [RemoteAgent(path), RemoteAgent(path)]
    threads = [
        threading.Thread(target=lambda r=remote: Guest(r).run("for i in 1 2 3; do echo $i; done", check=True))
        for remote in remotes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    guest = Guest(remotes[0])
    assert guest.run("echo remote; exit 5").status == 5
    with pytest.raises(AgentError):
        guest.read("/no/such/file")
    fake[0].sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(VmLostError, match="panic"):
        guest.run(["true"])
    server.close()
    for remote in remotes:
        remote.close()
    assert not path.exists()
    with pytest.raises(VmLostError, match="does not answer"):
        RemoteAgent(path)


def test_a_capture_is_ready_and_read_while_it_runs(
    guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for tcpdump writes the header, and then a frame for each line of a file that grows."""
    fifo = tmp_path / "frames"
    tool = tmp_path / "tcpdump"
    tool.write_text(
        "#!/usr/bin/env python3\nimport sys, struct, os\n"
        "out = open(sys.argv[sys.argv.index('-w') + 1], 'wb', 0)\n"
        "out.write(bytes(24))\n"
        f"for line in open({str(fifo)!r}, 'rb', 0):\n"
        "    data = line.rstrip()\n"
        "    record = struct.pack('<IIII', 1, 2, len(data), len(data)) + data\n"
        "    out.write(record[:9]); out.write(record[9:])\n"
    )
    tool.chmod(0o755)
    os.mkfifo(fifo)
    monkeypatch.setattr("labnic.guest.PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("labnic.capture.FOLDER", str(tmp_path))
    with guest.capture("eth0", "arp") as capture:
        with fifo.open("wb", buffering=0) as frames:
            frames.write(b"one\n")
            assert capture.wait(1) == [b"one"]
            frames.write(b"two\nthree\n")
            assert capture.wait(1, match=lambda frame: frame.startswith(b"th")) == [b"three"]
            assert capture.frames() == [b"one", b"two", b"three"]
            with pytest.raises(CommandTimeoutError, match="3 of 4 frames"):
                capture.wait(4, timeout=0.1)
        # Its input has ended, and so has the stand-in: no more frames can come.
        with pytest.raises(GuestCommandError):
            capture.wait(4, timeout=10.0)
    assert not list(tmp_path.glob("labnic-capture*"))


def test_a_capture_that_cannot_start_says_why(guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "tcpdump"
    tool.write_text("#!/bin/sh\necho 'syntax error in filter' >&2; exit 1\n")
    tool.chmod(0o755)
    monkeypatch.setattr("labnic.guest.PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(GuestCommandError, match="syntax error in filter"), guest.capture("eth0", "bad bad"):
        pass
