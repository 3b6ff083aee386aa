# SPDX-License-Identifier: GPL-2.0-or-later
"""Flow control of the TX rings: no frame of whatever sender and shape is refused (NETDEV_TX_BUSY) or lost."""

from __future__ import annotations

import re

import pytest

from labnic.guest import Guest
from labnic.nic import Nic

from .helpers import QUEUES, device_counters, set_channels, settled, works
from .probes import probed

RETURNS = "r:{} labnic:labnic_start_xmit rc=$retval:s32"
"""A probe on what the driver's ndo_start_xmit returns, whoever called it."""
REFUSED = "rc != 0"
COUNT = 1500
"""Frames of each sender."""


def senders(nic: Nic, settings: str) -> str:
    """A script: one packet generator on each of the guest's two CPUs, and UDP through the stack beside them.

    Prints the generators' reports.
    """
    common = f"dst_mac {nic.peer_mac}\ndst {nic.peer_ip}\ndelay 0\ncount {COUNT}\n{settings}"
    return f"""
modprobe pktgen || exit 1
cd /proc/net/pktgen
for cpu in 0 1; do
    echo "add_device {nic.name}@$cpu" >kpktgend_$cpu || exit 1
    while read -r line; do echo "$line" >{nic.name}@$cpu || exit 1; done <<END
{common}
END
done
dd if=/dev/zero bs=1400 count=200 2>/dev/null | nc.traditional -u -q 0 -w 1 {nic.peer_ip} 9 &
echo start >pgctrl
# On a busy machine that ends before the threads have begun, and a generator that runs must not be unloaded.
for cpu in 0 1; do
    until grep -q 'Result: OK' {nic.name}@$cpu; do usleep 20000; done
done
wait
cat {nic.name}@0 {nic.name}@1
rmmod pktgen
"""


@pytest.mark.parametrize("burst", [1, 16])
@pytest.mark.parametrize("channels", [1, QUEUES])
def test_fragmented_frames_of_several_senders_are_never_refused(
    guest: Guest, nic: Nic, channels: int, burst: int
) -> None:
    """The smallest rings, frames of 17 descriptors, three senders: the queues are stopped before they overflow."""
    nic.ethtool("-G", "rx", "64", "tx", "64")
    set_channels(nic, channels)
    before = settled(lambda: device_counters(nic))
    settings = f"frags 16\nmin_pkt_size 300\nmax_pkt_size 1500\nburst {burst}\n"
    settings += f"queue_map_min 0\nqueue_map_max {channels - 1}"
    with probed(guest, RETURNS, only=REFUSED) as probe:
        report = guest.sh(senders(nic, settings), timeout=60.0)
    sent = [int(number) for number in re.findall(r"pkts-sofar: (\d+) +errors: 0\b", report)]
    assert len(sent) == 2, report
    after = settled(lambda: device_counters(nic))
    assert probe.lines == ()
    assert probe.calls >= sum(sent)
    assert after["tx_frames"] - before["tx_frames"] >= sum(sent)
    lost = [name for name in after if re.fullmatch(r"queue_\d+_tx_dropped", name) and after[name] != before[name]]
    assert lost == []
    works(nic)
