# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel modules, built for one kernel from a copy of their sources, so that the checkout stays clean.

The driver, and the observer that judges it; each has a tree and a place in the cache of its own, so that an edit of one
builds nothing of the other.
"""

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
class Module:
    """A kernel module of this project: what it is called in messages, its folder, its name, headers from elsewhere."""

    what: str
    folder: Path
    name: str
    headers: tuple[Path, ...] = ()

    @property
    def file(self) -> str:
        """Name of the built module."""
        return f"{self.name}.ko"


DRIVER = Module("driver", Path("kernel-driver"), "labnic", (HEADER,))
OBSERVER = Module("observer", Path("kernel-driver") / "contract", "netdev_contract")


@dataclass(frozen=True)
class Driver:
    """A built module: ``module`` is the file that the kernel loads, ``log`` what the compiler said."""

    module: Path
    log: Path


def driver_sources(project: Path = PROJECT, module: Module = DRIVER) -> list[Path]:
    """The files that the module is built from. Raises :class:`BuildError` when there are none."""
    folder = project / module.folder
    found = sorted({file for pattern in SOURCES for file in folder.glob(pattern) if not file.name.endswith(".mod.c")})
    if not any(file.suffix == ".c" for file in found):
        raise BuildError(f"{folder} has no {module.what} sources")
    headers = [project / header for header in module.headers]
    for header in headers:
        if not header.is_file():
            raise BuildError(f"{header} is missing", hint="make it with: make gen")
    return [*found, *headers]


def build_driver(kernel: Kernel, cache: Cache, progress: Progress, project: Path = PROJECT) -> Driver:
    """``labnic.ko`` for ``kernel``. Raises :class:`BuildError` with what the compiler said when it fails."""
    return build_module(DRIVER, kernel, cache, progress, project)


def build_observer(kernel: Kernel, cache: Cache, progress: Progress, project: Path = PROJECT) -> Driver:
    """``netdev_contract.ko`` for ``kernel``. Raises :class:`BuildError` as :func:`build_driver` does."""
    return build_module(OBSERVER, kernel, cache, progress, project)


def build_module(module: Module, kernel: Kernel, cache: Cache, progress: Progress, project: Path = PROJECT) -> Driver:
    """A module for ``kernel``. Raises :class:`BuildError` with what the compiler said when it fails."""
    files = driver_sources(project, module)
    key: dict[str, JsonValue] = {"kernel": kernel.identity, "flags": FLAGS, "files": hash_files(files, project)}

    def make(folder: Path) -> None:
        if package := missing_compiler(kernel):
            raise PrerequisiteError(
                f"kernel {kernel.name} is built with {package}, which is not installed",
                hint=f"sudo apt-get install -y --no-install-recommends {package}",
            )
        with progress.phase(f"{module.what} for {kernel.name}"):
            _make(module, kernel, cache, project, files, folder)

    entry = cache.entry(module.what, key, make, keep=40)
    return Driver(entry / module.file, entry / "build.log")


def _make(module: Module, kernel: Kernel, cache: Cache, project: Path, files: list[Path], folder: Path) -> None:
    """Build in a tree that stays, one for each kernel, so that an edit compiles one file and not all."""
    work = cache.root / "work" / module.what / cache.name({"kernel": kernel.identity, "flags": FLAGS})
    tree, unfinished = work / "tree", work / "unfinished"
    log = folder / "build.log"
    with cache.lock(f"{module.what}-work-{work.name}"):
        if unfinished.exists():
            # Killed in the midst of a build: a half-written object would look up to date for ever.
            shutil.rmtree(work)
        _synchronize(files, project, tree, module.folder)
        unfinished.touch()
        try:
            tool.run(
                [
                    "make",
                    "-C",
                    kernel.kdir,
                    f"M={tree / module.folder}",
                    f"-j{os.cpu_count() or 1}",
                    *FLAGS,
                    "modules",
                ],
                what=f"building the {module.what} for {kernel.name}",
                log=log,
                cwd=tree,
            )
        except BuildError as error:
            unfinished.unlink()
            raise _readable(error, log, cache.root / "logs" / f"{module.what}.log", tree, project) from error
        shutil.copyfile(tree / module.folder / module.file, folder / module.file)
        unfinished.unlink()
    log.write_text(log.read_text(errors="replace").replace(str(tree), str(project)))


def _synchronize(files: list[Path], project: Path, tree: Path, folder: Path = DRIVER.folder) -> None:
    """Make ``tree`` hold copies of exactly these sources, in the folders of the checkout; what is unchanged stays."""
    wanted = {tree / file.relative_to(project): file for file in files}
    for copy, file in wanted.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        # Not the time of the original: it may be older than an object built from another version.
        if not copy.exists() or copy.read_bytes() != file.read_bytes():
            shutil.copyfile(file, copy)
    for pattern in SOURCES:
        for stale in (tree / folder).glob(pattern):
            if stale not in wanted and not stale.name.endswith(".mod.c"):
                stale.unlink()


def _readable(error: BuildError, log: Path, kept: Path, tree: Path, project: Path) -> BuildError:
    """The same error with the paths of the checkout and a log that outlives the failed entry."""
    text = log.read_text(errors="replace").replace(str(tree), str(project))
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(text)
    lines = text.splitlines()
    first = next((index for index, line in enumerate(lines) if re.search(r"\b(error|ERROR):", line)), None)
    shown = lines[-tool.LAST_LINES :] if first is None else lines[max(first - 3, 0) : first - 3 + tool.LAST_LINES]
    return BuildError(error.message, hint=f"whole log: {kept}", log=shown)
