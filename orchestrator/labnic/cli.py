# SPDX-License-Identifier: GPL-2.0-or-later
"""The ``labnic`` command: verbs, options and exit codes; the work is done elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click

from labnic import __version__
from labnic.cli_fault import fault
from labnic.config import Config
from labnic.errors import InterruptError, LabnicError, UsageError
from labnic.report import Phases, print_error, worst
from labnic.settings import Settings, load_settings

EXEC_FAILED = 125
"""Exit code of ``labnic exec`` for labnic's own failure; everything else is the command's."""

STOP_PATIENCE = 12.0
"""Seconds that ``labnic down`` gives a lab's owner to end its VM in order."""


class Context:
    """Settings are loaded when a verb needs them: ``ps`` and ``down`` must work with a broken file."""

    def __init__(self, file: Path | None, assignments: tuple[str, ...]) -> None:
        self.file = file
        self.overrides: dict[str, str] = {}
        for assignment in assignments:
            name, equals, value = assignment.partition("=")
            if not equals:
                raise UsageError(f"--set {assignment}: must be NAME=VALUE", hint="names: `labnic config show`")
            self.overrides[name] = value
        self.phases = Phases()
        self.phases.add_bootstrap()

    def settings(self) -> Settings:
        return load_settings(self.file, overrides=self.overrides)

    def config(self) -> Config:
        return self.settings().config


pass_context = click.make_pass_decorator(Context)
_kernel = click.option("--kernel", help="Name of the kernel to boot (default: the settings').")
_name = click.option("--name", help="Name of the lab (default: the only one).")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "file", type=click.Path(path_type=Path), help="File of settings (default: labnic.yaml).")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="One setting, as machine.cpus=1.")
@click.version_option(__version__, message="%(version)s")
@click.pass_context
def cli(context: click.Context, file: Path | None, assignments: tuple[str, ...]) -> None:
    """Build the labnic card, its driver and a guest; boot them; prove them with packets."""
    context.obj = Context(file, assignments)


cli.add_command(fault)


