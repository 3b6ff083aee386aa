# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest plugin: a booted lab as fixtures, and no test that passes beside a kernel warning.

Load it with ``-p labnic.plugin``.  The lab boots when the first test asks for it and ends with the session.  Once the
VM is lost, the tests that need it are skipped with the reason and the session ends with the exit code of that reason.
"""

from __future__ import annotations

import contextlib
import json
import random
import shlex
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from labnic.build import Kernel, fetch_kernel
from labnic.config import Config, NicConfig
from labnic.errors import GuestPanicError, LabnicError, UsageError, VmLostError
from labnic.fault import DeviceGoneError, Violation, hardware
from labnic.guest import Guest
from labnic.kernelfit import MARKER, KernelFit, leaked
from labnic.lab import Lab, Parts
from labnic.nic import Nic
from labnic.qmp import Qmp
from labnic.report import Phases, error_lines, run_folder
from labnic.settings import load_settings
from labnic.splat import Splat, unexpected
from labnic.wire import Wire

OUTCOME = "outcome.json"
"""File in the artifacts folder that tells ``labnic test`` how the session ended."""

CONSOLE_LINES = 15
"""Lines of the console that a failure shows."""

_EXIT_CODES = {
    pytest.ExitCode.INTERRUPTED: 1,  # errors while collecting, unless it was the user
    pytest.ExitCode.INTERNAL_ERROR: 8,
    pytest.ExitCode.USAGE_ERROR: 2,
    pytest.ExitCode.NO_TESTS_COLLECTED: 1,
}


LENDER = "labnic-lender"
"""Name of a pytest plugin that lends the session its lab; see `Lender`."""


class Lender(Protocol):
    """Whoever runs pytest in his own process can lend it a lab that is running already, and keeps it afterwards."""

    def lend(self) -> Lab:
        """The lab, with its NICs' driver loaded; called when the first test asks for it."""
        ...


class AuditFailure(AssertionError):  # noqa: N818 - reads as a test's failure
    """The driver did during the test what the device's audit says it must not."""


class SplatFailure(AssertionError):  # noqa: N818 - reads as a test's failure
    """The kernel complained during the test."""

    def __init__(self, splats: Sequence[Splat]) -> None:
        super().__init__(_splat_text(splats))
        self.splats = tuple(splats)


@dataclass
class Session:
    """What the plugin knows about this pytest run."""

    config: pytest.Config
    seed: int
    lab: Lab | None = None
    others: list[Lab] = field(default_factory=list)
    lost: LabnicError | None = None
    folder: Path | None = None
    phases: Phases = field(default_factory=lambda: Phases(quiet=True))
    collected: int = 0
    splats: int = 0
    failures: int = 0
    allowed: tuple[str, ...] = ()
    extra_labs: int = 0
    loaded: Config | None = None
    interrupted: bool = False

    def artifacts(self) -> Path:
        """The folder of this run, made when it is first needed."""
        if self.folder is None:
            named = self.config.getoption("labnic_artifacts")
            if named:
                self.folder = Path(named).absolute()
                self.folder.mkdir(parents=True, exist_ok=True)
            else:
                self.folder = run_folder(self.settings().artifacts)
        return self.folder

    def settings(self) -> Config:
        """The configuration of the lab."""
        if self.loaded is None:
            named = self.config.getoption("labnic_config")
            self.loaded = load_settings(Path(named) if named else None).config
        return self.loaded

    def kernel(self) -> str:
        """Name of the kernel to boot."""
        return str(self.config.getoption("labnic_kernel") or self.settings().kernel)

    def parts(self, kernel: str) -> Parts:
        """What a lab is made of; from the cache unless something was edited."""
        from labnic.build.cache import PROJECT, Cache
        from labnic.prepare import prepare

        project = Path(self.config.getoption("labnic_project") or PROJECT)
        return prepare(self.settings(), kernel, Cache(), self.phases, project)

    def fetch(self, kernel: str) -> Kernel:
        """The kernel alone."""
        from labnic.build.cache import Cache

        return fetch_kernel(kernel, Cache(), self.phases)

    def notice_loss(self) -> LabnicError | None:
        """The reason why the VM is gone, when that is noticed now for the first time."""
        if self.lab is None or self.lost is not None:
            return None
        try:
            self.lab.check_alive()
        except LabnicError as error:
            self.lost = error
        return self.lost


class _Interrupts:
    """Tells the user's Ctrl-C from errors while collecting, which pytest ends in the same way."""

    def __init__(self, state: Session) -> None:
        self._state = state

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self._state.interrupted = not isinstance(excinfo.value, pytest.Session.Interrupted)


