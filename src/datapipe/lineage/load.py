# SPDX-License-Identifier: Apache-2.0
"""Records of the journal as lines of the index."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datapipe.core.digest import PREFIX, digest_file
from datapipe.errors import DeclarationError, TrustError
from datapipe.lineage import schema
from datapipe.lineage.counts import count_losses, count_rows
from datapipe.lineage.erasures import Erasures
from datapipe.lineage.objects import Objects, bare
from datapipe.lineage.records import Record
from datapipe.lineage.sidecars import as_list, covered_by

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger("datapipe.lineage")

LINES_AT_ONCE = 20_000


def make(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the promised tables and views in an empty database.

    Args:
        connection: Open for writing.

    Example:
        >>> import duckdb
        >>> with duckdb.connect() as connection:
        ...     make(connection)
        ...     connection.sql("select count(*) from dropped_rows").fetchall()
        [(0,)]
    """
    connection.execute("begin")
    for name in ("schema.sql", "views.sql"):
        # one by one: given all of them at once, DuckDB reads most of them twice
        for statement in connection.extract_statements(schema.text(name)):
            connection.execute(statement)
    connection.execute("commit")


def fill(
    connection: duckdb.DuckDBPyConnection,
    records: Iterable[Record],
    objects: Objects,
    erasures: Erasures | None = None,
    *,
    accept_loss: bool = False,
) -> None:
    """Add records to the tables, each to its own and to the log.

    Args:
        connection: Open for writing, within a transaction.
        records: Records of the journal.
        objects: Where the rows that records name are kept.
        erasures: What was erased from the store, so that records name objects that are gone.
        accept_loss: Whether to leave out the rows of objects that are missing.

    Raises:
        TrustError: An object that a record names is missing or damaged.

    Example:
        >>> import duckdb
        >>> with duckdb.connect() as connection:
        ...     make(connection)
        ...     fill(connection, [], Objects(Path("nowhere"), Path("nowhere")))
    """
    held: dict[str, list[dict[str, Any]]] = {}
    added: list[tuple[str, int]] = []
    loaded = set(
        connection.execute("select distinct model_id, held_out_object from models").fetchall()
    )
    newest = connection.execute("select coalesce(max(seq), 0) from log_entries").fetchall()[0][0]
    for record in records:
        kind, body = record.kind, record.body
        line = schema.cells(kind, body, seq=record.seq, recorded_at=record.recorded_at)
        named = body.get("held_out_object") if kind == "models" else body.get("object")
        if named and erasures is not None:
            named = erasures.now(str(named), record.seq)
        if named and accept_loss and objects.find(str(named)) is None:
            log.warning("record %d: the rows of objects/%s are lost", record.seq, bare(str(named)))
            named = ""
        if kind in schema.FROM_OBJECT:
            _insert_object(connection, kind, line | {"object": named}, objects)
            if kind == "row_drops":
                added.append((kind, record.seq))
                owner = schema.cells("row_drop_steps", body, seq=record.seq, recorded_at="")
                held.setdefault("row_drop_steps", []).append(owner)
        else:
            held.setdefault(kind, []).append(line)
        if kind == "models" and (line["model_id"], line["held_out_object"]) not in loaded:
            loaded.add((line["model_id"], line["held_out_object"]))
            _insert_object(connection, "model_held_out", line | {"object": named}, objects)
            added.append(("model_held_out", record.seq))
        entry = {"seq": record.seq, "kind": kind, "leaf": record.leaf.hex()}
        entry["recorded_at"] = schema.moment(record.recorded_at)
        held.setdefault("log_entries", []).append(entry)
        if len(held["log_entries"]) >= LINES_AT_ONCE:
            _insert(connection, held)
    _insert(connection, held)
    count_rows(connection, added)
    count_losses(connection, newest)


def object_columns(kind: str) -> tuple[str, ...]:
    """The columns of a table whose values stand in a Parquet object.

    Args:
        kind: Name of a table.

    Returns:
        Their names, `row_id` first; empty for a table that holds its own values.

    Example:
        >>> object_columns("row_drops"), object_columns("runs")
        (('row_id', 'reason'), ())
    """
    return ("row_id",) if kind == "model_held_out" else schema.FROM_OBJECT.get(kind, ())


