# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m labnic``."""

import signal
import sys

# Ctrl-C while modules are loaded would end in a traceback; `main` lets it through.
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))

from labnic.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
