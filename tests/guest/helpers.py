# SPDX-License-Identifier: GPL-2.0-or-later
"""What several tests of the guest need: quiet interfaces, counters that settle, background traffic, interrupts."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from labnic import flood
from labnic.command import backoff
from labnic.errors import CommandTimeoutError
from labnic.guest import Guest
from labnic.nic import Nic
from labnic.patience import patient
from labnic.wire import Frame

from . import frames

Key = TypeVar("Key")

ICMP, UDP = 1, 17
"""Protocol numbers of IPv4."""
IPV4_HEADER = 20
"""Bytes of an IPv4 header without options (RFC 791)."""

QUEUES = 8
"""Queue pairs that the default lab's NIC has; how many are in use depends on the CPUs and on ``ethtool -L``."""


def eventually(read: Callable[[], object], wanted: object, *, timeout: float = 5.0, what: str = "") -> None:
    """Read again and again until the value is ``wanted``; fails with the last value after ``timeout`` seconds."""
    value: object = None
    for _ in backoff(timeout):
        value = read()
        if value == wanted:
            return
    raise AssertionError(f"{what or 'value'} is {value!r} and not {wanted!r} after {patient(timeout):g} s")


def device_counters(nic: Nic) -> dict[str, int]:
    """``ethtool -S`` without the counters that reading them moves."""
    return {name: value for name, value in nic.ethtool_stats().items() if not name.startswith("mmio_")}


def deltas(before: Mapping[Key, int], after: Mapping[Key, int]) -> dict[Key, int]:
    """What grew, and by how much; names that did not change are left out."""
    return {name: value - before[name] for name, value in after.items() if name in before and value != before[name]}


def settled(read: Callable[[], Mapping[str, int]]) -> dict[str, int]:
    """Counters once they stand still: a frame counts as sent when its completion is handled, later than on the wire."""
    last = read()
    for _ in backoff(5.0):
        now = read()
        if now == last:
            return dict(now)
        last = now
    raise AssertionError("the counters do not come to rest although nothing is sent")


@contextmanager
def ipv6(guest: Guest, nic: Nic) -> Iterator[str]:
    """IPv6 on the interface, which is off otherwise; gives its link-local address, usable at once."""
    conf = f"/proc/sys/net/ipv6/conf/{nic.name}"
    # Duplicate address detection would keep the address from use for a second.
    guest.sh(f"echo 0 >{conf}/accept_dad && echo 0 >{conf}/router_solicitations && echo 0 >{conf}/disable_ipv6")
    try:
        found = guest.wait_until(
            f"ip -6 -o address show dev {nic.name} scope link -tentative",
            predicate=lambda result: "fe80" in result.stdout,
            what="an IPv6 link-local address that can be used",
        )
        yield found.stdout.split()[3].partition("/")[0]
    finally:
        guest.sh(f"echo 1 >{conf}/disable_ipv6 && echo 1 >{conf}/accept_dad && echo -1 >{conf}/router_solicitations")


class Flood(flood.Flood):
    """Background traffic: frames that the guest answers, or that it only counts."""

    def __init__(self, nic: Nic, *, length: int = 128, rate: float = 400.0, answer: bool = False) -> None:
        frame = frames.make(length, dst=nic.mac, src=nic.peer_mac, seed=7)
        super().__init__(nic, flood.arp_request(nic) if answer else frame, rate=rate)


def is_arp_reply(frame: Frame) -> bool:
    """Whether a frame is an answer to an ARP request."""
    return frame.data[12:14] == b"\x08\x06" and frame.data[20:22] == b"\x00\x02"


def pci_address(guest: Guest, nic: Nic) -> str:
    """Where the NIC is on the PCI bus, as 0000:00:03.0."""
    return guest.sh(f"basename $(readlink -f /sys/class/net/{nic.name}/device)")


def interrupts(guest: Guest, address: str) -> list[int]:
    """Interrupts so far of each MSI-X vector of the PCI function, vector 0 first; empty when none is in use."""
    numbers = sorted(int(n) for n in guest.run(f"ls /sys/bus/pci/devices/{address}/msi_irqs").stdout.split())
    counts: dict[int, int] = {}
    for line in guest.read_text("/proc/interrupts").splitlines()[1:]:
        head, _, rest = line.partition(":")
        if head.strip().isdigit():
            counts[int(head)] = sum(int(word) for word in rest.split() if word.isdigit())
    return [counts.get(number, 0) for number in numbers]


