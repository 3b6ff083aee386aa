# SPDX-License-Identifier: GPL-2.0-or-later
"""Which QEMU is wanted, and the source package it was built from."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from labnic.build import sources, tool
from labnic.build.apt import Apt, Pin
from labnic.build.cache import PROJECT, Cache, JsonValue
from labnic.build.progress import Progress
from labnic.errors import BuildError, ConfigError, PrerequisiteError

LAYOUT = 1
"""Raised whenever the same source package gives another cache entry."""


class Packaged(BaseModel):
    """The installed QEMU; ``images/qemu.yaml`` explains the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    package: str
    binary: Path
    configure: tuple[str, ...]
    leave_out: tuple[str, ...]


class Overlay(BaseModel):
    """A QEMU to be built; ``images/qemu.yaml`` explains the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    release: str
    package: str
    configure: tuple[str, ...]
    devices: tuple[str, ...]
    data: tuple[Path, ...]


class QemuTable(BaseModel):
    """The whole of ``images/qemu.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    packaged: Packaged
    overlay: Overlay


def qemu_table(path: Path = PROJECT / "images" / "qemu.yaml") -> QemuTable:
    """The description of the QEMUs. Raises :class:`ConfigError` when the file is wrong."""
    try:
        return QemuTable.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path} cannot be used: {error}") from error


def installed_source(package: str) -> Pin:
    """The source package that the installed ``package`` was built from; a rebuild's ``+b3`` is no part of it.

    Raises :class:`PrerequisiteError` when it is not installed.
    """
    form = "${db:Status-Status} ${source:Package} ${source:Version}\n"
    try:
        text = tool.output(["dpkg-query", "-W", f"-f={form}", package], what=f"asking dpkg for {package}")
        status, name, version = text.split()
    except (BuildError, ValueError) as error:
        status, name, version = "missing", "", str(error)
    if status != "installed":
        raise PrerequisiteError(
            f"the package {package} is not installed",
            hint=f"sudo apt-get install -y --no-install-recommends {package}",
        )
    return Pin(name, version)


def program_version(binary: Path) -> str:
    """What ``--version`` says after "QEMU emulator version", such as ``7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)``."""
    text = tool.output([binary, "--version"], what=f"asking {binary} for its version", error=PrerequisiteError)
    match = re.match(r"QEMU emulator version (.+)", text)
    if not match:
        raise PrerequisiteError(f"{binary} is no QEMU: its --version says {text[:60]!r}")
    return match[1].strip()


def headers(cache: Cache, progress: Progress) -> Path:
    """The source tree of the installed QEMU, of exactly its version, with the generated headers in its ``build``."""
    wanted = qemu_table().packaged
    pin = installed_source(wanted.package)
    key: dict[str, JsonValue] = {
        "source": str(pin),
        "configure": wanted.configure,
        "leave_out": wanted.leave_out,
        "layout": LAYOUT,
    }

    def make(folder: Path) -> None:
        with progress.phase("QEMU headers"):
            apt = Apt(cache, sources.machine_codename(), progress)
            tree = unpack(apt, pin, folder)
            log = cache.root / "logs" / "qemu-headers.log"
            _configure_headers(tree, wanted.configure, log)
            for name in wanted.leave_out:
                shutil.rmtree(tree / name, ignore_errors=True)

    return cache.entry("qemu-headers", key, make, keep=3) / "tree"


def unpack(apt: Apt, pin: Pin, folder: Path) -> Path:
    """Download a source package and unpack it, patched, as ``folder/tree``."""
    download = folder / "download"
    try:
        dsc = apt.download_source(pin, download)
    except BuildError as error:
        raise BuildError(
            f"the source {pin} of the installed QEMU cannot be had: {error.message}",
            hint="bring QEMU to the archive's version: sudo apt-get update && sudo apt-get install qemu-system-x86",
            log=error.log,
        ) from error
    # apt has checked the signature already, by way of its index.
    tool.run(
        ["dpkg-source", "--no-check", "-x", dsc, folder / "tree"],
        what=f"unpacking the source of {pin.name}",
        log=apt.log,
        cwd=folder,
    )
    shutil.rmtree(download)
    return folder / "tree"


def _configure_headers(tree: Path, options: Sequence[str], log: Path) -> None:
    build = tree / "build"
    build.mkdir()
    log.unlink(missing_ok=True)
    tool.run(["../configure", *options, "--meson=/usr/bin/meson"], what="configuring QEMU", log=log, cwd=build)
    targets = tool.output(["ninja", "-t", "targets", "all"], what="listing QEMU's headers", cwd=build)
    wanted = [line.split(":")[0] for line in targets.splitlines() if re.match(r"[^:]+\.h:", line)]
    if not wanted:
        raise BuildError("QEMU's build generates no headers", log=tool.tail(log))
    tool.run(["ninja", *wanted], what="generating QEMU's headers", log=log, cwd=build)


def release_source(apt: Apt, package: str) -> Pin:
    """The source of ``package`` in the release of ``apt`` itself (not its backports), remembered for a day."""

    def ask() -> JsonValue:
        fields = apt.show(package)
        return [str(_source_of(fields))]

    known = apt.remembered(f"source-{package}", ask)
    if not isinstance(known, Sequence):
        raise BuildError(f"the remembered source of {package} is damaged", hint="labnic build --refresh")
    return Pin(*str(known[0]).split("=", 1))


def _source_of(fields: Mapping[str, str]) -> Pin:
    """From a binary package's fields: ``Source: name (version)``, where either may be the package's own."""
    match = re.match(r"(\S+)(?: \((\S+)\))?", fields.get("Source", fields["Package"]))
    name, version = (match[1], match[2]) if match else (fields["Package"], None)
    return Pin(name, version or re.sub(r"\+b\d+$", "", fields["Version"]))


def tracetool(tree: Path) -> list[str]:
    """The command that QEMU's build generates trace code with."""
    return [sys.executable, str(tree / "scripts" / "tracetool.py"), "--backends=log", "--group=hw_net_labnic"]