@cli.command()
@_json
@pass_context
def doctor(context: Context, as_json: bool) -> int:
    """Say what is missing on this machine and which accelerator is used, and why."""
    from labnic.doctor import examine

    findings = list(examine(context.config(), context.phases))
    if as_json:
        click.echo(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            mark = {True: "ok", False: "NO", None: "--"}[finding.ok]
            click.echo(f"{mark}  {finding.name:<20} {finding.detail}")
            if finding.hint:
                click.echo(f"    do: {finding.hint}")
    return 3 if any(finding.ok is False for finding in findings) else 0


@cli.command()
@click.argument("what", type=click.Choice(["qemu", "driver", "image", "all"]), default="all")
@click.option("--kernel", "kernels", multiple=True, help="Kernels (default: all of the settings).")
@click.option("--refresh", is_flag=True, help="Ask the archive for newer versions.")
@click.option("--source", type=click.Choice(["packaged", "overlay"]), help="Where QEMU comes from.")
@pass_context
def build(context: Context, what: str, kernels: tuple[str, ...], refresh: bool, source: str | None) -> int:
    """Build the device in QEMU, the driver, or the guest's image; nothing is built twice."""
    from labnic.build import build_driver, build_image, build_observer, build_qemu, fetch_kernel
    from labnic.build.cache import Cache

    if source:
        context.overrides["qemu.source"] = source
    config, phases, cache = context.config(), context.phases, Cache(refresh=refresh)
    if what in ("qemu", "all"):
        qemu = build_qemu(config, cache, phases)
        click.echo(f"qemu {qemu.version}: {qemu.binary}" + (f" with {qemu.plugin}" if qemu.plugin else ""))
    if what == "qemu":
        return 0
    for name in kernels or dict.fromkeys((config.kernel, *config.test.kernels)):
        kernel = fetch_kernel(name, cache, phases)
        driver = build_driver(kernel, cache, phases)
        click.echo(f"driver for {kernel.release}: {driver.module}")
        observer = build_observer(kernel, cache, phases)
        click.echo(f"observer for {kernel.release}: {observer.module}")
        if what != "driver":
            click.echo(f"image for {kernel.release}: {build_image(kernel, driver, cache, phases, [observer])}")
    return 0


@cli.command()
@_kernel
@click.option("--command", "-c", default="", help="Run this in the guest and end with its status.")
@click.option("--name", default="default", show_default=True, help="Name of the lab.")
@click.option("--detach", is_flag=True, help="Leave the lab running in the background.")
@click.option("--keep", is_flag=True, help="Keep the lab after the command, until Ctrl-C or `labnic down`.")
@click.option("--append", "parameters", multiple=True, help="A word for the kernel's command line.")
@click.option("--dry-run", is_flag=True, help="Print QEMU's command line, to be pasted into a shell.")
@click.option("--ready-fd", type=int, hidden=True)
@pass_context
def up(context: Context, /, detach: bool, **options: Any) -> int:
    """Boot the lab: a shell in the guest on a terminal; else show what came up and exchange packets."""
    import labnic.up

    if detach:
        if options["command"] or options["keep"] or options["dry_run"]:
            raise UsageError("--detach does not go with --command, --keep or --dry-run")
        context.config()
        return labnic.up.detach([word for word in sys.argv[1:] if word != "--detach"])
    config = context.config()
    return labnic.up.up(labnic.up.UpOptions(**options), config, context.phases)


@cli.command(context_settings={"ignore_unknown_options": True})
@_name
@click.option("--timeout", type=float, default=600.0, show_default=True, help="Seconds that the command may take.")
@click.option("--input", "-i", "with_input", is_flag=True, help="Give the command this command's input.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec(name: str | None, timeout: float, with_input: bool, command: tuple[str, ...]) -> int:
    """Run a command in a running lab's guest; a single word goes through its shell."""
    from labnic.agent import RemoteAgent
    from labnic.guest import Guest
    from labnic.rundir import find

    try:
        lab = find(name)
        guest = Guest(RemoteAgent(lab.path / "agent.sock"))
        data = sys.stdin.buffer.read() if with_input else None
        result = guest.run(command[0] if len(command) == 1 else command, timeout=timeout, input=data)
    except LabnicError as error:
        print_error(error)
        return EXEC_FAILED
    sys.stdout.buffer.write(result.output)
    sys.stdout.buffer.flush()
    sys.stderr.write(result.stderr)
    return result.status


@cli.command()
@_name
def console(name: str | None) -> int:
    """Attach this terminal to a running lab's serial console; Ctrl-] leaves it."""
    from labnic.console import Console
    from labnic.rundir import find

    lab = find(name)
    click.echo("Ctrl-] leaves the console; the lab stays.")
    log = Path(lab.state.get("artifacts", lab.path)) / "console.log"
    Console(lab.path, log).attach(lambda: bool(lab.qemu and lab.qemu.alive()))
    click.echo("\r")
    return 0


@cli.command(context_settings={"ignore_unknown_options": True})
@click.option("--kernel", "kernels", multiple=True, help="Kernels for the guest tests (default: the settings').")
@click.option("-k", "keyword", default="", help="Only the tests that match, as in pytest.")
@click.option("--seed", type=int, help="Seed of an earlier run.")
@click.option("--jobs", "-j", type=click.IntRange(1), help="Groups and kernels at a time (default: CPUs + 1).")
@click.argument("words", metavar="[GROUP|PATH|--PYTEST-OPTION=VALUE]...", nargs=-1, type=click.UNPROCESSED)
@pass_context
def test(
    context: Context,
    kernels: tuple[str, ...],
    keyword: str,
    seed: int | None,
    jobs: int | None,
    words: tuple[str, ...],
) -> int:
    """Run the tests: groups (unit, device, guest) or paths; options that pytest knows are handed on."""
    from labnic.testrun import Options, run

    options = Options(
        targets=tuple(word for word in words if not word.startswith("-")),
        passed_on=tuple(word for word in words if word.startswith("-")),
        kernels=kernels,
        keyword=keyword,
        seed=seed,
        at_once=jobs,
        config_file=context.file.absolute() if context.file else None,
        overrides=tuple(context.overrides.items()),
    )
    return run(options, context.config(), context.phases)


@cli.command()
@_kernel
@click.option("--list", "only_list", is_flag=True, help="Print the mutants, their rules and tests, and run nothing.")
@click.option("--again", is_flag=True, help="Run those, too, that were killed before by the same tests.")
@click.option("--jobs", "-j", type=click.IntRange(1), help="VMs at a time (default: CPUs).")
@_json
@click.argument("words", metavar="[NAME|PATTERN|RULE]...", nargs=-1)
@pass_context
def mutants(
    context: Context,
    kernel: str | None,
    only_list: bool,
    again: bool,
    jobs: int | None,
    as_json: bool,
    words: tuple[str, ...],
) -> int:
    """Put each seeded bug into a copy of the sources, and see that the tests notice it."""
    import labnic.mutants.command as command

    options = command.Options(words, kernel, only_list, again, jobs, as_json, context.file, context.overrides)
    return command.run(options, context.config(), context.phases)


@cli.command()
@click.option("--kernel", "kernels", multiple=True, help="Kernels to judge on (default: those of the tests).")
@click.option("--driver", default="labnic", show_default=True, help="Driver to judge; others run on QEMU's own NICs.")
@click.option("--write", type=click.Path(path_type=Path), help="Page to put the table into, between its marks.")
@_json
@pass_context
def contract(context: Context, kernels: tuple[str, ...], driver: str, write: Path | None, as_json: bool) -> int:
    """Provoke every rule for network devices, watch the callbacks, and print who kept which."""
    from labnic.contract.run import Options, run

    return run(Options(kernels, driver, as_json, write.absolute() if write else None), context.config(), context.phases)


@cli.command()
@_kernel
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True, help="Cycles in all.")
@click.option("--batch", type=click.IntRange(1), default=50, show_default=True, help="Cycles between two looks.")
@click.option("--again", is_flag=True, help="Begin anew instead of going on after an earlier run.")
@pass_context
def cycles(context: Context, kernel: str | None, count: int, batch: int, again: bool) -> int:
    """Load, up, traffic, down, unload, again and again: nothing may be left behind."""
    from labnic.cycles import Options, run

    return run(Options(count, batch, kernel, again), context.config(), context.phases)


@cli.command()
@_kernel
@click.option("--rows", multiple=True, metavar="PATTERN", help="Only the rows that match, as tx-60-* (repeatable).")
@click.option("--contenders", multiple=True, metavar="NAME", help="Only these NICs (repeatable).")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of each row.")
@click.option(
    "--seconds", type=click.FloatRange(0.01, 60), default=0.5, show_default=True, help="Length of a measurement."
)
@click.option("--json", type=click.Path(path_type=Path), help="File that gets all figures.")
@click.option("--compare", type=click.Path(path_type=Path), help="Such a file of an earlier run: print what moved.")
@click.option("--write", "page", type=click.Path(path_type=Path), help="Page to put the table into, between its marks.")
@click.option("--profile", is_flag=True, help="Also in which functions the kernel is, in the counted rows.")
@click.option("--list", "only_list", is_flag=True, help="Print the rows and contenders, and measure nothing.")
@pass_context
def bench(context: Context, /, only_list: bool, **options: Any) -> int:
    """Measure labnic beside every other NIC that QEMU has."""
    from labnic.bench.run import Options, listing, run

    if only_list:
        click.echo(listing())
        return 0
    return run(Options(**options), context.config(), context.phases)


@cli.command()
@_json
def ps(as_json: bool) -> int:
    """List the running labs."""
    from labnic.rundir import running

    labs = running()
    if as_json:
        click.echo(json.dumps([{"name": lab.name, "path": str(lab.path), **lab.state} for lab in labs], indent=2))
        return 0
    for lab in labs:
        minutes = (time.time() - float(lab.state.get("started", time.time()))) / 60
        nics = ", ".join(f"{nic['name']} {nic['mac']}" for nic in lab.state.get("nics", ()))
        kernel = lab.state.get("kernel", "booting")
        click.echo(f"{lab.name:<16} {kernel:<24} {minutes:5.0f} min  owner {lab.owner.pid}  {nics}")
    if not labs:
        click.echo("no lab is running")
    return 0


@cli.command()
@_name
@click.option("--all", "everything", is_flag=True, help="End all labs.")
def down(name: str | None, everything: bool) -> int:
    """End a running lab."""
    from labnic.rundir import find, running

    for lab in running() if everything else [find(name)]:
        # The owner ends its VM in order; should it not, the kernel ends the VM with it.
        if not lab.owner.end(STOP_PATIENCE) or not (lab.qemu is None or lab.qemu.end(2.0)):
            raise LabnicError(f"process {lab.owner.pid} of lab {lab.name} does not end")
        click.echo(f"{lab.name} has ended")
    running()
    return 0


@cli.command()
@click.option("--cache", "with_cache", is_flag=True, help="Also everything that was built or fetched.")
@pass_context
def clean(context: Context, with_cache: bool) -> int:
    """Remove the artifacts of earlier runs."""
    from labnic.build.cache import Cache
    from labnic.rundir import running

    labs = running()
    if labs:
        names = ", ".join(lab.name for lab in labs)
        raise UsageError(f"labs are running: {names}", hint="end them with `labnic down --all`")
    folders = [context.config().artifacts] + ([Cache().root] if with_cache else [])
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)
            click.echo(f"removed {folder}")
    return 0


