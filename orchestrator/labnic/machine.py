# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU process: started on a leash, watched, and explained when it ends."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

from labnic import leash
from labnic.cmdline import MachineSpec, command_line
from labnic.errors import BootError, GuestPanicError, LabnicError, VmLostError
from labnic.qmp import Qmp
from labnic.splat import tail

PANIC_LINE = "Kernel panic - not syncing"
LAST_LINES = 20
"""Lines of a log that an error carries."""

# SHUTDOWN's reasons in QEMU's qapi/run-state.json that need words of our own.
_SHUTDOWN = {
    "guest-shutdown": "the guest switched itself off",
    "guest-reset": "the guest restarted (a triple fault looks the same)",
    "host-signal": "QEMU was told by a signal to end",
    "host-qmp-quit": "QEMU was told by its monitor to end",
}

_LEASH = Path(leash.__file__)


class Machine:
    """QEMU with its monitor; the CPUs stand still until ``qmp.cont()``."""

    def __init__(self, spec: MachineSpec, monitor: socket.socket) -> None:
        self.spec = spec
        self.argv = command_line(spec)
        self.console_log = spec.directory / "console.log"
        self.qemu_log = spec.directory / "qemu.log"
        self._write_command()
        with self.qemu_log.open("wb") as log:
            self.process = subprocess.Popen(
                leashed(self.argv, spec.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=spec.descriptors,
                # Its own session: Ctrl-C in the terminal is for labnic, which ends QEMU in order.
                start_new_session=True,
            )
        self.qmp = Qmp(monitor)

    def _write_command(self) -> None:
        text = (
            "#!/bin/sh\n# The wires and channels that labnic hands over as open descriptors are not there in a shell.\n"
        )
        path = self.spec.directory / "qemu.sh"
        path.write_text(text + shell_text(self.argv, self.spec.environment) + "\n")
        path.chmod(0o755)

    def connect(self, timeout: float = 20.0) -> None:
        """Wait for QEMU's monitor; raises `BootError` with QEMU's own words when it refuses to start."""
        try:
            self.qmp.connect(timeout)
        except VmLostError as error:
            if self.wait(2.0):
                raise BootError(
                    f"QEMU refused to start (status {self.process.returncode})",
                    log=tail(self.qemu_log, LAST_LINES),
                    hint=f"its command line is in {self.spec.directory / 'qemu.sh'}",
                ) from None
            raise BootError(f"QEMU's monitor: {error.message}", log=tail(self.qemu_log, LAST_LINES)) from None

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self.process.pid

    def alive(self) -> bool:
        """Whether QEMU still runs."""
        return self.process.poll() is None

    def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for QEMU's end; whether it has ended."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def explain(self, what: str) -> LabnicError:
        """The error for a VM of which ``what`` was noticed first: a panic, the end of QEMU, or silence."""
        # The panic reaches us as a closed socket before QEMU has ended.
        ended = self.wait(2.0)
        console = tail(self.console_log, LAST_LINES)
        if self.panicked():
            return GuestPanicError("the guest's kernel panicked", log=self._panic_lines() or console)
        if not ended:
            return VmLostError(f"{what}, and QEMU (process {self.pid}) still runs", log=console)
        status = self.process.returncode
        if status < 0:
            name = signal.Signals(-status).name
            return VmLostError(f"QEMU was killed by {name}", log=tail(self.qemu_log, 10) or console)
        if status == 0:
            return VmLostError(self._shutdown_reason(), log=console)
        return VmLostError(f"QEMU ended with status {status}", log=tail(self.qemu_log, LAST_LINES) + console)

    def _shutdown_reason(self) -> str:
        for event in self.qmp.events():
            if event["event"] == "SHUTDOWN":
                reason = str(event["data"]["reason"])
                return _SHUTDOWN.get(reason, f"QEMU ended: {reason}")
        return "QEMU ended with status 0"

    def panicked(self) -> bool:
        """Whether the guest's kernel panicked, by QEMU's event or by the console."""
        if any(event["event"] == "GUEST_PANICKED" for event in self.qmp.events()):
            return True
        return any(PANIC_LINE in line for line in tail(self.console_log, 200))

    def _panic_lines(self) -> list[str]:
        """The log from a little before the panic."""
        lines = tail(self.console_log, 200)
        first = next((number for number, line in enumerate(lines) if PANIC_LINE in line), len(lines))
        return lines[max(0, first - LAST_LINES) : first + 5]

    def stop(self) -> None:
        """End QEMU: by its monitor, by SIGTERM, by SIGKILL, whatever works first.  Safe to call twice."""
        if self.alive():
            with contextlib.suppress(LabnicError):
                self.qmp.execute("quit", timeout=2.0)
            for number in (signal.SIGTERM, signal.SIGKILL):
                if self.wait(2.0):
                    break
                self.process.send_signal(number)
            self.process.wait(10.0)
        self.qmp.close()


def leashed(argv: list[str], environment: dict[str, str]) -> list[str]:
    """The command that runs another one which cannot outlive this process."""
    variables = [f"{name}={value}" for name, value in environment.items()]
    return [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *variables, "--", *argv]


def shell_text(argv: list[str], environment: dict[str, str]) -> str:
    """The command as a shell takes it, an option with its value on each line."""
    words = [f"{name}={shlex.quote(value)}" for name, value in environment.items()] + [shlex.quote(argv[0])]
    lines = [" ".join(words)]
    for word in argv[1:]:
        if word.startswith("-") or lines[-1].count(" ") > 3:
            lines.append(f"  {shlex.quote(word)}")
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n".join(lines)
