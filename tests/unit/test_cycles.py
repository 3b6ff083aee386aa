# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal of a long run, and what counts as growth."""

from __future__ import annotations

from pathlib import Path

from labnic.cycles import Journal, Memory

SLABINFO = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount>
kmalloc-64          {64}   5120     64   64    1 : tunables    0    0    0 : slabdata     80     80      0
skbuff_head_cache    320    320    256   16    1 : tunables    0    0    0 : slabdata     20     20      0
MemTotal:         492000 kB
MemFree:          {free} kB
Buffers:               0 kB
Cached:            50000 kB
              count: 12
              count: 600
"""


def memory(objects: int = 4000, free: int = 300000) -> Memory:
    return Memory.parse(SLABINFO.replace("{64}", str(objects)).replace("{free}", str(free)))


def test_memory_is_read_from_the_kernels_tables() -> None:
    found = memory()
    assert found.objects == {"kmalloc-64": 4000, "skbuff_head_cache": 320}
    assert found.pages == (492000 - 300000 - 50000) // 4 - 612, "pages that CPUs have at hand are free"


def test_the_records_of_a_checker_are_no_growth() -> None:
    text = SLABINFO.replace("{64}", "1825").replace("{free}", "300000").replace("kmalloc-64 ", "debug_objects_cache ")
    assert Memory.parse(text).objects == {"skbuff_head_cache": 320}


def test_one_object_in_each_cycle_is_growth() -> None:
    grown = memory(objects=5000).growth(memory(), 1000)
    assert grown == ["slab cache kmalloc-64 has 1000 objects more after 1000 cycles"]


def test_one_page_in_each_cycle_is_growth() -> None:
    grown = memory(free=300000 - 4 * 1000).growth(memory(), 1000)
    assert grown == ["1000 pages more are in use after 1000 cycles"]


def test_what_comes_and_goes_is_no_growth() -> None:
    assert memory(objects=4200, free=299500).growth(memory(), 50) == []
    assert memory(objects=3000, free=310000).growth(memory(), 50) == []


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, {"driver": "one"}, again=False)
    journal.done = 150
    journal.save()
    assert Journal.open(tmp_path, {"driver": "one"}, again=False).done == 150
    assert Journal.open(tmp_path, {"driver": "one"}, again=True).done == 0
    assert Journal.open(tmp_path, {"driver": "two"}, again=False).done == 0


def test_a_damaged_journal_begins_anew(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path, {"driver": "one"}, again=False)
    journal.path.parent.mkdir(exist_ok=True)
    journal.path.write_text("{")
    assert Journal.open(tmp_path, {"driver": "one"}, again=False).done == 0
