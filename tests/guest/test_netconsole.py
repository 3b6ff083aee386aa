# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's console over the NIC: sent with interrupts off, through rings that are full, while all else goes on.

netpoll then calls the driver's poll by itself, with interrupts off and a budget of zero, to make room in the ring.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest

from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic
from labnic.wire import Frame, Match

from . import frames
from .helpers import Flood, deltas, device_counters, eventually, set_channels, works
from .probes import probed
from .test_xmit import REFUSED, RETURNS

PORT = 6666
RING = 64
"""Entries of the smallest ring."""
RECEIVED = 8
"""Frames in the RX ring when the kernel polls."""
COUNT = 250
"""Messages of a test; each is a datagram."""
NUMBERS = itertools.count(0, 1000)
"""Where numbers of messages begin. None comes twice: a console that is new begins with the whole of the log."""
HEADERS = 14 + 20 + 8
"""Bytes of the headers of Ethernet, IPv4 and UDP before the message."""
POLLS = "p:{} labnic:labnic_poll budget=$arg2:s32"
BY_NETPOLL = "budget == 0"

# Frames of another sender keep the only TX ring, of the fewest entries, full.
BUSY = (
    "(while [ ! -e /tmp/labnic-stop ]; do dd if=/dev/zero bs=1400 count=100 | nc.traditional -u -q 0 -w 1 {ip} 9; done)"
)
MESSAGES = """
rm -f /tmp/labnic-stop
{busy} >/dev/null 2>&1 &
n={first}
while [ $n -lt {end} ]; do echo "<4>labnic netconsole $n" >/dev/kmsg; n=$((n + 1)); done
touch /tmp/labnic-stop
wait
"""


@pytest.fixture
def netconsole(lab: Lab, nic: Nic) -> Iterator[None]:
    """Kernel messages of every level go to the wire's end through the smallest ring; the module is gone at the end."""
    guest = lab.guest
    nic.ethtool("-G", "tx", str(RING), "rx", str(RING))
    set_channels(nic, 1)
    target = f"6665@{nic.ip}/{nic.name},{PORT}@{nic.peer_ip}/{nic.peer_mac}"
    guest.sh(f"echo on >/proc/sys/kernel/printk_devkmsg; dmesg -n 8; modprobe netconsole netconsole={target}")
    try:
        yield
    finally:
        guest.sh(
            "touch /tmp/labnic-stop; rmmod netconsole; dmesg -n 7; echo ratelimit >/proc/sys/kernel/printk_devkmsg"
        )


def is_message(frame: Frame) -> bool:
    """Whether a frame carries a message of the console."""
    return frame.data[12:14] == b"\x08\x00" and frame.data[36:38] == PORT.to_bytes(2, "big")


def text(frame: Frame) -> str:
    """The message, without padding."""
    length = int.from_bytes(frame.data[38:40], "big") - 8
    return frame.data[HEADERS : HEADERS + length].decode().rstrip("\n")


def numbers(messages: list[str]) -> list[int]:
    """The numbers of the messages that `MESSAGES` wrote."""
    found = (re.search(r"\blabnic netconsole (\d+)$", message) for message in messages)
    return [int(match[1]) for match in found if match]


def script(nic: Nic, first: int, count: int = COUNT) -> str:
    """Writes so many messages, while another sender keeps the ring full."""
    return MESSAGES.format(busy=BUSY.format(ip=nic.peer_ip), first=first, end=first + count)


def write_last(guest: Guest) -> int:
    """Write one message more; gives its number."""
    last = next(NUMBERS)
    guest.sh(f"echo '<4>labnic netconsole {last}' >/dev/kmsg")
    return last


def has_number(wanted: int) -> Match:
    """Matches the frame of one message."""
    return lambda frame: is_message(frame) and numbers([text(frame)]) == [wanted]


