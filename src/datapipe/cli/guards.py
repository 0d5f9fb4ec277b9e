# SPDX-License-Identifier: Apache-2.0
"""What every verb refuses first: an option given twice, a NaN, an output that is an input."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from datapipe.cli.spoken import as_options
from datapipe.errors import DatapipeError, DeclarationError


def guard(command: click.Command) -> None:
    """Let a verb refuse what cannot be meant, and tell errors as its options.

    Args:
        command: A verb, or a verb of a verb; it is changed.

    Example:
        >>> verb = click.Command("audit", params=[click.Option(["--label"])])
        >>> guard(verb)
        >>> verb.make_context("audit", ["--label", "x", "--label", "y"])
        Traceback (most recent call last):
        ...
        click.exceptions.UsageError: --label is given twice, and one value counts
    """
    parse, invoke = command.parse_args, command.invoke

    def parse_args(ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            _refuse_twice(command, ctx, list(args))
        return parse(ctx, args)

    def told(ctx: click.Context) -> Any:
        try:
            _refuse_endless(ctx)
            _refuse_overwriting(ctx)
            return invoke(ctx)
        except DatapipeError as error:
            as_options(error, ctx)
            raise

    command.parse_args = parse_args  # type: ignore[method-assign]  # of this one command
    command.invoke = told  # type: ignore[method-assign]  # as above


def _refuse_twice(command: click.Command, ctx: click.Context, words: list[str]) -> None:
    """An option of one value that is given twice: the first would be passed over in silence."""
    _, _, order = command.make_parser(ctx).parse_args(args=words)
    for param, count in Counter(order).items():
        single = isinstance(param, click.Option) and not (param.multiple or param.count)
        if count > 1 and single and not param.is_flag:  # type: ignore[attr-defined]  # an option
            name = max(param.opts, key=len)
            raise click.UsageError(f"{name} is given twice, and one value counts", ctx)


def _refuse_endless(ctx: click.Context) -> None:
    """A number that is none: what is compared with it would hold always or never."""
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        if isinstance(value, float) and not math.isfinite(value):
            name = max(param.opts, key=len)
            raise DeclarationError(
                f"{name} {value} is no number",
                code="DP-USE-102",
                hint="give a finite number, or leave the option out",
            )


def _refuse_overwriting(ctx: click.Context) -> None:
    """An output that is one of the files to be read."""
    given = next(_paths(ctx.params.get("output")), None)
    in_place = ctx.params.get("apply") or ctx.params.get("undo")  # the rows themselves are written
    if given is None or in_place or not given.exists():
        return
    for name, value in ctx.params.items():
        for path in _paths(value) if name != "output" else ():
            if path.exists() and path.samefile(given):
                raise DeclarationError(
                    f"-o {given} would overwrite {path}, which is to be read",
                    code="DP-USE-100",
                    hint="name another file",
                )


def _paths(value: Any) -> Iterator[Path]:
    """The files that an argument may name."""
    for one in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(one, Path):
            yield one
        elif isinstance(one, str) and one and "\0" not in one and len(one) < 4096:
            yield Path(one)
