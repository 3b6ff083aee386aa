# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU with the device: the installed one with a plugin, or one built from source with the device in its tree."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from labnic.build import qemusource, tool
from labnic.build.apt import Apt, Pin
from labnic.build.cache import PROJECT, Cache, JsonValue, hash_files
from labnic.build.progress import Progress
from labnic.errors import BuildError

DEVICE = PROJECT / "qemu-device"
GUARD, DEVICE_OBJECT = "labnic.so", "labnic-device.so"
"""The object that is preloaded, and the one beside it that it loads once the QEMU has proved to be the right one."""

CFLAGS = [
    "-std=gnu11",
    "-O2",
    "-g",
    "-m64",
    "-mcx16",
    "-fPIC",
    "-pthread",
    "-fvisibility=hidden",
    "-fno-strict-aliasing",
    "-fno-common",
    "-fwrapv",
    "-fstack-protector-strong",
    "-D_GNU_SOURCE",
    "-D_FILE_OFFSET_BITS=64",
    "-D_LARGEFILE_SOURCE",
]
"""As QEMU itself is compiled: layouts and arithmetic must be the same."""

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wundef",
    "-Wwrite-strings",
    "-Wno-unused-parameter",
    "-Wno-sign-compare",
    "-Wno-missing-field-initializers",
    "-Werror",
]
"""The three that are off are those that QEMU's own headers give."""


class QemuSettings(Protocol):
    """The part of a lab's configuration that chooses a QEMU."""

    @property
    def source(self) -> str:
        """``packaged`` or ``overlay``."""
        ...

    @property
    def binary(self) -> Path | None:
        """A program to use in place of the package's; the guard refuses one of another version."""
        ...


class HasQemu(Protocol):
    """A lab's configuration, as far as this module looks."""

    @property
    def qemu(self) -> QemuSettings:
        """The choice of QEMU."""
        ...


@dataclass(frozen=True)
class QemuBuild:
    """A QEMU to start: ``plugin`` goes into its LD_PRELOAD unless None, ``data_dirs`` each after a ``-L``.

    ``version`` is what ``--version`` prints; ``source`` the source tree it was built from (or, for the packaged one,
    that its headers come from); ``include_flags`` compile device code against it.
    """

    binary: Path
    plugin: Path | None
    version: str
    data_dirs: tuple[Path, ...]
    source: Path
    include_flags: tuple[str, ...]

    @property
    def counts(self) -> bool:
        """Whether plugins for TCG can be built for it; the packaged one has another interface for them, if any."""
        return self.plugin is None


def build_qemu(config: HasQemu, cache: Cache, progress: Progress, project: Path = PROJECT) -> QemuBuild:
    """The QEMU that ``config`` chooses, with the device as ``project`` has it now.

    Raises :class:`BuildError` with what the compiler said, :class:`PrerequisiteError` when QEMU is not installed or its
    source cannot be had.
    """
    if config.qemu.source == "overlay":
        return _overlay(cache, progress, project / "qemu-device")
    binary = config.qemu.binary or qemusource.qemu_table().packaged.binary
    version = qemusource.program_version(binary)
    tree = qemusource.headers(cache, progress)
    plugin = _plugin(tree, version, cache, progress, project / "qemu-device")
    return QemuBuild(binary, plugin / GUARD, version, (), tree, tuple(include_flags(tree)))


# The plugin


def include_flags(tree: Path, device: Path = DEVICE) -> list[str]:
    """Where a device finds its headers and QEMU's; ``tree`` has the generated ones in ``build``."""
    build = tree / "build"
    quoted = [device, build, tree, tree / "include", tree / "tcg" / "i386"]
    quoted += [tree / "host" / "include" / "x86_64", tree / "host" / "include" / "generic"]
    flags = [word for folder in quoted for word in ("-iquote", str(folder))]
    packages = tool.output(["pkg-config", "--cflags", "glib-2.0", "pixman-1"], what="finding glib and pixman")
    return [*flags, "-isystem", str(tree / "linux-headers"), *shlex.split(packages)]


def _plugin(tree: Path, version: str, cache: Cache, progress: Progress, device: Path) -> Path:
    units = [*sorted(device.glob("*.c")), device / "plugin" / "labnic_sizes.c"]
    guard = device / "plugin" / "labnic_guard.c"
    missing = [str(file) for file in (*units, guard, device / "include" / "labnic_hw.h") if not file.is_file()]
    if missing:
        raise BuildError(f"the device lacks {', '.join(missing)}", hint="a missing labnic_hw.h is made with: make gen")
    common: dict[str, JsonValue] = {
        "headers": tree.parent.name,
        "flags": [*CFLAGS, *WARNINGS],
        "compiler": tool.output(["gcc", "-dumpfullversion", "-dumpmachine"], what="asking gcc for its version"),
        "files": hash_files([*device.rglob("*.h"), device / "trace-events"], device),
    }
    key = {**common, "version": version, "units": hash_files([*units, guard], device)}

    def make(folder: Path) -> None:
        with progress.phase("device plugin"):
            progress.note(f"QEMU {version}")
            log = cache.root / "logs" / "device.log"
            log.unlink(missing_ok=True)
            trace = _trace(tree, device, common, cache)
            includes = ["-iquote", str(trace), *include_flags(tree, device)]
            jobs = [(unit, WARNINGS) for unit in units] + [(trace / "trace" / "trace-hw_net_labnic.c", [])]
            with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                tasks = [pool.submit(_object, unit, [*flags, *includes], common, cache, log) for unit, flags in jobs]
                objects = [task.result() for task in tasks]
            # Undefined symbols are QEMU's own and are found when it loads the object.
            link: list[str | Path] = ["gcc", "-shared", "-o", folder / DEVICE_OBJECT, *objects]
            tool.run(link, what="linking the device", log=log)
            baked = f'-DLABNIC_QEMU_BUILD="{version}"'
            glib = tool.output(["pkg-config", "--libs", "glib-2.0"], what="finding glib").split()
            compile_guard = ["gcc", *CFLAGS, *WARNINGS, baked, *includes]
            tool.run(
                [*compile_guard, "-shared", "-o", folder / GUARD, guard, *glib, "-ldl"],
                what="building the plugin's guard",
                log=log,
            )

    return cache.entry("plugin", key, make, keep=40)


