# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands in the guest: status, output and errors apart, signals, limits, and much or odd data."""

from __future__ import annotations

import time

import pytest

from labnic.errors import CommandTimeoutError
from labnic.guest import Guest, GuestCommandError
from labnic.patience import patient


@pytest.mark.parametrize("status", [0, 1, 42, 125, 255])
def test_exit_status_is_handed_on(guest: Guest, status: int) -> None:
    result = guest.run(["sh", "-c", f"exit {status}"])
    assert result.status == status
    assert result.ok == (status == 0)


def test_output_and_errors_are_kept_apart(guest: Guest) -> None:
    result = guest.run("echo one; echo two >&2; echo three")
    assert result.stdout == "one\nthree\n"
    assert result.stderr == "two\n"


@pytest.mark.parametrize(("signal", "number"), [("TERM", 15), ("KILL", 9), ("SEGV", 11)])
def test_death_by_a_signal_is_told(guest: Guest, signal: str, number: int) -> None:
    assert guest.run(["sh", "-c", f"kill -{signal} $$"]).status == 128 + number


def test_arguments_are_not_split_or_expanded(guest: Guest) -> None:
    words = ["two words", "$HOME", "*", "", "quo'te\"s", "line\nbreak", "umläut"]
    assert guest.run(["printf", "%s|", *words]).stdout == "".join(f"{word}|" for word in words)


def test_program_that_does_not_exist(guest: Guest) -> None:
    result = guest.run(["no-such-program"])
    assert result.status == 127
    assert result.stderr


def test_failure_of_a_command_that_must_succeed_is_an_error_with_its_reason(guest: Guest) -> None:
    with pytest.raises(GuestCommandError) as caught:
        guest.run("echo the reason >&2; exit 3", check=True)
    assert caught.value.result.status == 3
    assert "the reason" in str(caught.value)


def test_command_that_does_not_end_is_killed_at_its_limit(guest: Guest) -> None:
    start = time.monotonic()
    with pytest.raises(CommandTimeoutError):
        guest.run(["sleep", "4711"], timeout=0.5)
    assert time.monotonic() - start < patient(5.0)
    assert not guest.run("ps | grep -q '[s]leep 4711'").ok
    assert guest.run(["true"]).ok


def test_background_process_is_ended_with_its_block(guest: Guest) -> None:
    with guest.start(["sleep", "4712"]) as process:
        assert process.poll() is None
    assert process.poll() is not None
    assert not guest.run("ps | grep -q '[s]leep 4712'").ok


def test_input_is_passed(guest: Guest) -> None:
    assert guest.run(["cat"], input="to be read\n").stdout == "to be read\n"


def test_large_output_is_complete(guest: Guest) -> None:
    """586 KiB, numbered so that a missing or repeated piece shows."""
    result = guest.run(["seq", "-w", "1", "99999"], check=True)
    assert result.stdout == "".join(f"{n:05d}\n" for n in range(1, 100000))


def test_files_of_any_bytes_go_both_ways(guest: Guest) -> None:
    data = bytes(range(256)) * 1024 + b"\0\xff"
    guest.write("/tmp/labnic-bytes", data)
    assert guest.read("/tmp/labnic-bytes") == data
    assert guest.sh("wc -c </tmp/labnic-bytes") == str(len(data))
    guest.run("rm /tmp/labnic-bytes")


def test_environment_is_passed(guest: Guest) -> None:
    assert guest.run('echo "$LAB"', env={"LAB": "nic"}).stdout == "nic\n"


def test_waiting_for_a_condition_ends_when_it_holds(guest: Guest) -> None:
    with guest.start("usleep 200000; echo ready >/tmp/labnic-ready"):
        result = guest.wait_until(["cat", "/tmp/labnic-ready"], predicate=lambda r: r.stdout == "ready\n")
    assert result.ok
    guest.run("rm /tmp/labnic-ready")


def test_waiting_in_vain_ends_at_the_limit_and_says_for_what(guest: Guest) -> None:
    with pytest.raises(CommandTimeoutError, match="the moon"):
        guest.wait_until(["false"], timeout=0.3, what="the moon")
