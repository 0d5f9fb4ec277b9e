# SPDX-License-Identifier: Apache-2.0
"""What a question may not name because it ends the whole process, whoever asked.

DuckDB 2.0 walks a JSON value with a call of a function for each level when it makes a VARIANT of
it: one that is nested 20,000 deep, which takes a line of SQL, is a segmentation fault. How deep a
value is shows only while it is made, so nothing that can make one is let through: the type, the
functions on it, and the functions that run a text as SQL.
"""

from __future__ import annotations

from collections.abc import Iterator

from datapipe.errors import DeclarationError
from datapipe.lineage.duck import duckdb

WORD = "variant"
RUNS_TEXT = ("query", "json_execute_serialized_sql")
"""Functions whose argument is SQL; it may be put together where nobody can read it."""


def refuse_fatal(query: str) -> None:
    """Refuse a question that could end the process; what stands in its texts is not looked at.

    Args:
        query: The question.

    Raises:
        DeclarationError: It names VARIANT, or runs a text as SQL.

    Example:
        >>> refuse_fatal("select reason from dropped_rows where reason like '%variant%'")
        >>> refuse_fatal("select params::variant from steps")
        Traceback (most recent call last):
        ...
        datapipe.errors.DeclarationError: VARIANT is refused: ... [DP-DECL-051]
        <BLANKLINE>
        hint: JSON answers the same: params ->> 'a', or json_extract(params, '$.a')
    """
    lowered = query.lower()
    if not any(word in lowered for word in (WORD, *RUNS_TEXT)):
        return
    names = list(_names(query))
    if any(WORD in name for name in names):
        raise DeclarationError(
            "VARIANT is refused: to make one of deep JSON ends the process",
            code="DP-DECL-051",
            hint="JSON answers the same: params ->> 'a', or json_extract(params, '$.a')",
        )
    for name, behind in zip(names, [*names[1:], ""], strict=True):
        if name in RUNS_TEXT and behind == "(":
            raise DeclarationError(
                f"{name}() is refused: nobody can see what it would run",
                code="DP-DECL-051",
                hint="ask the question itself",
            )


def _names(query: str) -> Iterator[str]:
    """Its words and signs in small letters, without quotes, texts and comments."""
    data = query.encode()
    tokens = duckdb.tokenize(query)
    ends = [start for start, _ in tokens[1:]]
    for (start, kind), end in zip(tokens, [*ends, len(data)], strict=True):
        if kind.name not in ("string_const", "comment"):
            yield data[start:end].decode(errors="replace").strip().strip('"').lower()
