# SPDX-License-Identifier: GPL-2.0-or-later
"""A TX queue whose completions do not come: the reset sends what was not sent, and nothing that was.

All frames are numbered. The device withholds the reports of one queue: what is in its ring then has been sent, and
nobody but the device knows that. What waits before the ring has not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic

from . import frames
from .helpers import QUEUES, channels, eventually, set_channels, works
from .test_queues import fifos, steered, steering_mac

USED = 4
"""Queue pairs in use."""
STUCK = 2
"""The one that gets no reports."""
BURST = 60
"""More than the smallest ring takes before it stops its queue."""
TIMEOUT = 20.0
"""Seconds in which the kernel's watchdog, which looks every 5, sees a stuck queue, and the driver resets."""

WATCHDOG = r"NETDEV WATCHDOG|transmit queue \d+ timed out"


@pytest.fixture(scope="module")
def channels_in_use(lab: Lab) -> Iterator[None]:
    """Several queues, so that one can be stuck while others are not."""
    usual = channels(lab.nic)
    set_channels(lab.nic, USED)
    yield
    set_channels(lab.nic, usual)


@contextmanager
def small_rings(guest: Guest, nic: Nic) -> Iterator[None]:
    """The smallest TX rings, which alone decide when a queue stops; a long first-in first-out queue before them.

    Without limits on bytes, that is: they would stop the queue after its first frame.
    """
    limits = f"for file in {nic.path('queues')}/tx-*/byte_queue_limits/limit_min; do echo {{}} >$file; done"
    nic.ethtool("-G", "tx", "64")
    guest.sh(
        f"echo pfifo_fast >/proc/sys/net/core/default_qdisc && tc qdisc replace dev {nic.name} root handle 10: mq; "
        + limits.format(1000000)
    )
    try:
        with steered(guest, nic):
            # The first completion puts the limit in force.
            frames.send_from_guest(guest, nic, [frames.make(60, dst=steering_mac(STUCK), src=nic.mac)])
            frames.collect_test_frames(nic.wire, 1)
            yield
    finally:
        guest.sh(f"echo fq_codel >/proc/sys/net/core/default_qdisc; tc qdisc del dev {nic.name} root")
        guest.sh(limits.format(0))
        nic.ethtool("-G", "tx", "512")


def numbered(nic: Nic, first: int, count: int = BURST, queue: int = STUCK) -> list[bytes]:
    """Frames that take this TX queue, each with a number of its own: every second one too long to be copied."""
    to = steering_mac(queue)
    made = (frames.make(300 if n % 2 else 100, dst=to, src=nic.mac, seed=n) for n in range(first, first + count))
    return [frame[:14] + (first + n).to_bytes(4, "big") + frame[18:] for n, frame in enumerate(made)]


def wait_reset(nic: Nic, before: int) -> None:
    """Wait until the driver has reset the device once more."""
    # In the middle of a reset there are no statistics to be had.
    eventually(lambda: nic.ethtool_stats().get("resets", before) > before, True, timeout=TIMEOUT, what="a reset")


def arrived(nic: Nic, count: int) -> list[bytes]:
    """The next ``count`` frames of this test, and whatever else comes until the guest has answered an ARP request."""
    got = frames.collect_test_frames(nic.wire, count)
    return got + [frame.data for frame in nic.barrier() if frames.is_test_frame(frame)]


@pytest.mark.expect_splat(WATCHDOG)
def test_each_timeout_loses_and_repeats_nothing(guest: Guest, nic: Nic) -> None:
    """Twice in a row, while another queue goes on: each frame of either arrives once, in its order."""
    with small_rings(guest, nic):
        for first in (1000, 2000):
            before = nic.ethtool_stats()
            burst, other = numbered(nic, first), numbered(nic, first + 500, count=20, queue=STUCK - 1)
            with nic.fault("tx-withhold", queue=STUCK, count=0):
                frames.send_from_guest(guest, nic, [*burst, *other])
                wait_reset(nic, before["resets"])
            got = arrived(nic, len(burst) + len(other))
            frames.assert_same(burst, [frame for frame in got if frame[5] == STUCK])
            frames.assert_same(other, [frame for frame in got if frame[5] == STUCK - 1])
            assert nic.ethtool_stats()["tx_timeouts"] > before["tx_timeouts"]
    assert nic.sysfs_int(f"queues/tx-{STUCK}/tx_timeout") > 0
    works(nic)