def sections(text: str) -> list[dict[str, str]]:
    """The ``Name: value`` lines of ethtool's answer, one mapping for each part that begins with a title."""
    found: list[dict[str, str]] = []
    for line in text.splitlines()[1:]:
        name, _, value = line.partition(":")
        if not value.strip():
            found.append({})
        elif found:
            found[-1][name.strip()] = value.strip()
    return found


def channels(nic: Nic) -> int:
    """Queue pairs in use."""
    return int(sections(nic.ethtool("-l").stdout)[1]["Combined"])


def set_channels(nic: Nic, count: int) -> None:
    """Use this many queue pairs (ethtool says that nothing changed, with a status of failure, when it is so)."""
    if channels(nic) != count:
        nic.ethtool("-L", "combined", str(count))


def qdiscs(guest: Guest, nic: Nic) -> list[dict[str, Any]]:
    """The queueing disciplines of the interface with their counters, as ``tc`` gives them in JSON."""
    found: list[dict[str, Any]] = json.loads(guest.sh(f"tc -s -j qdisc show dev {nic.name}"))
    return found


@contextmanager
def xmit_results(guest: Guest, nic: Nic) -> Iterator[list[int]]:
    """What the driver's ``ndo_start_xmit`` returned for each frame of the block; in the list at the block's end.

    The kernel's trace event ``net_dev_xmit`` is in every stock kernel. The refusal that it would show (NETDEV_TX_BUSY)
    is in no counter: ``requeues`` of a queueing discipline also counts frames that were never offered to the driver.
    """
    tracing = "/sys/kernel/tracing"
    event = f"{tracing}/events/net/net_dev_xmit"
    results: list[int] = []
    guest.sh(f"echo 8192 >{tracing}/buffer_size_kb; echo >{tracing}/trace; echo 1 >{event}/enable")
    try:
        yield results
    finally:
        guest.sh(f"echo 0 >{event}/enable")
    text = guest.sh(f"grep 'dev={nic.name} ' {tracing}/trace; echo >{tracing}/trace")
    results += [int(value, 0) for value in re.findall(r" rc=(\w+)$", text, re.MULTILINE)]


def works(nic: Nic, *, size: int = 1000) -> None:
    """Frames go both ways: the guest answers ARP with the right address, and an ICMP echo of ``size`` bytes."""
    assert nic.arp() == nic.mac
    request, reply = echo(nic, size)
    after = frames.HEADER + IPV4_HEADER
    nic.wire.exchange(request, lambda frame: frame.data[:14] == reply[:14] and frame.data[after:] == reply[after:])


def echo(nic: Nic, size: int) -> tuple[bytes, bytes]:
    """An ICMP echo request to the guest, and its reply, whose IP header has fields that the guest chooses."""
    data = bytes.fromhex("6c626c62") + bytes(n & 0xFF for n in range(size))
    messages = (bytes((kind, 0, 0, 0)) + data for kind in (8, 0))
    request, reply = (message[:2] + internet_checksum(message) + message[4:] for message in messages)
    there = ethernet_ipv4(nic.peer_mac, nic.mac, nic.peer_ip, nic.ip, ICMP, request)
    return there, ethernet_ipv4(nic.mac, nic.peer_mac, nic.ip, nic.peer_ip, ICMP, reply)


def ethernet_ipv4(by: str, to: str, source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """A frame from MAC ``by`` to MAC ``to`` with one IPv4 packet; by hand, since scapy takes thirty times as long."""
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed
    length = (IPV4_HEADER + len(payload)).to_bytes(2, "big")
    head = b"\x45\0" + length + bytes(4) + bytes((64, protocol)) + bytes(2) + addresses
    head = head[:10] + internet_checksum(head) + head[12:]
    return frames.mac_bytes(to) + frames.mac_bytes(by) + b"\x08\x00" + head + payload


def internet_checksum(data: bytes) -> bytes:
    """The checksum of RFC 1071 over data whose own checksum field is zero."""
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).to_bytes(2, "big")


def dmesg_since(guest: Guest, lines: int) -> list[str]:
    """The kernel's messages after the first ``lines``."""
    return guest.run(["dmesg"], check=True).lines[lines:]


def wait_message(guest: Guest, after: int, text: str, *, timeout: float = 5.0) -> str:
    """The first kernel message after the first ``after`` ones that has ``text`` in it, upper and lower case alike."""
    seen: list[str] = []
    for _ in backoff(timeout):
        seen = dmesg_since(guest, after)
        for line in seen:
            if text.lower() in line.lower():
                return line
    raise CommandTimeoutError(f"no kernel message with {text!r} within {patient(timeout):g} s", log=seen)
