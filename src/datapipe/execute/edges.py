# SPDX-License-Identifier: Apache-2.0
"""How rows of a result hang together with the rows before, where that is not one to one.

A stage that joins, multiplies or draws rows gives back a data set of its own and owes nobody an
account: what it did is read off the ids and ancestors of the rows before and after. Rows that are
in neither the result nor a reason given for leaving are recorded as left out, so that none is lost
silently; of the others only differences are kept, and a plain filter keeps none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import ANCESTORS, ROW_ID

LEFT_OUT = "not in what the stage gave back"
MERGED = "made part of other rows"
_PAIR = ["row_id", "made_from"]


@dataclass(frozen=True, eq=False)
class Woven:
    """What a step did to rows beside setting them aside.

    Args:
        left_out: Rows that nobody gave a reason for: `row_id`, `reason`.
        edges: `row_id`, `made_from`, `lines`: by how much the lines of `row_id` that are made from
            `made_from` went up or down, those that were set aside already counted; the row itself
            stands for how often it is there.

    Example:
        >>> Woven.__name__
        'Woven'
    """

    left_out: pl.DataFrame
    edges: pl.DataFrame


def is_woven(data: Dataset) -> bool:
    """Whether rows say that they were made from others.

    Args:
        data: The rows.

    Returns:
        True when they have the hidden column of ancestors.

    Example:
        >>> import pyarrow as pa
        >>> is_woven(Dataset.of(pa.table({"a": [1]})))
        False
    """
    return ANCESTORS in data.scan(row_id=True).collect_schema()


def same_rows(before: Dataset, after: Dataset) -> bool:
    """Whether a data set is the one before, perhaps with other facts about its sources.

    Args:
        before: The rows a stage was given.
        after: What it gave back.

    Returns:
        True when both are one stored file, unchanged.

    Example:
        >>> import pyarrow as pa
        >>> rows = Dataset.of(pa.table({"a": [1]}))
        >>> same_rows(rows, rows)
        True
    """
    return before is after or (before.path is not None and before.path == after.path)


def woven(
    before: Dataset, after: Dataset, asides: Sequence[pl.Series], *, left_out: str = LEFT_OUT
) -> Woven:
    """Compare the rows before a step with those after it.

    Args:
        before: The rows it was given.
        after: The rows it passed on.
        asides: For each record of rows that were set aside between them, their ids.
        left_out: The reason for rows that are gone and that nobody gave a reason for.

    Returns:
        What else happened.

    Example:
        >>> ids = pl.Series(ROW_ID, [1, 1, 3], dtype=pl.UInt64)
        >>> rows = pl.LazyFrame({ROW_ID: pl.Series([1, 2, 3, 4], dtype=pl.UInt64)})
        >>> told = woven(Dataset(rows), Dataset(pl.LazyFrame({ROW_ID: ids})), [ids[:0]])
        >>> told.left_out["row_id"].to_list(), told.edges.rows()
        ([2, 4], [(1, 1, 1)])
    """
    was, now = _lines(before), _lines(after)
    own = pl.col("row_id") == pl.col("made_from")
    both = was.join(now, on=_PAIR, how="full", coalesce=True, suffix="_now").with_columns(
        pl.col("lines", "lines_now").fill_null(0)
    )
    ids = [s.cast(pl.UInt64).unique().alias("row_id").to_frame() for s in asides]
    told = pl.concat([pl.DataFrame(schema={"row_id": pl.UInt64}), *ids])
    gone = both.filter(own & (pl.col("lines") > 0) & (pl.col("lines_now") == 0))
    gone = gone.select("row_id").join(told, on="row_id", how="anti").sort("row_id")
    parts = now.filter(pl.col("row_id") != pl.col("made_from"))["made_from"].unique()
    merged = pl.col("row_id").is_in(parts.implode())
    reason = pl.when(merged).then(pl.lit(MERGED)).otherwise(pl.lit(left_out))
    drops = pl.concat([told, gone]).group_by("row_id").agg(pl.len().cast(pl.Int64).alias("told"))
    here = pl.col("row_id").is_in(now.filter(own)["row_id"].implode())
    moved = both.filter(own | here).join(drops, on="row_id", how="left")
    told_of = pl.when(own).then(pl.col("told").fill_null(0)).otherwise(0)
    # A row that was not there before counts as one that was: its first line is no difference.
    first = (own & (pl.col("lines") == 0)).cast(pl.Int64)
    delta = pl.col("lines_now") - pl.col("lines") + told_of - first
    edges = moved.select(*_PAIR, delta.alias("lines")).filter(pl.col("lines") != 0).sort(_PAIR)
    return Woven(gone.with_columns(reason.alias("reason")), edges)


def _lines(data: Dataset) -> pl.DataFrame:
    """How many lines of each row are made from each row, itself included."""
    frame = data.scan(row_id=True)
    row_id = pl.col(ROW_ID).alias("row_id")
    pairs = [frame.select(row_id, pl.col(ROW_ID).alias("made_from"))]
    if is_woven(data):
        other = frame.select(row_id, pl.col(ANCESTORS).list.unique().alias("made_from"))
        other = other.explode("made_from", empty_as_null=True, keep_nulls=True).drop_nulls()
        pairs.append(other.filter(pl.col("row_id") != pl.col("made_from")))
    counted = pl.concat(pairs).group_by(_PAIR).agg(pl.len().cast(pl.Int64).alias("lines"))
    return counted.collect(engine="streaming")
