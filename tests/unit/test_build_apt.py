# SPDX-License-Identifier: GPL-2.0-or-later
"""What apt answered is remembered for a day, serves offline, and its failures are told in one line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from labnic.build.apt import Apt, Pin, control_fields, explain
from labnic.build.cache import Cache
from labnic.build.qemusource import _source_of
from labnic.errors import PrerequisiteError


class Notes:
    """Takes what a user would be told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def phase(self, name: str) -> pytest.MonkeyPatch:  # pragma: no cover  # nothing here enters a phase
        raise AssertionError(name)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def apt(tmp_path: Path, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> Apt:
    monkeypatch.setattr(Apt, "update", lambda self: None)
    monkeypatch.setattr(Apt, "_updated", set())
    return Apt(Cache(tmp_path), "bookworm", notes)  # type: ignore[arg-type]  # phase() is never called


def offline(apt: Apt) -> None:
    raise PrerequisiteError("no network")


def age(apt: Apt, question: str, seconds: float) -> None:
    path = apt.cache.root / "resolved" / f"bookworm-{question}.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "time": time.time() - seconds}))


def test_an_answer_of_today_needs_no_network(apt: Apt, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apt.remembered("q", lambda: ["a=1"]) == ["a=1"]
    monkeypatch.setattr(Apt, "update", offline)
    assert apt.remembered("q", lambda: ["a=2"]) == ["a=1"]


def test_an_older_answer_is_asked_anew(apt: Apt) -> None:
    apt.remembered("q", lambda: ["a=1"])
    age(apt, "q", 25 * 3600)
    assert apt.remembered("q", lambda: ["a=2"]) == ["a=2"]


def test_refresh_asks_anew_once(apt: Apt) -> None:
    apt.remembered("q", lambda: ["a=1"])
    apt._updated.clear()
    apt.cache.refresh = True
    assert apt.remembered("q", lambda: ["a=2"]) == ["a=2"]
    assert apt.remembered("q", lambda: ["a=3"]) == ["a=2"]


def test_without_a_network_an_older_answer_serves_and_the_user_is_told(
    apt: Apt, notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt.remembered("q", lambda: ["a=1"])
    age(apt, "q", 3 * 86400)
    monkeypatch.setattr(Apt, "update", offline)
    assert apt.remembered("q", lambda: ["a=2"]) == ["a=1"]
    assert "no network" in notes.lines[0]


def test_without_a_network_or_an_answer_the_error_stays(apt: Apt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Apt, "update", offline)
    with pytest.raises(PrerequisiteError, match="no network"):
        apt.remembered("q", lambda: ["a=2"])


def test_a_damaged_answer_is_asked_anew(apt: Apt) -> None:
    apt.remembered("q", lambda: ["a=1"])
    (apt.cache.root / "resolved" / "bookworm-q.json").write_text('{"time": ')
    assert apt.remembered("q", lambda: ["a=2"]) == ["a=2"]


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("E: Release file for http://m.example/InRelease is expired (invalid since 16d)", "index has expired"),
        ("W: GPG error: The following signatures couldn't be verified: NO_PUBKEY 0E98", "signature"),
        ("Err:1 http://m.example bookworm\n  Temporary failure resolving 'm.example'", "cannot be resolved"),
        ("E: Version '1-1' for 'linux' was not found", "no longer has this version"),
        ("E: Something that nobody foresaw", "Something that nobody foresaw"),
        ("", "no reason"),
    ],
)
def test_a_failure_of_apt_is_one_line(log: str, reason: str) -> None:
    line = explain(log)
    assert reason in line
    assert "\n" not in line


def test_fields_stop_at_the_first_stanza() -> None:
    text = "Package: a\nDepends: b (= 1),\n c\nVersion: 1\n\nPackage: a\nVersion: 2\n"
    assert control_fields(text)["Version"] == "1"


@pytest.mark.parametrize(
    ("fields", "pin"),
    [
        ({"Package": "qemu-x", "Source": "qemu", "Version": "1:7.2-7"}, Pin("qemu", "1:7.2-7")),
        ({"Package": "qemu-x", "Source": "qemu (1:7.2-7)", "Version": "1:7.2-7+b3"}, Pin("qemu", "1:7.2-7")),
        ({"Package": "qemu-x", "Source": "qemu", "Version": "1:7.2-7+b3"}, Pin("qemu", "1:7.2-7")),
        ({"Package": "qemu", "Version": "1:7.2-7+deb12u18+b3"}, Pin("qemu", "1:7.2-7+deb12u18")),
    ],
)
def test_a_rebuild_has_the_source_of_the_first_build(fields: dict[str, str], pin: Pin) -> None:
    assert _source_of(fields) == pin
