# SPDX-License-Identifier: GPL-2.0-or-later
"""The register of running labs: a folder for each, with its sockets and who owns it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from labnic.errors import PrerequisiteError, UsageError
from labnic.process import ProcessId

SOCKET_PATH_LIMIT = 107
"""Bytes that a unix socket's path may have (sun_path in unix(7), less the final zero)."""

_LONGEST_SOCKET = "console.sock"
_STATE = "lab.json"
_LOCK = "lock"


class LabInUseError(UsageError):
    """A lab of that name is running."""


class NoSuchLabError(UsageError):
    """No lab of that name is running."""


@dataclass(frozen=True)
class RunningLab:
    """One entry of the register; ``state`` is what its owner wrote (kernel, NICs, artifacts, start time...)."""

    name: str
    path: Path
    owner: ProcessId
    qemu: ProcessId | None
    state: Mapping[str, Any]


class RunDir:
    """The folder of a lab that this process owns, as long as it is open.

    The lock on it is the truth about life: the system gives it up when the owner ends, however that happens.
    """

    def __init__(self, name: str, base: Path | None = None) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", name):
            raise UsageError(f"{name!r} cannot be a lab's name: use up to 32 letters, digits, '.', '_' and '-'")
        self.name = name
        base = base or base_folder()
        self.path = base / name
        if len(os.fsencode(self.path / _LONGEST_SOCKET)) > SOCKET_PATH_LIMIT:
            raise PrerequisiteError(
                f"{self.path} is too long for the name of a socket", hint="set XDG_RUNTIME_DIR to a shorter folder"
            )
        self._lock = _claim(self.path)
        self._state: dict[str, Any] = {}
        self.update(owner=_identity(os.getpid()), started=time.time())

    def update(self, **state: Any) -> None:
        """Add to what others can read about this lab; the file is replaced whole."""
        self._state.update(state)
        with tempfile.NamedTemporaryFile("w", dir=self.path, delete=False) as file:
            json.dump(self._state, file)
        Path(file.name).replace(self.path / _STATE)

    def set_qemu(self, pid: int) -> None:
        """Say which process is the VM."""
        self.update(qemu=_identity(pid))

    def close(self) -> None:
        """Take the lab out of the register; safe to call twice."""
        if not self._lock.closed:
            shutil.rmtree(self.path, ignore_errors=True)
            self._lock.close()


def base_folder() -> Path:
    """The register's folder, made for this user alone; raises `PrerequisiteError` when it belongs to someone else."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        path = Path(runtime) / "labnic"
    else:
        path = Path(tempfile.gettempdir()) / f"labnic-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        info = path.lstat()
    except OSError as error:
        raise PrerequisiteError(f"{path}: {error.strerror}", hint="set XDG_RUNTIME_DIR to a folder of yours") from None
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise PrerequisiteError(f"{path} is not a folder of yours", hint="set XDG_RUNTIME_DIR to a folder of yours")
    if stat.S_IMODE(info.st_mode) != 0o700:
        path.chmod(0o700)
    return path


def running(base: Path | None = None) -> list[RunningLab]:
    """The labs that run, by name; what a dead owner left behind is cleared away."""
    base = base or base_folder()
    labs = []
    for path in sorted(entry for entry in base.iterdir() if entry.is_dir()):
        with _try_lock(path) as stale:
            if stale:
                _clear(path)
                shutil.rmtree(path, ignore_errors=True)
                continue
        lab = _read(path)
        if lab:
            labs.append(lab)
    return labs


def find(name: str | None, base: Path | None = None) -> RunningLab:
    """The lab of that name, or the only one.  Raises `NoSuchLabError`; `UsageError` when there are several."""
    labs = running(base)
    if name is None and len(labs) == 1:
        return labs[0]
    names = ", ".join(lab.name for lab in labs)
    if name is None and labs:
        raise UsageError(f"several labs are running: {names}", hint="name one with --name")
    for lab in labs:
        if lab.name == name:
            return lab
    if not labs:
        raise NoSuchLabError("no lab is running", hint="start one with `labnic up`")
    raise NoSuchLabError(f"no lab {name!r} is running", hint=f"running: {names}")


def _claim(path: Path) -> TextIO:
    """Make the folder and take its lock; raises `LabInUseError` when another process has it."""
    for _ in range(10):
        path.mkdir(mode=0o700, exist_ok=True)
        try:
            lock = (path / _LOCK).open("a+")
        except FileNotFoundError:
            continue  # a cleaner removed the folder between the two calls
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            lab = _read(path)
            who = f" (process {lab.owner.pid})" if lab else ""
            raise LabInUseError(
                f"a lab named {path.name!r} is running already{who}: {path} is in use",
                hint=f"end it with `labnic down --name {path.name}`, or choose another with --name",
            ) from None
        # A cleaner may have removed the locked file while we waited; then the lock protects nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(lock.fileno()).st_ino == (path / _LOCK).stat().st_ino:
                _clear(path)
                return lock
        lock.close()
    raise UsageError(f"{path}: another process keeps removing this folder")


@contextlib.contextmanager
def _try_lock(path: Path) -> Iterator[bool]:
    """Whether nobody owns the folder; while the context lasts nobody can."""
    try:
        file = (path / _LOCK).open("a+")
    except OSError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _clear(path: Path) -> None:
    """Remove what a dead owner left in the folder, and its VM should that have survived."""
    lab = _read(path)
    if lab and lab.qemu:
        lab.qemu.end(patience=1.0)
    for entry in path.iterdir():
        if entry.name != _LOCK:
            entry.unlink(missing_ok=True)


def _identity(pid: int) -> list[int]:
    process = ProcessId.of(pid)
    return [process.pid, process.start]


def _read(path: Path) -> RunningLab | None:
    try:
        state = json.loads((path / _STATE).read_text())
        qemu = ProcessId(*state["qemu"]) if "qemu" in state else None
        return RunningLab(path.name, path, ProcessId(*state["owner"]), qemu, state)
    except (OSError, ValueError, KeyError, TypeError):
        return None
