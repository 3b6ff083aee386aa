# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages through a private apt state: own lists and cache, nothing of the system touched, no root needed.

Everything is checked by apt's own signatures. Which versions were found is remembered for a day, so that a warm cache
needs no network.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from labnic.build import sources, tool
from labnic.build.cache import Cache, JsonValue, write_atomic
from labnic.build.progress import Progress
from labnic.errors import BuildError, PrerequisiteError

DAY = 86400.0
"""Seconds that an answer about versions, and a list of packages, counts as fresh."""


@dataclass(frozen=True)
class Pin:
    """A package at an exact version."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}={self.version}"


class Apt:
    """The packages of one release of Debian (``bookworm``: with its updates, security and backports)."""

    _updated: ClassVar[set[Path]] = set()
    _updated_lock = threading.Lock()

    def __init__(self, cache: Cache, family: str, progress: Progress) -> None:
        self.cache = cache
        self.family = family
        self.progress = progress
        self.state = cache.root / "apt" / family
        self.log = cache.root / "logs" / f"apt-{family}.log"

    # Versions, remembered

    def remembered(self, question: str, ask: Callable[[], JsonValue]) -> JsonValue:
        """The answer of ``ask``, which may query the lists, remembered for a day under the name ``question``.

        When the lists cannot be renewed an older answer is used, with a note. ``Cache.refresh`` renews.
        """
        path = self.cache.root / "resolved" / f"{self.family}-{question}.json"
        known = self._known(path)
        fresh = known is not None and 0 <= time.time() - known[0] < DAY
        if known is not None and fresh and (not self.cache.refresh or path in self._updated):
            return known[1]
        try:
            self.update()
            answer = ask()
        except (BuildError, PrerequisiteError) as error:
            if known is None:
                raise
            taken = time.strftime("%Y-%m-%d", time.gmtime(known[0]))
            self.progress.note(f"package lists not renewed ({error.message}); using the versions of {taken}")
            return known[1]
        write_atomic(path, json.dumps({"time": time.time(), "answer": answer}, indent=1).encode())
        with self._updated_lock:
            self._updated.add(path)
        return answer

    @staticmethod
    def _known(path: Path) -> tuple[float, JsonValue] | None:
        try:
            document = json.loads(path.read_bytes())
            return float(document["time"]), document["answer"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def forget(self) -> None:
        """Drop the remembered versions and the age of the lists: something they promised is gone."""
        for path in (self.cache.root / "resolved").glob(f"{self.family}-*.json"):
            path.unlink(missing_ok=True)
        (self.state / "stamp").unlink(missing_ok=True)

    # Lists

    def update(self) -> None:
        """Fetch the lists unless they are younger than a day (or ``Cache.refresh`` asks, once in a process).

        Raises :class:`PrerequisiteError`, in one line, when the archive is not signed, expired or not reached.
        """
        text = sources.private_sources(
            sources.debian_archive(sources.machine_sources(), sources.machine_codename()), self.family
        )
        with self.cache.lock(f"apt-{self.family}"):
            stamp, file = self.state / "stamp", self.state / "labnic.sources"
            same = file.is_file() and file.read_text() == text
            young = stamp.exists() and 0 <= time.time() - stamp.stat().st_mtime < DAY
            if same and young and (not self.cache.refresh or self.state in self._updated):
                return
            for folder in ("lists/partial", "cache/archives/partial"):
                (self.state / folder).mkdir(parents=True, exist_ok=True)
            write_atomic(self.state / "status", b"")
            write_atomic(file, text.encode())
            stamp.unlink(missing_ok=True)
            with self.progress.phase(f"package lists of {self.family}"):
                self._fetch_lists()
            write_atomic(stamp, b"")
            with self._updated_lock:
                self._updated.add(self.state)

    def _fetch_lists(self) -> None:
        before = self.log.stat().st_size if self.log.exists() else 0
        try:
            tool.run(
                ["apt-get", *self._options(), "update", "-q"],
                what=f"fetching the package lists of {self.family}",
                log=self.log,
                limit=300,
                error=PrerequisiteError,
            )
        except PrerequisiteError as error:
            with self.log.open("rb") as log:
                log.seek(before)
                reason = explain(log.read().decode(errors="replace"))
            # A mirror without backports, or with one expired suite, is still good for the others.
            if not any(line.split("|")[0] == self.family for line in self._suites()):
                raise PrerequisiteError(
                    f"the package lists of {self.family} cannot be used: {reason}", hint=f"whole log: {self.log}"
                ) from error
            self.progress.note(f"some package lists of {self.family} are not renewed: {reason}")
        strange = [line for line in self._suites() if not line.split("|")[1].startswith("Debian")]
        if strange:
            raise PrerequisiteError(f"the archive in the machine's apt configuration is not Debian's: {strange[0]}")

    def _suites(self) -> list[str]:
        """``codename|origin`` of each list of packages that is there."""
        form = "$(CODENAME)|$(ORIGIN)|$(CREATED_BY)"
        text = tool.output(["apt-get", *self._options(), "indextargets", "--format", form], what="reading the lists")
        return [line for line in text.splitlines() if line.endswith("|Packages")]

    def _options(self) -> list[str]:
        settings = {
            "Dir::State": self.state,
            "Dir::State::lists": self.state / "lists",
            # An empty status: what is installed here says nothing about the guest.
            "Dir::State::status": self.state / "status",
            "Dir::Cache": self.state / "cache",
            "Dir::Cache::pkgcache": "pkgcache.bin",
            "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
            "Dir::Etc::sourcelist": self.state / "labnic.sources",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            # The cache may lie where apt's own user cannot go.
            "APT::Sandbox::User": "root",
            "Acquire::Retries": "3",
            "Acquire::http::Timeout": "30",
            "Acquire::Languages": "none",
            # Otherwise apt calls it a success when nothing could be fetched.
            "APT::Update::Error-Mode": "any",
        }
        return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]

    # Questions; call them inside remembered()

    def show(self, package: str, suite: str = "") -> dict[str, str]:
        """The control fields of the version that apt would take, from ``suite`` when it is named.

        Raises :class:`BuildError` when there is no such package.
        """
        target = ["-t", suite] if suite else []
        name = f"{package}/{suite}" if suite else package
        text = tool.output(
            ["apt-cache", *self._options(), *target, "show", "--no-all-versions", name],
            what=f"looking up {package} in {suite or self.family}",
            error=BuildError,
        )
        return control_fields(text)

    def closure(self, packages: Sequence[str], accept: Callable[[str], bool]) -> list[Pin]:
        """The packages and all that they depend on, as far as ``accept(name)`` lets a dependency in; sorted by name."""
        text = tool.output(
            ["apt-get", *self._options(), "install", "-s", "-qq", "--no-install-recommends", *packages],
            what=f"resolving {' '.join(packages)} in {self.family}",
        )
        pins = []
        for line in text.splitlines():
            match = re.match(r"Inst (\S+) \((\S+) ", line)
            if match and (match[1] in packages or accept(match[1])):
                pins.append(Pin(match[1], match[2]))
        return sorted(pins, key=lambda pin: pin.name)

    # Downloads

    def download(self, pins: Sequence[Pin], folder: Path) -> dict[str, Path]:
        """Download binary packages, checked by signature; returns the file of each name."""
        self._get(["download", *map(str, pins)], folder, ", ".join(pin.name for pin in pins[:3]))
        found = {}
        for pin in pins:
            files = list(folder.glob(f"{pin.name}_*.deb"))
            if len(files) != 1:
                raise BuildError(f"apt downloaded {len(files)} files for {pin}", hint=f"whole log: {self.log}")
            found[pin.name] = files[0]
        return found

    def download_source(self, pin: Pin, folder: Path) -> Path:
        """Download a source package, checked by signature; returns its ``.dsc``."""
        self._get(["source", "--download-only", str(pin)], folder, f"the source of {pin.name}")
        files = list(folder.glob("*.dsc"))
        if len(files) != 1:
            raise BuildError(f"apt downloaded {len(files)} source packages for {pin}", hint=f"whole log: {self.log}")
        return files[0]

    def _get(self, verb: Sequence[str], folder: Path, what: str) -> None:
        if not (self.state / "lists").is_dir():
            self.forget()
        self.update()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            tool.run(
                ["apt-get", *self._options(), "-q", *verb],
                what=f"downloading {what}",
                log=self.log,
                cwd=folder,
                limit=900,
            )
        except BuildError as error:
            reason = explain("\n".join(error.log))
            self.forget()
            raise BuildError(
                f"downloading {what} failed: {reason}",
                hint="run it again: versions are then looked up anew, as archives replace them",
                log=error.log,
            ) from error


def control_fields(text: str) -> dict[str, str]:
    """The ``Field: value`` lines of the first stanza of ``apt-cache show`` or a ``.dsc``."""
    fields = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        name, colon, value = line.partition(":")
        if colon and name and not name[0].isspace():
            fields[name] = value.strip()
    return fields


_REASONS: Mapping[str, str] = {
    r"is expired|Release file .* expired|no longer valid": "the archive's index has expired; its mirror lags behind",
    r"NO_PUBKEY|not signed|signatures? (?:were|couldn't|could not)": "the signature of its index cannot be checked",
    r"Temporary failure resolving|Could not resolve": "the archive's name cannot be resolved; is there a network?",
    r"Could not connect|Connection (?:failed|refused|timed out)|is unreachable": "the archive cannot be reached",
    r"does not have a Release file": "the archive does not have this suite",
    r"Version '.*' for '.*' was not found|404 +Not Found": "the archive no longer has this version",
    r"Unable to find a source package|no version": "the archive has no source of this version",
    r"No space left": "the disk is full",
}


def explain(log: str) -> str:
    """One line saying why apt failed, from its output."""
    for pattern, reason in _REASONS.items():
        if re.search(pattern, log):
            return reason
    errors = [line[2:].strip() for line in log.splitlines() if line.startswith("E:")]
    return errors[0] if errors else "apt gave no reason"