RECONFIGURATIONS = {
    "ring size": "ethtool -G {name} tx 128",
    "more channels": f"ethtool -L {{name}} combined {QUEUES}",
    "fewer channels": f"ethtool -L {{name}} combined {STUCK + 1}",
    "MTU": "ip link set dev {name} mtu 3000",
}


@pytest.mark.parametrize("change", RECONFIGURATIONS)
def test_change_of_a_stuck_queue_loses_and_repeats_nothing(guest: Guest, nic: Nic, change: str) -> None:
    """What the watchdog would do comes early: new rings take over what the old ones had not sent."""
    with small_rings(guest, nic), nic.fault("tx-withhold", queue=STUCK, count=0):
        burst = numbered(nic, 0)
        frames.send_from_guest(guest, nic, burst)
        guest.sh(RECONFIGURATIONS[change].format(name=nic.name))
        nic.clear_faults()
        frames.assert_same(burst, arrived(nic, BURST))
        set_channels(nic, USED)
    nic.set_mtu(1500)
    works(nic)


LIFECYCLES = {
    "down and up": "ip link set dev {name} down && ip link set dev {name} up",
    "reset of the function": "echo 1 >/sys/class/net/{name}/device/reset",
    "unload": "rmmod labnic && insmod /lib/modules/labnic.ko",
}


@pytest.mark.expect_splat(WATCHDOG)  # a slow machine comes so far no sooner
@pytest.mark.parametrize("change", LIFECYCLES)
def test_nothing_is_sent_twice_over_the_life_of_a_stuck_queue(guest: Guest, nic: Nic, change: str) -> None:
    """Frames before the ring go with it; those that were sent are not sent again by the next life."""
    nic.ethtool("-G", "tx", "64")
    with fifos(guest, nic), steered(guest, nic), nic.fault("tx-withhold", queue=STUCK, count=0):
        burst = numbered(nic, 0)
        frames.send_from_guest(guest, nic, burst)
        guest.sh(LIFECYCLES[change].format(name=nic.name), timeout=10.0)
    nic.configure()
    got = [frame.data for frame in nic.barrier() if frames.is_test_frame(frame)]
    assert got
    frames.assert_same(burst[: len(got)], got)
    set_channels(nic, USED)
    works(nic)


# Each report is a wrong one at a time, so that resets come as often as the driver allows.
RACES = """
rm -f /tmp/labnic-stop
(while [ ! -e /tmp/labnic-stop ]; do ping -i 0.002 -w 1 {peer_ip} || usleep 10000; done) >/dev/null 2>&1 &
for n in 1 2; do
    ethtool -G {name} tx 128 && ethtool -L {name} combined 3 && ethtool -G {name} tx 64 &&
    ethtool -L {name} combined 4 && ip link set {name} down && ip link set {name} up || exit 1
    ip neigh replace {peer_ip} lladdr {peer_mac} nud permanent dev {name}
    usleep 200000
done
{last}
status=$?
touch /tmp/labnic-stop
wait
exit $status
"""


# A reset that the driver puts off leaves its queue stopped, on a slow machine for longer than the watchdog allows.
@pytest.mark.expect_splat(WATCHDOG)
@pytest.mark.parametrize("last", ["true", "rmmod labnic"], ids=["end", "unload"])
def test_resets_between_all_other_changes(guest: Guest, lab: Lab, nic: Nic, last: str) -> None:
    """The reset's work item comes whenever it likes: between, before and after changes, and the last time."""
    before = nic.ethtool_stats()["resets"]
    script = RACES.format(name=nic.name, peer_ip=nic.peer_ip, peer_mac=nic.peer_mac, last=last)
    with nic.fault("tx-consumed", value=1000, count=0, chance=300) as fault:
        guest.sh(script, timeout=60.0)
        assert fault.hits > 3
    if last == "true":
        assert nic.ethtool_stats()["resets"] > before
    else:
        lab.insmod()
        set_channels(nic, USED)
    nic.configure()
    works(nic)
