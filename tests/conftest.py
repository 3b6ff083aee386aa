# SPDX-License-Identifier: GPL-2.0-or-later
"""What all groups of tests share."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# How fast an example is says more about the machine's other work than about the code.
settings.register_profile("labnic", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("labnic")

# Behind nohup, or in the background of a script, Ctrl-C is ignored, and so it would be by the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)