@cli.group()
def config() -> None:
    """The settings."""


@config.command("show")
@_json
@pass_context
def config_show(context: Context, as_json: bool) -> int:
    """Print every setting with its value and where it comes from."""
    rows = list(context.settings().rows())
    if as_json:
        click.echo(json.dumps({name: {"value": value, "source": source} for name, value, source in rows}, indent=2))
        return 0
    width = max(len(name) for name, _, _ in rows)
    for name, value, source in rows:
        click.echo(f"{name:<{width}}  {json.dumps(value) if not isinstance(value, str) else value:<32}  {source}")
    return 0


@cli.command()
@pass_context
def check(context: Context) -> int:
    """Run the static checks."""
    from labnic import check as checks

    return int(checks.run(context.phases))


@cli.command()
def gen() -> int:
    """Generate the C header and the register reference from the hardware map."""
    from labnic import gen as generator

    return int(generator.main(False))


@cli.command("gen-check")
def gen_check() -> int:
    """Fail when a generated file differs from what the hardware map gives."""
    from labnic import gen as generator

    return int(generator.main(True))


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end labnic as Ctrl-C does: with everything cleaned up."""

    def stop(number: int, frame: FrameType | None) -> None:
        # Only once: a second signal must not stop the cleaning up.
        for other in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)
        raise InterruptError(f"stopped by {signal.Signals(number).name}")

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    yield


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; gives the exit code."""
    try:
        # The launcher and `python -m labnic` hold Ctrl-C back while Python and this package load.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        with _stopped_by_signals():
            return int(cli.main(args=arguments, prog_name="labnic", standalone_mode=False) or 0)
    except KeyboardInterrupt:
        return _interrupted("interrupted")
    except click.exceptions.Abort:
        return _interrupted("interrupted")
    except InterruptError as error:
        return _interrupted(error.message)
    except click.ClickException as error:
        error.show()
        return UsageError.exit_code
    except LabnicError as error:
        print_error(error)
        return worst([error.exit_code])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception:  # a fault of labnic itself: the traceback is what a bug report needs
        import traceback

        traceback.print_exc()
        print("labnic: error: a fault of labnic itself; please report it with the lines above", file=sys.stderr)
        return 8


def _interrupted(text: str) -> int:
    from labnic.build.tool import stop_all

    stop_all()
    print(f"labnic: {text}", file=sys.stderr)
    return InterruptError.exit_code
