# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel built from the distribution's source, configured by fragments that say what is wanted.

Everything that no fragment names is off, so that the build takes minutes. The source and the objects lie in a work
folder while the build is unfinished: an interrupted one goes on where it stopped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from labnic import bootstrap
from labnic.build import packages, tool
from labnic.build.apt import Apt, Pin
from labnic.build.cache import PROJECT, Cache, JsonValue, hash_files
from labnic.build.kerneltable import BuiltKernel, Kernel
from labnic.build.progress import Progress
from labnic.errors import BuildError, PrerequisiteError

LAYOUT = 1
"""Raised whenever the same source and configuration give another cache entry."""

BUILD_LIMIT = 5400.0
"""Seconds that the compilation may take: nine minutes on two idle cores, many times that on a busy machine."""

REPORT_INTERVAL = 20.0
"""Seconds between two lines that say how far the compilation is."""

HEADERS = (
    ".config",
    ".kernelvariables",
    "Makefile",
    "Module.symvers",
    "arch/x86/Makefile*",
    "arch/x86/include",
    "include",
    "scripts",
    "tools/objtool/objtool",
)
"""What a module's build reads of the built tree."""

EPOCH = "Thu Jan  1 00:00:00 UTC 1970"
"""The time that the kernel says it was built at: the same input gives the same kernel."""

_OPTION = re.compile(r"(?:# )?(CONFIG_\w+)(?:=(.*)| is not set)$")


def build_kernel(name: str, source: BuiltKernel, cache: Cache, progress: Progress) -> Kernel:
    """The kernel of an entry in ``images/kernels.yaml``, built unless the cache has it.

    Raises :class:`PrerequisiteError` when packages of the host are missing and cannot be installed,
    :class:`BuildError` when the source cannot be had, an option is not to be had in it, or the compiler fails.
    """
    apt = Apt(cache, source.release, progress)
    known = apt.remembered(f"kernel-{name}", lambda: [str(_newest(apt, source))])
    pin = Pin(*str(known[0]).split("=", 1)) if isinstance(known, Sequence) else Pin("", "")
    folder = PROJECT / "images" / source.config
    fragments = sorted(folder.glob("*.config"))
    if not fragments:
        raise BuildError(f"{folder} has no files *.config", hint=f"see config of {name!r} in images/kernels.yaml")
    key: dict[str, JsonValue] = {
        "source": str(pin),
        "config": hash_files(fragments, folder),
        "compiler": _compiler_version(name, source),
        "layout": LAYOUT,
    }

    built: list[_Build] = []

    def make(target: Path) -> None:
        build = _Build(name, source, pin, fragments, cache, progress)
        bootstrap.require("kernel", cache.root)
        with progress.phase(f"kernel {name}"):
            progress.note(f"kernel {name}: compiled from Debian's {pin}; that takes minutes, once")
            build.run(target)
            built.append(build)

    entry = cache.entry("kernel-built", key, make, keep=2)
    for build in built:
        build.clear()
    release = (entry / "release").read_text().strip()
    return Kernel(
        name=name,
        release=release,
        vmlinux=entry / "vmlinux",
        modules=entry / "lib" / "modules" / release,
        kdir=entry / "headers",
        config=entry / "config",
        compiler=source.compiler,
        pins=(pin,),
        memory=source.memory,
        slower=source.slower,
        parameters=source.cmdline,
        build=entry.name,
    )


def _newest(apt: Apt, source: BuiltKernel) -> Pin:
    return Pin(source.source, apt.show(source.source, source.suite)["Version"])


def _compiler_version(name: str, source: BuiltKernel) -> str:
    if shutil.which(source.compiler, path=tool.clean_environment()["PATH"]) is None:
        raise PrerequisiteError(
            f"kernel {name} is built with {source.compiler}, which is not installed",
            hint=f"sudo apt-get install -y --no-install-recommends {source.compiler}",
        )
    return tool.output([source.compiler, "-dumpfullversion", "-dumpmachine"], what="asking the compiler's version")