def test_each_message_arrives_once_and_in_order(guest: Guest, nic: Nic, netconsole: None) -> None:
    first = next(NUMBERS)
    wanted = range(first, first + COUNT)
    with Flood(nic, answer=True):
        guest.sh(script(nic, first), timeout=60.0)
        got = nic.wire.collect(
            COUNT, lambda frame: is_message(frame) and any(n in wanted for n in numbers([text(frame)])), timeout=10.0
        )
    assert numbers([text(frame) for frame in got]) == list(wanted)
    works(nic)


def test_the_driver_refuses_none(guest: Guest, nic: Nic, netconsole: None) -> None:
    """Messages from with interrupts off find a stopped queue; netpoll waits for it, as for NETDEV_TX_BUSY it would."""
    with probed(guest, RETURNS, only=REFUSED) as probe:
        guest.sh(script(nic, next(NUMBERS)), timeout=60.0)
    assert probe.lines == ()
    assert probe.calls >= COUNT
    works(nic)


def test_the_poll_is_called_with_no_budget(guest: Guest, nic: Nic, netconsole: None) -> None:
    """A message finds the TX ring full and frames in the RX ring, and the kernel warns if a poll takes some."""
    filling = [frames.make(60, dst=nic.peer_mac, src=nic.mac, seed=n) for n in range(2 * RING)]
    with probed(guest, POLLS, only=BY_NETPOLL) as probe:
        # Without interrupts no other poll takes the frames.
        with nic.fault("tx-withhold", count=0), nic.fault("irq-lose", queue=0, count=0):
            frames.send_from_guest(guest, nic, filling)
            before = device_counters(nic)
            nic.wire.send(*(frames.to_guest(nic, 60, seed=n) for n in range(RECEIVED)))
            eventually(lambda: deltas(before, device_counters(nic)).get("rx_frames"), RECEIVED)
            last = write_last(guest)
        nic.wire.receive(has_number(last))
    assert probe.lines
    works(nic)


def test_burst_of_the_kernel_s_own_messages(guest: Guest, nic: Nic, netconsole: None) -> None:
    """The list of all tasks, a thousand lines without a pause: begin and end arrive, and what is between."""
    with Flood(nic, answer=True):
        guest.sh("echo t >/proc/sysrq-trigger; echo m >/proc/sysrq-trigger")
        last = write_last(guest)
        messages: list[str] = []
        while numbers(messages[-1:]) != [last]:
            messages.append(text(nic.wire.receive(is_message, timeout=10.0)))
    assert any("Show State" in message for message in messages)
    assert any("Mem-Info" in message for message in messages)
    assert sum("task:" in message for message in messages) > 20
    works(nic)


def test_messages_while_the_interface_goes_down_and_up(guest: Guest, nic: Nic, netconsole: None) -> None:
    with guest.start(script(nic, next(NUMBERS), 2 * COUNT)) as writer:
        guest.sh(f"for n in 1 2 3; do ip link set {nic.name} down && ip link set {nic.name} up || exit 1; done")
        nic.configure()
        writer.wait(60.0)
    nic.wire.receive(has_number(write_last(guest)))
    works(nic)


def test_messages_while_the_rings_and_channels_change(guest: Guest, nic: Nic, netconsole: None) -> None:
    one = f"ethtool -L {nic.name} combined 3 && ethtool -G {nic.name} tx 128"
    change = f"{one} && ethtool -L {nic.name} combined 1 && ethtool -G {nic.name} tx 64"
    with guest.start(script(nic, next(NUMBERS), 2 * COUNT)) as writer:
        guest.sh(f"for n in 1 2; do {change} || exit 1; done")
        writer.wait(60.0)
    works(nic)


def test_driver_unloaded_under_its_own_console(guest: Guest, lab: Lab, nic: Nic, netconsole: None) -> None:
    with guest.start(script(nic, next(NUMBERS), 2 * COUNT)):
        lab.rmmod()
        lab.insmod()
    works(nic)
