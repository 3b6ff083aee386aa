# SPDX-License-Identifier: GPL-2.0-or-later
"""The way to the QEMU guest agent: JSON requests and answers over a virtio serial port, never over the NIC.

The process that owns the VM holds the port; other processes (``labnic exec``) reach it through the owner's socket.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from labnic import patience
from labnic.errors import LabnicError, VmLostError

REQUEST_TIMEOUT = 15.0
"""Seconds for the agent to answer one request; it does its work in the background, so answers are quick."""

_SENTINEL = b"\xff"  # never part of UTF-8: guest-sync-delimited puts it before its answer
_CLOSED = "QEMU closed the channel to the guest"
_SENDER_MARGIN = 5.0  # seconds that another process waits longer than the owner


class AgentError(LabnicError):
    """The agent refused a request, for example because a program does not exist."""

    exit_code = 8


class Agent(Protocol):
    """Something that hands a request to the agent."""

    def request(self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout: float = ...) -> Any:
        """Give the agent's answer; raises `AgentError` or `VmLostError`."""
        ...  # pragma: no cover


class AgentPort:
    """The owner's end of the port.

    ``explain`` makes the error for a VM that stopped answering out of a sentence: it knows whether the guest panicked
    or QEMU was killed.
    """

    def __init__(self, sock: socket.socket, explain: Callable[[str], LabnicError] = VmLostError) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self._explain = explain
        self._lock = threading.Lock()
        self._buffer = b""
        self._synchronised = False
        self._serial = 0

    def wait_ready(self, timeout: float) -> None:
        """Wait until the agent runs in the guest; raises what ``explain`` makes of a VM that ends or stays silent."""
        with self._lock:
            self._synchronise(patience.deadline(timeout))

    def resynchronise(self) -> None:
        """The guest's state has been replaced: what was under way belongs to the past."""
        with self._lock:
            self._synchronised = False

    def request(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout: float = REQUEST_TIMEOUT
    ) -> Any:
        """Give the agent's answer to one request; see `Agent`."""
        message: dict[str, Any] = {"execute": command}
        if arguments:
            message["arguments"] = arguments
        deadline = patience.deadline(timeout)
        with self._lock:
            if not self._synchronised:
                self._synchronise(deadline)
            # Until the answer is there, a later request could take it for its own.
            self._synchronised = False
            self._send(json.dumps(message).encode() + b"\n", deadline)
            answer = json.loads(self._read_line(deadline))
            self._synchronised = True
        if "error" in answer:
            raise AgentError(str(answer["error"].get("desc", answer["error"])))
        return answer["return"]

    def _synchronise(self, deadline: float) -> None:
        self._serial += 1
        request = {"execute": "guest-sync-delimited", "arguments": {"id": self._serial}}
        self._buffer = b""
        self._send(_SENTINEL + json.dumps(request).encode() + b"\n", deadline)
        while True:
            line = self._read_line(deadline)
            with contextlib.suppress(ValueError, AttributeError):
                if json.loads(line.rpartition(_SENTINEL)[2]).get("return") == self._serial:
                    self._synchronised = True
                    return

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline)
            except OSError:
                raise self._explain(_CLOSED) from None

    def _read_line(self, deadline: float) -> bytes:
        pieces = [self._buffer]
        while b"\n" not in pieces[-1]:
            try:
                data = self._sock.recv(1 << 18)
            except BlockingIOError:
                self._wait(select.POLLIN, deadline)
                continue
            except OSError:
                raise self._explain(_CLOSED) from None
            if not data:
                raise self._explain(_CLOSED)
            pieces.append(data)
        line, _, self._buffer = b"".join(pieces).partition(b"\n")
        return line

    def _wait(self, event: int, deadline: float) -> None:
        poller = select.poll()
        poller.register(self._sock, event)
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise self._explain("the guest's agent does not answer")

    def close(self) -> None:
        """Close the channel."""
        self._sock.close()


class AgentServer:
    """Lets other processes of the same user ask the agent, over a socket in the run folder."""

    def __init__(self, port: Agent, path: Path) -> None:
        self._port = port
        self._path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._accept, name="labnic-agent", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="labnic-agent-client", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rwb") as stream, contextlib.suppress(OSError):
            for line in stream:
                stream.write(json.dumps(self._answer(line)).encode() + b"\n")
                stream.flush()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            call = json.loads(line)
            return {"return": self._port.request(call["execute"], call["arguments"], timeout=call["timeout"])}
        except AgentError as error:
            return {"error": error.message}
        except LabnicError as error:
            return {"lost": error.message, "log": error.log}
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"not a request: {error}"}

    def close(self) -> None:
        """Take no more clients."""
        # Only shutdown wakes the thread that waits in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)


class RemoteAgent:
    """The agent of a VM that another process owns, through the socket of its `AgentServer`."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.settimeout(5.0)
            self._sock.connect(str(path))
        except OSError as error:
            self._sock.close()
            raise VmLostError(f"the lab's owner does not answer on {path}: {error.strerror or error}") from None
        self._stream = self._sock.makefile("rwb")

    def request(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout: float = REQUEST_TIMEOUT
    ) -> Any:
        """Give the agent's answer to one request; see `Agent`."""
        call = {"execute": command, "arguments": arguments, "timeout": timeout}
        self._sock.settimeout(timeout + _SENDER_MARGIN)
        try:
            self._stream.write(json.dumps(call).encode() + b"\n")
            self._stream.flush()
            line = self._stream.readline()
        except OSError as error:
            raise VmLostError(f"the lab's owner stopped answering: {error}") from None
        if not line:
            raise VmLostError("the lab ended")
        answer = json.loads(line)
        if "lost" in answer:
            raise VmLostError(answer["lost"], log=answer["log"])
        if "error" in answer:
            raise AgentError(answer["error"])
        return answer["return"]

    def close(self) -> None:
        """Leave the owner's socket."""
        self._stream.close()
        self._sock.close()
