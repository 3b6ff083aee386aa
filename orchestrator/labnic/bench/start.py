# SPDX-License-Identifier: GPL-2.0-or-later
"""How long it takes until one can work: a boot, a return to a saved state, another start of the driver, an edit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from labnic.bench.contenders import OURS, Contender
from labnic.bench.sample import (
    BOOT,
    DEVICE_EDIT,
    DRIVER_EDIT,
    RELOAD,
    RESTORE,
    NotMeasurableError,
    Sample,
)
from labnic.bench.stage import SETTINGS, machine_config
from labnic.build import build_driver
from labnic.build.cache import Cache
from labnic.config import Config
from labnic.lab import Lab, Parts
from labnic.mutants.tree import copy_sources
from labnic.prepare import prepare
from labnic.report import Phases

Whole = Callable[[Contender, Config, Parts, Path, Phases], Sample]
"""A measurement that boots VMs of its own, with logs in the folder."""

TAG = "bench"
"""Of the saved state."""


def start(contender: Contender, config: Config, parts: Parts, folder: Path, phases: Phases) -> Sample:
    """In a VM with this NIC alone and the lab's own memory; each ends with the interface up and with its carrier."""
    begin = time.monotonic()
    with Lab(_config(contender, config), parts, folder, phases, read_wires=False) as lab:
        booted = time.monotonic()
        lab.snapshot_save(TAG)
        saved = time.monotonic()
        lab.snapshot_load(TAG)
        lab.guest.run(["true"], check=True)
        restored = time.monotonic()
        lab.reload_driver()
        reloaded = time.monotonic()
    return Sample({BOOT.name: booted - begin, RESTORE.name: restored - saved, RELOAD.name: reloaded - restored})


def edit(contender: Contender, config: Config, parts: Parts, folder: Path, phases: Phases) -> Sample:
    """From a changed line of code in a copy of the sources to an interface that is up with it."""
    if contender.name != OURS:
        raise NotMeasurableError("its sources are not here")
    machine = _config(contender, config)
    with tempfile.TemporaryDirectory(prefix="labnic-edit-") as place:
        tree = copy_sources(Path(place) / "tree")
        with Lab(machine, parts, folder / "driver", phases, read_wires=False) as lab:
            begin = time.monotonic()
            _touch(tree / "kernel-driver" / "labnic_tx.c")
            lab.reload_driver(build_driver(parts.kernel, Cache(), phases, tree).module)
            driver = time.monotonic() - begin
        begin = time.monotonic()
        _touch(tree / "qemu-device" / "labnic_tx.c")
        edited = prepare(machine, parts.kernel.name, Cache(), phases, tree)
        with Lab(machine, edited, folder / "device", phases, read_wires=False):
            device = time.monotonic() - begin
    return Sample({DRIVER_EDIT.name: driver, DEVICE_EDIT.name: device})


def _touch(file: Path) -> None:
    """Change what the file's content is hashed to, by a line that no earlier edit had."""
    with file.open("a") as source:
        source.write(f"/* {time.time_ns()} */\n")


def _config(contender: Contender, config: Config) -> Config:
    machine = machine_config(config, SETTINGS["alone"], [contender])
    return machine.model_copy(update={"machine": config.machine})
