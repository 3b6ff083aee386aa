# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels: an ELF that boots at once, the modules the guest may want, and headers that build a driver."""

from __future__ import annotations

import lzma
import os
import re
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import zstandard

from labnic.build import kernelbuild, packages, tool
from labnic.build.apt import Apt, Pin
from labnic.build.cache import Cache, JsonValue
from labnic.build.kerneltable import LAYOUT, BuiltKernel, Kernel, PackagedKernel, kernel_entry, kernel_table
from labnic.build.progress import Progress
from labnic.errors import BuildError, UsageError


def fetch_kernel(name: str, cache: Cache, progress: Progress) -> Kernel:
    """The kernel ``name`` (such as ``6.1``), downloaded and unpacked, or built, unless the cache has it.

    Raises :class:`UsageError` for an unknown name, :class:`PrerequisiteError` or :class:`BuildError` when the packages
    cannot be had.
    """
    source = kernel_entry(name)
    if isinstance(source, BuiltKernel):
        return kernelbuild.build_kernel(name, source, cache, progress)
    return _packaged(name, source, cache, progress)


def _packaged(name: str, source: PackagedKernel, cache: Cache, progress: Progress) -> Kernel:
    apt = Apt(cache, source.release, progress)
    known = apt.remembered(f"kernel-{name}", lambda: _resolve(apt, source))
    pins = tuple(Pin(*str(text).split("=", 1)) for text in known) if isinstance(known, Sequence) else ()
    release = next(pin.name for pin in pins if pin.name.startswith("linux-image-")).removeprefix("linux-image-")
    leave_out = kernel_table().leave_out
    key: dict[str, JsonValue] = {"packages": sorted(map(str, pins)), "leave_out": leave_out, "layout": LAYOUT}

    def make(folder: Path) -> None:
        with progress.phase(f"kernel {name}"):
            progress.note(f"kernel {name}: {release}, Debian's {pins[0].version}")
            _unpack(apt, pins, release, leave_out, folder)

    entry = cache.entry("kernel", key, make, keep=6)
    return Kernel(
        name=name,
        release=release,
        vmlinux=entry / "vmlinux",
        modules=entry / "lib" / "modules" / release,
        kdir=entry / "usr" / "src" / f"linux-headers-{release}",
        config=entry / "config",
        compiler=source.compiler,
        pins=pins,
    )


def _resolve(apt: Apt, source: PackagedKernel) -> list[JsonValue]:
    """``name=version`` of the image first, then of its headers' packages."""
    image = _real(apt, source.image, source.suite, r"linux-image-\d")
    headers = _real(apt, source.headers, source.suite, r"linux-headers-\d")
    pins = [image, headers]
    for name in _depends(apt.show(headers.name, source.suite), r"linux-(headers|kbuild)-\d"):
        pins.append(Pin(name, apt.show(name, source.suite)["Version"]))
    if image.version != headers.version:
        raise BuildError(
            f"the archive is between two kernels: image {image.version}, headers {headers.version}",
            hint="try again in an hour, or with another mirror",
        )
    return [str(pin) for pin in pins]


def _real(apt: Apt, meta: str, suite: str, pattern: str) -> Pin:
    names = _depends(apt.show(meta, suite), pattern)
    if len(names) != 1:
        raise BuildError(f"the package {meta} depends on {len(names)} packages like {pattern}, not on one")
    return Pin(names[0], apt.show(names[0], suite)["Version"])


def _depends(fields: Mapping[str, str], pattern: str) -> list[str]:
    """The names in ``Depends`` that match ``pattern``, first alternatives only."""
    words = [part.split()[0] for part in fields.get("Depends", "").split(",") if part.split()]
    return [word for word in words if re.match(pattern, word)]


def _unpack(apt: Apt, pins: Sequence[Pin], release: str, leave_out: Sequence[str], folder: Path) -> None:
    debs = folder / "debs"
    for deb in apt.download(pins, debs).values():
        packages.unpack(deb, folder, leave_out)
        deb.unlink()
    debs.rmdir()
    _flatten(folder)
    image = folder / "boot" / f"vmlinuz-{release}"
    (folder / "vmlinux").write_bytes(extract_vmlinux(image.read_bytes()))
    (folder / "boot" / f"config-{release}").rename(folder / "config")
    shutil.rmtree(folder / "boot")
    _uncompress_modules(folder / "lib" / "modules" / release)
    kernelbuild.index_modules(folder, release, apt.log)
    _relocate(folder / "usr" / "src", release)


def _flatten(folder: Path) -> None:
    """Debian 13 packages have modules under usr/lib; everything later looks in lib."""
    merged = folder / "usr" / "lib" / "modules"
    if merged.is_dir() and not (folder / "lib" / "modules").is_dir():
        (folder / "lib").mkdir(exist_ok=True)
        merged.rename(folder / "lib" / "modules")


