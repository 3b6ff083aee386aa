# SPDX-License-Identifier: GPL-2.0-or-later
"""Provocations: what a user asks of an interface."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from labnic.contract.rules import PACKETS
from labnic.contract.stage import NotProvokedError, Stage, in_background, provocation
from labnic.contract.traffic import PER_QUEUE, pktgen, stopping_queues
from labnic.errors import CommandTimeoutError
from labnic.flood import Flood
from labnic.frame import Frame

READERS = 2
"""Processes that read the statistics at the same time."""


@provocation("up and down", "O1", "O2", "S1", "S2", "S3", "S4")
def up_and_down(stage: Stage) -> None:
    """Without any traffic."""
    stage.sh("for n in 1 2 3 4 5; do ip link set $dev down && ip link set $dev up || exit; done")
    stage.nic.up()


@provocation("ioctls", "I1", "I2")
def ioctls(stage: Stage) -> None:
    """MII registers, and hardware time stamps, which are answered or refused."""
    stage.sh("mii-tool $dev >/dev/null 2>&1; hwstamp_ctl -i $dev -t 1 -r 0 >/dev/null 2>&1; :")
    stage.sh("hwstamp_ctl -i $dev -t 0 -r 0 >/dev/null 2>&1; hwstamp_ctl -i $dev >/dev/null 2>&1; :")


@provocation("statistics, read by several at once", "G1", "G2")
def statistics(stage: Stage) -> None:
    """Readers of /proc and sysfs while the interface is busy, goes down and up, and changes its queues."""
    read = "while [ -e $run ]; do cat /proc/net/dev $net/statistics/* >/dev/null; ip -s link show $dev >/dev/null; done"
    both = " & ".join([f"({read})"] * READERS) + "; wait"
    with Flood(stage.nic), in_background(stage, both):
        pktgen(stage, PER_QUEUE)
        stage.sh(
            """for n in 1 2 3; do
ip link set $dev down; ip link set $dev up
ethtool -L $dev combined 1 2>/dev/null; ethtool -L $dev combined 2 2>/dev/null
usleep 50000
done"""
        )
        stage.nic.up()


CHURN = """
while [ -e $run ]; do
    for n in $(seq 1 40); do echo "maddr add 01:00:5e:7f:00:$(printf %02x $n) dev $dev"; done | ip -batch - || exit
    ip link set $dev promisc on; ip link set $dev promisc off
    ip link set $dev allmulticast on; ip link set $dev allmulticast off
    ip link add link $dev name churn0 type macvlan && ip link set churn0 up && ip link del churn0
    for n in $(seq 1 40); do echo "maddr del 01:00:5e:7f:00:$(printf %02x $n) dev $dev"; done | ip -batch - || exit
done
"""

GROUP = "01:00:5e:01:02:03"
GROUP_FRAMES = 200


@provocation("the address filter under traffic", "M1", "M2", "X3", "X1")
def filters(stage: Stage) -> None:
    """Groups come and go, promiscuous modes and a macvlan too: frames of a group that stays all arrive."""
    frame = bytes.fromhex(GROUP.replace(":", "")) + bytes.fromhex(stage.nic.peer_mac.replace(":", "")) + b"\x88\xb5"
    # Some drivers' link takes its time to come back from the provocation before.
    stage.nic.wait_carrier(True)
    stage.nic.arp()
    stage.sh(f"ip maddr add {GROUP} dev $dev")
    try:
        with stage.nic.capture(f"ether dst {GROUP}") as capture, in_background(stage, CHURN):
            for number in range(GROUP_FRAMES):
                stage.wire.send(frame + number.to_bytes(2, "big") + bytes(60))
                time.sleep(0.005)
            # Those that are missing then are told below.
            with contextlib.suppress(CommandTimeoutError):
                capture.wait(GROUP_FRAMES, timeout=15.0)
            seen = capture.frames()
    finally:
        stage.sh(f"ip maddr del {GROUP} dev $dev")
    judge_group(stage, [int.from_bytes(data[14:16], "big") for data in seen])


def judge_group(stage: Stage, numbers: Sequence[int]) -> None:
    """Of the frames of a group that stayed these came, by their numbers: X3 says that all do."""
    lost = sorted(set(range(GROUP_FRAMES)) - set(numbers))
    stage.check(not lost, f"of {GROUP_FRAMES} frames of a group that stayed these were lost: {lost}", "X3")
    in_order = list(numbers) == sorted(set(numbers))
    stage.check(in_order, "frames of a group that stayed came twice or disordered", "X3")
    stage.prove(PACKETS, "X3")


@provocation("changes of the MTU", "N3")
def mtu(stage: Stage) -> None:
    """In the driver's range, at its ends, and beyond them, where the kernel refuses before the driver is asked."""
    answer = stage.sh(
        """set -- $(ip -d link show $dev | sed -n 's/.*minmtu \\([0-9]*\\) maxmtu \\([0-9]*\\).*/\\1 \\2/p')
for mtu in 1400 9000 $1 $2 1500; do [ $mtu -gt $2 ] || ip link set $dev mtu $mtu || exit; done
ip link set $dev mtu $(($2 + 1)) 2>/dev/null && echo above
[ $1 -le 0 ] || ip link set $dev mtu $(($1 - 1)) 2>/dev/null && echo below
cat $net/mtu"""
    )
    stage.check(answer == "1500", f"an MTU out of range was taken: {answer}")


