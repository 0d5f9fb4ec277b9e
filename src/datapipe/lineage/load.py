# SPDX-License-Identifier: Apache-2.0
"""Records of the journal as lines of the index."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datapipe.core.digest import PREFIX, digest_file
from datapipe.errors import TrustError
from datapipe.lineage import schema
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
    connection.execute(schema.text("schema.sql"))
    connection.execute(schema.text("views.sql"))
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
    _count(connection, added)
    _count_losses(connection, newest)


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


_COUNTS = """
insert into row_drop_counts
with mine as (
  select seq, row_id >> 40 as source_no, row_id & 1099511627775 as ordinal, row_id, reason
  from row_drops where seq = $seq
),
told as (select count(distinct reason) <= 256 as each from mine),
earlier as (
  select distinct d.row_id
  from row_drop_steps a
  join steps sa on sa.step_id = a.step_id
  join row_drop_steps b on b.run_id = a.run_id and b.seq < a.seq
  join steps sb on sb.step_id = b.step_id
               and coalesce(sa.branch_group, sb.branch_group, 0)
                 = coalesce(sb.branch_group, sa.branch_group, 0)
  join row_drops d on d.seq = b.seq
  where a.seq = $seq
)
select seq, source_no, case when told.each then reason end as reason, count(*),
       count(earlier.row_id), min(ordinal), max(ordinal)
from mine cross join told left join earlier using (row_id)
group by all order by all
"""
_BLOCKS = """
insert into row_drop_blocks
with words as (
  select reason, chr((34 + row_number() over (order by reason))::int) as letter
  from (select distinct reason from row_drops where seq = $seq)
),
blocks as (
  select d.row_id >> 13 as block, bitstring_agg((d.row_id & 8191)::int, 0, 8191) as taken,
         string_agg(w.letter, '' order by d.row_id) as codes
  from row_drops d join words w on w.reason is not distinct from d.reason
  where d.seq = $seq and (select count(*) <= 90 from words) group by all
)
select $seq, block, taken, codes, (select to_json(list(reason order by reason)) from words)
from blocks order by block
"""
_NO_BLOCKS = """
delete from row_drop_blocks where seq = $seq and exists (
  from row_drop_blocks where seq = $seq and bit_count(taken) <> length(codes))
"""
"""A row that a record names twice has one place and two letters: such a record is scanned."""
_HELD_COUNTS = """
insert into model_held_out_counts
select seq, model_id, row_id >> 40 as source_no, count(*), min(row_id & 1099511627775),
       max(row_id & 1099511627775)
from model_held_out where seq = $seq group by all order by all
"""


_LOSSES = {
    "datasets": """
insert into dataset_loss_counts
select d.seq, l.digest, l.run_id, l.source_no, l.rows
from counted_losses() l join datasets d using (digest, run_id)
where d.seq > $after and $wanted order by all
""",
    "models": """
insert into model_loss_counts
select m.seq, l.model_id, l.digest, l.dataset_run, l.source_no, l.rows
from counted_model_losses() l
join model_inputs i using (model_id, digest, dataset_run)
join models m on m.model_id = i.model_id and m.run_id = i.run_id  -- a reused model has a line a run
where m.seq > $after and $wanted order by all
""",
}
_PLAIN = """(
  select a.digest, a.run_id, l.source_no, sum(l.rows)::bigint as rows
  from dataset_ancestors a join step_losses l using (step_id) group by all
)"""
"""counted_losses() where nothing was erased, joined or multiplied: a third of the time to plan."""
FEW = 8
"""So many data sets are named in the question, which then looks at nothing else."""


def _count(connection: duckdb.DuckDBPyConnection, added: list[tuple[str, int]]) -> None:
    """Sum up what was added row by row, so that no question about a whole data set scans rows."""
    for kind, seq in added:
        for query in (_COUNTS, _BLOCKS, _NO_BLOCKS) if kind == "row_drops" else (_HELD_COUNTS,):
            connection.execute(query, {"seq": seq})


def _holds(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    return connection.execute(f"from {table} limit 1").fetchone() is not None


def _count_losses(connection: duckdb.DuckDBPyConnection, after: int) -> None:
    """Count what each new data set and model has lost; where nothing was lost there is no line."""
    lossy = ("row_drop_steps", "row_edges", "model_held_out_counts")
    if not any(_holds(connection, table) for table in lossy):
        return
    plain = not any(_holds(connection, table) for table in ("erasures", "row_edges"))
    for kind, name in (("datasets", "digest"), ("models", "model_id")):
        new = f"select distinct {name} from {kind} where seq > $after"  # noqa: S608 - our names
        found = [one for (one,) in connection.execute(new, {"after": after}).fetchall()]
        if found:
            quoted = ", ".join("'" + str(one).replace("'", "''") + "'" for one in found)
            wanted = f"l.{name} in ({quoted})" if len(found) <= FEW else "true"
            query = _LOSSES[kind].replace("$wanted", wanted)
            query = query.replace("counted_losses()", _PLAIN) if plain else query
            connection.execute(query, {"after": after})