class _Build:
    """One build, from the source package to the cache entry."""

    def __init__(
        self, name: str, source: BuiltKernel, pin: Pin, fragments: Sequence[Path], cache: Cache, progress: Progress
    ) -> None:
        self.name = name
        self.source = source
        self.pin = pin
        self.fragments = fragments
        self.cache = cache
        self.progress = progress
        self.work = cache.root / "work" / "kernel" / cache.name({"source": str(pin), "leave_out": source.leave_out})
        self.tree = self.work / "tree"
        self._unpacked = self.work / "unpacked"
        self.log = cache.root / "logs" / f"kernel-{name}-{self.work.name[:8]}.log"

    def run(self, target: Path) -> None:
        """Fill the cache entry ``target``."""
        with self._lock():
            self.log.unlink(missing_ok=True)
            self._unpack()
            self._configure()
            self._compile()
            self._install(target)

    def clear(self) -> None:
        """Remove what was only needed until the entry was complete: source and objects, gigabytes."""
        # Another process may build from this source by now, with another configuration: then it is not ours to remove.
        with suppress(BuildError), self._lock(0.0):
            # Half removed it must not look like a build to go on with.
            self._unpacked.unlink(missing_ok=True)
            shutil.rmtree(self.work, ignore_errors=True)

    def _lock(self, limit: float = BUILD_LIMIT) -> AbstractContextManager[None]:
        return self.cache.lock(f"kernel-work-{self.work.name}", limit)

    def _unpack(self) -> None:
        if self._unpacked.exists():
            self.progress.note(f"kernel {self.name}: going on with the build that was interrupted")
            return
        shutil.rmtree(self.work, ignore_errors=True)
        options = ["--strip-components=1", *(f"--exclude={pattern}" for pattern in self.source.leave_out)]
        unpack_source(Apt(self.cache, self.source.release, self.progress), self.pin, self.tree, options)
        self._unpacked.touch()

    def _configure(self) -> None:
        # Read by every make in this tree, that of a module included: the same compiler for all.
        (self.tree / ".kernelvariables").write_text(f"override CC = {self.source.compiler}\n")
        wanted = self.work / "wanted.config"
        wanted.write_text("".join(path.read_text() for path in self.fragments))
        self._make(["allnoconfig"], "configuring the kernel", variables={"KCONFIG_ALLCONFIG": str(wanted)})
        missing = unmet(self.fragments, (self.tree / ".config").read_text())
        if missing:
            raise BuildError(
                f"{self.pin} cannot be configured as {self.fragments[0].parent} asks: {len(missing)} lines are not met",
                hint="an option may have another name in this version, or lack one that it depends on",
                log=missing,
            )

    def _compile(self) -> None:
        with self._reports():
            self._make(["vmlinux", "modules"], "compiling the kernel", limit=BUILD_LIMIT)

    def _make(
        self, goals: Sequence[str], what: str, *, variables: Mapping[str, str] | None = None, limit: float = 300.0
    ) -> None:
        # Printed at the boot; without these the kernel would name this machine and its user.
        fixed = {"KBUILD_BUILD_USER": "labnic", "KBUILD_BUILD_HOST": "labnic", "KBUILD_BUILD_TIMESTAMP": EPOCH}
        argv = ["make", f"-j{(os.cpu_count() or 1) + 1}", f"HOSTCC={self.source.compiler}", *goals]
        try:
            tool.run(argv, what=what, log=self.log, cwd=self.tree, env={**fixed, **(variables or {})}, limit=limit)
        except BuildError as error:
            said = self.log.read_text(errors="replace").splitlines()
            first = next((number for number, line in enumerate(said) if re.search(r"\berror:|\*\*\* ", line)), None)
            log = error.log if first is None else said[max(first - 3, 0) :][: tool.LAST_LINES]
            raise BuildError(error.message, hint=f"whole log: {self.log}", log=log) from error

    @contextmanager
    def _reports(self) -> Iterator[None]:
        """Lines that say how many files are compiled, from a thread of their own."""
        before = sum(1 for _ in self.tree.rglob("*.o"))
        ended = threading.Event()

        def report() -> None:
            while not ended.wait(REPORT_INTERVAL):
                count = before + compiled(self.log.read_bytes())
                share = min(99, 100 * count // self.source.files)
                self.progress.note(f"kernel {self.name}: {count} of about {self.source.files} files, {share} %")

        thread = threading.Thread(target=report, name="labnic-kernel", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _install(self, target: Path) -> None:
        release = (self.tree / "include" / "config" / "kernel.release").read_text().strip()
        (target / "release").write_text(release + "\n")
        shutil.copyfile(self.tree / "vmlinux", target / "vmlinux")
        shutil.copyfile(self.tree / ".config", target / "config")
        # depmod looks for what is installed and finds it below another root; the index is made afterwards.
        self._make([f"INSTALL_MOD_PATH={target}", "DEPMOD=true", "modules_install"], "collecting the kernel's modules")
        index_modules(target, release, self.log)
        copy_headers(self.tree, target / "headers")


def unmet(fragments: Sequence[Path], config: str) -> list[str]:
    """The lines of the fragments that the final configuration does not have, each with its place and what is there."""
    final = {match[1]: match[2] or "n" for match in map(_OPTION.match, config.splitlines()) if match}
    missing = []
    for path in fragments:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = _OPTION.match(line)
            if match and final.get(match[1], "n") != (match[2] or "n"):
                missing.append(f"{path.name}:{number}: {line}, but it is {final.get(match[1], 'not there')}")
    return missing


def compiled(log: bytes) -> int:
    """How many files were compiled, by what make said."""
    return len(re.findall(rb"^  (?:CC|AS)(?: \[M\])? ", log, re.MULTILINE))


def copy_headers(tree: Path, target: Path) -> None:
    """Copy what the builds of modules need of a built tree; objects and commands of the scripts are left out."""
    leave_out = shutil.ignore_patterns("*.o", "*.cmd", "*.a", "dtc", "kconfig", "dt-bindings", "selinux")
    for pattern in HEADERS:
        found = list(tree.glob(pattern))
        if not found:
            raise BuildError(f"the built kernel has no {pattern}, which the builds of modules need")
        for path in found:
            place = target / path.relative_to(tree)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, place, symlinks=True, ignore=leave_out)
            else:
                shutil.copy2(path, place)


def unpack_source(apt: Apt, pin: Pin, folder: Path, options: Sequence[str]) -> None:
    """Unpack the archive in a package ``linux-source-X`` into ``folder``, with ``options`` of tar."""
    download = folder.parent / f".download-{folder.name}"
    shutil.rmtree(download, ignore_errors=True)
    try:
        packages.unpack(apt.download([pin], download)[pin.name], download)
        archives = list(download.glob("usr/src/linux-source-*.tar.xz"))
        if len(archives) != 1:
            raise BuildError(f"the package {pin} has {len(archives)} source archives, not one")
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["tar", "-xJf", archives[0], "-C", folder, "--no-same-owner", *options],
            env=tool.clean_environment(),
            check=True,
            stderr=subprocess.PIPE,
            timeout=300,
        )
    except subprocess.CalledProcessError as error:
        lines = bytes(error.stderr).decode(errors="replace").splitlines()
        raise BuildError(f"the source of {pin} cannot be unpacked", log=lines) from error
    finally:
        shutil.rmtree(download, ignore_errors=True)


def index_modules(root: Path, release: str, log: Path) -> None:
    """``modules.dep`` and its kind; a package leaves them to its installation script."""
    for stray in ("build", "source"):
        (root / "lib" / "modules" / release / stray).unlink(missing_ok=True)
    order = root / "lib" / "modules" / release / "modules.order"
    if order.exists():
        order.write_text(re.sub(r"\.ko\.(xz|zst)$", ".ko", order.read_text(), flags=re.M))
    tool.run(["depmod", "-b", root, release], what=f"indexing the modules of {release}", log=log)