def _trace(tree: Path, device: Path, common: Mapping[str, JsonValue], cache: Cache) -> Path:
    """The trace code, as ``trace/trace-hw_net_labnic.[ch]`` below the returned folder."""
    events = device / "trace-events"
    key: dict[str, JsonValue] = {"headers": common["headers"], "events": hash_files([events], device)}

    def make(folder: Path) -> None:
        (folder / "trace").mkdir()
        for form in ("h", "c"):
            out = folder / "trace" / f"trace-hw_net_labnic.{form}"
            log = cache.root / "logs" / "trace.log"
            command = [*qemusource.tracetool(tree), f"--format={form}", "trace-events"]
            tool.run([*command, out], what="generating the trace code", log=log, cwd=device)

    return cache.entry("device-trace", key, make, keep=10)


def _object(unit: Path, flags: Sequence[str], common: Mapping[str, JsonValue], cache: Cache, log: Path) -> Path:
    """One compiled file, kept by the content of it and of every header, so that an edit compiles one file."""
    key: dict[str, JsonValue] = {**common, "unit": hash_files([unit], unit.parent), "name": unit.name}

    def make(folder: Path) -> None:
        own = log.with_name(f"device-{unit.stem}.log")
        own.unlink(missing_ok=True)
        command = ["gcc", *CFLAGS, *flags, "-c"]
        tool.run([*command, unit, "-o", folder / "unit.o"], what=f"compiling {unit.name}", log=own)

    return cache.entry("device-object", key, make, keep=200) / "unit.o"


# The overlay


def _overlay(cache: Cache, progress: Progress, device: Path) -> QemuBuild:
    wanted = qemusource.qemu_table().overlay
    apt = Apt(cache, wanted.release, progress)
    pin = qemusource.release_source(apt, wanted.package)
    patterns = ("*.c", "*.h", "trace-events", "include/*.h", "overlay/*")
    files = [file for pattern in patterns for file in device.glob(pattern)]
    key: dict[str, JsonValue] = {
        "source": str(pin),
        "configure": wanted.configure,
        "devices": wanted.devices,
        "files": hash_files(files, device),
        "layout": qemusource.LAYOUT,
    }
    fetched = cache.entry("qemu-tree", {"source": str(pin)}, lambda folder: _fetch(apt, pin, folder, progress), keep=2)
    tree = fetched / "tree"

    def make(folder: Path) -> None:
        with progress.phase(f"QEMU from source, {pin.version}"):
            work = cache.root / "overlay" / cache.name({"source": str(pin), "configure": wanted.configure})
            with cache.lock("overlay-tree"):
                built = _build_overlay(tree, work, wanted, device, cache.root / "logs" / "qemu-overlay.log")
                shutil.copy2(built, folder / "qemu-system-x86_64")

    entry = cache.entry("qemu-overlay", key, make, keep=8)
    binary = entry / "qemu-system-x86_64"
    version = qemusource.program_version(binary)
    return QemuBuild(binary, None, version, wanted.data, tree, ())


def _fetch(apt: Apt, pin: Pin, folder: Path, progress: Progress) -> None:
    with progress.phase("QEMU source"):
        qemusource.unpack(apt, pin, folder)


def _build_overlay(tree: Path, work: Path, wanted: qemusource.Overlay, device: Path, log: Path) -> Path:
    """Build in ``work``, which stays: after an edit of the device only the changed files are compiled.

    ``work`` is a plain build directory and no result; an interrupted build goes on where it stopped.
    """
    source, build = work / "tree", work / "tree" / "build"
    log.unlink(missing_ok=True)
    if not (work / "copied").exists():
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(tree, source, symlinks=True)
        (work / "copied").touch()
    devices = source / "configs" / "devices" / "x86_64-softmmu" / "labnic.mak"
    text = "".join(f"CONFIG_{name}=y\n" for name in wanted.devices)
    if not devices.exists() or devices.read_text() != text:
        devices.write_text(text)
    tool.run(["sh", device / "overlay" / "install.sh", source], what="putting the device into QEMU's source", log=log)
    # The venv's meson: newer sources ask for a newer one than the oldest Debian that we run on has.
    path = f"{Path(sys.executable).parent}:{tool.clean_environment()['PATH']}"
    if not (build / "build.ninja").exists():
        shutil.rmtree(build, ignore_errors=True)
        build.mkdir()
        command = ["../configure", f"--python={sys.executable}", *wanted.configure]
        tool.run(command, what="configuring QEMU", log=log, cwd=build, env={"PATH": path})
    limit = 3600.0
    tool.run(["ninja", "qemu-system-x86_64"], what="building QEMU", log=log, cwd=build, env={"PATH": path}, limit=limit)
    return build / "qemu-system-x86_64"
