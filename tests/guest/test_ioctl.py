# SPDX-License-Identifier: GPL-2.0-or-later
"""The old requests to an interface: MII registers are answered, and what the device does not have is refused."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import Literal

import pytest

from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic

from .helpers import Flood, works
from .programs import installed, place

# linux/sockios.h
SIOCGMIIPHY, SIOCGMIIREG, SIOCSMIIREG = 0x8947, 0x8948, 0x8949
SIOCDEVPRIVATE = 0x89F0
SIOCSHWTSTAMP, SIOCGHWTSTAMP = 0x89B0, 0x89B1
# linux/mii.h
BMCR, BMSR, ESTATUS = 0x00, 0x01, 0x0F
BMCR_FULLDPLX, BMCR_SPEED1000 = 0x0100, 0x0040
BMSR_LSTATUS, BMSR_ESTATEN = 0x0004, 0x0100
ESTATUS_1000_TFULL = 0x2000
NOTHING = 0xFFFF
"""What a register of a PHY that is not there reads as."""

SOURCE = "ioctl.c"
PROGRAM = place(SOURCE)


@pytest.fixture(scope="module", autouse=True)
def _program(lab: Lab) -> Iterator[None]:
    """The program that makes the requests, in the guest: it has nothing that can."""
    with installed(lab.guest, SOURCE):
        yield


def request(
    guest: Guest, nic: Nic, number: int, data: bytes = b"", how: Literal["value", "pointer"] = "value"
) -> tuple[int, bytes]:
    """Make a request; gives the error number, or 0, and the data afterwards."""
    words = [PROGRAM, nic.name, hex(number), *([how, data.hex()] if data else [])]
    error, _, after = guest.run(words, check=True).stdout.strip("\n").partition(" ")
    return int(error), bytes.fromhex(after)


def mii(guest: Guest, nic: Nic, number: int, phy: int, register: int, value: int = 0) -> tuple[int, int, int]:
    """A request about a register of a PHY; gives the error number, the PHY's address and the register's value."""
    error, after = request(guest, nic, number, struct.pack("<4H", phy, register, value, 0))
    phy, _, _, out = struct.unpack("<4H", after)
    return error, phy, out


def test_the_phy_is_at_address_0(guest: Guest, nic: Nic) -> None:
    """SIOCGMIIPHY gives the address, whatever was asked for, and reads the register as well."""
    assert mii(guest, nic, SIOCGMIIPHY, 7, BMSR) == (0, 0, BMSR_LSTATUS | BMSR_ESTATEN)


def test_registers_tell_speed_and_duplex(guest: Guest, nic: Nic) -> None:
    assert mii(guest, nic, SIOCGMIIREG, 0, BMCR) == (0, 0, BMCR_FULLDPLX | BMCR_SPEED1000)
    assert mii(guest, nic, SIOCGMIIREG, 0, ESTATUS) == (0, 0, ESTATUS_1000_TFULL)


def test_registers_tell_the_carrier(guest: Guest, nic: Nic) -> None:
    nic.set_link(False)
    nic.wait_carrier(False)
    assert mii(guest, nic, SIOCGMIIREG, 0, BMSR) == (0, 0, BMSR_ESTATEN)


def test_registers_are_read_while_down(guest: Guest, nic: Nic) -> None:
    nic.down()
    assert mii(guest, nic, SIOCGMIIREG, 0, BMSR) == (0, 0, BMSR_LSTATUS | BMSR_ESTATEN)


@pytest.mark.parametrize("phy", [1, 31])
def test_other_phys_are_not_there(guest: Guest, nic: Nic, phy: int) -> None:
    assert mii(guest, nic, SIOCGMIIREG, phy, BMSR) == (0, phy, NOTHING)


@pytest.mark.parametrize("register", [2, 8, 31, 33, 0xFFFF])
def test_any_register_may_be_asked_for(guest: Guest, nic: Nic, register: int) -> None:
    """Five bits of the number count, as on the bus between MAC and PHY."""
    error, _, value = mii(guest, nic, SIOCGMIIREG, 0, register)
    assert error == 0
    assert value == {1: BMSR_LSTATUS | BMSR_ESTATEN}.get(register & 31, 0)


def test_registers_cannot_be_written(guest: Guest, nic: Nic) -> None:
    assert mii(guest, nic, SIOCSMIIREG, 0, BMCR, 0x8000)[0] == errno.EOPNOTSUPP
    works(nic)


@pytest.mark.parametrize("number", [SIOCDEVPRIVATE, SIOCDEVPRIVATE + 7, SIOCDEVPRIVATE + 15])
def test_private_requests_are_refused(guest: Guest, nic: Nic, number: int) -> None:
    assert request(guest, nic, number, b"\x55" * 16) == (errno.EOPNOTSUPP, b"\x55" * 16)
    assert request(guest, nic, number, b"\x55" * 16, "pointer") == (errno.EOPNOTSUPP, b"\x55" * 16)


def config(tx_type: int, rx_filter: int, flags: int = 0) -> bytes:
    """A struct hwtstamp_config."""
    return struct.pack("<3i", flags, tx_type, rx_filter)


@pytest.mark.parametrize("wanted", [(0, 0), (1, 0), (0, 1), (1, 12)], ids=["off", "tx", "rx", "ptp"])
def test_hardware_time_stamps_are_refused(guest: Guest, nic: Nic, wanted: tuple[int, int]) -> None:
    assert request(guest, nic, SIOCSHWTSTAMP, config(*wanted), "pointer") == (errno.EOPNOTSUPP, config(*wanted))
    works(nic)


@pytest.mark.parametrize("wanted", [(99, 0), (0, 99)], ids=["tx", "rx"])
def test_unknown_time_stamps_are_out_of_range(guest: Guest, nic: Nic, wanted: tuple[int, int]) -> None:
    assert request(guest, nic, SIOCSHWTSTAMP, config(*wanted), "pointer")[0] == errno.ERANGE


def test_time_stamps_of_a_bad_address_are_a_fault(guest: Guest, nic: Nic) -> None:
    assert request(guest, nic, SIOCSHWTSTAMP, bytes(8))[0] == errno.EFAULT


def test_state_of_hardware_time_stamps_is_refused(guest: Guest, nic: Nic) -> None:
    assert request(guest, nic, SIOCGHWTSTAMP, config(0, 0), "pointer")[0] == errno.EOPNOTSUPP


def test_requests_while_everything_changes(guest: Guest, nic: Nic) -> None:
    """Each is answered, or refused with the error of an interface that is not there, and none hangs."""
    ask = "; ".join(
        f"{PROGRAM} {nic.name} {number:#x} value 0000010000000000"
        for number in (SIOCGMIIPHY, SIOCGMIIREG, SIOCSMIIREG, SIOCDEVPRIVATE)
    )
    script = (
        f"rm -f /tmp/labnic-stop; (while [ ! -e /tmp/labnic-stop ]; do {ask}; done | cut -d' ' -f1 | sort -u) & "
        f"for n in 1 2 3; do ip link set {nic.name} down && ip link set {nic.name} up && "
        f"ethtool -L {nic.name} combined 1 && ethtool -L {nic.name} combined 2 && "
        f"echo 1 >{nic.path('device/reset')} || exit 1; done; "
        "touch /tmp/labnic-stop; wait"
    )
    with Flood(nic, answer=True):
        said = {int(word) for word in guest.sh(script).split()}
    nic.configure()
    assert {0, errno.EOPNOTSUPP} <= said <= {0, errno.EOPNOTSUPP, errno.ENODEV}
    works(nic)
