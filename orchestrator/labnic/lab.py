# SPDX-License-Identifier: GPL-2.0-or-later
"""A running lab: a VM with its NICs, their wires, and the guest, put together from a configuration."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from labnic import patience, tsc
from labnic.agent import AgentPort, AgentServer
from labnic.build import DRIVER_IN_GUEST, Driver, Kernel, Progress, QemuBuild, guest_cmdline
from labnic.cmdline import DRIVER_NOT_LOADED, MODELS, MachineSpec, command_line, guest_parameters
from labnic.config import Config
from labnic.console import Console
from labnic.errors import BootError, GuestPanicError, LabnicError, VmLostError
from labnic.guest import Guest
from labnic.machine import LAST_LINES, Machine
from labnic.nic import Nic
from labnic.qmp import Qmp
from labnic.rundir import RunDir
from labnic.snapshot import Snapshots
from labnic.splat import LogScanner, Splat, tail
from labnic.wire import Wire

if TYPE_CHECKING:
    from labnic.accel import Accel
    from labnic.build.cache import Hold

_serial = itertools.count(1)


@dataclass(frozen=True)
class Parts:
    """What a lab is made of, built and ready, and held in the cache as long as somebody has these parts."""

    qemu: QemuBuild
    kernel: Kernel
    driver: Driver
    image: Path
    accel: Accel
    hold: Hold


class Lab:
    """One VM; a context manager that boots on entry and leaves no process behind on exit.

    ``directory`` gets the logs and captures, ``name`` is what ``labnic ps`` shows, ``parameters`` are words for the
    kernel's command line and ``extra`` for QEMU's.  ``backends`` has QEMU's options for wires that are no sockets of
    ours.  With ``read_wires`` off, the wires and their recording are left
    to another program.  ``boot_seconds`` is from starting QEMU to the first command.
    """

    def __init__(
        self,
        config: Config,
        parts: Parts,
        directory: Path,
        progress: Progress,
        *,
        name: str | None = None,
        parameters: tuple[str, ...] = (),
        extra: tuple[str, ...] = (),
        backends: Mapping[str, str] | None = None,
        read_wires: bool = True,
    ) -> None:
        self.config = config
        self.parts = parts
        self.kernel = parts.kernel
        self.directory = directory
        self.progress = progress
        self.name = name or f"lab-{os.getpid()}-{next(_serial)}"
        self.parameters = parameters
        self.extra = extra
        self.backends = backends or {}
        self.read_wires = read_wires
        self.boot_seconds = 0.0
        self.wires: dict[str, Wire] = {}
        self.nics: list[Nic] = []
        self._undo = contextlib.ExitStack()
        self._lost: LabnicError | None = None
        patience.allow(parts.kernel.slower)

    # Set by `start`.
    run: RunDir
    machine: Machine
    qmp: Qmp
    guest: Guest
    console: Console
    snapshots: Snapshots
    _port: AgentPort
    _scanner: LogScanner

    @property
    def nic(self) -> Nic:
        """The first NIC."""
        return self.nics[0]

    @property
    def wire(self) -> Wire:
        """The first NIC's cable."""
        return self.nic.wire

    @property
    def driver_wanted(self) -> bool:
        """Whether the guest loads the NIC's driver by itself."""
        return DRIVER_NOT_LOADED not in self.parameters

    # Life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Boot and wait until the guest takes commands and its NICs are up.

        Raises `BootError` when that takes longer than the configured limit or QEMU does not start, `GuestPanicError`
        when the kernel panics; nothing is left running then.
        """
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.run = RunDir(self.name)
        self._undo.callback(self.run.close)
        for nic in self.config.nics:
            record = self.directory / f"{nic.wire}.pcapng" if self.read_wires else None
            wire = Wire(nic.wire, record, read=self.read_wires)
            self._undo.callback(wire.close)
            wire.check_peer = self.check_alive
            self.wires[nic.wire] = wire
        with self.progress.phase(f"boot {self.kernel.name} ({self.parts.accel.name})"):
            self._boot()
        self._attach_nics()
        self.run.update(
            kernel=self.kernel.release,
            accel=self.parts.accel.name,
            artifacts=str(self.directory),
            nics=[self._describe(nic) for nic in self.nics],
        )

    def _boot(self) -> None:
        begin = time.monotonic()
        monitor, monitor_peer = self._pair()
        agent, agent_peer = self._pair()
        spec = self.spec(monitor_peer.fileno(), agent_peer.fileno())
        self.machine = Machine(spec, monitor)
        self._undo.callback(self.machine.stop)
        self.run.set_qemu(self.machine.pid)
        for peer in (monitor_peer, agent_peer):
            peer.close()
        for wire in self.wires.values():
            wire.release_qemu_end()
        self.qmp = self.machine.qmp
        self.console = Console(self.run.path, self.machine.console_log)
        self._scanner = LogScanner(self.machine.console_log)
        self._port = AgentPort(agent, self._explain)
        self.guest = Guest(self._port, self.config.timeouts.command)
        self.snapshots = Snapshots(self.qmp, self.run.path)
        self.machine.connect()
        self.qmp.cont()
        self._wait_ready(self.config.timeouts.boot)
        self.boot_seconds = time.monotonic() - begin
        server = AgentServer(self._port, self.run.path / "agent.sock")
        self._undo.callback(server.close)

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for end in pair:
            self._undo.callback(end.close)
        return pair

    def spec(self, monitor: int = -1, agent: int = -1) -> MachineSpec:
        """What QEMU is started with; before `start`, as far as it can be shown."""
        parts = self.parts
        run = self.run.path if hasattr(self, "run") else Path()
        return MachineSpec(
            binary=parts.qemu.binary,
            qemu_version=parts.qemu.version,
            plugin=parts.qemu.plugin,
            data_dirs=parts.qemu.data_dirs,
            machine=self.config.machine.with_memory(parts.kernel.memory),
            accel=parts.accel.name,
            kernel=parts.kernel.vmlinux,
            initrd=parts.image,
            nics=self.config.nics,
            run=run,
            directory=self.directory,
            trace=self.config.qemu.trace,
            audit=self.config.qemu.audit,
            parameters=guest_parameters(
                (*guest_cmdline(), *tsc.parameters(parts.accel.name, self.extra), *parts.kernel.parameters),
                self.config.nics,
                self.parameters,
            ),
            wires={name: wire.qemu_end.fileno() for name, wire in self.wires.items()},
            backends=self.backends,
            monitor=monitor,
            agent=agent,
            extra=self.extra,
        )

    def pasteable(self) -> list[str]:
        """QEMU's command line for a shell: the same machine with its console on the terminal and unplugged wires."""
        return command_line(replace(self.spec(), by_hand=True))

    def _wait_ready(self, limit: float) -> None:
        try:
            self._port.wait_ready(limit)
            self.guest.run(["true"], check=True, timeout=limit)
        except GuestPanicError:
            raise
        except VmLostError as error:
            if self.machine.alive():
                raise BootError(
                    f"the guest did not come up within {patience.patient(limit):g} s",
                    log=self.console_tail(LAST_LINES),
                    hint=f"the whole console is in {self.machine.console_log}",
                ) from None
            raise BootError(f"the guest did not come up: {error.message}", log=error.log) from None

    def _attach_nics(self) -> None:
        for number, config in enumerate(self.config.nics):
            nic = Nic(config, number, self.guest, self.qmp, self.wires[config.wire])
            self.nics.append(nic)
            if self.driver_wanted:
                nic.configure()

    def _describe(self, nic: Nic) -> dict[str, str | int]:
        """What other programs can know of a NIC: ``name`` is the guest's, ``device`` QEMU's."""
        config = nic.config
        name = {"name": nic.name, "device": config.name}
        return {**name, "mac": nic.mac, "model": config.model, "queues": config.queues}

    def close(self) -> None:
        """End the VM and take the lab out of the register; safe to call twice."""
        self._undo.close()

    # State

    def check_alive(self) -> None:
        """Raise `VmLostError` or `GuestPanicError` when the VM has gone."""
        if self._lost is None and not self.machine.alive():
            self._explain("QEMU ended")
        if self._lost is not None:
            raise self._lost

    def _explain(self, what: str) -> LabnicError:
        """The first reason why the VM was lost is the one to tell ever after."""
        error = self.machine.explain(what)
        if not self.machine.alive() or isinstance(error, GuestPanicError):
            self._lost = self._lost or error
        return self._lost or error

    def splats(self) -> list[Splat]:
        """Reports in the kernel's log that came since the last call."""
        return self._scanner.scan()

    def console_tail(self, count: int = LAST_LINES) -> list[str]:
        """The last lines of the console."""
        return tail(self.machine.console_log, count)

    def collect(self) -> None:
        """Save what explains a failure (kernel log, counters, registers), as far as the guest answers."""
        for wire in self.wires.values():
            wire.sync()
        name = self.nic.name if self.nics else ""
        for file, argv in (
            ("dmesg.log", ["dmesg"]),
            ("counters.txt", ["ethtool", "-S", name]),
            ("registers.txt", ["ethtool", "-d", name]),
            ("interfaces.txt", ["ip", "-s", "-d", "link"]),
        ):
            with contextlib.suppress(LabnicError):
                result = self.guest.run(argv, timeout=5.0)
                (self.directory / file).write_text(result.stdout + result.stderr)

    def reconnect(self, timeout: float = 10.0) -> None:
        """Take up the command channel again after the guest's agent was started anew (or its port was away)."""
        self._port.wait_ready(timeout)

    # The driver

    def rmmod(self) -> None:
        """Unload the first NIC's driver; raises `GuestCommandError` when the kernel refuses."""
        self.guest.run(["rmmod", MODELS[self.nic.config.model].module], check=True)

    def insmod(self, module: Path | None = None) -> None:
        """Load the first NIC's driver, the image's own or another file of this machine, and configure the interface."""
        if module is not None:
            self.guest.write(DRIVER_IN_GUEST, module.read_bytes())
        if self.nic.config.model == "labnic":
            self.guest.run(["insmod", DRIVER_IN_GUEST], check=True)
        else:
            self.guest.run(["modprobe", MODELS[self.nic.config.model].module], check=True)
        for nic in self.nics:
            nic.configure()

    def reload_driver(self, module: Path | None = None) -> None:
        """`rmmod`, then `insmod`."""
        self.rmmod()
        self.insmod(module)

    # Snapshots

    def snapshot_save(self, tag: str) -> None:
        """Save the whole VM in memory and devices under a name, in the running QEMU."""
        self.snapshots.save(tag)

    def snapshot_load(self, tag: str) -> None:
        """Go back to a saved state; what was on the wires and in the command channel since then is thrown away."""
        self.snapshots.load(tag)
        self._port.resynchronise()
        for wire in self.wires.values():
            wire.flush()

    def wait_exit(self, timeout: float, stop: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the VM's end, for at most ``timeout`` seconds or until ``stop`` says so; whether it has ended."""
        deadline = time.monotonic() + timeout
        while not stop() and (left := deadline - time.monotonic()) > 0:
            if self.machine.wait(min(left, 0.5)):
                return True
        return not self.machine.alive()
