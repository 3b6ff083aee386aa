# SPDX-License-Identifier: GPL-2.0-or-later
"""``labnic fault``: faults of a device in a running lab, and what its audit says."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from labnic.fault import FaultDevice, FaultState

_name = click.option("--name", help="Name of the lab (default: the only one).")
_nic = click.option("--nic", help="Name of the NIC (default: the first that is a labnic).")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _of_a_nic(function: Callable[..., Any]) -> Callable[..., Any]:
    return _name(_nic(_json(function)))


@click.group()
def fault() -> None:
    """Set faults on the device of a running lab, list and clear them, and read its audit."""


@fault.command("kinds")
@_json
def kinds(as_json: bool) -> int:
    """What faults there are and what each takes."""
    from labnic.fault import hardware

    if as_json:
        click.echo(json.dumps([asdict(kind) for kind in hardware().faults], indent=2))
        return 0
    for kind in hardware().faults:
        takes = [f"--{name}" for name in kind.takes]
        if kind.value:
            value = kind.value
            default = "" if value.default is None else f", default {value.default}"
            takes.append(f"--value ({value.unit}, {value.min} to {value.max}{default})")
        click.echo(f"{kind.name:<14} {', '.join(takes)}\n    {kind.doc}\n    event: {kind.event}")
    return 0


@fault.command("set")
@click.argument("kind")
@click.option("--queue", type=int, help="Queue pair (default: any).")
@click.option("--misc", is_flag=True, help="The misc vector in place of a queue's.")
@click.option("--after", type=int, help="Events that pass first.")
@click.option("--count", type=int, help="Events that are struck, 0 until it is cleared (default: 1).")
@click.option("--value", type=int, help="Depends on the kind.")
@click.option("--register", help="Name or offset of a register.")
@click.option("--chance", type=int, help="Of 1000 events so many are struck.")
@click.option("--seed", type=int, help="Where the drawing by chance begins.")
@_of_a_nic
def set_fault(kind: str, name: str | None, nic: str | None, as_json: bool, **arguments: Any) -> int:
    """Set a fault."""
    register = arguments["register"]
    if register is not None:
        with contextlib.suppress(ValueError):
            arguments["register"] = int(register, 0)
    with _device(name, nic) as device:
        state = device.set(kind, **arguments).state()
    click.echo(json.dumps(asdict(state), indent=2) if as_json else f"fault {state.id} is set")
    return 0


@fault.command("list")
@_of_a_nic
def list_faults(name: str | None, nic: str | None, as_json: bool) -> int:
    """List the faults that are set, with the events they have seen and struck."""
    with _device(name, nic) as device:
        states = device.faults()
    if as_json:
        click.echo(json.dumps([asdict(state) for state in states], indent=2))
        return 0
    for state in states:
        click.echo(_row(state))
    if not states:
        click.echo("no fault is set")
    return 0


def _row(state: FaultState) -> str:
    target = "misc" if state.misc else "any" if state.queue is None else f"queue {state.queue}"
    left = {"value": state.value, "register": state.register, "after": state.after or None}
    words = [f"{key} {number}" for key, number in left.items() if number is not None]
    words.append(f"count {state.count}" if state.count else "until cleared")
    return f"{state.id:>4}  {state.kind:<14} {target:<8} {state.seen} seen, {state.hits} hit  ({', '.join(words)})"


@fault.command("clear")
@click.argument("fault_id", metavar="[ID]", type=int, required=False)
@_name
@_nic
def clear(fault_id: int | None, name: str | None, nic: str | None) -> int:
    """Clear one fault, or all."""
    with _device(name, nic) as device:
        device.clear(fault_id)
    return 0


@fault.command("audit")
@click.option("--clear", "forget", is_flag=True, help="Forget them, too.")
@_of_a_nic
def audit(forget: bool, name: str | None, nic: str | None, as_json: bool) -> int:
    """Print what the driver did wrong; the exit code is 1 when there is something."""
    with _device(name, nic) as device:
        violations = device.audit()
        if forget:
            device.audit_clear()
    if as_json:
        click.echo(json.dumps([asdict(violation) for violation in violations], indent=2))
    else:
        click.echo("\n".join(map(str, violations)) or "the driver did nothing wrong")
    return 1 if violations else 0


@contextlib.contextmanager
def _device(name: str | None, nic: str | None) -> Iterator[FaultDevice]:
    """The device of a running lab; raises `UsageError` with those that there are."""
    from labnic.errors import UsageError
    from labnic.fault import FaultDevice
    from labnic.qmp import Qmp
    from labnic.rundir import find

    lab = find(name)
    cards = [card for card in lab.state.get("nics", ()) if card["model"] == "labnic"]
    for card in cards:
        if nic is None or nic in (card["name"], card["device"]):
            break
    else:
        names = ", ".join(card["name"] for card in cards) or "none"
        raise UsageError(f"lab {lab.name} has no labnic {nic or ''}".rstrip(), hint=f"it has: {names}")
    qmp = Qmp.at(lab.path / "qmp.sock")
    try:
        yield FaultDevice(qmp, card["device"], card["queues"])
    finally:
        qmp.close()
