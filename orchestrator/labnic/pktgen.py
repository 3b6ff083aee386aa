# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's packet generator: its settings, its start, and what it says at the end."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from labnic.guest import Guest

LIMIT = 120.0
"""Seconds that one run of the generator may take."""

FIRST_PORT = 1024
"""UDP source port of the frames of queue 0; each queue has its own, by which the far end keeps them apart."""

# A new module has no results of an earlier run, which "start" may return too early to replace.  A thread has the queue
# of its processor: told a range of one queue instead, pktgen's first bursts go by the queues before it.
_PREPARE = """
modprobe pktgen || exit
cd /proc/net/pktgen
for queue in {queues}; do
    echo add_device {device}@$queue >kpktgend_$((queue % {cpus})) || exit
    while read -r line; do echo "$line" >{device}@$queue || exit; done <<END
count {count}
burst {burst}
pkt_size {length}
delay 0
dst {ip}
dst_mac {mac}
udp_src_min $(({port} + queue))
udp_src_max $(({port} + queue))
flag QUEUE_MAP_CPU
END
done
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
    """The generator on one interface; a context manager that leaves it unloaded."""

    def __init__(self, guest: Guest, device: str, mac: str, ip: str, cpus: int) -> None:
        self._guest = guest
        self._device = device
        self._mac = mac
        self._ip = ip
        self._cpus = cpus

    def prepare(self, load: Load, count: int) -> None:
        """Load it with ``count`` frames for each queue; 0 is without end, for `running`."""
        self._guest.sh(
            _PREPARE.format(
                device=self._device,
                queues=_numbers(range(load.queues)),
                cpus=self._cpus,
                count=count,
                burst=load.burst,
                length=load.length,
                ip=self._ip,
                mac=self._mac,
                port=FIRST_PORT,
            )
        )

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


def _numbers(values: Sequence[int]) -> str:
    return " ".join(map(str, values))
