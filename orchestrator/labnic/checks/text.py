# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of files as text: shell, YAML, what is generated, licences, and names of this machine."""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from labnic import gen
from labnic.build.sources import machine_sources
from labnic.checks.base import Check, Context, FindingsError, refuse
from labnic.hwmap import load

WITHOUT_LICENCE_LINE = ("COPYING", "LICENSES/*", "*.json", "*.lock", "*.md", ".gitignore", "*.png", "*.svg")
"""The licences themselves, formats without comments, generated lists, and prose, for which COPYING speaks."""

KEYWORD = "SPDX-License-" + "Identifier:"
DRIVER_LICENCE = "GPL-2.0-only"
DRIVER_CODE = ("kernel-driver", "tests/mutants/driver")
"""Folders of the driver's code, and of changes to it."""

LICENCE = "GPL-2.0-or-later"

_MIRROR_LABEL = r"(?:archive|backports|cdn|deb|debian|download|ftp|httpredir|mirror|mirrors|packages|security|snapshot)"


def shell_of(text: str) -> str | None:
    """The dialect that shellcheck must take for a script, from its first line; None when it is no shell script."""
    match = re.match(r"#!\s*\S*/(?:env\s+(?:-S\s+)?|busybox\s+)?(sh|ash|dash|bash)\b", text)
    if match is None:
        return None
    # shellcheck before 0.10 knows no busybox; its ash is dash with a few additions.
    return {"bash": "bash", "sh": "sh"}.get(match[1], "dash")


def _shellcheck(context: Context) -> None:
    scripts: dict[str, list[Path]] = {}
    for path in context.files:
        if shell := shell_of(context.text(path)) or ("sh" if path.suffix == ".sh" else None):
            scripts.setdefault(shell, []).append(path)
    if not scripts:
        raise FindingsError("no shell script was found, although the tree has some")
    problems = []
    for shell, paths in scripts.items():
        try:
            context.run(["shellcheck", "-s", shell, *paths])
        except FindingsError as failure:
            problems.append(str(failure))
    refuse(problems)


def _yamllint(context: Context) -> None:
    files = context.matching("*.yaml", "*.yml")
    context.run([sys.executable, "-m", "yamllint", "--strict", "--format", "parsable", *files])


def _generated(context: Context) -> None:
    files = gen.generate(load(context.root / gen.SPEC))
    if diff := gen.difference(context.root, files):
        raise FindingsError(diff + gen.ADVICE)


def licence_problem(path: Path, text: str) -> str | None:
    """What is wrong with the licence line of a file; None when it is right or none is due."""
    if not text or any(path.match(pattern) for pattern in WITHOUT_LICENCE_LINE):
        return None
    lines = text.splitlines()
    number = 1 if lines[0].startswith("#!") and len(lines) > 1 else 0
    expected = DRIVER_LICENCE if path.as_posix().startswith(DRIVER_CODE) else LICENCE
    found = re.search(rf"{KEYWORD}\s*(.*?)\s*(?:\*/|-->|\*\))?$", lines[number])
    if found is None:
        return f"{path}:{number + 1}: no '{KEYWORD} {expected}' in this line"
    if found[1] != expected:
        return f"{path}:{number + 1}: the licence is {found[1]}, not {expected}"
    return None


def _licences(context: Context) -> None:
    problems = (licence_problem(path, context.text(path)) for path in context.files)
    refuse([problem for problem in problems if problem])


def host_patterns(addresses: Iterable[str]) -> dict[str, re.Pattern[str]]:
    """What betrays a package mirror in a text, by what it is: the hosts of ``addresses`` (URIs) and their sisters."""
    patterns = {}
    for address in addresses:
        host = urlsplit(address).hostname
        if not host or _is_local(host):
            continue
        patterns[f"mirror {host}"] = re.compile(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", re.IGNORECASE)
        domain = ".".join(host.split(".")[-2:])
        if not _is_address(host) and domain != host:
            sisters = rf"(?<![\w.-]){_MIRROR_LABEL}(?:\.[\w-]+)*\.{re.escape(domain)}(?![\w-])"
            patterns[f"a mirror of {domain}"] = re.compile(sisters, re.IGNORECASE)
    return patterns


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_local(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def path_patterns(root: Path, home: Path) -> dict[str, re.Pattern[str]]:
    """What betrays this machine's folders in a text: where the checkout is, and the user's home."""
    patterns = {}
    for what, path in (("the checkout's path", root), ("a path in the user's home", home / "x")):
        known = path if what.startswith("the") else home
        # A checkout at the top of the file system has a name that texts may well contain.
        if len(known.parts) > 2 or known == home != Path("/"):
            end = r"(?![\w-])" if known == root else r"/\w"
            patterns[what] = re.compile(rf"(?<![\w.-]){re.escape(str(known))}{end}")
    return patterns


def betrayals(path: Path, text: str, patterns: dict[str, re.Pattern[str]]) -> list[str]:
    """``file:line: what`` for each line that one of the patterns is found in."""
    found = []
    for what, pattern in patterns.items():
        if pattern.search(text):
            numbers = [number for number, line in enumerate(text.splitlines(), 1) if pattern.search(line)]
            found += [f"{path}:{number}: names {what}" for number in numbers]
    return found


def _machine(context: Context) -> None:
    patterns = host_patterns(source.uri for source in machine_sources())
    patterns |= path_patterns(context.root, Path.home())
    refuse([line for path in context.files for line in betrayals(path, context.text(path), patterns)])


CHECKS = (
    Check("shellcheck", "shell scripts: shellcheck", _shellcheck),
    Check("yamllint", "YAML: yamllint", _yamllint),
    Check("generated", "header and reference agree with the hardware map", _generated),
    Check("licences", "each file names its licence, the right one", _licences),
    Check("machine", "no file names a package mirror or this machine's folders", _machine),
)
