# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of a bench that need no VM: statistics, choices, pktgen's words, the table, the file, the comparison."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import Mock
from xml.etree import ElementTree

import pytest
from rich.console import Console

from labnic import pktgen
from labnic.bench import compare, contenders, costs, rows, run, show
from labnic.bench.backend import backends_of
from labnic.bench.report import html
from labnic.bench.result import Cell, Result
from labnic.bench.sample import INTERRUPTS, RATE, Sample
from labnic.bench.second import second_config, wires
from labnic.bench.stage import SETTINGS, machine_config
from labnic.bench.stats import Lead, Summary, lead, moved, percentile
from labnic.config import Config
from labnic.errors import UsageError
from labnic.nic import Nic
from labnic.report import Phases

PKTGEN = """\
Params: count 2000  min_pkt_size: 60  max_pkt_size: 60
Current:
     pkts-sofar: 2000  errors: 0
Result: OK: 50000(c49000+d1000) usec, 2000 (60byte,0frags)
  40000pps 19Mb/sec (19200000bps) errors: 0
Params: count 2000  min_pkt_size: 60  max_pkt_size: 60
Result: OK: 40000(c39000+d1000) usec, 2000 (60byte,0frags)
  50000pps 24Mb/sec (24000000bps) errors: 3
"""

INTERRUPT_TABLE = """\
           CPU0       CPU1
  1:          9          0   IO-APIC   1-edge      i8042
 24:         10          5   PCI-MSIX-0000:01:00.0   0-edge      eth0-0
 25:        100         20   PCI-MSIX-0000:01:00.0   1-edge      eth0-1
NMI:          7          7   Non-maskable interrupts
"""


def result(values: Mapping[str, Sequence[float]], *, lost: int = 0, bad: int = 0) -> Result:
    """One row with rates for each contender."""
    made = Result({"QEMU": "10.0"}, {"tx": "TX 60 B"})
    for name, rates in values.items():
        made.cells.setdefault("tx", {})[name] = Cell([Sample({RATE.name: rate}, lost, bad) for rate in rates])
    return made


def printed(made: Result) -> str:
    out = io.StringIO()
    show.table(made, Console(file=out, width=200, highlight=False))
    return out.getvalue()


def test_the_lead_is_over_the_best_other_whichever_way_is_better() -> None:
    assert lead(150, {"a": 100, "b": 120}, "more") == Lead(1.25, "b")
    assert lead(2, {"a": 3, "b": 4}, "less") == Lead(1.5, "a")
    assert lead(4, {"a": 3}, "less") == Lead(0.75, "a")


def test_no_lead_where_there_is_nothing_to_divide_by() -> None:
    assert lead(1, {}, "more") is None
    assert lead(0, {"a": 2}, "less") is None
    assert lead(0, {"a": 0}, "less") == Lead(1.0, "a")


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(1, 201)]
    assert percentile(values, 50) == 100
    assert percentile(values, 99) == 198
    assert percentile([7.0], 99) == 7


def test_values_that_overlap_have_not_moved() -> None:
    assert moved(Summary(100, 90, 110), Summary(115, 105, 120)) is None
    assert moved(Summary(100, 99, 101), Summary(102, 101.5, 102.5)) is None, "too little"


def test_a_move_is_seen_from_a_machine_of_the_same_speed() -> None:
    assert moved(Summary(100, 90, 110), Summary(200, 190, 210)) == 2
    assert moved(Summary(100, 90, 110), Summary(200, 190, 210), speed=2) is None


def test_pktgens_queues_are_added_up() -> None:
    sent = pktgen.parse(PKTGEN)
    assert sent == pktgen.Sent(4000, 0.05, 3)
    assert sent.rate == 80000


def test_a_pktgen_without_a_result_is_an_error() -> None:
    with pytest.raises(ValueError, match="no result"):
        pktgen.parse("Result: Idle\n")


def test_interrupts_are_those_of_the_nic_on_all_cpus() -> None:
    assert costs.interrupts(INTERRUPT_TABLE, frozenset({24, 25})) == 135


def test_costs_are_given_for_each_frame() -> None:
    since = costs.Costs(30, 5000, 20000).since(costs.Costs(10, 1000, 0), 10)
    assert since == {"interrupts": 2, "main thread": 0.4, "QEMU's CPU": 2}


