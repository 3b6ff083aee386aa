# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of the device: QEMU's checkpatch, and the compiler's warnings."""

from __future__ import annotations

from pathlib import Path

from labnic.build import qemusource
from labnic.build.driver import HEADER
from labnic.build.qemu import WARNINGS, build_qemu
from labnic.checks.base import Check, Context, FindingsError, refuse
from labnic.config import Config

PATCHED = ("qemu-device/*.c", "qemu-device/*.h", "qemu-device/plugin/*.c", "qemu-device/plugin/*.h", "labnic/bench/*.c")


def _checkpatch(context: Context) -> None:
    # Its headers are enough: a device that does not compile is still looked at.
    source = qemusource.headers(context.cache, context.progress)
    files = context.matching(*PATCHED)
    if not files:
        raise FindingsError("the device has no sources")
    run: list[str | Path] = ["perl", source / "scripts" / "checkpatch.pl", "--strict", "--no-tree", "--quiet", "-f"]
    problems = []
    for path in [*files, _without_tabs(context, HEADER)]:
        try:
            context.run([*run, path])
        except FindingsError as failure:
            problems.append(str(failure))
    refuse(problems)


def _without_tabs(context: Context, path: Path) -> Path:
    """A copy of the shared header with blanks: QEMU forbids the tabs that the kernel demands."""
    copy = context.directory("header") / path.name
    copy.write_text(context.text(path).expandtabs(8))
    return copy


def _warnings(context: Context) -> None:
    """The build that everything else uses makes an error of every warning."""
    lacking = {"-Wall", "-Wextra", "-Werror"} - set(WARNINGS)
    if lacking:
        raise FindingsError(f"the device is compiled without {' '.join(sorted(lacking))}")
    # The packaged QEMU, whatever the user has chosen to run.
    build_qemu(Config(), context.cache, context.progress)


CHECKS = (
    Check("device", "device: gcc -Wall -Wextra", _warnings),
    Check("device-checkpatch", "device and shared header: QEMU's checkpatch", _checkpatch),
)
