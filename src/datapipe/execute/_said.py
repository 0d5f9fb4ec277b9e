# SPDX-License-Identifier: Apache-2.0
"""What a stage's author says in an error, without the cells of the row that it was raised over.

`raise ValueError(f"cannot do {x}")` quotes nothing, so that no quotes tell which words are data.
But the author's own words stand in the file that raised it, and what was put between them does not.
"""

from __future__ import annotations

import builtins
import dis
import linecache
import re
from collections.abc import Collection
from types import TracebackType

from datapipe.errors import in_a_line

SHORT_DIGITS = 3
"""A number of more digits may be a date of birth, a telephone or an account."""
_RAISE = dis.opmap["RAISE_VARARGS"]
_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\S+")


def said(error: BaseException, names: Collection[str] = ()) -> str:
    """What a stage raised, in a line that holds nobody's data.

    Args:
        error: The error.
        names: Names of columns, which may be told.

    Returns:
        At most 300 characters; of an error that Python code raised, only words of that code.

    Example:
        >>> said(ValueError("no code raised it, so nothing is known"))
        'no code raised it, so nothing is known'
    """
    line = in_a_line(error, names)
    code = _raised_in(error.__traceback__)
    if code is None:
        return line
    known = {w for text in (code, *names) for w in _WORD.findall(text)} | {*dir(builtins)}
    return _TOKEN.sub(lambda token: token[0] if _is_known(token[0], known) else "…", line)


def is_ours(error: BaseException) -> bool:
    """Whether an error was raised by code of this package.

    Args:
        error: The error.

    Returns:
        False for one that a function of somebody else's raised.

    Example:
        >>> is_ours(ValueError())
        False
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    named = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return named.partition(".")[0] == "datapipe"


def _is_known(token: str, known: set[str]) -> bool:
    return all(
        word in known or (word.isdecimal() and len(word) <= SHORT_DIGITS)
        for word in _WORD.findall(token)
    )


def _raised_in(trace: TracebackType | None) -> str | None:
    """The file whose own `raise` or `assert` an error comes from; None of one of an engine's."""
    if trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    frame, at = trace.tb_frame, trace.tb_lasti
    if frame.f_code.co_code[at] != _RAISE:
        return None
    lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
    return "".join(lines) or " ".join(map(str, (*frame.f_code.co_consts, *frame.f_code.co_names)))
