# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames that belong to a test and to nobody else: made from a seed, recognised by their type, compared byte for byte.

Lengths are bytes of the whole frame from the destination address on, without a frame check sequence.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from labnic.guest import Guest
from labnic.nic import Nic
from labnic.wire import Frame, Wire

EXPERIMENTAL = 0x88B5
"""Ethertype of all frames made here: IEEE 802, local experimental ethertype 1. No protocol in the guest answers it."""
VLAN = 0x8100
"""Ethertype of the IEEE 802.1Q tag."""
HEADER = 14
"""Bytes of the Ethernet header."""
TAG = 4
"""Bytes of a VLAN tag; the longest frame is MTU + HEADER + TAG."""
CHUNK = 200
"""Frames on their way at once: fewer than any queue between the two ends holds."""


def mac_bytes(mac: str) -> bytes:
    """The six bytes of an address written as ``52:54:00:12:34:56``."""
    return bytes.fromhex(mac.replace(":", ""))


def make(length: int, *, dst: str, src: str, seed: int = 0, tagged: bool = False) -> bytes:
    """A frame of exactly ``length`` bytes whose payload is random, the same for the same length and seed."""
    head = mac_bytes(dst) + mac_bytes(src)
    if tagged:
        head += VLAN.to_bytes(2, "big") + (1 + seed % 4094).to_bytes(2, "big")
    head += EXPERIMENTAL.to_bytes(2, "big")
    if length < len(head):
        raise ValueError(f"a frame with this header has at least {len(head)} bytes, not {length}")
    return head + random.Random(f"{seed}/{length}").randbytes(length - len(head))


def to_guest(nic: Nic, length: int, *, seed: int = 0, dst: str | None = None) -> bytes:
    """A frame from the wire's end to the guest's address, or to ``dst``."""
    return make(length, dst=dst or nic.mac, src=nic.peer_mac, seed=seed)


def of_lengths(lengths: Iterable[int], *, mtu: int, dst: str, src: str, seed: int = 0) -> list[bytes]:
    """One frame of each length; what only fits with a VLAN tag has one."""
    return [make(n, dst=dst, src=src, seed=seed, tagged=n > mtu + HEADER) for n in lengths]


def is_test_frame(frame: Frame | bytes) -> bool:
    """Whether a frame was made by this module, tagged or not."""
    data = frame if isinstance(frame, bytes) else frame.data
    kind = int.from_bytes(data[12:14], "big")
    if kind == VLAN:
        kind = int.from_bytes(data[16:18], "big")
    return kind == EXPERIMENTAL


def chunks(frames: Sequence[bytes], size: int = CHUNK) -> Iterator[list[bytes]]:
    """``frames`` in order, at most ``size`` at a time, and those with a VLAN tag apart from those without.

    The guest's kernel shows tagged frames to a capture at once and others at the end of a batch: the driver's order can
    only be seen among frames of one kind.
    """
    for _, kind in itertools.groupby(frames, key=lambda frame: frame[12:14] == VLAN.to_bytes(2, "big")):
        same = list(kind)
        for start in range(0, len(same), size):
            yield same[start : start + size]


def assert_same(sent: Sequence[bytes], got: Sequence[bytes]) -> None:
    """The same frames in the same order; else says which one is missing, or which byte differs first."""
    for number, (wanted, found) in enumerate(zip(sent, got, strict=False)):
        if wanted == found:
            continue
        if len(wanted) != len(found):
            raise AssertionError(
                f"frame {number} of {len(sent)}: {len(found)} bytes instead of {len(wanted)} "
                f"({len(got)} frames came, {_lengths_missing(sent, got)})"
            )
        at = next(i for i, (a, b) in enumerate(zip(wanted, found, strict=True)) if a != b)
        raise AssertionError(
            f"frame {number} of {len(sent)}, {len(wanted)} bytes: byte {at} is {found[at]:#04x} instead of "
            f"{wanted[at]:#04x}\nexpected {wanted[at : at + 32].hex(' ')}\ngot      {found[at : at + 32].hex(' ')}"
        )
    assert len(sent) == len(got), f"{len(got)} frames instead of {len(sent)}: {_lengths_missing(sent, got)}"


def _lengths_missing(sent: Sequence[bytes], got: Sequence[bytes]) -> str:
    arrived = set(got)
    missing = [len(frame) for frame in sent if frame not in arrived]
    return f"missing lengths {missing[:20]}" if missing else "none is missing"


def receive_in_guest(guest: Guest, nic: Nic, frames: Sequence[bytes], *, timeout: float = 10.0) -> list[bytes]:
    """Send ``frames`` on the wire and give those of this module that the guest's driver handed to its kernel, in order.

    Waits ``timeout`` seconds for each chunk; raises CommandTimeoutError when fewer arrive than were sent.
    """
    with guest.capture(nic.name, f"ether src {nic.peer_mac}") as capture:
        done = 0
        for chunk in chunks(frames):
            nic.wire.send(*chunk)
            done += len(chunk)
            capture.wait(done, match=is_test_frame, timeout=timeout)
        return [frame for frame in capture.frames() if is_test_frame(frame)]


def send_from_guest(guest: Guest, nic: Nic, frames: Sequence[bytes], *, timeout: float = 30.0) -> None:
    """Let the guest send exactly these bytes through a packet socket and wait until they are queued."""
    path = "/tmp/labnic-replay.pcap"
    guest.write(path, pcap(frames))
    guest.run(
        ["tcpreplay", "--quiet", "--topspeed", "--no-flow-stats", "-i", nic.name, path], timeout=timeout, check=True
    )


def collect_test_frames(wire: Wire, count: int, *, timeout: float = 10.0) -> list[bytes]:
    """The next ``count`` frames of this module that come out of the wire."""
    return [frame.data for frame in wire.collect(count, is_test_frame, timeout=timeout)]


def pcap(frames: Sequence[bytes]) -> bytes:
    """A capture file holding these frames."""
    from scapy.utils import RawPcapWriter

    with tempfile.TemporaryDirectory(prefix="labnic-") as folder:
        path = Path(folder, "frames.pcap")
        with RawPcapWriter(str(path), linktype=1) as writer:
            for frame in frames:
                writer.write(frame)
        return path.read_bytes()


@contextmanager
def lossless_egress(guest: Guest, nic: Nic) -> Iterator[None]:
    """One long first-in first-out queue in front of the driver: the kernel's default, fq_codel, drops by design."""
    guest.sh(f"tc qdisc replace dev {nic.name} root pfifo limit 10000")
    try:
        yield
    finally:
        guest.run(f"tc qdisc del dev {nic.name} root")
