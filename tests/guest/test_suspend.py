# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest goes to sleep and wakes: the NIC goes on as it was.

The kernel's own test of suspend (``pm_test``) takes all devices through it and back, without the firmware. The command
channel's device goes, too; the guest's agent, which does not notice, is started anew.
"""

from __future__ import annotations

import re

import pytest

from labnic.command import backoff
from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic

from . import frames
from .helpers import Flood, set_channels, works

pytestmark = pytest.mark.needs_kernel("pm_test")

GROUP = "01:00:5e:7f:12:34"
AWAKE = "labnic-test: awake"

SCRIPT = """
exec >/dev/null 2>&1 </dev/null
agent=$(cat /run/qemu-ga.pid)
command=$(tr '\\0' ' ' </proc/$agent/cmdline)
usleep 200000
echo 0 >/sys/module/suspend/parameters/pm_test_delay
echo {level} >/sys/power/pm_test
echo freeze >/sys/power/state
status=$?
echo none >/sys/power/pm_test
kill $agent
while kill -0 $agent; do usleep 10000; done
$command
echo "{awake} $status" >/dev/kmsg
"""


def statuses(lab: Lab) -> list[str]:
    """The status of each sleep so far."""
    return re.findall(rf"{AWAKE} (\d+)$", lab.machine.console_log.read_text(errors="replace"), re.MULTILINE)


def sleep(lab: Lab, level: str) -> None:
    """Let the guest sleep and wake; ``level`` says how deep the devices go."""
    before = len(statuses(lab))
    lab.guest.write("/tmp/labnic-sleep", SCRIPT.format(level=level, awake=AWAKE))
    lab.guest.run("setsid sh /tmp/labnic-sleep >/dev/null 2>&1 </dev/null &", check=True)
    for _ in backoff(20.0):
        if len(statuses(lab)) > before:
            lab.reconnect()
            assert statuses(lab)[-1] == "0"
            return
    raise AssertionError("the guest did not wake within 20 s")


@pytest.mark.parametrize("level", ["devices", "platform"])
def test_sleep_under_traffic(guest: Guest, lab: Lab, nic: Nic, level: str) -> None:
    """``devices`` stops and starts the NIC; ``platform`` takes its power away as well."""
    before = nic.statistics()
    with Flood(nic, answer=True) as flood:
        sleep(lab, level)
        works(nic)
    assert flood.sent
    after = nic.statistics()
    assert {name: value for name, value in after.items() if value < before[name]} == {}


def test_sleep_keeps_the_settings(guest: Guest, lab: Lab, nic: Nic) -> None:
    nic.set_mtu(4000)
    set_channels(nic, 3)
    guest.run(["ip", "maddress", "add", GROUP, "dev", nic.name], check=True)
    sleep(lab, "platform")
    nic.wait_carrier(True)
    long = frames.to_guest(nic, 4014, dst=GROUP, seed=1)
    assert frames.receive_in_guest(guest, nic, [long]) == [long]
    guest.run(["ip", "maddress", "del", GROUP, "dev", nic.name], check=True)
    works(nic, size=3000)


def test_sleep_while_down(lab: Lab, nic: Nic) -> None:
    nic.down()
    sleep(lab, "platform")
    nic.up()
    works(nic)
