# SPDX-License-Identifier: GPL-2.0-or-later
"""Typed errors; each kind has the exit code that the command ends with."""

from __future__ import annotations

from collections.abc import Sequence


class LabnicError(Exception):
    """Something the user must know: what happened, where, and what to do.

    ``hint`` is one line saying what to do next; ``log`` the last lines of the log that explains it.
    """

    exit_code = 8

    def __init__(self, message: str, *, hint: str = "", log: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.log = tuple(log)


class UsageError(LabnicError):
    """The command line asks for something that does not exist or does not fit together."""

    exit_code = 2


class ConfigError(LabnicError):
    """A file of settings cannot be used; the message names the file and line."""

    exit_code = 2


class PrerequisiteError(LabnicError):
    """The machine lacks a program or package; the hint is the line to paste."""

    exit_code = 3


class BuildError(LabnicError):
    """A build step failed; ``log`` has its last lines."""

    exit_code = 4


class BootError(LabnicError):
    """The guest did not come up in time."""

    exit_code = 5


class VmLostError(LabnicError):
    """QEMU ended, or stopped answering, while it was in use."""

    exit_code = 5


class GuestPanicError(LabnicError):
    """The guest's kernel panicked."""

    exit_code = 6


class InternalError(LabnicError):
    """A fault of labnic itself."""

    exit_code = 8


class WireError(LabnicError):
    """The cable between the test and the NIC does not carry frames any more."""

    exit_code = 5


class CommandTimeoutError(LabnicError):
    """A command in the guest, or a wait for something in the guest, did not end in time."""

    exit_code = 1


class InterruptError(LabnicError):
    """The user or the system asked labnic to stop."""

    exit_code = 130
