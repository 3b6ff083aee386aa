# SPDX-License-Identifier: GPL-2.0-or-later
"""The device, driven over the qtest socket by a test instead of a guest."""
