# SPDX-License-Identifier: GPL-2.0-or-later
"""``labnic bench``: boots a VM for each kind of wire, goes round the contenders, and shows the table."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labnic.bench import compare, contenders, rows, show
from labnic.bench.backend import obstacle
from labnic.bench.contenders import Contender, models_of
from labnic.bench.report import html
from labnic.bench.result import Result
from labnic.bench.rows import Row
from labnic.bench.sample import NotMeasurableError, Sample
from labnic.bench.stage import Setting, Stage
from labnic.build.cache import Cache, write_atomic
from labnic.config import Config
from labnic.errors import UsageError
from labnic.lab import Parts
from labnic.prepare import prepare
from labnic.report import Phases, run_folder

REPORT = "bench.html"
"""File of the artifacts with plots."""

ROUNDS = 5
COUNTED_ROUNDS = 3
"""At most, of rows without a clock: most agree within a few percent, and the median leaves an odd one out."""

SECONDS = 0.5
"""How long one measurement sends, about."""


@dataclass(frozen=True)
class Options:
    """What the user asked for; ``seconds`` is the time that one measurement sends."""

    rows: tuple[str, ...] = ()
    contenders: tuple[str, ...] = ()
    rounds: int = ROUNDS
    seconds: float = SECONDS
    kernel: str | None = None
    json: Path | None = None
    compare: Path | None = None
    page: Path | None = None
    profile: bool = False


def listing() -> str:
    """What can be chosen."""
    width = max(len(row.name) for row in rows.ROWS)
    lines = [f"{row.name:<{width}}  {row.title}" for row in rows.ROWS]
    return "\n".join([*lines, "", "contenders: " + ", ".join(each.name for each in contenders.CONTENDERS)])


def run(options: Options, config: Config, phases: Phases) -> int:
    """Measure, print, write; gives 1 when a frame arrived otherwise than it was sent."""
    wanted = rows.choose(options.rows)
    chosen = contenders.choose(options.contenders)
    if not any(each.model for each in chosen):
        raise UsageError(f"{contenders.CEILING} is no NIC", hint="name one beside it with --contenders")
    _check_files(options)
    old = Result.read(options.compare) if options.compare else None
    kernel = options.kernel or config.kernel
    parts = prepare(config, kernel, Cache(), phases)
    folder = run_folder(config.artifacts)
    result = Result(made_with(parts, options))
    try:
        Bench(options, config, parts, folder, phases, result).measure(wanted, chosen)
    finally:
        # What has been measured is not lost with the VM.
        if result.cells:
            show.table(result)
            show.profiles(result)
            for path in (folder / "bench.json", *([options.json] if options.json else [])):
                write_atomic(path, result.to_json().encode())
            write_atomic(folder / REPORT, html(result).encode())
    if options.page:
        show.write_page(options.page, result)
    if old:
        show.show_moves(list(compare.moves(old, result)))
    print(f"report: {folder / REPORT}", flush=True)
    return 0 if result.sound else 1


def _check_files(options: Options) -> None:
    """What cannot be written is to be known before the measurement, not after it."""
    if options.page:
        show.read_page(options.page)
    if options.json and (options.json.is_dir() or not os.access(_nearest(options.json), os.W_OK)):
        raise UsageError(f"{options.json} cannot be written", hint="name a file with --json")


def _nearest(path: Path) -> Path:
    """The path, or what exists of it."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def made_with(parts: Parts, options: Options) -> Mapping[str, str]:
    """What the figures depend on, for the heading and the file."""
    return {
        "QEMU": parts.qemu.version.split()[0],
        "Linux": f"{parts.kernel.release} ({parts.kernel.name})",
        "accelerator": parts.accel.name,
        "rounds": str(options.rounds),
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


@dataclass(frozen=True)
class Bench:
    """What all measurements of a run have in common; ``folder`` gets the VMs' logs, ``result`` the cells."""

    options: Options
    config: Config
    parts: Parts
    folder: Path
    phases: Phases
    result: Result

    def measure(self, wanted: Sequence[Row], chosen: Sequence[Contender]) -> None:
        """Fill in the cells of the result, setting by setting."""
        present = self._present(wanted, chosen)
        by_setting: dict[Setting, list[Row]] = {}
        for row in wanted:
            by_setting.setdefault(row.setting, []).append(row)
        for setting, those in by_setting.items():
            if reason := _obstacle(setting, self.parts):
                self._leave_out(those, present, reason)
                continue
            with self.phases.phase(f"{len(those)} rows, {setting.name}"):
                if setting.alone:
                    self._alone(those, present, self.folder / setting.name)
                else:
                    self._together(setting, those, present)

    def _present(self, wanted: Sequence[Row], chosen: Sequence[Contender]) -> list[Contender]:
        """Those that this QEMU has; the others' cells say that it has them not."""
        there = models_of(self.parts.qemu.binary) | {contenders.OURS}
        present = [each for each in chosen if each.model is None or each.model in there]
        version = self.parts.qemu.version.split()[0]
        for row in wanted:
            self.result.titles[row.name] = row.title
            for each in chosen:
                if each not in present:
                    self.result.cell(row.name, each.name).reason = f"QEMU {version} has no {each.model}"
        return present

    def _leave_out(self, those: Sequence[Row], present: Sequence[Contender], reason: str) -> None:
        for cell in (self.result.cell(row.name, each.name) for row in those for each in present if each.model):
            cell.reason = reason
        self.phases.note(f"{', '.join(row.name for row in those)}: {reason}")

    def _together(self, setting: Setting, those: Sequence[Row], present: Sequence[Contender]) -> None:
        """All contenders in one VM."""
        options = self.options
        place, profiled = self.folder / setting.name, options.profile
        stage = Stage(setting, present, self.config, self.parts, place, self.phases, options.seconds, profiled=profiled)
        rounds = min(options.rounds, COUNTED_ROUNDS) if setting.counted else options.rounds
        in_turn = [row for row in those for _ in range(row.repeats)]
        with stage:
            self._content(stage)
            for turn in range(1, rounds + 1):
                for row in in_turn:
                    self._round(stage, row, f"{turn}/{rounds}")

    def _alone(self, those: Sequence[Row], present: Sequence[Contender], place: Path) -> None:
        """Every contender in a VM of its own, one after the other, and that in rounds."""
        rounds = self.options.rounds
        for turn in range(1, rounds + 1):
            for row, each in ((row, each) for row in those for each in present if each.model):
                assert row.whole is not None
                cell = self.result.cell(row.name, each.name)
                folder = place / f"{row.name}-{each.name}-{turn}"
                try:
                    cell.samples.append(row.whole(each, self.config, self.parts, folder, self.phases))
                except NotMeasurableError as error:
                    cell.reason = str(error)
                else:
                    self.phases.note(f"  {turn}/{rounds} {row.name}: {each.name} {_brief(cell.samples[-1])}")

    def _content(self, stage: Stage) -> None:
        for port in stage.ports.values():
            for wrong in stage.content(port):
                self.phases.note(wrong)
                self.result.wrong.append(wrong)

    def _round(self, stage: Stage, row: Row, turn: str) -> None:
        """One row once for each contender, one after the other."""
        said = []
        measure_row = row.measure
        assert measure_row is not None
        for name, port in stage.ports.items():
            if port.nic is None and not row.sends:
                continue
            cell = self.result.cell(row.name, name)
            if cell.reason:
                continue
            try:
                cell.samples.append(measure_row(stage, port))
            except NotMeasurableError as error:
                cell.reason = str(error)
            else:
                said.append(f"{name} {_brief(cell.samples[-1])}")
        self.phases.note(f"  {turn} {row.name}: {', '.join(said) or 'nobody can'}")


def _obstacle(setting: Setting, parts: Parts) -> str:
    if setting.counted and not parts.qemu.counts:
        return "counting needs a QEMU from source (qemu.source=overlay)"
    return obstacle(setting.backend, parts)


def _brief(sample: Sample) -> str:
    """The first value, for the line that tells the progress."""
    value = next(iter(sample.values.values()), None)
    lost = f" ({sample.lost} lost)" if sample.lost else ""
    return ("no answer" if value is None else show.number(value)) + lost
