# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's end of tap devices, which QEMU makes where it may; by ioctl, as the host may have no ``ip``."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct

# linux/sockios.h, linux/if.h, linux/if_arp.h
SIOCSIFADDR, SIOCSIFFLAGS, SIOCSIFNETMASK, SIOCSIFHWADDR = 0x8916, 0x8914, 0x891C, 0x8924
IFF_UP = 0x1
ARPHRD_ETHER = 1

# linux/if_tun.h
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000

_NAME = 16  # IFNAMSIZ


def obstacle() -> str:
    """Why this user can have no tap device here; empty when he can."""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}"
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"labnic%d", IFF_TAP | IFF_NO_PI))
    except OSError as error:
        return f"no tap device: {error.strerror}"
    finally:
        os.close(fd)
    return ""


def set_up(name: str, mac: str, address: str) -> None:
    """Give the host's end its MAC and address (``198.18.0.2/24``) and set it up; raises `OSError`."""
    interface = ipaddress.IPv4Interface(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

        def request(number: int, content: bytes) -> None:
            fcntl.ioctl(sock, number, struct.pack(f"{_NAME}s24s", name.encode(), content))

        hardware = struct.pack("H6s", ARPHRD_ETHER, bytes.fromhex(mac.replace(":", "")))
        request(SIOCSIFHWADDR, hardware)
        for number, value in ((SIOCSIFADDR, interface.ip), (SIOCSIFNETMASK, interface.netmask)):
            request(number, struct.pack("HH4s", socket.AF_INET, 0, value.packed))
        request(SIOCSIFFLAGS, struct.pack("H", IFF_UP))
