# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages by hand with parts that a command writes, each between two marks."""

from __future__ import annotations

from labnic.errors import UsageError

MARK = "<!-- {}: {} -->"
"""Lines of a page between which something generated stands: what it is, and "begin" or "end"."""


def replace_part(text: str, part: str, new: str, name: str = "the page") -> str:
    """The page with another text between the marks of a part; raises `UsageError` when the marks are not there."""
    begin, end = MARK.format(part, "begin"), MARK.format(part, "end")
    head, begun, rest = text.partition(begin)
    _, ended, tail = rest.partition(end)
    if not begun or not ended:
        raise UsageError(f"{name} has no place for the {part}", hint=f"it needs the lines {begin} and {end}")
    return f"{head}{begin}\n{new}{end}{tail}"
