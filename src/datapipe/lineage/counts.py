# SPDX-License-Identifier: Apache-2.0
"""Sums over what records name row by row, so that no question about a whole data set scans rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datapipe.lineage.schema import text

if TYPE_CHECKING:
    import duckdb

MOST_REASONS = 256
"""A step that gives more reasons has its rows counted without them."""
LETTERS = 90
"""A step that gives more reasons has no blocks: a reason is one printable letter in them."""

_COUNTS = """
insert into row_drop_counts
select $seq, row_id >> 40 as source_no, $each as reason, count(*), $again,
       min(row_id & 1099511627775), max(row_id & 1099511627775)
from row_drops d $earlier
where d.seq = $seq
group by all order by all
"""
_REASONS = """
select seq, count(*) from (select distinct seq, reason from row_drops where seq in ($seqs))
group by seq
"""
_EARLIER = """
select distinct a.seq, b.seq
from row_drop_steps a
join steps sa on sa.step_id = a.step_id
join row_drop_steps b on b.run_id = a.run_id and b.seq < a.seq
join steps sb on sb.step_id = b.step_id
             and coalesce(sa.branch_group, sb.branch_group, 0)
               = coalesce(sb.branch_group, sa.branch_group, 0)
where a.seq in ($seqs)
"""
"""What was set aside before, beside a step: rows that both left out count once."""
_LEFT_BEFORE = """
left join (select distinct row_id from row_drops where seq in ($steps)) e using (row_id)"""
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
  where d.seq = $seq group by all
)
select $seq, block, taken, codes, (select to_json(list(reason order by reason)) from words)
from blocks order by block
"""
_BLOCKS_ALIKE = """
insert into row_drop_blocks
select $seq, row_id >> 13 as block, bitstring_agg((row_id & 8191)::int, 0, 8191),
       repeat(chr(35), count(*)), to_json([any_value(reason)])
from row_drops where seq = $seq group by all order by block
"""
"""The same of rows that left for one reason: nothing has to be sorted."""
_NO_BLOCKS = """
delete from row_drop_blocks where seq in (
  select seq from row_drop_blocks where seq in ($seqs) and bit_count(taken) <> length(codes))
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
from $lost l join datasets d using (digest, run_id)
where d.seq > $after and $wanted order by all
""",
    "models": """
insert into model_loss_counts
select l.seq, l.model_id, l.digest, l.dataset_run, l.source_no, l.rows
from $lost l
where l.seq > $after and $wanted order by all
""",
}
_TOLD = {"datasets": "dataset_losses.sql", "models": "model_losses.sql"}
"""What was lost, counted row by row where need be."""
_PLAIN = """(
  select a.digest, a.run_id, l.source_no, sum(l.rows)::bigint as rows
  from dataset_ancestors a join step_losses l using (step_id) group by all
)"""
"""What it tells where nothing was erased, joined or multiplied: a third of the time to plan."""
FEW = 8
"""So many data sets are named in the question, which then looks at nothing else."""


def count_rows(connection: duckdb.DuckDBPyConnection, added: Sequence[tuple[str, int]]) -> None:
    """Sum up what was added row by row.

    Args:
        connection: Open for writing, within a transaction.
        added: `row_drops` or `model_held_out`, and the journal record that named the rows.

    Example:
        >>> import duckdb
        >>> count_rows(duckdb.connect(), [])
    """
    for kind, seq in added:
        if kind != "row_drops":
            connection.execute(_HELD_COUNTS, {"seq": seq})
    drops = [seq for kind, seq in added if kind == "row_drops"]
    if drops:
        _count_drops(connection, drops)


def _count_drops(connection: duckdb.DuckDBPyConnection, seqs: Sequence[int]) -> None:
    """What steps set aside, by source and reason and by block; most steps have one reason.

    What is small is asked of all of them at once: to plan a question takes longer than to answer.
    """
    listed = ", ".join(map(str, seqs))
    reasons = dict(connection.execute(_REASONS.replace("$seqs", listed)).fetchall())
    before: dict[int, list[str]] = {}
    for seq, earlier in connection.execute(_EARLIER.replace("$seqs", listed)).fetchall():
        before.setdefault(seq, []).append(str(earlier))
    for seq in seqs:
        each = "reason" if reasons.get(seq, 0) <= MOST_REASONS else "null"
        query = _COUNTS.replace("$each", each)
        query = query.replace("$again", "count(e.row_id)" if seq in before else "0")
        left = _LEFT_BEFORE.replace("$steps", ", ".join(before[seq])) if seq in before else ""
        connection.execute(query.replace("$earlier", left), {"seq": seq})
        if reasons.get(seq, 0) <= LETTERS:
            connection.execute(_BLOCKS if reasons.get(seq, 0) > 1 else _BLOCKS_ALIKE, {"seq": seq})
    connection.execute(_NO_BLOCKS.replace("$seqs", listed))


def _holds(connection: duckdb.DuckDBPyConnection, table: str) -> bool:
    return connection.execute(f"from {table} limit 1").fetchone() is not None


def count_losses(connection: duckdb.DuckDBPyConnection, after: int) -> None:
    """Count what each new data set and model has lost; where nothing was lost there is no line.

    Args:
        connection: Open for writing, within a transaction, tables and views made.
        after: The last journal record that was there before.

    Example:
        >>> import duckdb
        >>> from datapipe.lineage.load import make
        >>> with duckdb.connect() as connection:
        ...     make(connection)
        ...     count_losses(connection, 0)
    """
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
            told = _PLAIN if plain and kind == "datasets" else f"({text(_TOLD[kind])})"
            query = query.replace("$lost", told)
            connection.execute(query, {"after": after})
