# SPDX-License-Identifier: GPL-2.0-or-later
"""The observer of the contract: it sees what a driver's callbacks do, whoever wrote it, and misses no seeded bug."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from labnic.build.cache import Cache
from labnic.build.driver import Module, build_module
from labnic.command import backoff
from labnic.config import NicConfig
from labnic.errors import GuestPanicError, UsageError
from labnic.guest import Guest, GuestCommandError
from labnic.lab import Lab
from labnic.nic import Nic
from labnic.observer import FOLDER, MODULE, ContractViolation, Observer, RuleReport

from .helpers import Flood, works

BADNET = Module("badnet", Path("tests/guest/badnet"), "badnet", (Path("kernel-driver/contract/contract_compat.h"),))

RX_MODE = "ndo_set_rx_mode"

CONSOLE = 1000
"""Lines of a console at most: a kernel that checks itself has much to say before it stops."""

SEND = "echo x >/dev/udp/198.51.100.2/9"
"""For bash: makes the kernel ask for the address, which is a frame at once (TEST-NET-2, RFC 5737)."""


@pytest.fixture(scope="module")
def loaded(lab: Lab) -> Iterator[Observer]:
    """To load and unload it takes longer than most tests here."""
    with Observer(lab.guest) as observer:
        yield observer


@pytest.fixture
def observer(loaded: Observer) -> Iterator[Observer]:
    """An observer that watches nothing and has seen nothing."""
    yield loaded
    loaded.detach()
    loaded.clear()


def rows(report: list[RuleReport], dev: str) -> Mapping[tuple[str, str], RuleReport]:
    """The report's lines of one interface, by rule and callback."""
    return {(row.rule, row.callback): row for row in report if row.dev == dev}


def at_rest(observer: Observer) -> list[RuleReport]:
    """The report once nothing is on the way: until then its counts are of different moments."""
    last = observer.report()
    for _ in backoff(10.0):
        now = observer.report()
        if now == last:
            return now
        last = now
    raise AssertionError("the counts do not come to rest although nothing is sent")


def broken(violations: list[ContractViolation]) -> set[tuple[str, str]]:
    return {(violation.rule, violation.callback) for violation in violations}


def told(violations: list[ContractViolation]) -> str:
    return "\n".join(map(str, violations))


# Watching labnic


def use(nic: Nic) -> None:
    """Each callback that an interface is used with, at least once."""
    nic.down()
    nic.up()
    works(nic)
    nic.ip_link("promisc", "on")
    nic.ip_link("promisc", "off")
    nic.statistics()
    nic.ip_link("mtu", "1400")
    nic.ip_link("mtu", "1500")
    nic.guest.run(["mii-tool", nic.name])
    nic.down()
    nic.up()


def test_calls_contexts_and_locks_are_seen(observer: Observer, nic: Nic) -> None:
    observer.attach_dev(nic.name)
    use(nic)
    seen = rows(at_rest(observer), nic.name)
    for rule, callback, lock in (
        ("O1", "ndo_open", "rtnl"),
        ("S1", "ndo_stop", "rtnl"),
        ("X1", "ndo_start_xmit", "txq"),
        ("M1", "ndo_set_rx_mode", "addr"),
        ("I1", "ndo_eth_ioctl", "rtnl"),
        ("N3", "ndo_change_mtu", "rtnl"),
        ("P1", "poll", "sched"),
    ):
        row = seen[rule, callback]
        assert row.calls > 0, row
        assert row.judged >= row.calls, row
        assert row.locks[lock] == row.calls, row
        assert sum(row.contexts.get(name, 0) for name in ("process", "softirq", "hardirq")) == row.calls, row
    assert seen["O2", "ndo_open"].contexts == {"process": seen["O2", "ndo_open"].calls}
    assert seen["G1", "ndo_get_stats64"].calls > 0
    assert seen["X6", "ndo_start_xmit"].returns == {"0": seen["X6", "ndo_start_xmit"].calls}
    assert seen["P2", "poll"].contexts["softirq"] > 0
    assert seen["S4", "irq_handler"].calls > 0


def test_labnic_keeps_the_rules_while_it_is_used(observer: Observer, nic: Nic) -> None:
    observer.attach_dev(nic.name)
    use(nic)
    with Flood(nic, answer=True):
        works(nic)
        nic.down()
        nic.up()
    assert not observer.violations(), told(observer.violations())


