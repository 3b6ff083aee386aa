# SPDX-License-Identifier: GPL-2.0-or-later
"""Queue pairs: every one sends, frames are spread over them by their hash, and small rings refuse nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from labnic.command import backoff
from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic
from labnic.pktgen import Pktgen, Sent, is_generated
from labnic.wire import Frame

from . import frames, rss
from .helpers import (
    QUEUES,
    UDP,
    channels,
    deltas,
    device_counters,
    ethernet_ipv4,
    eventually,
    interrupts,
    pci_address,
    qdiscs,
    set_channels,
    settled,
    works,
    xmit_results,
)
from .peer import is_ipv4
from .rss import Flow

NETDEV_TX_OK = 0
"""What ``ndo_start_xmit`` returns for a frame that it took (include/linux/netdevice.h)."""
ELSEWHERE = "192.0.2.77"
"""An IPv4 address that the guest does not have: what comes for it is received and goes no further."""


@pytest.fixture(scope="module")
def channels_in_use(lab: Lab) -> Iterator[None]:
    """Every queue pair that the NIC has is in use, more than the guest has CPUs."""
    usual = channels(lab.nic)
    set_channels(lab.nic, QUEUES)
    yield
    set_channels(lab.nic, usual)


def udp(nic: Nic, flow: Flow, size: int = 64, *, from_guest: bool = False) -> bytes:
    """A frame with one UDP datagram of this flow; without UDP checksum, which IPv4 allows."""
    ports = flow.source_port.to_bytes(2, "big") + flow.destination_port.to_bytes(2, "big")
    datagram = ports + (8 + size).to_bytes(2, "big") + bytes(2) + bytes(size)
    by, to = (nic.mac, nic.peer_mac) if from_guest else (nic.peer_mac, nic.mac)
    return ethernet_ipv4(by, to, flow.source, flow.destination, UDP, datagram)


def flows(nic: Nic, count: int) -> list[Flow]:
    """UDP flows from the wire that differ in their source port."""
    return [Flow(nic.peer_ip, ELSEWHERE, 20000 + 7 * n, 9) for n in range(count)]


# Sending


@contextmanager
def fifos(guest: Guest, nic: Nic) -> Iterator[None]:
    """A first-in first-out queue in front of each TX queue, in place of fq_codel, which drops by design."""
    setting = "/proc/sys/net/core/default_qdisc"
    guest.sh(f"echo pfifo_fast >{setting} && tc qdisc replace dev {nic.name} root handle 10: mq")
    try:
        yield
    finally:
        guest.sh(f"echo fq_codel >{setting}")
        # Another interface may have come in its place, with queues of its own.
        guest.run(["tc", "qdisc", "del", "dev", nic.name, "root"])


def sent_per_queue(guest: Guest, nic: Nic) -> dict[int, int]:
    """Packets that went through the queueing discipline of each TX queue, class n + 1 of the root ``mq``."""
    root = next(qdisc["handle"] for qdisc in qdiscs(guest, nic) if qdisc["kind"] == "mq")
    parents = {qdisc["parent"]: int(qdisc["packets"]) for qdisc in qdiscs(guest, nic) if "parent" in qdisc}
    return {n: parents[f"{root}{n + 1:x}"] for n in range(QUEUES)}


@contextmanager
def steered(guest: Guest, nic: Nic) -> Iterator[None]:
    """What the guest sends to an address that ends in n takes TX queue n."""
    rules = [f"qdisc add dev {nic.name} clsact"]
    for queue in range(QUEUES):
        match = f"pref {queue + 1} protocol all flower dst_mac {steering_mac(queue)}"
        rules.append(f"filter add dev {nic.name} egress {match} action skbedit queue_mapping {queue}")
    guest.run(["modprobe", "-a", "sch_ingress", "act_skbedit", "cls_flower"], check=True)
    guest.run(["tc", "-batch", "-"], input="\n".join(rules), check=True)
    try:
        yield
    finally:
        guest.run(["tc", "qdisc", "del", "dev", nic.name, "clsact"])


def steering_mac(queue: int) -> str:
    """The destination whose frames take a TX queue."""
    return f"02:00:00:00:00:{queue:02x}"


def test_each_tx_queue_sends(guest: Guest, nic: Nic) -> None:
    """Another number of frames through each queue: all of them leave, in order, and each queue has counted its own."""
    bursts = [
        [frames.make(60 + n, dst=steering_mac(queue), src=nic.mac, seed=queue) for n in range(10 + queue)]
        for queue in range(QUEUES)
    ]
    with fifos(guest, nic), steered(guest, nic):
        before = sent_per_queue(guest, nic)
        frames.send_from_guest(guest, nic, [frame for burst in bursts for frame in burst])
        got = frames.collect_test_frames(nic.wire, sum(map(len, bursts)))
        assert deltas(before, sent_per_queue(guest, nic)) == {queue: 10 + queue for queue in range(QUEUES)}
    for queue, burst in enumerate(bursts):
        frames.assert_same(burst, [frame for frame in got if frame[5] == queue])


def generate(guest: Guest, nic: Nic, *settings: str) -> Sent:
    """Let the kernel's packet generator send frames of 60 bytes from one thread."""
    return Pktgen(guest, nic.name, nic.peer_mac, nic.peer_ip).send(("pkt_size 60", *settings))


def sequence_number(frame: Frame) -> int:
    """The number that pktgen gave to a frame."""
    return int.from_bytes(frame.data[46:50], "big")


