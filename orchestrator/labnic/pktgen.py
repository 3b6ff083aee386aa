# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's packet generator: its settings, its start, and what it says at the end."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from labnic.errors import LabnicError
from labnic.frame import Frame
from labnic.guest import Guest

LIMIT = 120.0
"""Seconds that one run of the generator may take."""

FIRST_PORT = 1024
"""UDP source port of the frames of queue 0; each queue has its own, by which the far end keeps them apart."""

Sender = Sequence[str]
"""What one thread of pktgen is told, as ``("count 100", "burst 16")`` (Documentation/networking/pktgen.rst)."""

_UNLOAD = "[ ! -e /proc/net/pktgen ] || rmmod pktgen || exit"

# A new module has no results of an earlier run, which "start" may return too early to replace.
_PREPARE = f"""
{_UNLOAD}
modprobe pktgen && cd /proc/net/pktgen || exit
set -- kpktgend_*
cpus=$#
"""

_ADD = """
echo add_device {device}@{number} >kpktgend_$(({number} % cpus)) || exit
while read -r line; do echo "$line" >{device}@{number} || exit; done <<END
{settings}
END
"""

_RUN = """
cd /proc/net/pktgen
echo start >pgctrl
for file in {device}@*; do
    until grep -q '^Result: OK' $file; do usleep 20000; done
done
"""

_COLLECT = "cd /proc/net/pktgen && cat {device}@* && cd / && rmmod pktgen"

_RESULT = re.compile(
    r"^Result: OK: (\d+)\(c\d+\+d\d+\) usec, (\d+) \(\d+byte,\d+frags\)\n.*errors: (\d+)", re.MULTILINE
)


@dataclass(frozen=True)
class Load:
    """What is sent; ``length`` is that of a frame without its checksum, ``queues`` the number of TX queues."""

    length: int
    burst: int
    queues: int = 1

    def senders(self, count: int) -> list[Sender]:
        """One for each queue, with ``count`` frames each; 0 is without end, for `Pktgen.running`.

        A sender has the queue of its processor: told a range of one queue instead, pktgen's first bursts go by the
        queues before it.
        """
        ports = range(FIRST_PORT, FIRST_PORT + self.queues)
        common = (f"count {count}", f"burst {self.burst}", f"pkt_size {self.length}", "flag QUEUE_MAP_CPU")
        return [(*common, f"udp_src_min {port}", f"udp_src_max {port}") for port in ports]


def is_generated(frame: Frame) -> bool:
    """Whether a frame is one of pktgen's: they have its magic number behind the UDP header (net/core/pktgen.c)."""
    return frame.data[42:46] == b"\xbe\x9b\xe9\x55"


@dataclass(frozen=True)
class Sent:
    """What was sent, on all queues together: frames, seconds of the slowest queue, frames that the driver refused."""

    frames: int
    seconds: float
    errors: int

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds


def parse(text: str) -> Sent:
    """Add up the results of all queues; raises `ValueError` when there is none."""
    results = [tuple(map(int, match.groups())) for match in _RESULT.finditer(text)]
    if not results:
        raise ValueError(f"pktgen has no result:\n{text}")
    times, frames, errors = zip(*results, strict=True)
    return Sent(sum(frames), max(times) / 1e6, sum(errors))


class Pktgen:
    """The generator on one interface, with the peer that its frames are for."""

    def __init__(self, guest: Guest, device: str, mac: str, ip: str) -> None:
        self._guest = guest
        self._device = device
        self._common = (f"dst {ip}", f"dst_mac {mac}", "delay 0")

    def send(self, *senders: Sender) -> Sent:
        """`prepare`, `run` and `collect`; when that fails, the generator does not run on into what comes next."""
        try:
            self.prepare(*senders)
            self.run()
            return self.collect()
        except LabnicError:
            with contextlib.suppress(LabnicError):
                self._guest.run(_UNLOAD)
            raise

    def prepare(self, *senders: Sender) -> None:
        """Load it with these senders: each in a thread of its own as far as there are processors, the first on CPU 0.

        Raises `GuestCommandError` when it does not take a setting.
        """
        script = _PREPARE
        for number, sender in enumerate(senders):
            settings = "\n".join((*self._common, *sender))
            script += _ADD.format(device=self._device, number=number, settings=settings)
        self._guest.sh(script)

    def run(self) -> None:
        """Send everything; back when the driver has had the last frame."""
        self._guest.sh(_RUN.format(device=self._device), timeout=LIMIT)

    def run_quietly(self, seconds: float) -> None:
        """As `run`, but nobody asks the guest for so long whether it is done."""
        with self._guest.start(_RUN.format(device=self._device)) as process:
            time.sleep(seconds)
            process.wait(LIMIT)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """It sends as long as the block lasts."""
        with self._guest.start(_RUN.format(device=self._device)) as process:
            try:
                yield
            finally:
                self._guest.sh("echo stop >/proc/net/pktgen/pgctrl")
            process.wait(LIMIT)

    def collect(self) -> Sent:
        """What was sent; the generator is gone after that."""
        return parse(self._guest.sh(_COLLECT.format(device=self._device)) + "\n")
