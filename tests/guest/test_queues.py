# SPDX-License-Identifier: GPL-2.0-or-later
"""Queue pairs: every one sends, frames are spread over them by their hash, and small rings refuse nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from labnic.guest import Guest
from labnic.nic import Nic
from labnic.wire import Frame

from . import frames, rss
from .helpers import QUEUES, deltas, eventually, interrupts, pci_address, qdiscs, requeues, set_channels, settled, works
from .rss import Flow

ELSEWHERE = "192.0.2.77"
"""An IPv4 address that the guest does not have: what comes for it is received and goes no further."""


@pytest.fixture(autouse=True)
def all_queues(nic: Nic) -> None:
    """Every queue pair that the NIC has is in use, more than the guest has CPUs."""
    set_channels(nic, QUEUES)


def udp(nic: Nic, flow: Flow, size: int = 64, *, from_guest: bool = False) -> bytes:
    """A frame with one UDP datagram of this flow; without UDP checksum, which IPv4 allows."""
    source, destination = (nic.mac, nic.peer_mac) if from_guest else (nic.peer_mac, nic.mac)
    datagram = flow.hash_input[8:] + (8 + size).to_bytes(2, "big") + bytes(2) + bytes(size)
    head = bytes.fromhex("4500") + (20 + len(datagram)).to_bytes(2, "big") + bytes.fromhex("0001000040110000")
    head += flow.hash_input[:8]
    total = sum(int.from_bytes(head[i : i + 2], "big") for i in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + (0xFFFF - (total & 0xFFFF) - (total >> 16)).to_bytes(2, "big") + head[12:]
    return frames.mac_bytes(destination) + frames.mac_bytes(source) + b"\x08\x00" + head + datagram


def flows(nic: Nic, count: int) -> list[Flow]:
    """UDP flows from the wire that differ in their source port."""
    return [Flow(nic.peer_ip, ELSEWHERE, 20000 + 7 * n, 9) for n in range(count)]


# Sending


def sent_per_queue(guest: Guest, nic: Nic) -> dict[int, int]:
    """Packets that went through the queueing discipline of each TX queue."""
    return {
        int(qdisc["parent"].partition(":")[2], 16) - 1: int(qdisc["packets"])
        for qdisc in qdiscs(guest, nic)
        if qdisc["kind"] != "mq" and ":" in qdisc.get("parent", "")
    }


@contextmanager
def steered_to(guest: Guest, nic: Nic, queue: int) -> Iterator[None]:
    """All that the guest sends takes this TX queue."""
    dev = nic.name
    guest.sh(
        f"modprobe -a sch_ingress act_skbedit cls_matchall && tc qdisc add dev {dev} clsact && "
        f"tc filter add dev {dev} egress matchall action skbedit queue_mapping {queue}"
    )
    try:
        yield
    finally:
        guest.run(f"tc qdisc del dev {dev} clsact")


@pytest.mark.parametrize("queue", range(QUEUES))
def test_each_tx_queue_sends(guest: Guest, nic: Nic, queue: int) -> None:
    burst = [frames.make(60 + n, dst=nic.peer_mac, src=nic.mac, seed=n) for n in range(30)]
    guest.sh(f"tc qdisc del dev {nic.name} root; tc qdisc add dev {nic.name} root mq")
    with steered_to(guest, nic, queue):
        before = sent_per_queue(guest, nic)
        frames.send_from_guest(guest, nic, burst)
        frames.assert_same(burst, frames.collect_test_frames(nic.wire, len(burst)))
        after = sent_per_queue(guest, nic)
    assert {n: after[n] - before[n] for n in after if after[n] != before[n]} == {queue: len(burst)}


def pktgen(guest: Guest, nic: Nic, settings: Sequence[str], *, timeout: float = 30.0) -> str:
    """Let the kernel's packet generator run once with these settings; gives its report."""
    guest.sh("modprobe pktgen")
    device = f"/proc/net/pktgen/{nic.name}"
    lines = [f"add_device {nic.name}"]
    script = "".join(f"echo '{line}' >/proc/net/pktgen/kpktgend_0 || exit 1\n" for line in ["rem_device_all", *lines])
    common = [f"dst_mac {nic.peer_mac}", f"dst {nic.peer_ip}", "delay 0", "min_pkt_size 60", "max_pkt_size 60"]
    script += "".join(f"echo '{line}' >{device} || exit 1\n" for line in [*common, *settings])
    script += f"echo start >/proc/net/pktgen/pgctrl && cat {device}\n"
    script += "echo rem_device_all >/proc/net/pktgen/kpktgend_0\n"
    try:
        return guest.run(script, check=True, timeout=timeout).stdout
    finally:
        guest.run("rmmod pktgen")


def sequence_number(frame: Frame) -> int:
    """The number that pktgen gave to a frame."""
    return int.from_bytes(frame.data[46:50], "big")


def is_generated(frame: Frame) -> bool:
    """Whether a frame is of pktgen's (it begins its payload with a magic number)."""
    return frame.data[42:46] == bytes.fromhex("be9be955")


@pytest.mark.parametrize("burst", [1, 32])
def test_generator_on_all_queues_loses_nothing(guest: Guest, nic: Nic, burst: int) -> None:
    """Straight into the driver, round all TX queues; with bursts only the last frame of each rings the doorbell."""
    count = 1600
    settings = [f"count {count}", "queue_map_min 0", f"queue_map_max {QUEUES - 1}", f"burst {burst}"]
    before = settled(nic.ethtool_stats)
    report = pktgen(guest, nic, settings)
    got = nic.wire.collect(count, is_generated, timeout=10.0)
    after = settled(nic.ethtool_stats)
    assert re.search(r"errors: 0\b", report), report
    if burst == 1:
        assert sorted(map(sequence_number, got)) == list(range(count))
    assert after["tx_frames"] - before["tx_frames"] == count
    assert after["tx_doorbells"] - before["tx_doorbells"] <= count // burst + QUEUES