@pytest.mark.parametrize("burst", [1, 32])
def test_generator_on_all_queues_loses_nothing(guest: Guest, nic: Nic, burst: int) -> None:
    """Straight into the driver, round all TX queues; with bursts only the last frame of each rings the doorbell."""
    count = 1600
    settings = (f"count {count}", "queue_map_min 0", f"queue_map_max {QUEUES - 1}", f"burst {burst}")
    before = settled(lambda: device_counters(nic))
    sent = generate(guest, nic, *settings)
    got = nic.wire.collect(count, is_generated, timeout=10.0)
    after = settled(lambda: device_counters(nic))
    assert not sent.errors
    if burst == 1:
        assert sorted(map(sequence_number, got)) == list(range(1, count + 1))
    # The stack may have sent something of its own.
    assert after["tx_frames"] - before["tx_frames"] >= count
    assert not any(is_generated(frame) for frame in nic.wire.flush()), "frames came twice"
    assert after["tx_doorbells"] - before["tx_doorbells"] <= count // burst + QUEUES


@pytest.mark.parametrize("queues", [1, QUEUES])
def test_smallest_rings_never_refuse_a_frame(guest: Guest, nic: Nic, queues: int) -> None:
    """Many times the ring in one go: queues are stopped before they overflow, and no frame is refused or lost."""
    nic.ethtool("-G", "rx", "64", "tx", "64")
    set_channels(nic, queues)
    burst = [udp(nic, Flow(nic.ip, nic.peer_ip, 30000 + n % 64, n), n % 1400, from_guest=True) for n in range(1500)]
    with fifos(guest, nic), xmit_results(guest, nic) as results:
        frames.send_from_guest(guest, nic, burst)
        got = nic.wire.collect(len(burst), is_ipv4, timeout=10.0)
    assert sorted(burst) == sorted(frame.data for frame in got)
    assert {result: results.count(result) for result in results} == {NETDEV_TX_OK: len(burst)}


def test_burst_longer_than_the_ring_rings_the_doorbell_when_it_is_full(guest: Guest, nic: Nic) -> None:
    """Each frame says that more are to come, until none fits: then the queue is stopped, sent, and started again."""
    nic.ethtool("-G", "tx", "64")
    before = settled(lambda: device_counters(nic))
    sent = generate(guest, nic, "count 1000", "burst 200")
    assert not sent.errors
    count = sent.frames  # pktgen ends with a whole burst
    nic.wire.collect(count, is_generated, timeout=10.0)
    growth = deltas(before, settled(lambda: device_counters(nic)))
    assert growth["tx_frames"] == count
    assert growth["queue_0_tx_stops"] >= count // 64


@contextmanager
def returned(guest: Guest, function: str) -> Iterator[list[int]]:
    """What a function of the kernel returned in each call of the block; in the list at the block's end."""
    tracing = "/sys/kernel/tracing"
    event = f"{tracing}/events/kprobes/labnic_returned/enable"
    results: list[int] = []
    guest.sh(f"echo 'r:labnic_returned {function} value=$retval:s32' >{tracing}/kprobe_events")
    try:
        guest.sh(f"echo >{tracing}/trace; echo 1 >{event}")
        yield results
        guest.sh(f"echo 0 >{event}")
        text = guest.sh(f"cat {tracing}/trace; echo >{tracing}/trace")
        results += [int(value) for value in re.findall(r" value=(-?\d+)$", text, re.MULTILINE)]
    finally:
        guest.run(f"echo 0 >{event}; echo >{tracing}/kprobe_events")


def test_burst_longer_than_the_ring_is_never_refused(guest: Guest, nic: Nic) -> None:
    """Whoever sends stops at the stop bit, and so the queue must be stopped before a frame might not fit."""
    nic.ethtool("-G", "tx", "64")
    with returned(guest, "labnic_start_xmit") as results:
        generate(guest, nic, "count 1000", "burst 200")
    nic.wire.collect(1000, is_generated, timeout=10.0)
    assert len(results) >= 1000
    assert set(results) == {NETDEV_TX_OK}


def test_byte_queue_limits_return_to_zero(guest: Guest, nic: Nic) -> None:
    """What was charged for each frame is given back when it is completed, on every queue."""
    limits = f"cd {nic.path('queues')} && for q in tx-*; do cat $q/byte_queue_limits/{{}}; done"
    assert len(guest.sh(limits.format("inflight")).split()) == QUEUES
    burst = [udp(nic, Flow(nic.ip, nic.peer_ip, 30000 + n % 64, n), 1000, from_guest=True) for n in range(400)]
    with frames.lossless_egress(guest, nic):
        frames.send_from_guest(guest, nic, burst)
        nic.wire.collect(len(burst), is_ipv4, timeout=10.0)
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
    """How many of these frames each RX queue takes, by the driver's count; waits until all are there."""
    before = received(nic)
    nic.wire.send(*sent)
    for _ in backoff(5.0):
        growth = deltas(before, received(nic))
        if sum(growth.values()) >= len(sent):
            return growth
    raise AssertionError(f"{sum(growth.values())} of {len(sent)} frames received: {growth}")


def received(nic: Nic) -> dict[int, int]:
    """Frames that each RX queue has received so far."""
    found = ((re.fullmatch(r"queue_(\d+)_rx_packets", name), value) for name, value in nic.ethtool_stats().items())
    return {int(match[1]): value for match, value in found if match}


def predicted(nic: Nic, sent: Sequence[Flow]) -> dict[int, int]:
    """How many of these flows the hash gives to each RX queue."""
    spreading = rss.spreading(nic)
    queues = [spreading.queue(flow) for flow in sent]
    return {queue: queues.count(queue) for queue in set(queues)}


def test_flow_stays_on_one_queue(nic: Nic) -> None:
    for flow in flows(nic, 4):
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
