# SPDX-License-Identifier: GPL-2.0-or-later
"""A VM that is booted once without the NIC's driver and taken back to that moment before each use."""

from __future__ import annotations

import itertools
from pathlib import Path

from labnic.build import PROJECT, Progress
from labnic.build.cache import Cache
from labnic.cmdline import DRIVER_NOT_LOADED
from labnic.config import Config
from labnic.errors import LabnicError
from labnic.lab import Lab, Parts
from labnic.plugin import SplatFailure
from labnic.prepare import prepare

_TAG = "no-driver"


class Stand:
    """One lab, with the kernel and the driver that were last set; close it at the end.

    ``folder`` gets a folder of logs for each boot.
    """

    def __init__(self, config: Config, folder: Path, progress: Progress) -> None:
        self._config = config
        self._folder = folder
        self._progress = progress
        self._parts: dict[str, Parts] = {}
        self._lab: Lab | None = None
        self._boots = itertools.count(1)
        self.kernel = config.kernel
        self.module = Path()
        self.boots = 0

    def fresh(self) -> Lab:
        """The lab as it was after its boot. Raises `LabnicError` when it does not boot."""
        lab = self._restored() or self._booted()
        # What came in the log up to now is of the use before, or of the boot.
        lab.splats()
        return lab

    def load(self, lab: Lab) -> None:
        """Load the module into a fresh lab. Raises what that raises, or `SplatFailure` when the kernel complained."""
        try:
            lab.insmod(self.module)
        except LabnicError as error:
            # What the kernel said about it tells more.
            if splats := lab.splats():
                raise SplatFailure(splats) from error
            raise

    def _restored(self) -> Lab | None:
        """The running lab taken back, or None when it is another kernel's, has ended, or cannot be taken back."""
        lab = self._lab
        if lab is None or lab.kernel.name != self.kernel:
            return None
        try:
            for nic in lab.nics:
                nic.set_link(True)
            lab.snapshot_load(_TAG)
            for nic in lab.nics:
                if nic.has_faults:
                    nic.clear_faults()
                    nic.audit_clear()
            lab.guest.run(["true"], check=True, timeout=10.0)
        except LabnicError:
            return None
        return lab

    def _booted(self) -> Lab:
        self.close()
        folder = self._folder / f"lab-{next(self._boots)}"
        lab = Lab(self._config, self._of(self.kernel), folder, self._progress, parameters=(DRIVER_NOT_LOADED,))
        lab.start()
        self._lab, self.boots = lab, self.boots + 1
        lab.snapshot_save(_TAG)
        return lab

    def _of(self, kernel: str) -> Parts:
        if kernel not in self._parts:
            self._parts[kernel] = prepare(self._config, kernel, Cache(), self._progress, PROJECT)
        return self._parts[kernel]

    def close(self) -> None:
        """End the VM."""
        lab, self._lab = self._lab, None
        if lab:
            lab.close()
