# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own probes (kprobe events, in every stock kernel) on the driver: calls, and what they return."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from labnic.guest import Guest

TRACING = "/sys/kernel/tracing"
GROUP = "labnic_test"
"""Group of the probes made here, among all events of the guest."""


@dataclass
class Probe:
    """What a probe saw; filled when its block ends."""

    calls: int = 0
    """Calls, whether the filter took them or not."""
    lines: tuple[str, ...] = ()
    """The events that the filter let through, as the trace has them."""


@contextmanager
def probed(guest: Guest, definition: str, *, only: str = "") -> Iterator[Probe]:
    """Watch a function, by a definition as of kprobe_events with ``{}`` for the event's name; ``only`` is a filter.

    ``r:{} labnic:labnic_start_xmit rc=$retval:s32`` with ``only="rc != 0"`` gives the calls that did not return zero.
    """
    event, found = f"{GROUP}/probe", Probe()
    folder = f"{TRACING}/events/{event}"
    guest.sh(
        f"cd {TRACING} && echo 4096 >buffer_size_kb && echo >trace && echo '{definition.format(event)}' >kprobe_events"
        f" && echo '{only or 0}' >{folder}/filter && echo 1 >{folder}/enable"
    )
    try:
        yield found
    finally:
        text = guest.sh(
            f"cd {TRACING}; echo 0 >{folder}/enable; cat kprobe_profile; echo; grep -v '^#' trace; "
            "echo >trace; echo >kprobe_events"
        )
    profile, _, trace = text.partition("\n\n")
    # Name, hits, misses: a miss is a call that was not looked at.
    _, hits, misses = profile.split()
    assert misses == "0", f"the probe missed {misses} calls"
    found.calls, found.lines = int(hits), tuple(trace.splitlines())
