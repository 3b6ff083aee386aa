# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's control channel for code that is not asynchronous: a thin layer over the qemu.qmp library."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from qemu.qmp import ExecuteError, QMPClient, QMPError
from qemu.qmp.events import EventListener

from labnic.errors import LabnicError, VmLostError
from labnic.patience import patient

T = TypeVar("T")
Event = Mapping[str, Any]

KEPT_EVENTS = 1000
"""Events nobody waited for are kept up to this number, then the oldest is forgotten."""


# The library logs what it also raises; without a handler that would go to the user's terminal.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


class QmpCommandError(LabnicError):
    """QEMU refused a command."""

    exit_code = 8


class Qmp:
    """One QMP session, served by a thread of its own.

    ``sock`` is a connected stream socket whose other end is QEMU's monitor.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._client = QMPClient("labnic")
        self._loop = asyncio.new_event_loop()
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._arrived = threading.Condition()
        self._closed = False
        self._pump: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._serve, name="labnic-qmp", daemon=True)
        self._sock = sock
        self._thread.start()

    @classmethod
    def at(cls, path: Path, timeout: float = 5.0) -> Self:
        """A session at a socket of QEMU's that listens, greeting included; raises `VmLostError` when none answers."""
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(timeout)
            sock.connect(str(path))
            sock.settimeout(None)
        except OSError as error:
            sock.close()
            raise VmLostError(f"QEMU's monitor {path} cannot be reached: {error}") from None
        qmp = cls(sock)
        try:
            qmp.connect(timeout)
        except LabnicError:
            qmp.close()
            raise
        return qmp

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T], timeout: float, what: str) -> T:
        if self._closed:
            work.close()
            raise VmLostError(f"QEMU's monitor is closed ({what})")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise VmLostError(f"QEMU did not answer within {timeout:g} s: {what}") from None
        except ExecuteError as error:
            raise QmpCommandError(f"QEMU refused {what}: {error}") from None
        except (QMPError, OSError, EOFError, concurrent.futures.CancelledError) as error:
            raise VmLostError(f"QEMU's monitor went away ({what}): {error or type(error).__name__}") from None

    def connect(self, timeout: float = 20.0) -> None:
        """Wait for QEMU's greeting; raises `VmLostError` when QEMU ends first or is silent for ``timeout`` seconds."""
        self._call(self._connect(timeout), timeout + 5.0, "greeting")

    async def _connect(self, timeout: float) -> None:
        # The library does not clean up when it is cancelled, but it does when the other end goes away.
        loop = asyncio.get_running_loop()
        limit = loop.call_later(timeout, self._sock.shutdown, socket.SHUT_RDWR)
        listener = EventListener()
        self._client.register_listener(listener)
        try:
            await self._client.connect(self._sock)
        finally:
            limit.cancel()
        self._pump = asyncio.create_task(self._collect(listener))

    async def _collect(self, listener: EventListener) -> None:
        async for event in listener:
            with self._arrived:
                self._events.append(event)
                self._arrived.notify_all()

    def execute(self, command: str, *, timeout: float = 10.0, **arguments: Any) -> Any:
        """Run one command; underscores in argument names become dashes.

        Raises `QmpCommandError` when QEMU refuses it, `VmLostError` when there is no answer in ``timeout`` seconds.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self._call(self._client.execute(command, named or None), timeout, command)

    def hmp(self, line: str, *, timeout: float = 10.0) -> str:
        """Run a line of the human monitor and give what it prints."""
        return str(self.execute("human-monitor-command", timeout=timeout, command_line=line))

    def events(self) -> list[Event]:
        """The events that nobody has waited for yet, oldest first."""
        with self._arrived:
            return list(self._events)

    def wait_event(self, name: str, *, timeout: float = 5.0, match: Callable[[Event], bool] | None = None) -> Event:
        """Take the first event of that name for which ``match`` holds, waiting up to ``timeout`` seconds for it.

        An event that came before the call counts, and is taken only once.  Raises `VmLostError` when none comes.
        """
        timeout = patient(timeout)
        deadline = time.monotonic() + timeout
        with self._arrived:
            while True:
                for event in self._events:
                    if event["event"] == name and (match is None or match(event)):
                        self._events.remove(event)
                        return event
                left = deadline - time.monotonic()
                if left <= 0:
                    seen = ", ".join(sorted({str(event["event"]) for event in self._events})) or "none"
                    raise VmLostError(f"QEMU sent no {name} event within {timeout:g} s (others: {seen})")
                self._arrived.wait(left)

    def query_status(self) -> str:
        """QEMU's run state: ``running``, ``paused``, ``guest-panicked``..."""
        return str(self.execute("query-status")["status"])

    def cont(self) -> None:
        """Let the virtual CPUs run."""
        self.execute("cont")

    def set_link(self, device: str, up: bool) -> None:
        """Plug or unplug the cable of a NIC, named by its device id."""
        self.execute("set_link", name=device, up=up)

    def run_job(self, command: str, job: str, *, timeout: float = 30.0, **arguments: Any) -> None:
        """Run a command that is a background job and wait for its end; raises `QmpCommandError` when it fails."""
        self.execute(command, job_id=job, **arguments)

        def concluded(event: Event) -> bool:
            return bool(event["data"]["id"] == job and event["data"]["status"] == "concluded")

        self.wait_event("JOB_STATUS_CHANGE", timeout=timeout, match=concluded)
        state = next(entry for entry in self.execute("query-jobs") if entry["id"] == job)
        self.execute("job-dismiss", id=job)
        if "error" in state:
            raise QmpCommandError(f"QEMU's {command} failed: {state['error']}")

    def close(self) -> None:
        """End the session and its thread; safe to call twice."""
        if self._closed:
            return
        with contextlib.suppress(LabnicError):
            self._call(self._finish(), 3.0, "disconnect")
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2.0)
        self._sock.close()

    async def _finish(self) -> None:
        if self._pump is not None:
            with contextlib.suppress(QMPError, OSError, EOFError):
                await asyncio.wait_for(self._client.disconnect(), 2.0)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
