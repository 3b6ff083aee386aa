# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds what a lab is made of; everything that was built before comes from the cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labnic.accel import choose
from labnic.build import PROJECT, Progress, build_driver, build_image, build_observer, build_qemu, fetch_kernel
from labnic.build.cache import Cache
from labnic.build.tool import stop_all
from labnic.config import Config
from labnic.lab import Parts


def prepare(config: Config, kernel: str, cache: Cache, progress: Progress, project: Path = PROJECT) -> Parts:
    """QEMU with the device beside the kernel with its driver and image, then the choice of the accelerator.

    Device and driver are built from the sources in ``project``, the observer that judges them never is.

    Raises `BuildError`, `PrerequisiteError` or `ConfigError` (no such kernel); an interrupt ends the running builds.
    """
    with ThreadPoolExecutor(1) as pool:
        qemu_job = pool.submit(build_qemu, config, cache, progress, project)
        try:
            base = fetch_kernel(kernel, cache, progress)
            driver = build_driver(base, cache, progress, project)
            image = build_image(base, driver, cache, progress, [build_observer(base, cache, progress)])
            qemu = qemu_job.result()
        except BaseException:
            # Leaving the pool waits for its thread, which waits for its program.
            if not qemu_job.done():
                stop_all()
            raise
    accel = choose(config.machine.accel, qemu.binary, base.vmlinux, cache)
    files = (qemu.binary, *filter(None, [qemu.plugin]), *qemu.data_dirs, base.vmlinux, driver.module, image)
    return Parts(qemu, base, driver, image, accel, cache.hold(*files))
