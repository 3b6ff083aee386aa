# SPDX-License-Identifier: GPL-2.0-or-later
"""Two devices that QEMU joins inside: one receives in the middle of the other's sending."""

from __future__ import annotations

from labnic.pci import PciAddress, PciDevice
from labnic.softnic import Nic

from .bench import SLOT, WITH_HUB, Bench, MakeBench
from .frames import numbered


def two(bench: Bench) -> tuple[Nic, Nic]:
    """Both devices on the hub."""
    first, second = (bench.drive(PciDevice(bench.bus, PciAddress(0, SLOT + number))) for number in (1, 2))
    return first, second


def test_frames_go_both_ways_at_once(make_bench: MakeBench) -> None:
    first, second = two(make_bench(WITH_HUB))
    (one,), (other,) = first.start(0, rx_size=256), second.start(0, rx_size=256)
    for there, back in zip(numbered(100), numbered(100, first=500), strict=True):
        one.tx.send(there)
        other.tx.send(back)
    assert [received.data for received in other.rx.receive(100)] == numbered(100)
    assert [received.data for received in one.rx.receive(100)] == numbered(100, first=500)


def test_a_starved_receiver_gets_everything_later(make_bench: MakeBench) -> None:
    """Each frame once. Not in order: QEMU's hub takes up its other ports before the frame that the receiver held."""
    first, second = two(make_bench(WITH_HUB))
    (one,), (other,) = first.start(0, tx_size=512), second.start(0)
    for frame in numbered(300):
        one.tx.push(frame)
    one.tx.kick()
    got: list[bytes] = []
    while len(got) < 300:
        got += [received.data for received in other.rx.receive()]
        other.rx.fill()
        other.rx.kick()
    assert sorted(got) == numbered(300)
    one.tx.wait_consumed()


def test_a_message_into_the_sender_in_the_middle_of_its_sending_does_no_harm(make_bench: MakeBench) -> None:
    """The receiver's interrupt is aimed at the sender's doorbell, which comes while the sender is still at work."""
    first, second = two(make_bench(WITH_HUB))
    (one,), (other,) = first.start(0), second.start(0)
    second.msix.program(second.queue_vector(0), first.registers.address("TX_DOORBELL", 0), 1)
    for number, frame in enumerate(numbered(20)):
        other.rx.arm()
        one.tx.push(frame)
        one.tx.ring_doorbell()
        assert other.rx.receive()[0].data == frame, f"frame {number}"
    assert first.registers.read("QUEUE_ERRORS") == 0
    one.tx.wait_consumed()
