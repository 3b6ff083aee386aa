# SPDX-License-Identifier: GPL-2.0-or-later
"""The module goes while programs hold attributes of the interface open: it does not wait for them, and what they do
with the attributes afterwards ends with ENODEV and touches nothing that was freed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic

from .helpers import works

READ = (
    "mtu",
    "address",
    "carrier",
    "tx_queue_len",
    "speed",
    "threaded",
    "statistics/rx_bytes",
    "statistics/tx_dropped",
    "queues/rx-0/rps_cpus",
    "queues/tx-0/xps_cpus",
    "queues/tx-0/tx_timeout",
    "queues/tx-0/byte_queue_limits/inflight",
    "uevent",
)
WRITTEN = {
    "mtu": "1400",
    "tx_queue_len": "10",
    "flags": "0x1002",
    "threaded": "1",
    "queues/rx-0/rps_cpus": "3",
    "queues/tx-0/xps_cpus": "3",
    "queues/tx-0/tx_maxrate": "5",
    "queues/tx-0/byte_queue_limits/limit": "1000",
}
GONE = "No such device"


@pytest.fixture
def reloaded(lab: Lab) -> Iterator[None]:
    """The driver is there again at the end, whatever the test did."""
    yield
    lab.guest.run("grep -q '^labnic ' /proc/modules && rmmod labnic")
    lab.insmod()
    works(lab.nic)


def used_after_unload(guest: Guest, nic: Nic, opened: str, used: str, names: tuple[str, ...]) -> dict[str, str]:
    """Open attributes, unload the driver, use them; gives what each use said.

    ``opened`` is the shell's redirection, ``used`` the command. Bash gives a number of its own to each open file.
    """
    script = "".join(f'exec {{fd[{n}]}}{opened}"{nic.path(name)}" || exit 1\n' for n, name in enumerate(names))
    script += "rmmod labnic || exit 2\n"
    for n, name in enumerate(names):
        action = used.format(fd=f"${{fd[{n}]}}", value=WRITTEN.get(name, ""))
        script += f"echo {name}: $({action})\n"
    lines = guest.run(["bash", "-c", script], check=True).lines
    return dict(line.split(": ", 1) for line in lines)


def test_attributes_open_for_reading(guest: Guest, nic: Nic, reloaded: None) -> None:
    said = used_after_unload(guest, nic, "<", "cat 2>&1 <&{fd}", READ)
    assert {name: text for name, text in said.items() if GONE not in text} == {}
    assert set(said) == set(READ)


def test_attributes_open_for_writing(guest: Guest, nic: Nic, reloaded: None) -> None:
    said = used_after_unload(guest, nic, ">", "echo {value} 2>&1 >&{fd}", tuple(WRITTEN))
    assert {name: text for name, text in said.items() if GONE not in text} == {}
    assert set(said) == set(WRITTEN)


def test_attribute_is_the_unloading_program_s_own_input(guest: Guest, nic: Nic, reloaded: None) -> None:
    """The case that the kernel's documentation of network devices names."""
    guest.sh(f"rmmod labnic <{nic.path('mtu')}")
    assert not guest.run(["test", "-e", nic.path("mtu")]).ok


def test_readers_and_writers_run_while_the_module_goes(guest: Guest, nic: Nic, reloaded: None) -> None:
    """Four programs read and write attributes as fast as they can when it is unloaded: it goes, and they end."""
    busy = f"cd {nic.path('')} && while cat statistics/rx_bytes mtu operstate carrier >/dev/null; do :; done"
    change = f"cd {nic.path('')} && n=0; while echo $((1400 + n % 100)) >mtu; do n=$((n + 1)); done"
    guest.sh(
        f"({busy}) 2>/dev/null & ({busy}) 2>/dev/null & ({change}) 2>/dev/null & "
        f"(while ethtool -S {nic.name}; do :; done) >/dev/null 2>&1 & usleep 200000; rmmod labnic && wait"
    )
