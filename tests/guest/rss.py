# SPDX-License-Identifier: GPL-2.0-or-later
"""Receive-side scaling as the specification says it: the Toeplitz hash, and the queue that it leads to.

Written apart from driver and device; the hash is that of Microsoft's "RSS hash functions", whose published example
values the test in test_queues.py checks this module against.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from labnic.nic import Nic


def toeplitz(key: bytes, data: bytes) -> int:
    """The 32-bit hash of ``data``: for each bit that is set, the 32 bits of the key from that position on."""
    stream = int.from_bytes(key, "big")
    width = 8 * len(key)
    result = 0
    for position in range(8 * len(data)):
        if data[position // 8] & 0x80 >> position % 8:
            result ^= stream >> width - 32 - position & 0xFFFFFFFF
    return result


@dataclass(frozen=True)
class Flow:
    """Addresses and ports of one UDP flow over IPv4, as the sender writes them."""

    source: str
    destination: str
    source_port: int
    destination_port: int

    @property
    def hash_input(self) -> bytes:
        """What the hash of UDP over IPv4 is taken over: addresses, then ports, in the order of the packet."""
        addresses = ipaddress.IPv4Address(self.source).packed + ipaddress.IPv4Address(self.destination).packed
        return addresses + self.source_port.to_bytes(2, "big") + self.destination_port.to_bytes(2, "big")


@dataclass(frozen=True)
class Spreading:
    """The hash key and indirection table that the driver reports."""

    key: bytes
    table: tuple[int, ...]

    def queue(self, flow: Flow) -> int:
        """The RX queue of a flow."""
        return self.table[toeplitz(self.key, flow.hash_input) % len(self.table)]


def spreading(nic: Nic) -> Spreading:
    """Key and table out of ``ethtool -x``."""
    text = nic.ethtool("-x").stdout
    table = [int(word) for row in re.findall(r"^\s*\d+:((?:\s+\d+)+)\s*$", text, re.MULTILINE) for word in row.split()]
    found = re.search(r"^((?:[0-9a-f]{2}:)+[0-9a-f]{2})$", text, re.MULTILINE)
    assert table, f"no table in ethtool's answer:\n{text}"
    assert found, f"no key in ethtool's answer:\n{text}"
    return Spreading(bytes.fromhex(found[1].replace(":", "")), tuple(table))
