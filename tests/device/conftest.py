# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the device tests.

QEMU starts in a few hundredths of a second, but a machine reset costs a tenth of that: one QEMU serves all the tests
that need nothing special, is reset before each, and is replaced as soon as a test has damaged it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labnic.build import PROJECT, Cache, PlainProgress, build_qemu
from labnic.config import Config
from labnic.errors import LabnicError, VmLostError
from labnic.settings import load_settings
from labnic.softnic import Nic

from .bench import Bench, BenchOptions, MakeBench, QemuFiles, make_rom


def pytest_addoption(parser: pytest.Parser) -> None:
    """A QEMU and a plugin that are already built can be named: the way of someone who works on the device."""
    parser.addoption("--qemu", type=Path, help="QEMU's program for the device tests")
    parser.addoption("--plugin", type=Path, help="the plugin to preload for the device tests")


@pytest.fixture(scope="session")
def qemu_files(request: pytest.FixtureRequest) -> QemuFiles:
    """The QEMU under test: the one named on the command line, else the one that the settings ask for."""
    binary = request.config.getoption("--qemu", None)
    plugin = request.config.getoption("--plugin", None)
    if plugin:
        return QemuFiles(binary or Path("qemu-system-x86_64"), plugin)
    config: Config = load_settings(None).config
    project = Path(request.config.getoption("labnic_project", None) or PROJECT)
    built = build_qemu(config, Cache(), PlainProgress(), project)
    return QemuFiles(binary or built.binary, built.plugin, built.data_dirs)


@pytest.fixture(scope="session")
def rom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The firmware that halts."""
    return make_rom(tmp_path_factory.mktemp("rom") / "halt.rom")


class _Shared:
    """The QEMU that serves the ordinary tests; made when first needed."""

    def __init__(self, make: Callable[[], Bench]) -> None:
        self._make = make
        self._bench: Bench | None = None

    def get(self) -> Bench:
        if self._bench is None:
            self._bench = self._make()
        return self._bench

    def discard(self) -> None:
        if self._bench:
            self._bench.close()
        self._bench = None


@pytest.fixture(scope="session")
def new_bench(qemu_files: QemuFiles, rom: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeBench:
    """Starts a QEMU; the caller closes it."""
    folder = tmp_path_factory.mktemp("qemu")
    numbers = itertools.count()

    def make(options: BenchOptions | None = None) -> Bench:
        return Bench(qemu_files, rom, folder / f"qemu-{next(numbers)}.log", options)

    return make


@pytest.fixture(scope="session")
def _shared(new_bench: MakeBench) -> Iterator[_Shared]:
    # With the audit on, so that no test of the whole suite can make it crash; those that want to be judged ask.
    shared = _Shared(lambda: new_bench(BenchOptions(properties={"auditing": "on"})))
    yield shared
    shared.discard()


def _check(bench: Bench, damaged: Callable[[], None]) -> None:
    """A test that leaves a dead QEMU has failed, whatever it asserted."""
    if not bench.alive():
        words = bench.messages()
        damaged()
        pytest.fail(f"QEMU did not survive the test:\n{words}")


@pytest.fixture
def bench(_shared: _Shared, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A machine fresh from a reset, with a labnic of default properties but for its audit, which is on."""
    shared = _shared
    bench = shared.get()
    try:
        bench.refresh()
    except LabnicError:
        # The test before may have left QEMU stuck; it was told then. This one gets a new one.
        shared.discard()
        bench = shared.get()
    request.node.stash[BENCHES] = [bench]
    yield bench
    _check(bench, shared.discard)


@pytest.fixture
def nic(bench: Bench) -> Nic:
    """The labnic of :func:`bench`, nothing enabled yet."""
    return bench.nic


@pytest.fixture
def make_bench(new_bench: MakeBench, request: pytest.FixtureRequest) -> Iterator[MakeBench]:
    """Starts a QEMU with other options for this test alone."""
    benches: list[Bench] = []
    request.node.stash[BENCHES] = benches

    def make(options: BenchOptions | None = None, **properties: object) -> Bench:
        options = options or BenchOptions()
        benches.append(new_bench(replace(options, properties={**options.properties, **properties})))
        return benches[-1]

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture
def make_stepped(make_bench: MakeBench) -> MakeBench:
    """Starts one with a clock that the test steps."""

    def make(options: BenchOptions | None = None, **properties: object) -> Bench:
        try:
            return make_bench(replace(options or BenchOptions(), own_clock=True), **properties)
        except VmLostError as error:
            if "invalid accelerator" in str(error):
                pytest.skip("this QEMU is built without the accelerator whose clock a test can step")
            raise

    return make


@pytest.fixture
def stepped(make_stepped: MakeBench) -> Bench:
    """A machine with a clock that the test steps."""
    return make_stepped()


BENCHES: pytest.StashKey[list[Bench]] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its QEMU said."""
    report = yield
    if report.failed:
        for bench in item.stash.get(BENCHES, []):
            report.sections.append(("QEMU", bench.messages()))
    return report
