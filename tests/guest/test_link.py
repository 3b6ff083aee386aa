# SPDX-License-Identifier: GPL-2.0-or-later
"""The cable: what the guest notices when it is pulled and plugged in, and that frames flow as soon as it says so."""

from __future__ import annotations

from labnic.build.image import DRIVER_IN_GUEST
from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic

from . import frames
from .helpers import Flood, deltas, eventually, wait_message, works

SPEED = 10000
"""Mbit/s of a device with default properties."""


def carrier_counts(nic: Nic) -> dict[str, int]:
    """How often the carrier has changed, come and gone, by the kernel's own count."""
    return {name: nic.sysfs_int(name) for name in ("carrier_changes", "carrier_up_count", "carrier_down_count")}


def test_with_the_cable_plugged_in(nic: Nic) -> None:
    assert nic.sysfs("carrier") == "1"
    eventually(lambda: nic.sysfs("operstate"), "up", what="operstate")
    assert nic.sysfs_int("speed") == SPEED
    assert nic.sysfs("duplex") == "full"


def test_pulled_cable_is_noticed_everywhere(nic: Nic) -> None:
    nic.set_link(False)
    nic.wait_carrier(False)
    eventually(lambda: nic.sysfs("operstate"), "down", what="operstate")
    assert nic.sysfs_int("speed") == -1
    assert nic.sysfs("duplex") == "unknown"
    assert "Link detected: no" in nic.ethtool().stdout


def test_plugging_in_restores_everything(nic: Nic) -> None:
    nic.set_link(False)
    nic.wait_carrier(False)
    nic.set_link(True)
    nic.wait_carrier(True)
    eventually(lambda: nic.sysfs("operstate"), "up", what="operstate")
    assert nic.sysfs_int("speed") == SPEED
    assert nic.sysfs("duplex") == "full"
    works(nic)


def test_each_change_is_logged_once(guest: Guest, nic: Nic) -> None:
    before = len(guest.run(["dmesg"]).lines)
    nic.set_link(False)
    down = wait_message(guest, before, "link is down")
    nic.set_link(True)
    up = wait_message(guest, before, "link is up")
    assert nic.name in down
    assert nic.name in up
    said = [line for line in guest.run(["dmesg"]).lines[before:] if "link is" in line.lower()]
    assert said == [down, up]


def test_each_flap_is_counted(nic: Nic) -> None:
    before = carrier_counts(nic)
    for _ in range(5):
        nic.set_link(False)
        nic.wait_carrier(False)
        nic.set_link(True)
        nic.wait_carrier(True)
    assert deltas(before, carrier_counts(nic)) == {
        "carrier_changes": 10,
        "carrier_up_count": 5,
        "carrier_down_count": 5,
    }
    works(nic)


def test_flaps_faster_than_the_guest_looks_end_in_the_last_state(nic: Nic) -> None:
    for last in (False, True):
        for _ in range(20):
            nic.set_link(not last)
            nic.set_link(last)
        nic.wait_carrier(last)
    works(nic)


def test_same_state_again_changes_nothing(nic: Nic) -> None:
    before = carrier_counts(nic)
    nic.set_link(True)
    works(nic)
    assert carrier_counts(nic) == before


def test_nothing_is_received_through_a_pulled_cable(guest: Guest, nic: Nic) -> None:
    lost, end = frames.to_guest(nic, 90, seed=1), frames.to_guest(nic, 90, seed=2)
    with guest.capture(nic.name, f"ether src {nic.peer_mac}") as capture:
        nic.set_link(False)
        nic.wait_carrier(False)
        nic.wire.send(lost)
        # The backend is a socket: what it holds is handed over when the cable is back unless it was read before.
        eventually(lambda: nic.sysfs("carrier"), "0", what="carrier")
        nic.set_link(True)
        nic.wait_carrier(True)
        nic.wire.send(end)
        assert capture.wait(1, match=lambda frame: frame == end)
        assert lost not in capture.frames()


def test_nothing_is_sent_through_a_pulled_cable(guest: Guest, nic: Nic) -> None:
    nic.set_link(False)
    nic.wait_carrier(False)
    nic.wire.flush()
    frames_lost = [frames.make(80, dst=nic.peer_mac, src=nic.mac, seed=n) for n in range(10)]
    guest.write("/tmp/labnic-lost.pcap", frames.pcap(frames_lost))
    guest.run(["tcpreplay", "--quiet", "--topspeed", "-i", nic.name, "/tmp/labnic-lost.pcap"])
    nic.set_link(True)
    nic.wait_carrier(True)
    assert not [frame for frame in nic.barrier() if frames.is_test_frame(frame)]


def test_cable_pulled_while_down_is_known_when_up(nic: Nic) -> None:
    nic.down()
    nic.set_link(False)
    nic.ip_link("up")
    nic.wait_carrier(False)
    nic.set_link(True)
    nic.wait_carrier(True)
    works(nic)


def test_cable_pulled_before_the_driver_comes_is_known(guest: Guest, lab: Lab, nic: Nic) -> None:
    lab.rmmod()
    nic.set_link(False)
    try:
        guest.run(["insmod", DRIVER_IN_GUEST], check=True)
        nic.ip_link("up")
        assert nic.sysfs("carrier") == "0"
    finally:
        nic.set_link(True)
    nic.configure()
    works(nic)


def test_flaps_under_traffic(guest: Guest, nic: Nic) -> None:
    with Flood(nic, answer=True) as flood:
        for _ in range(5):
            nic.set_link(False)
            nic.wait_carrier(False)
            nic.set_link(True)
            nic.wait_carrier(True)
    assert flood.sent
    works(nic)


def test_mii_registers_tell_the_carrier(guest: Guest, nic: Nic) -> None:
    assert "link ok" in guest.run(["mii-tool", nic.name], check=True).stdout
    nic.set_link(False)
    nic.wait_carrier(False)
    assert "no link" in guest.run(["mii-tool", nic.name], check=True).stdout


def test_mii_registers_cannot_be_written(guest: Guest, nic: Nic) -> None:
    refused = guest.run(["mii-tool", "--reset", nic.name])
    assert "SIOCSMIIREG on eth0 failed: Operation not supported" in refused.stderr
    works(nic)
