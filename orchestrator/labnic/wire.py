# SPDX-License-Identifier: GPL-2.0-or-later
"""The cable of one NIC: one end is in QEMU, the other here.

Frames travel over a pair of datagram sockets, so nobody needs root and a frame keeps its bounds.  A thread takes in
what the guest sends at all times: a cable that nobody reads stops the guest's transmission.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path

from labnic.errors import WireError
from labnic.frame import Frame, FrameLike, compare_report, first_difference, to_bytes
from labnic.patience import patient
from labnic.recorder import INBOUND, OUTBOUND, Recorder

__all__ = ["Frame", "FrameLike", "MismatchError", "NoFrameError", "Wire", "first_difference"]

Match = Callable[[Frame], bool]

MAX_FRAME = 1 << 18
"""Bytes read for one datagram: more than any frame (a segmented 64 KiB packet and its header) can have."""

QUEUE_LIMIT = 65536
"""Frames kept for the test; when it does not take them the oldest is dropped and counted."""

SOCKET_BUFFER = 4 << 20
"""Bytes asked of the kernel for each end, so that a burst does not stop QEMU (the system may give less)."""


class NoFrameError(AssertionError):
    """The frame that was waited for did not come."""


class MismatchError(AssertionError):
    """A frame came, but not the expected one."""


class Wire:
    """One cable; ``name`` is that of the configuration, ``pcap`` the file that gets all frames (None: no file).

    ``check_peer`` is called when a wait ends in vain, and raises when the VM is gone: the end of a datagram socket's
    peer cannot be seen by receiving.  ``answer``, when set, gives what is sent back at once for a frame that arrives.
    With ``read`` off nobody reads here, and `our_end` is for another program.
    """

    def __init__(self, name: str, pcap: Path | None = None, *, read: bool = True) -> None:
        self.name = name
        self.sent = 0
        self.received = 0
        self.dropped = 0
        self.seen: deque[Frame] = deque(maxlen=16)
        self._queue: deque[Frame] = deque()
        self._arrived = threading.Condition()
        self._recorder = Recorder(pcap, name) if pcap else None
        self._sock, self._peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._wake, self._waker = socket.socketpair()
        for sock in (self._sock, self._peer):
            sock.setblocking(False)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
        self.check_peer: Callable[[], None] = lambda: None
        self.answer: Callable[[bytes], bytes | None] | None = None
        self._closed = False
        self._broken = ""
        self._thread = threading.Thread(target=self._drain, name=f"labnic-wire-{name}", daemon=True)
        if read:
            self._thread.start()

    @property
    def our_end(self) -> socket.socket:
        """The socket that a program can inherit which reads in our place."""
        return self._sock

    @property
    def qemu_end(self) -> socket.socket:
        """The socket that QEMU inherits; see `release_qemu_end`."""
        return self._peer

    def release_qemu_end(self) -> None:
        """Close our copy of QEMU's end, once QEMU has its own: then its going away is noticed."""
        self._peer.close()

    # The reader's thread

    def _drain(self) -> None:
        poller = select.poll()
        poller.register(self._sock, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while not self._closed:
            poller.poll()
            try:
                while not self._closed:
                    self._take(self._sock.recv(MAX_FRAME))
            except BlockingIOError:
                continue
            except OSError as error:
                self._lost(error.strerror or str(error))
                return

    def _take(self, data: bytes) -> None:
        now = time.time()
        if self._recorder:
            self._recorder.frame(data, now, INBOUND)
        frame = Frame(data, now)
        with self._arrived:
            self.received += 1
            self.seen.append(frame)
            if len(self._queue) >= QUEUE_LIMIT:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append(frame)
            self._arrived.notify_all()
        reply = self.answer(data) if self.answer else None
        if reply is not None:
            # Where QEMU has no room the answer is lost, as on a full cable: the reader must go on draining.
            with contextlib.suppress(WireError):
                self.send(reply, timeout=0.0)

    def _lost(self, reason: str) -> None:
        with self._arrived:
            if not self._closed:
                self._broken = reason
            self._arrived.notify_all()

    # For the test

    def send(self, *frames: FrameLike, timeout: float = 5.0) -> None:
        """Send frames to the NIC.

        Waits up to ``timeout`` seconds where QEMU does not take them at once; raises `WireError` after that, and when
        QEMU's end is gone.
        """
        timeout = patient(timeout)
        deadline = time.monotonic() + timeout
        for frame in frames:
            data = to_bytes(frame)
            self._send_one(data, deadline, timeout)
            if self._recorder:
                self._recorder.frame(data, time.time(), OUTBOUND)
            self.sent += 1

    def _send_one(self, data: bytes, deadline: float, timeout: float) -> None:
        while True:
            try:
                self._sock.send(data)
                return
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise WireError(f"wire {self.name}: {error.strerror}: QEMU's end is gone") from None
            left = deadline - time.monotonic()
            if left <= 0:
                raise WireError(
                    f"wire {self.name}: QEMU took no frame for {timeout:g} s ({self.sent} frames sent before)",
                    hint="a NIC without receive buffers holds frames back; is the interface up and the VM running?",
                )
            # Also wakes without room when the kernel is short of memory: then try again soon.
            select.select([], [self._sock], [], min(left, 0.05))

    def receive(self, match: Match | None = None, *, timeout: float = 5.0) -> Frame:
        """The first frame for which ``match`` holds; frames before it are dropped.

        Raises `NoFrameError` when none comes within ``timeout`` seconds, `WireError` when QEMU's end is gone.
        """
        return self._receive(match, patient(timeout))

    def _receive(self, match: Match | None, timeout: float) -> Frame:
        deadline = time.monotonic() + timeout
        skipped: list[Frame] = []
        with self._arrived:
            while True:
                while self._queue:
                    frame = self._queue.popleft()
                    if match is None or match(frame):
                        return frame
                    skipped.append(frame)
                left = deadline - time.monotonic()
                if left <= 0 or self._broken:
                    break
                self._arrived.wait(left)
        self.check_peer()
        if self._broken:
            raise WireError(f"wire {self.name}: {self._broken}: QEMU's end is gone")
        raise NoFrameError(self._silence("no matching frame" if match else "no frame", timeout, skipped))

    def collect(self, count: int, match: Match | None = None, *, timeout: float = 5.0) -> list[Frame]:
        """The next ``count`` matching frames; raises `NoFrameError` unless all come within ``timeout`` seconds."""
        timeout = patient(timeout)
        deadline = time.monotonic() + timeout
        frames: list[Frame] = []
        while len(frames) < count:
            try:
                frames.append(self._receive(match, max(0.0, deadline - time.monotonic())))
            except NoFrameError as error:
                raise NoFrameError(f"{len(frames)} of {count} frames within {timeout:g} s\n{error}") from None
        return frames

    def expect(
        self,
        expected: FrameLike,
        *,
        timeout: float = 5.0,
        ignore: Collection[str] = (),
        match: Match | None = None,
    ) -> Frame:
        """Wait for this very frame, except for the fields in ``ignore`` (``IP.id``).

        Frames that do not ``match`` are passed over.  Without ``match``, other frames may come before the expected
        one.  With it, the first matching frame must be equal, else `MismatchError` is raised.  When nothing equal
        comes, the nearest frame is compared field by field in the error.
        """
        timeout = patient(timeout)
        deadline = time.monotonic() + timeout
        others: list[Frame] = []
        while True:
            try:
                frame = self._receive(match, max(0.0, deadline - time.monotonic()))
            except NoFrameError:
                raise self._not_it(expected, others, ignore, timeout) from None
            if not first_difference(expected, frame, ignore):
                return frame
            others.append(frame)
            if match is not None:
                raise self._not_it(expected, others, ignore, timeout)

    def exchange(self, frame: FrameLike, match: Match | None = None, *, timeout: float = 5.0) -> Frame:
        """Send one frame and give the first matching answer."""
        self.send(frame, timeout=timeout)
        return self.receive(match, timeout=timeout)

    def expect_silence(self, match: Match, *, until: Match, timeout: float = 5.0) -> Frame:
        """Nothing for which ``match`` holds comes before the frame for which ``until`` does; gives that frame.

        The caller makes the marker come, for example by a request that the guest answers: so the check takes no longer
        than the answer.  Raises `MismatchError` when a matching frame comes, `NoFrameError` without the marker.
        """
        frame = self.receive(lambda frame: match(frame) or until(frame), timeout=timeout)
        if until(frame):
            return frame
        raise MismatchError("a frame came that should not have come:\n" + self._listing([frame]))

    def flush(self) -> list[Frame]:
        """Take away everything that has been received so far."""
        with self._arrived:
            frames = list(self._queue)
            self._queue.clear()
            return frames

    def mark(self, text: str) -> None:
        """Put a comment on the next recorded frame, such as the name of the test that begins."""
        if self._recorder:
            self._recorder.comment(text)

    def sync(self) -> None:
        """Put what was recorded into the pcap file."""
        if self._recorder:
            self._recorder.flush()

    def close(self) -> None:
        """Unplug; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._waker.send(b"x")
        if self._thread.ident:
            self._thread.join(2.0)
        self._lost("closed")
        for sock in (self._sock, self._peer, self._wake, self._waker):
            with contextlib.suppress(OSError):
                sock.close()
        if self._recorder:
            self._recorder.close()

    # Messages

    def _listing(self, frames: Collection[Frame]) -> str:
        return "\n".join(f"  {frame}" for frame in frames)

    def _silence(self, what: str, timeout: float, skipped: list[Frame]) -> str:
        lines = [f"wire {self.name}: {what} within {timeout:g} s"]
        if skipped:
            lines += [f"{len(skipped)} others came, the last:", self._listing(skipped[-8:])]
        elif self.seen:
            lines += ["the last frames seen before:", self._listing(list(self.seen)[-8:])]
        else:
            lines.append("no frame has been seen on this wire")
        return "\n".join(lines)

    def _not_it(
        self, expected: FrameLike, others: list[Frame], ignore: Collection[str], timeout: float
    ) -> AssertionError:
        if not others:
            return NoFrameError(
                self._silence("no frame", timeout, []) + "\nexpected:\n" + self._listing([Frame(to_bytes(expected))])
            )
        want = to_bytes(expected)
        nearest = max(others, key=lambda frame: _likeness(want, frame.data))
        report = compare_report(expected, nearest, ignore)
        last = self._listing(list(self.seen)[-8:])
        return MismatchError(f"wire {self.name}: not the expected frame: {report}\nlast frames seen:\n{last}")


def _likeness(one: bytes, other: bytes) -> int:
    """How much alike two frames are: equal bytes at equal places, less the difference in length."""
    return sum(a == b for a, b in zip(one, other, strict=False)) - abs(len(one) - len(other))


_NO_ROOM = frozenset({errno.ENOBUFS, errno.ENOMEM})
