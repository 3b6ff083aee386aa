# SPDX-License-Identifier: GPL-2.0-or-later
"""The static checks by what they look at; :mod:`labnic.check` runs them."""
