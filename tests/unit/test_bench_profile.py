# SPDX-License-Identifier: GPL-2.0-or-later
"""Places in the kernel's code as functions, and the table of them."""

from __future__ import annotations

from rich.console import Console

from labnic.bench.profile import GONE, Symbols
from labnic.bench.result import Cell, Result
from labnic.bench.sample import Sample
from labnic.bench.show import profiles

KALLSYMS = """\
ffffffff81000200 T second
ffffffff81000100 t first
ffffffffc0000010 t labnic_start_xmit\t[labnic]
"""


def test_a_place_belongs_to_the_function_that_begins_there_or_before() -> None:
    symbols = Symbols.parse(KALLSYMS)
    assert symbols.at(0xFFFFFFFF81000100) == "first"
    assert symbols.at(0xFFFFFFFF810001F0) == "first"
    assert symbols.at(0xFFFFFFFF81000200) == "second"
    assert symbols.at(0xFFFFFFFFC0000040) == "labnic_start_xmit"
    assert symbols.at(0x1000) == GONE


def test_a_place_in_no_module_that_is_loaded_belongs_to_none() -> None:
    """Where a module was, what comes before it in memory is another one, which has nothing to do with it."""
    areas = "0xffffffffc0000000-0xffffffffc0002000    8192 load_module+0x1 pages=1\n"
    symbols = Symbols.parse(KALLSYMS, areas)
    assert symbols.at(0xFFFFFFFFC0000040) == "labnic_start_xmit"
    assert symbols.at(0xFFFFFFFFC0001FF0) == "labnic_start_xmit"
    assert symbols.at(0xFFFFFFFFC0002000) == GONE
    assert symbols.at(0xFFFFFFFF81000100) == "first"


def test_a_profile_has_the_instructions_of_a_frame_the_most_first() -> None:
    places = {0xFFFFFFFF81000100: 100, 0xFFFFFFFF81000110: 200, 0xFFFFFFFF81000200: 9, 0xFFFFFFFFC0000010: 400}
    assert list(Symbols.parse(KALLSYMS).profile(places, 10).items()) == [("labnic_start_xmit", 40), ("first", 30)]


def test_the_table_has_a_column_for_each_that_was_looked_at() -> None:
    samples = [Sample(profile={"xmit": 10.0 * n, "clean": 1.0}) for n in (3, 1, 2)]
    result = Result({}, {"tx": "TX"}, {"tx": {"labnic": Cell(samples), "igb": Cell([Sample()])}})
    console = Console(width=80, record=True, highlight=False)
    profiles(result, console)
    text = console.export_text()
    assert "labnic" in text
    assert "igb" not in text
    assert text.index("xmit   20.0") < text.index("clean   1.00")
