# SPDX-License-Identifier: GPL-2.0-or-later
"""What the NIC lets through and what it keeps out, judged by what the driver handed to the kernel.

The captures do not put the interface into promiscuous mode. A frame to the NIC's own address follows each one that
must not come, so that "nothing came" is known as soon as that one is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from labnic.guest import Guest
from labnic.nic import Nic

from . import frames
from .helpers import eventually, settled

BROADCAST = "ff:ff:ff:ff:ff:ff"
FOREIGN = "02:00:00:00:00:99"
"""A unicast address that nobody on the wire has."""
GROUP = "01:00:5e:7f:12:34"
"""A multicast address that the guest has not joined by itself."""
SLOTS = 128
"""Addresses that the device's filter holds (constant ADDR_SLOTS of the hardware map)."""


def seen(guest: Guest, nic: Nic, destinations: Sequence[str]) -> list[str]:
    """To which of the addresses a frame arrives in the guest, when one is sent to each."""
    sent = {frames.to_guest(nic, 100 + n, dst=dst, seed=n): dst for n, dst in enumerate(destinations)}
    end = frames.to_guest(nic, 64, seed=4711)
    with guest.capture(nic.name, f"ether src {nic.peer_mac}") as capture:
        for chunk in frames.chunks([*sent, end]):
            nic.wire.send(*chunk)
        capture.wait(1, match=lambda frame: frame == end)
        return [sent[frame] for frame in capture.frames() if frame in sent]


def groups(count: int, kind: str = "01:00:5e") -> list[str]:
    """``count`` addresses that begin with ``kind`` and differ in the rest."""
    return [f"{kind}:{0x10 + (n >> 8):02x}:{n & 0xFF:02x}:{n * 37 & 0xFF:02x}" for n in range(count)]


@contextmanager
def entered(guest: Guest, nic: Nic, addresses: Sequence[str]) -> Iterator[None]:
    """The guest receives these unicast or multicast addresses besides what it has by itself."""
    batch(guest, [f"fdb add {address} dev {nic.name} self" for address in addresses])
    try:
        yield
    finally:
        batch(guest, [f"fdb del {address} dev {nic.name} self" for address in addresses])


def batch(guest: Guest, commands: Sequence[str]) -> None:
    """Many commands in one run of iproute2's ``bridge`` (``ip maddress`` ends after the first of a batch)."""
    guest.run(["bridge", "-batch", "-"], input="".join(f"{command}\n" for command in commands), check=True)


def rx_filtered(nic: Nic) -> int:
    """Frames that the device kept out so far."""
    return nic.ethtool_stats()["rx_filtered"]


# Without any wish of the guest's


def test_own_address_and_broadcast_are_received(guest: Guest, nic: Nic) -> None:
    assert seen(guest, nic, [nic.mac, BROADCAST]) == [nic.mac, BROADCAST]


def test_foreign_unicast_is_kept_out_and_counted(guest: Guest, nic: Nic) -> None:
    before = rx_filtered(nic)
    assert seen(guest, nic, [FOREIGN] * 5 + [nic.mac]) == [nic.mac]
    assert rx_filtered(nic) - before == 5


def test_unknown_multicast_is_kept_out_and_counted(guest: Guest, nic: Nic) -> None:
    before = rx_filtered(nic)
    assert seen(guest, nic, [GROUP, "33:33:00:ab:cd:ef", "01:80:c2:00:00:0e"]) == []
    assert rx_filtered(nic) - before == 3


def test_addresses_that_differ_from_the_own_in_one_bit_are_kept_out(guest: Guest, nic: Nic) -> None:
    own = int(nic.mac.replace(":", ""), 16)
    bits = [n for n in range(48) if n != 40]  # bit 40 is the one that makes it multicast
    near = [f"{own ^ 1 << n:012x}" for n in bits]
    addresses = [":".join(text[i : i + 2] for i in range(0, 12, 2)) for text in near]
    assert seen(guest, nic, addresses) == []


# Multicast


def test_joined_group_is_received_until_it_is_left(guest: Guest, nic: Nic) -> None:
    guest.run(["ip", "maddress", "add", GROUP, "dev", nic.name], check=True)
    assert seen(guest, nic, [GROUP, "01:00:5e:7f:12:35"]) == [GROUP]
    guest.run(["ip", "maddress", "del", GROUP, "dev", nic.name], check=True)
    assert seen(guest, nic, [GROUP]) == []


def test_as_many_groups_as_fit_are_told_apart(guest: Guest, nic: Nic) -> None:
    """A hundred exact entries: each joined group comes in, none of a hundred others does."""
    every = groups(200)
    with entered(guest, nic, every[::2]):
        assert seen(guest, nic, every) == every[::2]
    assert seen(guest, nic, every) == []


