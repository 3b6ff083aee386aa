# SPDX-License-Identifier: GPL-2.0-or-later
"""What NICs are plugged into while they are measured."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal

from labnic.bench import tap
from labnic.build import tool
from labnic.config import NicConfig
from labnic.lab import Parts

Backend = Literal["dgram", "none", "tap", "user", "hub", "guests"]
"""Sockets with a far end, nothing, the host's network with privileges, and without, a second NIC of the model in the
same guest, and one in a second guest."""

Plugged = tuple[Mapping[str, str], tuple[str, ...]]
"""Options of QEMU's backends by the wire's name, and more words for its command line."""


def backends_of(backend: Backend, nics: Sequence[NicConfig]) -> Plugged:
    """How to start QEMU; sockets are what a lab has by itself."""
    if backend == "none":
        return _nowhere(nics)
    if backend == "tap":
        return {nic.wire: f"tap,ifname={tap_name(nic)},script=no,downscript=no" for nic in nics}, ()
    if backend == "user":
        return {nic.wire: f"user,{_network(nic)}" for nic in nics}, ()
    if backend == "hub":
        return {nic.wire: f"hubport,hubid={number // 2}" for number, nic in enumerate(nics)}, ()
    return {}, ()


def _nowhere(nics: Sequence[NicConfig]) -> Plugged:
    """Each wire is a hub with a second port into which nothing is plugged.

    A NIC without any backend may say that it has no carrier, and a hub without another port takes no frames.
    """
    backends = {nic.wire: f"hubport,hubid={number}" for number, nic in enumerate(nics)}
    ends = (("-netdev", f"hubport,id={nic.wire}-end,hubid={number}") for number, nic in enumerate(nics))
    return backends, tuple(word for pair in ends for word in pair)


def _network(nic: NicConfig) -> str:
    """The guest finds the host under the second address of its network, as on a tap."""
    network = nic.address.rpartition(".")[0]
    return f"net={network}.0/24,host={network}.2"


def tap_name(nic: NicConfig) -> str:
    """Of the host's interface; it goes away with QEMU."""
    return f"lnb{os.getpid()}-{nic.wire}"[:15]


def obstacle(backend: Backend, parts: Parts) -> str:
    """Why this QEMU, or this user, cannot have it; empty when he can."""
    if backend == "tap":
        return tap.obstacle()
    if backend == "user":
        known = tool.output([parts.qemu.binary, "-M", "none", "-netdev", "help"], what="asking QEMU for its backends")
        return "" if "user" in known.split() else "this QEMU is built without the user network"
    return ""
