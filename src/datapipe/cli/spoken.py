# SPDX-License-Identifier: Apache-2.0
"""Errors of the library in the words of a command line: `on_error='quarantine'` is an option there.

The library speaks of parameters; who typed options is told the option, where the verb has it.
"""

from __future__ import annotations

import ast
import re
import shlex

import click

from datapipe.errors import DatapipeError, DeclarationError

_PARAMETER = re.compile(r"""(?<![\w.'"-])([a-z_]+)=('[^']*'|"[^"]*"|-?[\w./]+)?""")
_PLAN = re.compile(r"^pipeline '.*?' cannot run: ", re.DOTALL)
_NOT_DECLARED = "DP-DECL-014"
"""The code of a pipeline that cannot run."""


def as_options(error: DatapipeError, context: click.Context) -> None:
    """Change what an error says, where the verb has an option for the parameter that it names.

    Args:
        error: One of ours, on its way out of a verb.
        context: Of the verb.

    Example:
        >>> verb = click.Command("audit", params=[click.Option(["--on-error"])])
        >>> error = DatapipeError("broken", hint="mend it, or give on_error='quarantine'")
        >>> as_options(error, click.Context(verb))
        >>> error.hint
        'mend it, or give --on-error quarantine'
    """
    options = _options(context.command)
    error.hint = _spoken(error.hint, options)
    if not (isinstance(error, DeclarationError) and error.code == _NOT_DECLARED):
        return
    if any(p.metavar and p.metavar.startswith("FILE.py") for p in context.command.params):
        return  # the pipeline is the user's own, and so are its parameters
    problems = [_spoken(p.partition(": ")[2] or p, options) for p in error.problems]
    said = "; ".join(problems) or _spoken(_PLAN.sub("", error.message), options)
    error.message, error.problems = said, tuple(problems)
    error.hint = f"{context.command_path} --help lists the options"


def _options(command: click.Command) -> dict[str, click.Option]:
    """The name that a parameter of the library has, to the option that sets it."""
    return {
        name[2:].replace("-", "_"): option
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--")
    }


def _spoken(text: str, options: dict[str, click.Option]) -> str:
    def said(found: re.Match[str]) -> str:
        option = options.get(found[1])
        if option is None:
            return found[0]
        name = "--" + found[1].replace("_", "-")
        if found[2] is None:
            return f"{name} {option.metavar or 'VALUE'}"
        try:
            value = str(ast.literal_eval(found[2]))
        except (ValueError, SyntaxError):
            value = found[2]
        return name if option.is_flag else f"{name} {_quoted(value)}"

    return _PARAMETER.sub(said, text)


def _quoted(value: str) -> str:
    return shlex.quote(value.replace("\t", r"\t"))
