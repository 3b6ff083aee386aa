# SPDX-License-Identifier: GPL-2.0-or-later
"""One NIC of a running lab: its interface in the guest, its cable, and the switches that tests use."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import struct
from collections.abc import Iterator, Mapping
from typing import Literal

from labnic.agent import AgentError
from labnic.capture import SNAPLEN, Capture
from labnic.cmdline import FIRST_NIC_SLOT
from labnic.command import Result
from labnic.config import NicConfig
from labnic.errors import CommandTimeoutError, UsageError
from labnic.fault import Fault, FaultDevice, FaultState, Violation
from labnic.frame import Frame
from labnic.guest import Guest
from labnic.patience import patient
from labnic.qmp import Qmp
from labnic.wire import Wire

ARP_TYPE = 0x0806
_ARP = struct.Struct("!6s6sHHHBBH6s4s6s4s")  # Ethernet header and RFC 826's packet for Ethernet and IPv4
_REQUEST, _REPLY = 1, 2
_BROADCAST = b"\xff" * 6

DEFAULT_MTU = 1500

_REFLECT_MODULES = ("sch_ingress", "cls_matchall", "act_mirred")

# Finds the interface by its PCI slot: that outlives changes of the MAC and reloads of the driver. IPv6 stays off until
# a test wants it: its own traffic would get between the frames that a test counts. All in one shell, and waiting in
# there, since starting a program is what costs time in an emulated guest.
_CONFIGURE = """
pci=/sys/bus/pci/devices/0000:00:{slot:02x}.0
for path in $pci/net/* $pci/virtio*/net/* $pci/*:*:*.*/net/* $pci/*:*:*.*/virtio*/net/*; do
    [ -d "$path" ] && name="${{path##*/}}"
