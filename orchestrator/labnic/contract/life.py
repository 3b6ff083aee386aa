# SPDX-License-Identifier: GPL-2.0-or-later
"""Provocations: the structure and its driver come and go."""

from __future__ import annotations

from labnic.contract.rules import SYSFS
from labnic.contract.stage import NotProvokedError, Stage, provocation
from labnic.flood import Flood

LIFE = ("A1", "A2", "A4", "A5", "N1", "N2")


@provocation("load", *LIFE, "O1", "O2", "M1", "M2", "P1", "P2")
def load(stage: Stage) -> None:
    """The module comes, the interface is set up, and a packet goes each way."""
    stage.lab.insmod()
    stage.nic.arp()


@provocation("attributes held open through rmmod", *LIFE, "A3", "S1", "S2", "S3", "S4")
def held_attributes(stage: Stage) -> None:
    """``rmmod`` ends although attributes are open for reading and writing, and they answer that the device is gone."""
    answer = stage.sh(
        f"""exec 3<$net/mtu 4>$net/mtu 5<$net/statistics/rx_packets 6>$net/tx_queue_len
rmmod {stage.module} || exit
cat <&3; cat <&5
echo 1400 >&4; echo 500 >&6
exec 3<&- 4>&- 5<&- 6>&-
[ ! -e $net ] && echo unloaded"""
        + "\n",
        timeout=30.0,
    )
    stage.check(answer == "unloaded", f"an attribute gave something after rmmod: {answer}", "A3")
    stage.prove(SYSFS, "A3")
    stage.lab.insmod()


@provocation("unload under traffic", *LIFE, "S1", "S2", "S3", "S4")
def unload_under_traffic(stage: Stage) -> None:
    """The driver goes while frames arrive and are answered, with the interface up and with it down."""
    with Flood(stage.nic):
        for down in (False, True):
            if down:
                stage.nic.down()
            stage.lab.reload_driver()
    stage.nic.arp()


@provocation("unbind and bind", *LIFE, "S1", "S2", "S3", "S4", "O1", "O2")
def unbind(stage: Stage) -> None:
    """The PCI function is taken from its driver under traffic and given back, twice."""
    with Flood(stage.nic):
        for _ in range(2):
            stage.sh(
                """driver=$(readlink -f $pci/driver); name=${pci##*/}
echo $name >$driver/unbind && [ ! -e $pci/driver ] && echo $name >$driver/bind"""
            )
            stage.nic.configure()
    stage.nic.arp()


@provocation("removal of the function", *LIFE, "S1", "S2", "S3", "S4")
def removal(stage: Stage) -> None:
    """The PCI function is removed under traffic and found again by a scan of the bus."""
    with Flood(stage.nic):
        stage.sh("echo 1 >$pci/remove && [ ! -e $pci ] && echo 1 >/sys/bus/pci/rescan")
        stage.nic.configure()
    stage.nic.arp()


FAILING_READS = (("ID", 0), ("VERSION", 0xFFFF0000), ("LIMITS", 0), ("LIMITS", 0xFFFFFFFF))
"""Registers whose wrong value must end the probe with an error, and the value (all ones: the device is gone)."""


@provocation(
    "surprise removal", *LIFE, "S1", "S2", "S3", "S4", expects=(r"transmit queue \d+ timed out", "NETDEV WATCHDOG")
)
def surprise_removal(stage: Stage) -> None:
    """The device answers nothing but ones from one moment to the next, under traffic; then its function goes away."""
    if not stage.faults:
        raise NotProvokedError("QEMU's own devices do not vanish")
    with Flood(stage.nic), stage.nic.fault("gone", count=0):
        stage.sh(
            """cat $net/statistics/* >/dev/null; ethtool -S $dev >/dev/null
ip link set $dev down; ip link set $dev up
echo 1 >$pci/remove; [ ! -e $pci ]"""
        )
    stage.sh("echo 1 >/sys/bus/pci/rescan")
    stage.nic.configure()
    stage.nic.arp()


@provocation("a probe that fails", "A2", "A4", "A5")
def failing_probe(stage: Stage) -> None:
    """Each step of the probe that reads the device gets what it must refuse; afterwards the driver binds again."""
    if not stage.faults:
        raise NotProvokedError("QEMU's own devices fail no probe")
    stage.sh("driver=$(readlink -f $pci/driver); echo ${pci##*/} >$driver/unbind")
    for register, value in FAILING_READS:
        with stage.nic.fault("register", register=register, value=value, count=0) as fault:
            refused = stage.sh(
                f"! echo ${{pci##*/}} >/sys/bus/pci/drivers/{stage.module}/bind 2>&1; [ ! -e $pci/driver ]"
            )
            stage.check(fault.hits > 0, f"the probe does not read {register}: {refused}")
    stage.sh(f"echo ${{pci##*/}} >/sys/bus/pci/drivers/{stage.module}/bind")
    stage.nic.configure()
    stage.nic.arp()