def test_devices_are_read_from_qemus_list() -> None:
    text = 'Network devices:\nname "e1000e", bus PCI, desc "x"\nname "igb", bus PCI\n\nInput devices:\n'
    assert contenders.parse_devices(text) == ["e1000e", "igb"]


def test_unknown_rows_and_contenders_are_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(UsageError, match="no row 'tx-61'") as error:
        rows.choose(["tx-61"])
    assert "rx-60" in error.value.hint
    with pytest.raises(UsageError, match="no contender 'e100'") as error:
        contenders.choose(["e100"])
    assert "e1000e" in error.value.hint


def test_rows_are_chosen_by_pattern_in_the_usual_order() -> None:
    assert [row.name for row in rows.choose(["rtt-*", "rx-60"])] == ["rx-60", "rtt-idle", "rtt-load"]
    assert len(rows.choose([])) == len({row.name for row in rows.ROWS}) == len(rows.ROWS)


def test_nobody_watches_while_it_is_measured() -> None:
    config = machine_config(Config(), SETTINGS["dgram-4cpu"], contenders.CONTENDERS)
    assert not config.qemu.audit
    assert not config.qemu.trace
    assert config.machine.cpus == 4
    assert [nic.model for nic in config.nics] == [each.model for each in contenders.CONTENDERS if each.model]
    assert Config.model_validate(config.model_dump()), "the NICs do not get into each other's way"


def test_the_table_has_medians_ends_and_the_lead() -> None:
    text = printed(result({"labnic": [300, 310, 290], "igb": [200, 201, 199], "dummy": [3000, 3000, 3000]}))
    assert "300 (290-310)" in text
    assert "200 (199-201)" in text
    assert "1.50 igb" in text, "dummy is no NIC to be behind"


def test_the_table_tells_what_was_lost_and_who_is_not_there() -> None:
    made = result({"labnic": [300]}, lost=7)
    made.cell("tx", "igb").reason = made.cell("tx", "e1000").reason = "not in this QEMU"
    text = printed(made)
    assert "tx: labnic lost 7 frames" in text
    assert "igb, e1000: not in tx: not in this QEMU" in text
    assert made.sound, "a loss is reported, a wrong byte is a failure"


def test_a_wrong_byte_makes_a_run_fail() -> None:
    assert not result({"labnic": [300]}, bad=1).sound
    wrong = result({"labnic": [300]})
    wrong.wrong.append("labnic: a frame came back with other bytes")
    assert not wrong.sound


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0321, "0.032"), (1.234, "1.23"), (45.67, "45.7"), (2379.4, "2379")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert show.number(value) == text


def test_a_page_gets_the_table_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("head\n<!-- bench: begin -->\nold\n<!-- bench: end -->\ntail\n")
    show.write_page(page, result({"labnic": [300], "igb": [200]}))
    text = page.read_text()
    assert "| TX 60 B | rate, kpps | 300 | 200 | 1.50 (igb) |" in text
    assert "old" not in text
    assert text.startswith("head")
    assert text.endswith("tail\n")


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(UsageError, match="no place for the bench"):
        show.write_page(page, result({"labnic": [300]}))
    assert page.read_text() == "nothing\n"


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = result({"labnic": [300, 310], "igb": [200]}, lost=3)
    made.cell("tx", "e1000").reason = "1 queue"
    made.wrong.append("something")
    path = tmp_path / "bench.json"
    path.write_text(made.to_json())
    assert Result.read(path) == made


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "made_with": {}, "wrong": [], "rows": 5}']
)
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="is no result"):
        Result.read(path)
    with pytest.raises(UsageError, match="No such file"):
        Result.read(tmp_path / "missing.json")


def test_the_comparison_takes_the_machines_speed_out() -> None:
    old = result({"labnic": [100, 101], "igb": [50, 51], "e1000": [60, 61]})
    slower = result({"labnic": [50, 50.5], "igb": [25, 25.5], "e1000": [30, 30.5]})
    assert list(compare.moves(old, slower)) == []
    better = result({"labnic": [100, 101], "igb": [25, 25.5], "e1000": [30, 30.5]})
    (move,) = compare.moves(old, better)
    assert move.contender == "labnic"
    assert move.better
    assert move.factor == pytest.approx(2, rel=0.01)


