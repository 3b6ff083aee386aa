# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU with a labnic in it and no guest: the test itself is the driver, over the qtest socket.

The machine's firmware is a ROM that halts the processor at the reset vector. So the machine counts as running and
packets are delivered, and nothing but the test touches the device.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from hypothesis import HealthCheck, settings

from labnic import hwmap, pci
from labnic.errors import LabnicError, VmLostError
from labnic.fault import FaultDevice
from labnic.machine import leashed
from labnic.pci import Msix, PciAddress, PciBus, PciDevice
from labnic.qmp import Qmp
from labnic.qtest import ConditionTimeoutError, Qtest, wait_until
from labnic.registers import GuestMemory
from labnic.softnic import Nic

ROM_SIZE = 64 << 10
RESET_VECTOR = ROM_SIZE - 16
HALT = bytes.fromhex("fa f4 eb fd")  # cli; hlt; and back to the hlt should anything wake it
RAM_BASE = 1 << 20
SLOT = 4
MAC = "52:54:00:6c:62:01"
WIRE_BUFFER = 1 << 20
HW = hwmap.load(hwmap.default_path())


@dataclass(frozen=True)
class QemuFiles:
    """What a bench is started from: QEMU's program, the plugin to preload, if any, and the folder of its own data."""

    binary: Path
    plugin: Path | None = None
    data_dirs: tuple[Path, ...] = ()


def make_rom(path: Path) -> Path:
    """Write the ROM image that halts at the reset vector."""
    path.write_bytes((b"\xf4" * RESET_VECTOR + HALT).ljust(ROM_SIZE, b"\xf4"))
    return path


@dataclass(frozen=True)
class BenchOptions:
    """What differs from a machine with one labnic of default properties.

    ``properties`` go to the device; ``behind_port`` puts it behind a root port; ``arguments`` go to QEMU; without
    ``attach`` the device is not touched at the start; ``ram`` is in bytes; with ``own_clock`` the time of the machine
    goes on only by :meth:`Qtest.clock_step`.
    """

    properties: dict[str, object] = field(default_factory=dict)
    behind_port: bool = False
    arguments: tuple[str, ...] = ()
    attach: bool = True
    ram: int = 256 << 20
    own_clock: bool = False


WITH_HUB = BenchOptions(
    arguments=(
        *("-netdev", "hubport,id=h0,hubid=0", "-device", f"labnic,id=nic1,netdev=h0,bus=pcie.0,addr={SLOT + 1:#x}"),
        *("-netdev", "hubport,id=h1,hubid=0", "-device", f"labnic,id=nic2,netdev=h1,bus=pcie.0,addr={SLOT + 2:#x}"),
    )
)
"""Two more, in the next slots, that hear each other inside QEMU."""
WITH_PEER = BenchOptions(arguments=("-device", f"labnic,id=nic1,bus=pcie.0,addr={SLOT + 1:#x}"))
"""A second labnic, without a wire, in the next slot."""