def extract_vmlinux(image: bytes) -> bytes:
    """The uncompressed ELF inside an x86 ``bzImage``.

    The offsets are those of the kernel's Documentation/arch/x86/boot.rst (protocol 2.08 and later). Raises
    :class:`BuildError` when it is no such image or the payload is of an unknown kind.
    """
    if len(image) < 0x260 or image[0x202:0x206] != b"HdrS":
        raise BuildError("the kernel image is no bzImage: its setup header is missing")

    def number(offset: int, size: int) -> int:
        return int.from_bytes(image[offset : offset + size], "little")

    if number(0x206, 2) < 0x208:
        raise BuildError(f"the kernel image's boot protocol {number(0x206, 2):#06x} is older than 2.08")
    setup = ((number(0x1F1, 1) or 4) + 1) * 512
    start, length = setup + number(0x248, 4), number(0x24C, 4)
    payload = image[start : start + length]
    if len(payload) != length:
        raise BuildError(f"the kernel image is cut short: {len(payload)} of {length} payload bytes")
    elf = _decompress(payload)
    if elf[:4] != b"\x7fELF":
        raise BuildError("the kernel image's payload is not an ELF file")
    return elf


def _decompress(payload: bytes) -> bytes:
    # The kernel appends the unpacked size to the stream: every decoder must stop at the stream's own end.
    try:
        if payload[:6] == b"\xfd7zXZ\x00":
            return lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(payload)
        if payload[:4] == b"\x28\xb5\x2f\xfd":
            return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj().decompress(payload)
        if payload[:2] == b"\x1f\x8b":
            return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(payload)
    except (lzma.LZMAError, zstandard.ZstdError, zlib.error) as error:
        raise BuildError(f"the kernel image's payload is damaged: {error}") from error
    raise BuildError(f"the kernel image is compressed in an unknown way (starts with {payload[:6].hex()})")


def _uncompress_modules(modules: Path) -> None:
    """Uncompressed modules load without the kernel's or kmod's help, and faster under emulation."""
    for file in modules.rglob("*.ko.xz"):
        file.with_suffix("").write_bytes(lzma.decompress(file.read_bytes()))
        file.unlink()
    for file in modules.rglob("*.ko.zst"):
        data = zstandard.ZstdDecompressor().decompressobj().decompress(file.read_bytes())
        file.with_suffix("").write_bytes(data)
        file.unlink()


def _relocate(src: Path, release: str) -> None:
    """Make the headers work from where they are: the package's Makefile names /usr/src.

    Links between the packages are relative already.
    """
    makefile = src / f"linux-headers-{release}" / "Makefile"
    text = makefile.read_text()
    here = "$(dir $(abspath $(lastword $(MAKEFILE_LIST))))"
    moved, count = re.subn(r"^include /usr/src/(\S+)$", rf"include {here}../\1", text, flags=re.M)
    if count != 1:
        raise BuildError(f"the headers of {release} have a Makefile of an unknown form", log=text.splitlines()[:5])
    makefile.write_text(moved)


def missing_compiler(kernel: Kernel) -> str:
    """The package of the compiler that ``kernel`` asks for when this machine lacks it, else an empty string."""
    path = tool.clean_environment()["PATH"]
    names = (kernel.compiler, f"{os.uname().machine}-linux-gnu-{kernel.compiler}")
    return "" if any(shutil.which(name, path=path) for name in names) else kernel.compiler


def checkpatch(name: str, cache: Cache, progress: Progress) -> Path:
    """The directory with ``checkpatch.pl`` of the kernel ``name``, from the distribution's kernel source package.

    The package is large (130 MB), so only the script and its tables are kept. The script is run as
    ``checkpatch.pl --no-tree``.
    """
    source = kernel_entry(name)
    if isinstance(source, BuiltKernel):
        raise UsageError(f"the kernel {name!r} is built here; take the script of a packaged one")
    apt = Apt(cache, source.release, progress)

    def ask() -> JsonValue:
        # The binary package: a mirror may lack the source package of a security update that it has the binaries of.
        headers = _real(apt, source.headers, source.suite, r"linux-headers-\d")
        series = re.match(r"linux-headers-(\d+\.\d+)", headers.name)
        if series is None:
            raise BuildError(f"the package {headers.name} names no kernel series")
        package = f"linux-source-{series[1]}"
        return [str(Pin(package, apt.show(package, source.suite)["Version"]))]

    known = apt.remembered(f"kernel-source-package-{name}", ask)
    pin = Pin(*str(known[0]).split("=", 1)) if isinstance(known, Sequence) else Pin("", "")

    def make(folder: Path) -> None:
        with progress.phase(f"checkpatch of kernel {name}"):
            _extract_checkpatch(apt, pin, folder)

    return cache.entry("checkpatch", {"source": str(pin), "layout": 2}, make, keep=3)


def _extract_checkpatch(apt: Apt, pin: Pin, folder: Path) -> None:
    wanted = [f"*/scripts/{file}" for file in ("checkpatch.pl", "spelling.txt", "const_structs.checkpatch")]
    kernelbuild.unpack_source(apt, pin, folder, ["--strip-components=2", "--wildcards", *wanted])
