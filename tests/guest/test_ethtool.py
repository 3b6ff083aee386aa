# SPDX-License-Identifier: GPL-2.0-or-later
"""ethtool's answers: true, complete, and a refusal with a reason where something cannot be."""

from __future__ import annotations

import re

import pytest

from labnic.guest import Guest
from labnic.nic import Nic

from . import frames
from .helpers import (
    QUEUES,
    Flood,
    channels,
    deltas,
    device_counters,
    eventually,
    pci_address,
    sections,
    set_channels,
    settled,
    works,
)

RING_SIZES = (64, 128, 256, 512, 1024, 2048, 4096)
ID = int.from_bytes(b"LABN", "little")
"""Value of the register ID, the first of the dump."""


def rings(nic: Nic) -> tuple[int, int]:
    """Entries of the RX and of the TX rings."""
    now = sections(nic.ethtool("-g").stdout)[1]
    return int(now["RX"]), int(now["TX"])


def refused(nic: Nic, *arguments: str) -> str:
    """Run ethtool, which must be refused by the kernel or driver; gives the reason."""
    result = nic.ethtool(*arguments, check=False)
    assert not result.ok, f"accepted: ethtool {arguments}"
    reason = result.stderr + result.stdout
    assert reason.strip()
    return reason


# Who it is


def test_driver_information(guest: Guest, nic: Nic) -> None:
    info = nic.info()
    assert info["driver"] == "labnic"
    assert info["bus-info"] == pci_address(guest, nic)
    assert info["version"]
    assert info["firmware-version"].startswith("1.0")
    assert info["supports-statistics"] == "yes"
    assert info["supports-register-dump"] == "yes"


def test_permanent_address(nic: Nic) -> None:
    assert nic.ethtool("-P").stdout.strip() == f"Permanent address: {nic.config.mac}"


def test_link_settings(nic: Nic) -> None:
    text = nic.ethtool().stdout
    assert "Speed: 10000Mb/s" in text
    assert "Duplex: Full" in text
    assert "Auto-negotiation: off" in text
    assert "Link detected: yes" in text


def test_message_level(nic: Nic) -> None:
    before = re.search(r"Current message level: (0x[0-9a-f]+)", nic.ethtool().stdout)
    assert before
    nic.ethtool("-s", "msglvl", "0x27")
    assert "Current message level: 0x00000027" in nic.ethtool().stdout
    nic.ethtool("-s", "msglvl", before[1])


# Rings


def test_ring_limits(nic: Nic) -> None:
    most = sections(nic.ethtool("-g").stdout)[0]
    assert (most["RX"], most["TX"]) == ("4096", "4096")


def test_each_ring_size_carries_traffic(nic: Nic) -> None:
    for size in RING_SIZES:
        if rings(nic) != (size, size):
            nic.ethtool("-G", "rx", str(size), "tx", str(size))
        assert rings(nic) == (size, size)
        works(nic)


def test_rx_and_tx_rings_are_set_apart(nic: Nic) -> None:
    nic.ethtool("-G", "rx", "1024", "tx", "256")
    assert rings(nic) == (1024, 256)
    nic.ethtool("-G", "tx", "64")
    assert rings(nic) == (1024, 64)
    works(nic)


@pytest.mark.parametrize("size", ["4097", "8192", "0"])
@pytest.mark.parametrize("ring", ["rx", "tx"])
def test_impossible_ring_size_is_refused_and_changes_nothing(nic: Nic, ring: str, size: str) -> None:
    before = rings(nic)
    refused(nic, "-G", ring, size)
    assert rings(nic) == before
    works(nic)


@pytest.mark.parametrize("kind", ["rx-mini", "rx-jumbo"])
def test_kinds_of_ring_that_do_not_exist_are_refused(nic: Nic, kind: str) -> None:
    refused(nic, "-G", kind, "64")


def test_ring_sizes_change_under_traffic(nic: Nic) -> None:
    with Flood(nic, answer=True) as flood:
        for size in ("64", "4096", "256", "128", "512"):
            nic.ethtool("-G", "rx", size, "tx", size)
    assert flood.sent
    works(nic)


def test_ring_sizes_set_while_down_hold_when_up(nic: Nic) -> None:
    nic.down()
    nic.ethtool("-G", "rx", "128", "tx", "64")
    nic.up()
    assert rings(nic) == (128, 64)
    works(nic)


# Which frames are copied


def copybreak(nic: Nic) -> str:
    """Bytes up to which a frame that is sent is copied."""
    return nic.ethtool("--get-tunable", "tx-copybreak").stdout.split()[-1]


def test_frames_are_copied_up_to_a_length_that_can_be_set(nic: Nic) -> None:
    assert copybreak(nic) == "256"
    for value in ("0", "100", "256"):
        nic.ethtool("--set-tunable", "tx-copybreak", value)
        assert copybreak(nic) == value
        works(nic)


def test_a_length_that_no_copy_has_is_refused_and_changes_nothing(nic: Nic) -> None:
    refused(nic, "--set-tunable", "tx-copybreak", "257")
    refused(nic, "--set-tunable", "rx-copybreak", "100")
    assert copybreak(nic) == "256"


# Channels


def test_each_number_of_channels_carries_traffic(guest: Guest, nic: Nic) -> None:
    for count in range(1, QUEUES + 1):
        set_channels(nic, count)
        assert channels(nic) == count
        assert len(guest.sh(f"ls {nic.path('queues')}").split()) == 2 * count
        works(nic)


def test_channel_limits(nic: Nic) -> None:
    most = sections(nic.ethtool("-l").stdout)[0]
    assert most["Combined"] == str(QUEUES)
    assert {most["RX"], most["TX"]} <= {"0", "n/a"}


