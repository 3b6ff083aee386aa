# SPDX-License-Identifier: GPL-2.0-or-later
"""Which package archive this machine uses, read from its own apt configuration.

No address of an archive stands in this project. The machine's Debian archive is found among its sources, in both
formats that apt knows, and the wanted suites are asked of the same archive.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labnic.errors import PrerequisiteError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""The archive keys that Debian's package debian-archive-keyring installs."""

_KEPT_OPTIONS = {"signed-by": "Signed-By", "check-valid-until": "Check-Valid-Until", "trusted": "Trusted"}
_RELATIVE_NAMES = ("stable", "oldstable", "oldoldstable", "testing")


@dataclass(frozen=True)
class Source:
    """One archive as a source of apt names it; ``place`` is ``file:line`` of its first line."""

    uri: str
    suite: str
    components: tuple[str, ...]
    place: str
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Archive:
    """The machine's Debian archive and, where it has one, its archive of security updates."""

    main: Source
    security: Source | None


def machine_codename(release: Path = Path("/etc/os-release")) -> str:
    """The machine's suite, such as ``bookworm``. Raises :class:`PrerequisiteError` on anything but Debian."""
    try:
        fields = dict(line.split("=", 1) for line in release.read_text().splitlines() if "=" in line)
    except OSError as error:
        raise PrerequisiteError(f"{release} cannot be read, so the distribution is not known") from error
    fields = {name: value.strip("\"'") for name, value in fields.items()}
    if fields.get("ID") != "debian" or not fields.get("VERSION_CODENAME"):
        name = fields.get("PRETTY_NAME", "this system")
        raise PrerequisiteError(f"labnic prepares itself on Debian; this is {name}", hint="use Debian 12 or later")
    return fields["VERSION_CODENAME"]


def machine_sources(etc: Path = Path("/etc/apt")) -> list[Source]:
    """Every enabled ``deb`` source of the machine, in both of apt's formats; unreadable files are passed over."""
    found: list[Source] = []
    files = [
        etc / "sources.list",
        *sorted(etc.glob("sources.list.d/*.list")),
        *sorted(etc.glob("sources.list.d/*.sources")),
    ]
    for file in files:
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        found += _deb822(text, file) if file.suffix == ".sources" else _one_line(text, file)
    return found


def _one_line(text: str, file: Path) -> list[Source]:
    """``deb [option=value ...] URI suite component ...``."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s+([^#]+)", line)
        if not match:
            continue
        options = dict(word.split("=", 1) for word in shlex.split(match[1] or "") if "=" in word)
        source = Source(match[2], match[3], tuple(match[4].split()), f"{file}:{number}", _kept(options))
        found.append(source)
    return found


def _deb822(text: str, file: Path) -> list[Source]:
    """Stanzas of ``Field: value`` lines; a value goes on in lines that begin with a blank."""
    found = []
    line_number = 1
    for stanza in re.split(r"(\n[ \t]*\n)", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        enabled = fields.get("enabled", "yes").lower() not in ("no", "false", "0", "off", "without", "disable")
        if enabled and "deb" in fields.get("types", "").split():
            for uri in fields.get("uris", "").split():
                for suite in fields.get("suites", "").split():
                    components = tuple(fields.get("components", "").split())
                    found.append(Source(uri, suite, components, f"{file}:{line_number}", _kept(fields)))
        line_number += stanza.count("\n")
    return found


def _kept(options: Mapping[str, str]) -> dict[str, str]:
    return {_KEPT_OPTIONS[name.lower()]: value for name, value in options.items() if name.lower() in _KEPT_OPTIONS}


def debian_archive(sources: Sequence[Source], codename: str) -> Archive:
    """The Debian archive among the machine's sources; archives of others are passed over.

    Others also use Debian's suite names, so of several candidates the one that is signed by Debian's keys, and then
    the one whose path says Debian, is taken. apt checks the signature later. Raises :class:`PrerequisiteError` when
    there is none.
    """
    names = (codename, *_RELATIVE_NAMES)
    mains = [source for source in sources if source.suite in names and _usable(source)]
    secure_names = tuple(f"{name}-security" for name in names) + tuple(f"{name}/updates" for name in names)
    secures = [source for source in sources if source.suite in secure_names and _usable(source)]
    if not mains:
        raise PrerequisiteError(
            f"the machine's apt configuration has no Debian archive with suite {codename}, component main",
            hint="add Debian's archive to /etc/apt/sources.list.d, as deb.sources(5) describes",
        )
    return Archive(max(mains, key=_likeness), max(secures, key=_likeness) if secures else None)


def _usable(source: Source) -> bool:
    return "main" in source.components and not source.uri.startswith("cdrom:") and _likeness(source) > 0


def _likeness(source: Source) -> int:
    """How much a source looks like Debian's own archive; 0 when another's keys sign it."""
    signed = source.options.get("Signed-By", "")
    if signed and "BEGIN PGP" not in signed and "debian-archive" not in signed:
        return 0
    return 1 + 2 * ("debian-archive" in signed) + ("debian" in source.uri.lower())


def private_sources(archive: Archive, family: str) -> str:
    """The text of a deb822 file for one release of Debian: its suite, updates, security and backports.

    ``family`` is the release's code name. Packages and sources of component main only; signatures are checked with the
    keys that the machine's own source names, else with Debian's.
    """
    suites = f"{family} {family}-updates {family}-backports"
    stanzas = [_stanza(archive.main, suites)]
    if archive.security is not None:
        stanzas.append(_stanza(archive.security, f"{family}-security"))
    return "\n".join(stanzas)


def _stanza(source: Source, suites: str) -> str:
    options = dict(source.options)
    if "Signed-By" not in options and KEYRING.exists():
        options["Signed-By"] = str(KEYRING)
    lines = ["Types: deb deb-src", f"URIs: {source.uri}", f"Suites: {suites}", "Components: main"]
    lines += ["Targets: Packages Sources"]
    lines += [f"{name}: {value}" for name, value in sorted(options.items())]
    return "\n".join(lines) + "\n"