def test_the_life_of_a_drivers_interfaces_is_seen(observer: Observer, lab: Lab, nic: Nic) -> None:
    observer.attach_driver("labnic")
    for _ in range(2):
        lab.reload_driver()
    works(nic)
    report = observer.report()
    assert {row.dev for row in report if row.driver == "labnic"} == {"*", nic.name}
    seen = rows(report, nic.name)
    # The first of the three lives began before the observer's.
    assert seen["A1", "register_netdevice"].judged == 2
    assert seen["N1", "register_netdevice"].returns == {"0": 2}
    assert seen["A2", "free_netdev"].calls == 2
    assert seen["A3", "netdev_release"].calls == 2
    assert seen["A5", "remove"].judged == 2
    assert seen["N1", "ndo_open"].judged > 0
    assert not observer.violations(), told(observer.violations())


def test_rules_without_a_probe_say_so(observer: Observer) -> None:
    found = {row.rule: row for row in observer.report()}
    assert found["X8"].witness == "compiler"
    assert found["X8"].judged == 1
    assert found["N5"].witness == "none"
    assert found["N5"].why


# Attaching


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("attach", "dev nosuch", "there is no interface nosuch"),
        ("attach", "device eth0", "not understood"),
        ("attach", "dev", "not understood"),
        ("attach", "dev eth0 eth1", "not understood"),
        ("attach", "", "not understood"),
        ("attach", "dev " + "x" * 80, "not understood"),
        ("attach", "driver " + "x" * 40, "too long"),
        ("detach", "dev eth7", "dev eth7 is not watched"),
        ("detach", "some", "not understood"),
        ("clear", "2", "not understood"),
    ],
)
def test_what_is_not_understood_is_refused(
    guest: Guest, observer: Observer, file: str, text: str, message: str
) -> None:
    before = observer.attached()
    with pytest.raises(GuestCommandError):
        guest.write(f"{FOLDER}/{file}", text + "\n")
    assert message in guest.run(["dmesg"]).lines[-1]
    assert observer.attached() == before


def test_the_same_twice_is_refused(observer: Observer, nic: Nic) -> None:
    observer.attach_dev(nic.name)
    with pytest.raises(UsageError, match="eth0 is watched already"):
        observer.attach_dev(nic.name)
    observer.attach_driver("virtio_net")
    with pytest.raises(UsageError, match="virtio-net is watched already"):
        observer.attach_driver("virtio-net")
    assert observer.attached() == ["dev eth0", "driver virtio_net"]


def test_what_is_detached_is_not_watched(observer: Observer, nic: Nic) -> None:
    observer.attach_dev(nic.name)
    observer.detach(f"dev {nic.name}")
    assert observer.attached() == []
    works(nic)
    assert not rows(observer.report(), nic.name)
    observer.attach_dev(nic.name)
    works(nic)
    assert rows(observer.report(), nic.name)["X1", "ndo_start_xmit"].calls > 0


def test_clear_forgets_and_goes_on(observer: Observer, nic: Nic) -> None:
    observer.attach_dev(nic.name)
    works(nic)
    observer.clear()
    assert rows(observer.report(), nic.name)["X1", "ndo_start_xmit"].calls == 0
    works(nic)
    assert rows(observer.report(), nic.name)["X1", "ndo_start_xmit"].calls > 0


def test_an_interface_that_vanishes_is_let_go(observer: Observer, lab: Lab, nic: Nic) -> None:
    """A reference that was kept would hold up rmmod, which the kernel would complain about."""
    observer.attach_dev(nic.name)
    lab.rmmod()
    assert observer.attached() == [f"dev {nic.name} (gone)"]
    assert not observer.violations(), told(observer.violations())
    assert rows(observer.report(), nic.name)["S1", "ndo_stop"].calls == 1
    lab.insmod()
    works(nic)
    observer.attach_dev(nic.name)
    works(nic)


def test_unload_under_traffic_and_in_callbacks(guest: Guest, observer: Observer, nic: Nic) -> None:
    churn = f"while :; do ip link set {nic.name} mtu 1400; ip -s link show {nic.name}; done >/dev/null"
    with Flood(nic, answer=True), guest.start(churn):
        for _ in range(3):
            observer.attach_dev(nic.name)
            works(nic)
            observer.unload()
            assert not guest.run(f"grep '^{MODULE} ' /proc/modules").stdout
            observer.load()
    nic.ip_link("mtu", "1500")
    works(nic)


# Other drivers


@dataclass(frozen=True)
class Other:
    """A driver that is not ours, and what is truly wrong with it: (rule, callback) pairs, its own calls left out."""

    model: str
    known: frozenset[tuple[str, str]] = frozenset()


OTHERS = (
    Other("e1000e"),
    # Keeps its vectors and buffers over a stop: a frame that comes then still interrupts.
    Other("virtio-net-pci", frozenset({("S4", "irq_handler")})),
    # The device counts from 0 again when open resets it.
    Other("vmxnet3", frozenset({("G1", "ndo_get_stats64")})),
)


