# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver, built for one kernel from a copy of its sources, so that the checkout stays clean."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from labnic.build import tool
from labnic.build.cache import PROJECT, Cache, JsonValue, hash_files
from labnic.build.kernel import missing_compiler
from labnic.build.kerneltable import Kernel
from labnic.build.progress import Progress
from labnic.errors import BuildError, PrerequisiteError

SOURCES = ("*.c", "*.h", "Kbuild", "Makefile")
HEADER = Path("qemu-device") / "include" / "labnic_hw.h"
FLAGS = ("W=1", "KCFLAGS=-Werror")
"""Every warning that the kernel's own strict mode gives is an error."""


@dataclass(frozen=True)
class Driver:
    """A built driver: ``module`` is its ``labnic.ko``, ``log`` what the compiler said."""

    module: Path
    log: Path


def driver_sources(project: Path = PROJECT) -> list[Path]:
    """The files that the driver is built from. Raises :class:`BuildError` when there are none."""
    folder = project / "kernel-driver"
    found = sorted({file for pattern in SOURCES for file in folder.glob(pattern) if not file.name.endswith(".mod.c")})
    if not any(file.suffix == ".c" for file in found):
        raise BuildError(f"{folder} has no driver sources")
    header = project / HEADER
    if not header.is_file():
        raise BuildError(f"{header} is missing", hint="make it with: make gen")
    return [*found, header]


def build_driver(kernel: Kernel, cache: Cache, progress: Progress, project: Path = PROJECT) -> Driver:
    """``labnic.ko`` for ``kernel``. Raises :class:`BuildError` with what the compiler said when it fails."""
    files = driver_sources(project)
    key: dict[str, JsonValue] = {"kernel": kernel.identity, "flags": FLAGS, "files": hash_files(files, project)}

    def make(folder: Path) -> None:
        if package := missing_compiler(kernel):
            raise PrerequisiteError(
                f"kernel {kernel.name} is built with {package}, which is not installed",
                hint=f"sudo apt-get install -y --no-install-recommends {package}",
            )
        with progress.phase(f"driver for {kernel.name}"):
            _make(kernel, cache, project, files, folder)

    entry = cache.entry("driver", key, make, keep=40)
    return Driver(entry / "labnic.ko", entry / "build.log")


def _make(kernel: Kernel, cache: Cache, project: Path, files: list[Path], folder: Path) -> None:
    """Build in a tree that stays, one for each kernel, so that an edit compiles one file and not all."""
    work = cache.root / "work" / "driver" / cache.name({"kernel": kernel.identity, "flags": FLAGS})
    tree, unfinished = work / "tree", work / "unfinished"
    log = folder / "build.log"
    with cache.lock(f"driver-work-{work.name}"):
        if unfinished.exists():
            # Killed in the midst of a build: a half-written object would look up to date for ever.
            shutil.rmtree(work)
        _synchronize(files, project, tree)
        unfinished.touch()
        try:
            tool.run(
                [
                    "make",
                    "-C",
                    kernel.kdir,
                    f"M={tree / 'kernel-driver'}",
                    f"-j{os.cpu_count() or 1}",
                    *FLAGS,
                    "modules",
                ],
                what=f"building the driver for {kernel.name}",
                log=log,
                cwd=tree,
            )
        except BuildError as error:
            unfinished.unlink()
            raise _readable(error, log, cache, tree, project) from error
        shutil.copyfile(tree / "kernel-driver" / "labnic.ko", folder / "labnic.ko")
        unfinished.unlink()
    log.write_text(log.read_text(errors="replace").replace(str(tree), str(project)))


def _synchronize(files: list[Path], project: Path, tree: Path) -> None:
    """Make ``tree`` hold copies of exactly these sources, in the folders of the checkout; what is unchanged stays."""
    wanted = {tree / file.relative_to(project): file for file in files}
    for copy, file in wanted.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        # Not the time of the original: it may be older than an object built from another version.
        if not copy.exists() or copy.read_bytes() != file.read_bytes():
            shutil.copyfile(file, copy)
    for pattern in SOURCES:
        for stale in (tree / "kernel-driver").glob(pattern):
            if stale not in wanted and not stale.name.endswith(".mod.c"):
                stale.unlink()


def _readable(error: BuildError, log: Path, cache: Cache, tree: Path, project: Path) -> BuildError:
    """The same error with the paths of the checkout and a log that outlives the failed entry."""
    text = log.read_text(errors="replace").replace(str(tree), str(project))
    kept = cache.root / "logs" / "driver.log"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(text)
    lines = text.splitlines()
    first = next((index for index, line in enumerate(lines) if re.search(r"\b(error|ERROR):", line)), None)
    shown = lines[-tool.LAST_LINES :] if first is None else lines[max(first - 3, 0) : first - 3 + tool.LAST_LINES]
    return BuildError(error.message, hint=f"whole log: {kept}", log=shown)
