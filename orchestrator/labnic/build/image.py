# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's root file system: three archives in one file, so that an edit of the driver rewrites only the last.

Programs of the distribution with the libraries that they link to; modules of the kernel; the project's own modules.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from labnic.build import cpio, packages, tool
from labnic.build.apt import Apt, Pin
from labnic.build.cache import PROJECT, Cache, JsonValue, hash_files
from labnic.build.driver import Driver
from labnic.build.kerneltable import Kernel
from labnic.build.progress import Progress
from labnic.errors import BuildError, ConfigError

IMAGES = PROJECT / "images"
DRIVER_IN_GUEST = "/lib/modules/labnic.ko"
"""Where the guest finds the driver; `modprobe labnic` finds it too."""

INITTAB = "ttyS0::respawn:-/bin/bash\n::ctrlaltdel:/usr/bin/poweroff\n"
"""For busybox's init, after our own: a login shell on the serial console, again whenever it ends."""

PROFILE = "export PATH=/sbin:/usr/sbin:/bin:/usr/bin HOME=/root PS1='\\h:\\w\\$ '\ncd\n"
"""Of the login shell."""

LAYOUT = 4
"""Raised whenever the same inputs give another archive."""


class GuestTable(BaseModel):
    """The whole of ``images/guest.yaml``; the file explains the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    release: str
    packages: tuple[str, ...]
    dependencies: str
    programs: tuple[str, ...]
    links: Mapping[str, str]
    modules: tuple[str, ...]
    cmdline: tuple[str, ...]


def guest_table(path: Path = IMAGES / "guest.yaml") -> GuestTable:
    """The description of the guest. Raises :class:`ConfigError` when the file is wrong."""
    try:
        return GuestTable.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path} cannot be used: {error}") from error


def guest_cmdline() -> tuple[str, ...]:
    """The words of the kernel's command line that every guest needs."""
    return guest_table().cmdline


def build_image(
    kernel: Kernel, driver: Driver | None, cache: Cache, progress: Progress, more: Sequence[Driver] = ()
) -> Path:
    """The initramfs for ``kernel``, with ``driver`` unless it is None and the modules ``more`` for `modprobe`.

    Raises :class:`BuildError` when a program, library or module of ``images/guest.yaml`` is not to be found.
    """
    guest = guest_table()
    base = _base(guest, cache, progress)
    modules = _modules(guest, kernel, cache, progress)
    parts = [base / "base.cpio", modules / "modules.cpio"]
    own = [*([driver] if driver else []), *more]
    key: dict[str, JsonValue] = {
        "base": base.name,
        "modules": modules.name,
        "layout": LAYOUT,
        "driver": driver is not None,
        "own": [hash_files([built.module], built.module.parent) for built in own],
    }

    def make(folder: Path) -> None:
        with (folder / "initramfs.cpio").open("wb") as out:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, out, 1 << 20)
            if own:
                members = _own(own, modules / "root", kernel.release, folder / "work", cache)
                if driver:
                    members[DRIVER_IN_GUEST.lstrip("/")] = cpio.symlink(f"{kernel.release}/extra/{driver.module.name}")
                cpio.write(out, members)

    return cache.entry("image", key, make, keep=12) / "initramfs.cpio"


def _own(built: Sequence[Driver], modules: Path, release: str, work: Path, cache: Cache) -> dict[str, cpio.Node]:
    """Our modules, and indices that know them: files of a later archive replace those of an earlier one."""
    shutil.copytree(modules, work)
    home = Path("lib") / "modules" / release
    (work / home / "extra").mkdir()
    members: dict[str, cpio.Node] = {}
    for one in built:
        place = home / "extra" / one.module.name
        # The guest has no use for the debugging information, nine tenths of the file; a debugger takes the built one.
        log = cache.root / "logs" / "strip.log"
        tool.run(["strip", "--strip-debug", "-o", work / place, one.module], what=f"stripping {place.name}", log=log)
        members[place.as_posix()] = cpio.file((work / place).read_bytes())
    _index(work, release, cache)
    for index in (work / home).glob("modules.*"):
        members[(home / index.name).as_posix()] = cpio.file(index.read_bytes())
    shutil.rmtree(work)
    return members


def _index(root: Path, release: str, cache: Cache) -> None:
    log = cache.root / "logs" / "depmod.log"
    tool.run(["depmod", "-b", root, release], what="indexing the guest's modules", log=log)


# Programs


def _base(guest: GuestTable, cache: Cache, progress: Progress) -> Path:
    apt = Apt(cache, guest.release, progress)
    accept = re.compile(guest.dependencies)

    def ask() -> JsonValue:
        return [str(pin) for pin in apt.closure(guest.packages, lambda name: bool(accept.match(name)))]

    # The question's name carries the list, so that an edited list asks anew.
    question = Cache.name({"packages": guest.packages, "dependencies": guest.dependencies})
    known = apt.remembered(f"guest-{question}", ask)
    pins = [Pin(*str(text).split("=", 1)) for text in known] if isinstance(known, Sequence) else []
    init = IMAGES / "init"
    key: dict[str, JsonValue] = {
        "packages": [str(pin) for pin in pins],
        "programs": guest.programs,
        "links": guest.links,
        "init": hash_files([init], IMAGES),
        "layout": LAYOUT,
    }

    def make(folder: Path) -> None:
        root = _unpacked(apt, pins, cache, progress)
        with progress.phase("guest programs"):
            members = _programs(guest, root)
            members["init"] = cpio.file(init.read_bytes(), 0o755)
            with (folder / "base.cpio").open("wb") as out:
                cpio.write(out, members)

    return cache.entry("guest-base", key, make, keep=4)


