# SPDX-License-Identifier: GPL-2.0-or-later
"""Statistics read by several programs at once never go backwards, whatever happens to the NIC meanwhile."""

from __future__ import annotations

import itertools

import pytest

from labnic.guest import Guest
from labnic.nic import Nic

from .helpers import Flood, pci_address, works

READERS = r"""
rm -f /tmp/labnic-stop /tmp/labnic-dev /tmp/labnic-sysfs
(while [ ! -e /tmp/labnic-stop ]; do
    while read -r line; do case $line in {name}:*) echo "$line";; esac; done </proc/net/dev
done >/tmp/labnic-dev) &
(cd {statistics}; while [ ! -e /tmp/labnic-stop ]; do
    row=
    for file in rx_packets rx_bytes rx_missed_errors tx_packets tx_bytes tx_errors rx_errors multicast; do
        read -r value <$file; row="$row $value"
    done
    echo "$row"
done >/tmp/labnic-sysfs) &
(while [ ! -e /tmp/labnic-stop ]; do ethtool -S {name} >/dev/null; done) &
(while [ ! -e /tmp/labnic-stop ]; do ping -i 0.002 -w 1 {peer_ip} || usleep 10000; done) >/dev/null 2>&1 &
for round in 1 2 3; do
{change}
done
touch /tmp/labnic-stop
wait
"""

CHANGES = {
    "down and up": "ip link set dev {name} down && ip link set dev {name} up || exit 1",
    "channels": "for n in 1 8 3 2; do ethtool -L {name} combined $n || exit 1; done",
    "rings": "for n in 64 1024 512; do ethtool -G {name} rx $n tx $n || exit 1; done",
    "reset of the function": "echo 1 >/sys/bus/pci/devices/{address}/reset || exit 1",
}


def backwards(rows: list[list[int]]) -> list[tuple[list[int], list[int]]]:
    """Neighbouring rows of which the second has a value that is less than in the first."""
    pairs = itertools.pairwise(rows)
    return [(one, two) for one, two in pairs if any(later < sooner for sooner, later in zip(one, two, strict=True))]


def watch(guest: Guest, nic: Nic, change: str) -> None:
    """Two programs read /proc/net/dev and sysfs without a pause, a third ethtool -S, under traffic both ways.

    Fails when a value of a later line is less than one before.
    """
    script = READERS.format(name=nic.name, statistics=nic.path("statistics"), peer_ip=nic.peer_ip, change=change)
    with Flood(nic, answer=True, rate=1000.0):
        guest.sh(script, timeout=60.0)
    lines = guest.read_text("/tmp/labnic-dev").splitlines()
    dev = [[int(word) for word in line.partition(":")[2].split()] for line in lines]
    sysfs = [[int(word) for word in line.split()] for line in guest.read_text("/tmp/labnic-sysfs").splitlines()]
    assert len(dev) > 20
    assert len(sysfs) > 20
    assert backwards(dev) == []
    assert backwards(sysfs) == []
    assert dev[0] != dev[-1]


@pytest.mark.parametrize("change", CHANGES)
def test_statistics_never_go_backwards(guest: Guest, nic: Nic, change: str) -> None:
    watch(guest, nic, CHANGES[change].format(name=nic.name, address=pci_address(guest, nic)))
    nic.configure()
    works(nic)


def test_statistics_never_go_backwards_through_resets(guest: Guest, nic: Nic) -> None:
    """The device writes nonsense now and then, after which the driver resets it."""
    before = nic.ethtool_stats()["resets"]
    with nic.fault("tx-consumed", value=1000, count=0, chance=200):
        watch(guest, nic, "usleep 1000000")
        assert nic.ethtool_stats()["resets"] > before
    nic.wait_carrier(True)
    works(nic)
