# SPDX-License-Identifier: GPL-2.0-or-later
"""Provocations: packets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from labnic.contract.rules import PACKETS
from labnic.contract.stage import SCRIPT_LIMIT, Stage, in_background, provocation
from labnic.flood import Flood
from labnic.pktgen import Pktgen, is_generated

XMIT = ("X1", "X2", "X4", "X6", "X7")
POLL = ("P1", "P2")

PER_QUEUE = 300
"""Frames that pktgen sends on each TX queue."""

MESSAGES = 60
"""Lines that netconsole sends."""

FILL = 900
TAIL = r"\n-" * 8 + r"\n"
"""What follows in each: with the time that the kernel puts before every line, more than netconsole sends in one frame
(MAX_PRINT_CHUNK in drivers/net/netconsole.c, 1000 bytes)."""

CONSOLE_PORT = 6666  # of the receiving end, netconsole's own default (Documentation/networking/netconsole.rst)


def pktgen(stage: Stage, count: int) -> int:
    """Let the guest send ``count`` frames on each TX queue; gives the number of queues.

    pktgen sends with BHs disabled, here in bursts with xmit_more, on each queue in turn.
    """
    queues = len(stage.sh("ls -d $net/queues/tx-*").split())
    turns = ("queue_map_min 0", f"queue_map_max {queues - 1}")
    generator = Pktgen(stage.guest, stage.nic.name, stage.nic.peer_mac, stage.nic.peer_ip)
    generator.send((f"count {count * queues}", "min_pkt_size 60", "max_pkt_size 1400", *turns))
    return queues


@provocation("traffic on every queue", *XMIT, *POLL)
def every_queue(stage: Stage) -> None:
    """Frames leave by each TX queue and come in meanwhile; all that were sent arrive."""
    stage.wire.flush()
    with Flood(stage.nic):
        queues = pktgen(stage, PER_QUEUE)
    frames = stage.wire.collect(queues * PER_QUEUE, is_generated, timeout=SCRIPT_LIMIT)
    stage.check(len(frames) == queues * PER_QUEUE, "frames were lost on the way out", "X6")
    stage.prove(PACKETS, "X6")


@provocation("the smallest rings", *XMIT, *POLL)
def small_rings(stage: Stage) -> None:
    """Bursts on rings as small as the driver allows: queues must be stopped in time."""
    stage.sh("for size in 64 128 256; do ethtool -G $dev rx $size tx $size 2>/dev/null && break; done; :")
    stage.nic.wait_carrier(True)
    stage.wire.flush()
    queues = pktgen(stage, PER_QUEUE)
    stage.wire.collect(queues * PER_QUEUE, is_generated, timeout=SCRIPT_LIMIT)
    stage.nic.arp()


WARM_UP = 20
"""Frames on each TX queue that put a new limit of bytes in force."""


@contextlib.contextmanager
def stopping_queues(stage: Stage) -> Iterator[None]:
    """A TX queue with a frame or two in flight is stopped, by a limit of bytes: from its next completion on."""
    limits = "for limit in $net/queues/tx-*/byte_queue_limits/limit_max; do [ ! -e $limit ] || echo {} >$limit; done"
    stage.sh(limits.format(100))
    pktgen(stage, WARM_UP)
    try:
        yield
    finally:
        stage.sh(limits.format("max"))


@provocation("netconsole", "X5", "P3", *XMIT, *POLL)
def netconsole(stage: Stage) -> None:
    """The kernel's messages go out over the NIC with interrupts off, under load, and have to poll for room.

    A message's first frame stops the queue; its second one comes before any interrupt can, and netpoll asks the driver.
    """
    stage.wire.flush()
    target = f"@{stage.nic.ip}/$dev,{CONSOLE_PORT}@{stage.nic.peer_ip}/{stage.nic.peer_mac}"
    stage.sh(f"modprobe netconsole netconsole={target} || exit")
    try:
        with stopping_queues(stage), Flood(stage.nic):
            # Level 2 goes to every console, and the kernel would drop all but ten of a user's lines.
            stage.sh(
                f"""echo on >/proc/sys/kernel/printk_devkmsg
for n in $(seq 1 {MESSAGES}); do printf "<2>netconsole line $n of {MESSAGES} %0{FILL}d{TAIL}" 0 >/dev/kmsg; done
echo ratelimit >/proc/sys/kernel/printk_devkmsg"""
            )
        lines = stage.wire.collect(MESSAGES, lambda frame: b"netconsole line " in frame.data, timeout=20.0)
        text = b"".join(frame.data for frame in lines)
        missing = [n for n in range(1, MESSAGES + 1) if f"netconsole line {n} of {MESSAGES}".encode() not in text]
        stage.check(not missing, f"lines that did not come by netconsole: {missing}", "X5")
    finally:
        stage.sh("rmmod netconsole")
    stage.prove(PACKETS, "X5")


@provocation("threaded polling", *POLL)
def threaded(stage: Stage) -> None:
    """The NAPIs poll in threads of their own, and go back to softirqs."""
    stage.sh("echo 1 >$net/threaded")
    try:
        with Flood(stage.nic):
            pktgen(stage, PER_QUEUE)
        stage.nic.arp()
        stage.nic.down()
        stage.nic.up()
    finally:
        stage.sh("echo 0 >$net/threaded")
    stage.nic.arp()


@provocation("down under load", "O1", "O2", "S1", "S2", "S3", "S4", *XMIT, *POLL)
def down_under_load(stage: Stage) -> None:
    """The interface goes down and up again and again while frames arrive and are answered."""
    echo = f"while [ -e $run ]; do ping -q -c 20 -i 0.01 -W 1 {stage.nic.peer_ip} >/dev/null 2>&1; done"
    with Flood(stage.nic), in_background(stage, echo):
        stage.sh(
            "for n in 1 2 3 4 5 6 7 8; do ip link set $dev down && ip link set $dev up || exit; usleep 50000; done"
        )
    stage.nic.up()
    stage.nic.arp()
