# SPDX-License-Identifier: GPL-2.0-or-later
"""Every guest test finds the NIC as it was after the boot, whatever the test before did to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labnic.agent import AgentError
from labnic.errors import CommandTimeoutError
from labnic.guest import GuestCommandError
from labnic.lab import Lab
from labnic.nic import DEFAULT_MTU, Nic

# One command, so that the comparison costs one round trip: what it prints is compared as a whole.
STATE = """
cd /sys/class/net/{name} 2>/dev/null || {{ echo gone; exit; }}
echo $(cat mtu address flags carrier operstate tx_queue_len) $(ls queues)
ip -o -4 addr show dev {name} | while read -r _ _ _ address _; do echo "$address"; done
ip neigh show dev {name} nud permanent
tc qdisc show dev {name} ingress
ethtool -g {name}
"""

REPAIR = """\
link set dev {name} down
link set dev {name} promisc off
link set dev {name} allmulticast off
link set dev {name} mtu {mtu}
link set dev {name} address {mac}
addr flush dev {name}
"""


def _state(nic: Nic) -> str:
    return nic.guest.run(STATE.format(name=nic.name)).stdout


def _repair(lab: Lab, nic: Nic, fresh: str) -> None:
    """The cheap way first; a new start of the driver where that does not do."""
    guest = nic.guest
    nic.set_link(True)
    if _state(nic).strip() == "gone":
        lab.insmod()
    guest.run(["tc", "qdisc", "del", "dev", nic.name, "ingress"])
    guest.run(["ip", "-force", "-batch", "-"], input=REPAIR.format(name=nic.name, mac=nic.mac, mtu=DEFAULT_MTU))
    nic.up()
    if _state(nic) != fresh:
        lab.reload_driver()


@pytest.fixture(scope="session")
def _fresh(lab: Lab) -> str:
    """The state after the boot."""
    return _state(lab.nic)


@pytest.fixture(autouse=True)
def _as_found(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compare the NIC's state after each test with that after the boot, and put it back where it differs."""
    if "lab" not in request.fixturenames:
        yield
        return
    lab: Lab = request.getfixturevalue("lab")
    fresh: str = request.getfixturevalue("_fresh")
    nic = lab.nic
    yield
    # The plugin tells the loss of the VM.
    if not lab.machine.alive() or _state(nic) == fresh:
        return
    try:
        _repair(lab, nic, fresh)
    except (GuestCommandError, CommandTimeoutError, AgentError) as error:
        pytest.fail(f"the NIC cannot be put back as it was: {error}\n" + "\n".join(error.log))
    left = _state(nic)
    assert left == fresh, "the NIC is not as it was before the test"
