# SPDX-License-Identifier: Apache-2.0
"""What went wrong, as words on stderr and as an exit code.

0 ok · 1 bug · 2 usage or declaration · 3 a gate said no · 4 signature or integrity ·
5 privacy budget · 6 I/O, full or busy · 7 untrusted input refused · 130 interrupted.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import traceback
from typing import Any, NoReturn

import click

from datapipe.cli.terminal import note
from datapipe.errors import DatapipeError, DeclarationError, ExecutionError, TrustError

BUG, USAGE, IO, INTERRUPTED = 1, 2, 6, 130
_CODES: tuple[tuple[tuple[type[BaseException], ...], int], ...] = (
    ((click.ClickException,), USAGE),
    ((BrokenPipeError,), 0),
    ((OSError, MemoryError), IO),
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def exit_code(error: BaseException) -> int:
    """The exit code of what ended a verb.

    Args:
        error: An exception that left the verb.

    Returns:
        The code.

    Example:
        >>> exit_code(KeyboardInterrupt()), exit_code(OSError(28, "full")), exit_code(ValueError())
        (130, 6, 1)
    """
    if isinstance(error, (DatapipeError, click.exceptions.Exit)):
        return error.exit_code
    if _interrupted(error):
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    for kinds, code in _CODES:
        if isinstance(error, kinds):
            return code
    return BUG


def explain(error: BaseException, *, as_json: bool) -> None:
    """Say on stderr what went wrong, with one action that mends it.

    With `-vv` the traceback follows; without it the traceback of a bug goes to a private file
    that the message names.

    Args:
        error: An exception that left the verb.
        as_json: Whether to print one JSON object instead of text.

    Example:
        >>> explain(click.exceptions.Exit(3), as_json=False)
    """
    _let_go_of_stdout()
    if isinstance(error, BrokenPipeError):  # the reader left: nobody is there to tell
        return
    if isinstance(error, (click.exceptions.Exit, SystemExit)):
        return
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        note(error.format_message(), level=logging.ERROR)
        return
    told = as_told(error)
    if logging.getLogger("datapipe").isEnabledFor(logging.DEBUG):
        note("".join(traceback.format_exception(error)).rstrip(), level=logging.ERROR)
    if as_json:
        note(json.dumps({"error": _form(told, exit_code(error))}), level=logging.ERROR)
    else:
        note(str(told), level=logging.ERROR)


def _let_go_of_stdout() -> None:
    """Let what cannot be written go nowhere, else Python fails over it at the end (exit 120)."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def end_now(error: BaseException, *, as_json: bool) -> NoReturn:
    """End the process from any of its threads while the main one hears nothing.

    Args:
        error: What would have left the verb.
        as_json: Whether to print one JSON object instead of text.

    Example:
        >>> end_now(KeyboardInterrupt(), as_json=False)  # doctest: +SKIP
    """
    explain(error, as_json=as_json)
    os._exit(exit_code(error))


def as_told(error: BaseException) -> DatapipeError:
    """One of our errors, whatever came: what, where, `[code]`, a hint.

    Args:
        error: Any exception.

    Returns:
        The error itself when it is ours, else one that tells it.

    Example:
        >>> print(as_told(OSError(28, "No space left on device", "objects/ab")))
        disk full: objects/ab could not be written [DP-EXEC-028]
        <BLANKLINE>
        hint: free some space and run again; what was acknowledged is safe
    """
    match error:
        case DatapipeError():
            return error
        case _ if _interrupted(error):
            return ExecutionError(
                "interrupted",
                code="DP-EXEC-130",
                hint="run the same command again: finished steps are reused",
            )
        case click.ClickException():
            return _usage(error)
        case OSError() | MemoryError():
            return _machine(error)
    return _bug(error)


def _interrupted(error: BaseException) -> bool:
    """Whether it was Ctrl-C; DuckDB takes it for itself and says it in words."""
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return True
    return isinstance(error, RuntimeError) and str(error) == "Query interrupted"


def _usage(error: click.ClickException) -> DeclarationError:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, DeclarationError):  # from the parser of an option, which click wraps
        return cause
    context = getattr(error, "ctx", None)
    verb = context.command_path if context is not None else "datapipe"
    said = error.format_message().rstrip(".").replace(" Did you mean", "\nDid you mean").split("\n")
    message = " ".join(dict.fromkeys(s.strip() for s in said))  # a suggestion is made once
    return DeclarationError(
        message[:1].lower() + message[1:],
        code="DP-USE-002",
        hint=f"{verb} --help lists the options",
    )


def _machine(error: OSError | MemoryError) -> ExecutionError:
    """Disk, rights or memory: what the operating system refused."""
    if isinstance(error, MemoryError):
        return ExecutionError(
            "not enough memory", code="DP-EXEC-012", hint="give the process more, or read less"
        )
    where = str(error.filename or "a file")
    if error.errno in _FULL:
        return ExecutionError(
            f"disk full: {where} could not be written",
            code="DP-EXEC-028",
            hint="free some space and run again; what was acknowledged is safe",
        )
    return ExecutionError(
        f"{where}: {error.strerror or error}",
        code="DP-EXEC-005",
        hint="check the path and your rights on it",
    )


def _bug(error: BaseException) -> DatapipeError:
    """Something nobody thought of: a short text, and the traceback in a file."""
    import tempfile  # noqa: PLC0415  # loads a generator of random numbers, for the rare bad day

    descriptor, path = tempfile.mkstemp(prefix="datapipe-bug-", suffix=".log", text=True)
    with os.fdopen(descriptor, "w") as file:
        file.writelines(traceback.format_exception(error))
    return DatapipeError(
        f"this is a bug in datapipe: {type(error).__name__}; the traceback is in {path}",
        code="DP-BUG-001",
        hint="run again with -vv to see it, and report it",
    )


def _form(error: DatapipeError, code: int) -> dict[str, Any]:
    form: dict[str, Any] = {
        "type": type(error).__name__,
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "exit_code": code,
    }
    if isinstance(error, DeclarationError) and error.problems:
        form["problems"] = list(error.problems)
    if isinstance(error, TrustError) and error.path:
        form["path"] = error.path
    return form
