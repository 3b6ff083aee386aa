# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels: the ELF inside an image, headers that work anywhere, and names that do not exist."""

from __future__ import annotations

import gzip
import lzma
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from labnic.build.cache import Cache
from labnic.build.kernel import _relocate, extract_vmlinux, fetch_kernel
from labnic.build.kerneltable import kernel_table
from labnic.build.progress import PlainProgress
from labnic.errors import BuildError, ConfigError, UsageError

ELF = b"\x7fELF" + bytes(range(256)) * 64


def bzimage(
    payload: bytes, *, sectors: int = 4, protocol: int = 0x20F, offset: int = 0x2C4, trailer: bool = True
) -> bytes:
    """An image as Documentation/arch/x86/boot.rst describes it: setup sectors, then the payload behind them."""
    if trailer:
        payload += struct.pack("<I", len(ELF))
    setup = bytearray((sectors + 1) * 512)
    setup[0x1F1] = sectors
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, protocol)
    struct.pack_into("<II", setup, 0x248, offset, len(payload))
    return bytes(setup) + b"\xcc" * offset + payload + b"\x90" * 100


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "gzip": gzip.compress,
}


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("sectors", [4, 27])
def test_the_elf_is_found_in_an_image(kind: str, sectors: int) -> None:
    assert extract_vmlinux(bzimage(COMPRESS[kind](ELF), sectors=sectors)) == ELF


def test_no_setup_sectors_means_four() -> None:
    image = bytearray(bzimage(lzma.compress(ELF)))
    image[0x1F1] = 0
    assert extract_vmlinux(bytes(image)) == ELF


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "no bzImage"),
        (b"\0" * 4096, "no bzImage"),
        (bzimage(lzma.compress(ELF), protocol=0x207), "older than 2.08"),
        (bzimage(lzma.compress(ELF))[:-200], "cut short"),
        (bzimage(b"\x42\x5a\x68" + bytes(64)), "unknown way"),
        (bzimage(lzma.compress(ELF)[:32] + bytes(64)), "damaged"),
        (bzimage(lzma.compress(b"not an ELF file")), "not an ELF"),
    ],
)
def test_a_bad_image_is_refused(image: bytes, reason: str) -> None:
    with pytest.raises(BuildError, match=reason):
        extract_vmlinux(image)


def test_headers_find_their_neighbours_wherever_they_lie(tmp_path: Path) -> None:
    folder = tmp_path / "linux-headers-6.1.0-amd64"
    folder.mkdir()
    (folder / "Makefile").write_text("include /usr/src/linux-headers-6.1.0-common/Makefile\n")
    _relocate(tmp_path, "6.1.0-amd64")
    text = (folder / "Makefile").read_text()
    assert text == "include $(dir $(abspath $(lastword $(MAKEFILE_LIST))))../linux-headers-6.1.0-common/Makefile\n"


def test_headers_of_an_unknown_form_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "linux-headers-x"
    folder.mkdir()
    (folder / "Makefile").write_text("all:\n")
    with pytest.raises(BuildError, match="unknown form"):
        _relocate(tmp_path, "x")


def test_an_unknown_kernel_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no kernel '2\.4'") as caught:
        fetch_kernel("2.4", Cache(tmp_path), PlainProgress())
    assert "6.1, 6.12" in caught.value.hint


def test_a_misspelt_table_names_the_file(tmp_path: Path) -> None:
    table = tmp_path / "kernels.yaml"
    table.write_text('kernels: {"6.1": {release: bookworm, image: a, headers: b, compiler: gcc, sweet: c}}')
    with pytest.raises(ConfigError, match=r"kernels\.yaml cannot be used"):
        kernel_table(table)
