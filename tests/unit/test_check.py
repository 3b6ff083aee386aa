# SPDX-License-Identifier: GPL-2.0-or-later
"""The static checks themselves: what they let through and what they find."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from labnic import check
from labnic.build.cache import Cache
from labnic.checks import python, text
from labnic.checks.base import Check, Context, FindingsError
from labnic.errors import PrerequisiteError, UsageError

SPDX = "SPDX-License-" + "Identifier:"


class Notes:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        yield

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """An empty git checkout with the hardware map's folders, and a cache of its own."""
    root, scratch = tmp_path / "tree", tmp_path / "scratch"
    root.mkdir()
    scratch.mkdir()
    subprocess.run(["git", "init", "-q", str(root)], check=True, timeout=30)
    return Context(root, scratch, Cache(tmp_path / "cache"), Notes())


def put(context: Context, name: str, content: str) -> None:
    path = context.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def found(name: str, context: Context) -> str:
    """What the check of that name says; empty when all is well."""
    return check.attempt(check.select([name])[0], context).said


# The files that are looked at


def test_files_are_those_that_git_would_take(context: Context) -> None:
    put(context, ".gitignore", "*.o\n")
    put(context, "a.c", "")
    put(context, "a.o", "")
    put(context, "sub/b.yaml", "")
    assert context.files == (Path(".gitignore"), Path("a.c"), Path("sub/b.yaml"))
    assert context.matching("*.c", "sub/*.yaml") == (Path("a.c"), Path("sub/b.yaml"))


def test_without_git_the_reason_is_given(tmp_path: Path) -> None:
    context = Context(tmp_path, tmp_path, Cache(tmp_path / "cache"), Notes())
    with pytest.raises(PrerequisiteError, match="git cannot list"):
        _ = context.files


# Programs


def test_a_failing_program_hands_on_its_output(context: Context) -> None:
    with pytest.raises(FindingsError, match="all of what it said"):
        context.run([sys.executable, "-c", "print('all of what it said'); raise SystemExit(3)"])


def test_a_missing_program_is_a_failure(context: Context) -> None:
    with pytest.raises(FindingsError, match="no-such-program is not installed"):
        context.run(["no-such-program"])


def test_a_program_that_hangs_is_a_failure(context: Context) -> None:
    with pytest.raises(FindingsError, match="took more than"):
        context.run([sys.executable, "-c", "import signal; signal.pause()"], limit=0.2)


# Licences


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.py", f"# {SPDX} GPL-2.0-or-later\n", None),
        ("run", f"#!/bin/sh\n# {SPDX} GPL-2.0-or-later\n", None),
        ("kernel-driver/a.c", f"// {SPDX} GPL-2.0-only\n", None),
        ("kernel-driver/a.h", f"/* {SPDX} GPL-2.0-only */\n", None),
        ("qemu-device/a.h", f"/* {SPDX} GPL-2.0-or-later */\n", None),
        ("COPYING", "the licence", None),
        ("empty/__init__.py", "", None),
        ("a.py", "x = 1\n", "a.py:1: no"),
        ("a.py", f"x = 1\n# {SPDX} GPL-2.0-or-later\n", "a.py:1: no"),
        ("run", "#!/bin/sh\ntrue\n", "run:2: no"),
        ("a.c", f"// {SPDX} GPL-2.0-only\n", "a.c:1: the licence is GPL-2.0-only, not GPL-2.0-or-later"),
        ("kernel-driver/a.c", f"// {SPDX} GPL-2.0-or-later\n", "not GPL-2.0-only"),
        ("a.c", f"// {SPDX} MIT\n", "the licence is MIT"),
    ],
)
def test_licence_line(name: str, content: str, problem: str | None) -> None:
    said = text.licence_problem(Path(name), content)
    assert said is None if problem is None else said is not None and problem in said


def test_licences_of_a_tree(context: Context) -> None:
    put(context, "good.py", f"# {SPDX} GPL-2.0-or-later\n")
    put(context, "sub/bad.py", "x = 1\n")
    assert found("licences", context) == f"sub/bad.py:1: no '{SPDX} GPL-2.0-or-later' in this line"


# This machine


MIRRORS = text.host_patterns(["http://deb.example.org/debian", "https://192.0.2.7/debian", "file:/srv/packages"])


@pytest.mark.parametrize(
    "line",
    [
        "see http://deb.example.org/debian for it",
        "deb.example.org",
        "DEB.EXAMPLE.ORG:80",
        "https://security.example.org/",
        "ftp.us.example.org",
        "http://192.0.2.7/debian",
    ],
)
def test_a_mirror_is_found(line: str) -> None:
    assert text.betrayals(Path("f"), f"first\n{line}\n", MIRRORS)[0].startswith("f:2: names ")


@pytest.mark.parametrize(
    "line", ["www.example.org", "example.org", "192.0.2.70", "1192.0.2.7", "mydeb.example.organic", "deb example org"]
)
def test_what_is_no_mirror_is_let_through(line: str) -> None:
    assert text.betrayals(Path("f"), line, MIRRORS) == []


