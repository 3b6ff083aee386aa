# SPDX-License-Identifier: GPL-2.0-or-later
"""What every static check has at hand: the files of the project, programs, the cache."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

from labnic.build import tool
from labnic.build.cache import Cache
from labnic.build.progress import Progress
from labnic.errors import LabnicError, PrerequisiteError


class FindingsError(Exception):
    """A check has found something; its text is what the user reads."""


@dataclass(frozen=True)
class Check:
    """One static check: ``run`` returns when all is well and raises :class:`FindingsError` otherwise."""

    name: str
    about: str
    run: Callable[[Context], None]


class Context:
    """The source tree under ``root``, and where to build: ``scratch`` is empty, and removed at the end."""

    def __init__(self, root: Path, scratch: Path, cache: Cache, progress: Progress) -> None:
        self.root = root
        self.scratch = scratch
        self.cache = cache
        self.progress = progress
        self._numbers = count()

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The files that git tracks or would take, relative to the root, sorted."""
        # The checkout may belong to another user than the one who checks it, as in a container.
        argv = [
            "git",
            "-c",
            f"safe.directory={self.root}",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]
        try:
            listed = subprocess.run(argv, cwd=self.root, capture_output=True, timeout=60, check=True).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise PrerequisiteError(
                f"git cannot list the files of {self.root}: {error}", hint="run the checks in a git checkout"
            ) from error
        names = sorted({Path(name) for name in listed.decode().split("\0") if name})
        return tuple(name for name in names if (self.root / name).is_file())

    def matching(self, *patterns: str) -> tuple[Path, ...]:
        """The files whose path matches one of the patterns of :meth:`pathlib.PurePath.match`."""
        return tuple(path for path in self.files if any(path.match(pattern) for pattern in patterns))

    def text(self, path: Path) -> str:
        """The content of a file of the tree; bytes that are no UTF-8 are replaced."""
        return (self.root / path).read_text(encoding="utf-8", errors="replace")

    def directory(self, name: str) -> Path:
        """A new empty directory in the scratch space."""
        path = self.scratch / f"{name}-{next(self._numbers)}"
        path.mkdir(parents=True)
        return path

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        limit: float = 600.0,
    ) -> str:
        """Run a program in the root of the tree (or ``cwd``) and return its output.

        Raises :class:`FindingsError` with the command line and its whole output when it fails, is missing, or takes
        more than ``limit`` seconds.
        """
        what = Path(str(argv[0])).name
        log = self.scratch / f"{what}-{next(self._numbers)}.log"
        try:
            tool.run(argv, what=what, log=log, cwd=cwd or self.root, env=env, limit=limit)
        except LabnicError as error:
            said = log.read_text(errors="replace") if log.exists() else ""
            raise FindingsError("\n".join(part for part in (said.rstrip(), explain(error, said)) if part)) from error
        return log.read_text(errors="replace").partition("\n")[2]

    def copy(self, files: Sequence[Path], into: Path) -> None:
        """Copy files of the tree to the same relative places under ``into``."""
        for path in files:
            (into / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.root / path, into / path)


def explain(error: LabnicError, said: str = "") -> str:
    """A typed error as text, without the lines of its log that ``said`` has already."""
    log = [] if error.log and error.log[-1] in said else list(error.log)
    return "\n".join([*log, error.message] + ([f"hint: {error.hint}"] if error.hint and not said else []))


def refuse(findings: Sequence[str]) -> None:
    """Raise :class:`FindingsError` with the findings, one a line, when there are any."""
    if findings:
        raise FindingsError("\n".join(findings))
