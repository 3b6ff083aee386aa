# SPDX-License-Identifier: GPL-2.0-or-later
"""Small programs in C for what nothing in the guest can do; compiled on the host, linked statically."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labnic.build.cache import Cache
from labnic.build.program import IN_GUEST, build_program
from labnic.guest import Guest


def place(name: str) -> str:
    """Where in the guest the program made from the file ``name`` is."""
    return f"/tmp/labnic-{Path(name).stem}"


@contextmanager
def installed(guest: Guest, name: str) -> Iterator[str]:
    """The program made from the file ``name`` beside this one, in the guest; gives its path there."""
    path = place(name)
    program = build_program(Path(__file__).with_name(name), Cache(), IN_GUEST)
    guest.write(path, program.read_bytes())
    guest.run(["chmod", "+x", path], check=True)
    try:
        yield path
    finally:
        guest.run(["rm", "-f", path])
