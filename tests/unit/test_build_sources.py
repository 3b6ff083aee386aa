# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian archive is found in the machine's own apt configuration, and nobody else's is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from labnic.build.sources import (
    Source,
    debian_archive,
    machine_codename,
    machine_sources,
    private_sources,
)
from labnic.errors import PrerequisiteError

DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Check-Valid-Until: no
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""

OTHERS = """\
deb [arch=amd64 signed-by=/etc/apt/keyrings/shop.gpg] https://shop.example/debian bookworm main
deb https://node.example/node_20.x nodistro main # trailing words
deb https://docker.example/linux/debian bookworm stable
deb-src http://mirror.example/debian bookworm main
#deb http://old.example/debian bookworm main
deb cdrom:[Debian 12]/ bookworm main
"""


def write(etc: Path, name: str, text: str) -> None:
    path = etc / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_archive_is_found_among_others(tmp_path: Path) -> None:
    write(tmp_path, "sources.list", OTHERS)
    write(tmp_path, "sources.list.d/debian.sources", DEB822)
    archive = debian_archive(machine_sources(tmp_path), "bookworm")
    assert archive.main.uri == "http://mirror.example/debian"
    assert archive.main.place == f"{tmp_path}/sources.list.d/debian.sources:1"
    assert archive.security is not None
    assert archive.security.uri == "http://mirror.example/debian-security"


def test_both_formats_are_read_alike(tmp_path: Path) -> None:
    write(tmp_path, "sources.list", "deb [check-valid-until=no] http://mirror.example/debian stable main contrib\n")
    assert machine_sources(tmp_path) == [
        Source(
            "http://mirror.example/debian",
            "stable",
            ("main", "contrib"),
            f"{tmp_path}/sources.list:1",
            {"Check-Valid-Until": "no"},
        )
    ]


@pytest.mark.parametrize("value", ["no", "false", "NO"])
def test_a_disabled_source_is_passed_over(tmp_path: Path, value: str) -> None:
    write(tmp_path, "sources.list.d/a.sources", f"Enabled: {value}\n{DEB822.split(chr(10), 1)[1]}")
    assert {source.suite for source in machine_sources(tmp_path)} == {"bookworm-security"}


def test_a_machine_with_only_foreign_sources_is_told_what_to_do(tmp_path: Path) -> None:
    write(tmp_path, "sources.list", OTHERS)
    with pytest.raises(PrerequisiteError, match="no Debian archive with suite bookworm") as caught:
        debian_archive(machine_sources(tmp_path), "bookworm")
    assert caught.value.exit_code == 3
    assert "sources.list.d" in caught.value.hint


def test_an_embedded_key_is_kept_whole(tmp_path: Path) -> None:
    key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQENBF\n -----END PGP PUBLIC KEY BLOCK-----"
    write(
        tmp_path,
        "sources.list.d/debian.sources",
        DEB822.replace(" /usr/share/keyrings/debian-archive-keyring.gpg", key),
    )
    text = private_sources(debian_archive(machine_sources(tmp_path), "bookworm"), "trixie")
    assert f"Signed-By: {key}\n" in text


def test_other_releases_come_from_the_same_archive(tmp_path: Path) -> None:
    write(tmp_path, "sources.list.d/debian.sources", DEB822)
    stanzas = private_sources(debian_archive(machine_sources(tmp_path), "bookworm"), "trixie").split("\n\n")
    assert [line for line in stanzas[0].splitlines() if line.startswith(("URIs", "Suites", "Signed"))] == [
        "URIs: http://mirror.example/debian",
        "Suites: trixie trixie-updates trixie-backports",
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg",
    ]
    assert "Suites: trixie-security" in stanzas[1]
    assert "Check-Valid-Until: no" in stanzas[1]


def test_no_source_can_turn_signatures_off_by_our_doing(tmp_path: Path) -> None:
    write(tmp_path, "sources.list.d/debian.sources", DEB822)
    text = private_sources(debian_archive(machine_sources(tmp_path), "bookworm"), "bookworm")
    assert "Trusted" not in text
    assert text.count("Signed-By: ") == 2


def test_the_release_is_read_from_the_system(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_CODENAME=bookworm\n')
    assert machine_codename(release) == "bookworm"
    release.write_text('PRETTY_NAME="Another 40"\nID=another\n')
    with pytest.raises(PrerequisiteError, match="this is Another 40"):
        machine_codename(release)
