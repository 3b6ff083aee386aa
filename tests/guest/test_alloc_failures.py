# SPDX-License-Identifier: GPL-2.0-or-later
"""Each allocation of the driver may fail: the operation then fails and leaves nothing, and the next one succeeds."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from labnic.build import DRIVER_IN_GUEST
from labnic.guest import Guest
from labnic.kernelfit import leaked
from labnic.lab import Lab
from labnic.nic import Nic

from .failures import DEEP, EVERYWHERE, MODULES, MOST, NEAR, Attempt, command, failing, judge, write
from .helpers import UDP, channels, dmesg_since, ethernet_ipv4, pci_address, set_channels, works

# The checker of references loses its count where it gets no memory itself, says so once, and counts no more.
UNCOUNTED = "ref_tracker: memory allocation failure"

pytestmark = [pytest.mark.needs_kernel("failslab", "fail_page_alloc"), pytest.mark.expect_splat(UNCOUNTED)]

# ENOMEM, ENODEV, EBUSY and, by insmod, EINVAL in words
NO_MEMORY, NO_DEVICE, BUSY = "Cannot allocate memory", "No such device", "Device or resource busy"
INVALID = "Invalid parameters"
PAGE_POOL = r"page_pool_dma_map\+"
"""Linux 6.12 counts mapped pages under a lock that it does not give back whole before it waits for memory."""

BARS = 2
"""Of the device: its registers, and MSI-X."""
NO_VECTORS, NO_LINKS = "no MSI-X vectors: -19", "failed to create module links for labnic"

PCI_CORE = r"at arch/x86/mm/ioremap\.c:\d+ iounmap\+"
"""Linux 6.12 warns of itself where it cannot map the table of MSI-X: it unmaps what it never had."""

DRIVER = "/sys/bus/pci/drivers/labnic"

PORT = 3000
"""Of the socket that nobody reads."""

STRIDE = 7
"""Where the kernel's own allocations count as well, one of so many is tried; which ones, the seed decides."""


@pytest.fixture(scope="module")
def lab(own_lab: Lab) -> Lab:
    """A VM of its own: the kernel's checkers lack memory, too, and lockdep remembers which locks they held then."""
    return own_lab


@pytest.fixture(scope="module", autouse=True)
def _nothing_leaks(lab: Lab) -> Iterator[None]:
    """What the failures of this module left behind is no other module's."""
    yield
    assert [str(leak) for leak in leaked(lab)] == []


def ring_sizes(nic: Nic) -> tuple[int, int]:
    """Descriptors of an RX and a TX ring in use."""
    current = nic.ethtool("-g").stdout.partition("Current hardware settings:")[2]
    sizes = {name: value.strip() for name, _, value in (line.partition(":") for line in current.splitlines())}
    return int(sizes["RX"]), int(sizes["TX"])


@pytest.fixture
def small_rings(nic: Nic) -> Iterator[None]:
    """Each buffer of a ring is an allocation of the same site: the smallest ring has enough of them."""
    rx, tx = ring_sizes(nic)
    nic.ethtool("-G", "rx", "64", "tx", "64")
    yield
    nic.ethtool("-G", "rx", str(rx), "tx", str(tx))


def refused_for_memory(attempts: Sequence[Attempt]) -> None:
    """Each failure was told as what it was, and there were some."""
    assert [str(tried) for tried in attempts if not tried.ok and NO_MEMORY not in tried.said] == []
    assert any(not tried.ok for tried in attempts), "every operation succeeded without its memory"


# Probe


def bind_while_failing(
    guest: Guest, nic: Nic, code: tuple[int, int], *, depth: int = DEEP, stride: int = 1
) -> list[Attempt]:
    """Probe the device again and again; gives the attempts in which an allocation failed."""
    address = pci_address(guest, nic)
    guest.write(f"{DRIVER}/unbind", address)
    # A probe that failed has left no interface, which would be in the way of the next one's name.
    holds = f"[ -e {DRIVER}/{address} ] || [ -e /sys/class/net/{nic.name} ]"
    with failing(guest, code, depth=depth) as failures:
        attempts = failures.series(
            write(f"{DRIVER}/bind", address),
            holds=holds,
            undo=f"echo {address} >{DRIVER}/unbind",
            first=random.randint(1, stride),
            step=stride,
        )
    nic.configure()
    works(nic)
    return judge(attempts)


@pytest.mark.expect_splat(PCI_CORE)
def test_probe_fails_at_each_site_and_leaves_nothing(guest: Guest, nic: Nic) -> None:
    messages = len(dmesg_since(guest, 0))
    attempts = bind_while_failing(guest, nic, MODULES, depth=NEAR)
    # The PCI core has words of its own for a lack of memory, in its MSI-X and for a BAR; the driver hands them on.
    others = sum(NO_VECTORS in line for line in dmesg_since(guest, messages))
    assert sum(NO_DEVICE in tried.said for tried in attempts) == others
    assert sum(BUSY in tried.said for tried in attempts) <= BARS
    refused_for_memory([tried for tried in attempts if NO_DEVICE not in tried.said and BUSY not in tried.said])


@pytest.mark.expect_splat(PCI_CORE)
def test_probe_survives_failures_of_the_kernel_itself(guest: Guest, nic: Nic) -> None:
    bind_while_failing(guest, nic, EVERYWHERE, stride=STRIDE)


