# SPDX-License-Identifier: Apache-2.0
"""The command `datapipe`: finds a verb, runs it, turns what went wrong into an exit code."""

from __future__ import annotations

import gc
import importlib
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import typer
import typer.core

from datapipe import __version__
from datapipe.cli.exits import exit_code, explain
from datapipe.cli.guards import guard
from datapipe.cli.terminal import StatusLine, set_colour
from datapipe.errors import DeclarationError, nearest

typer.core.HAS_RICH = False  # plain help pages: typer would load rich and escape brackets for it

VERBS = {
    "demo": ("demo", "Audit, clean, train and export a data set with planted faults, offline."),
    "audit": ("audit", "Look at a file and say what is wrong with it; nothing is changed."),
    "run": ("run", "Run the pipeline of a Python file."),
    "plan": ("plan", "Check a pipeline and show its steps; nothing is read."),
    "sql": ("sql", "Ask the lineage store in SQL."),
    "why": ("why", "Where a row came from, what was thought of it, where it went."),
    "trace": ("trace", "The way back from a data set or model to its sources."),
    "sign": ("sign", "Sign a file or folder."),
    "publish": ("publish", "Copy a data set or model out of the store, signed."),
    "verify": ("verify", "Check signatures, digests and logs of stores, files or folders."),
    "keys": ("keys", "Make, list, rotate, revoke and export signing keys."),
    "labels": ("labels", "Label issues, aggregation of annotators, noise rates, audits."),
    "report": ("report", "Write what a run found as one HTML file."),
    "card": ("card", "Show what a stage does, its parameters and its figures."),
    "new": ("new", "Start a stage of your own: module, card and test."),
    "budget": ("budget", "Privacy budget spent so far, by data set."),
    "erase": ("erase", "Take a person's rows out of the store, with a signed receipt."),
    "doctor": ("doctor", "Versions, optional packages and the state of the store."),
    "lineage": ("lineage", "Rebuild or export the lineage index, remove leftovers."),
}
"""Verb to its module in `datapipe.cli` and its one line of help, so that `--help` loads none."""

Callback = Callable[[click.Context, click.Parameter, int], None]

_EXITS = """\
Exit codes: 0 ok, 1 bug, 2 usage or declaration, 3 a gate or audit said no, 4 signature or
integrity, 5 privacy budget, 6 I/O, full or busy, 7 untrusted input refused, 130 interrupted."""


class Verbs(typer.core.TyperGroup):
    """The verbs, read from a table; a verb's module is imported when the verb is called.

    Example:
        >>> sorted(Verbs(name="datapipe").list_commands(click.Context(click.Command("x"))))[:3]
        ['audit', 'budget', 'card']
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of a first week.

        Args:
            ctx: Not read.

        Returns:
            Their names.

        Example:
            >>> Verbs(name="datapipe").list_commands(click.Context(click.Command("x")))[0]
            'demo'
        """
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """The command of a verb, its module imported now.

        Args:
            ctx: Not read.
            cmd_name: The verb.

        Returns:
            The command, with the options that every verb has.

        Raises:
            DeclarationError: There is no such verb.

        Example:
            >>> Verbs(name="datapipe").get_command(click.Context(click.Command("x")), "sql").name
            'sql'
        """
        if cmd_name not in VERBS:
            raise DeclarationError(
                f"there is no verb {cmd_name!r}",
                code="DP-USE-001",
                hint=nearest(cmd_name, VERBS),
            )
        module, line = VERBS[cmd_name]
        command = typer.main.get_command(importlib.import_module(f"datapipe.cli.{module}").app)
        command.name, command.help = cmd_name, line
        _add_common_options(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs from the table.

        Args:
            ctx: Not read.
            formatter: Where to write.

        Example:
            >>> page = click.HelpFormatter(width=80)
            >>> Verbs(name="datapipe").format_commands(click.Context(click.Command("x")), page)
            >>> "Ask the lineage store in SQL." in page.getvalue()
            True
        """
        with formatter.section("Verbs"):
            formatter.write_dl([(name, line) for name, (_, line) in VERBS.items()])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        arguments: The words after `datapipe`; None for those of this process.

    Returns:
        The exit code; `datapipe --help` lists them.

    Example:
        >>> main(["--version"])
        datapipe 0.1.0
        0
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    alone = arguments is None  # nothing but this command line runs in the process
    _open_streams()
    set_colour(on=None)
    _log_to_stderr(logging.WARNING)
    try:
        with _group().make_context("datapipe", words, obj=alone) as context:
            context.command.invoke(context)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - every way out has a code
        if alone and isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends: a second one must not kill it
        explain(error, as_json="--json" in words)
        return exit_code(error)
    finally:
        _log_to_nobody()
        if alone and "_duckdb" not in sys.modules:  # which counts its objects at the end
            gc.freeze()  # else Python looks for garbage in all that was loaded before it ends
    return 0


def _group() -> Verbs:
    return Verbs(
        name="datapipe",
        help="From raw training data to a signed model, with an answer for every row.",
        epilog=_EXITS,
        no_args_is_help=True,
        subcommand_metavar="VERB [ARGS]...",
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        params=[_flag(["--version"], _version, "Show the version and exit.", is_eager=True)],
    )


def _flag(
    names: list[str], callback: Callback, line: str, *, count: bool = False, is_eager: bool = False
) -> click.Option:
    """An option that only has an effect, and no value that a verb would see."""
    return click.Option(
        names,
        count=count,
        is_flag=not count,
        is_eager=is_eager,
        expose_value=False,
        callback=callback,
        help=line,
    )


def _version(ctx: click.Context, _param: click.Parameter, asked: int) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(f"datapipe {__version__}")
        ctx.exit()


def _add_common_options(command: click.Command) -> None:
    """Every verb, and every verb of a verb, takes `-q`, `-v` and `--no-color`."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _add_common_options(below)
        return
    guard(command)
    command.params.extend(
        [
            _flag(["-v", "--verbose"], _verbosity, "Say more; -vv with tracebacks.", count=True),
            _flag(["-q", "--quiet"], _quiet, "Say nothing but errors."),
            _flag(["--no-color"], _no_color, "No colours (as with NO_COLOR)."),
        ]
    )


def _verbosity(_ctx: click.Context, _param: click.Parameter, count: int) -> None:
    if count:
        _log_to_stderr(logging.DEBUG if count > 1 else logging.INFO)


def _quiet(_ctx: click.Context, _param: click.Parameter, asked: int) -> None:
    if asked:
        _log_to_stderr(logging.ERROR)


def _no_color(_ctx: click.Context, _param: click.Parameter, asked: int) -> None:
    if asked:
        set_colour(on=False)


def _open_streams() -> None:
    """Who closed stdout or stderr wants silence, and who reads ASCII gets escapes: no failure."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _log_to_nobody() -> None:
    """Leave the library's log as it was found, for programs that call `main`."""
    logger = logging.getLogger("datapipe")
    for handler in [h for h in logger.handlers if isinstance(h, StatusLine)]:
        handler.clear()
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def _log_to_stderr(level: int) -> None:
    """Show the library's log on stderr: lines, and on a terminal one moving line of progress."""
    _log_to_nobody()
    logger = logging.getLogger("datapipe")
    moving = level == logging.WARNING and sys.stderr.isatty()
    logger.addHandler(StatusLine(level, moving=moving))
    logger.setLevel(logging.INFO if moving else level)
    logger.propagate = False  # packages that set up the root logger would say every line again