def _unpacked(apt: Apt, pins: Sequence[Pin], cache: Cache, progress: Progress) -> Path:
    """All packages of the guest, unpacked in one folder: kept, as an edit of ``init`` needs no download."""

    def make(folder: Path) -> None:
        with progress.phase("guest packages"):
            debs = apt.download(pins, folder / "debs")
            for deb in debs.values():
                packages.unpack(deb, folder / "root", ("./usr/share/*",))
            shutil.rmtree(folder / "debs")

    return cache.entry("guest-packages", {"packages": [str(pin) for pin in pins]}, make, keep=2) / "root"


def _programs(guest: GuestTable, root: Path) -> dict[str, cpio.Node]:
    members: dict[str, cpio.Node] = {
        "dev/console": cpio.character_device(5, 1),
        "dev/null": cpio.character_device(1, 3, 0o666),
        "etc/passwd": cpio.file(b"root:x:0:0:root:/root:/bin/sh\n"),
        "etc/group": cpio.file(b"root:x:0:\n"),
        "etc/hosts": cpio.file(b"127.0.0.1 localhost\n"),
        "etc/profile": cpio.file(PROFILE.encode()),
        "etc/inittab": cpio.file(INITTAB.encode()),
        "root": cpio.directory(0o700),
        "tmp": cpio.directory(0o1777),
    }
    for name in ("proc", "sys", "run", "var/run", "var/log", "mnt"):
        members[name] = cpio.directory()
    # Behind the links and programs of the table in PATH, so that those win.
    for applet in tool.output([root / "bin" / "busybox", "--list"], what="asking busybox for its commands").split():
        members[f"usr/bin/{applet}"] = cpio.symlink("/bin/busybox")
    for name, target in guest.links.items():
        members[name.lstrip("/")] = cpio.symlink(target)
    for program in guest.programs:
        file = root / program.lstrip("/")
        if not file.is_file():
            raise BuildError(f"images/guest.yaml names {program}, but none of its packages has that file")
        members[program.lstrip("/")] = cpio.file(file.read_bytes(), 0o755)
    for name, file in _libraries(root, [root / program.lstrip("/") for program in guest.programs]).items():
        members[name] = cpio.file(file.read_bytes(), 0o755)
    return members


def _libraries(root: Path, programs: Sequence[Path]) -> dict[str, Path]:
    """Every shared library that the programs, and their libraries, need, by its place in the guest."""
    places = [*root.glob("lib/*-linux-gnu"), *root.glob("usr/lib/*-linux-gnu"), root / "lib64"]
    found: dict[str, Path] = {}
    waiting = list(programs)
    while waiting:
        for name in _needed(waiting.pop()):
            at = f"lib64/{name}" if name.startswith("ld-linux") else f"lib/{name}"
            if at in found:
                continue
            file = next((place / name for place in places if (place / name).exists()), None)
            if file is None:
                raise BuildError(f"the library {name} is in none of the guest's packages", hint="see images/guest.yaml")
            found[at] = _inside(root, file)
            waiting.append(found[at])
    return found


def _inside(root: Path, path: Path) -> Path:
    """Follow links as the guest would: an absolute target means below ``root``."""
    for _ in range(10):
        if not path.is_symlink():
            return path
        target = path.readlink()
        path = root / str(target).lstrip("/") if target.is_absolute() else path.parent / target
    raise BuildError(f"{path} is a loop of links")


def _needed(program: Path) -> list[str]:
    """Names of the shared libraries that an ELF file asks for, its loader included."""
    text = tool.output(["readelf", "-W", "-d", "-l", program], what=f"reading {program.name}")
    names = re.findall(r"\(NEEDED\)\s+Shared library: \[([^\]]+)\]", text)
    return names + [Path(path).name for path in re.findall(r"program interpreter: ([^\]]+)\]", text)]


# Modules


def _modules(guest: GuestTable, kernel: Kernel, cache: Cache, progress: Progress) -> Path:
    chosen = select_modules(kernel.modules, guest.modules)
    key: dict[str, JsonValue] = {"kernel": kernel.identity, "modules": chosen, "layout": LAYOUT}

    def make(folder: Path) -> None:
        with progress.phase(f"guest modules of {kernel.name}"):
            target = folder / "root" / "lib" / "modules" / kernel.release
            for module in chosen:
                (target / module).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(kernel.modules / module, target / module)
            for index in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
                target.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(kernel.modules / index, target / index)
            _index(folder / "root", kernel.release, cache)
            with (folder / "modules.cpio").open("wb") as out:
                cpio.write(out, cpio.tree(folder / "root", ""))

    return cache.entry("guest-modules", key, make, keep=6)


def select_modules(modules: Path, names: Sequence[str]) -> list[str]:
    """The paths below ``modules`` (a ``lib/modules/RELEASE`` with its indices) of the named modules and all they need.

    A module that is built in is left out. Raises :class:`BuildError` for one that the kernel does not have.
    """
    needs = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    by_name = {_module_name(path): path for path in needs}
    builtin = {_module_name(path) for path in (modules / "modules.builtin").read_text().split()}
    chosen: set[str] = set()
    for name in names:
        plain = name.replace("-", "_")
        if plain in by_name:
            chosen |= {by_name[plain], *needs[by_name[plain]]}
        elif plain not in builtin:
            raise BuildError(
                f"the kernel {modules.name} has no module {name}",
                hint="see modules in images/guest.yaml, leave_out in kernels.yaml",
            )
    return sorted(chosen)


def _module_name(path: str) -> str:
    return Path(path).name.split(".")[0].replace("-", "_")