def check_named(objects: Objects, kind: str, body: Mapping[str, Any]) -> None:
    """Find the rows that a record names here, and such as can be indexed later.

    Args:
        objects: The store's objects.
        kind: Name of a table.
        body: What is to be recorded.

    Raises:
        DeclarationError: The object is missing, no Parquet file, or has no row ids.

    Example:
        >>> check_named(Objects(Path("nowhere"), Path("nowhere")), "runs", {"run_id": "r1"})
    """
    named = body.get("object") if kind in schema.FROM_OBJECT else None
    if kind == "models":
        named = body.get("held_out_object")
    if not named:
        return
    import pyarrow as pa  # noqa: PLC0415 - with it
    import pyarrow.parquet as pq  # noqa: PLC0415 - loads file systems and TLS

    path = objects.find(named)
    if path is None:
        raise DeclarationError(
            f"{kind} names the object {named}, which is not in the store",
            code="DP-DECL-055",
            hint="put the object first, then record it",
        )
    columns = object_columns("model_held_out" if kind == "models" else kind)
    try:
        there = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise DeclarationError(
            f"{kind} names the object {named}, which is no Parquet file",
            code="DP-DECL-055",
            hint=f"write a Parquet file with the columns {', '.join(columns)}",
        ) from error
    if "row_id" not in there and not (kind == "row_drops" and covered_by(path) is not None):
        raise DeclarationError(
            f"{kind} names the object {named}, which has no column row_id",
            code="DP-DECL-055",
            hint=f"write a Parquet file with the columns {', '.join(columns)}",
        )


def sound_object(objects: Objects, digest: str, named_by: str) -> Path:
    """The path of an object whose bytes still have the digest it is named by.

    Args:
        objects: The store's objects.
        digest: The digest a record names.
        named_by: Which record, for the message.

    Returns:
        Its path.

    Raises:
        TrustError: It is missing or its bytes have changed.

    Example:
        >>> import tempfile
        >>> home = Path(tempfile.mkdtemp())
        >>> objects = Objects(home / "objects", home / "tmp")
        >>> sound_object(objects, objects.put_bytes(b"abc")[0], "a test").is_file()
        True
    """
    path = objects.find(digest)
    if path is None:
        raise TrustError(
            f"objects/{bare(digest)} is missing, named by {named_by}",
            code="DP-TRUST-703",
            hint="restore it from a copy of the store",
            path=f"objects/{bare(digest)}",
        )
    if digest_file(path) != PREFIX + bare(digest):
        raise TrustError(
            f"{path} does not have the digest it is named by",
            code="DP-TRUST-704",
            hint="restore it from a copy of the store",
            path=str(path),
        )
    return path


def _insert(connection: duckdb.DuckDBPyConnection, held: dict[str, list[dict[str, Any]]]) -> None:
    for kind, lines in held.items():
        fields = ", ".join(f'"{c.name}" {c.type}' for c in schema.tables()[kind].columns)
        # Neither through polars, whose threads do not survive a fork (a child may open a store),
        # nor through pyarrow, which would import pandas where it is installed.
        given = f"select unnest($1::struct({fields})[], recursive := true)"
        connection.execute(f"insert into {kind} by name {given}", [lines])
    held.clear()


def _insert_object(
    connection: duckdb.DuckDBPyConnection, kind: str, line: dict[str, Any], objects: Objects
) -> None:
    """Add the rows of an object that a record names; only after its digest was checked."""
    import pyarrow.parquet as pq  # noqa: PLC0415 - loads file systems and TLS

    if not line["object"]:
        return
    path = sound_object(objects, line["object"], f"{kind} of record {line['seq']}")
    covered = covered_by(path)
    there = set(pq.read_schema(path).names) if covered is None else {"row_id", "reason"}
    parts: list[str] = []
    values: dict[str, Any] = {}
    for column in schema.tables()[kind].columns:
        if column.name in object_columns(kind) and column.name in there:
            parts.append(f'"{column.name}"::{column.type}')
        else:
            parts.append(f"${column.name}::{column.type}")
            values[column.name] = line.get(column.name)
    wanted = " where flagged or action <> ''" if kind == "row_findings" else ""
    quoted = str(path).replace("'", "''")
    given = f"read_parquet('{quoted}')" if covered is None else f"({as_list(path, covered)})"
    rows = f"select {', '.join(parts)} from {given}{wanted}"  # noqa: S608 - our names
    connection.execute(f"insert into {kind} {rows}", values)
