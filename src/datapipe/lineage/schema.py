# SPDX-License-Identifier: Apache-2.0
"""The promised tables as data, read from `schema.sql`; the check of what is appended to them."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from datapipe.core.digest import canonical
from datapipe.errors import DeclarationError, nearest

VERSION = 2
"""Version of tables and views together; a store's index of another version is not read."""

DERIVED = (
    "dataset_loss_counts",
    "log_entries",
    "model_held_out",
    "model_held_out_counts",
    "model_loss_counts",
    "row_drop_blocks",
    "row_drop_counts",
    "row_drop_steps",
    "meta",
)
"""Tables that no record is written for: they follow from other records."""

FROM_OBJECT: Mapping[str, tuple[str, ...]] = {
    "row_findings": (
        "row_id", "score", "p_value", "flagged", "action", "reason", "suggested",
    ),
    "row_drops": ("row_id", "reason"),
    "row_edges": ("row_id", "made_from", "lines"),
    "label_changes": ("row_id", "before", "after", "why", "posterior", "changed_by"),
}  # fmt: skip
"""Columns whose values stand in a Parquet object that the record names, not in the record."""

_TABLE = re.compile(r"create table (\w+) \(\s*-- (.*)")
_COLUMN = re.compile(r'  "?(\w+)"? (\w+),?\s*-- (.*)')
_PYTHON: Mapping[str, tuple[type, ...]] = {
    "varchar": (str,),
    "timestamp": (str,),
    "boolean": (bool,),
    "bigint": (int,),
    "ubigint": (int,),
    "double": (int, float),
}
_RANGE = {"bigint": (-(2**63), 2**63 - 1), "ubigint": (0, 2**64 - 1)}


@dataclass(frozen=True)
class Column:
    """A promised column.

    Args:
        name: Its name.
        type: Its SQL type, in small letters.
        meaning: What it holds, in a few words.

    Example:
        >>> tables()["runs"].columns[1].name
        'run_id'
    """

    name: str
    type: str
    meaning: str


@dataclass(frozen=True)
class Table:
    """A promised table.

    Args:
        name: Its name, also the kind of the records that fill it.
        meaning: What a line of it is.
        columns: Its columns, `seq` first.

    Example:
        >>> tables()["label_changes"].meaning
        'labels that a step changed'
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]


def text(name: str) -> str:
    """A file of SQL of this package.

    Args:
        name: Its name, such as `schema.sql` or `views.sql`.

    Returns:
        Its text.

    Example:
        >>> text("schema.sql").startswith("-- SPDX")
        True
    """
    return resources.files("datapipe.lineage").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def tables() -> Mapping[str, Table]:
    """The promised tables by name, in the order of `schema.sql`.

    Returns:
        Name to table.

    Example:
        >>> "steps" in tables()
        True
    """
    found: dict[str, Table] = {}
    for line in text("schema.sql").splitlines():
        if match := _TABLE.match(line):
            name, meaning = match.groups()
            found[name] = Table(name, meaning, ())
        elif match := _COLUMN.match(line):
            columns = (*found[name].columns, Column(*match.groups()))
            found[name] = Table(name, found[name].meaning, columns)
    return found


@functools.cache
def fingerprint() -> str:
    """The digest of the SQL that makes an index: another one asks for a rebuild.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> len(fingerprint())
        64
    """
    names = ("schema.sql", "views.sql", "dataset_losses.sql", "model_losses.sql")
    return hashlib.sha256("".join(map(text, names)).encode()).hexdigest()


def checked(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """A record's body as JSON values that its table can take.

    What has been acknowledged can then always be indexed: a wrong column is told to whoever
    writes it, not to whoever asks much later.

    Args:
        kind: Name of a table.
        body: Its columns; absent ones are null, NaN becomes null.

    Returns:
        The body, made of plain JSON values.

    Raises:
        DeclarationError: There is no such table or column, or a value has another type.

    Example:
        >>> checked("run_events", {"run_id": "r", "detail": {"a": float("nan")}})
        {'detail': {'a': None}, 'run_id': 'r'}
    """
    kinds = [name for name in tables() if name not in DERIVED]
    if kind not in kinds:
        raise _wrong(f"there is no record of kind {kind!r}", nearest(kind, kinds))
    try:
        plain = json.loads(canonical(dict(body)), parse_constant=lambda _: None)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
        raise _wrong(f"{kind}: a value has no JSON form: {error}", "give JSON values") from error
    types = {column.name: column.type for column in tables()[kind].columns[1:]}
    if kind in FROM_OBJECT:
        types |= {"object": "varchar", "rows": "bigint", "step_id": "varchar", "run_id": "varchar"}
    for name, value in plain.items():
        if name not in types:
            raise _wrong(f"{kind} has no column {name!r}", nearest(name, types))
        _check(f"{kind}.{name}", types[name], value)
    return dict(plain)


def cells(kind: str, body: Mapping[str, Any], *, seq: int, recorded_at: str) -> dict[str, Any]:
    """A record as one line of its table, as the index stores it.

    Args:
        kind: Name of a table.
        body: What `checked` gave.
        seq: Number of the journal record.
        recorded_at: When it was appended; stands in where the body does not say.

    Returns:
        Every column of the table; JSON as text, times as UTC without a zone.

    Example:
        >>> cells("run_events", {"detail": {}}, seq=3, recorded_at="2026-01-01")["recorded_at"]
        datetime.datetime(2026, 1, 1, 0, 0)
    """
    line: dict[str, Any] = {}
    for column in tables()[kind].columns:
        value = seq if column.name == "seq" else body.get(column.name)
        if value is None and column.name == "recorded_at":
            value = recorded_at
        if column.type == "json" and value is not None:
            value = canonical(value).decode()
        elif column.type == "timestamp" and value is not None:
            value = moment(str(value))
        line[column.name] = value
    return line


def moment(value: str) -> datetime:
    """A time as the index stores it.

    Args:
        value: ISO 8601; without a zone it is taken for UTC.

    Returns:
        The same moment in UTC, without a zone.

    Example:
        >>> moment("2026-01-01T02:00:00+02:00")
        datetime.datetime(2026, 1, 1, 0, 0)
    """
    parsed = datetime.fromisoformat(value)
    return parsed.astimezone(UTC).replace(tzinfo=None) if parsed.tzinfo else parsed


def _check(where: str, kind: str, value: Any) -> None:
    """Whether a JSON value fits an SQL type; null fits all."""
    if value is None or kind == "json":
        return
    fits = isinstance(value, _PYTHON[kind])
    if fits and kind != "boolean":
        fits = not isinstance(value, bool)
    if fits and kind in _RANGE:
        low, high = _RANGE[kind]
        fits = low <= value <= high
    if fits and kind == "timestamp":
        try:
            moment(value)
        except (ValueError, OverflowError):
            fits = False
    if not fits:
        raise _wrong(f"{where} is {kind}, not {type(value).__name__}", "give a value of that type")


def _wrong(what: str, hint: str) -> DeclarationError:
    return DeclarationError(what, code="DP-DECL-050", hint=hint)
