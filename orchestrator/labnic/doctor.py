# SPDX-License-Identifier: GPL-2.0-or-later
"""``labnic doctor``: is everything here that labnic needs, and which accelerator will the VM get?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labnic.accel import choose
from labnic.build.cache import Cache
from labnic.config import Config
from labnic.errors import LabnicError
from labnic.hostdeps import host_packages, install_line, missing_packages
from labnic.report import Phases
from labnic.rundir import base_folder

SPACE = 3 << 30
"""Bytes that the cache needs for both kernels, their headers, QEMU's source and what is built from them, rounded up."""


@dataclass(frozen=True)
class Finding:
    """One answer; ``ok`` is None for a fact that is neither good nor bad."""

    name: str
    ok: bool | None
    detail: str
    hint: str = ""


def examine(config: Config, phases: Phases) -> Iterator[Finding]:
    """Look at everything, in the order in which a user would repair it."""
    yield from _packages()
    yield from _folders()
    yield _accelerator(config, phases)


def _packages() -> Iterator[Finding]:
    """The host's packages; what is installed is one line, each missing one has its own."""
    wanted = host_packages("check")
    missing = missing_packages(wanted)
    for package in missing:
        yield Finding(f"package {package.name}", False, f"missing: {package.why}")
    yield Finding(
        "packages",
        not missing,
        f"{len(wanted) - len(missing)} of {len(wanted)} are installed",
        install_line(missing) if missing else "",
    )


def _folders() -> Iterator[Finding]:
    try:
        root = Cache().root
        free = shutil.disk_usage(root).free
        used = any(entry.is_dir() for entry in root.iterdir() if entry.name != "locks")
        enough = used or free > SPACE
        yield Finding(
            "cache", enough, f"{root}, {free >> 20} MiB free", "" if enough else "set LABNIC_CACHE to a larger disk"
        )
        yield Finding("run folder", True, str(base_folder()))
    except LabnicError as error:
        yield Finding("folders", False, error.message, error.hint)


def _accelerator(config: Config, phases: Phases) -> Finding:
    """A real answer needs a kernel to boot; it comes from the cache or is fetched."""
    try:
        from labnic.build import build_qemu, fetch_kernel

        cache = Cache()
        binary = build_qemu(config, cache, phases).binary
        kernel = fetch_kernel(config.kernel, cache, phases)
        accel = choose(config.machine.accel, Path(binary), kernel.vmlinux, cache)
    except LabnicError as error:
        return Finding("accelerator", False, error.message, error.hint)
    return Finding("accelerator", None, f"{accel.name}: {accel.reason}")