class Cable:
    """The test's end of the datagram wire. Frames are bytes; every wait has a limit in seconds."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, WIRE_BUFFER)

    def send(self, *frames: bytes, limit: float = 5.0) -> None:
        """Hand frames to QEMU; raises :class:`VmLostError` when it takes none for ``limit`` seconds."""
        for frame in frames:
            while not self.try_send(frame):
                poller = select.poll()
                poller.register(self._sock, select.POLLOUT)
                if not poller.poll(limit * 1000):
                    raise VmLostError(f"QEMU took no frame from the wire for {limit:g} s")

    def try_send(self, frame: bytes) -> bool:
        """Send unless the wire is full."""
        try:
            self._sock.send(frame)
        except BlockingIOError:
            return False
        except ConnectionError as error:
            raise VmLostError(f"the wire's other end is gone: {error}") from None
        return True

    def wait_taken(self, *, limit: float = 5.0) -> None:
        """Wait until QEMU has read every frame that was sent; with the device starved, it reads one and stops."""

        def taken() -> bool:
            left = bytearray(4)
            fcntl.ioctl(self._sock, termios.TIOCOUTQ, left)
            return not any(left)

        wait_until(taken, "QEMU to read the frames from the wire", limit=limit)

    def receive(self, *, limit: float = 5.0) -> bytes:
        """The next frame from the device; raises :class:`ConditionTimeoutError` when none comes."""
        frame = self._take()
        if frame is None:
            poller = select.poll()
            poller.register(self._sock, select.POLLIN)
            poller.poll(limit * 1000)
            frame = self._take()
        if frame is None:
            raise ConditionTimeoutError(f"no frame from the device within {limit:g} s")
        return frame

    def collect(self, count: int, *, limit: float = 5.0) -> list[bytes]:
        """The next ``count`` frames."""
        deadline = time.monotonic() + limit
        frames: list[bytes] = []
        while len(frames) < count:
            try:
                frames.append(self.receive(limit=max(deadline - time.monotonic(), 0)))
            except ConditionTimeoutError:
                raise ConditionTimeoutError(f"{len(frames)} of {count} frames came within {limit:g} s") from None
        return frames

    def waiting(self) -> list[bytes]:
        """What is in the socket now; a frame that the device sent before its last answer over qtest is in it."""
        frames = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        return frames

    def _take(self) -> bytes | None:
        try:
            frame = self._sock.recv(1 << 17)
        except BlockingIOError:
            return None
        return frame

    def close(self) -> None:
        """Unplug for good."""
        self._sock.close()


class Bench:
    """A running QEMU with the device found, its base addresses assigned and its vectors pointed at memory.

    Use as a context manager, or call :meth:`close`: QEMU never outlives it.
    """

    def __init__(self, files: QemuFiles, rom: Path, log: Path, options: BenchOptions | None = None) -> None:
        self.options = options or BenchOptions()
        self.log = log
        self._closers = contextlib.ExitStack()
        try:
            self._start(files, rom)
        except BaseException:
            self.close()
            raise

    def _start(self, files: QemuFiles, rom: Path) -> None:
        qtest, qtest_theirs = self._pair(socket.SOCK_STREAM)
        monitor, monitor_theirs = self._pair(socket.SOCK_STREAM)
        wire, wire_theirs = self._pair(socket.SOCK_DGRAM)
        theirs = (qtest_theirs, monitor_theirs, wire_theirs)
        command = [str(files.binary)]
        for folder in files.data_dirs:
            command += ["-L", str(folder)]
        command += [
            *("-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35,usb=off,vmport=off"),
            *("-accel", "qtest" if self.options.own_clock else "tcg"),
            *("-m", f"{self.options.ram >> 20}M", "-bios", str(rom)),
            *(
                "-chardev",
                f"socket,id=qtest,fd={qtest_theirs.fileno()}",
                "-object",
                "qtest,id=qt,chardev=qtest,log=none",
            ),
            *("-chardev", f"socket,id=monitor,fd={monitor_theirs.fileno()}", "-mon", "chardev=monitor,mode=control"),
            *("-netdev", f"dgram,id=w0,local.type=fd,local.str={wire_theirs.fileno()}"),
            *self._device(),
            *self.options.arguments,
        ]
        self.process = launch(command, files.plugin, self.log, tuple(sock.fileno() for sock in theirs))
        self._closers.callback(self._end)
        for sock in theirs:
            sock.close()
        self.cable = Cable(wire)
        self.qtest = Qtest(qtest)
        try:
            self.qmp = Qmp(monitor)
            self._closers.callback(self.qmp.close)
            self.qmp.connect()
            self.faults = FaultDevice(self.qmp, "nic0", hw=HW)
            if self.options.attach:
                self.attach()
        except LabnicError as error:
            raise type(error)(f"{error.message}\n{self.messages()}", hint=error.hint) from None

    def _pair(self, kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        self._closers.callback(ours.close)
        self._closers.callback(theirs.close)
        return ours, theirs

    def _device(self) -> list[str]:
        properties = {"mac": MAC, **self.options.properties}
        place = f"bus=pcie.0,addr={SLOT:#x}"
        arguments = []
        if self.options.behind_port:
            arguments = ["-device", f"pcie-root-port,id=slot0,bus=pcie.0,addr={SLOT:#x},chassis=1,slot=1"]
            place = "bus=slot0"
        settings = "".join(f",{name}={value}" for name, value in properties.items())
        return [*arguments, "-device", f"labnic,id=nic0,netdev=w0,{place}{settings}"]

    # The device

    def attach(self) -> Nic:
        """Do what firmware and a driver's probe do: find the device, place it, and make a driver for it."""
        self.bus = PciBus(self.qtest)
        address = PciAddress(0, SLOT)
        if self.options.behind_port:
            self.bus.open_bridge(PciDevice(self.bus, address), 1)
            address = PciAddress(1, 0)
        self.pci = PciDevice(self.bus, address)
        self.memory = GuestMemory(self.qtest, RAM_BASE, self.options.ram - RAM_BASE)
        self.nic = self.drive(self.pci)
        return self.nic

    def drive(self, pci: PciDevice) -> Nic:
        """Place one labnic and make a driver for it, its vectors pointed at memory."""
        places = pci.assign_bars()
        pci.enable()
        return Nic(self.qtest, HW, places, Msix(pci, places), self.memory)

    def reset(self) -> Nic:
        """Reset the whole machine, as the reset button does, and attach again."""
        self.qmp.execute("system_reset")
        self.qmp.wait_event("RESET")
        return self.attach()

    def refresh(self) -> Nic:
        """Bring the bench to the state that each test begins with."""
        self.qmp.set_link("nic0", True)
        self.faults.clear()
        nic = self.reset()
        self.cable.waiting()
        if "auditing" in self.options.properties:
            self.faults.audit_clear()
        return nic

    def registers_base(self) -> int:
        """Where the registers are, as the configuration space has it; for a machine that was set up elsewhere."""
        device = PciDevice(PciBus(self.qtest), PciAddress(0, SLOT))
        return device.read(pci.BAR0 + 4 * HW.bar("REGS").index, 4) & ~0xF

    # The process

    def loaded(self) -> bool:
        """Whether a machine that waits for its state has got it; false also when QEMU is gone."""
        try:
            return self.qmp.query_status() not in ("inmigrate", "prelaunch")
        except VmLostError:
            return False

    def alive(self) -> bool:
        """Whether QEMU runs and answers."""
        if self.process.poll() is not None:
            return False
        try:
            self.qtest.readl(RAM_BASE)
        except LabnicError:
            return False
        return True

    def messages(self) -> str:
        """What QEMU has said, with how it ended."""
        text = self.log.read_text(errors="replace").strip() or "(QEMU said nothing)"
        status = self.process.poll()
        if status is None:
            return text
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        return f"{text}\nQEMU ended with {how}"

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    def close(self) -> None:
        """End QEMU and close every socket."""
        self._closers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


