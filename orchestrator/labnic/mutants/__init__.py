# SPDX-License-Identifier: GPL-2.0-or-later
"""Seeded bugs: patches to copies of the driver and the device, each of which the tests must notice."""
