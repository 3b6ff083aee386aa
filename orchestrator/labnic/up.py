# SPDX-License-Identifier: GPL-2.0-or-later
"""``labnic up``: boots a lab, shows what came up, proves the wire, and gives a shell or runs a command."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labnic.build.cache import Cache
from labnic.config import Config
from labnic.errors import InternalError, LabnicError
from labnic.lab import Lab
from labnic.machine import shell_text
from labnic.nic import Nic
from labnic.prepare import prepare
from labnic.report import Phases, run_folder
from labnic.responder import Responder

DEFAULT_NAME = "default"
"""Name of the lab when the user gives none."""

PINGS = 3
"""Echo requests in each direction that show the wire works."""

_READY = b"ready\n"


@dataclass(frozen=True)
class UpOptions:
    """What the user asked for; ``ready_fd`` is set in the background process of ``--detach``."""

    name: str = DEFAULT_NAME
    kernel: str | None = None
    command: str = ""
    keep: bool = False
    dry_run: bool = False
    parameters: tuple[str, ...] = ()
    ready_fd: int | None = None


def up(options: UpOptions, config: Config, phases: Phases) -> int:
    """Boot and do what was asked for; gives the exit code (the command's own, when there is one)."""
    parts = prepare(config, options.kernel or config.kernel, Cache(), phases)
    folder = config.artifacts if options.dry_run else run_folder(config.artifacts)
    lab = Lab(config, parts, folder, phases, name=options.name, parameters=options.parameters)
    if options.dry_run:
        print(shell_text(lab.pasteable(), lab.spec().environment))
        return 0
    interactive = _interactive(options)
    with lab:
        print("\n".join(_summary(lab)), flush=True)
        if not interactive and options.ready_fd is None and lab.driver_wanted:
            print(_prove(lab), flush=True)
        for nic in lab.nics:
            nic.wire.answer = Responder(nic.peer_ip, nic.peer_mac)
        if options.ready_fd is not None:
            return _serve(lab, options.ready_fd)
        if interactive:
            return _shell(lab)
        status = _command(lab, options.command) if options.command else 0
        if options.keep:
            print(f"labnic: the lab stays until Ctrl-C or `labnic down --name {lab.name}`", file=sys.stderr, flush=True)
            _wait_end(lab)
        return status


def _interactive(options: UpOptions) -> bool:
    quiet = options.command or options.ready_fd is not None
    return not quiet and sys.stdin.isatty() and sys.stdout.isatty()


def _summary(lab: Lab) -> list[str]:
    """What came up, for people."""
    lines = [
        f"kernel       {lab.kernel.release}",
        f"accelerator  {lab.parts.accel.name}: {lab.parts.accel.reason}",
        f"first command after {lab.boot_seconds:.1f} s",
    ]
    lines += [_describe(nic) if lab.driver_wanted else f"{nic.name:<12} its driver is not loaded" for nic in lab.nics]
    lines.append(f"artifacts    {lab.directory}")
    return lines


def _describe(nic: Nic) -> str:
    info = nic.info()
    script = f"cd {nic.path('')} && cat carrier speed mtu; ls queues | grep -c rx; ls queues | grep -c tx"
    carrier, speed, mtu, rx, tx = nic.guest.run(script).stdout.split()
    # Some devices do not tell their speed.
    link = ("up" if int(speed) < 0 else f"up at {speed} Mb/s") if carrier == "1" else "down"
    return (
        f"{nic.name:<12} {info.get('driver', '?')} {info.get('version', '')} at {info.get('bus-info', '?')}: "
        f"{nic.mac}, {nic.config.address}, link {link}, mtu {mtu}, {rx} rx and {tx} tx queues"
    )


def _prove(lab: Lab) -> str:
    """Exchange packets with the guest's stack: ARP, and ICMP echo both ways."""
    import scapy.layers.inet  # noqa: F401 - its half second is not the wire's

    texts = []
    for nic in lab.nics:
        sent, received = nic.wire.sent, nic.wire.received
        mac = nic.arp()
        if mac != nic.mac:
            raise InternalError(f"the guest answers ARP for {nic.ip} with {mac}, but {nic.name} has {nic.mac}")
        begin = time.monotonic()
        for number in range(PINGS):
            nic.ping(sequence=number)
        mean = (time.monotonic() - begin) / PINGS * 1000
        for _ in range(PINGS):
            nic.guest_ping()
        texts.append(
            f"wire {nic.wire.name}: ARP and {PINGS} echoes each way ({mean:.1f} ms), "
            f"{nic.wire.sent - sent} frames sent, {nic.wire.received - received} received"
        )
    return "\n".join(texts)


def _command(lab: Lab, command: str) -> int:
    """Run the user's command in the guest and pass on what it prints."""
    result = lab.guest.run(command)
    sys.stdout.flush()
    sys.stdout.buffer.write(result.output)
    sys.stdout.buffer.flush()
    sys.stderr.write(result.stderr)
    sys.stderr.flush()
    return result.status


def _shell(lab: Lab) -> int:
    print(
        f"A root shell in the guest follows; {lab.nic.peer_ip} answers ping.  Ctrl-] leaves it and ends the VM; "
        "from another terminal: labnic exec -- COMMAND",
        flush=True,
    )
    left = lab.console.attach(lab.machine.alive)
    print("\r", flush=True)
    if not left:
        _wait_end(lab)
    return 0


def _wait_end(lab: Lab) -> None:
    """Until the VM ends; switching it off from inside is a good end, a panic or a killed QEMU is not."""
    while not lab.wait_exit(3600.0):
        pass
    if lab.machine.process.returncode or lab.machine.panicked():
        lab.check_alive()


# In the background


def detach(argv: Sequence[str]) -> int:
    """Start ``labnic up`` again as a process of its own and wait until its lab is ready; gives the exit code.

    The new process owns the VM and keeps draining the wires until ``labnic down``.
    """
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "labnic", *argv, "--ready-fd", str(writer)]
    environment = dict(os.environ)
    package = str(Path(__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, environment.get("PYTHONPATH"))))
    process = subprocess.Popen(
        command, pass_fds=(writer,), stdin=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    os.close(writer)
    try:
        with os.fdopen(reader, "rb") as pipe:
            ready = pipe.read() == _READY
    except BaseException:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15.0)
        process.kill()
        raise
    return 0 if ready else process.wait()


def _serve(lab: Lab, ready_fd: int) -> int:
    """The background owner: says that it is ready, gives up the terminal, and keeps the lab until it ends."""
    log = os.open(lab.directory / "owner.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    os.write(ready_fd, _READY)
    os.close(ready_fd)
    try:
        _wait_end(lab)
    except LabnicError as error:
        print(f"{time.ctime()}: {error.message}", file=sys.stderr)
        raise
    return 0
