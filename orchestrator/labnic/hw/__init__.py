# SPDX-License-Identifier: GPL-2.0-or-later
"""The hardware map: its file format, its rules, and the model that tests and the generator use."""
