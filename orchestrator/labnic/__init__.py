# SPDX-License-Identifier: GPL-2.0-or-later
"""labnic: a NIC that exists only in QEMU, its Linux driver, and a VM that proves both with real packets."""

__version__ = "0.1.0"
