# SPDX-License-Identifier: GPL-2.0-or-later
"""Small programs in C for what nothing in the guest can do; compiled on the host, linked statically."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labnic.build import tool
from labnic.build.cache import Cache, hash_files
from labnic.guest import Guest

COMPILE = ("gcc", "-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror")


def _compiled(name: str) -> Path:
    source = Path(__file__).with_name(name)

    def make(folder: Path) -> None:
        command: list[str | Path] = [*COMPILE, "-o", folder / source.stem, source]
        tool.run(command, what=f"the compilation of {name}", log=folder / "build.log", limit=60.0)

    contents = {"files": hash_files([source], source.parent), "command": COMPILE}
    return Cache().entry("guest-program", contents, make, keep=4) / source.stem


def place(name: str) -> str:
    """Where in the guest the program made from the file ``name`` is."""
    return f"/tmp/labnic-{Path(name).stem}"


@contextmanager
def installed(guest: Guest, name: str) -> Iterator[str]:
    """The program made from the file ``name`` beside this one, in the guest; gives its path there."""
    path = place(name)
    guest.write(path, _compiled(name).read_bytes())
    guest.run(["chmod", "+x", path], check=True)
    try:
        yield path
    finally:
        guest.run(["rm", "-f", path])