def test_it_judges_any_driver(lab_factory: Callable[..., Lab]) -> None:
    """Three interfaces of different drivers at once, none of them ours; what is found broken truly is."""
    nics = [
        NicConfig(
            name=f"eth{n}",
            model=other.model,  # type: ignore[arg-type]
            mac=f"52:54:00:6c:62:1{n}",
            wire=f"w{n}",
            address=f"192.0.{n + 2}.1/24",
        )
        for n, other in enumerate(OTHERS)
    ]
    lab = lab_factory(nics=nics)
    with Observer(lab.guest) as observer:
        for nic in lab.nics:
            observer.attach_dev(nic.name)
        for nic in lab.nics:
            use(nic)
            works(nic)
        report, violations = observer.report(), observer.violations()
    for nic, other in zip(lab.nics, OTHERS, strict=True):
        seen = rows(report, nic.name)
        for key in (("O1", "ndo_open"), ("S1", "ndo_stop"), ("X1", "ndo_start_xmit"), ("P1", "poll"), ("M1", RX_MODE)):
            assert seen[key].calls > 0, seen[key]
            assert seen[key].judged >= seen[key].calls, seen[key]
        found = [violation for violation in violations if violation.dev == nic.name and not violation.own]
        assert broken(found) <= other.known, told(found)


def test_a_drivers_own_calls_are_told_apart(lab_factory: Callable[..., Lab]) -> None:
    """e1000e sets its filter by its own callback when it opens, without the lock that the kernel would hold."""
    lab = lab_factory(nics=[NicConfig(model="e1000e")])
    with Observer(lab.guest) as observer:
        observer.attach_dev(lab.nic.name)
        lab.nic.down()
        lab.nic.up()
        row = rows(observer.report(), lab.nic.name)["M1", RX_MODE]
        assert row.violations == row.own > 0
        (found,) = [violation for violation in observer.violations() if violation.rule == "M1"]
        assert found.own
        assert found.stack[0].startswith("e1000e_set_rx_mode"), found
        assert "[e1000e]" in found.stack[1], found
        lab.rmmod()
        # The names are those of a module that has gone.
        assert [violation.stack for violation in observer.violations() if violation.rule == "M1"] == [found.stack]


# Seeded bugs


@dataclass(frozen=True)
class Bug:
    """A bug of badnet: how to provoke it, and the (rule, callback) pairs that must be found broken, no others."""

    name: str
    script: str
    breaks: frozenset[tuple[str, str]]
    text: str = ""
    """What one of the violations must say, where one rule can be broken in several ways."""


def bug(name: str, script: str, *breaks: str, text: str = "") -> Bug:
    """``breaks`` as ``"O1 ndo_open"``."""
    pairs = frozenset((rule, callback) for rule, callback in (each.split() for each in breaks))
    return Bug(name, script, pairs, text)


LOOKS = "ip -s link show bad0; ip -s link show bad0"
AWAY = "rmmod badnet"
DOWN = "ip link set bad0 down"