@provocation("queues and rings", "O1", "S1", "S4", "P1")
def queues(stage: Stage) -> None:
    """Other numbers of queues and sizes of rings while frames arrive."""
    with Flood(stage.nic):
        stage.sh(
            """for n in 1 2 4 8 2; do ethtool -L $dev combined $n 2>/dev/null; usleep 20000; done
for size in 128 1024 512; do ethtool -G $dev rx $size tx $size 2>/dev/null; usleep 20000; done; :"""
        )
    stage.nic.up()
    stage.nic.arp()


@provocation("traffic control", "N4")
def traffic_control(stage: Stage) -> None:
    """Classes are mapped to queues by mqprio, with the hardware's help where it has any."""
    stage.sh(
        """modprobe sch_mqprio
tc qdisc add dev $dev root mqprio num_tc 2 map 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 queues 1@0 1@1 hw 1 2>/dev/null &&
    tc qdisc del dev $dev root
tc qdisc add dev $dev clsact 2>/dev/null && tc qdisc del dev $dev clsact
:"""
    )
    stage.nic.arp()


TIMEOUT_FRAMES = 20
WATCHDOG = (r"NETDEV WATCHDOG", r"transmit queue \d+ timed out", r"timed out")
"""The kernel's own message of a TX timeout: a warning in 6.1, a line in 6.12."""

TIMEOUT_LIMIT = 40.0
"""Seconds for the watchdog, whose patience is five seconds and whose timer looks as often."""


@provocation("TX timeout", "T1", "T2", "T3", expects=WATCHDOG)
def tx_timeout(stage: Stage) -> None:
    """The device withholds completions; the driver recovers, and each frame is on the wire once."""
    if not stage.faults:
        raise NotProvokedError("QEMU's own devices withhold nothing")
    stage.wire.flush()
    before = stage.nic.ethtool_stats()["tx_timeouts"]
    # A queue that is not stopped has not timed out.
    with stopping_queues(stage), stage.nic.fault("tx-withhold", count=0):
        # Raw frames of an experimental type, numbered, from the guest's own stack.
        _send_numbered(stage, 0)
        stage.guest.wait_until(
            f"ethtool -S {stage.nic.name}",
            timeout=TIMEOUT_LIMIT,
            predicate=lambda result: f"tx_timeouts: {before}\n" not in result.stdout,
            what="the watchdog to find that a queue has stopped",
        )
    _send_numbered(stage, TIMEOUT_FRAMES)
    frames = stage.wire.collect(2 * TIMEOUT_FRAMES, _numbered, timeout=10.0)
    frames += filter(_numbered, stage.nic.barrier())
    seen = sorted(_number(frame) for frame in frames)
    stage.check(seen == list(range(2 * TIMEOUT_FRAMES)), f"frames were lost or came twice: {seen}", "T3")
    stage.prove(PACKETS, "T3")


def _send_numbered(stage: Stage, first: int) -> None:
    """UDP packets from the guest, each with a number in its text; the shell itself sends them."""
    last = first + TIMEOUT_FRAMES - 1
    target = f"/dev/udp/{stage.nic.peer_ip}/9"  # the discard port
    stage.sh(f"bash -c 'for ((n = {first}; n <= {last}; n++)); do echo \"numbered $n.\" >{target}; done'")


def _numbered(frame: Frame) -> bool:
    return b"numbered " in frame.data


def _number(frame: Frame) -> int:
    return int(frame.data.partition(b"numbered ")[2].partition(b".")[0])
