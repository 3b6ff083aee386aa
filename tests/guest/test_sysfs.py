# SPDX-License-Identifier: GPL-2.0-or-later
"""What sysfs says about the interface agrees with what it is and with what really went over the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from labnic.flood import arp_request
from labnic.guest import Guest
from labnic.nic import Nic

from . import frames
from .helpers import QUEUES, channels, deltas, eventually, is_arp_reply, settled, works

ETHERNET = 1
"""Value of ``type``: ARPHRD_ETHER."""


def test_identity(guest: Guest, nic: Nic) -> None:
    assert nic.sysfs("address") == nic.config.mac
    assert nic.sysfs("broadcast") == "ff:ff:ff:ff:ff:ff"
    assert nic.sysfs_int("addr_len") == 6
    assert nic.sysfs_int("type") == ETHERNET
    assert nic.sysfs_int("mtu") == 1500
    assert guest.sh(f"basename $(readlink -f {nic.path('device/driver')})") == "labnic"


def test_link(nic: Nic) -> None:
    assert nic.sysfs("carrier") == "1"
    # The kernel says so up to a second after the carrier.
    eventually(lambda: nic.sysfs("operstate"), "up", what="operstate")
    assert nic.sysfs_int("speed") == 10000
    assert nic.sysfs("duplex") == "full"
    assert nic.sysfs_int("flags") & 0x1  # IFF_UP
    assert nic.sysfs("dormant") == "0"


def test_carrier_of_an_interface_that_is_down_cannot_be_read(guest: Guest, nic: Nic) -> None:
    nic.down()
    eventually(lambda: nic.sysfs("operstate"), "down", what="operstate")
    assert not guest.run(["cat", nic.path("carrier")]).ok


def test_queues(guest: Guest, nic: Nic) -> None:
    """As many as are in use: one for each CPU of the guest, as long as the NIC has that many."""
    count = min(QUEUES, int(guest.sh("nproc")))
    assert channels(nic) == count
    wanted = sorted(f"{kind}-{n}" for kind in ("rx", "tx") for n in range(count))
    assert sorted(guest.sh(f"ls {nic.path('queues')}").split()) == wanted
    assert nic.sysfs("queues/tx-0/tx_timeout") == "0"


# Statistics


def counted(nic: Nic, before: dict[str, int], wanted: dict[str, int]) -> None:
    """Since ``before`` exactly the counters of ``wanted`` have grown, by these amounts."""
    eventually(lambda: deltas(before, nic.statistics()), wanted, what="growth of the statistics")


def test_received_frames_are_counted_with_their_bytes(guest: Guest, nic: Nic) -> None:
    sent = [frames.to_guest(nic, length, seed=length) for length in (14, 15, 59, 60, 61, 64, 590, 1514)]
    with nic.capture() as capture:
        nic.barrier()
        before = settled(nic.statistics)
        nic.wire.send(*sent)
        capture.wait(len(sent), match=frames.is_test_frame)
        counted(nic, before, {"rx_packets": len(sent), "rx_bytes": sum(map(len, sent))})


def test_sent_frames_are_counted_with_their_bytes(guest: Guest, nic: Nic) -> None:
    sent = [frames.make(n, dst=nic.peer_mac, src=nic.mac, seed=n) for n in (14, 15, 59, 60, 61, 64, 590, 1514)]
    nic.barrier()
    before = settled(nic.statistics)
    frames.send_from_guest(guest, nic, sent)
    frames.collect_test_frames(nic.wire, len(sent))
    counted(nic, before, {"tx_packets": len(sent), "tx_bytes": sum(map(len, sent))})


def test_answers_are_counted_in_both_directions(nic: Nic) -> None:
    nic.barrier()
    before = settled(nic.statistics)
    for _ in range(20):
        nic.wire.exchange(arp_request(nic), is_arp_reply)
    size = 42  # bytes of an ARP frame that nobody pads
    counted(nic, before, {"rx_packets": 20, "rx_bytes": 20 * size, "tx_packets": 20, "tx_bytes": 20 * size})


def test_multicast_is_counted_and_broadcast_is_not_among_it(nic: Nic) -> None:
    all_hosts = "01:00:5e:00:00:01"
    sent = [frames.to_guest(nic, 60, dst=all_hosts, seed=n) for n in range(7)]
    sent += [frames.to_guest(nic, 60, dst="ff:ff:ff:ff:ff:ff", seed=n) for n in range(4)]
    with nic.capture() as capture:
        nic.barrier()
        before = settled(nic.statistics)
        nic.wire.send(*sent)
        capture.wait(len(sent), match=frames.is_test_frame)
        counted(nic, before, {"rx_packets": 11, "rx_bytes": 11 * 60, "multicast": 7})


def test_frames_that_the_filter_keeps_out_are_not_counted(nic: Nic) -> None:
    nic.barrier()
    before = settled(nic.statistics)
    nic.wire.send(*[frames.to_guest(nic, 60, dst="02:00:00:00:00:99", seed=n) for n in range(9)])
    nic.barrier()
    counted(nic, before, {"rx_packets": 1, "rx_bytes": 42, "tx_packets": 1, "tx_bytes": 42})


def test_frames_of_no_protocol_are_dropped_by_the_stack(nic: Nic) -> None:
    """The driver delivered them (rx_packets); the kernel found nobody for them and says so in rx_dropped."""
    nic.barrier()
    before = settled(nic.statistics)
    nic.wire.send(*[frames.to_guest(nic, 60, seed=n) for n in range(5)])
    counted(nic, before, {"rx_packets": 5, "rx_bytes": 300, "rx_dropped": 5})


def test_too_long_frames_are_receive_errors(nic: Nic) -> None:
    nic.barrier()
    before = settled(nic.statistics)
    nic.wire.send(*[frames.to_guest(nic, 1519 + n) for n in range(3)])
    eventually(lambda: nic.statistics()["rx_length_errors"] - before["rx_length_errors"], 3, what="rx_length_errors")
    growth = deltas(before, nic.statistics())
    assert growth.pop("rx_errors") == 3
    assert growth == {"rx_length_errors": 3}


def down_and_up(nic: Nic) -> None:
    nic.down()
    nic.up()


def smaller_rings(nic: Nic) -> None:
    nic.ethtool("-G", "rx", "128", "tx", "128")


def fewer_channels(nic: Nic) -> None:
    nic.ethtool("-L", "combined", "1")


def larger_mtu(nic: Nic) -> None:
    nic.set_mtu(4000)


@pytest.mark.parametrize("change", [down_and_up, smaller_rings, fewer_channels, larger_mtu])
def test_counters_survive(nic: Nic, change: Callable[[Nic], None]) -> None:
    """What was counted before a change stays, and counting goes on."""
    for _ in range(3):
        works(nic)
    before = settled(nic.statistics)
    change(nic)
    after = nic.statistics()
    assert {name: value for name, value in after.items() if value < before[name]} == {}
    works(nic)
    assert deltas(after, nic.statistics()).keys() >= {"rx_packets", "rx_bytes", "tx_packets", "tx_bytes"}
