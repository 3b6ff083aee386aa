# SPDX-License-Identifier: GPL-2.0-or-later
"""Where rules are provoked: one running lab, and what each provocation is given and leaves behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from labnic.agent import AgentError
from labnic.cmdline import MODELS
from labnic.command import GuestCommandError
from labnic.contract.judge import Finding, Provoked
from labnic.contract.rules import AUDIT, RULES
from labnic.errors import CommandTimeoutError, LabnicError, WireError
from labnic.guest import Guest
from labnic.lab import Lab
from labnic.nic import Nic
from labnic.splat import Splat, unexpected
from labnic.wire import Wire

SCRIPT_LIMIT = 60.0
"""Seconds that the script of one provocation may take in the guest."""

HEAD = """
dev={name}; net=/sys/class/net/{name}; pci=/sys/bus/pci/devices/0000:00:{slot:02x}.0
for below in $pci/0000:*; do [ -d $below ] && pci=/sys/bus/pci/devices/${{below##*/}}; done
"""
"""Of each script: the interface, its folder in sysfs, and that of the PCI function, which may be below a root port."""

HARNESS = "harness"
"""Witness of what the provocation itself saw to go wrong."""


class NotProvokedError(Exception):
    """The provocation cannot be done on this driver or kernel; the text says why, in a few words."""


@dataclass
class Stage:
    """What a provocation works with."""

    lab: Lab
    done: Provoked

    @property
    def nic(self) -> Nic:
        """The NIC whose driver is judged."""
        return self.lab.nic

    @property
    def wire(self) -> Wire:
        """The other end of its cable."""
        return self.lab.wire

    @property
    def guest(self) -> Guest:
        """Commands in the guest."""
        return self.lab.guest

    @property
    def module(self) -> str:
        """The driver's module."""
        return MODELS[self.nic.config.model].module

    @property
    def faults(self) -> bool:
        """Whether the device can be made to fail."""
        return self.nic.config.model == "labnic"

    def sh(self, script: str, *, timeout: float = SCRIPT_LIMIT) -> str:
        """Run a script in the guest with the variables of `HEAD` set; raises `GuestCommandError` when it fails."""
        return self.guest.sh(HEAD.format(name=self.nic.name, slot=self.nic.slot) + script, timeout=timeout)

    def prove(self, witness: str, *rules: str) -> None:
        """A witness of the harness saw these rules kept."""
        for name in rules:
            self.done.proofs[name] = witness

    def check(self, holds: bool, text: str, *rules: str) -> None:
        """What the harness saw with its own eyes; where it does not hold, the rules are violated."""
        if not holds:
            self.done.find(rules or self.done.rules, Finding(HARNESS, text))


@dataclass(frozen=True)
class Provocation:
    """Something that makes the kernel call a driver's callbacks; ``expects`` are kernel messages that belong to it."""

    name: str
    rules: tuple[str, ...]
    act: Callable[[Stage], None]
    expects: tuple[str, ...] = ()


def provocation(
    name: str, *rules: str, expects: Sequence[str] = ()
) -> Callable[[Callable[[Stage], None]], Provocation]:
    """Make a provocation of a function; ``rules`` are those that it puts to the test."""

    def wrap(act: Callable[[Stage], None]) -> Provocation:
        return Provocation(name, rules, act, tuple(expects))

    return wrap


def perform(lab: Lab, each: Provocation) -> Provoked:
    """Do one provocation, and book what went wrong meanwhile.

    Raises `VmLostError` and `GuestPanicError`: after them nothing more can be provoked.
    """
    done = Provoked(each.name, each.rules)
    begin = time.monotonic()
    try:
        each.act(Stage(lab, done))
    except NotProvokedError as error:
        done.reason = str(error)
    except (GuestCommandError, CommandTimeoutError, AgentError, WireError, AssertionError) as error:
        lab.check_alive()
        done.find(each.rules, Finding(HARNESS, _first(error), tuple(_detail(error))))
    lab.check_alive()
    for splat in unexpected(lab.splats(), each.expects):
        done.find(_broken(each.rules, splat), Finding(splat.kind, splat.first, splat.lines))
    done.seconds = time.monotonic() - begin
    return done


def _first(error: BaseException) -> str:
    """One line; of a script only how it ended and what it complained of last."""
    if isinstance(error, GuestCommandError):
        complaint = error.result.stderr.strip().splitlines() or ["it printed no error"]
        return f"a script ended with status {error.result.status}: {complaint[-1]}"
    return str(error).splitlines()[0]


def _detail(error: BaseException) -> Iterator[str]:
    yield from str(error).splitlines()[1:]
    if isinstance(error, LabnicError):
        yield from error.log


def _broken(rules: Sequence[str], splat: Splat) -> tuple[str, ...]:
    """The rules that a report of the kernel's own checkers is about: those that it judges, else all of them."""
    checked = tuple(rule.name for rule in RULES if rule.name in rules and splat.kind in rule.checkers)
    return checked or tuple(rules)


def book_audit(lab: Lab, done: Provoked) -> None:
    """Ask the device what its driver did wrong meanwhile, and forget it."""
    if lab.nic.config.model != "labnic":
        return
    for violation in lab.nic.audit():
        rules = [name for name in done.rules if name in ("S4", "A5", "T3")] or list(done.rules)
        done.find(rules, Finding(AUDIT, f"{violation.rule}: {violation.detail}"))
    lab.nic.audit_clear()


@contextlib.contextmanager
def in_background(stage: Stage, script: str) -> Iterator[None]:
    """A script that runs in the guest meanwhile; it is told to end by the file ``$run`` going away."""
    path = "/run/labnic-contract"
    stage.guest.sh(f": >{path}")
    head = f"dev={stage.nic.name}; net=/sys/class/net/{stage.nic.name}; run={path}\n"
    with stage.guest.start(["sh", "-c", head + script]) as process:
        try:
            yield
        finally:
            stage.guest.sh(f"rm -f {path}")
        process.wait(SCRIPT_LIMIT)
