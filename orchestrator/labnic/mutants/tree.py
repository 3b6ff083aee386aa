# SPDX-License-Identifier: GPL-2.0-or-later
"""A copy of the sources with a seeded bug in it; the checkout is never touched."""

from __future__ import annotations

import shutil
from pathlib import Path

from labnic.build import tool
from labnic.build.cache import PROJECT
from labnic.errors import BuildError
from labnic.mutants.catalog import SIDES, Mutant

CONTEXT = "-C1"
"""How much of a patch's context must be as it was: one line on each side, so that edits beside it do no harm."""

_BUILT = shutil.ignore_patterns("*.o", "*.ko", "*.mod", "*.mod.c", "*.cmd", ".*", "__pycache__")


class StaleError(BuildError):
    """The sources have changed where the bug was: the patch must be made anew."""


def copy_sources(target: Path, project: Path = PROJECT) -> Path:
    """Copy the folders of driver and device into ``target``, which must not exist; gives it back."""
    for folder in SIDES.values():
        shutil.copytree(project / folder, target / folder, ignore=_BUILT)
    return target


def mutate(mutant: Mutant, target: Path, project: Path = PROJECT) -> Path:
    """Copy the sources into ``target`` and put the bug into the copy. Raises `StaleError` when it has no place."""
    copy_sources(target, project)
    before = _contents(target)
    try:
        tool.output(
            ["git", "apply", CONTEXT, mutant.path.resolve()],
            what=f"applying {mutant.name}",
            cwd=target,
            # The copy may be inside of a git work tree, to which git would take the patch's paths to be relative.
            env={"GIT_CEILING_DIRECTORIES": str(target.parent.resolve())},
        )
    except BuildError as error:
        raise StaleError(
            f"{mutant.name} is stale: the sources have changed where its bug was",
            hint=f"make {mutant.path} anew",
            log=error.log,
        ) from error
    changed = sorted(path for path, data in _contents(target).items() if before.get(path) != data)
    allowed = SIDES[mutant.side]
    if not changed or any(not path.startswith(f"{allowed}/") for path in changed):
        raise StaleError(f"{mutant.name} changes {', '.join(changed) or 'nothing'}, and not files of {allowed} alone")
    return target


def _contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
