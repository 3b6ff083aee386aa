# SPDX-License-Identifier: GPL-2.0-or-later
"""Every guest test finds the NIC as it was after the boot, whatever the test before did to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from labnic.agent import AgentError
from labnic.command import backoff
from labnic.errors import CommandTimeoutError
from labnic.guest import GuestCommandError
from labnic.lab import Lab
from labnic.nic import DEFAULT_MTU, Nic

ATTRIBUTES = ("mtu", "address", "flags", "carrier", "tx_queue_len")
"""Attributes of the interface that are compared. operstate is not: the kernel changes it up to a second late."""

REPAIR = """\
link set dev {name} promisc off
link set dev {name} allmulticast off
link set dev {name} mtu {mtu}
link set dev {name} address {mac}
link set dev {name} up
addr replace {address} dev {name}
neigh replace {peer_ip} lladdr {peer_mac} nud permanent dev {name}
"""


def state(nic: Nic) -> Mapping[str, str]:
    """What is compared before and after each test; read by the agent, since starting a program costs far more."""
    found = {name: _read(nic, nic.path(name)) for name in ATTRIBUTES}
    # A queue pair more than are in use has no folder.
    queues = 0
    while _read(nic, nic.path(f"queues/tx-{queues}/tx_maxrate")):
        queues += 1
    found["queues"] = str(queues)
    routes = (line.split() for line in _read(nic, "/proc/net/route").splitlines())
    found["routes"] = " ".join(words[1] for words in routes if words[0] == nic.name)
    neighbours = (line.split() for line in _read(nic, "/proc/net/arp").splitlines())
    found["neighbours"] = " ".join(words[0] + words[3] for words in neighbours if words[2::3] == ["0x6", nic.name])
    return found


def _read(nic: Nic, path: str) -> str:
    try:
        return nic.guest.read_text(path)
    except AgentError:
        return ""


def _repair(lab: Lab, nic: Nic, fresh: Mapping[str, str]) -> None:
    """The cheap way first; a new start of the driver where that does not do."""
    nic.set_link(True)
    if not _read(nic, nic.path("mtu")):
        lab.insmod()
    batch = REPAIR.format(
        name=nic.name,
        mac=nic.mac,
        mtu=DEFAULT_MTU,
        address=nic.config.address,
        peer_ip=nic.peer_ip,
        peer_mac=nic.peer_mac,
    )
    nic.guest.run(["ip", "-force", "-batch", "-"], input=batch)
    if state(nic)["queues"] != fresh["queues"]:
        nic.ethtool("-L", "combined", fresh["queues"])
    for _ in backoff(1.0):
        if state(nic) == fresh:
            return
    lab.reload_driver()


@pytest.fixture(scope="module")
def channels_in_use() -> None:
    """For a module whose tests want another number of queue pairs: overridden there, it sets and resets it once."""


@pytest.fixture(scope="module")
def _fresh(lab: Lab, channels_in_use: None) -> Mapping[str, str]:
    """The state in which each test finds the NIC."""
    return state(lab.nic)


@pytest.fixture(autouse=True)
def _as_found(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compare the NIC's state after each test with that before it, and put it back where it differs."""
    if "nic" not in request.fixturenames:
        yield
        return
    lab: Lab = request.getfixturevalue("lab")
    fresh: Mapping[str, str] = request.getfixturevalue("_fresh")
    nic = lab.nic
    nic.wire.flush()
    yield
    # The plugin tells the loss of the VM.
    if not lab.machine.alive() or state(nic) == fresh:
        return
    try:
        _repair(lab, nic, fresh)
    except (GuestCommandError, CommandTimeoutError, AgentError) as error:
        pytest.fail(f"the NIC cannot be put back as it was: {error}\n" + "\n".join(error.log))
    left = state(nic)
    assert left == fresh, "the NIC is not as it was before the test"