done
[ -n "$name" ] || {{ echo "no interface on PCI slot {slot:#x}" >&2; exit 1; }}
[ ! -w /proc/sys/net/ipv6/conf/"$name"/disable_ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/"$name"/disable_ipv6
ip -batch - <<END || exit
addr replace {address} dev $name
link set $name up
neigh replace {peer_ip} lladdr {peer_mac} nud permanent dev $name
END
for turn in 1 2 3 4 5 6 7 8 9 10; do
    read -r carrier <"/sys/class/net/$name/carrier"
    [ "$carrier" = 1 ] && break
    usleep 5000
done
echo "$name $carrier"
"""


class Nic:
    """A NIC and its interface in the guest, after `configure`."""

    def __init__(self, config: NicConfig, number: int, guest: Guest, qmp: Qmp, wire: Wire) -> None:
        self.config = config
        self.name = config.name
        self.mac = config.mac
        self.wire = wire
        self.guest = guest
        self.slot = FIRST_NIC_SLOT + number
        interface = ipaddress.IPv4Interface(config.address)
        self.ip = str(interface.ip)
        self.prefix = interface.network.prefixlen
        hosts = [str(host) for host in itertools.islice(interface.network.hosts(), 254) if host != interface.ip]
        self.peer_ip = hosts[0]
        self.peer_mac = f"52:54:00:6c:62:{0xF0 + number:02x}"
        # More than one sender makes each barrier's answer its own.
        self._askers = itertools.cycle(hosts[1:] or hosts)
        self._qmp = qmp
        self._tester = FaultDevice(qmp, config.name, config.queues) if config.model == "labnic" else None

    def configure(self, timeout: float = 10.0) -> None:
        """Find the interface, give it its address, bring it up, and make the wire's end known to it as a neighbour.

        Raises `CommandTimeoutError` when the driver has not made an interface within ``timeout`` seconds.
        """
        script = _CONFIGURE.format(
            slot=self.slot, address=self.config.address, peer_ip=self.peer_ip, peer_mac=self.peer_mac
        )
        result = self.guest.wait_until(script, timeout=timeout, what=f"the interface of NIC {self.name}")
        self.name, carrier = result.stdout.split()
        if carrier != "1":
            self.wait_carrier(True, timeout)

    # sysfs

    def sysfs(self, attribute: str) -> str:
        """An attribute below ``/sys/class/net/NAME``; raises `GuestCommandError` when it cannot be read."""
        # Reading by the agent takes a third of the time of a command, but only the command tells why it is refused.
        with contextlib.suppress(AgentError):
            return self.guest.read_text(self.path(attribute))
        return self.guest.run(["cat", self.path(attribute)], check=True).stdout.strip()

    def sysfs_int(self, attribute: str) -> int:
        """An attribute that is a number, decimal or with 0x."""
        return int(self.sysfs(attribute), 0)

    def sysfs_set(self, attribute: str, value: object) -> None:
        """Write an attribute; raises `GuestCommandError` with the kernel's reason when it is refused."""
        self.guest.write(self.path(attribute), f"{value}\n")

    def path(self, attribute: str) -> str:
        """Where an attribute is in the guest."""
        return f"/sys/class/net/{self.name}/{attribute}"

    def statistics(self) -> dict[str, int]:
        """The kernel's counters of the interface (``statistics/*``), all read in one command."""
        output = self.guest.sh(
            f"cd {self.path('statistics')} && for name in *; do read -r value <$name; echo $name:$value; done"
        )
        return {name: int(value) for name, _, value in (line.partition(":") for line in output.splitlines())}

    # ethtool

    def ethtool(self, *arguments: str, check: bool = True, timeout: float | None = None) -> Result:
        """Run ``ethtool OPTION NAME REST...``; without arguments ``ethtool NAME``."""
        option, rest = arguments[:1], arguments[1:]
        return self.guest.run(["ethtool", *option, self.name, *rest], check=check, timeout=timeout)

    def ethtool_stats(self) -> dict[str, int]:
        """The driver's counters (``ethtool -S``)."""
        lines = (line.rpartition(":") for line in self.ethtool("-S").lines)
        return {name.strip(): int(value) for name, _, value in lines if value.strip().isdigit()}

    def info(self) -> Mapping[str, str]:
        """What the driver says about itself (``ethtool -i``)."""
        pairs = (line.partition(":") for line in self.ethtool("-i").lines)
        return {name.strip(): value.strip() for name, _, value in pairs}

    # Switches

    def ip_link(self, *arguments: str) -> None:
        """``ip link set NAME ...``; raises `GuestCommandError` when refused."""
        self.guest.run(["ip", "link", "set", "dev", self.name, *arguments], check=True)

    def up(self, timeout: float = 10.0) -> None:
        """Bring the interface up with its address and neighbour, and wait for the carrier."""
        self.configure(timeout)

    def down(self) -> None:
        """Bring the interface down."""
        self.ip_link("down")

    def set_mtu(self, mtu: int) -> None:
        """Set the MTU in bytes; `GuestCommandError` when the driver refuses."""
        self.ip_link("mtu", str(mtu))

    def set_mac(self, mac: str) -> None:
        """Set the MAC address; `GuestCommandError` when the driver refuses."""
        self.ip_link("address", mac)

    def set_promisc(self, on: bool) -> None:
        """Switch promiscuous mode."""
        self.ip_link("promisc", "on" if on else "off")

    def set_allmulti(self, on: bool) -> None:
        """Switch the reception of all multicast."""
        self.ip_link("allmulticast", "on" if on else "off")

    def set_link(self, up: bool) -> None:
        """Plug or unplug the cable at the NIC (QMP ``set_link``); see `wait_carrier` for its effect."""
        self._qmp.set_link(self.config.name, up)

    def wait_carrier(self, up: bool, timeout: float = 5.0) -> None:
        """Wait until the guest sees the carrier so; raises `CommandTimeoutError` after ``timeout`` seconds."""
        # Reading carrier of an interface that is down is an error: no carrier either.
        self.guest.wait_until(
            ["cat", self.path("carrier")],
            timeout=timeout,
            predicate=lambda result: (result.stdout.strip() == "1") == up,
            what=f"carrier {'on' if up else 'off'} on {self.name}",
        )

    # Faults and audit

    @property
    def has_faults(self) -> bool:
        """Whether the device is one that faults can be set on, and that can judge its driver."""
        return self._tester is not None

    def fault(self, kind: str, **arguments: int | bool | str | None) -> Fault:
        """Set a fault: ``with nic.fault("tx-withhold", queue=0, count=0): ...``; see docs/faults.md for the kinds.

        All take ``after``, ``count``, ``chance`` and ``seed``, most ``queue``, some ``misc``, ``value`` or
        ``register`` (`labnic.fault.fault_arguments`).  Raises `UsageError` for what the kind does not take.
        """
        return self._faults().set(kind, **arguments)

    def faults(self) -> list[FaultState]:
        """The faults that are set, spent ones too."""
        return self._faults().faults()

    def clear_faults(self) -> None:
        """Take every fault back; the device goes on by itself."""
        self._faults().clear()

    def audit(self) -> list[Violation]:
        """What the driver did wrong since the boot or the last `audit_clear`; see docs/faults.md for the rules.

        Raises `QmpCommandError` when the lab's settings have ``qemu.audit`` off.
        """
        return self._faults().audit()

    def audit_clear(self) -> None:
        """Forget what the driver did wrong."""
        self._faults().audit_clear()

    def _faults(self) -> FaultDevice:
        if self._tester is None:
            raise UsageError(f"NIC {self.config.name} is a {self.config.model}: only a labnic has faults")
        return self._tester

    # Traffic

    def capture(
        self,
        filter: str = "",
        *,
        direction: Literal["in", "out", "inout"] = "in",
        promiscuous: bool = False,
        snaplen: int = SNAPLEN,
    ) -> Capture:
        """What the guest receives on this interface; see `Capture`."""
        return self.guest.capture(self.name, filter, direction=direction, promiscuous=promiscuous, snaplen=snaplen)

    def arp(self, timeout: float = 5.0, *, sender_ip: str | None = None) -> str:
        """Ask the guest for its MAC address by ARP and give the answer; raises `NoFrameError` without one."""
        reply, _ = self._resolve(sender_ip or self.peer_ip, timeout)
        return ":".join(f"{byte:02x}" for byte in _ARP.unpack_from(reply.data)[8])

    def barrier(self, timeout: float = 5.0) -> list[Frame]:
        """What the guest sent up to now: asks it by ARP and gives the frames that came before its answer.

        For negative checks: send what must be ignored, then look for its consequences in what this gives.  With more
        than one receive queue the answer may overtake frames of other queues.
        """
        _, before = self._resolve(next(self._askers), timeout)
        return before

    def _resolve(self, asker: str, timeout: float) -> tuple[Frame, list[Frame]]:
        ours, theirs = (ipaddress.IPv4Address(text).packed for text in (asker, self.ip))
        mac = bytes.fromhex(self.peer_mac.replace(":", ""))
        request = _ARP.pack(_BROADCAST, mac, ARP_TYPE, 1, 0x0800, 6, 4, _REQUEST, mac, ours, bytes(6), theirs)
        before: list[Frame] = []

        def answers(frame: Frame) -> bool:
            if len(frame.data) >= _ARP.size:
                fields = _ARP.unpack_from(frame.data)
                if fields[2] == ARP_TYPE and fields[7] == _REPLY and (fields[9], fields[11]) == (theirs, ours):
                    return True
            before.append(frame)
            return False

        return self.wire.exchange(request, answers, timeout=timeout), before

    def ping(self, size: int = 56, timeout: float = 5.0, *, sequence: int = 1) -> Frame:
        """Send an ICMP echo with ``size`` bytes of data into the guest's stack; gives the reply.

        Raises `NoFrameError` when no reply with the same data comes within ``timeout`` seconds.
        """
        from scapy.layers.inet import ICMP, IP
        from scapy.layers.l2 import Ether

        data = bytes(index & 0xFF for index in range(size))
        echo = ICMP(type="echo-request", id=0x6C62, seq=sequence)
        request = Ether(src=self.peer_mac, dst=self.mac) / IP(src=self.peer_ip, dst=self.ip) / echo / data

        def answers(frame: Frame) -> bool:
            icmp = frame.packet.getlayer(ICMP)
            return icmp is not None and (icmp.type, icmp.id, icmp.seq) == (0, 0x6C62, sequence)

        reply = self.wire.exchange(request, answers, timeout=timeout)
        got = bytes(reply.packet[ICMP].payload)[:size]
        if got != data:
            raise AssertionError(f"the echo came back with other data: {got.hex()}")
        return reply

    def guest_ping(self, timeout: float = 5.0) -> Frame:
        """Let the guest ping the wire's end once and answer it; gives the guest's request."""
        from scapy.layers.inet import ICMP, IP
        from scapy.layers.l2 import Ether

        command = ["ping", "-c", "1", "-W", str(max(1, int(patient(timeout)))), "-I", self.name, self.peer_ip]
        with self.guest.start(command) as process:
            frame = self.wire.receive(
                lambda frame: ICMP in frame.packet and frame.packet[ICMP].type == 8, timeout=timeout
            )
            ether, header, icmp = (frame.packet[layer] for layer in (Ether, IP, ICMP))
            answer = Ether(src=ether.dst, dst=ether.src) / IP(src=header.dst, dst=header.src)
            self.wire.send(answer / ICMP(type="echo-reply", id=icmp.id, seq=icmp.seq) / icmp.payload)
            result = process.wait(timeout)
        if not result.ok:
            raise CommandTimeoutError("the guest's ping got no answer", log=str(result).splitlines())
        return frame

    @contextlib.contextmanager
    def reflect(self) -> Iterator[None]:
        """Every frame that the guest receives on this NIC goes straight back out of it, byte for byte.

        Covers both directions without any program in the guest: traffic control redirects in the receive path.  The
        guest's stack gets nothing meanwhile, so `arp`, `barrier` and `ping` do not work.
        """
        rules = (
            f"qdisc add dev {self.name} ingress\n"
            f"filter add dev {self.name} parent ffff: matchall action mirred egress redirect dev {self.name}\n"
        )
        self.guest.run(["modprobe", "-a", "-q", *_REFLECT_MODULES], check=True)
        self.guest.run(["tc", "-batch", "-"], input=rules, check=True)
        try:
            yield
        finally:
            self.guest.run(["tc", "qdisc", "del", "dev", self.name, "ingress"])
