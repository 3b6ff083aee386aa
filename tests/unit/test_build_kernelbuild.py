# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels built from source: the configuration that is wanted must be the one that is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from labnic import bootstrap
from labnic.build.cache import PROJECT, Cache
from labnic.build.kernel import checkpatch
from labnic.build.kernelbuild import HEADERS, compiled, copy_headers, unmet
from labnic.build.kerneltable import FEATURES, BuiltKernel, Kernel, PackagedKernel, kernel_table
from labnic.build.progress import PlainProgress
from labnic.errors import BuildError, ConfigError, PrerequisiteError, UsageError
from labnic.hostdeps import HostPackage

FINAL = 'CONFIG_SMP=y\nCONFIG_VETH=m\nCONFIG_BITS=15\nCONFIG_NAME="-x"\n# CONFIG_AUTO is not set\nCONFIG_NOISE=y\n'


def fragment(folder: Path, text: str) -> Path:
    path = folder / "some.config"
    path.write_text(text)
    return path


def test_a_configuration_that_has_every_wanted_line_is_taken(tmp_path: Path) -> None:
    text = 'CONFIG_SMP=y\nCONFIG_VETH=m\nCONFIG_NAME="-x"\n# CONFIG_AUTO is not set\n# CONFIG_ABSENT is not set\n'
    assert unmet([fragment(tmp_path, "# Words about it.\n" + text)], FINAL) == []


@pytest.mark.parametrize(
    ("line", "there"),
    [
        ("CONFIG_SMP=m", "y"),
        ("CONFIG_VETH=y", "m"),
        ("CONFIG_BITS=16", "15"),
        ("CONFIG_ABSENT=y", "not there"),
        ("CONFIG_AUTO=y", "n"),
        ("# CONFIG_NOISE is not set", "y"),
    ],
)
def test_a_line_that_is_not_met_is_named_with_its_place(tmp_path: Path, line: str, there: str) -> None:
    assert unmet([fragment(tmp_path, f"CONFIG_SMP=y\n{line}\n")], FINAL) == [
        f"some.config:2: {line}, but it is {there}"
    ]


def test_only_compiled_files_count(tmp_path: Path) -> None:
    log = b"$ make\n  HOSTCC  scripts/x\n  CC      a.o\n  CC [M]  b.o\n  AS      c.o\n  LD      d.o\n  CALL    CC e\n"
    assert compiled(log) == 3


TREE = """.config .kernelvariables Makefile Module.symvers arch/x86/Makefile arch/x86/include/a.h include/linux/b.h
scripts/mod/modpost scripts/mod/modpost.o tools/objtool/objtool kernel/k.o"""


def built_tree(folder: Path) -> Path:
    for name in TREE.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_headers_are_what_modules_need_and_no_objects(tmp_path: Path) -> None:
    copy_headers(built_tree(tmp_path / "tree"), tmp_path / "headers")
    found = {path.relative_to(tmp_path / "headers").as_posix() for path in (tmp_path / "headers").rglob("*")}
    assert found >= {"Module.symvers", "include/linux/b.h", "scripts/mod/modpost", "tools/objtool/objtool"}
    assert not [name for name in found if name.endswith(".o") or name.startswith("kernel")]


@pytest.mark.parametrize("pattern", HEADERS)
def test_a_tree_that_lacks_a_part_is_refused(tmp_path: Path, pattern: str) -> None:
    tree = built_tree(tmp_path / "tree")
    for path in tree.glob(pattern):
        path.rename(tmp_path / "taken")
    with pytest.raises(BuildError, match="which the builds of modules need"):
        copy_headers(tree, tmp_path / "headers")


# The table


def test_the_debug_kernel_is_built_and_the_others_are_packaged() -> None:
    table = kernel_table()
    assert isinstance(table.kernels["debug"], BuiltKernel)
    assert all(isinstance(entry, PackagedKernel) for entry in table.packaged().values())
    assert {"6.1", "6.12"} <= table.packaged().keys()


def test_every_fragment_says_something() -> None:
    debug = kernel_table().kernels["debug"]
    assert isinstance(debug, BuiltKernel)
    for path in (PROJECT / "images" / debug.config).glob("*.config"):
        assert unmet([path], ""), path


@pytest.mark.parametrize(
    ("field", "value"), [("memory", "lots"), ("slower", "0.5"), ("files", "0"), ("image", "linux-image-amd64")]
)
def test_a_built_kernel_with_a_wrong_field_is_refused(tmp_path: Path, field: str, value: str) -> None:
    fields = {
        "release": "x",
        "source": "y",
        "config": "z",
        "compiler": "gcc",
        "files": "9",
        "memory": "1G",
        "slower": "2",
    }
    table = tmp_path / "kernels.yaml"
    table.write_text("kernels:\n  mine:\n" + "".join(f"    {k}: {v}\n" for k, v in {**fields, field: value}.items()))
    with pytest.raises(ConfigError, match=field):
        kernel_table(table)


def test_the_script_of_a_built_kernel_is_that_of_a_packaged_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="packaged one"):
        checkpatch("debug", Cache(tmp_path), PlainProgress())


# What a kernel has


def kernel(folder: Path, config: str, build: str = "") -> Kernel:
    file = folder / "config"
    file.write_text(config)
    return Kernel("mine", "6.0", folder, folder, folder, file, "gcc", (), build=build)


def test_a_feature_is_there_built_in_or_as_a_module(tmp_path: Path) -> None:
    mine = kernel(tmp_path, "CONFIG_KASAN=y\nCONFIG_NETCONSOLE=m\n# CONFIG_FAILSLAB is not set\n")
    assert mine.has("kasan")
    assert mine.has("netconsole")
    assert not mine.has("failslab")
    assert not mine.has("lockdep")


def test_a_misspelt_feature_is_no_lack(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kernel feature is called 'kmemlaek'") as caught:
        kernel(tmp_path, "").has("kmemlaek")
    assert "kmemleak" in caught.value.hint


def test_the_debug_kernels_fragments_ask_for_every_feature() -> None:
    debug = kernel_table().kernels["debug"]
    assert isinstance(debug, BuiltKernel)
    wanted = "".join(path.read_text() for path in (PROJECT / "images" / debug.config).glob("*.config"))
    assert [name for name in FEATURES.values() if f"CONFIG_{name}=" not in wanted] == []


def test_two_builds_of_one_source_are_two_kernels(tmp_path: Path) -> None:
    assert kernel(tmp_path, "", "one").identity != kernel(tmp_path, "", "two").identity


# Packages of the host


def test_missing_packages_of_a_build_are_named_with_the_line_to_paste(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = HostPackage("labnic-no-such-package", "a trial", "kernel")
    monkeypatch.setattr(bootstrap, "host_packages", lambda group: [absent] if group == "kernel" else [])
    monkeypatch.setattr(bootstrap, "_root_prefix", lambda: None)
    with pytest.raises(PrerequisiteError, match="neither root nor allowed") as caught:
        bootstrap.require("kernel", tmp_path)
    assert caught.value.hint.endswith("apt-get install -y --no-install-recommends labnic-no-such-package")
