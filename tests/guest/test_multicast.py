# SPDX-License-Identifier: GPL-2.0-or-later
"""The filter changes without a pause while frames come: what is wanted before and after is never missed, and in the end
exactly what is wanted comes in."""

from __future__ import annotations

import pytest

from labnic.guest import Guest
from labnic.nic import Nic

from . import frames
from .helpers import eventually, settled
from .test_filter import FOREIGN, SLOTS, entered, groups, rx_filtered, seen

WANTED = "01:00:5e:7f:12:34"
OTHER = "01:00:5e:7f:12:35"
SECOND = "02:00:00:00:00:42"
"""A unicast address besides the interface's own."""
MACVLAN = "02:00:00:00:00:51"

# Each round widens the filter and narrows it again in another way.
CHURN = """
for n in 1 2 3 4; do
    ip link set {name} promisc on && ip maddress add {other} dev {name} && ip link set {name} promisc off &&
    ip link set {name} allmulticast on && ip maddress del {other} dev {name} && ip link set {name} allmulticast off &&
    ip link add labmv0 link {name} address {macvlan} type macvlan mode bridge && ip link set labmv0 up &&
    bridge -batch /tmp/labnic-join && {change} && bridge -batch /tmp/labnic-leave && ip link del labmv0 || exit 1
done
"""

CHANGES = {
    "alone": ("true", True),
    "with other rings": ("ethtool -G {name} rx 128 && ethtool -G {name} rx 512", False),
    "with resets": ("echo 1 >/sys/class/net/{name}/device/reset", False),
    "with down and up": ("ip link set {name} down && ip link set {name} up", False),
}
"""What happens between, and whether the device receives all the while."""


@pytest.mark.parametrize("change", CHANGES)
def test_churn_under_traffic(guest: Guest, nic: Nic, change: str) -> None:
    between, receives = CHANGES[change]
    others = groups(SLOTS + 4, kind="33:33:77")
    join = "".join(f"fdb add {address} dev {nic.name} self\n" for address in others)
    guest.write("/tmp/labnic-join", join)
    guest.write("/tmp/labnic-leave", join.replace("fdb add", "fdb del"))
    guest.sh("modprobe macvlan")
    script = CHURN.format(name=nic.name, other=OTHER, macvlan=MACVLAN, change=between.format(name=nic.name))
    done = 0
    with entered(guest, nic, [WANTED, SECOND]):
        before = settled(nic.statistics)
        with guest.start(script) as process:
            while process.poll() is None:
                for dst in (WANTED, SECOND, nic.mac):
                    nic.wire.send(*(frames.to_guest(nic, 100, dst=dst, seed=n) for n in range(5)))
                done += 15
            result = process.wait()
        assert result.ok, result
        nic.configure()
        if receives:
            eventually(lambda: nic.statistics()["rx_packets"] - before["rx_packets"] >= done, True, what="frames came")
        filtered = rx_filtered(nic)
        everyone = [WANTED, OTHER, SECOND, FOREIGN, MACVLAN, others[0], others[-1], nic.mac]
        assert seen(guest, nic, everyone) == [WANTED, SECOND, nic.mac]
        assert rx_filtered(nic) - filtered == 5
    assert seen(guest, nic, [WANTED, SECOND, nic.mac]) == [nic.mac]
