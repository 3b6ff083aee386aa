# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking apart what apt downloaded."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from labnic.build import tool
from labnic.errors import BuildError, PrerequisiteError


def unpack(deb: Path, folder: Path, leave_out: Sequence[str] = ()) -> None:
    """Unpack a binary package into ``folder`` without root; ``leave_out`` are tar wildcards (``./usr/share/doc/*``).

    Owners become the caller. Raises :class:`BuildError` when the package is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    excludes = [f"--exclude={pattern}" for pattern in leave_out]
    try:
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE, env=tool.clean_environment()
        ) as source:
            tar = subprocess.run(
                ["tar", "-x", "--no-same-owner", "-C", str(folder), *excludes],
                stdin=source.stdout,
                stderr=subprocess.PIPE,
                env=tool.clean_environment(),
                timeout=300,
                check=False,
            )
    except FileNotFoundError as error:
        raise PrerequisiteError(f"the program {error.filename} is not installed") from None
    if source.returncode or tar.returncode:
        raise BuildError(f"{deb.name} cannot be unpacked", log=tar.stderr.decode(errors="replace").splitlines())
