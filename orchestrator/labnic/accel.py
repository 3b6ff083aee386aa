# SPDX-License-Identifier: GPL-2.0-or-later
"""Which accelerator the VM gets: KVM only where a real boot has proved it.

/dev/kvm can open, create a VM and report it running while no guest ever prints a line (a nested, paravirtual KVM), and
``accel=kvm:tcg`` does not notice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from labnic.build.cache import Cache, canonical, write_atomic
from labnic.cmdline import PVH_FIRMWARE
from labnic.errors import PrerequisiteError
from labnic.machine import leashed

PROOF_LIMIT = 5.0
"""Seconds for a guest under KVM to print its first line; with a KVM that works it takes a few tenths."""

_KVM = Path("/dev/kvm")
_PROOF = b"Linux version"  # the first line of every kernel


@dataclass(frozen=True)
class Accel:
    """The accelerator and why it was chosen."""

    name: Literal["tcg", "kvm"]
    reason: str


def choose(
    wanted: Literal["auto", "tcg", "kvm"],
    binary: Path,
    kernel: Path,
    cache: Cache,
) -> Accel:
    """The accelerator for this QEMU and kernel.

    The verdict about KVM is remembered for this QEMU, kernel and running host.  Raises `PrerequisiteError` when the
    settings demand KVM and it does not work.
    """
    if wanted == "tcg":
        return Accel("tcg", "the settings ask for it")
    verdict = _device_problem() or _remembered(binary, kernel, cache)
    if wanted == "kvm" and verdict.name != "kvm":
        raise PrerequisiteError(
            f"the settings ask for KVM, but {verdict.reason}", hint="set machine.accel to auto or tcg"
        )
    return verdict


def _device_problem() -> Accel | None:
    """What can be said without starting anything."""
    try:
        os.close(os.open(_KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Accel("tcg", f"{_KVM} cannot be used: {error.strerror}")
    return None


def _remembered(binary: Path, kernel: Path, cache: Cache) -> Accel:
    host = os.uname()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    files = [f"{path} {path.stat().st_mtime_ns} {path.stat().st_size}" for path in (binary, kernel)]
    key = hashlib.sha256(canonical({"files": files, "host": host.release, "boot": boot})).hexdigest()[:20]
    path = cache.root / "accel" / f"{key}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Accel(**json.loads(path.read_text()))
    verdict = prove_kvm(binary, kernel)
    write_atomic(path, json.dumps(asdict(verdict)).encode())
    return verdict


def prove_kvm(binary: Path, kernel: Path, limit: float = PROOF_LIMIT) -> Accel:
    """Boot the kernel under KVM until its first line, for at most ``limit`` seconds."""
    argv = [
        *(str(binary), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256M", "-bios", PVH_FIRMWARE),
        *("-kernel", str(kernel), "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1", "-serial", "stdio"),
    ]
    begin = time.monotonic()
    process = subprocess.Popen(
        leashed(argv, {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        printed, ended = _first_line(process, limit)
        if printed:
            return Accel(
                "kvm", f"a guest booted under KVM printed its first line after {time.monotonic() - begin:.1f} s"
            )
        if not ended:
            return Accel("tcg", f"{_KVM} opens, but a guest printed nothing within {limit:g} s")
        process.wait(2.0)
        assert process.stderr is not None
        words = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        last = words[-1].partition(": ")[2] if words else f"status {process.returncode}"
        return Accel("tcg", f"{_KVM} opens, but QEMU cannot run a guest with it: {last}")
    finally:
        process.kill()
        process.communicate()


def _first_line(process: subprocess.Popen[bytes], limit: float) -> tuple[bool, bool]:
    """Whether the kernel printed its first line, and whether QEMU closed its output without that."""
    assert process.stdout is not None
    deadline = time.monotonic() + limit
    data = b""
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([process.stdout], [], [], left)
        if not ready:
            break
        piece = os.read(process.stdout.fileno(), 65536)
        if not piece:
            return False, True
        data += piece
        if _PROOF in data:
            return True, False
    return False, False
