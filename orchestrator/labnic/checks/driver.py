# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of the kernel modules: the compiler's warnings and sparse for every kernel, and the kernel's checkpatch."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

from labnic.build.cache import JsonValue, hash_files
from labnic.build.driver import DRIVER, HEADER, OBSERVER, Module, build_module, driver_sources
from labnic.build.kernel import checkpatch, fetch_kernel
from labnic.build.kerneltable import kernel_table
from labnic.checks.base import Check, Context, FindingsError, refuse

MODULES = (DRIVER, OBSERVER)

SPARSE = ("C=2", "CHECK=sparse", "CF=-D__CHECK_ENDIAN__")

PATCHED = (
    "kernel-driver/*.c",
    "kernel-driver/*.h",
    "kernel-driver/*/*.c",
    "kernel-driver/*/*.h",
    "tests/guest/*/*.c",
)

HEADER_EXCEPTIONS = "COMPLEX_MACRO,MACRO_ARG_REUSE"
"""What the list of counters in the shared header cannot do without: ``X(a) X(b)`` is not an expression."""


def _warnings(module: Module, kernel: str, context: Context) -> None:
    """W=1, with warnings as errors; the build that everything else uses."""
    base = fetch_kernel(kernel, context.cache, context.progress)
    built = build_module(module, base, context.cache, context.progress, context.root)
    said = built.log.read_text(errors="replace")
    if re.search(r"\bwarning:", said):
        raise FindingsError(said)


def _sparse(module: Module, kernel: str, context: Context) -> None:
    base = fetch_kernel(kernel, context.cache, context.progress)
    files = driver_sources(context.root, module)
    key: dict[str, JsonValue] = {
        "kernel": base.identity,
        "flags": SPARSE,
        "files": hash_files(files, context.root),
        "sparse": context.run(["sparse", "--version"]),
    }

    def judge(folder: Path) -> None:
        tree = context.directory(f"sparse-{module.what}-{kernel}")
        context.copy([path.relative_to(context.root) for path in files], tree)
        where = tree / module.folder
        jobs = f"-j{os.cpu_count() or 1}"
        said = context.run(["make", "-C", base.kdir, f"M={where}", jobs, *SPARSE, "modules"], cwd=where)
        said = said.replace(f"{tree}/", "")
        if " CHECK " not in said:
            raise FindingsError(f"make did not run sparse:\n{said}")
        # Headers of a kernel that is newer than this sparse may puzzle it; only what is ours is judged.
        ours = re.compile(r"^(?:\./)?(?:kernel-driver|qemu-device|tests)/\S+:\d+:\d+: (?:warning|error):")
        refuse([line for line in said.splitlines() if ours.match(line)])
        (folder / "sparse.log").write_text(said)

    # It compiles everything anew, so the verdict of the same sources is kept; a bad one raises and is not.
    context.cache.entry("sparse", key, judge, keep=10)


def _checkpatch(context: Context) -> None:
    kernel = next(iter(kernel_table().packaged()))
    script = checkpatch(kernel, context.cache, context.progress) / "checkpatch.pl"
    run: list[str | Path] = [
        "perl",
        script,
        "--strict",
        "--no-tree",
        "--quiet",
        "--show-types",
        "--max-line-length=80",
        "-f",
    ]
    files = context.matching(*PATCHED)
    if not files:
        raise FindingsError("the driver has no sources")
    problems = []
    for argv in ([*run, *files], [*run[:-1], "--ignore", HEADER_EXCEPTIONS, "-f", HEADER]):
        try:
            context.run(argv)
        except FindingsError as failure:
            problems.append(str(failure))
    refuse(problems)


def checks() -> tuple[Check, ...]:
    """Two checks of each module for each packaged kernel of ``images/kernels.yaml``, and one of all sources.

    Kernels that are built here have the sources of a packaged one, and take minutes before the first check.
    """
    pairs = [(module, kernel) for module in MODULES for kernel in kernel_table().packaged()]
    return (
        *(
            Check(
                f"{module.what}-{kernel}", f"{module.what}: W=1 for kernel {kernel}", partial(_warnings, module, kernel)
            )
            for module, kernel in pairs
        ),
        *(
            Check(
                "-".join(["sparse", *([module.what] if module is not DRIVER else []), kernel]),
                f"{module.what}: sparse for kernel {kernel}",
                partial(_sparse, module, kernel),
            )
            for module, kernel in pairs
        ),
        Check("checkpatch", "modules and shared header: the kernel's checkpatch --strict", _checkpatch),
    )
