# SPDX-License-Identifier: GPL-2.0-or-later
"""The doorbell of a burst is left to its last frame, whatever becomes of that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from labnic.guest import Guest
from labnic.nic import Nic

from . import frames
from .helpers import deltas, device_counters, set_channels, settled, works
from .test_queues import fifos

TOO_LONG = 9100
"""Bytes of a frame that no MTU of the NIC allows (constant FRAME_MAX of the hardware map is less)."""


@contextmanager
def redirected(guest: Guest, nic: Nic) -> Iterator[None]:
    """What the guest sends on its loopback leaves by the NIC, longer frames than its MTU allows, too."""
    guest.run(["modprobe", "-a", "sch_ingress", "act_mirred", "cls_matchall"], check=True)
    rule = f"matchall action mirred egress redirect dev {nic.name}"
    guest.sh(f"tc qdisc add dev lo clsact && tc filter add dev lo egress {rule}")
    try:
        yield
    finally:
        guest.run(["tc", "qdisc", "del", "dev", "lo", "clsact"])


def test_burst_whose_last_frame_is_dropped_is_sent(guest: Guest, nic: Nic) -> None:
    """While the ring is full a queue of frames grows before it, and then comes in bursts. The last one is too long."""
    too_long = frames.make(TOO_LONG, dst=nic.peer_mac, src=nic.mac)
    nic.ethtool("-G", "tx", "64")
    set_channels(nic, 1)
    before = settled(lambda: device_counters(nic))
    rounds = (90, 101, 107)
    with fifos(guest, nic), redirected(guest, nic):
        for count in rounds:
            good = [frames.make(60 + n, dst=nic.peer_mac, src=nic.mac, seed=count) for n in range(count)]
            guest.write("/tmp/labnic-burst.pcap", frames.pcap([*good, too_long]))
            with nic.fault("tx-withhold", queue=0, count=0) as fault:
                guest.sh("tcpreplay --quiet --topspeed --no-flow-stats -i lo /tmp/labnic-burst.pcap")
            assert fault.hits
            frames.assert_same(good, frames.collect_test_frames(nic.wire, count, timeout=5.0))
    growth = deltas(before, settled(lambda: device_counters(nic)))
    assert growth["queue_0_tx_dropped"] == len(rounds)
    works(nic)
