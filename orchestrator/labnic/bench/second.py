# SPDX-License-Identifier: GPL-2.0-or-later
"""A second guest, whose NICs are on the other ends of the first one's wires."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from labnic.bench.twin import Twin
from labnic.config import Config, NicConfig
from labnic.lab import Lab
from labnic.nic import Nic
from labnic.report import Phases


def wires(nics: Sequence[NicConfig], folder: Path, *, first: bool) -> Mapping[str, str]:
    """QEMU's options for an end of each NIC's wire, a stream socket in that folder; the first guest listens.

    A datagram socket of Linux holds ten frames (``net.unix.max_dgram_qlen``), which would bound every NIC.
    """
    server = "on" if first else "off"
    return {nic.wire: f"stream,server={server},addr.type=unix,addr.path={folder}/{nic.wire}" for nic in nics}


def second_config(config: Config, nics: Sequence[Nic]) -> Config:
    """The first guest's, with the addresses that it knows its neighbours by."""
    there = tuple(
        nic.config.model_copy(update={"mac": nic.peer_mac, "address": f"{nic.peer_ip}/{nic.prefix}"}) for nic in nics
    )
    return config.model_copy(update={"nics": there})


@contextmanager
def second_guest(first: Lab, sockets: Path, phases: Phases) -> Iterator[Mapping[str, Twin]]:
    """Boot it beside the first, which is there already; gives its NICs by the names of those that they are the twins
    of.  Raises `BootError`."""
    config, parts = second_config(first.config, first.nics), first.parts
    backends = wires(config.nics, sockets, first=False)
    with Lab(config, parts, first.directory / "second", phases, backends=backends, read_wires=False) as lab:
        yield {nic.config.name: _twin(nic, there) for nic, there in zip(first.nics, lab.nics, strict=True)}


def _twin(nic: Nic, there: Nic) -> Twin:
    there.guest.sh(f"ip neigh replace {nic.ip} lladdr {nic.mac} nud permanent dev {there.name}")
    return Twin(there.name, there.guest)
