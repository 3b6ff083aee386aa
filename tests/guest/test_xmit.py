# SPDX-License-Identifier: GPL-2.0-or-later
"""Sending: no frame of whatever sender and shape is refused (NETDEV_TX_BUSY) or lost, and small ones are copied."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from labnic.guest import Guest
from labnic.nic import Nic
from labnic.pktgen import Pktgen, Sent

from . import frames
from .helpers import QUEUES, device_counters, set_channels, settled, works
from .probes import probed

RETURNS = "r:{} labnic:labnic_start_xmit rc=$retval:s32"
"""A probe on what the driver's ndo_start_xmit returns, whoever called it."""
REFUSED = "rc != 0"
COUNT = 1500
"""Frames of each sender."""
COPIED = 256
"""Bytes of the longest frame that the driver copies by itself, LABNIC_TX_COPY_MAX."""


def send_from_three(guest: Guest, nic: Nic, *settings: str) -> Sent:
    """One packet generator on each of the guest's two CPUs, and UDP through the stack beside them."""
    generators = [(f"count {COUNT}", *settings)] * 2
    stack = f"dd if=/dev/zero bs=1400 count=200 2>/dev/null | nc.traditional -u -q 0 -w 1 {nic.peer_ip} 9"
    pktgen = Pktgen(guest, nic.name, nic.peer_mac, nic.peer_ip)
    pktgen.prepare(*generators)
    with guest.start(stack) as process:
        pktgen.run()
        process.wait(60.0)
    return pktgen.collect()


@pytest.mark.parametrize("burst", [1, 16])
@pytest.mark.parametrize("channels", [1, QUEUES])
def test_fragmented_frames_of_several_senders_are_never_refused(
    guest: Guest, nic: Nic, channels: int, burst: int
) -> None:
    """The smallest rings, frames of 17 descriptors, three senders: the queues are stopped before they overflow."""
    nic.ethtool("-G", "rx", "64", "tx", "64")
    set_channels(nic, channels)
    before = settled(lambda: device_counters(nic))
    settings = ("frags 16", "min_pkt_size 300", "max_pkt_size 1500", f"burst {burst}")
    turns = ("queue_map_min 0", f"queue_map_max {channels - 1}")
    with probed(guest, RETURNS, only=REFUSED) as probe:
        sent = send_from_three(guest, nic, *settings, *turns)
    assert sent.frames >= 2 * COUNT
    assert not sent.errors
    after = settled(lambda: device_counters(nic))
    assert probe.lines == ()
    assert probe.calls >= sent.frames
    assert after["tx_frames"] - before["tx_frames"] >= sent.frames
    lost = [name for name in after if re.fullmatch(r"queue_\d+_tx_dropped", name) and after[name] != before[name]]
    assert lost == []
    works(nic)


@pytest.fixture
def copybreak(nic: Nic) -> Iterator[Callable[[int], None]]:
    """Sets from which length on frames are mapped, and in the end what it was."""
    yield lambda value: set_copybreak(nic, value)
    set_copybreak(nic, COPIED)


def set_copybreak(nic: Nic, value: int) -> None:
    nic.ethtool("--set-tunable", "tx-copybreak", str(value))


UDP_PORT = 4242
ONE_DATAGRAM = """
mkfifo /tmp/labnic-open
(head -c {size} /dev/zero; exec sleep 20) >/tmp/labnic-open 2>&1 &
exec nc.traditional -u -p {port} {peer} 9 </tmp/labnic-open
"""
"""A script whose socket stays open behind a single datagram."""


def unsent(guest: Guest) -> int:
    """Bytes on the account of the script's socket: its datagrams, with all that the kernel has about them."""
    lines = [line.split() for line in guest.read_text("/proc/net/udp").splitlines()]
    (queues,) = [words[4] for words in lines if words[1].endswith(f":{UDP_PORT:04X}")]
    return int(queues.split(":")[0], 16)


@pytest.mark.parametrize(("limit", "length"), [(COPIED, COPIED), (COPIED, COPIED + 1), (0, 60)])
def test_who_sends_a_frame_that_is_copied_gets_its_room_back_at_once(
    guest: Guest, nic: Nic, copybreak: Callable[[int], None], limit: int, length: int
) -> None:
    """Another frame's room comes back when the device reports it, which it does not do here."""
    copybreak(limit)
    set_channels(nic, 1)
    size = length - 42  # without Ethernet's, IP's and UDP's headers
    script = ONE_DATAGRAM.format(size=size, port=UDP_PORT, peer=nic.peer_ip)
    with nic.fault("tx-withhold", queue=0, count=0), guest.start(script):
        nic.wire.receive(lambda frame: frame.data[23:24] == bytes([17]) and len(frame.data) == length)
        held = unsent(guest)
    guest.sh("rm /tmp/labnic-open")
    assert (held == 0) == (length <= limit), f"{held} bytes on the account of a socket that sent {length}"
    set_channels(nic, QUEUES)
    works(nic)


@pytest.mark.parametrize("limit", [0, 100, COPIED])
def test_frames_on_both_sides_of_the_limit_are_sent_byte_for_byte(
    guest: Guest, nic: Nic, copybreak: Callable[[int], None], limit: int
) -> None:
    copybreak(limit)
    lengths = [length for edge in (60, 100, COPIED) for length in range(edge - 3, edge + 4)]
    sent = [frames.make(length, dst=nic.peer_mac, src=nic.mac, seed=n) for n, length in enumerate(3 * lengths)]
    with frames.lossless_egress(guest, nic):
        frames.send_from_guest(guest, nic, sent)
        frames.assert_same(sent, frames.collect_test_frames(nic.wire, len(sent)))


def test_a_small_frame_in_pieces_is_copied_whole(guest: Guest, nic: Nic) -> None:
    """Its pieces are zero, and the room for copies has had other bytes before."""
    set_channels(nic, 1)
    nic.ethtool("-G", "tx", "64")
    with frames.lossless_egress(guest, nic):
        before = [frames.make(COPIED, dst=nic.peer_mac, src=nic.mac, seed=n) for n in range(64)]
        frames.send_from_guest(guest, nic, before)
        frames.collect_test_frames(nic.wire, len(before))
    Pktgen(guest, nic.name, nic.peer_mac, nic.peer_ip).send(("count 64", "frags 3", "pkt_size 200"))
    got = nic.wire.collect(64, lambda frame: len(frame.data) == 200)
    # pktgen's own header is 16 bytes behind those of Ethernet, IP and UDP.
    assert {frame.data[42 + 16 :] for frame in got} == {bytes(200 - 42 - 16)}
    nic.ethtool("-G", "tx", "512")
    set_channels(nic, QUEUES)
    works(nic)