_SESSION = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options for tests that need a lab."""
    group = parser.getgroup("labnic")
    group.addoption("--labnic-config", help="file of settings (default: labnic.yaml as `labnic` finds it)")
    group.addoption("--labnic-kernel", help="kernel to boot (default: the settings')")
    group.addoption("--labnic-project", help="folder with the sources of driver and device (default: the checkout)")
    group.addoption("--labnic-artifacts", help="folder for logs and captures (default: a new one)")
    group.addoption("--labnic-seed", type=int, help="seed of `random` (default: a new one, printed)")


def pytest_configure(config: pytest.Config) -> None:
    """Start the bookkeeping."""
    config.addinivalue_line("markers", "expect_splat(regex...): kernel reports that this test provokes")
    config.addinivalue_line("markers", "expect_audit(rule...): rules of the device's audit that this test breaks")
    seed = config.getoption("labnic_seed")
    state = Session(config, random.SystemRandom().randrange(1 << 32) if seed is None else seed)
    config.stash[_SESSION] = state
    config.pluginmanager.register(_Interrupts(state))
    config.addinivalue_line("markers", MARKER)
    config.pluginmanager.register(KernelFit(state.kernel, state.fetch))


def pytest_report_header(config: pytest.Config) -> str:
    """The seed, so that a failure can be run again."""
    return f"labnic: seed {config.stash[_SESSION].seed}"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Count, for `labnic test`: a run without tests is a failure."""
    session.config.stash[_SESSION].collected = len(session.items)


# Fixtures


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab of the session: booted once."""
    state = request.config.stash[_SESSION]
    lender: Lender | None = request.config.pluginmanager.get_plugin(LENDER)
    try:
        if lender:
            state.lab = lender.lend()
        else:
            parts = state.parts(state.kernel())
            state.lab = Lab(state.settings(), parts, state.artifacts() / "lab", state.phases)
            state.lab.start()
    except LabnicError as error:
        state.lost, state.lab = error, None
        raise
    yield state.lab
    state.notice_loss()
    if state.lost is None:
        state.lab.collect()
    # The detector tells of leaks in the log, too, but only how many.
    whole = state.lost is None and not state.interrupted
    last = leaked(state.lab) if whole else []
    last += unexpected(state.lab.splats(), state.allowed)
    if lender is None:
        state.lab.close()
    # From here on its end is no loss.
    state.lab = None
    if last:
        raise SplatFailure(last)


@pytest.fixture
def guest(lab: Lab) -> Guest:
    """Commands in the guest."""
    return lab.guest


@pytest.fixture
def nic(lab: Lab) -> Nic:
    """The first NIC."""
    return lab.nic


@pytest.fixture
def wire(lab: Lab) -> Wire:
    """The cable of the first NIC, with nothing of an earlier test in it."""
    lab.wire.flush()
    return lab.wire


@pytest.fixture
def qmp(lab: Lab) -> Qmp:
    """QEMU's control channel."""
    return lab.qmp


def _another_lab(
    state: Session,
    cmdline: tuple[str, ...] = (),
    kernel: str | None = None,
    nics: Sequence[NicConfig] | None = None,
    extra: tuple[str, ...] = (),
) -> Lab:
    """A lab beside that of the session, which is still to be started."""
    config = state.settings()
    if nics is not None:
        config = config.model_copy(update={"nics": tuple(nics)})
    state.extra_labs += 1
    folder = state.artifacts() / f"lab-{state.extra_labs}"
    made = Lab(config, state.parts(kernel or state.kernel()), folder, state.phases, parameters=cmdline, extra=extra)
    state.others.append(made)
    return made


@pytest.fixture
def lab_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., Lab]]:
    """Boots another VM for this test: ``lab_factory(cmdline=(...), kernel=None, nics=None, extra=())``.

    ``cmdline`` are words for the kernel, ``extra`` for QEMU, ``nics`` replace those of the configuration.
    """
    with contextlib.ExitStack() as labs:

        def make(**options: Any) -> Lab:
            made = _another_lab(request.config.stash[_SESSION], **options)
            labs.callback(made.close)
            made.start()
            return made

        yield make


@pytest.fixture(scope="module")
def own_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A VM for one module, which gives it as ``lab`` by a fixture of that name: for what a kernel does not forget."""
    made = _another_lab(request.config.stash[_SESSION])
    try:
        made.start()
        yield made
    finally:
        made.close()


# Each test


def _needs_lab(item: pytest.Item) -> bool:
    return "lab" in getattr(item, "fixturenames", ())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Do not try what cannot work any more; otherwise mark the test's beginning in the captures."""
    state = item.config.stash[_SESSION]
    random.seed(f"{state.seed} {item.nodeid}")
    state.allowed = tuple(pattern for mark in item.iter_markers("expect_splat") for pattern in mark.args)
    if _needs_lab(item):
        if state.lost is not None:
            pytest.skip(f"the VM is lost: {state.lost.message}")
        _mark(state, f"begin {item.nodeid}")


