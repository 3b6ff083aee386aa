# SPDX-License-Identifier: GPL-2.0-or-later
"""The observer of the callback contract, ``netdev_contract.ko``: loads it in the guest and reads what it saw.

What its files say, and what each rule means, is in ``kernel-driver/contract/README.md``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from labnic.errors import InternalError, UsageError
from labnic.guest import Guest, GuestCommandError

MODULE = "netdev_contract"
FOLDER = f"/sys/kernel/debug/{MODULE}"
FORMAT = 1
"""Of the report, as its first line says (NC_FORMAT in contract_report.c)."""


@dataclass(frozen=True)
class RuleReport:
    """One rule at one callback of one interface.

    ``judged`` counts the looks at the rule; ``calls``, ``contexts``, ``locks`` and ``returns`` are those of the
    callback. ``dev`` is ``*`` for what a driver did without an interface and ``-`` for a rule of the kernel alone.
    """

    rule: str
    dev: str
    driver: str
    callback: str
    witness: str
    calls: int
    judged: int
    violations: int
    own: int
    """Of the violations: the driver called its callback itself, and not the kernel."""
    contexts: Mapping[str, int] = field(default_factory=dict)
    locks: Mapping[str, int] = field(default_factory=dict)
    returns: Mapping[str, int] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True)
class ContractViolation:
    """How a rule was broken: how often, and of the first time the value that the text speaks of, and the stack."""

    rule: str
    dev: str
    driver: str
    callback: str
    count: int
    value: int
    contexts: tuple[str, ...]
    text: str
    task: str
    own: bool
    """The driver called its callback itself."""
    stack: tuple[str, ...]

    def __str__(self) -> str:
        calls = "".join(f"\n    {frame}" for frame in self.stack)
        where = f"{self.dev} {self.callback}, in {self.task} ({', '.join(self.contexts) or 'process'})"
        by = ", by the driver itself" if self.own else ""
        return f"{self.rule}: {self.text} [{self.value}]{by}, {self.count} times: {where}{calls}"


def parse_report(text: str) -> list[RuleReport]:
    """The lines of the file ``report``. Raises `InternalError` for another format than `FORMAT`."""
    first, *lines = text.splitlines() or [""]
    if _words(first).get("format") != str(FORMAT):
        raise InternalError(f"the observer's report has not the format {FORMAT}: {first!r}")
    return [_rule(_words(line)) for line in lines if line]


def parse_missed(text: str) -> int:
    """How many calls the observer could not follow, from the first line of ``report``."""
    words = _words(text.partition("\n")[0])
    return int(words["missed"]) + int(words["missed_nested"])


def parse_violations(text: str) -> list[ContractViolation]:
    """The records of the file ``violations``: a line of words, then lines that begin with a space."""
    found: list[ContractViolation] = []
    for head, more in _records(text.splitlines()):
        words = _words(head)
        if "rule" not in words:
            raise InternalError(f"the observer could not keep all violations: {head}")
        parts = [line.strip().partition(" ")[::2] for line in more]
        told = dict(parts)
        found.append(
            ContractViolation(
                rule=words["rule"],
                dev=words["dev"],
                driver=words["driver"],
                callback=words["callback"],
                count=int(words["count"]),
                value=int(words["value"]),
                contexts=tuple(words["contexts"].split(",")) if words["contexts"] else (),
                text=told["text"],
                task=told["task"],
                own=words["own"] == "1",
                stack=tuple(rest for name, rest in parts if name == "stack"),
            )
        )
    return found


def _records(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    head, more = "", list[str]()
    for line in lines:
        if line.startswith(" "):
            more.append(line)
            continue
        if head:
            yield head, more
        head, more = line, []
    if head:
        yield head, more


def _words(line: str) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in line.split())


def _counts(text: str) -> dict[str, int]:
    return {name: int(count) for name, _, count in (item.rpartition(":") for item in text.split(",") if item)}


def _rule(words: Mapping[str, str]) -> RuleReport:
    try:
        return RuleReport(
            rule=words["rule"],
            dev=words["dev"],
            driver=words["driver"],
            callback=words["callback"],
            witness=words["witness"],
            calls=int(words["calls"]),
            judged=int(words["judged"]),
            violations=int(words["violations"]),
            own=int(words["own"]),
            contexts=_counts(words["contexts"]),
            locks=_counts(words["locks"]),
            returns=_counts(words["returns"]),
            why=words.get("why", ""),
        )
    except (KeyError, ValueError) as error:
        raise InternalError(f"a line of the observer's report cannot be read ({error!r}): {words}") from error


class Observer:
    """The module in one guest; as a context manager it is loaded at the beginning and unloaded at the end."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def load(self) -> None:
        """Load the module; nothing happens when it is there. Raises `GuestCommandError` with the kernel's reason."""
        self._guest.run(["modprobe", MODULE], check=True)

    def unload(self) -> None:
        """Unload the module: at any time, whatever is watched. Raises `GuestCommandError` when it is not there."""
        self._guest.run(["rmmod", MODULE], check=True)

    def attach_dev(self, name: str) -> None:
        """Watch an interface. Raises `UsageError` when there is none of that name, or it is watched already."""
        self._write("attach", f"dev {name}")

    def attach_driver(self, name: str) -> None:
        """Watch a driver's interfaces, those to come included; the driver need not be loaded yet."""
        self._write("attach", f"driver {name}")

    def detach(self, what: str = "all") -> None:
        """Stop watching: everything, or ``dev NAME``, or ``driver NAME``. Raises `UsageError` for what is unknown."""
        self._write("detach", what)

    def attached(self) -> list[str]:
        """What is watched, as ``dev eth0`` or ``driver labnic``; an interface that vanished has " (gone)" behind it."""
        return self._guest.read_text(f"{FOLDER}/attach").splitlines()

    def report(self) -> list[RuleReport]:
        """What was seen so far, one entry for each rule and callback."""
        return parse_report(self._guest.read_text(f"{FOLDER}/report"))

    def missed(self) -> int:
        """Calls that could not be followed since the probes were set."""
        return parse_missed(self._guest.read_text(f"{FOLDER}/report"))

    def violations(self) -> list[ContractViolation]:
        """The violations so far, each kind once."""
        return parse_violations(self._guest.read_text(f"{FOLDER}/violations"))

    def clear(self) -> None:
        """Forget what was seen, and go on watching."""
        self._write("clear", "1")

    def __enter__(self) -> Self:
        self.load()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(GuestCommandError):
            self.unload()

    def _write(self, file: str, text: str) -> None:
        try:
            self._guest.write(f"{FOLDER}/{file}", text)
        except GuestCommandError as error:
            said = [line for line in self._guest.run(["dmesg"]).lines if f" {MODULE}: " in line]
            if not said:
                raise
            raise UsageError(f"the observer refuses `{text}`: {said[-1].partition(f'{MODULE}: ')[2]}") from error