def test_counts_are_compared_as_they_are() -> None:
    old, new = (
        Result({}, {"tx": "TX"}, {"tx": {n: Cell([Sample({INTERRUPTS.name: v})]) for n, v in values.items()}})
        for values in ({"labnic": 1.0, "igb": 1.0, "e1000": 1.0}, {"labnic": 0.5, "igb": 0.5, "e1000": 0.5})
    )
    assert {move.contender for move in compare.moves(old, new)} == {"labnic", "igb", "e1000"}


def test_on_a_hub_each_nic_has_a_twin_beside_it() -> None:
    nics = machine_config(Config(), SETTINGS["hub"], contenders.choose(["igb", "vmxnet3"])).nics
    assert [nic.name for nic in nics] == ["igb", "igb-b", "vmxnet3", "vmxnet3-b"]
    backends, _ = backends_of("hub", nics)
    assert list(backends.values()) == ["hubport,hubid=0", "hubport,hubid=0", "hubport,hubid=1", "hubport,hubid=1"]


def test_two_guests_are_at_the_ends_of_the_same_wires_and_know_each_other() -> None:
    config = machine_config(Config(), SETTINGS["guests"], contenders.choose(["labnic", "igb"]))
    first = [Nic(nic, number, Mock(), Mock(), Mock()) for number, nic in enumerate(config.nics)]
    there = second_config(config, first).nics
    assert [(nic.mac, nic.address) for nic in there] == [(nic.peer_mac, f"{nic.peer_ip}/24") for nic in first]
    ends = [wires(nics, Path("/s"), first=first) for nics, first in ((config.nics, True), (there, False))]
    assert ends[0] == {w: f"stream,server=on,addr.type=unix,addr.path=/s/{w}" for w in ("w0", "w1")}
    assert ends[1] == {w: f"stream,server=off,addr.type=unix,addr.path=/s/{w}" for w in ("w0", "w1")}


def test_the_report_stands_alone_and_has_a_plot_for_each_line() -> None:
    made = result({"labnic": [300], "igb": [400, 410], "dummy": [0]}, lost=2)
    made.titles["tx"] = "TX <60 B>"
    page = html(made)
    (plot,) = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    ElementTree.fromstring(plot)
    assert all(name in plot for name in ("labnic", "igb", "rate, kpps (more is better)"))
    assert "TX &lt;60 B&gt;" in page
    assert "tx: labnic lost 2 frames" in page
    assert '<td class="behind">0.74 igb</td>' in page
    assert '<a href="#tx">' in page
    assert '<h2 id="tx">' in page
    assert "src=" not in page
    assert "<script" not in page


def test_rows_are_scored_by_the_quantity_that_they_are_for() -> None:
    made = result({"labnic": [300], "igb": [100]})
    for row, ours in (("close", 110), ("behind", 90), ("alone", 1)):
        made.titles[row] = row
        made.cell(row, "labnic").samples.append(Sample({"rate": ours, "interrupts": 9}))
        if row != "alone":
            made.cell(row, "igb").samples.append(Sample({"rate": 100, "interrupts": 1}))
    assert list(show.score(made)) == ["labnic is ahead in 2 of 3 rows, in 1 by 1.25 times and more"]
    assert [line.row for line in made.heads()] == ["tx", "close", "behind", "alone"]


def test_labnic_alone_has_no_score() -> None:
    assert list(show.score(result({"labnic": [300]}))) == []


def test_the_report_has_the_functions_where_they_were_looked_at() -> None:
    made = result({"labnic": [300], "igb": [400]})
    assert "by function" not in html(made)
    made.cells["tx"]["igb"].samples.append(Sample(profile={"igb_<poll>": 203.0}))
    assert "<tr><th>igb</th></tr>\n<tr><td>igb_&lt;poll&gt;    203</td></tr>" in html(made)


def test_a_line_of_zeros_can_be_plotted() -> None:
    assert "<svg" in html(result({"labnic": [0], "igb": [0]}))


def test_what_cannot_be_written_is_known_before_anything_is_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    for options in (run.Options(page=page), run.Options(page=tmp_path / "missing.md"), run.Options(json=tmp_path)):
        with pytest.raises(UsageError):
            run.run(options, Config(), Phases(quiet=True))


def test_dummy_alone_is_refused() -> None:
    with pytest.raises(UsageError, match="dummy is no NIC"):
        run.run(run.Options(contenders=("dummy",)), Config(), Phases(quiet=True))
