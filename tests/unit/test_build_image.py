# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's archive: its bytes, and which modules go in."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labnic.build import cpio
from labnic.build.driver import _synchronize, driver_sources
from labnic.build.image import guest_table, select_modules
from labnic.errors import BuildError, ConfigError


def read(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and content by name, read as the kernel does: headers and contents begin at multiples of four."""
    found: dict[str, tuple[int, bytes]] = {}
    position = 0
    while position < len(archive):
        assert position % 4 == 0
        assert archive[position : position + 6] == b"070701"
        numbers = [int(archive[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = numbers[1], numbers[6], numbers[11]
        name = archive[position + 110 : position + 109 + name_size].decode()
        position += (110 + name_size + 3) // 4 * 4
        data = archive[position : position + size]
        position += (size + 3) // 4 * 4
        if name == "TRAILER!!!":
            continue
        found[name] = (mode, data)
    return found


def archive_of(members: dict[str, cpio.Node]) -> bytes:
    out = io.BytesIO()
    cpio.write(out, members)
    return out.getvalue()


names = st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,3}", fullmatch=True)


@given(st.dictionaries(names, st.binary(max_size=50), max_size=8))
def test_what_is_written_is_read_back(content: dict[str, bytes]) -> None:
    # A name cannot be a file and the folder of another one.
    files = {name: data for name, data in content.items() if not any(other.startswith(name + "/") for other in content)}
    found = read(archive_of({name: cpio.file(data) for name, data in files.items()}))
    assert {name: data for name, (mode, data) in found.items() if stat.S_ISREG(mode)} == files


def test_folders_come_before_what_they_hold() -> None:
    order = list(read(archive_of({"a/b/c": cpio.file(b"x"), "a/b-d": cpio.file(b"y")})))
    assert order.index("a") < order.index("a/b") < order.index("a/b/c")


def test_devices_and_links_need_no_root() -> None:
    found = read(archive_of({"dev/console": cpio.character_device(5, 1), "sh": cpio.symlink("/bin/dash")}))
    assert stat.S_ISCHR(found["dev/console"][0])
    assert found["sh"] == (stat.S_IFLNK | 0o777, b"/bin/dash")


def test_archives_one_after_the_other_are_one_root() -> None:
    both = archive_of({"a": cpio.file(b"old"), "b": cpio.file(b"1")}) + archive_of({"a": cpio.file(b"new")})
    assert {name: data for name, (_, data) in read(both).items()} == {"a": b"new", "b": b"1"}


def test_the_same_tree_has_the_same_bytes(tmp_path: Path) -> None:
    for place in ("one", "two"):
        for name in sorted(["x", "y/z"], reverse=place == "two"):
            file = tmp_path / place / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name)
    (tmp_path / "two" / "x").chmod(0o600)
    assert archive_of(cpio.tree(tmp_path / "one", "")) == archive_of(cpio.tree(tmp_path / "two", ""))


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    (tmp_path / "modules.dep").write_text(
        "kernel/a/pv-panic.ko: kernel/b/base.ko\nkernel/b/base.ko:\nkernel/c/other.ko:\n"
    )
    (tmp_path / "modules.builtin").write_text("kernel/d/virtio_pci.ko\n")
    return tmp_path


def test_modules_bring_what_they_need(modules: Path) -> None:
    assert select_modules(modules, ["pv_panic"]) == ["kernel/a/pv-panic.ko", "kernel/b/base.ko"]


def test_a_builtin_module_is_there_already(modules: Path) -> None:
    assert select_modules(modules, ["virtio_pci"]) == []


def test_a_module_that_the_kernel_lacks_is_an_error(modules: Path) -> None:
    with pytest.raises(BuildError, match="no module nosuch"):
        select_modules(modules, ["base", "nosuch"])


def test_the_guest_has_what_the_harness_relies_on() -> None:
    guest = guest_table()
    assert {"console=ttyS0", "panic=-1"} <= set(guest.cmdline)
    assert {"virtio_console", "virtio_pci", "pvpanic-pci"} <= set(guest.modules)


def test_a_misspelt_key_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "guest.yaml").write_text("releas: bookworm\n")
    with pytest.raises(ConfigError, match="releas"):
        guest_table(tmp_path / "guest.yaml")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("kernel-driver/Kbuild", "kernel-driver/a.c", "qemu-device/include/labnic_hw.h"):
        file = tmp_path / "project" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return tmp_path / "project"


def test_the_drivers_tree_follows_the_checkout(project: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (project / "kernel-driver" / "b.c").write_text("b")
    _synchronize(driver_sources(project), project, tree)
    before = (tree / "kernel-driver" / "a.c").stat().st_mtime_ns
    built = tree / "kernel-driver" / "labnic.mod.c"
    built.write_text("made by the build")
    (project / "kernel-driver" / "b.c").unlink()
    _synchronize(driver_sources(project), project, tree)
    assert not (tree / "kernel-driver" / "b.c").exists()
    assert (tree / "kernel-driver" / "a.c").stat().st_mtime_ns == before
    assert built.exists()


def test_an_older_version_of_a_source_counts_as_new(project: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    _synchronize(driver_sources(project), project, tree)
    first = (tree / "kernel-driver" / "a.c").stat().st_mtime_ns
    (project / "kernel-driver" / "a.c").write_text("restored")
    (project / "kernel-driver" / "a.c").touch()
    _synchronize(driver_sources(project), project, tree)
    assert (tree / "kernel-driver" / "a.c").read_text() == "restored"
    assert (tree / "kernel-driver" / "a.c").stat().st_mtime_ns > first


def test_a_missing_header_says_how_to_make_it(project: Path) -> None:
    (project / "qemu-device" / "include" / "labnic_hw.h").unlink()
    with pytest.raises(BuildError, match=r"labnic_hw\.h is missing") as caught:
        driver_sources(project)
    assert "make gen" in caught.value.hint