def test_more_groups_than_fit_are_all_received(guest: Guest, nic: Nic) -> None:
    """Beyond the filter's size every multicast frame comes in, foreign unicast stays out, and leaving restores it."""
    many = groups(SLOTS + 40)
    with entered(guest, nic, many):
        assert seen(guest, nic, [*many, FOREIGN]) == many
    assert seen(guest, nic, [many[0], many[-1]]) == []


def test_a_group_loses_nothing_while_others_come_and_go(guest: Guest, nic: Nic) -> None:
    others = groups(SLOTS + 4, kind="33:33:77")
    join = "".join(f"fdb add {address} dev {nic.name} self\n" for address in others)
    guest.write("/tmp/labnic-join", join)
    guest.write("/tmp/labnic-leave", join.replace("fdb add", "fdb del"))
    churn = "for n in 1 2 3 4; do bridge -batch /tmp/labnic-join && bridge -batch /tmp/labnic-leave || exit 1; done"
    sent = [frames.to_guest(nic, 100, dst=GROUP, seed=n) for n in range(2000)]
    done = 0
    with entered(guest, nic, [GROUP]):
        before, filtered = settled(nic.statistics), rx_filtered(nic)
        with guest.start(churn) as process:
            while process.poll() is None and done < len(sent):
                nic.wire.send(*sent[done : done + 20])
                done += 20
            result = process.wait()
        assert result.ok, result
        eventually(lambda: nic.statistics()["multicast"] - before["multicast"], done, what="frames to the group")
        assert rx_filtered(nic) == filtered


@pytest.mark.parametrize("kind", ["01:00:5e", "33:33:00"])
def test_group_joined_while_down_is_received_when_up(guest: Guest, nic: Nic, kind: str) -> None:
    group = groups(1, kind)[0]
    nic.down()
    with entered(guest, nic, [group]):
        nic.up()
        assert seen(guest, nic, [group, FOREIGN]) == [group]


# Modes


def test_allmulti_receives_every_group_and_no_foreign_unicast(guest: Guest, nic: Nic) -> None:
    nic.set_allmulti(True)
    assert seen(guest, nic, [GROUP, FOREIGN, "33:33:00:ab:cd:ef"]) == [GROUP, "33:33:00:ab:cd:ef"]
    nic.set_allmulti(False)
    assert seen(guest, nic, [GROUP]) == []


def test_promiscuous_mode_receives_everything(guest: Guest, nic: Nic) -> None:
    nic.set_promisc(True)
    assert seen(guest, nic, [FOREIGN, GROUP]) == [FOREIGN, GROUP]
    nic.set_promisc(False)
    assert seen(guest, nic, [FOREIGN, GROUP]) == []


def test_modes_survive_down_and_up(guest: Guest, nic: Nic) -> None:
    nic.set_promisc(True)
    nic.down()
    nic.up()
    assert seen(guest, nic, [FOREIGN, GROUP]) == [FOREIGN, GROUP]


# Unicast besides the own address


def test_secondary_address_is_received_until_it_is_removed(guest: Guest, nic: Nic) -> None:
    second = "02:00:00:00:00:42"
    with entered(guest, nic, [second]):
        assert seen(guest, nic, [second, FOREIGN, nic.mac]) == [second, nic.mac]
    assert seen(guest, nic, [second]) == []


def test_more_secondary_addresses_than_fit_are_all_received(guest: Guest, nic: Nic) -> None:
    many = groups(SLOTS + 2, kind="02:00:5e")
    with entered(guest, nic, many):
        assert seen(guest, nic, many) == many
    assert seen(guest, nic, [many[0], many[-1]]) == []


def test_macvlan_gets_the_frames_to_its_address(guest: Guest, nic: Nic) -> None:
    """Its address enters the filter: the NIC stays out of promiscuous mode and foreign frames stay out of the guest."""
    mac = "02:00:00:00:00:51"
    frame = frames.to_guest(nic, 200, dst=mac, seed=5)
    guest.sh("modprobe macvlan")
    guest.sh(f"ip link add labmv0 link {nic.name} address {mac} type macvlan mode bridge && ip link set labmv0 up")
    try:
        eventually(lambda: guest.read_text("/sys/class/net/labmv0/carrier"), "1", what="carrier of the macvlan")
        with guest.capture("labmv0", f"ether src {nic.peer_mac}") as capture:
            nic.wire.send(frame)
            assert capture.wait(1) == [frame]
        assert "promiscuity 0" in guest.sh(f"ip -d link show {nic.name}")
        assert seen(guest, nic, [FOREIGN]) == []
    finally:
        guest.sh("ip link del labmv0")
    assert seen(guest, nic, [mac]) == []
