# SPDX-License-Identifier: GPL-2.0-or-later
"""Segmentation by the device: the same bytes as by software, whatever happens on the way; nonsense is refused."""

from __future__ import annotations

import random
from pathlib import Path

import packets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packets import Shape, segments
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from labnic.qtest import wait_until
from labnic.rings import Piece, QueuePair

from .bench import HW, MAC, Bench, MakeBench, examples
from .frames import FRAME_MAX, PEER, frame, numbered
from .test_bad_guest import check_failed, check_recovers, check_works
from .test_migration import SMALL, move

ERR = HW.enum("ERR")
OFFLOAD = HW.enum("OFFLOAD")
TSO_MAX = HW.constants.TSO_MAX
PEER_MAC = PEER.hex(":")


def tso(shape: Shape, mss: int, *, fixed_id: bool = False, **other: int) -> dict[str, int]:
    """The fields of a descriptor that asks for segments; ``other`` are fields of FLAGS that differ."""
    flags = {"OFFLOAD": OFFLOAD.TSO, "CSUM_START": shape.l4, "CSUM_OFFSET": packets.TCP_CSUM_OFFSET}
    flags |= {"FIXED_ID": int(fixed_id), **other}
    return {"LEN.MSS": mss, **{f"FLAGS.{name}": value for name, value in flags.items()}}


def shape_of(seed: int, payload: int, *, ipv6: bool | None = None, extended: bool | None = None) -> Shape:
    """A random TCP packet with a payload of so many bytes."""
    generator = random.Random(seed)
    while True:
        shape = packets.packet(generator, PEER_MAC, MAC, tcp=True, payload=payload, extended=extended)
        if ipv6 in (None, shape.ipv6):
            return shape


@pytest.fixture
def pair(bench: Bench) -> QueuePair:
    """A queue pair of a driver that has accepted the feature."""
    bench.nic.accept("TSO")
    (pair,) = bench.nic.start(0, tx_size=256)
    bench.nic.registers.put("MISC_ENABLE", QUEUE_ERROR=1)
    return pair


