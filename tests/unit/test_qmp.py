# SPDX-License-Identifier: GPL-2.0-or-later
"""The control channel, against a fake monitor."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from labnic.errors import VmLostError
from labnic.qmp import Qmp, QmpCommandError
from labnic.snapshot import Snapshots

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}


class FakeMonitor(threading.Thread):
    """Answers every command with what ``answers`` has for it, {} otherwise; jobs conclude at once."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(daemon=True)
        self.sock = sock
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}
        self.job_errors: dict[str, str] = {}
        self.silent = False

    def send(self, message: dict[str, Any]) -> None:
        self.sock.sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str, **data: Any) -> None:
        self.send({"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 0}})

    def run(self) -> None:
        self.send(GREETING)
        for request in self._requests():
            name, arguments = request["execute"], request.get("arguments", {})
            self.calls.append((name, arguments))
            if self.silent and name != "qmp_capabilities":
                continue
            answer = self.answers.get(name, {})
            reply = {"error": answer} if "class" in answer else {"return": answer}
            if name == "query-jobs":
                reply = {"return": [self._job(call) for call in self.calls if "job-id" in call[1]]}
            self.send({**reply, **({"id": request["id"]} if "id" in request else {})})
            if "job-id" in arguments:
                self.event("JOB_STATUS_CHANGE", id=arguments["job-id"], status="created")
                self.event("JOB_STATUS_CHANGE", id=arguments["job-id"], status="concluded")

    def _requests(self) -> Iterator[dict[str, Any]]:
        """The client's objects: nothing but their own braces tells where they end."""
        text = ""
        while data := self.sock.recv(65536):
            text += data.decode()
            while text:
                try:
                    request, end = json.JSONDecoder().raw_decode(text)
                except ValueError:
                    break
                text = text[end:].lstrip()
                yield request

    def _job(self, call: tuple[str, dict[str, Any]]) -> dict[str, str]:
        error = self.job_errors.get(call[0])
        return {"id": call[1]["job-id"], **({"error": error} if error else {})}


@pytest.fixture
def monitor() -> Iterator[tuple[FakeMonitor, Qmp]]:
    ours, theirs = socket.socketpair()
    fake = FakeMonitor(theirs)
    qmp = Qmp(ours)
    fake.start()
    qmp.connect(5.0)
    yield fake, qmp
    qmp.close()
    theirs.shutdown(socket.SHUT_RDWR) if theirs.fileno() >= 0 else None
    fake.join(5.0)
    theirs.close()


def test_arguments_get_their_dashes(monitor: tuple[FakeMonitor, Qmp]) -> None:
    fake, qmp = monitor
    fake.answers["some-command"] = {"x": 1}
    assert qmp.execute("some-command", node_name="n", plain=2) == {"x": 1}
    assert fake.calls[-1] == ("some-command", {"node-name": "n", "plain": 2})


def test_a_refusal_has_qemus_words(monitor: tuple[FakeMonitor, Qmp]) -> None:
    fake, qmp = monitor
    fake.answers["bad"] = {"class": "GenericError", "desc": "no such thing"}
    with pytest.raises(QmpCommandError, match="no such thing"):
        qmp.execute("bad")
    qmp.set_link("eth0", False)
    assert fake.calls[-1] == ("set_link", {"name": "eth0", "up": False})


def test_an_event_before_the_wait_counts_once(monitor: tuple[FakeMonitor, Qmp]) -> None:
    fake, qmp = monitor
    fake.event("STOP")
    fake.event("RESUME")
    assert qmp.wait_event("RESUME")["event"] == "RESUME"
    assert qmp.wait_event("STOP")["event"] == "STOP"
    with pytest.raises(VmLostError, match=r"sent no STOP event within 0.05 s"):
        qmp.wait_event("STOP", timeout=0.05)


def test_a_later_event_wakes_the_wait(monitor: tuple[FakeMonitor, Qmp]) -> None:
    fake, qmp = monitor
    timer = threading.Timer(0.05, fake.event, ("JOB",), {"id": "b"})
    fake.event("JOB", id="a")
    timer.start()
    assert qmp.wait_event("JOB", match=lambda event: event["data"]["id"] == "b")["data"]["id"] == "b"
    timer.join()


def test_silence_is_a_lost_vm(monitor: tuple[FakeMonitor, Qmp]) -> None:
    fake, qmp = monitor
    fake.silent = True
    with pytest.raises(VmLostError, match=r"did not answer within 0.1 s: query-status"):
        qmp.execute("query-status", timeout=0.1)


def test_the_end_of_qemu_is_a_lost_vm(monitor: tuple[FakeMonitor, Qmp]) -> None:
    fake, qmp = monitor
    fake.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(VmLostError):
        qmp.execute("query-status")


def test_a_qemu_that_never_greets_is_told(monitor: tuple[FakeMonitor, Qmp]) -> None:
    ours, theirs = socket.socketpair()
    qmp = Qmp(ours)
    with pytest.raises(VmLostError, match="greeting"):
        qmp.connect(0.1)
    qmp.close()
    theirs.close()


def test_after_close_nothing_is_sent(monitor: tuple[FakeMonitor, Qmp]) -> None:
    monitor[1].close()
    monitor[1].close()
    with pytest.raises(VmLostError, match="closed"):
        monitor[1].cont()


def test_states_go_into_an_image_made_once(monitor: tuple[FakeMonitor, Qmp], tmp_path: Any) -> None:
    fake, qmp = monitor
    states = Snapshots(qmp, tmp_path)
    states.save("a")
    states.save("b")
    states.load("a")
    names = [name for name, _ in fake.calls]
    assert names.count("blockdev-add") == 2
    saved = [arguments["tag"] for name, arguments in fake.calls if name == "snapshot-save"]
    assert saved == ["a", "b"]
    fake.job_errors["snapshot-load"] = "no such state"
    with pytest.raises(QmpCommandError, match="no such state"):
        states.load("c")
