# SPDX-License-Identifier: GPL-2.0-or-later
"""Counting in a file that QEMU's plugin shares, without QEMU: the test writes what the plugin would."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import cast

import pytest

from labnic.bench import counted
from labnic.bench.backend import backends_of
from labnic.bench.contenders import choose
from labnic.bench.counter import CPUS, PLACES, RANGES, SIZE, SOURCE, Counter, Counts, parse_resources
from labnic.bench.sample import DMA, INSTRUCTIONS, MMIO
from labnic.bench.stage import SETTINGS, Port, Stage, machine_config
from labnic.config import Config
from labnic.pktgen import Pktgen

RESOURCES = """\
0x00000000febc0000 0x00000000febdffff 0x0000000000040200
0x000000000000c000 0x000000000000c01f 0x0000000000040101
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000febe0000 0x00000000febe3fff 0x0000000000040200
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x00000000feb80000 0x00000000febbffff 0x0000000000046200
"""


def test_registers_are_in_the_memory_of_the_function_itself() -> None:
    assert parse_resources(RESOURCES) == [(0xFEBC0000, 0x20000), (0xFEBE0000, 0x4000)]


def test_the_file_is_as_the_plugin_expects_it() -> None:
    """Both sides have the numbers; the plugin refuses a file of another size."""
    numbers = dict(re.findall(r"#define (CPUS|RANGES|PLACES) (.+)", SOURCE.read_text()))
    assert numbers == {"CPUS": str(CPUS), "RANGES": str(RANGES), "PLACES": "(1 << 19)"}
    assert PLACES == 1 << 19
    assert SIZE == 8 * (2 * CPUS + 4 * RANGES + 2 * PLACES)


def test_each_nic_has_its_own_accesses_and_the_kernel_is_counted_on_all_cpus(tmp_path: Path) -> None:
    file = tmp_path / "lab" / "counts"
    counter = Counter(tmp_path / "count.so", file)
    assert counter.extra == ("-plugin", f"{tmp_path}/count.so,counts={file}")
    counter.watch("igb", [(0x1000, 0x100), (0x2000, 0x100)])
    counter.watch("labnic", [(0x3000, 0x100)])
    content = file.read_bytes()
    assert struct.unpack_from("<2Q", content, 8 * (2 * CPUS + 4 * 2)) == (0x3000, 0x100)
    with file.open("r+b") as plugin:
        plugin.write(struct.pack(f"<{2 * CPUS}Q", *range(2 * CPUS)))
        for number, (reads, writes) in enumerate([(1, 2), (4, 8), (16, 32)]):
            plugin.seek(8 * (2 * CPUS + 4 * number + 2))
            plugin.write(struct.pack("<2Q", reads, writes))
    assert counter.read("igb") == Counts(sum(range(CPUS, 2 * CPUS)), 15)
    assert counter.read("labnic").accesses == 48
    assert counter.read("dummy").accesses == 0
    counter.close()


def test_no_more_ranges_than_there_is_room_for(tmp_path: Path) -> None:
    counter = Counter(tmp_path / "count.so", tmp_path / "counts")
    with pytest.raises(ValueError, match="more than 64"):
        counter.watch("igb", [(0x1000 * number, 16) for number in range(1, RANGES + 2)])
    counter.close()


class Counting:
    """A stage on which each frame costs 100 instructions, 2 accesses and 3 times DMA, and each run 10,000, 50 and 7;
    to ask for the DMA costs instructions, too."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.operations = 0

    def counted(self, port: Port) -> Counts:
        return self.counts

    def dma(self, port: Port) -> int:
        self.counts = Counts(self.counts.instructions + 999, self.counts.accesses + 99)
        return self.operations

    def run(self, count: int, quiet: float) -> tuple[int, int, float]:
        self.counts = Counts(self.counts.instructions + 10_000 + 100 * count, self.counts.accesses + 50 + 2 * count)
        self.operations += 7 + 3 * count
        return count, 1, 0.0


def test_what_every_run_costs_belongs_to_no_frame() -> None:
    (contender,) = choose(["labnic"])
    port = Port(contender, cast(Pktgen, None), 1, nic=cast("None", object()))
    stage = Counting()
    sample = counted._slope(cast(Stage, stage), port, stage.run)
    assert sample.values == {INSTRUCTIONS.name: 100, MMIO.name: 2, DMA.name: 3}
    assert sample.lost == 2


def test_the_counted_machine_has_a_clock_that_goes_by_instructions() -> None:
    config = machine_config(Config(), SETTINGS["counted"], choose([]))
    assert config.machine.tcg_thread == "single"


def test_wires_that_lead_nowhere_take_frames_all_the_same() -> None:
    """A hub hands a frame on only when another of its ports takes it."""
    nics = machine_config(Config(), SETTINGS["none"], choose(["labnic", "igb"])).nics
    backends, extra = backends_of("none", nics)
    assert backends == {"w0": "hubport,hubid=0", "w1": "hubport,hubid=1"}
    assert extra == ("-netdev", "hubport,id=w0-end,hubid=0", "-netdev", "hubport,id=w1-end,hubid=1")
