# SPDX-License-Identifier: GPL-2.0-or-later
"""What the observer of the contract writes is read as it is meant."""

from __future__ import annotations

import pytest

from labnic.errors import InternalError
from labnic.observer import parse_missed, parse_report, parse_violations

HEAD = "format=1 kernel=6.1.0-56-amd64 lockdep=0 probes=9 missed=1 missed_nested=2\n"
XMIT = (
    "rule=X1 dev=eth0 driver=- callback=ndo_start_xmit witness=probe calls=4 judged=4 violations=1 own=1"
    " contexts=process:3,softirq:1,bh_off:4 locks=txq:4,rcu:4 returns=0:3,16:1\n"
)
TIMEOUT = (
    "rule=T1 dev=eth0 driver=labnic callback=ndo_tx_timeout witness=probe+lockdep calls=0 judged=0 violations=0 own=0"
    " contexts= locks= returns=\n"
)
OTHER = (
    "rule=N5 dev=- driver=- callback=- witness=none calls=0 judged=0 violations=0 own=0 contexts= locks= returns="
    " why=not-in-this-kernel\n"
)
VIOLATIONS = """\
rule=G2 dev=eth1 driver=badnet callback=ndo_get_stats64 own=1 count=3 value=2 pid=77 cpu=1 contexts=process,rcu
 text sleeps
 task ip link
 stack badnet_stats+0x10/0x20 [badnet]
 stack dev_get_stats+0x53/0xf0
rule=A2 dev=* driver=badnet callback=remove own=0 count=1 value=0 pid=9 cpu=0 contexts=
 text never freed
 task rmmod
"""


def test_a_line_of_the_report() -> None:
    (rule,) = parse_report(HEAD + XMIT)
    assert (rule.rule, rule.dev, rule.driver, rule.callback) == ("X1", "eth0", "-", "ndo_start_xmit")
    assert (rule.calls, rule.judged, rule.violations, rule.own) == (4, 4, 1, 1)
    assert rule.contexts == {"process": 3, "softirq": 1, "bh_off": 4}
    assert rule.locks == {"txq": 4, "rcu": 4}
    assert rule.returns == {"0": 3, "16": 1}


def test_a_callback_that_was_not_called_has_no_counts() -> None:
    (rule,) = parse_report(HEAD + TIMEOUT)
    assert (rule.contexts, rule.locks, rule.returns) == ({}, {}, {})
    assert rule.witness == "probe+lockdep"


def test_a_rule_without_a_probe_says_why() -> None:
    (rule,) = parse_report(HEAD + OTHER)
    assert (rule.witness, rule.why) == ("none", "not-in-this-kernel")


def test_negative_return_values() -> None:
    (rule,) = parse_report(HEAD + XMIT.replace("returns=0:3,16:1", "returns=-95:2"))
    assert rule.returns == {"-95": 2}


@pytest.mark.parametrize("text", ["", "format=2 kernel=x\n", XMIT])
def test_another_format_is_refused(text: str) -> None:
    with pytest.raises(InternalError, match="format 1"):
        parse_report(text)


def test_a_line_that_lacks_a_word_is_refused() -> None:
    with pytest.raises(InternalError, match="cannot be read"):
        parse_report(HEAD + XMIT.replace(" judged=4", ""))


def test_missed_calls_of_both_kinds() -> None:
    assert parse_missed(HEAD + XMIT) == 3


def test_violations_with_and_without_a_stack() -> None:
    first, second = parse_violations(VIOLATIONS)
    assert (first.rule, first.dev, first.callback, first.count, first.value) == ("G2", "eth1", "ndo_get_stats64", 3, 2)
    assert first.contexts == ("process", "rcu")
    assert (first.text, first.task) == ("sleeps", "ip link")
    assert first.stack == ("badnet_stats+0x10/0x20 [badnet]", "dev_get_stats+0x53/0xf0")
    assert (second.dev, second.contexts, second.stack) == ("*", (), ())
    assert (first.own, second.own) == (True, False)


def test_a_violation_as_text_names_rule_place_and_stack() -> None:
    text = str(parse_violations(VIOLATIONS)[0])
    assert (
        text.splitlines()[0]
        == "G2: sleeps [2], by the driver itself, 3 times: eth1 ndo_get_stats64, in ip link (process, rcu)"
    )
    assert "dev_get_stats" in text


def test_no_violations() -> None:
    assert parse_violations("") == []


def test_lost_violations_are_not_silent() -> None:
    with pytest.raises(InternalError, match="could not keep"):
        parse_violations("lost dev=eth0 count=4\n")
