# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes what is generated from the hardware map: the C header and the register reference.

``main(check=True)`` writes nothing and says what differs, for CI.
"""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
from pathlib import Path

from labnic.errors import LabnicError
from labnic.hw import header, reference
from labnic.hwmap import HwMap, default_path, load

HEADER = Path("qemu-device/include/labnic_hw.h")
REFERENCE = Path("docs/registers.md")
SPEC = Path("qemu-device/spec/labnic.yaml")

ADVICE = "The generated files differ from the hardware map; run 'make gen' and commit."


def generate(hw: HwMap) -> dict[Path, str]:
    """The text of each generated file, by its path from the root of the source tree."""
    return {HEADER: header.render(hw), REFERENCE: reference.render(hw)}


def root() -> Path:
    """The root of this source tree."""
    return default_path().parents[2]


def difference(directory: Path, files: dict[Path, str]) -> str:
    """A unified diff from the files in ``directory`` to what they must be; empty when they agree."""
    diffs: list[str] = []
    for name, text in files.items():
        path = directory / name
        present = path.read_text(encoding="utf-8") if path.exists() else ""
        diffs.extend(
            difflib.unified_diff(
                present.splitlines(keepends=True),
                text.splitlines(keepends=True),
                fromfile=f"{name} (checked in)",
                tofile=f"{name} (generated)",
            )
        )
    return "".join(diffs)


def write(directory: Path, files: dict[Path, str]) -> list[Path]:
    """Write the files that differ, each in one step, so that nobody reads half of one; returns their paths."""
    written = []
    for name, text in files.items():
        path = directory / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                os.fchmod(stream.fileno(), 0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        written.append(name)
    return written


def main(check: bool = False, directory: Path | None = None) -> int:
    """Generate into ``directory`` (this source tree); with ``check`` only compare. 0 when all is as it must be, else 1.

    Raises :class:`labnic.hwmap.HwMapError` when the map itself is at fault.
    """
    directory = directory or root()
    files = generate(load(directory / SPEC))
    if not check:
        for name in write(directory, files):
            print(f"wrote {name}")
        return 0
    diff = difference(directory, files)
    if diff:
        sys.stdout.write(diff)
        print(ADVICE, file=sys.stderr)
    return 1 if diff else 0


if __name__ == "__main__":
    try:
        sys.exit(main(check="--check" in sys.argv[1:]))
    except LabnicError as error:
        print(f"labnic: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
