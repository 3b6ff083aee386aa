# SPDX-License-Identifier: GPL-2.0-or-later
"""Where is measured: one VM with all contenders in it, each on a wire of its own.

One VM, not one for each: so all have the same clock, kernel, translated code of the kernel's common parts, and minute
of the machine, and a round goes from one to the next without a boot.  Those that are not being measured are up and
idle; they cost the others all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from labnic.bench import costs, tap
from labnic.bench.backend import Backend, backends_of, tap_name
from labnic.bench.contenders import CEILING, OURS, Contender
from labnic.bench.counter import Counter, Counts, build_counter, ranges_of
from labnic.bench.farend import FarEnd, build_farend
from labnic.bench.profile import Symbols
from labnic.bench.second import second_guest, wires
from labnic.bench.twin import Twin
from labnic.build.cache import Cache
from labnic.cmdline import FIRST_NIC_SLOT
from labnic.command import backoff
from labnic.config import Config, NicConfig
from labnic.errors import CommandTimeoutError
from labnic.lab import Lab, Parts
from labnic.nic import Nic
from labnic.pktgen import Pktgen
from labnic.report import Phases

MEMORY = "512M"
"""Of the VM: the rings of all contenders together take more than the default lab has to spare."""

COUNTED_CLOCK = ("-icount", "shift=2")
"""The guest's clock goes by its instructions, 4 ns each, about as fast as TCG is: else the timer would tick the more
often for each frame the slower the machine is, and its ticks would be counted."""

COUNTED_SLOWER = 5
"""How much longer such a machine may take to boot."""

CONTENT_FRAMES = 300
"""Frames of each length that are compared byte by byte before anything is measured."""

CONTENT_LENGTHS = (60, 1514)

_DUMMY = f"modprobe dummy numdummies=0 && ip link add {CEILING} type dummy && ip link set {CEILING} up"
_DUMMY_PEER = ("02:00:00:00:00:01", "198.18.255.2")
"""MAC and address that frames for it have; they go nowhere."""

_REFLECT = """
modprobe -a sch_ingress cls_matchall act_mirred
tc qdisc add dev {name} ingress
tc filter add dev {name} parent ffff: protocol 0x88b5 matchall action mirred egress redirect dev {name}
"""


TWIN = "-b"
"""Behind a contender's name, that of its twin."""

_PART = """
ip netns add {space} && ip link set {twin} netns {space} || exit
ip -n {space} link set lo up
ip -n {space} addr add {twin_ip}/{prefix} dev {twin} && ip -n {space} link set {twin} up || exit
ip -n {space} neigh replace {ip} lladdr {mac} nud permanent dev {twin}
ip neigh replace {twin_ip} lladdr {twin_mac} nud permanent dev {name}
"""


@dataclass(frozen=True)
class Setting:
    """A kind of VM: what its NICs are plugged into, its CPUs, whether a plugin of QEMU's counts in it, and whether each
    NIC has one for itself."""

    name: str
    backend: Backend
    cpus: int
    counted: bool = False
    alone: bool = False


SETTINGS = {
    each.name: each
    for each in (
        Setting("dgram", "dgram", 2),
        Setting("none", "none", 2),
        Setting("dgram-4cpu", "dgram", 4),
        Setting("none-4cpu", "none", 4),
        Setting("tap", "tap", 2),
        Setting("user", "user", 2),
        Setting("hub", "hub", 2),
        Setting("guests", "guests", 2),
        Setting("alone", "dgram", 2, alone=True),
        Setting("counted", "dgram", 2, counted=True),
    )
}


@dataclass
class Port:
    """A contender in the running VM; ``rates`` has frames a second of earlier runs, by what was sent."""

    contender: Contender
    pktgen: Pktgen
    tx_queues: int
    irqs: frozenset[int] = frozenset()
    nic: Nic | None = None
    far: FarEnd | None = None
    twin: Twin | None = None
    rates: dict[object, float] = field(default_factory=dict)


