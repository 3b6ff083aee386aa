# SPDX-License-Identifier: GPL-2.0-or-later
"""Become another program that dies with the process that started it.

Run as ``python -I -S leash.py PARENT_PID [NAME=VALUE ...] -- PROGRAM ARGUMENT...``.  The kernel is asked to kill this
process when its parent ends, and that survives the exec.  The variables are set for the program alone: a preloaded
library must not get into this interpreter.  A separate program, because code between fork and exec in a process with
threads can deadlock.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def main(arguments: list[str]) -> None:
    """Replace this process; returns only by raising."""
    parent = int(arguments[0])
    split = arguments.index("--")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The parent may have gone before the request was made; then nobody would send the signal.
    if os.getppid() != parent:
        sys.exit("labnic ended before QEMU was started")
    environment = dict(os.environ)
    for pair in arguments[1:split]:
        name, _, value = pair.partition("=")
        environment[name] = value
    program = arguments[split + 1 :]
    os.execvpe(program[0], program, environment)


if __name__ == "__main__":
    main(sys.argv[1:])