def _mark(state: Session, text: str) -> None:
    if state.lab is not None:
        for wire in state.lab.wires.values():
            wire.mark(text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run the test, then look into the kernel logs."""
    try:
        result = yield
    except LabnicError:
        item.config.stash[_SESSION].notice_loss()
        raise
    _check_logs(item)
    _check_audit(item)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """What the kernel says while the test cleans up is the test's as well."""
    _clear_faults(item.config.stash[_SESSION])
    result = yield
    _check_logs(item)
    _check_audit(item)
    return result


def _clear_faults(state: Session) -> None:
    """Faults end with their test, before its fixtures put the NIC back as it was."""
    if state.lab is None or state.lost is not None or not state.lab.machine.alive():
        return
    # Whoever needs the VM that is lost meanwhile is told; a device that was unplugged has no faults.
    with contextlib.suppress(VmLostError, DeviceGoneError):
        for nic in state.lab.nics:
            if nic.has_faults:
                nic.clear_faults()


def _check_logs(item: pytest.Item) -> None:
    state = item.config.stash[_SESSION]
    labs = [state.lab] if state.lab is not None else []
    found: list[Splat] = []
    for each in (*labs, *state.others):
        found += unexpected(each.splats(), state.allowed)
    state.others = [each for each in state.others if each.machine.alive()]
    # The loss is told once, by the test in which it happened.
    lost = state.notice_loss() if _needs_lab(item) else None
    if lost is not None and not found:
        raise lost
    if found:
        raise SplatFailure(found)


def _check_audit(item: pytest.Item) -> None:
    """What the devices of all labs that run have seen since the last look; each violation is told once."""
    state = item.config.stash[_SESSION]
    if state.lost is not None or not state.settings().qemu.audit:
        return
    allowed = {rule for mark in item.iter_markers("expect_audit") for rule in mark.args}
    unknown = allowed - {rule.name for rule in hardware().audits}
    if unknown:
        raise UsageError(f"expect_audit: there is no rule {', '.join(sorted(unknown))}", hint="see docs/registers.md")
    labs = [*([state.lab] if state.lab is not None else []), *state.others]
    found = [violation for lab in labs if lab.machine.alive() for violation in _violations(lab)]
    wrong = [str(violation) for violation in found if violation.rule not in allowed]
    if wrong:
        raise AuditFailure("the device saw its driver do what it must not:\n" + "\n".join(wrong))


def _violations(lab: Lab) -> list[Violation]:
    found: list[Violation] = []
    # A VM that ends meanwhile is told by the look at the logs; a device may have been unplugged.
    with contextlib.suppress(VmLostError, DeviceGoneError):
        for nic in lab.nics:
            if nic.has_faults and (violations := nic.audit()):
                found += violations
                nic.audit_clear()
    return found


def _splat_text(splats: Sequence[Splat]) -> str:
    return "\n\n".join("\n".join((str(splat), *splat.lines)) for splat in splats)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Count, and add to a failure what helps to find its cause."""
    report: pytest.TestReport = yield
    state = item.config.stash[_SESSION]
    if report.failed and call.excinfo is not None:
        error = call.excinfo.value
        if isinstance(error, SplatFailure):
            state.splats += 1
        else:
            state.failures += 1
        if isinstance(error, VmLostError | GuestPanicError) and _needs_lab(item) and state.lost is None:
            state.lost = error
        report.sections.append(("labnic", _explanation(item, state, error)))
    return report


def _explanation(item: pytest.Item, state: Session, error: BaseException) -> str:
    lines: list[str] = []
    if isinstance(error, LabnicError):
        lines += [*(f"| {line}" for line in error.log), *([f"hint: {error.hint}"] if error.hint else [])]
    if _needs_lab(item) and state.lab is not None:
        state.lab.collect() if state.lost is None else None
        lines += ["last console lines:", *(f"| {line}" for line in state.lab.console_tail(CONSOLE_LINES))]
        lines.append(f"logs and captures: {state.lab.directory}")
    again = ["labnic", "test", item.nodeid, "--seed", str(state.seed)]
    if _needs_lab(item):
        again += ["--kernel", state.kernel()]
    lines.append(f"run it again: {shlex.join(again)}")
    return "\n".join(lines)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Give the session the exit code of the worst that happened."""
    state = session.config.stash[_SESSION]
    code = _EXIT_CODES.get(pytest.ExitCode(exitstatus), int(exitstatus))
    if state.interrupted:
        code = 130
    elif state.lost is not None:
        code = state.lost.exit_code
    elif state.splats and not state.failures:
        code = 7
    session.exitstatus = code
    if session.config.getoption("labnic_artifacts"):
        state.phases.save(state.artifacts() / "phases.json")
        outcome = {"collected": state.collected, "exit": code, "seed": state.seed}
        (state.artifacts() / OUTCOME).write_text(json.dumps(outcome))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Where the artifacts are, and why the VM was lost."""
    state = terminalreporter.config.stash[_SESSION]
    if state.lost is not None:
        terminalreporter.write_sep("=", "the VM was lost", red=True)
        for line in error_lines(state.lost):
            terminalreporter.write_line(line)
    if state.folder is not None:
        terminalreporter.write_line(f"labnic: logs and captures are in {state.folder}")
