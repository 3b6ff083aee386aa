# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kernels there are (``images/kernels.yaml``), and what one of them in the cache is and can do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from labnic.build.apt import Pin
from labnic.build.cache import PROJECT, JsonValue
from labnic.errors import ConfigError, UsageError

KERNELS = PROJECT / "images" / "kernels.yaml"
LAYOUT = 2
"""Raised whenever the content of a kernel's cache entry changes for the same packages."""

FEATURES: Mapping[str, str] = {
    "aer_inject": "PCIEAER_INJECT",
    "atomic_sleep": "DEBUG_ATOMIC_SLEEP",
    "debug_net": "DEBUG_NET",
    "debug_objects": "DEBUG_OBJECTS",
    "dma_api_debug": "DMA_API_DEBUG",
    "fail_function": "FAIL_FUNCTION",
    "fail_page_alloc": "FAIL_PAGE_ALLOC",
    "failslab": "FAILSLAB",
    "ftrace": "FUNCTION_TRACER",
    "kasan": "KASAN",
    "kmemleak": "DEBUG_KMEMLEAK",
    "kprobes_on_ftrace": "KPROBES_ON_FTRACE",
    "lockdep": "PROVE_LOCKING",
    "netconsole": "NETCONSOLE",
    "netdev_notifier_error": "NETDEV_NOTIFIER_ERROR_INJECT",
    "netdev_refcount": "NET_DEV_REFCNT_TRACKER",
    "page_pool_stats": "PAGE_POOL_STATS",
    "pm_test": "PM_DEBUG",
    "preempt": "PREEMPT",
    "prove_rcu": "PROVE_RCU",
    "ubsan": "UBSAN",
}
"""What `Kernel.has` answers for, each with the name of the option in the kernel's configuration."""


class PackagedKernel(BaseModel):
    """A kernel taken from the distribution as it is; the file explains the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    release: str
    suite: str = ""
    image: str
    headers: str
    compiler: str


class BuiltKernel(BaseModel):
    """A kernel built from the distribution's source; the file explains the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    release: str
    suite: str = ""
    source: str
    config: str
    compiler: str
    files: int = Field(gt=0)
    memory: str = Field(pattern=r"^[1-9][0-9]*[MG]$")
    slower: float = Field(ge=1, le=100)
    cmdline: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()


def _form(entry: Any) -> str:
    """Which of the two forms an entry has: a built kernel names its source."""
    built = "source" in entry if isinstance(entry, Mapping) else isinstance(entry, BuiltKernel)
    return "built" if built else "packaged"


KernelEntry = Annotated[
    Annotated[PackagedKernel, Tag("packaged")] | Annotated[BuiltKernel, Tag("built")], Discriminator(_form)
]


class KernelTable(BaseModel):
    """The whole of ``images/kernels.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kernels: Mapping[str, KernelEntry]
    leave_out: tuple[str, ...] = ()

    def packaged(self) -> dict[str, PackagedKernel]:
        """The kernels that need no build."""
        return {name: entry for name, entry in self.kernels.items() if isinstance(entry, PackagedKernel)}


@dataclass(frozen=True)
class Kernel:
    """A kernel in the cache.

    ``vmlinux`` is an uncompressed ELF with a PVH note, ``modules`` its ``lib/modules/RELEASE`` (a selection,
    uncompressed), ``kdir`` the directory for ``make -C``, ``config`` its ``.config``, ``compiler`` the gcc for it.
    ``memory`` is the least that a machine needs for it (empty: any), ``slower`` the factor by which a guest takes
    longer than with a stock kernel, ``parameters`` are words for its command line, ``build`` tells builds apart that
    have the same packages.
    """

    name: str
    release: str
    vmlinux: Path
    modules: Path
    kdir: Path
    config: Path
    compiler: str
    pins: tuple[Pin, ...]
    memory: str = ""
    slower: float = 1.0
    parameters: tuple[str, ...] = ()
    build: str = ""

    @property
    def identity(self) -> dict[str, JsonValue]:
        """The part of a cache key that says: built for this kernel."""
        key: dict[str, JsonValue] = {
            "release": self.release,
            "packages": sorted(str(pin) for pin in self.pins),
            "layout": LAYOUT,
        }
        return {**key, "build": self.build} if self.build else key

    def has(self, feature: str) -> bool:
        """Whether the kernel has a feature, in itself or as a module.

        Raises :class:`UsageError` for one that is not among `FEATURES`: a misspelt name must not look like a lack.
        """
        if feature not in FEATURES:
            raise UsageError(f"no kernel feature is called {feature!r}", hint=f"known: {', '.join(FEATURES)}")
        return self._options.get(FEATURES[feature], "n") in ("y", "m")

    @cached_property
    def _options(self) -> dict[str, str]:
        return dict(re.findall(r"^CONFIG_(\w+)=(.*)$", self.config.read_text(), re.MULTILINE))


def kernel_table(path: Path = KERNELS) -> KernelTable:
    """The table of known kernels. Raises :class:`ConfigError` when the file is wrong."""
    try:
        return KernelTable.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path} cannot be used: {error}") from error


def kernel_entry(name: str) -> PackagedKernel | BuiltKernel:
    """The entry ``name`` of the table. Raises :class:`UsageError` listing the names when there is none."""
    known = kernel_table().kernels
    if name not in known:
        raise UsageError(f"there is no kernel {name!r}", hint=f"known kernels: {', '.join(known)}")
    return known[name]
