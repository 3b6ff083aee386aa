# SPDX-License-Identifier: GPL-2.0-or-later
"""Background traffic: frames to the guest from a thread of its own while a test does something else."""

from __future__ import annotations

import ipaddress
import threading
from types import TracebackType
from typing import Self

from labnic.errors import LabnicError
from labnic.nic import Nic

BROADCAST = b"\xff" * 6

SEND_LIMIT = 60.0
"""Seconds that one frame may wait: the NIC of a guest whose driver is gone takes nothing, and what the socket's buffer
does not hold waits for the next driver."""


class Flood:
    """Frames to the guest until the end of the ``with`` block, ``rate`` a second; ``sent`` counts them.

    They are as few as leave the guest time for the commands that the test gives it.  ``frame`` is by default a request
    that the guest answers, so that both directions are busy.
    """

    def __init__(self, nic: Nic, frame: bytes | None = None, *, rate: float = 400.0) -> None:
        self.sent = 0
        self._nic = nic
        self._frame = frame or arp_request(nic)
        self._pause = 1.0 / rate
        self._stop = threading.Event()
        self._error: LabnicError | None = None
        self._thread = threading.Thread(target=self._run, name="labnic-flood", daemon=True)

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._pause):
                self._nic.wire.send(self._frame, timeout=SEND_LIMIT)
                self.sent += 1
        except LabnicError as error:  # for the test's thread
            self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(SEND_LIMIT + 5.0)
        if self._error and value is None:
            raise self._error


def arp_request(nic: Nic) -> bytes:
    """Who has the guest's address: a broadcast that makes the guest send an answer.

    A host of its own asks (the last of the network), so that a late answer is not taken for that to ``Nic.arp``.
    """
    peer = bytes.fromhex(nic.peer_mac.replace(":", ""))
    network = ipaddress.IPv4Interface(nic.config.address).network
    asker, asked = (network.broadcast_address - 5).packed, ipaddress.IPv4Address(nic.ip).packed
    head = bytes.fromhex("08060001080006040001")
    return BROADCAST + peer + head + peer + asker + bytes(6) + asked