MakeBench = Callable[..., Bench]
"""Type of the fixture ``make_bench``."""


def examples(count: int) -> settings:
    """Settings of a hypothesis test with so many examples, all on the bench of one test."""
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def launch(
    command: Sequence[str], plugin: Path | None, log: Path, descriptors: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    """Start QEMU so that it dies with this process; the plugin is preloaded into QEMU alone."""
    argv = leashed(list(command), {"LD_PRELOAD": str(plugin)} if plugin else {})
    with log.open("wb") as output:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=descriptors)


def settle(bench: Bench, what: str, count: int, *names: str) -> None:
    """Wait until the counters ``names`` add up to ``count``: the device has then dealt with so many frames."""
    wait_until(lambda: sum(bench.nic.registers.counter(name) for name in names) == count, f"{what}: {count} of {names}")


def boot_failure(files: QemuFiles, rom: Path, log: Path, device: str, *arguments: str) -> tuple[int, str]:
    """Start QEMU with a device that it should refuse; returns its exit status and what it said."""
    command = [str(files.binary), "-nodefaults", "-display", "none", "-machine", "q35", "-bios", str(rom)]
    process = launch([*command, "-device", device, *arguments], files.plugin, log, ())
    try:
        return process.wait(20), log.read_text(errors="replace")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
