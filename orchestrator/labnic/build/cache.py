# SPDX-License-Identifier: GPL-2.0-or-later
"""What was built or downloaded before, found again by the hash of what went into it.

An entry is a directory that appears complete or not at all: it is made under a temporary name and renamed. Two
processes that want the same entry build it once; the second waits for the first. Everything here may be deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from labnic.errors import BuildError, PrerequisiteError
from labnic.hostdeps import cache_root

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"

PROJECT = Path(__file__).resolve().parents[3]
"""The checkout that this package belongs to: the folder with ``qemu-device``, ``kernel-driver`` and ``images``."""

LOCK_LIMIT = 3600.0
"""Seconds to wait for another process that builds the same entry; the longest build, a kernel on a busy machine, takes
half of it."""


class Cache:
    """A directory of finished build results, addressed by content.

    ``refresh`` asks that package versions are looked up again although the last answer is younger than a day.
    """

    def __init__(self, root: Path | None = None, *, refresh: bool = False) -> None:
        self.root = (root or cache_root()).absolute()
        self.refresh = refresh
        try:
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PrerequisiteError(
                f"the cache folder {self.root} cannot be made: {error.strerror}",
                hint="set LABNIC_CACHE to a folder that can be written",
            ) from error

    def path(self, kind: str, key: Mapping[str, JsonValue]) -> Path:
        """Where the entry of this kind and key is, or would be."""
        return self.root / kind / self.name(key)

    @staticmethod
    def name(key: Mapping[str, JsonValue]) -> str:
        """The name that stands for ``key``: twenty hexadecimal digits of its hash."""
        return hashlib.sha256(canonical(key)).hexdigest()[:20]

    def entry(
        self,
        kind: str,
        key: Mapping[str, JsonValue],
        make: Callable[[Path], None],
        *,
        keep: int | None = None,
    ) -> Path:
        """The directory for ``key``, made by ``make(empty_directory)`` unless it exists.

        What ``make`` raises is passed on and leaves no entry. A manifest of the key is put beside the directory
        as ``NAME.json``. With ``keep``, only that many entries of this kind, the last used ones, survive a new one, and
        those that somebody holds.
        Raises :class:`BuildError` when another process holds the entry for longer than ``LOCK_LIMIT``.
        """
        final = self.path(kind, key)
        if not final.is_dir():
            with self.lock(f"{kind}-{final.name}"):
                if not final.is_dir():
                    self._make(final, key, make)
                    if keep is not None:
                        with self.lock(kind):  # two that forget at a time would trip over each other
                            self._forget_old(kind, keep, final)
        with contextlib.suppress(OSError):
            os.utime(final)
        return final

    def _make(self, final: Path, key: Mapping[str, JsonValue], make: Callable[[Path], None]) -> None:
        final.parent.mkdir(parents=True, exist_ok=True)
        # Whoever holds the lock is the only builder: an older temporary directory belongs to a process that died.
        for stale in final.parent.glob(f".new-{final.name}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".new-{final.name}-", dir=final.parent))
        try:
            fresh.chmod(0o755)
            make(fresh)
            write_atomic(final.with_name(final.name + ".json"), canonical(key) + b"\n")
            fresh.rename(final)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def _forget_old(self, kind: str, keep: int, newest: Path) -> None:
        entries = [item for item in (self.root / kind).iterdir() if item.is_dir() and not item.name.startswith(".")]
        entries.sort(key=lambda item: item.stat().st_mtime, reverse=True)
        for old in [item for item in entries if item != newest][max(keep - 1, 0) :]:
            with contextlib.suppress(OSError), _locked(old, fcntl.LOCK_EX):
                shutil.rmtree(old, ignore_errors=True)
                old.with_name(old.name + ".json").unlink(missing_ok=True)

    def hold(self, *files: Path) -> Hold:
        """Keep the entries in which these files are; files that are in no entry need no keeping.

        Raises `BuildError` when another process has thrown one away before.
        """
        below = [file.relative_to(self.root).parts for file in files if file.is_relative_to(self.root)]
        return Hold([self.root / kind / name for kind, name, *_ in below])

    @contextlib.contextmanager
    def lock(self, name: str, limit: float = LOCK_LIMIT) -> Iterator[None]:
        """Hold the lock ``name`` against other processes; raises :class:`BuildError` after ``limit`` seconds."""
        path = self.root / "locks" / f"{name}.lock"
        with path.open("a+") as handle:
            deadline = time.monotonic() + limit
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise BuildError(
                            f"another labnic has been building {name} for more than {limit:.0f} s",
                            hint=f"find it with: fuser -v {path}",
                        ) from None
                    # The kernel wakes a blocked flock at once but cannot limit it; a short poll can be interrupted.
                    time.sleep(0.05)
            yield


class Hold:
    """Entries that no process throws away while this object lives, however many newer ones are made."""

    def __init__(self, entries: Iterable[Path]) -> None:
        stack = contextlib.ExitStack()
        for entry in entries:
            try:
                stack.enter_context(_locked(entry, fcntl.LOCK_SH))
            except OSError as error:
                stack.close()
                raise BuildError(
                    f"{entry} cannot be kept in the cache: {error.strerror}",
                    hint="another labnic has thrown it away meanwhile: run it again",
                ) from error
        weakref.finalize(self, stack.close)


@contextlib.contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    """A lock on a folder itself; raises `OSError` when there is no such folder, or others have it locked."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def canonical(key: Mapping[str, JsonValue]) -> bytes:
    """The one JSON text of ``key``: sorted, without spaces, so that equal keys have equal hashes."""
    return json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``path`` so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def hash_files(paths: Iterable[Path], base: Path) -> dict[str, JsonValue]:
    """The sha256 of each file by its path below ``base``, sorted: the part of a key that says which sources."""
    result: dict[str, JsonValue] = {}
    for path in sorted(paths):
        result[path.relative_to(base).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return result
