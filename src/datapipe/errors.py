# SPDX-License-Identifier: Apache-2.0
"""Errors by what the caller does next.

    DatapipeError(code, hint)
    +- DeclarationError   the pipeline is written wrongly    -> change the code     exit 2
    |  +- UnknownStage, MissingRole, MissingExtra
    +- DataError          the data does not fit              -> change the data     exit 7
    |  +- SchemaMismatch (exit 2), Malformed, LimitExceeded
    +- TrustError         signature, key, policy, digest     -> do not use it       exit 4
    +- GateClosed         a gate said no                     -> read the findings   exit 3
    +- BudgetSpent        privacy budget                     -> stop                exit 5
    `- ExecutionError     a worker, disk or lock failed      -> see __cause__       exit 6

Every message reads *what, where, what was expected* `[code]`, an empty line, `hint: one action`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

_QUOTED = re.compile(
    r"(?<=values: )\[.*|(?<=could not parse )`[^`]*(?:`|$)"
    r"""|"(?:[^"\\]|\\.)*(?:"|$)|(?<!\w)'(?:[^'\\]|\\.)*?(?:'(?!\w)|$)"""
)
"""What another library quotes in a message: names and values of cells alike."""
_OF_NAMES = ("ColumnNotFoundError", "SchemaFieldNotFoundError", "StructFieldNotFoundError")
_CLOSING = {"[": "]"}


class DatapipeError(Exception):
    """The root of every error that datapipe raises on purpose.

    Args:
        message: What happened, where, and what was expected; no final full stop needed.
        code: A stable short code such as `DP-DATA-003`.
        hint: One action that mends it.

    Example:
        >>> print(DatapipeError("a.csv has no rows", code="DP-DATA-001", hint="give one with rows"))
        a.csv has no rows [DP-DATA-001]
        <BLANKLINE>
        hint: give one with rows
    """

    exit_code = 1
    default_code = "DP-BUG-000"

    def __init__(self, message: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint

    def __str__(self) -> str:
        line = f"{self.message} [{self.code}]"
        return f"{line}\n\nhint: {self.hint}" if self.hint else line

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, dict(self.__dict__)))


