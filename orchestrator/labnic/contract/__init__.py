# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's rules for network devices, executable: provoked one by one, judged by others than the driver."""