class Stage:
    """The VM of a setting; a context manager that boots it and leaves nothing behind."""

    def __init__(
        self,
        setting: Setting,
        contenders: Sequence[Contender],
        config: Config,
        parts: Parts,
        folder: Path,
        phases: Phases,
        seconds: float,
        *,
        profiled: bool = False,
    ) -> None:
        self.setting = setting
        self.contenders = contenders
        self.seconds = seconds
        self.profiled = profiled
        self.ports: dict[str, Port] = {}
        self._undo = contextlib.ExitStack()
        config = machine_config(config, setting, contenders)
        self._phases = phases
        backends, extra = backends_of(setting.backend, config.nics)
        if setting.backend == "guests":
            self._sockets = Path(self._undo.enter_context(TemporaryDirectory(prefix="labnic-")))
            backends = wires(config.nics, self._sockets, first=True)
        self.counter: Counter | None = None
        if setting.counted:
            self.counter = Counter(build_counter(parts.qemu, Cache()), folder / "counts")
            self._undo.callback(self.counter.close)
            extra = (*extra, *self.counter.extra, *COUNTED_CLOCK)
        self.lab = Lab(config, parts, folder, phases, extra=extra, backends=backends, read_wires=False)

    def __enter__(self) -> Self:
        try:
            self._undo.enter_context(self.lab)
            self._plug()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo.close()

    def _plug(self) -> None:
        guest = self.lab.guest
        program = build_farend(Cache())
        nics = {nic.config.name: nic for nic in self.lab.nics}
        twins: Mapping[str, Twin] = {}
        if self.setting.backend == "guests":
            twins = self._undo.enter_context(second_guest(self.lab, self._sockets, self._phases))
        for contender in self.contenders:
            nic = nics.get(contender.name)
            if nic is None:
                guest.sh(_DUMMY)
                pktgen = Pktgen(guest, CEILING, *_DUMMY_PEER)
                self.ports[contender.name] = Port(contender, pktgen, 1)
                continue
            pktgen = Pktgen(guest, nic.name, nic.peer_mac, nic.peer_ip)
            port = Port(contender, pktgen, self._tx_queues(nic), costs.irqs_of(guest, nic.name), nic)
            port.twin = twins.get(contender.name)
            if self.counter:
                self.counter.watch(contender.name, ranges_of(guest, nic.name))
            if self.setting.backend == "tap":
                tap.set_up(tap_name(nic.config), nic.peer_mac, f"{nic.peer_ip}/{nic.prefix}")
            if self.setting.backend == "hub":
                port.twin = self._part(nic, nics[contender.name + TWIN])
            if self.setting.backend == "dgram":
                port.far = FarEnd(program, nic.wire, nic.mac, nic.peer_mac)
                self._undo.callback(port.far.close)
            self.ports[contender.name] = port

    def _part(self, nic: Nic, twin: Nic) -> Twin:
        """Put the twin into a namespace of its own, where it is the first's neighbour."""
        space = twin.config.name
        self.lab.guest.sh(
            _PART.format(
                space=space,
                twin=twin.name,
                twin_mac=twin.mac,
                twin_ip=nic.peer_ip,
                prefix=nic.prefix,
                name=nic.name,
                mac=nic.mac,
                ip=nic.ip,
            )
        )
        return Twin(twin.name, self.lab.guest, ("ip", "netns", "exec", space))

    def _tx_queues(self, nic: Nic) -> int:
        return len(self.lab.guest.sh(f"ls -d {nic.path('queues')}/tx-*").split())

    def cost(self, port: Port, *, last: bool = False) -> costs.Costs:
        """What the contender has cost so far."""
        return costs.measure(self.lab.guest, self.lab.machine.pid, port.irqs, last=last)

    def counted(self, port: Port) -> Counts:
        """What the plugin has counted so far."""
        assert self.counter is not None
        return self.counter.read(port.contender.name, places=self.profiled)

    def dma(self, port: Port) -> int:
        """Reads and writes of guest memory, of which labnic alone keeps count; 0 for the others."""
        if port.nic is None or port.contender.name != OURS:
            return 0
        counted = port.nic.ethtool_stats()
        return counted["dma_reads"] + counted["dma_writes"]

    @cached_property
    def symbols(self) -> Symbols:
        """The functions of the guest's kernel."""
        return Symbols.of(self.lab.guest)

    def statistic(self, port: Port, name: str) -> int:
        """A counter of the contender's interface."""
        device = port.nic.name if port.nic else CEILING
        return int(self.lab.guest.read_text(f"/sys/class/net/{device}/statistics/{name}"))

    def settled(self, port: Port, name: str) -> int:
        """A counter once it stands still."""
        last = self.statistic(port, name)
        for _ in backoff(10.0):
            now = self.statistic(port, name)
            if now == last:
                return now
            last = now
        raise CommandTimeoutError(f"{name} of {port.contender.name} does not come to rest although nothing is sent")

    @contextlib.contextmanager
    def reflecting(self, port: Port) -> Iterator[FarEnd]:
        """Frames of the far end's echo type go back out as they came, in the guest's receive path."""
        assert port.nic is not None
        assert port.far is not None
        name = port.nic.name
        self.lab.guest.sh(_REFLECT.format(name=name))
        try:
            yield port.far
        finally:
            self.lab.guest.run(["tc", "qdisc", "del", "dev", name, "ingress"])

    def content(self, port: Port) -> list[str]:
        """What is wrong with frames that go in and come out again, each byte compared; one line for each length."""
        wrong: list[str] = []
        if not port.far:
            return wrong
        with self.reflecting(port) as far:
            for length in CONTENT_LENGTHS:
                done = far.echo(CONTENT_FRAMES, length)
                if (done.echoes, done.bad, done.disorder) != (CONTENT_FRAMES, 0, 0):
                    wrong.append(
                        f"{port.contender.name}: of {CONTENT_FRAMES} frames of {length} B {done.echoes} came back, "
                        f"{done.bad} with other bytes and {done.disorder} out of order"
                    )
        return wrong


def machine_config(config: Config, setting: Setting, contenders: Sequence[Contender]) -> Config:
    """The settings of the VM: nothing watches the device, and each NIC has a network of its own.

    The networks are from 198.18.0.0/15, which RFC 2544 gives to measurements.
    """
    ends = ("", TWIN) if setting.backend == "hub" else ("",)
    models = [(each.name + end, each.model) for each in contenders if each.model for end in ends]
    nics = tuple(
        NicConfig(
            name=name,
            model=model,
            mac=f"52:54:00:6c:62:{FIRST_NIC_SLOT + number:02x}",
            wire=f"w{number}",
            address=f"198.18.{number}.1/24",
            # igb's virtual functions find no room on the root bus; a NIC that is no PCI Express one belongs there.
            hotplug=model != "e1000",
        )
        for number, (name, model) in enumerate(models)
    )
    machine: dict[str, object] = {"cpus": setting.cpus}
    timeouts = config.timeouts
    if setting.counted:
        machine["tcg_thread"] = "single"  # such a clock can be had in one thread alone
        timeouts = timeouts.model_copy(update={"boot": timeouts.boot * COUNTED_SLOWER})
    return config.model_copy(
        update={
            "nics": nics,
            "timeouts": timeouts,
            "qemu": config.qemu.model_copy(update={"audit": False, "trace": ""}),
            "machine": config.machine.with_memory(MEMORY).model_copy(update=machine),
        }
    )
