# SPDX-License-Identifier: GPL-2.0-or-later
"""What all groups of tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How fast an example is says more about the machine's other work than about the code.
settings.register_profile("labnic", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("labnic")
