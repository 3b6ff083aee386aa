# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's command line for one lab, as a pure function of what the lab consists of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labnic.config import MachineConfig, NicConfig

AGENT_PORT = "org.qemu.guest_agent.0"
"""Name of the virtio port that the guest's agent opens (the agent's own default)."""

PVH_FIRMWARE = "qboot.rom"
"""QEMU's small firmware: enters an ELF kernel through PVH without the seconds that a full BIOS takes under TCG."""

HUB = "hubport"
"""A netdev beside which QEMU 7.2 gives that firmware an empty kernel, into which it jumps; the full BIOS is not so."""

FIRST_NIC_SLOT = 0x10
"""PCI slot of the first NIC: fixed, so that the guest's addresses do not depend on the other devices."""

TCG_BUFFER = 512
"""MiB for TCG's translated code: small hosts do not have the default's 1 GiB."""

TCG_THREADED = (8, 1)
"""First QEMU whose TCG may run each virtual CPU in a thread of its own.

An earlier one can translate code while another virtual CPU changes it, and then runs the old code for ever (QEMU's
commit deba78709ae8 ended that); a kernel that switches a tracepoint or a probe changes its code, and hangs or panics.
"""

ONE_CPU_FIRST = ("maxcpus=1", "noreplace-smp")
"""Words for the kernel that leave further CPUs to the guest's first program, once PCI functions have their memory, and
keep the code from being patched when they come.

Threaded TCG keeps by number which region a CPU's cached address leads to, and another CPU that changes the memory map
changes the numbers (`iotlb_to_section` of QEMU 10.0): an acknowledgement to the interrupt controller went to a device's
MSI-X table, and the guest hung or QEMU aborted, once in some thirty boots of a busy machine.
"""

DEVICE_LOG = "device.log"
"""File of the artifacts that gets the device's trace events."""

TCG_CPU = "Westmere"
"""The model that runs Debian's kernels fastest under TCG: with newer ones each command in the guest takes half as long
again (emulated AVX, five-level page tables), with AMD's the kernel takes a slower idle path."""

LAB_PARAMETERS = ("oops=panic", "norandmaps")
"""Words for the kernel that a lab adds to the image's: after an oops nothing that the guest says is worth testing, and
TCG translates a program anew wherever it finds it at another address."""

DRIVER_NOT_LOADED = "labnic.up=0"
"""Word for the guest's first program: leave the NIC's driver unloaded."""


@dataclass(frozen=True)
class NicModel:
    """What differs between QEMU's NICs: the guest's module, and the property for queue pairs if there is one."""

    module: str
    queues: str | None = None


MODELS: Mapping[str, NicModel] = {
    "labnic": NicModel("labnic", "queues"),
    "virtio-net-pci": NicModel("virtio_net"),
    "e1000": NicModel("e1000"),
    "e1000e": NicModel("e1000e"),
    "igb": NicModel("igb"),
    "vmxnet3": NicModel("vmxnet3"),
}