@pytest.mark.parametrize("arguments", [("combined", "0"), ("combined", "9"), ("rx", "1"), ("tx", "1")])
def test_impossible_channels_are_refused_and_change_nothing(nic: Nic, arguments: tuple[str, str]) -> None:
    before = channels(nic)
    refused(nic, "-L", *arguments)
    assert channels(nic) == before
    works(nic)


def test_number_of_channels_changes_under_traffic(nic: Nic) -> None:
    with Flood(nic, answer=True) as flood:
        for count in (1, 8, 3, 2, 8):
            set_channels(nic, count)
    assert flood.sent
    assert channels(nic) == 8
    works(nic)


def test_channels_set_while_down_hold_when_up(nic: Nic) -> None:
    nic.down()
    nic.ethtool("-L", "combined", "3")
    nic.up()
    assert channels(nic) == 3
    works(nic)


# Statistics


def test_device_counts_what_was_received(nic: Nic) -> None:
    sent = [
        frames.to_guest(nic, 60 + n, dst=dst, seed=n)
        for n, dst in enumerate([nic.mac] * 4 + ["01:00:5e:00:00:01"] * 3 + ["ff:ff:ff:ff:ff:ff"] * 2)
    ]
    with nic.capture() as capture:
        before = settled(lambda: device_counters(nic))
        nic.wire.send(*sent, frames.to_guest(nic, 60, dst="02:00:00:00:00:99"), b"short frame")
        capture.wait(len(sent), match=frames.is_test_frame)
    growth = deltas(before, settled(lambda: device_counters(nic)))
    wanted = {
        "rx_frames": 9,
        "rx_bytes": sum(map(len, sent)),
        "rx_multicast": 3,
        "rx_broadcast": 2,
        "rx_filtered": 1,
        "rx_too_short": 1,
    }
    assert {name: growth.get(name, 0) for name in wanted} == wanted
    assert not [name for name in growth if "error" in name or name in ("rx_no_buffer", "rx_disabled", "tx_frames")]


def test_device_counts_what_was_sent(guest: Guest, nic: Nic) -> None:
    destinations = [nic.peer_mac] * 4 + ["01:00:5e:00:00:01"] * 3 + ["ff:ff:ff:ff:ff:ff"] * 2
    sent = [frames.make(60 + n, dst=dst, src=nic.mac, seed=n) for n, dst in enumerate(destinations)]
    before = settled(lambda: device_counters(nic))
    frames.send_from_guest(guest, nic, sent)
    frames.collect_test_frames(nic.wire, len(sent))
    growth = deltas(before, settled(lambda: device_counters(nic)))
    wanted = {"tx_frames": 9, "tx_bytes": sum(map(len, sent)), "tx_multicast": 3, "tx_broadcast": 2}
    assert {name: growth.get(name, 0) for name in wanted} == wanted
    assert not [name for name in growth if "error" in name or name in ("tx_no_link", "rx_frames")]


def test_link_changes_are_counted(nic: Nic) -> None:
    before = nic.ethtool_stats()["link_changes"]
    nic.set_link(False)
    nic.wait_carrier(False)
    nic.set_link(True)
    nic.wait_carrier(True)
    assert nic.ethtool_stats()["link_changes"] - before == 2


def test_device_counters_never_go_back(nic: Nic) -> None:
    nic.ping()
    seen = settled(lambda: device_counters(nic))
    for change in (("-L", "combined", "1"), ("-G", "rx", "64", "tx", "64"), ("-L", "combined", str(QUEUES))):
        nic.ethtool(*change)
        nic.down()
        nic.up()
        now = nic.ethtool_stats()
        assert {name: (seen[name], now[name]) for name in seen.keys() & now.keys() if now[name] < seen[name]} == {}
        seen = now


def test_statistics_can_be_read_while_down(nic: Nic) -> None:
    nic.ping()
    up = settled(lambda: device_counters(nic))
    nic.down()
    down = nic.ethtool_stats()
    assert down["rx_frames"] >= up["rx_frames"] > 0


# Registers


def registers(nic: Nic) -> bytes:
    """The bytes of ``ethtool -d``."""
    rows = re.findall(r"^0x[0-9a-f]+:\s+((?:[0-9a-f]{2}\s*)+)$", nic.ethtool("-d").stdout, re.MULTILINE)
    return bytes.fromhex("".join(rows))


def test_register_dump_begins_with_the_identity(nic: Nic) -> None:
    dump = registers(nic)
    assert int.from_bytes(dump[0:4], "little") == ID
    assert int.from_bytes(dump[4:8], "little") == 0x0001_0000
    assert len(dump) % 4 == 0


def test_register_dump_tells_the_state(nic: Nic) -> None:
    mac = frames.mac_bytes(nic.mac)
    up = registers(nic)
    assert up[0x20:0x26] == mac
    assert up[0x10] & 1
    nic.down()
    assert not registers(nic)[0x10] & 1


# What the device cannot do


@pytest.mark.parametrize(
    "arguments",
    [("-s", "speed", "1000", "duplex", "full"), ("-e",), ("-m",), ("--show-eee",), ("-p", "1"), ("-s", "wol", "g")],
    ids=" ".join,
)
def test_what_the_device_cannot_do_is_refused(nic: Nic, arguments: tuple[str, ...]) -> None:
    reason = refused(nic, *arguments)
    assert "not supported" in reason.lower() or "invalid argument" in reason.lower(), reason
    works(nic)


def test_self_questions_leave_the_nic_working(nic: Nic) -> None:
    for option in ("-a", "-c", "-k", "-T", "-x", "-n", "--show-priv-flags", "--show-fec", "-u"):
        nic.ethtool(option, check=False)
    eventually(lambda: nic.sysfs("carrier"), "1", what="carrier")
    works(nic)
