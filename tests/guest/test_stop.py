# SPDX-License-Identifier: GPL-2.0-or-later
"""When ``ip link set down`` has returned, nothing goes on: no poll, no interrupt, no device DMA."""

from __future__ import annotations

import re

from labnic.guest import Guest
from labnic.nic import Nic

from .helpers import Flood, pci_address, works

ROUNDS = 6
AT_REST = ("dma_reads", "dma_writes", "irq_queue", "irq_misc", "rx_frames", "tx_frames", "tx_doorbells", "rx_doorbells")
"""Counters of the device that stand still while the interface is down."""

# Two looks in each round; pings that nobody answers keep sending.
SCRIPT = """
tracing=/sys/kernel/tracing
echo 1 >$tracing/events/napi/napi_poll/enable
rm -f /tmp/labnic-stop
(while [ ! -e /tmp/labnic-stop ]; do ping -i 0.002 -w 1 {peer_ip} || usleep 10000; done) >/dev/null 2>&1 &
for round in $(seq {rounds}); do
    usleep 100000
    ip link set dev {name} down
    echo >$tracing/trace
    echo "== down"; ethtool -S {name}; cat /proc/interrupts
    usleep 50000
    echo "== later"; ethtool -S {name}; cat /proc/interrupts
    echo "polls: $(grep -c 'for device {name} ' $tracing/trace)"
    ip link set dev {name} up
    ip neigh replace {peer_ip} lladdr {peer_mac} nud permanent dev {name}
done
touch /tmp/labnic-stop
wait
echo 0 >$tracing/events/napi/napi_poll/enable
"""


def looks(text: str, title: str, vectors: list[str]) -> list[dict[str, int]]:
    """The device's counters and the interrupts of these vectors, below each line with this title."""
    parts = [part.partition("\n")[2] for part in text.split("== ") if part.startswith(f"{title}\n")]
    found = []
    for part in parts:
        counters = {name: int(value) for name, value in re.findall(r"^ +(\w+): (\d+)$", part, re.MULTILINE)}
        counts = {
            number: sum(map(int, row.split()))
            for number, row in re.findall(r"^ *(\d+):((?: +\d+)+)", part, re.MULTILINE)
        }
        found.append(
            {name: counters[name] for name in (*AT_REST, "rx_disabled")}
            | {f"interrupt {number}": counts.get(number, 0) for number in vectors}
        )
    return found


def test_nothing_goes_on_after_down_under_load(guest: Guest, nic: Nic) -> None:
    """Down and up in a loop, while frames arrive and others are sent: looked at twice while down, nothing has moved."""
    vectors = guest.sh(f"ls /sys/bus/pci/devices/{pci_address(guest, nic)}/msi_irqs").split()
    script = SCRIPT.format(name=nic.name, rounds=ROUNDS, peer_ip=nic.peer_ip, peer_mac=nic.peer_mac)
    with Flood(nic, answer=True, rate=1000.0):
        text = guest.sh(script, timeout=60.0)
    before, after = looks(text, "down", vectors), looks(text, "later", vectors)
    assert len(before) == len(after) == ROUNDS
    # Frames came all the while: the device threw them away.
    assert (
        sum(late.pop("rx_disabled") - early.pop("rx_disabled") for early, late in zip(before, after, strict=True)) > 0
    )
    assert before == after
    assert re.findall(r"^polls: (\d+)$", text, re.MULTILINE) == ["0"] * ROUNDS
    assert before[0]["rx_frames"] < before[-1]["rx_frames"]
    assert before[0]["tx_frames"] < before[-1]["tx_frames"]
    nic.configure()
    works(nic)