@dataclass(frozen=True)
class MachineSpec:
    """Everything that a QEMU process is started with.

    ``wires`` maps each wire's name to the file descriptor of QEMU's end, and ``backends`` to the options of another
    netdev in its place (``tap,ifname=tap0``); ``monitor`` and ``agent`` are descriptors of connected stream sockets.
    ``directory`` gets the logs and, short enough for a socket's name, ``run`` the sockets.  ``qemu_version`` is what
    the binary's ``--version`` says.
    """

    binary: Path
    qemu_version: str
    machine: MachineConfig
    accel: str
    kernel: Path
    initrd: Path
    nics: tuple[NicConfig, ...]
    run: Path
    directory: Path
    plugin: Path | None = None
    data_dirs: tuple[Path, ...] = ()
    parameters: tuple[str, ...] = ()
    trace: str = ""
    audit: bool = False
    wires: Mapping[str, int] = field(default_factory=dict)
    backends: Mapping[str, str] = field(default_factory=dict)
    monitor: int = -1
    agent: int = -1
    extra: tuple[str, ...] = ()
    by_hand: bool = False
    """For a shell: console and monitor on the terminal, nothing that labnic would have to hold the other end of."""

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the QEMU process alone."""
        return {"LD_PRELOAD": str(self.plugin)} if self.plugin else {}

    @property
    def descriptors(self) -> tuple[int, ...]:
        """File descriptors that QEMU inherits."""
        return tuple(fd for fd in (self.monitor, self.agent, *self.wires.values()) if fd >= 0)


def command_line(spec: MachineSpec) -> list[str]:
    """The argument list, program first.

    The virtual CPUs are not started (``-S``): monitors and wires are ready before the guest's first instruction.
    """
    return [
        str(spec.binary),
        *_machine(spec),
        *_channels(spec),
        *_trace(spec),
        *_audit(spec),
        *(argument for slot, nic in enumerate(spec.nics) for argument in _nic(spec, slot, nic)),
        *spec.extra,
        *(() if spec.by_hand else ("-S",)),
    ]


def _machine(spec: MachineSpec) -> list[str]:
    # -no-reboot and panic=exit-failure: without both, a guest's panic ends QEMU with status 0.
    return [
        *("-name", "labnic"),
        *(word for folder in spec.data_dirs for word in ("-L", str(folder))),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "q35,usb=off,vmport=off"),
        *("-accel", _tcg(spec) if spec.accel == "tcg" else spec.accel),
        *("-cpu", TCG_CPU if spec.accel == "tcg" else "host"),
        *("-smp", str(spec.machine.cpus)),
        *("-m", spec.machine.memory),
        *_firmware(spec),
        *("-kernel", str(spec.kernel)),
        *("-initrd", str(spec.initrd)),
        *("-append", " ".join((*spec.parameters, *_one_cpu_first(spec)))),
        *("-no-reboot", "-action", "panic=exit-failure", "-device", "pvpanic-pci"),
    ]


def _firmware(spec: MachineSpec) -> tuple[str, ...]:
    hub = any(backend.partition(",")[0] == HUB for backend in spec.backends.values())
    return () if hub else ("-bios", PVH_FIRMWARE)


def _one_cpu_first(spec: MachineSpec) -> tuple[str, ...]:
    threaded = spec.accel == "tcg" and _tcg_thread(spec) == "multi" and spec.machine.cpus > 1
    return ONE_CPU_FIRST if threaded else ()


def _tcg(spec: MachineSpec) -> str:
    return f"tcg,thread={_tcg_thread(spec)},tb-size={TCG_BUFFER}"


def _tcg_thread(spec: MachineSpec) -> str:
    thread = spec.machine.tcg_thread
    if thread == "auto":
        numbers = re.match(r"(\d+)\.(\d+)", spec.qemu_version)
        threaded = numbers is not None and (int(numbers[1]), int(numbers[2])) >= TCG_THREADED
        thread = "multi" if threaded else "single"
    return thread


def _trace(spec: MachineSpec) -> list[str]:
    if not spec.trace or spec.by_hand:
        return []
    return ["-D", str(spec.directory / DEVICE_LOG), "-trace", f"enable={spec.trace}"]


def _audit(spec: MachineSpec) -> list[str]:
    """For every labnic, those too that are plugged in later; a QEMU without one does not know the name."""
    if not spec.audit or all(nic.model != "labnic" for nic in spec.nics):
        return []
    return ["-global", "labnic.auditing=on"]


def _channels(spec: MachineSpec) -> list[str]:
    """The serial console, the monitor (ours by descriptor, a second one for the user) and the agent's port."""
    if spec.by_hand:
        return ["-serial", "mon:stdio"]
    console = f"socket,id=console,path={_escape(spec.run / 'console.sock')},server=on,wait=off"
    arguments = [
        *("-chardev", f"{console},logfile={_escape(spec.directory / 'console.log')},logappend=off"),
        *("-serial", "chardev:console"),
        *("-qmp", f"unix:{_escape(spec.run / 'qmp.sock')},server=on,wait=off"),
    ]
    if spec.monitor >= 0:
        arguments += ["-chardev", f"socket,id=monitor,fd={spec.monitor}", "-mon", "chardev=monitor,mode=control"]
    if spec.agent >= 0:
        arguments += [
            *("-chardev", f"socket,id=agent,fd={spec.agent}"),
            # The first port is a console's, 31 are the default. QEMU's main loop would poll a file for each of their
            # queues before each frame that it receives.
            *("-device", "virtio-serial-pci,id=channels,max_ports=2,ioeventfd=off"),
            *("-device", f"virtserialport,bus=channels.0,chardev=agent,name={AGENT_PORT}"),
        ]
    return arguments


def _nic(spec: MachineSpec, slot: int, nic: NicConfig) -> list[str]:
    model = MODELS[nic.model]
    place = f"bus=pcie.0,addr={FIRST_NIC_SLOT + slot:#x}"
    port = []
    if nic.hotplug:
        # The chassis makes the slot number unique among the ports.
        port = ["-device", f"pcie-root-port,id={root_port(nic)},chassis={FIRST_NIC_SLOT + slot},{place}"]
        place = f"bus={root_port(nic)}"
    options = [nic.model, f"id={nic.name}", f"netdev={nic.wire}", f"mac={nic.mac}", place]
    if model.queues:
        options.append(f"{model.queues}={nic.queues}")
    if nic.model != "labnic":
        # A ROM to boot from the network with, which nobody does, and which a QEMU built from source may not find.
        options.append("romfile=")
    return ["-netdev", _backend(spec, nic), *port, "-device", ",".join(options)]


def _backend(spec: MachineSpec, nic: NicConfig) -> str:
    if nic.wire in spec.backends:
        kind, comma, options = spec.backends[nic.wire].partition(",")
        return f"{kind},id={nic.wire}{comma}{options}"
    if nic.wire in spec.wires:
        return f"dgram,id={nic.wire},local.type=fd,local.str={spec.wires[nic.wire]}"
    # A printed command line has no wire to inherit.
    return f"user,id={nic.wire},restrict=on"


def root_port(nic: NicConfig) -> str:
    """Id of the root port that a NIC with ``hotplug`` is plugged into."""
    return f"port-{nic.name}"


def guest_parameters(image: Sequence[str], nics: Sequence[NicConfig], more: Sequence[str]) -> tuple[str, ...]:
    """The kernel's command line: the image's words, what the guest's first program does with the NICs, and ``more``."""
    words = [*image, *LAB_PARAMETERS]
    if DRIVER_NOT_LOADED not in more:
        modules = dict.fromkeys(MODELS[nic.model].module for nic in nics if nic.model != "labnic")
        words += [f"labnic.modules={','.join(modules)}"] if modules else []
        words += [f"labnic.nic={nic.name},{nic.mac},{nic.address}" for nic in nics]
    return (*words, *more)


def _escape(path: Path) -> str:
    """A path inside a comma-separated QEMU option: a comma is written twice."""
    return str(path).replace(",", ",,")
