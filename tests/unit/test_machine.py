# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's command line and its process, with small programs in QEMU's place."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from labnic.accel import choose, prove_kvm
from labnic.build.cache import Cache
from labnic.cmdline import MachineSpec, command_line, guest_parameters
from labnic.config import MachineConfig, NicConfig
from labnic.errors import BootError, GuestPanicError, PrerequisiteError, VmLostError
from labnic.machine import Machine, leashed, shell_text
from labnic.process import ProcessId


@pytest.fixture
def spec(tmp_path: Path) -> MachineSpec:
    return MachineSpec(
        binary=Path("/usr/bin/qemu"),
        qemu_version="10.0.13 (Debian)",
        machine=MachineConfig(),
        accel="tcg",
        kernel=Path("/k/vmlinux"),
        initrd=Path("/k/initrd"),
        nics=(NicConfig(), NicConfig(name="eth1", model="e1000e", mac="52:54:00:00:00:09", wire="w1")),
        run=tmp_path,
        directory=tmp_path,
        parameters=("console=ttyS0", "x=y"),
        wires={"w0": 7, "w1": 8},
        monitor=5,
        agent=6,
    )


def value(argv: list[str], option: str, number: int = 0) -> str:
    return [argv[at + 1] for at, word in enumerate(argv) if word == option][number]


def test_the_command_line_has_what_a_lab_needs(spec: MachineSpec) -> None:
    argv = command_line(spec)
    assert argv[0] == "/usr/bin/qemu"
    assert value(argv, "-accel") == "tcg,thread=multi,tb-size=512"
    assert value(argv, "-append") == "console=ttyS0 x=y maxcpus=1 noreplace-smp"
    assert value(argv, "-action") == "panic=exit-failure"
    assert {"-S", "-no-reboot", "-nodefaults", "-no-user-config"} <= set(argv)
    assert value(argv, "-netdev") == "dgram,id=w0,local.type=fd,local.str=7"
    nics = [word for word in argv if "netdev=" in word]
    assert nics[0] == "labnic,id=eth0,netdev=w0,mac=52:54:00:6c:62:01,bus=pcie.0,addr=0x10,queues=8"
    assert nics[1] == "e1000e,id=eth1,netdev=w1,mac=52:54:00:00:00:09,bus=pcie.0,addr=0x11,romfile="
    assert spec.descriptors == (5, 6, 7, 8)


@pytest.mark.parametrize(("thread", "cpus", "wanted"), [("multi", 2, True), ("multi", 1, False), ("single", 2, False)])
def test_memory_is_mapped_before_another_cpu_runs_in_a_thread_of_its_own(
    spec: MachineSpec, thread: str, cpus: int, wanted: bool
) -> None:
    machine = spec.machine.model_copy(update={"tcg_thread": thread, "cpus": cpus})
    assert ("maxcpus=1" in value(command_line(replace(spec, machine=machine)), "-append")) == wanted


@pytest.mark.parametrize(
    ("version", "wanted", "thread"),
    [
        ("7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", "auto", "single"),
        ("8.0.5", "auto", "single"),
        ("8.1.0", "auto", "multi"),
        ("10.0.13", "auto", "multi"),
        ("7.2.22", "multi", "multi"),
        ("10.0.13", "single", "single"),
    ],
)
def test_virtual_cpus_have_threads_of_their_own_where_qemu_can(
    spec: MachineSpec, version: str, wanted: str, thread: str
) -> None:
    machine = MachineConfig.model_validate({"tcg_thread": wanted})
    argv = command_line(replace(spec, qemu_version=version, machine=machine))
    assert value(argv, "-accel") == f"tcg,thread={thread},tb-size=512"


def test_a_nic_that_can_be_unplugged_is_behind_a_port_of_its_own(spec: MachineSpec) -> None:
    argv = command_line(replace(spec, nics=tuple(nic.model_copy(update={"hotplug": True}) for nic in spec.nics)))
    ports = [word for word in argv if word.startswith("pcie-root-port,")]
    assert ports == [
        "pcie-root-port,id=port-eth0,chassis=16,bus=pcie.0,addr=0x10",
        "pcie-root-port,id=port-eth1,chassis=17,bus=pcie.0,addr=0x11",
    ]
    nics = [word for word in argv if "netdev=" in word]
    assert nics[0] == "labnic,id=eth0,netdev=w0,mac=52:54:00:6c:62:01,bus=port-eth0,queues=8"
    assert nics[1] == "e1000e,id=eth1,netdev=w1,mac=52:54:00:00:00:09,bus=port-eth1,romfile="


