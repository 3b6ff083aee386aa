# SPDX-License-Identifier: GPL-2.0-or-later
"""How long it takes until one can work: a boot, a return to a saved state, another start of the driver."""

from __future__ import annotations

import time
from pathlib import Path

from labnic.bench.contenders import Contender
from labnic.bench.sample import BOOT, RELOAD, RESTORE, Sample
from labnic.bench.stage import SETTINGS, machine_config
from labnic.config import Config
from labnic.lab import Lab, Parts
from labnic.report import Phases

TAG = "bench"
"""Of the saved state."""


def measure(contender: Contender, config: Config, parts: Parts, folder: Path, phases: Phases) -> Sample:
    """In a VM with this NIC alone and the lab's own memory; each ends with the interface up and with its carrier."""
    machine = machine_config(config, SETTINGS["alone"], [contender])
    machine = machine.model_copy(update={"machine": config.machine})
    begin = time.monotonic()
    with Lab(machine, parts, folder, phases, read_wires=False) as lab:
        booted = time.monotonic()
        lab.snapshot_save(TAG)
        saved = time.monotonic()
        lab.snapshot_load(TAG)
        lab.guest.run(["true"], check=True)
        restored = time.monotonic()
        lab.reload_driver()
        reloaded = time.monotonic()
    return Sample({BOOT.name: booted - begin, RESTORE.name: restored - saved, RELOAD.name: reloaded - restored})
