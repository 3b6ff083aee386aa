# SPDX-License-Identifier: GPL-2.0-or-later
"""Each allocation of a probe may fail: it then fails and leaves nothing, and the next one succeeds."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from labnic.build import DRIVER_IN_GUEST
from labnic.guest import Guest
from labnic.kernelfit import leaked
from labnic.lab import Lab
from labnic.nic import Nic

from .failures import DEEP, EVERYWHERE, MODULES, NEAR, Attempt, command, failing, judge, write
from .helpers import dmesg_since, pci_address, works

pytestmark = pytest.mark.needs_kernel("failslab", "fail_page_alloc")

# ENOMEM, ENODEV, EBUSY and, by insmod, EINVAL in words
NO_MEMORY, NO_DEVICE, BUSY = "Cannot allocate memory", "No such device", "Device or resource busy"
INVALID = "Invalid parameters"
BARS = 2
"""Of the device: its registers, and MSI-X."""
NO_VECTORS, NO_LINKS = "no MSI-X vectors: -19", "failed to create module links for labnic"

PCI_CORE = r"at arch/x86/mm/ioremap\.c:\d+ iounmap\+"
"""Linux 6.12 warns of itself where it cannot map the table of MSI-X: it unmaps what it never had."""

DRIVER = "/sys/bus/pci/drivers/labnic"

STRIDE = 7
"""Where the kernel's own allocations count as well, one of so many is tried; which ones, the seed decides."""


@pytest.fixture(scope="module", autouse=True)
def _nothing_leaks(lab: Lab) -> Iterator[None]:
    """What the failures of this module left behind is no other module's."""
    yield
    assert [str(leak) for leak in leaked(lab)] == []


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
