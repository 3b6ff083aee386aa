# SPDX-License-Identifier: GPL-2.0-or-later
"""The seeded bugs: one patch file each, whose header names the broken rule and the tests that must notice."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labnic.build.cache import PROJECT
from labnic.errors import ConfigError, UsageError

FOLDER = PROJECT / "tests" / "mutants"
"""Where the patches are: ``driver/NAME.patch`` and ``device/NAME.patch``."""

SIDES = {"driver": "kernel-driver", "device": "qemu-device"}
"""What is mutated, and the folder of its sources."""

RULES = (
    *("A1", "A2", "A3", "A4", "A5"),  # allocation and freeing
    *("O1", "O2", "S1", "S2", "S3", "S4", "I1", "I2", "G1", "G2"),  # open, stop, ioctl, statistics
    *("X1", "X2", "X3", "X4", "X5", "X6", "X7", "X8"),  # transmit
    *("T1", "T2", "T3", "M1", "M2", "P1", "P2", "P3"),  # time-out, receive mode, poll
    *("N1", "N2", "N3", "N4"),  # registration, MTU, traffic classes
    "HW",  # the hardware map: what device and driver owe each other
)
"""Rules that a mutant may break: those of the callback contract, and HW for docs/registers.md."""

TEST = re.compile(r"tests/(?P<group>device|guest)/(?P<file>test_\w+\.py)(?:::(?P<name>test_\w+)(?:\[[^\]\s]+\])?)?")
"""A test as pytest names it: a file, a function of it, or one set of the function's parameters."""

COMPILER = "compiler"
"""In the place of tests: the bug is one that must not build."""

_FIELDS = ("Rule", "Bug", "Kernel", "Test")
_HEADER_END = re.compile(r"diff |--- ")


@dataclass(frozen=True)
class Mutant:
    """A seeded bug; ``kernel`` is the only one that shows it, None when any does."""

    name: str
    path: Path
    rule: str
    bug: str
    tests: tuple[str, ...]
    kernel: str | None
    text: str

    @property
    def side(self) -> str:
        """``driver`` or ``device``."""
        return self.name.partition("/")[0]

    def tests_of(self, group: str) -> tuple[str, ...]:
        """Those of its tests that are in ``tests/GROUP``."""
        return tuple(test for test in self.tests if test.startswith(f"tests/{group}/"))


def parse(path: Path, name: str) -> Mutant:
    """Read one patch file. Raises `ConfigError` with the line that is wrong."""
    text = path.read_text()
    found: dict[str, list[str]] = {field: [] for field in _FIELDS}
    for number, line in enumerate(text.splitlines(), 1):
        if _HEADER_END.match(line):
            break
        if not line.strip() or line.startswith("#"):
            continue
        field, colon, value = line.partition(":")
        if line[0] in " \t" and any(found.values()):
            last = [field for field in _FIELDS if found[field]][-1]
            found[last][-1] += " " + line.strip()
        elif colon and field in _FIELDS and value.strip():
            found[field].append(value.strip())
        else:
            raise ConfigError(
                f"{path}:{number}: not a field of a mutant's header: {line}",
                hint=f"fields, in this order: {', '.join(_FIELDS)}; a line that goes on begins with a blank",
            )
    else:
        raise ConfigError(f"{path}: there is no patch in it")
    return _checked(path, name, found, text)


def _checked(path: Path, name: str, found: dict[str, list[str]], text: str) -> Mutant:
    for field in ("Rule", "Bug", "Kernel"):
        if len(found[field]) > 1 or not (found[field] or field == "Kernel"):
            raise ConfigError(f"{path}: {len(found[field])} lines `{field}:`, there must be one")
    rule, tests = found["Rule"][0], tuple(found["Test"])
    if rule not in RULES:
        raise ConfigError(f"{path}: there is no rule {rule}", hint=f"rules: {', '.join(RULES)}")
    for test in tests:
        if not TEST.fullmatch(test) and tests != (COMPILER,):
            raise ConfigError(f"{path}: `{test}` names no test", hint="as tests/guest/test_x.py::test_y, one a line")
    if not tests:
        raise ConfigError(f"{path}: no line `Test:` names a test that must notice the bug")
    mutant = Mutant(name, path, rule, found["Bug"][0], tests, next(iter(found["Kernel"]), None), text)
    if mutant.side == "driver" and mutant.tests_of("device"):
        raise ConfigError(f"{path}: tests of the device run without the driver and cannot notice its bugs")
    return mutant


def load(folder: Path = FOLDER) -> list[Mutant]:
    """All mutants by name. Raises `ConfigError` for the first that cannot be used, or when there are none."""
    mutants = [parse(path, f"{side}/{path.stem}") for side in SIDES for path in sorted((folder / side).glob("*.patch"))]
    if not mutants:
        raise ConfigError(f"{folder} has no mutants")
    return mutants


def select(mutants: Sequence[Mutant], words: Iterable[str]) -> list[Mutant]:
    """Those that one of the words names: a whole name, its last part, a shell pattern, or a rule; all without words.

    Raises `UsageError` for a word that names none.
    """
    wanted = list(words)
    for word in wanted:
        if not any(_named(mutant, word) for mutant in mutants):
            raise UsageError(f"no mutant is named {word}", hint="`labnic mutants --list` names them and their rules")
    return [mutant for mutant in mutants if not wanted or any(_named(mutant, word) for word in wanted)]


def _named(mutant: Mutant, word: str) -> bool:
    last = mutant.name.partition("/")[2]
    return mutant.rule == word or fnmatch.fnmatch(mutant.name, word) or fnmatch.fnmatch(last, word)
