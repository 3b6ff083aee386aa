# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the booted guest: the driver on the device, with real frames on the wire."""
