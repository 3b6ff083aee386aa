# SPDX-License-Identifier: GPL-2.0-or-later
"""Small programs in C of our own, compiled on the host: for what no library and nothing in the guest can do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labnic.build import tool
from labnic.build.cache import Cache, JsonValue, hash_files

WARNINGS = ("-Wall", "-Wextra", "-Werror")

IN_GUEST = ("-static", "-Os", "-s", "-std=gnu11")
"""Options for a program that needs no library of the guest, and few bytes on the way there."""

LIMIT = 60.0
"""Seconds for one compilation."""


def build_program(
    source: Path, cache: Cache, options: Sequence[str | Path], *, name: str = "", headers: Sequence[Path] = ()
) -> Path:
    """What gcc makes of ``source`` with these options, under that name (default: the source's, without its end).

    A change of one of the ``headers`` compiles it anew.  Raises `BuildError` with what the compiler said.
    """
    name = name or source.stem
    command: list[str | Path] = ["gcc", *WARNINGS, *options]

    def make(folder: Path) -> None:
        log = cache.root / "logs" / f"{source.stem}.log"
        tool.run(
            [*command, "-o", folder / name, source], what=f"the compilation of {source.name}", log=log, limit=LIMIT
        )

    files: dict[str, JsonValue] = {}
    for file in (source, *headers):
        files |= hash_files([file], file.parent)
    key: dict[str, JsonValue] = {"files": files, "command": [str(word) for word in command]}
    return cache.entry(f"program-{source.stem}", key, make, keep=4) / name
