# SPDX-License-Identifier: GPL-2.0-or-later
"""``labnic contract``: boots, provokes every rule on each kernel, judges, and shows the table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labnic.build.cache import Cache
from labnic.cmdline import DRIVER_NOT_LOADED, MODELS
from labnic.config import Config
from labnic.contract import control, life, show, traffic
from labnic.contract.judge import VIOLATED, Evidence, Finding, Provoked, Row, judge
from labnic.contract.leaks import leaks
from labnic.contract.rules import CHECKERS
from labnic.contract.stage import Provocation, book_audit, perform
from labnic.errors import GuestPanicError, LabnicError, UsageError, VmLostError
from labnic.lab import Lab
from labnic.observer import Observer
from labnic.prepare import prepare
from labnic.report import Phases, run_folder

PROVOCATIONS: Sequence[Provocation] = (
    life.load,
    traffic.every_queue,
    control.up_and_down,
    control.ioctls,
    control.mtu,
    control.filters,
    control.statistics,
    control.queues,
    control.traffic_control,
    traffic.threaded,
    traffic.netconsole,
    control.tx_timeout,
    traffic.down_under_load,
    traffic.small_rings,
    life.unbind,
    life.removal,
    life.surprise_removal,
    life.failing_probe,
    life.held_attributes,
    life.unload_under_traffic,
)
"""In this order: what needs an interface in its first state comes first, what takes it away last."""


@dataclass(frozen=True)
class Options:
    """What the user asked for; ``write`` is the page that gets the table."""

    kernels: tuple[str, ...]
    driver: str = "labnic"
    as_json: bool = False
    write: Path | None = None


@dataclass(frozen=True)
class Verdicts:
    """The contract as one driver kept it on one kernel."""

    driver: str
    kernel: str
    release: str
    qemu: str
    rows: tuple[Row, ...]
    provoked: tuple[Provoked, ...]
    seconds: float
    boot_seconds: float
    lost: LabnicError | None = None


def model_of(driver: str) -> str:
    """The NIC model with that driver, named as the driver or as QEMU names the device; raises `UsageError`."""
    for model, known in MODELS.items():
        if driver in (model, known.module):
            return model
    known_drivers = ", ".join(known.module for known in MODELS.values())
    raise UsageError(f"there is no driver {driver!r} to judge", hint=f"drivers: {known_drivers}")


def run(options: Options, config: Config, phases: Phases) -> int:
    """Judge on each kernel, print, write; gives the exit code: 1 where a rule is violated, 5 or 6 for a lost VM."""
    config = _for_driver(config, model_of(options.driver), phases)
    folder = run_folder(config.artifacts)
    found: list[Verdicts] = []
    for kernel in options.kernels or config.test.kernels:
        found.append(_on_kernel(kernel, config, folder / kernel, phases))
        if not options.as_json:
            show.table(found[-1])
    (folder / "contract.json").write_text(show.as_json(found))
    if options.as_json:
        print(show.as_json(found))
    if options.write:
        show.write_page(options.write, found)
    if not options.as_json:
        print(f"artifacts: {folder}", flush=True)
    return _exit_code(found)


def _exit_code(found: Sequence[Verdicts]) -> int:
    lost = [each.lost.exit_code for each in found if each.lost]
    violated = any(row.verdict == VIOLATED for each in found for row in each.rows)
    return max(lost) if lost else int(violated)


def _for_driver(config: Config, model: str, phases: Phases) -> Config:
    """The same lab with one NIC of that model; a model that only a newer QEMU has is taken from there."""
    nic = config.nics[0].model_copy(update={"model": model})
    changes: dict[str, object] = {"nics": (nic,)}
    if model == "igb" and config.qemu.source == "packaged":
        phases.note("igb: the packaged QEMU may lack it, so one built from source is used")
        changes["qemu"] = config.qemu.model_copy(update={"source": "overlay"})
    return config.model_copy(update=changes)


def _on_kernel(kernel: str, config: Config, folder: Path, phases: Phases) -> Verdicts:
    parts = prepare(config, kernel, Cache(), phases)
    driver = MODELS[config.nics[0].model].module
    has = frozenset(name for name, feature in CHECKERS.items() if parts.kernel.has(feature))
    begin = time.monotonic()
    provoked: list[Provoked] = []
    lost: LabnicError | None = None
    with Lab(config, parts, folder, phases, parameters=(DRIVER_NOT_LOADED,)) as lab:
        for splat in lab.splats():
            phases.note(f"before the driver is loaded, and not its own: {splat}")
        observer = Observer(lab.guest)
        observer.load()
        observer.attach_driver(driver)
        try:
            with phases.phase(f"contract of {driver} on {kernel}"):
                _provoke(lab, provoked, phases)
            provoked.append(leaks(lab))
            reports, violations = observer.report(), observer.violations()
        except (VmLostError, GuestPanicError) as error:
            lost, reports, violations = error, [], []
            provoked[-1].find(provoked[-1].rules, Finding("lost VM", error.message, error.log))
        (folder / "violations.txt").write_text("\n\n".join(str(each) for each in violations))
    rows = judge(Evidence(provoked, reports, violations, has, audited=driver == "labnic"))
    return Verdicts(
        driver,
        kernel,
        parts.kernel.release,
        parts.qemu.version,
        tuple(rows),
        tuple(provoked),
        time.monotonic() - begin,
        lab.boot_seconds,
        lost,
    )


def _provoke(lab: Lab, provoked: list[Provoked], phases: Phases) -> None:
    for number, each in enumerate(PROVOCATIONS, 1):
        done = Provoked(each.name, each.rules)
        provoked.append(done)
        provoked[-1] = done = perform(lab, each)
        book_audit(lab, done)
        state = f"not done: {done.reason}" if done.reason else f"{done.seconds:.1f} s"
        bad = f", {len(done.findings)} rules broken" if done.findings else ""
        phases.note(f"  {number}/{len(PROVOCATIONS)} {each.name}: {state}{bad}")