def test_the_audit_is_for_every_labnic_that_ever_comes(spec: MachineSpec) -> None:
    assert value(command_line(replace(spec, audit=True)), "-global") == "labnic.auditing=on"
    assert "-global" not in command_line(spec)
    assert "-global" not in command_line(replace(spec, audit=True, nics=spec.nics[1:]))


def test_kvm_gets_the_hosts_cpu(spec: MachineSpec) -> None:
    argv = command_line(replace(spec, accel="kvm"))
    assert (value(argv, "-accel"), value(argv, "-cpu")) == ("kvm", "host")


def test_the_plugin_is_for_qemu_alone(spec: MachineSpec) -> None:
    assert spec.environment == {}
    assert replace(spec, plugin=Path("/p/labnic.so")).environment == {"LD_PRELOAD": "/p/labnic.so"}


def test_firmware_is_looked_for_in_each_folder(spec: MachineSpec) -> None:
    argv = command_line(replace(spec, data_dirs=(Path("/q"), Path("/seabios"))))
    assert [argv[at + 1] for at, word in enumerate(argv) if word == "-L"] == ["/q", "/seabios"]


def test_the_small_firmware_is_used_where_it_finds_its_kernel(spec: MachineSpec) -> None:
    assert value(command_line(spec), "-bios") == "qboot.rom"
    assert "-bios" not in command_line(replace(spec, backends={spec.nics[0].wire: "hubport,hubid=0"}))


def test_by_hand_nothing_is_inherited(spec: MachineSpec) -> None:
    argv = command_line(replace(spec, by_hand=True, wires={}))
    assert value(argv, "-serial") == "mon:stdio"
    assert value(argv, "-netdev") == "user,id=w0,restrict=on"
    assert not {"-S", "-qmp", "-chardev"} & set(argv)


def test_a_comma_in_a_path_is_escaped(spec: MachineSpec, tmp_path: Path) -> None:
    argv = command_line(replace(spec, directory=tmp_path / "a,b"))
    assert f"logfile={tmp_path}/a,,b/console.log" in value(argv, "-chardev")


def test_the_guest_is_told_about_its_nics() -> None:
    nics = (NicConfig(), NicConfig(name="eth1", model="e1000e", mac="52:54:00:00:00:09", address="192.0.3.1/24"))
    words = guest_parameters(("console=ttyS0",), nics, ("quiet",))
    assert words[0] == "console=ttyS0"
    assert words[-1] == "quiet"
    assert "labnic.modules=e1000e" in words
    assert "labnic.nic=eth1,52:54:00:00:00:09,192.0.3.1/24" in words
    unloaded = guest_parameters((), nics, ("labnic.up=0",))
    assert not [word for word in unloaded if word.startswith("labnic.nic")]


def test_the_printed_command_runs_in_a_shell() -> None:
    text = shell_text(["printf", "%s|", "-a", "b c", "-d", "$HOME"], {"WORD": "x y"})
    assert subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True).stdout == "-a|b c|-d|$HOME|"
    assert text.startswith("WORD='x y' printf")


# The leash


def test_the_leashed_program_gets_its_variables_and_arguments() -> None:
    argv = leashed(["sh", "-c", 'echo "$WORD" "$1"', "sh", "a b"], {"WORD": "x=y z"})
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "x=y z a b\n"