def _rebuild(cls: type[DatapipeError], message: str, state: dict[str, Any]) -> DatapipeError:
    """Rebuild an error after pickling, attributes included."""
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class DeclarationError(DatapipeError, ValueError):
    """The pipeline, a parameter or a command line is written wrongly: change the code.

    Args:
        message: What is wrong.
        code: A stable short code.
        hint: One action that mends it.
        problems: Every problem found, when several were found at once.

    Example:
        >>> DeclarationError("two problems", problems=("a", "b")).problems
        ('a', 'b')
    """

    exit_code = 2
    default_code = "DP-DECL-000"

    def __init__(
        self, message: str, *, code: str = "", hint: str = "", problems: Sequence[str] = ()
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.problems = tuple(problems)


class UnknownStage(DeclarationError):
    """No stage has this key or class name."""

    default_code = "DP-DECL-001"


class MissingRole(DeclarationError):
    """A stage needs a role that no column of the data set has."""

    default_code = "DP-DECL-002"


class MissingExtra(DeclarationError):
    """A stage needs an optional package that is not installed; the hint is the pip command."""

    default_code = "DP-DECL-003"


class DataError(DatapipeError):
    """The data does not fit: change the data, or how it is read."""

    exit_code = 7
    default_code = "DP-DATA-000"


class SchemaMismatch(DataError):
    """A named column is absent or has another type than the stage can use."""

    exit_code = 2
    default_code = "DP-DATA-001"


class Malformed(DataError):
    """A file or record cannot be read without guessing."""

    default_code = "DP-DATA-002"


class LimitExceeded(DataError):
    """Untrusted input is larger than the declared limits allow."""

    default_code = "DP-DATA-003"


class TrustError(DatapipeError):
    """A signature, key, policy, log or digest does not hold: do not use the data.

    Args:
        message: What does not hold, naming the file.
        code: A stable short code; each reason has its own.
        hint: One action.
        path: The file that failed, when there is one.

    Example:
        >>> TrustError("digest differs", path="objects/ab12").path
        'objects/ab12'
    """

    exit_code = 4
    default_code = "DP-TRUST-000"

    def __init__(self, message: str, *, code: str = "", hint: str = "", path: str = "") -> None:
        super().__init__(message, code=code, hint=hint)
        self.path = path


class GateClosed(DatapipeError):
    """A gate said no; `findings` are the ones that closed it.

    Args:
        message: Which limits were broken.
        code: A stable short code.
        hint: One action.
        findings: The findings (`datapipe.Finding`) that closed the gate.
        run: The recorded run (`datapipe.core.run.Run`), once the executor has recorded it.

    Example:
        >>> GateClosed("labels.noise is over 0.08").exit_code
        3
    """

    exit_code = 3
    default_code = "DP-GATE-000"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        hint: str = "",
        findings: Sequence[Any] = (),
        run: Any = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.findings = tuple(findings)
        self.run = run


class BudgetSpent(DatapipeError):
    """The privacy budget does not allow this: stop.

    Args:
        message: What was asked for and what is left.
        code: A stable short code.
        hint: One action.
        epsilon: Epsilon already spent plus the one asked for.
        delta: The delta of that epsilon.

    Example:
        >>> BudgetSpent("budget spent", epsilon=3.2, delta=1e-5).epsilon
        3.2
    """

    exit_code = 5
    default_code = "DP-PRIV-000"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        hint: str = "",
        epsilon: float = float("inf"),
        delta: float = 0.0,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.epsilon = epsilon
        self.delta = delta


class ExecutionError(DatapipeError):
    """A worker, a disk or a lock failed; `__cause__` has the original.

    Args:
        message: What failed.
        code: A stable short code.
        hint: One action.
        stage: The step that failed, when there is one.

    Example:
        >>> ExecutionError("disk full", stage="dedup.minhash").stage
        'dedup.minhash'
    """

    exit_code = 6
    default_code = "DP-EXEC-000"

    def __init__(self, message: str, *, code: str = "", hint: str = "", stage: str = "") -> None:
        super().__init__(message, code=code, hint=hint)
        self.stage = stage


def closest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """The known names that a wrong one may have been meant for, as the words of a hint.

    Args:
        name: The name that was not found.
        known: The names that exist.
        most: How many to suggest at most.

    Returns:
        `did you mean 'a' or 'b'?`; empty when none is close.

    Example:
        >>> closest("lable", ["label", "text"]), closest("image", ["label", "text"])
        ("did you mean 'label'?", '')
    """
    names = sorted(set(known))
    same = [n for n in names if name.casefold() in (n.casefold(), n.partition(".")[2])]
    close = same or difflib.get_close_matches(name, names, n=most, cutoff=0.6)
    return "did you mean " + " or ".join(repr(c) for c in close) + "?" if close else ""


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """The known names closest to a wrong one, as the words of a hint.

    Args:
        name: The name that was not found.
        known: The names that exist.
        most: How many to suggest at most.

    Returns:
        `did you mean 'a' or 'b'?`, or `known: a, b, c` when none is close.

    Example:
        >>> nearest("lable", ["label", "text"])
        "did you mean 'label'?"
    """
    names = sorted(set(known))
    if close := closest(name, names, most=most):
        return close
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return f"known: {shown}" if names else "nothing is known here"


def in_a_line(error: BaseException, names: Collection[str] = ()) -> str:
    r"""What another library says, in a line that holds nobody's data.

    Such a message may quote values of cells: what it quotes is left out, unless it is a name.

    Args:
        error: The error.
        names: Names of columns, which may be quoted.

    Returns:
        At most 300 characters.

    Example:
        >>> in_a_line(ValueError("could not convert string to float: 'ann@example.org'\nmore"))
        "could not convert string to float: '…'"
        >>> in_a_line(KeyError("age"), names=["age", "mail"])
        "'age'"
    """
    lines = str(getattr(error, "message", error)).strip().splitlines()
    if not lines:
        return type(error).__name__
    known = None if type(error).__name__ in _OF_NAMES else {*names}

    def said(found: re.Match[str]) -> str:
        text = found[0]
        named = known is None or text[1:-1] in known
        return text if named else f"{text[0]}…{_CLOSING.get(text[0], text[0])}"

    return _QUOTED.sub(said, lines[0])[:300]