@pytest.mark.expect_splat(PCI_CORE)
def test_loading_fails_only_for_its_own_allocations(guest: Guest, lab: Lab, nic: Nic) -> None:
    """A probe that fails leaves the module loaded, for the next device."""
    messages = len(dmesg_since(guest, 0))
    lab.rmmod()
    with failing(guest, MODULES, depth=NEAR) as failures:
        attempts = failures.series(
            command("insmod", DRIVER_IN_GUEST), holds="grep -q ^labnic /proc/modules", undo="rmmod labnic"
        )
    nic.configure()
    works(nic)
    # The driver core has a word of its own for a lack of memory, too.
    others = sum(NO_LINKS in line for line in dmesg_since(guest, messages))
    refused_for_memory([tried for tried in judge(attempts) if INVALID not in tried.said])
    assert sum(INVALID in tried.said for tried in attempts) <= others


# Open


def open_while_failing(guest: Guest, nic: Nic, operation: str, code: tuple[int, int], stride: int = 1) -> list[Attempt]:
    """Set the interface up again and again; gives the attempts in which an allocation failed."""
    nic.down()
    with failing(guest, code) as failures:
        attempts = failures.series(
            operation,
            holds=f"(($(<{nic.path('flags')}) & 1))",
            undo=f"ip link set dev {nic.name} down",
            first=random.randint(1, stride),
            step=stride,
        )
    nic.up()
    works(nic)
    return judge(attempts)


@pytest.mark.expect_splat(PAGE_POOL)
def test_open_fails_at_each_site_and_leaves_nothing(guest: Guest, nic: Nic, small_rings: None) -> None:
    refused_for_memory(open_while_failing(guest, nic, command("ip", "link", "set", "dev", nic.name, "up"), MODULES))


@pytest.mark.expect_splat(PAGE_POOL)
def test_open_survives_failures_of_the_kernel_itself(guest: Guest, nic: Nic, small_rings: None) -> None:
    # IFF_UP, IFF_BROADCAST and IFF_MULTICAST
    open_while_failing(guest, nic, write(nic.path("flags"), "0x1003"), EVERYWHERE, STRIDE)


# New rings


def change_while_failing(guest: Guest, nic: Nic, old: Sequence[str], new: Sequence[str], holds: str) -> list[Attempt]:
    """Give ``ethtool`` the words ``new`` again and again; traffic goes on after each failure.

    A queue more has some hundred allocations in sysfs, which are further away than the driver's own.
    """
    old, new = (["ethtool", words[0], nic.name, *words[1:]] for words in (old, new))
    attempts: list[Attempt] = []
    with failing(guest, MODULES, depth=NEAR) as failures:
        for number in range(1, MOST, 4):
            attempts += failures.series(command(*new), holds=holds, undo=" ".join(old), first=number, last=number + 3)
            works(nic)
            if not attempts[-1].injected:
                break
    guest.run(old, check=True)
    works(nic)
    return judge(attempts)


@pytest.mark.expect_splat(PAGE_POOL)
def test_a_resize_that_fails_leaves_the_old_rings_working(guest: Guest, nic: Nic, small_rings: None) -> None:
    old, new = (["-G", "rx", size, "tx", size] for size in ("64", "128"))
    holds = f"ethtool -g {nic.name} | tail -n 8 | grep -q '^RX:.*[^0-9]128$'"
    refused_for_memory(change_while_failing(guest, nic, old, new, holds))


@pytest.mark.expect_splat(PAGE_POOL)
@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)], ids=["more", "fewer"])
def test_a_change_of_channels_that_fails_leaves_the_old_ones_working(
    guest: Guest, nic: Nic, small_rings: None, before: int, after: int
) -> None:
    usual = channels(nic)
    set_channels(nic, before)
    old, new = (["-L", "combined", str(count)] for count in (before, after))
    holds = f"[ {'-e' if after > before else '! -e'} {nic.path('queues/rx-1')} ]"
    attempts = change_while_failing(guest, nic, old, new, holds)
    set_channels(nic, usual)
    refused_for_memory(attempts)


# Poll


@pytest.fixture
def hoarder(guest: Guest) -> Iterator[None]:
    """A socket that keeps the pages of what it gets, so that none comes back to the ring."""
    setting = "/proc/sys/net/core/rmem_default"
    usual = guest.read_text(setting)
    guest.write(setting, "67108864")
    try:
        with guest.start(["nc.traditional", "-u", "-l", "-n", "-p", str(PORT)]) as receiver:
            guest.wait_until(f"ss -uln | grep -q :{PORT}", what="the socket")
            receiver.kill("STOP")
            yield
            receiver.kill("CONT")
    finally:
        guest.write(setting, usual)


def total(nic: Nic, counter: str) -> int:
    """A counter of the driver, summed over the queues."""
    return sum(value for name, value in nic.ethtool_stats().items() if name.endswith(counter))


def send_until_counted(nic: Nic, counter: str) -> None:
    """Send datagrams to the hoarder until a counter of the driver grows."""
    size = 900
    # From port 12345, without a checksum.
    header = b"".join(number.to_bytes(2, "big") for number in (12345, PORT, 8 + size, 0))
    datagram = ethernet_ipv4(nic.peer_mac, nic.mac, nic.peer_ip, nic.ip, UDP, header + bytes(size))
    before = total(nic, counter)
    for _ in range(60):
        nic.wire.send(*[datagram] * 32, timeout=20.0)
        if total(nic, counter) > before:
            return
    raise AssertionError(f"{counter} does not grow")


def test_the_ring_fills_again_after_a_lack_of_pages(guest: Guest, nic: Nic, hoarder: None) -> None:
    with failing(guest, MODULES, sites=["fail_page_alloc"], probability=100, patient=False) as failures:
        send_until_counted(nic, "rx_alloc_failed")
        assert failures.count()
    works(nic)


def test_frames_without_an_skb_are_dropped_and_counted(guest: Guest, nic: Nic, hoarder: None) -> None:
    with failing(guest, MODULES, sites=["failslab"], probability=100, patient=False) as failures:
        send_until_counted(nic, "rx_dropped")
        assert failures.count()
    works(nic)
