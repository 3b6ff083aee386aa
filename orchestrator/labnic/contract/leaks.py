# SPDX-License-Identifier: GPL-2.0-or-later
"""What a driver leaves behind once it is unloaded."""

from __future__ import annotations

import time

from labnic import kmemleak
from labnic.contract.judge import Finding, Provoked
from labnic.contract.rules import SYSFS
from labnic.contract.stage import Stage
from labnic.lab import Lab
from labnic.splat import unexpected

LEFT = """
lsmod | grep -q '^{module} ' && echo "the module is still loaded"
[ -e $net ] && echo "the interface is still there"
for vector in $pci/msi_irqs/*; do [ -e $vector ] && echo "it has the interrupt ${{vector##*/}}"; done
grep -i ': {module}$' /proc/iomem && echo "a memory region is still its own"
:
"""


def leaks(lab: Lab) -> Provoked:
    """Unload the driver for good and look what is left: interrupts, memory regions, memory where the kernel tells."""
    done = Provoked("after the last unload", ("A2", "A4", "A5"))
    begin = time.monotonic()
    stage = Stage(lab, done)
    lab.rmmod()
    for line in stage.sh(LEFT.format(module=stage.module)).splitlines():
        done.find(("A5",), Finding(SYSFS, line))
    if lab.kernel.has("kmemleak"):
        for leak in kmemleak.scan(lab.guest):
            done.find(("A4", "A5"), Finding("kmemleak", leak.first, leak.lines))
    for splat in unexpected(lab.splats(), ()):
        done.find(done.rules, Finding(splat.kind, splat.first, splat.lines))
    stage.prove(SYSFS, "A5")
    done.seconds = time.monotonic() - begin
    return done