BUGS = (
    bug("none", f"act kick; {LOOKS}; {SEND}; ip link set bad0 mtu 1400; {DOWN}; {AWAY}"),
    bug("none", "act call_open", "O1 ndo_open"),
    bug("none", "act open_atomic", "O2 ndo_open"),
    bug("none", f"{DOWN}; act call_stop", "S1 ndo_stop"),
    bug("none", f"{DOWN}; act stop_atomic", "S2 ndo_stop"),
    bug("none", "act stop_running", "S3 ndo_stop", "S4 ndo_stop"),
    bug("stop_napi", f"act kick; {DOWN}", "S4 ndo_stop", text="still enabled"),
    bug(
        "stop_napi",
        f"act kick; {DOWN}; act kick; bug none; ip link set bad0 up; {DOWN}",
        "S4 ndo_stop",
        "S4 poll",
        "S4 irq_handler",
        text="poll after stop",
    ),
    bug("napi_deleted", DOWN, "S4 poll", text="deleted while it is enabled"),
    bug("none", f"act kick; {DOWN}; act kick", "S4 irq_handler"),
    bug("none", f"{DOWN}; bug open_fails; ip link set bad0 up || true", "S4 ndo_open"),
    bug("none", "act call_ioctl", "I1 ndo_eth_ioctl"),
    bug("none", "act ioctl_atomic", "I2 ndo_eth_ioctl"),
    bug("none", "act call_stats", "G1 ndo_get_stats64", text="outside of RCU"),
    bug("stats_back", LOOKS, "G1 ndo_get_stats64", text="backwards"),
    bug("stats_sleep", LOOKS, "G2 ndo_get_stats64"),
    bug("none", "act call_xmit", "X1 ndo_start_xmit", "X4 ndo_start_xmit"),
    bug("lltx", SEND, "X2 ndo_start_xmit"),
    bug("xmit_sleep", "act call_xmit", "X1 ndo_start_xmit", "X4 ndo_start_xmit", text="sleeps"),
    bug("xmit_irqs", "act xmit_irqs", "X5 ndo_start_xmit"),
    bug("xmit_value", SEND, "X6 ndo_start_xmit"),
    bug("xmit_busy", SEND, "X7 ndo_start_xmit"),
    bug("none", "act call_timeout", "T1 ndo_tx_timeout", "T2 ndo_tx_timeout", "T3 ndo_tx_timeout"),
    bug("none", "act call_rx_mode", "M1 ndo_set_rx_mode", "M2 ndo_set_rx_mode"),
    bug("none", "act call_poll", "P1 poll", "P2 poll", text="not scheduled"),
    bug("poll_twice", "act kick", "P1 poll", text="two polls"),
    bug("poll_over", "act call_poll", "P1 poll", "P2 poll", text="more than its budget"),
    bug("poll_sleep", "act call_poll", "P1 poll", "P2 poll", text="sleeps"),
    bug("netpoll_work", "act call_netpoll", "P3 poll", text="does work"),
    bug("netpoll_irqs", "act call_netpoll", "P3 poll", text="interrupts"),
    bug("ops_late", "true", "N1 ndo_open", text="netdev_ops"),
    bug("mtu_late", "true", "N1 ndo_open", text="max_mtu"),
    bug("none", "act call_init", "N2 ndo_init"),
    bug("none", "act call_uninit", "N2 ndo_uninit"),
    bug("mtu_lie", "ip link set bad0 mtu 1400", "N3 ndo_change_mtu", text="not the new one"),
    bug("none", "act mtu_range", "N3 ndo_change_mtu", text="out of range"),
    bug("none", "act call_mtu", "N3 ndo_change_mtu", text="rtnl"),
    bug("none", "act call_tc", "N4 ndo_setup_tc"),
    bug("none", "act not_allocated", "A1 register_netdevice"),
    bug("leak", AWAY, "A2 remove", text="never freed"),
    bug("put", AWAY, "A3 netdev_release", "A2 remove", text="free_netdev() was not called"),
    bug("none", "act call_destructor", "A4 priv_destructor", text="while registered"),
    bug("napi_outside", AWAY, "A5 free_netdev"),
)


@pytest.fixture(scope="module")
def badnet(lab: Lab) -> Iterator[str]:
    """The driver that does wrong, as a file in the guest."""
    built = build_module(BADNET, lab.parts.kernel, Cache(), lab.progress)
    lab.guest.write("/tmp/badnet.ko", built.module.read_bytes())
    yield "/tmp/badnet.ko"
    lab.guest.run(["rm", "-f", "/tmp/badnet.ko"])


PREPARE = """\
act() { echo "$1" >/sys/module/badnet/parameters/act; }
bug() { echo "$1" >/sys/module/badnet/parameters/bug; }
ip link set bad0 up
ip addr add 198.51.100.1/24 dev bad0
"""


@pytest.mark.parametrize("seeded", BUGS, ids=lambda bug: f"{bug.name}:{bug.script[:24]}".replace(" ", "-"))
def test_a_seeded_bug_is_found(guest: Guest, badnet: str, observer: Observer, seeded: Bug) -> None:
    observer.attach_driver("badnet")
    try:
        guest.run(["insmod", badnet, f"bug={seeded.name}"], check=True)
        guest.run(["bash", "-e"], input=PREPARE + seeded.script, check=True)
        found = observer.violations()
    finally:
        guest.run("ip link set bad0 down; rmmod badnet")
    assert broken(found) == seeded.breaks, told(found)
    assert any(seeded.text in violation.text for violation in found) or not seeded.breaks, told(found)


@pytest.mark.expect_splat(r"kernel BUG at net/core/dev\.c", "Kernel panic", "ref_tracker: eth%d")
def test_freeing_a_registered_interface_is_told_before_the_kernel_stops(
    lab_factory: Callable[..., Lab], lab: Lab
) -> None:
    """Nobody can read the report any more: the console has it."""
    other = lab_factory()
    built = build_module(BADNET, lab.parts.kernel, Cache(), lab.progress)
    other.guest.write("/tmp/badnet.ko", built.module.read_bytes())
    observer = Observer(other.guest)
    observer.load()
    observer.attach_driver("badnet")
    other.guest.run(["insmod", "/tmp/badnet.ko"], check=True)
    with pytest.raises(GuestPanicError):
        other.guest.run("echo free_registered >/sys/module/badnet/parameters/act")
    assert any("A2: bad0 is freed while it is registered" in line for line in other.console_tail(CONSOLE))
