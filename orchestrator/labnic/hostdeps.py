# SPDX-License-Identifier: GPL-2.0-or-later
"""What labnic needs from the machine: a table of packages (``images/host.toml``) and what of it is missing.

Only the standard library is used: this runs before anything is installed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).resolve().parents[2] / "images" / "host.toml"

GROUPS = {
    "python": ("python",),
    "build": ("python", "build"),
    "check": ("python", "build", "check"),
    "kernel": ("kernel",),
}
"""Which kinds of packages a command of each kind needs; the last is asked for within a command of another."""


@dataclass(frozen=True)
class HostPackage:
    """One package of the table; ``program`` or ``module`` may stand in for it."""

    name: str
    why: str
    group: str
    program: str = ""
    module: str = ""


def cache_root() -> Path:
    """``$LABNIC_CACHE``, else ``$XDG_CACHE_HOME/labnic``, else ``~/.cache/labnic``; absolute."""
    if named := os.environ.get("LABNIC_CACHE"):
        return Path(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache").absolute() / "labnic"


def host_packages(group: str, table: Path = TABLE) -> list[HostPackage]:
    """The packages that commands of ``group`` (a key of ``GROUPS``) need."""
    found = []
    for entry in tomllib.loads(table.read_text())["package"]:
        if entry["for"] in GROUPS[group]:
            instead = entry.get("instead", {})
            program, module = instead.get("program", ""), instead.get("module", "")
            found.append(HostPackage(entry["name"], entry["why"], entry["for"], program, module))
    return found


def missing_packages(packages: Sequence[HostPackage]) -> list[HostPackage]:
    """Those that neither dpkg has installed nor anything stands in for."""
    installed = _installed([package.name for package in packages])
    return [package for package in packages if package.name not in installed and not _stand_in(package)]


def _installed(names: Sequence[str]) -> set[str]:
    command = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", *names]
    try:
        # Its status is not zero when any name is unknown; the known ones are printed all the same.
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return set()
    lines = [line.split() for line in answer.stdout.splitlines()]
    return {words[0] for words in lines if len(words) == 2 and words[1] == "installed"}


def _stand_in(package: HostPackage) -> bool:
    if package.program:
        return shutil.which(package.program) is not None
    return bool(package.module) and importlib.util.find_spec(package.module) is not None


def install_line(packages: Sequence[HostPackage]) -> str:
    """The line to paste into a shell."""
    return f"sudo apt-get install -y --no-install-recommends {' '.join(package.name for package in packages)}"