@pytest.mark.parametrize("queues", [1, QUEUES])
def test_smallest_rings_never_refuse_a_frame(guest: Guest, nic: Nic, queues: int) -> None:
    """A burst of many times the ring: the queue is stopped in time, so that nothing is requeued or lost."""
    nic.ethtool("-G", "rx", "64", "tx", "64")
    set_channels(nic, queues)
    burst = [udp(nic, Flow(nic.ip, nic.peer_ip, 30000 + n % 64, n), n % 1400, from_guest=True) for n in range(1500)]
    guest.sh(f"tc qdisc del dev {nic.name} root; sysctl -q -w net.core.default_qdisc=pfifo_fast")
    try:
        guest.sh(f"tc qdisc add dev {nic.name} root mq")
        before = requeues(guest, nic)
        frames.send_from_guest(guest, nic, burst)
        got = nic.wire.collect(len(burst), lambda frame: frame.data[12:14] == b"\x08\x00", timeout=10.0)
        assert sorted(burst) == sorted(frame.data for frame in got)
        assert requeues(guest, nic) == before
    finally:
        guest.sh("sysctl -q -w net.core.default_qdisc=fq_codel")


def test_byte_queue_limits_return_to_zero(guest: Guest, nic: Nic) -> None:
    """What was charged for each frame is given back when it is completed, on every queue."""
    limits = f"cd {nic.path('queues')} && for q in tx-*; do cat $q/byte_queue_limits/{{}}; done"
    assert len(guest.sh(limits.format("inflight")).split()) == QUEUES
    burst = [udp(nic, Flow(nic.ip, nic.peer_ip, 30000 + n % 64, n), 1000, from_guest=True) for n in range(400)]
    with frames.lossless_egress(guest, nic):
        frames.send_from_guest(guest, nic, burst)
        nic.wire.collect(len(burst), lambda frame: frame.data[12:14] == b"\x08\x00", timeout=10.0)
    eventually(lambda: guest.sh(limits.format("inflight")).split(), ["0"] * QUEUES, what="bytes in flight")
    assert any(int(limit) for limit in guest.sh(limits.format("limit")).split())


# Receiving


def test_hash_of_this_test_is_the_published_one() -> None:
    """The example values of the hash's specification, so that the tests below compare with the right thing."""
    key = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
    assert rss.toeplitz(key, Flow("66.9.149.187", "161.142.100.80", 2794, 1766).hash_input) == 0x51CCC178
    assert rss.toeplitz(key, Flow("199.92.111.2", "65.69.140.83", 14230, 4739).hash_input) == 0xC626B0EA


def test_indirection_covers_every_queue_evenly(nic: Nic) -> None:
    table = rss.spreading(nic).table
    assert len(table) == 128
    assert {queue: table.count(queue) for queue in range(QUEUES)} == dict.fromkeys(range(QUEUES), 128 // QUEUES)


def received_by(nic: Nic, sent: Sequence[bytes]) -> dict[int, int]:
    """How many of these frames each RX queue takes; waits until all are there."""
    before = settled(nic.ethtool_stats)
    nic.wire.send(*sent)
    eventually(lambda: nic.ethtool_stats()["rx_frames"] - before["rx_frames"], len(sent), what="received frames")
    growth = deltas(before, settled(nic.ethtool_stats))
    found = {name: re.fullmatch(r"queue_(\d+)_rx_packets", name) for name in growth}
    return {int(match[1]): growth[name] for name, match in found.items() if match}


def predicted(nic: Nic, sent: Sequence[Flow]) -> dict[int, int]:
    """How many of these flows the hash gives to each RX queue."""
    spreading = rss.spreading(nic)
    queues = [spreading.queue(flow) for flow in sent]
    return {queue: queues.count(queue) for queue in set(queues)}


def test_flow_stays_on_one_queue(nic: Nic) -> None:
    for flow in flows(nic, 6):
        assert received_by(nic, [udp(nic, flow, size) for size in range(20, 30)]) == {
            rss.spreading(nic).queue(flow): 10
        }


def test_many_flows_take_the_queues_that_their_hashes_say(nic: Nic) -> None:
    many = flows(nic, 128)
    wanted = predicted(nic, many)
    assert wanted.keys() == set(range(QUEUES))
    assert received_by(nic, [udp(nic, flow) for flow in many]) == wanted


def test_each_queue_has_an_interrupt_of_its_own(guest: Guest, nic: Nic) -> None:
    address = pci_address(guest, nic)
    before = interrupts(guest, address)
    received_by(nic, [udp(nic, flow) for flow in flows(nic, 128)])
    after = interrupts(guest, address)
    assert len(after) == QUEUES + 1
    assert [n for n in range(1, QUEUES + 1) if after[n] == before[n]] == []


def test_frames_without_a_hash_go_to_the_first_queue(nic: Nic) -> None:
    assert received_by(nic, [frames.to_guest(nic, 60, seed=n) for n in range(8)]) == {0: 8}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_with_fewer_channels_only_those_receive(nic: Nic, count: int) -> None:
    set_channels(nic, count)
    assert set(rss.spreading(nic).table) == set(range(count))
    many = flows(nic, 64)
    wanted = predicted(nic, many)
    assert wanted.keys() == set(range(count))
    assert received_by(nic, [udp(nic, flow) for flow in many]) == wanted
    works(nic)
