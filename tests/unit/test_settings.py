# SPDX-License-Identifier: GPL-2.0-or-later
"""Settings: the layers, the sources, and errors that name the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from labnic.config import MAX_QUEUES, Config
from labnic.errors import ConfigError
from labnic.settings import Settings, load_settings


def load(tmp_path: Path, text: str, environment: dict[str, str] | None = None, **overrides: str) -> Settings:
    path = tmp_path / "labnic.yaml"
    path.write_text(text)
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    return load_settings(path, overrides=named, environment=environment or {})


def refusal(tmp_path: Path, text: str, environment: dict[str, str] | None = None, **overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environment, **overrides)
    assert caught.value.exit_code == 2
    return caught.value.message


def test_without_any_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path, "").config.machine == Config().machine


def test_the_projects_own_file_is_valid_and_says_what_it_sets() -> None:
    root = Path(__file__).resolve().parents[2]
    settings = load_settings(root / "labnic.yaml", environment={})
    assert settings.config.nics[0].model == "labnic"
    assert settings.config.nics[0].queues == MAX_QUEUES
    assert settings.config.artifacts == root / "artifacts"
    assert all(source != "default" for name, _, source in settings.rows() if name != "qemu.binary")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("machine:\n  memroy: 1G\n", "labnic.yaml:2: machine.memroy: unknown key (did you mean memory?)"),
        ("kernle: x\n", "labnic.yaml:1: kernle: unknown key (did you mean kernel?)"),
        ("kernel: 6.1\n", 'labnic.yaml:1: kernel: must be text, not 6.1; put it in quotes: "6.1"'),
        ("machine:\n  cpus: two\n", "labnic.yaml:2: machine.cpus: must be a whole number, not 'two'"),
        ("machine:\n  cpus: 0\n", "labnic.yaml:2: machine.cpus: must be greater than or equal to 1"),
        ("machine:\n\n  memory: 12\n", "labnic.yaml:3: machine.memory: must be text, not 12"),
        ("machine:\n  memory: 12K\n", "labnic.yaml:2: machine.memory: must be a size such as 256M or 1G, not"),
        ("machine:\n  accel: kwm\n", "labnic.yaml:2: machine.accel: must be 'auto', 'tcg' or 'kvm', not 'kwm'"),
        ("machine: 5\n", "labnic.yaml:1: machine: must be a mapping of keys, not 5"),
        ("nics: 5\n", "labnic.yaml:1: nics: must be a list, not 5"),
        ("nics: []\n", "labnic.yaml:1: nics: needs at least one entry"),
        ("nics:\n  - name: a\n    mac: 01:00:00:00:00:01\n", "labnic.yaml:3: nics[0].mac: 01:00:00:00:00:01 is a m"),
        ("nics:\n  - mac: 52:54\n", "labnic.yaml:2: nics[0].mac: must be a MAC address"),
        ("nics:\n  - address: 192.0.2.1\n", "labnic.yaml:2: nics[0].address: needs a prefix"),
        ("nics:\n  - name: 'x y'\n", "labnic.yaml:2: nics[0].name: must be a letter"),
        ("nics:\n  - queues: 9\n", "labnic.yaml:2: nics[0].queues: must be less than or equal to 8"),
        ("timeouts:\n  boot: -1\n", "labnic.yaml:2: timeouts.boot: must be greater than 0"),
        ("artifacts: 5\n", "labnic.yaml:1: artifacts: must be a path, not 5"),
        ("a: [\n", "labnic.yaml:2: not valid YAML"),
        ("- a\n", "labnic.yaml:1: must be a mapping of settings"),
        ("kernel: a\nkernel: b\n", "labnic.yaml:2: kernel: given twice (first on line 1)"),
        ("machine:\n  cpus: 1\n  cpus: 2\n", "labnic.yaml:3: machine.cpus: given twice (first on line 2)"),
        ("kernel: !!python/object:os.system x\n", "labnic.yaml:1: kernel: not a value"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, "machine:\n  cpus: x\n  foo: 1\nbar: 2\n")
    assert [line.split(": ")[0] for line in message.splitlines()] == [
        "labnic.yaml:2",
        "labnic.yaml:3",
        "labnic.yaml:4",
    ]


def test_two_nics_with_the_same_name_are_refused(tmp_path: Path) -> None:
    text = "nics:\n  - {wire: a, mac: 52:54:00:00:00:01, address: 192.0.2.1/25}\n"
    text += "  - {wire: b, mac: 52:54:00:00:00:02, address: 192.0.2.129/25}\n"
    assert "two NICs have the same name: eth0" in refusal(tmp_path, text)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_settings(tmp_path / "none.yaml", environment={})


def test_the_higher_layer_wins_and_is_named(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".config" / "labnic").mkdir(parents=True)
    (home / ".config" / "labnic" / "config.yaml").write_text("machine:\n  cpus: 3\n  memory: 1G\n  accel: tcg\n")
    environment = {"HOME": str(home), "LABNIC_MACHINE_MEMORY": "2G", "LABNIC_TIMEOUTS_BOOT": "7.5"}
    settings = load(tmp_path, "machine:\n  cpus: 4\n  memory: 512M\n", environment, timeouts__boot="9")
    machine = settings.config.machine
    assert (machine.cpus, machine.memory, machine.accel) == (4, "2G", "tcg")
    assert settings.config.timeouts.boot == 9
    sources = {name: source for name, _, source in settings.rows()}
    assert sources["machine.cpus"] == "labnic.yaml:2"
    assert sources["machine.memory"] == "environment LABNIC_MACHINE_MEMORY"
    assert sources["machine.accel"] == "config.yaml:4"
    assert sources["timeouts.boot"] == "command line"
    assert sources["timeouts.command"] == "default"


@pytest.mark.parametrize(("text", "value"), [("off", False), ("False", False), ("yes", True), ("true", True)])
def test_a_switch_is_given_in_words(tmp_path: Path, text: str, value: bool) -> None:
    assert load(tmp_path, "", {"LABNIC_QEMU_AUDIT": text}).config.qemu.audit is value
    assert load(tmp_path, "", qemu__audit=text).config.qemu.audit is value


def test_a_switch_of_another_word_is_refused(tmp_path: Path) -> None:
    assert "qemu.audit: must be true or false, not 'maybe'" in refusal(tmp_path, "", qemu__audit="maybe")


def test_a_list_replaces_the_whole_list_below(tmp_path: Path) -> None:
    settings = load(tmp_path, 'test:\n  kernels: ["a", "b"]\n', {"LABNIC_TEST_KERNELS": "c, d,e"})
    assert settings.config.test.kernels == ("c", "d", "e")


def test_a_misspelt_variable_is_refused_and_a_foreign_one_is_not(tmp_path: Path) -> None:
    message = refusal(tmp_path, "", {"LABNIC_MACHINE_MEMROY": "1G"})
    assert message == "environment LABNIC_MACHINE_MEMROY: unknown setting (did you mean LABNIC_MACHINE_MEMORY?)"
    load(tmp_path, "", {"LABNIC_CACHE": "/x", "LABNIC_BOOTSTRAP_PHASES": "[]"})


def test_a_bad_value_names_the_variable_or_the_command_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, "", {"LABNIC_MACHINE_CPUS": "x"}).startswith("environment LABNIC_MACHINE_CPUS: machine.")
    assert refusal(tmp_path, "", machine__cpus="x").startswith("command line: machine.cpus: must be a whole number")
    assert "unknown setting (did you mean machine.cpus?)" in refusal(tmp_path, "", machine__cpu="1")


def test_a_relative_path_is_taken_from_the_file_that_names_it(tmp_path: Path) -> None:
    settings = load(tmp_path, "artifacts: out\nqemu:\n  binary: bin/qemu\n")
    assert settings.config.artifacts == tmp_path / "out"
    assert settings.config.qemu.binary == tmp_path / "bin/qemu"


def test_the_file_is_found_in_a_folder_above(tmp_path: Path) -> None:
    (tmp_path / "labnic.yaml").write_text("kernel: found\n")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert load_settings(start=deep, environment={}).config.kernel == "found"
