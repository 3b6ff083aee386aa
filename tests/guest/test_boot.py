# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest's first program does before the lab's driver comes."""

from __future__ import annotations

from collections.abc import Callable

from labnic.lab import Lab


def test_functions_have_their_memory_before_further_cpus_run(lab_factory: Callable[..., Lab]) -> None:
    """Where the kernel leaves those to it, as some QEMUs need; the driver finds all of them."""
    lab = lab_factory(cmdline=("maxcpus=1",))
    assert int(lab.guest.sh("nproc")) == lab.config.machine.cpus > 1
    lines = lab.guest.sh("dmesg").splitlines()
    (second,) = [at for at, line in enumerate(lines) if "Booting Node 0 Processor 1" in line]
    enabled = [at for at, line in enumerate(lines) if "enabling device" in line]
    assert enabled
    assert max(enabled) < second
