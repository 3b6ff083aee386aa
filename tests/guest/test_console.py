# SPDX-License-Identifier: GPL-2.0-or-later
"""The serial console: a shell for people, and the log of everything that the kernel says."""

from __future__ import annotations

from labnic.command import backoff
from labnic.guest import Guest
from labnic.lab import Lab


def test_shell_answers_and_comes_back_to_its_prompt(lab: Lab) -> None:
    with lab.console.session() as session:
        session.command("true")
        assert session.command("echo $((6 * 7))").splitlines()[-1] == "42"
        assert session.command("cat /proc/sys/kernel/ostype").splitlines()[-1] == "Linux"


def test_shell_has_job_control(guest: Guest, lab: Lab) -> None:
    """Ctrl-C ends the command and not the shell."""
    with lab.console.session() as session:
        session.command("true")
        session.send_line("sleep 4713")
        # A Ctrl-C before the command is in the foreground would be the shell's.
        guest.wait_until("ps | grep '[s]leep 4713'", what="the command to run")
        session.spawn.send("\x03")
        session.expect("# ")
        assert session.command("echo still here").splitlines()[-1] == "still here"
    assert not guest.run("ps | grep '[s]leep 4713'").ok


def test_console_can_be_left_and_entered_again(lab: Lab) -> None:
    for number in range(3):
        with lab.console.session() as session:
            session.command("true")
            assert session.command(f"echo visit {number}").splitlines()[-1] == f"visit {number}"


def test_kernel_messages_are_in_the_log(guest: Guest, lab: Lab) -> None:
    text = "labnic test: a message for the log"
    guest.sh(f"echo '<4>{text}' >/dev/kmsg")
    for _ in backoff(5.0):
        if any(text in line for line in lab.console.tail(50)):
            return
    raise AssertionError("the message did not get into the console's log:\n" + "\n".join(lab.console.tail(20)))


def test_log_has_the_boot_from_its_first_line(lab: Lab) -> None:
    log = lab.console.log.read_text(errors="replace")
    assert "Linux version" in log
    assert lab.kernel.release in log