def test_the_leashed_program_dies_with_its_parent() -> None:
    code = (
        "import subprocess, sys, time\nfrom labnic.machine import leashed\n"
        "child = subprocess.Popen(leashed(['sh', '-c', 'echo $$; exec sleep 60'], {}), start_new_session=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "orchestrator")}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    child = ProcessId.of(int(parent.stdout.readline()))
    assert child.alive()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert child.wait(5.0)


def test_a_parent_that_is_gone_already_starts_nothing() -> None:
    argv = leashed(["echo", "started"], {})
    argv[4] = "1"
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "started" not in result.stdout


# Processes


def test_a_process_is_recognised_by_its_start() -> None:
    child = subprocess.Popen(["sleep", "60"])
    process = ProcessId.of(child.pid)
    stranger = ProcessId(child.pid, process.start + 1)
    assert process.alive()
    assert not stranger.alive()
    stranger.signal(signal.SIGKILL)
    assert not process.wait(0.05)
    assert process.end(5.0)
    child.wait()
    assert process.wait(0.0)
    process.signal(signal.SIGTERM)
    with pytest.raises(ProcessLookupError):
        ProcessId.of(child.pid)


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"], stdout=-1)
    assert child.stdout is not None
    child.stdout.readline()
    assert ProcessId.of(child.pid).end(0.1)
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()


# QEMU's process


def start(spec: MachineSpec, script: str) -> tuple[Machine, socket.socket]:
    binary = spec.directory / "qemu"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    ours, theirs = socket.socketpair()
    machine = Machine(replace(spec, binary=binary, wires={}, monitor=theirs.fileno(), agent=-1), ours)
    theirs.close()
    return machine, ours


def test_a_qemu_that_refuses_is_quoted(spec: MachineSpec) -> None:
    machine, _ = start(spec, "echo 'qemu: -device labnic: no such device' >&2; exit 1")
    with pytest.raises(BootError, match=r"refused to start \(status 1\)") as caught:
        machine.connect(5.0)
    assert "no such device" in caught.value.log[-1]
    machine.stop()
    assert (spec.directory / "qemu.sh").read_text().startswith("#!/bin/sh")


def test_a_killed_qemu_is_lost_by_its_signal(spec: MachineSpec) -> None:
    machine, _ = start(spec, "exec sleep 60")
    machine.process.kill()
    assert machine.wait(5.0)
    error = machine.explain("silence")
    assert isinstance(error, VmLostError)
    assert "killed by SIGKILL" in error.message
    machine.stop()


def test_a_panic_on_the_console_is_a_panic(spec: MachineSpec) -> None:
    lines = "\\n".join(f"line {number}" for number in range(50))
    log = spec.directory / "console.log"
    panic = "[ 1.0] Kernel panic - not syncing: test"
    machine, _ = start(spec, f"printf '{lines}\\n{panic}\\n  trace\\n' > {log}; exit 1")
    assert machine.wait(5.0)
    error = machine.explain("QEMU ended")
    assert isinstance(error, GuestPanicError)
    assert error.exit_code == 6
    assert panic in error.log
    assert error.log[-1] == "  trace"
    machine.stop()


def test_a_silent_qemu_that_lives_is_told_so(spec: MachineSpec) -> None:
    machine, _ = start(spec, "exec sleep 60")
    assert "still runs" in machine.explain("the agent does not answer").message
    begin = time.monotonic()
    machine.stop()
    assert not machine.alive()
    assert time.monotonic() - begin < 8
    machine.stop()


# The accelerator


def fake_qemu(folder: Path, script: str) -> Path:
    path = folder / "qemu-fake"
    path.write_text(f"#!/bin/sh\necho run >> {folder}/runs\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "name", "reason"),
    [
        ("echo '[0.0] Linux version 6'; exec sleep 60", "kvm", "printed its first line"),
        ("exec sleep 60", "tcg", "a guest printed nothing within 0.3 s"),
        ("echo 'qemu: assertion failed' >&2; exit 1", "tcg", "cannot run a guest with it: assertion failed"),
    ],
)
def test_only_a_booting_guest_proves_kvm(tmp_path: Path, script: str, name: str, reason: str) -> None:
    limit = 20.0 if name == "kvm" else 0.3 if "sleep" in script else 20.0
    verdict = prove_kvm(fake_qemu(tmp_path, script), Path("vmlinux"), limit)
    assert verdict.name == name
    assert reason in verdict.reason


def test_the_verdict_is_remembered_until_qemu_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labnic.accel._device_problem", lambda: None)
    kernel = tmp_path / "vmlinux"
    kernel.write_text("x")
    cache = Cache(tmp_path / "cache")
    qemu = fake_qemu(tmp_path, "echo 'qemu: broken' >&2; exit 1")
    for _ in range(3):
        assert choose("auto", qemu, kernel, cache).name == "tcg"
    assert len((tmp_path / "runs").read_text().splitlines()) == 1
    qemu = fake_qemu(tmp_path, "echo 'Linux version 6.1 and more'; exec sleep 60")
    assert choose("auto", qemu, kernel, cache).name == "kvm"
    assert choose("tcg", qemu, kernel, cache).name == "tcg"


def test_kvm_on_demand_must_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labnic.accel._KVM", tmp_path / "kvm")
    with pytest.raises(PrerequisiteError, match="kvm cannot be used: No such file"):
        choose("kvm", Path("/bin/true"), Path("/bin/true"), Cache(tmp_path / "cache"))
    assert choose("auto", Path("/bin/true"), Path("/bin/true"), Cache(tmp_path / "cache")).name == "tcg"


def test_another_backend_takes_the_place_of_the_wire(spec: MachineSpec) -> None:
    argv = command_line(replace(spec, backends={"w0": "tap,ifname=tap0"}))
    assert [value(argv, "-netdev", number) for number in (0, 1)] == [
        "tap,id=w0,ifname=tap0",
        "dgram,id=w1,local.type=fd,local.str=8",
    ]