def by_scapy(shape: Shape, wanted: list[bytes]) -> list[bytes]:
    """The segments with every length and checksum made by scapy."""
    made = []
    for one in wanted:
        packet = Ether(one)
        for layer, names in ((IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum",))):
            if layer in packet:
                for name in names:
                    delattr(packet[layer], name)
        made.append(bytes(packet))
    return made


def test_the_model_of_segmentation_agrees_with_scapy() -> None:
    """Lengths and checksums are another's; sequence numbers, identifications and flags stand in the model alone."""
    for seed in range(40):
        shape = shape_of(seed, 3000)
        wanted = segments(shape, 700)
        assert by_scapy(shape, wanted) == wanted
        assert b"".join(one[shape.header :] for one in wanted) == shape.data[shape.header :]


@pytest.mark.parametrize("seed", range(4))
def test_segments_are_those_that_software_makes(bench: Bench, pair: QueuePair, seed: int) -> None:
    """Hundreds of frames, thousands of segments: VLAN tags, options, extension headers, all flags, in pieces."""
    generator = random.Random(seed)
    total = 0
    for _ in range(250):
        mss = generator.choice([1, 2, 7, 88, 536, 1220, 1448, generator.randrange(1, 1500)])
        payload = generator.choice([0, 1, mss - 1, mss, mss + 1, 2 * mss, generator.randrange(mss * 30)])
        shape = packets.packet(generator, PEER_MAC, MAC, tcp=True, payload=payload)
        fixed = generator.random() < 0.2
        cuts = sorted({generator.randrange(1, len(shape.data)) for _ in range(generator.randrange(20))})
        pair.tx.send(shape.unfinished(), cuts, tso(shape, mss, fixed_id=fixed))
        wanted = segments(shape, mss, fixed_id=fixed)
        assert bench.cable.collect(len(wanted)) == wanted, (shape, mss)
        total += len(wanted)
    pair.tx.wait_consumed()
    counters = bench.nic.registers.counters()
    assert (counters["tx_frames"], counters["tx_tso"]) == (total, 250)
    assert bench.cable.waiting() == []


def longest(ipv6: bool) -> Shape:
    """A packet whose frame has TSO_MAX bytes."""
    network = IPv6(src="2001:db8::1", dst="2001:db8::2") if ipv6 else IP(src="192.0.2.1", dst="192.0.2.2", id=65530)
    headers = Ether(dst=PEER_MAC, src=MAC) / network / TCP(flags="PA", seq=0xFFFF_FFF0)
    data = bytes(headers / random.Random(1).randbytes(TSO_MAX - len(headers)))
    assert len(data) == TSO_MAX
    l4 = len(headers) - 20
    return Shape(data, 14, l4, l4 + packets.TCP_CSUM_OFFSET, True, ipv6)


@pytest.mark.parametrize("ipv6", [False, True])
@pytest.mark.parametrize("mss", [64, 536, 1448, 8900])
def test_the_longest_frame_is_segmented(bench: Bench, pair: QueuePair, mss: int, ipv6: bool) -> None:
    shape = longest(ipv6)
    pair.tx.send(shape.unfinished(), range(1000, TSO_MAX, 4000), tso(shape, mss))
    wanted = segments(shape, mss)
    assert bench.cable.collect(len(wanted), limit=20.0) == wanted


def test_a_segment_may_be_as_long_as_a_frame(bench: Bench, pair: QueuePair) -> None:
    shape = shape_of(2, 20000)
    mss = FRAME_MAX - shape.header
    pair.tx.send(shape.unfinished(), offload=tso(shape, mss))
    wanted = segments(shape, mss)
    assert len(wanted[0]) == FRAME_MAX
    assert bench.cable.collect(len(wanted)) == wanted


def test_the_drivers_bytes_are_not_changed(bench: Bench, pair: QueuePair) -> None:
    """The payload may be in a file's page, and the headers may be sent again."""
    shape = shape_of(3, 5000)
    (piece,) = pair.tx.stage(shape.unfinished(), offload=tso(shape, 1000))
    pair.tx.post([piece])
    pair.tx.kick()
    bench.cable.collect(5)
    assert bench.qtest.read(piece.address, piece.length) == shape.unfinished()


def test_counters_and_consumption_are_right(bench: Bench, pair: QueuePair) -> None:
    """A frame is consumed once, with its last segment; the link's counters have every segment."""
    shape = shape_of(4, 10 * 1000)
    wanted = segments(shape, 1000)
    pair.tx.send(shape.unfinished(), [100, 200], tso(shape, 1000))
    assert bench.cable.collect(10) == wanted
    pair.tx.wait_consumed()
    assert pair.tx.head == 3
    counters = bench.nic.registers.counters()
    assert counters["tx_frames"] == 10
    assert counters["tx_bytes"] == sum(map(len, wanted))
    assert counters["tx_tso"] == 1


def test_other_frames_keep_their_order_among_segments(bench: Bench, pair: QueuePair) -> None:
    """Nobody reads the wire meanwhile: the device stops in the middle of frames, and goes on where it stopped."""
    wanted: list[bytes] = []
    for number in range(40):
        shape = shape_of(number, 250 * number)
        pair.tx.push(shape.unfinished(), offload=tso(shape, 300))
        pair.tx.push(frame(60 + number))
        wanted += [*segments(shape, 300), frame(60 + number)]
    pair.tx.kick()
    assert bench.nic.registers.read("ID") == HW.reg("ID").reset
    assert bench.cable.collect(len(wanted)) == wanted
    pair.tx.wait_consumed()
    assert bench.cable.waiting() == []


def test_long_frames_keep_their_place_among_short_ones(bench: Bench, pair: QueuePair) -> None:
    """They are sent a little later than they are rung for; what is rung for behind them is not sent before."""
    wanted = []
    with bench.qtest.batch():
        for number in range(8):
            shape = shape_of(number, 30_000, ipv6=False)
            for short in numbered(2):
                pair.tx.push(short)
                pair.tx.ring_doorbell()
            pair.tx.push(shape.unfinished(), offload=tso(shape, 5000))
            pair.tx.ring_doorbell()
            wanted += [*numbered(2), *segments(shape, 5000)]
    assert bench.cable.collect(len(wanted)) == wanted
    pair.tx.wait_consumed()


def test_queues_take_turns_within_long_frames(bench: Bench) -> None:
    """Each loses its place in the device's memory to the other, in frames of more segments than a turn has."""
    bench.nic.accept("TSO")
    pairs = bench.nic.start(0, 1, 2)
    wanted: dict[int, list[bytes]] = {}
    for pair in pairs:
        wanted[pair.number] = []
        for number in range(3):
            shape = shape_of(10 * pair.number + number, 2000, ipv6=False, extended=False)
            pair.tx.push(shape.unfinished(), offload=tso(shape, 3))
            wanted[pair.number] += segments(shape, 3)
    with bench.qtest.batch():  # or the first might be done before the last is rung
        for pair in pairs:
            pair.tx.ring_doorbell()
    sent = bench.cable.collect(sum(map(len, wanted.values())), limit=20.0)
    for pair in pairs:
        of_this = set(wanted[pair.number])
        assert [one for one in sent if one in of_this] == wanted[pair.number]
        pair.tx.wait_consumed()
        assert pair.tx.head == 3
    assert bench.nic.registers.counter("tx_tso") == 9


def test_a_carrier_that_goes_drops_the_rest(bench: Bench, pair: QueuePair) -> None:
    shape = shape_of(5, 500 * 100, ipv6=False)
    wanted = segments(shape, 100)
    pair.tx.push(shape.unfinished(), offload=tso(shape, 100))
    pair.tx.ring_doorbell()
    bench.qmp.set_link("nic0", False)
    sent = bench.cable.waiting()
    wait_until(lambda: pair.tx.head == 1, "the frame to be consumed")
    sent += bench.cable.waiting()
    assert 0 < len(sent) < 500
    assert sent == wanted[: len(sent)]
    counters = bench.nic.registers.counters()
    assert counters["tx_frames"] + counters["tx_no_link"] == 500
    bench.qmp.set_link("nic0", True)
    check_works(bench, pair)


def test_a_queue_stopped_within_a_frame_begins_anew(bench: Bench, pair: QueuePair) -> None:
    """With nobody at the wire the frame cannot have ended."""
    shape = shape_of(6, 500 * 100)
    pair.tx.push(shape.unfinished(), offload=tso(shape, 100))
    pair.tx.ring_doorbell()
    pair.tx.enable(False)
    assert pair.tx.head == 0
    sent = bench.cable.waiting()
    while more := (bench.nic.registers.read("ID") and bench.cable.waiting()):
        sent += more
    assert 0 < len(sent) < 500
    pair.start()
    other = shape_of(7, 1000)
    pair.tx.send(other.unfinished(), offload=tso(other, 300))
    assert bench.cable.collect(4) == segments(other, 300)


def test_another_machine_goes_on_within_a_frame(make_bench: MakeBench, tmp_path: Path) -> None:
    """What the old one has put into its wire and what the new one sends are together all segments, once, in order."""
    bench = make_bench(SMALL)
    bench.nic.accept("TSO")
    (pair,) = bench.nic.start(0)
    shape = shape_of(8, 500 * 100)
    wanted = segments(shape, 100)
    pair.tx.push(shape.unfinished(), range(1000, 50000, 3000), tso(shape, 100))
    pair.tx.ring_doorbell()
    target = move(bench, make_bench, tmp_path)
    first = bench.cable.waiting()
    assert 0 < len(first) < len(wanted)
    assert first + target.cable.collect(len(wanted) - len(first)) == wanted
    pair.tx.wait_consumed()
    assert target.cable.waiting() == []
    assert bench.nic.registers.counter("tx_frames") == len(wanted)


# What is refused

PLAIN = shape_of(20, 1000, ipv6=False, extended=False)
PLAIN6 = shape_of(20, 1000, ipv6=True, extended=False)


def changed(shape: Shape, at: int, value: bytes) -> bytes:
    """The unfinished packet with other bytes from ``at`` on."""
    data = shape.unfinished()
    return data[:at] + value + data[at + len(value) :]


REFUSED = {
    "MSS of zero": (ERR.TSO_MSS, PLAIN.unfinished(), tso(PLAIN, 0)),
    "segments too long": (ERR.TSO_MSS, PLAIN.unfinished(), tso(PLAIN, FRAME_MAX - PLAIN.header + 1)),
    "greatest MSS": (ERR.TSO_MSS, PLAIN.unfinished(), tso(PLAIN, 0x3FFF)),
    "not IP": (ERR.TSO_HEADER, frame(1000), tso(PLAIN, 100)),
    "UDP": (ERR.TSO_HEADER, changed(PLAIN, PLAIN.l3 + 9, b"\x11"), tso(PLAIN, 100)),
    "UDP over IPv6": (ERR.TSO_HEADER, changed(PLAIN6, PLAIN6.l3 + 6, b"\x11"), tso(PLAIN6, 100)),
    "IPv4 of another version": (ERR.TSO_HEADER, changed(PLAIN, PLAIN.l3, b"\x65"), tso(PLAIN, 100)),
    "IPv4 header too short": (ERR.TSO_HEADER, changed(PLAIN, PLAIN.l3, b"\x44"), tso(PLAIN, 100)),
    "fragment": (ERR.TSO_HEADER, changed(PLAIN, PLAIN.l3 + 6, b"\x20\x00"), tso(PLAIN, 100)),
    "TCP elsewhere": (ERR.TSO_HEADER, PLAIN.unfinished(), tso(PLAIN, 100, CSUM_START=PLAIN.l4 + 4)),
    "TCP before its place": (ERR.TSO_HEADER, PLAIN6.unfinished(), tso(PLAIN6, 100, CSUM_START=PLAIN6.l3)),
    "TCP at zero": (ERR.TSO_HEADER, PLAIN.unfinished(), tso(PLAIN, 100, CSUM_START=0)),
    "TCP beyond the frame": (ERR.TSO_HEADER, PLAIN6.unfinished(), tso(PLAIN6, 100, CSUM_START=0x3FFF)),
    "TCP at the end": (ERR.TSO_HEADER, PLAIN6.unfinished(), tso(PLAIN6, 9, CSUM_START=len(PLAIN6.data) - 19)),
    "TCP header too short": (ERR.TSO_HEADER, changed(PLAIN, PLAIN.l4 + 12, b"\x40"), tso(PLAIN, 100)),
    "TCP header cut off": (ERR.TSO_HEADER, changed(PLAIN, PLAIN.l4 + 12, b"\xf0")[: PLAIN.l4 + 59], tso(PLAIN, 100)),
    "checksum elsewhere": (ERR.TSO_HEADER, PLAIN.unfinished(), tso(PLAIN, 100, CSUM_OFFSET=6)),
    "headers cut off": (ERR.TSO_HEADER, PLAIN.unfinished()[: PLAIN.l3 + 10], tso(PLAIN, 100)),
    "Ethernet alone": (ERR.TSO_HEADER, PLAIN.unfinished()[:14], tso(PLAIN, 100)),
    "too long": (ERR.FRAME_LONG, bytes(TSO_MAX + 1), tso(PLAIN, 100)),
    "checksum with an MSS": (ERR.OFFLOAD, PLAIN.unfinished(), {**tso(PLAIN, 100), "FLAGS.OFFLOAD": OFFLOAD.CSUM}),
    "checksum with an ID": (
        ERR.OFFLOAD,
        PLAIN.unfinished(),
        {**tso(PLAIN, 0, fixed_id=True), "FLAGS.OFFLOAD": OFFLOAD.CSUM},
    ),
    "MSS without an offload": (ERR.OFFLOAD, PLAIN.unfinished(), {"LEN.MSS": 100}),
    "ID without an offload": (ERR.OFFLOAD, PLAIN.unfinished(), {"FLAGS.FIXED_ID": 1}),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_nonsense_stops_the_queue(bench: Bench, pair: QueuePair, mistake: str) -> None:
    bench.nic.accept("TSO", "TX_CSUM", "RSS")
    error, data, fields = REFUSED[mistake]
    pair.tx.send(data, [len(data) // 2], fields)
    check_failed(bench, pair.tx, error)
    assert bench.cable.waiting() == []
    check_recovers(bench, pair)


def test_segments_that_were_not_accepted_stop_the_queue(bench: Bench, pair: QueuePair) -> None:
    bench.nic.accept("TX_CSUM")
    pair.tx.send(PLAIN.unfinished(), offload=tso(PLAIN, 100))
    check_failed(bench, pair.tx, ERR.OFFLOAD)


def test_an_mss_after_the_first_descriptor_stops_the_queue(bench: Bench, pair: QueuePair) -> None:
    first, second = pair.tx.stage(PLAIN.unfinished(), [500], tso(PLAIN, 100))
    pair.tx.post([first, Piece(second.address, second.length, fields={"LEN.MSS": 100})])
    pair.tx.ring_doorbell()
    check_failed(bench, pair.tx, ERR.OFFLOAD)


def test_a_long_frame_is_not_sent_uncut(bench: Bench, pair: QueuePair) -> None:
    bench.nic.accept("TSO", "TX_CSUM")
    shape = shape_of(21, FRAME_MAX)
    fields = {"FLAGS.OFFLOAD": OFFLOAD.CSUM, "FLAGS.CSUM_START": shape.l4, "FLAGS.CSUM_OFFSET": 16}
    pair.tx.send(shape.unfinished(), offload=fields)
    check_failed(bench, pair.tx, ERR.FRAME_LONG)


def test_a_device_without_the_feature_cannot_be_asked(make_bench: MakeBench) -> None:
    nic = make_bench(tso="off").nic
    nic.accept("TX_CSUM", "TSO")
    assert nic.registers.read("DEV_FEATURES") & HW.features["TSO"] == 0
    assert nic.registers.field("DRV_FEATURES", "TSO") == 0
    assert nic.registers.field("DRV_FEATURES", "TX_CSUM") == 1


@examples(300)
@given(
    six=st.booleans(),
    at=st.integers(0, 110),
    noise=st.binary(max_size=40),
    start=st.integers(0, 0x3FFF) | st.integers(0, 120) | st.none(),
    mss=st.integers(0, 0x3FFF) | st.integers(0, 40),
    length=st.integers(14, 1100),
)
def test_noise_in_the_headers_is_cut_or_refused(
    bench: Bench, six: bool, at: int, noise: bytes, start: int | None, mss: int, length: int
) -> None:
    """Whatever leaves has the payload, all of it, in its order."""
    shape = PLAIN6 if six else PLAIN
    data = changed(shape, at, noise)[:length]
    fields = tso(shape, mss) if start is None else tso(shape, mss, CSUM_START=start)
    bench.nic.accept("TSO")
    pair = bench.nic.queue_pair(0).start()
    bench.nic.enable()
    pair.tx.send(data, offload=fields)
    if pair.tx.error:
        assert ERR.name_of(pair.tx.error) in ("TSO_HEADER", "TSO_MSS")
        assert bench.cable.waiting() == []
    else:
        place = fields["FLAGS.CSUM_START"]
        header = place + (data[place + 12] >> 4) * 4
        sent = bench.cable.collect(max(1, -(-(len(data) - header) // mss)))
        assert b"".join(one[header:] for one in sent) == data[header:]
    pair.tx.enable(False)
    bench.memory.rewind()
    bench.cable.waiting()