def test_local_addresses_are_no_mirrors() -> None:
    assert text.host_patterns(["http://localhost:3142/debian", "http://127.0.0.1/debian", "cdrom:[x]/"]) == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cd /src/nic && make", True),
        ("/src/nic/labnic.yaml", True),
        ("/home/someone/x", True),
        ("/src/nic-2/x", False),
        ("/usr/src/nic", False),
        ("/home/someone:/bin/sh", False),
        ("/home/someonelse/x", False),
    ],
)
def test_paths_of_this_machine(line: str, expected: bool) -> None:
    patterns = text.path_patterns(Path("/src/nic"), Path("/home/someone"))
    assert bool(text.betrayals(Path("f"), line, patterns)) is expected


def test_a_checkout_at_the_top_forbids_no_common_word() -> None:
    patterns = text.path_patterns(Path("/labnic"), Path("/"))
    assert text.betrayals(Path("f"), "/labnic/x /usr/x", patterns) == []


def test_a_tree_that_names_the_checkout_is_found(context: Context) -> None:
    put(context, "notes.md", f"look at\n{context.root}/x\n")
    assert found("machine", context) == "notes.md:2: names the checkout's path"


# Shell, YAML, Python, generated files


@pytest.mark.parametrize(
    ("first", "shell"),
    [
        ("#!/bin/sh", "sh"),
        ("#!/bin/sh -eu", "sh"),
        ("#!/bin/busybox sh", "sh"),
        ("#!/bin/dash", "dash"),
        ("#!/usr/bin/env bash", "bash"),
        ("#!/bin/bash", "bash"),
        ("#!/usr/bin/env python3", None),
        ("#!/usr/bin/perl", None),
        ("plain", None),
    ],
)
def test_shell_of_a_script(first: str, shell: str | None) -> None:
    assert text.shell_of(f"{first}\ntrue\n") == shell


def test_yamllint_finds_a_duplicate_key(context: Context) -> None:
    put(context, "a.yaml", "---\na: 1\nb: 2\n")
    assert found("yamllint", context) == ""
    put(context, "a.yaml", "---\na: 1\na: 2\n")
    assert "a.yaml:3:1" in found("yamllint", context)


def test_ruff_finds_an_unused_import(context: Context) -> None:
    put(context, "a.py", "x = 1\n")
    assert found("ruff", context) == ""
    put(context, "a.py", "import os\n")
    assert "F401" in found("ruff", context)


def test_ruff_format_shows_the_difference(context: Context) -> None:
    put(context, "a.py", "x = 1\n")
    assert found("ruff-format", context) == ""
    put(context, "a.py", "x=1\n")
    assert "-x=1" in found("ruff-format", context)


def test_mypy_is_strict(context: Context) -> None:
    put(context, "pyproject.toml", '[tool.mypy]\nfiles = ["a.py"]\n')
    put(context, "a.py", "def f(x: int) -> int:\n    return x\n")
    assert found("mypy", context) == ""
    put(context, "a.py", "def f(x):\n    return x\n")
    assert "no-untyped-def" in found("mypy", context)


def test_a_tree_without_generated_files_has_drifted(context: Context) -> None:
    spec = Path("qemu-device/spec/labnic.yaml")
    put(context, str(spec), (Path(__file__).parents[2] / spec).read_text())
    assert "run 'make gen'" in found("generated", context)
    put(context, str(spec), "device: 1\n")
    assert f"{spec}:1: " in found("generated", context)


# The runner


def _pass(context: Context) -> None:
    """Finds nothing."""


def _find(context: Context) -> None:
    raise FindingsError("a.c:1: this is wrong")


def _lack(context: Context) -> None:
    raise PrerequisiteError("the program sparse is not installed", hint="apt-get install sparse")


def run(
    monkeypatch: pytest.MonkeyPatch, folder: Path, checks: Sequence[Check], only: list[str] | None = None
) -> tuple[int, list[str]]:
    monkeypatch.setattr(check, "all_checks", lambda: tuple(checks))
    notes = Notes()
    return check.run(notes, only, cache=Cache(folder), root=folder), notes.lines


CHECKS = (
    Check("finds", "finds something", _find),
    Check("lacks", "lacks a program", _lack),
    Check("good", "fine", _pass),
)


def test_all_run_even_when_the_first_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status, lines = run(monkeypatch, tmp_path, CHECKS)
    assert status == 1
    assert [line.split()[:2] for line in lines[:3]] == [["finds", "FAILED"], ["lacks", "FAILED"], ["good", "ok"]]
    assert "a.c:1: this is wrong" in lines[3]
    assert "sparse is not installed\nhint: apt-get install sparse" in lines[4]
    assert "2 of 3 checks failed: finds, lacks" in lines[5]


def test_all_good_is_zero_and_one_line_each(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status, lines = run(monkeypatch, tmp_path, CHECKS[2:])
    assert (status, len(lines)) == (0, 1)


def test_only_the_named_checks_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status, lines = run(monkeypatch, tmp_path, CHECKS, ["good"])
    assert (status, len(lines)) == (0, 1)


def test_an_unknown_name_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no check nonsense") as caught:
        run(monkeypatch, tmp_path, CHECKS, ["good", "nonsense"])
    assert "finds, lacks, good" in caught.value.hint


def test_names_are_unique_and_cover_what_maintainers_run() -> None:
    names = check.names()
    assert len(set(names)) == len(names)
    wanted = {"ruff", "mypy", "shellcheck", "yamllint", "generated", "licences", "machine", "checkpatch", "device"}
    assert wanted | {"device-checkpatch", "driver-6.1", "driver-6.12", "sparse-6.1", "sparse-6.12"} <= set(names)
    assert all(one in check.all_checks() for one in python.CHECKS)
