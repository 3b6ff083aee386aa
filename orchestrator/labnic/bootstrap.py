# SPDX-License-Identifier: GPL-2.0-or-later
"""From a bare machine to the running package: host packages, then a private Python environment, then exec.

Only the standard library is used. When everything is there it costs some tens of milliseconds. Interrupted at any
moment it leaves nothing half-made: dpkg is never stopped in its work, an unfinished environment is made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from labnic.hostdeps import TABLE, HostPackage, cache_root, host_packages, install_line, missing_packages

PROJECT = Path(__file__).resolve().parents[2]
LOCK_FILE = PROJECT / "requirements.lock"
DPKG_STATUS = Path("/var/lib/dpkg/status")

LIGHT = {"config", "console", "clean", "doctor", "down", "gen", "gen-check", "help", "ps"}
"""Verbs that build nothing: they run, and explain, on a machine that lacks the packages for building."""

PREREQUISITE, INTERRUPTED = 3, 130
"""Exit codes, as in labnic.errors."""

APT = ("apt-get", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0")


class StopError(Exception):
    """Ends the command with ``code`` after printing the lines."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(*lines)
        self.code = code
        self.lines = lines


class Phases:
    """Durations of what was done, in seconds, handed to the package for its table."""

    def __init__(self) -> None:
        self.done: list[tuple[str, float]] = []

    @contextlib.contextmanager
    def phase(self, name: str, detail: str) -> Iterator[None]:
        """Print that it begins, and how long it took."""
        begin = time.monotonic()
        print(f"labnic: {name}: {detail}", file=sys.stderr, flush=True)
        yield
        self.done.append((name, round(time.monotonic() - begin, 3)))
        print(f"labnic: {name}: done in {self.done[-1][1]:.1f} s", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Prepare, then become the package's command; returns an exit code only when that is not reached."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        cache, phases = cache_root(), Phases()
        (cache / "logs").mkdir(parents=True, exist_ok=True)
        _prepare_host(_group(arguments), cache, phases)
        python = _environment(cache, phases)
    except StopError as stop:
        for line in stop.lines:
            print(line, file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        print("labnic: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        print(f"labnic: error: {error}", file=sys.stderr)
        print("  hint: the cache folder must be writable; LABNIC_CACHE names another one", file=sys.stderr)
        return PREREQUISITE
    return _become(python, arguments, phases)


def _as_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _become(python: Path, arguments: Sequence[str], phases: Phases) -> NoReturn:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = str(PROJECT / "orchestrator")
    environment["LABNIC_BOOTSTRAP_PHASES"] = json.dumps(phases.done)
    environment.pop("PYTHONHOME", None)
    # Ctrl-C while the other Python starts would end in a traceback; `labnic.cli.main` lets it through again.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    # -P: a module in the folder where the user stands must not be taken for one of ours.
    os.execve(python, [str(python), "-P", "-m", "labnic", *arguments], environment)


def _group(arguments: Sequence[str]) -> str:
    """Which packages the command line needs: a key of ``hostdeps.GROUPS``."""
    verb = next((word for word in arguments if not word.startswith("-")), "help")
    if verb == "check":
        return "check"
    return "python" if verb in LIGHT or "--help" in arguments else "build"


# Packages of the machine


def require(group: str, cache: Path) -> None:
    """For what only some commands need, and only at times: install the packages of ``group`` that are missing.

    Raises `PrerequisiteError` with the line to paste where that cannot be done.
    """
    try:
        _prepare_host(group, cache, Phases())
    except StopError as stop:
        from labnic.errors import PrerequisiteError

        first, *log, last = stop.lines
        raise PrerequisiteError(first.removeprefix("labnic: error: "), hint=last.strip(), log=log) from None


def _prepare_host(group: str, cache: Path, phases: Phases) -> None:
    """Install what the machine lacks of the table; raises :class:`StopError` with the line to paste if it cannot."""
    stamp, fact = cache / f"host-{group}", _host_fact()
    with contextlib.suppress(OSError):
        if stamp.read_text() == fact:
            return
    missing = missing_packages(host_packages(group))
    if missing:
        _install(missing, cache, phases)
        missing = missing_packages(missing)
        if missing:
            raise _cannot(missing, "apt-get installed everything, yet some is missing")
    _write(stamp, _host_fact())


def _host_fact() -> str:
    """Changes whenever the table, or what dpkg has installed, does."""
    changed = DPKG_STATUS.stat().st_mtime_ns if DPKG_STATUS.exists() else 0
    return f"{hashlib.sha256(TABLE.read_bytes()).hexdigest()} {changed} {sys.executable}"


def _install(missing: Sequence[HostPackage], cache: Path, phases: Phases) -> None:
    root = _root_prefix()
    if root is None:
        raise _cannot(missing, "you are neither root nor allowed to use sudo without a password")
    names = [package.name for package in missing]
    log = cache / "logs" / "host-packages.log"
    with phases.phase("host packages", f"installing {' '.join(names)} (log: {log})"):
        command = [*root, "env", "DEBIAN_FRONTEND=noninteractive", *APT]
        # Lists that name a version which the archive has replaced are found out by the download.
        listed = any(Path("/var/lib/apt/lists").glob("*_Packages*"))
        if not listed or _run([*command, "install", "--download-only", *names], log) != 0:
            if _run([*command, "update"], log) != 0:
                raise _cannot(missing, "apt-get update failed", log)
            if _run([*command, "install", "--download-only", *names], log) != 0:
                raise _cannot(missing, "the packages cannot be downloaded", log)
        if _run([*command, "install", *names], log, shield=True) != 0:
            raise _cannot(missing, "apt-get install failed", log)


def _root_prefix() -> list[str] | None:
    """What to put before a command to run it as root; None when that needs a password."""
    if os.geteuid() == 0:
        return []
    if (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    ):
        return ["sudo", "-n"]
    return None


def _cannot(missing: Sequence[HostPackage], reason: str, log: Path | None = None) -> StopError:
    lines = [f"labnic: error: packages are missing, and {reason}"]
    if log:
        lines += [f"  | {line}" for line in _tail(log)]
    return StopError(PREREQUISITE, *lines, f"  install them with: {install_line(missing)}")


# The Python environment


def _environment(cache: Path, phases: Phases) -> Path:
    """The Python of the private environment, made when the lock file or the machine's Python is new to the cache."""
    fact = f"{sys.version} {sys.base_prefix} ".encode() + LOCK_FILE.read_bytes()
    folder = cache / "venv" / hashlib.sha256(fact).hexdigest()[:16]
    python, complete = folder / "bin" / "python", folder / "complete"
    if complete.exists() and python.exists():
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "venv" / "lock"):
        if not (complete.exists() and python.exists()):
            # Its programs name its own place, so it is not made elsewhere and moved; the mark at the end tells.
            shutil.rmtree(folder, ignore_errors=True)
            log = cache / "logs" / "python-packages.log"
            with phases.phase("python packages", f"{_count()} packages of {LOCK_FILE.name} (log: {log})"):
                _make_environment(folder, python, log)
                _write(complete, "")
    return python


def _make_environment(folder: Path, python: Path, log: Path) -> None:
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    creator = str(base) if base.exists() else sys.executable
    steps = [
        [creator, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-compile"],
    ]
    steps[1] += ["--require-hashes", "-r", str(LOCK_FILE)]
    for step in steps:
        if _run(step, log) != 0:
            shutil.rmtree(folder, ignore_errors=True)
            lines = [f"  | {line}" for line in _tail(log)]
            reason = "labnic: error: the Python packages cannot be installed"
            raise StopError(PREREQUISITE, reason, *lines, f"  whole log: {log}")


def _count() -> int:
    return sum("==" in line for line in LOCK_FILE.read_text().splitlines())


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two commands started at once make one environment; the wait ends after ten minutes."""
    with path.open("a+") as handle:
        deadline = time.monotonic() + 600
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    reason = f"labnic: error: another labnic has held {path} for ten minutes"
                    raise StopError(PREREQUISITE, reason) from None
                time.sleep(0.1)
        yield


# Helpers


def _run(command: Sequence[str], log: Path, *, shield: bool = False) -> int:
    """Run with output to ``log``, in a session of its own so that Ctrl-C reaches this program alone.

    An interrupt ends the command; a shielded one is waited for, because dpkg stopped half-way needs repair by hand.
    """
    with log.open("a") as out:
        print(f"$ {shlex.join(command)}", file=out, flush=True)
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            print(error, file=out)
            return 127
        try:
            return process.wait()
        except KeyboardInterrupt:
            if shield:
                print("labnic: interrupted; waiting for dpkg to finish what it began", file=sys.stderr, flush=True)
                _wait_unshaken(process)
            else:
                _end(process)
            raise


def _wait_unshaken(process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        # With sudo the group is root's and cannot be signalled; a download goes on to its end and harms nothing.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
            return


def _tail(log: Path, lines: int = 12) -> list[str]:
    with contextlib.suppress(OSError):
        return log.read_text(errors="replace").splitlines()[-lines:]
    return []


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    fresh.write_text(text)
    fresh.rename(path)
