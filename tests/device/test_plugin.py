# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard of the plugin: in a QEMU that it was not built for it says one line, and elsewhere nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .bench import QemuFiles

DEVICE = "labnic-device.so"


@pytest.fixture
def plugin(qemu_files: QemuFiles, tmp_path: Path) -> Path:
    """A copy of the plugin that a test may spoil."""
    if qemu_files.plugin is None:
        pytest.skip("this QEMU has the device built in")
    shutil.copy(qemu_files.plugin.with_name(DEVICE), tmp_path)
    return Path(shutil.copy(qemu_files.plugin, tmp_path))


def run(program: Path | str, plugin: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program with the plugin preloaded."""
    return subprocess.run(
        [str(program), *arguments], env={"LD_PRELOAD": str(plugin)}, capture_output=True, text=True, timeout=20
    )


def check_refused(answer: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit status 1 and one line that has the words and what to do."""
    assert answer.returncode == 1, answer
    (line,) = answer.stderr.strip().splitlines()
    assert line.startswith("labnic: ")
    for word in (*words, "labnic build qemu"):
        assert word in line


def running_version(qemu: Path) -> str:
    """What QEMU says that it is."""
    said = subprocess.run([str(qemu), "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    match = re.match(r"QEMU emulator version (.*)", said)
    assert match
    return match[1].strip()


def test_the_right_qemu_takes_the_plugin(qemu_files: QemuFiles, plugin: Path) -> None:
    answer = run(qemu_files.binary, plugin, "-device", "labnic,help")
    assert answer.returncode == 0
    assert answer.stderr == ""


def test_a_plugin_for_another_release_is_refused(qemu_files: QemuFiles, plugin: Path) -> None:
    """The same file with another version in it is what a build for another QEMU would be."""
    version = running_version(qemu_files.binary)
    number = version.split()[0]
    other = number[:-1] + ("0" if number[-1] != "0" else "1")
    code = plugin.read_bytes()
    assert version.encode() in code
    plugin.write_bytes(code.replace(version.encode(), version.replace(number, other).encode()))
    check_refused(run(qemu_files.binary, plugin, "-device", "labnic"), number, other)


def test_a_plugin_for_another_package_of_the_same_release_is_refused(qemu_files: QemuFiles, plugin: Path) -> None:
    """Distributions patch: the same upstream version is not the same program."""
    version = running_version(qemu_files.binary)
    if not version.endswith(")"):
        pytest.skip("this QEMU has no package version")
    code = plugin.read_bytes()
    plugin.write_bytes(code.replace(version.encode(), (version[:-2] + "~)").encode()))
    check_refused(run(qemu_files.binary, plugin, "-device", "labnic"), version)


def test_a_missing_device_file_is_told(qemu_files: QemuFiles, plugin: Path) -> None:
    plugin.with_name(DEVICE).unlink()
    check_refused(run(qemu_files.binary, plugin, "-device", "labnic"), DEVICE)


def test_a_device_file_that_is_no_program_is_told(qemu_files: QemuFiles, plugin: Path) -> None:
    plugin.with_name(DEVICE).write_bytes(b"half a download")
    check_refused(run(qemu_files.binary, plugin, "-device", "labnic"), DEVICE)


def test_a_qemu_that_takes_no_plugins_is_told(plugin: Path, tmp_path: Path) -> None:
    """Such a binary exports no symbols; the guard knows it by its name alone."""
    fake = Path(shutil.copy("/bin/true", tmp_path / "qemu-system-x86_64"))
    check_refused(run(fake, plugin), "without modules")


def test_other_programs_do_not_notice_the_plugin(plugin: Path) -> None:
    answer = run("/bin/echo", plugin, "hello")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "hello\n", "")
