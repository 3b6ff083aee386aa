# SPDX-License-Identifier: GPL-2.0-or-later
"""``labnic bench``: the NIC beside every other that QEMU has, in one VM, on the same kind of wire."""
