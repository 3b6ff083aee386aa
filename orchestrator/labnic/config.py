# SPDX-License-Identifier: GPL-2.0-or-later
"""The validated settings of a lab.

Values come, the first that has one wins, from the command line, the environment (``LABNIC_MACHINE_MEMORY=512M``), the
project's ``labnic.yaml``, the user's ``~/.config/labnic/config.yaml`` and the defaults in this file.  `load_config`
puts them together; `Settings.sources` tells where each value came from.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MAX_QUEUES = 8
"""Queue pairs that a NIC may be given; the device's interface has at least as many from the first day."""


def _memory(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*[MG]", text):
        raise ValueError(f"must be a size such as 256M or 1G, not {text!r}")
    return text


def _mebibytes(size: str) -> int:
    return int(size[:-1]) * {"M": 1, "G": 1024}[size[-1]]


def _mac(text: str) -> str:
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}", text):
        raise ValueError(f"must be a MAC address such as 52:54:00:12:34:56, not {text!r}")
    if int(text[:2], 16) & 1:
        raise ValueError(f"{text} is a multicast address; the first byte of a NIC's own address is even")
    if not int(text.replace(":", ""), 16):
        raise ValueError("the address of all zeros belongs to no NIC")
    return text.lower()


def _identifier(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_-]{0,14}", text):
        raise ValueError(f"must be a letter and then up to 14 letters, digits, - or _, not {text!r}")
    return text


def _interface_address(text: str) -> str:
    try:
        address = ipaddress.IPv4Interface(text)
    except ValueError:
        raise ValueError(f"must be an IPv4 address and prefix such as 192.0.2.1/24, not {text!r}") from None
    if "/" not in text or address.network.prefixlen > 30:
        raise ValueError(f"needs a prefix with room for a neighbour, such as 192.0.2.1/24, not {text!r}")
    return text


Memory = Annotated[str, AfterValidator(_memory)]
Mac = Annotated[str, AfterValidator(_mac)]
Identifier = Annotated[str, AfterValidator(_identifier)]
InterfaceAddress = Annotated[str, AfterValidator(_interface_address)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Model = Literal["labnic", "virtio-net-pci", "e1000", "e1000e", "igb", "vmxnet3"]


class Section(BaseModel):
    """A mapping of the settings: unknown keys and wrong types are errors, and nothing changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class QemuConfig(Section):
    """Which QEMU runs the guest."""

    source: Literal["packaged", "overlay"] = "packaged"
    """``packaged``: the distribution's binary with the device as a plugin; ``overlay``: built from QEMU's sources."""
    binary: Path | None = None
    """Another QEMU program than the one the source gives."""
    trace: str = "labnic_*error"
    """Pattern of trace events that go to ``device.log``; "labnic_*" has each step, empty is none."""
    audit: bool = True
    """Have the device watch what its driver does; off for measurements."""


class MachineConfig(Section):
    """The virtual machine around the NICs."""

    memory: Memory = "256M"
    cpus: int = Field(default=2, ge=1, le=64)
    accel: Literal["auto", "tcg", "kvm"] = "auto"
    """``auto``: KVM when a real boot has proved it, else TCG."""
    tcg_thread: Literal["auto", "single", "multi"] = "auto"
    """One thread for all virtual CPUs, or one for each; ``auto``: for each where this QEMU's TCG can (8.1 or later)."""

    def with_memory(self, least: str) -> MachineConfig:
        """The same machine with at least this much memory; empty asks for nothing."""
        if not least or _mebibytes(least) <= _mebibytes(self.memory):
            return self
        return self.model_copy(update={"memory": least})


class NicConfig(Section):
    """One network card and what is plugged into it."""

    name: Identifier = "eth0"
    """Id of the device in QEMU; the guest may call its interface something else."""
    model: Model = "labnic"
    mac: Mac = "52:54:00:6c:62:01"
    queues: int = Field(default=MAX_QUEUES, ge=1, le=MAX_QUEUES)
    """Queue pairs, for the models that have a property for them."""
    wire: Identifier = "w0"
    """Name of the cable; its other end is the test's."""
    address: InterfaceAddress = "192.0.2.1/24"
    """IPv4 address that the guest's interface gets (the default is from TEST-NET-1, RFC 5737)."""
    hotplug: bool = False
    """Behind a root port, from which it can be unplugged while the guest runs; else on the root bus."""


class TimeoutConfig(Section):
    """Limits in seconds."""

    boot: Seconds = 60.0
    """From starting QEMU to the guest answering its first command."""
    command: Seconds = 30.0
    """For one command in the guest, unless the caller gives another limit."""


class TestConfig(Section):
    """What ``labnic test`` runs."""

    kernels: tuple[str, ...] = Field(default=("6.1",), min_length=1, strict=False)
    """The guest tests run once on each."""


class Config(Section):
    """Everything that describes one lab."""

    qemu: QemuConfig = QemuConfig()
    kernel: str = "6.1"
    """Kernel of ``labnic up``; the names are those that the kernel table knows."""
    machine: MachineConfig = MachineConfig()
    nics: tuple[NicConfig, ...] = Field(default=(NicConfig(),), min_length=1, strict=False)
    timeouts: TimeoutConfig = TimeoutConfig()
    test: TestConfig = TestConfig()
    artifacts: Path = Path("artifacts")
    """Folder for logs, packets and reports; each run makes a folder of its own in it."""

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        for key in ("name", "wire", "mac", "address"):
            values = [str(getattr(nic, key)) for nic in self.nics]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"two NICs have the same {key}: {', '.join(twice)}")
        return self


PATH_KEYS = frozenset({("qemu", "binary"), ("artifacts",)})
"""Settings that are paths: relative ones are taken from the folder of the file that names them."""
