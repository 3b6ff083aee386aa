# SPDX-License-Identifier: GPL-2.0-or-later
"""Running the programs that a build needs: logged, limited in time, and ended together with us."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from labnic.errors import BuildError, LabnicError, PrerequisiteError

LAST_LINES = 25
"""Lines of a log that an error carries."""

_running: set[int] = set()
_running_lock = threading.Lock()
_stopping = threading.Event()


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for build programs: the system's own programs first, messages in English, no make inheritance.

    A Python that a user put first in PATH must not run the system's meson, and ``MAKEFLAGS`` of an outer make
    would hand its job server and variables to builds that know nothing of it.
    """
    dropped = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME"}
    dropped |= {"CFLAGS", "CPPFLAGS", "LDFLAGS", "KBUILD_OUTPUT", "KDIR", "ARCH", "CROSS_COMPILE", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    environment["LC_ALL"] = "C.UTF-8"
    environment["DEBIAN_FRONTEND"] = "noninteractive"
    environment.update(extra or {})
    return environment


def run(
    argv: Sequence[str | Path],
    *,
    what: str,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    limit: float = 600.0,
    error: type[LabnicError] = BuildError,
    hint: str = "",
) -> None:
    """Run a program with all its output in ``log`` (appended, after the command line).

    Raises ``error`` with the log's last lines when the program fails or takes more than ``limit`` seconds, and
    :class:`PrerequisiteError` when it is not installed. ``env`` is added to :func:`clean_environment`.
    """
    command = [str(word) for word in argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        out.write(f"$ {shlex.join(command)}\n".encode())
        out.flush()
        process = _start(command, cwd, env, stdout=out, stderr=subprocess.STDOUT)
        status = _wait(process, what, limit, log, error)
    if status != 0:
        reason = f"with status {status}" if status > 0 else f"by signal {-status}"
        raise error(f"{what} failed ({command[0]} ended {reason})", hint=hint or f"whole log: {log}", log=tail(log))


def output(
    argv: Sequence[str | Path],
    *,
    what: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    limit: float = 60.0,
    error: type[LabnicError] = BuildError,
) -> str:
    """The standard output of a program; raises as :func:`run`, with the standard error as the log."""
    command = [str(word) for word in argv]
    process = _start(command, cwd, env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = process.communicate(timeout=limit)
    except BaseException as problem:
        _kill(process)
        if isinstance(problem, subprocess.TimeoutExpired):
            raise error(f"{what} took more than {limit:.0f} s", hint=f"command: {shlex.join(command)}") from None
        raise
    finally:
        _forget(process)
    if process.returncode != 0:
        lines = err.decode(errors="replace").splitlines()[-LAST_LINES:]
        raise error(f"{what} failed ({command[0]} ended with status {process.returncode})", log=lines)
    return bytes(out).decode(errors="replace")


def tail(log: Path, lines: int = LAST_LINES) -> list[str]:
    """The last lines of a log file; an empty list when it cannot be read."""
    with contextlib.suppress(OSError):
        return log.read_text(errors="replace").splitlines()[-lines:]
    return []


def stop_all() -> None:
    """End every program that :func:`run` or :func:`output` started and that still runs, for an interrupted build."""
    _stopping.set()
    with _running_lock:
        groups = list(_running)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGTERM)


def _start(
    command: list[str],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    *,
    stdout: IO[bytes] | int,
    stderr: int,
) -> subprocess.Popen[bytes]:
    if _stopping.is_set():
        raise BuildError("the build was interrupted")
    try:
        # A session of its own: Ctrl-C reaches us alone, and we end the whole group of a make or an apt at once.
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=clean_environment(env),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise PrerequisiteError(
            f"the program {command[0]} is not installed", hint="./labnic doctor names the packages that are missing"
        ) from None
    with _running_lock:
        _running.add(process.pid)
    return process


def _wait(process: subprocess.Popen[bytes], what: str, limit: float, log: Path, error: type[LabnicError]) -> int:
    try:
        return process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        _kill(process)
        raise error(f"{what} took more than {limit:.0f} s", hint=f"whole log: {log}", log=tail(log)) from None
    except BaseException:
        _kill(process)
        raise
    finally:
        _forget(process)


def _forget(process: subprocess.Popen[bytes]) -> None:
    with _running_lock:
        _running.discard(process.pid)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all its children: politely, then for good."""
    for sign, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=patience)
            if sign == signal.SIGTERM:
                continue
            break
