# SPDX-License-Identifier: Apache-2.0
"""What rows were made from, and what that says about them: source, licence, consent, synthetic.

A row keeps its id through filters, explodes and resampling, so its source is known for ever. Only a
join makes a row from several; it says so in the hidden column of ancestors. What is declared about
a source holds for whatever derives from its rows: one synthetic ancestor makes a row synthetic, one
refusal of consent refuses it, and the licences of all ancestors hold at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import ANCESTORS, HIDDEN, ORDINAL_BITS, ROW_ID

_IDS = pl.List(pl.UInt64)
_OTHER = "_other"


def joined(
    left: pl.LazyFrame,
    right: pl.LazyFrame,
    *,
    on: str | Sequence[str],
    how: Literal["inner", "left"] = "inner",
    suffix: str = "_right",
) -> pl.LazyFrame:
    """Join two tables so that every row still knows all the rows it was made from.

    A row keeps the id of its left part; the right part and its ancestors become ancestors.

    Args:
        left: Rows with the hidden columns, as `Dataset.scan(row_id=True)` gives them.
        right: The same.
        on: The columns that must agree.
        how: `inner`, or `left` to keep left rows without a partner.
        suffix: Added to names of right columns that the left has too.

    Returns:
        The joined rows with both hidden columns, in the order of the left.

    Example:
        >>> ids = pl.Series("_row_id", [1 << 40, 2 << 40], dtype=pl.UInt64)
        >>> people = pl.LazyFrame({"_row_id": ids[:1], "k": [1], "name": ["ada"]})
        >>> texts = pl.LazyFrame({"_row_id": ids[1:], "k": [1], "text": ["hello"]})
        >>> joined(texts, people, on="k").select("_row_id", "_row_ancestors").collect().rows()
        [(2199023255552, [1099511627776])]
    """
    known = right.collect_schema().names()
    older = pl.col(ANCESTORS) if ANCESTORS in known else pl.lit([], dtype=_IDS)
    partner = right.with_columns(pl.concat_list(pl.col(ROW_ID), older).cast(_IDS).alias(_OTHER))
    partner = partner.drop([ROW_ID, *([ANCESTORS] if ANCESTORS in known else [])])
    made = left.join(partner, on=on, how=how, suffix=suffix, maintain_order="left_right")
    before = left.collect_schema().names()
    held = pl.col(ANCESTORS) if ANCESTORS in before else pl.lit([], dtype=_IDS)
    other = pl.col(_OTHER).fill_null(pl.lit([], dtype=_IDS))
    return made.with_columns(pl.concat_list(held, other).cast(_IDS).alias(ANCESTORS)).drop(_OTHER)


def made_from(data: Dataset) -> pl.DataFrame:
    """All rows that each row was made from, itself included.

    Args:
        data: The rows.

    Returns:
        `row_id` uint64 and `ancestors` list of uint64, ascending and each once; in row order.

    Example:
        >>> import pyarrow as pa
        >>> made_from(Dataset.of(pa.table({"a": [1]}))).rows()
        [(0, [0])]
    """
    frame = origins(data)
    older = pl.col(ANCESTORS) if ANCESTORS in frame.columns else pl.lit([], dtype=_IDS)
    every = pl.concat_list(pl.col(ROW_ID), older).cast(_IDS).list.unique().list.sort()
    return frame.select(pl.col(ROW_ID).alias("row_id"), every.alias("ancestors"))


def labels(data: Dataset) -> pl.DataFrame:
    """What is declared about every row, by the sources of all rows that it was made from.

    Args:
        data: The rows, with the facts of their sources.

    Returns:
        A line for every row, in row order: `row_id`; `sources`, numbers ascending; `licences`,
        distinct, an empty text where a source declares none; `consent`, `denied` when any source
        denies it, `granted` when all grant it, else empty; `synthetic`, true when any source is,
        false when all are declared not to be, else null; `generators`, distinct names.

    Example:
        >>> from datapipe.core.source import Source
        >>> rows = pl.LazyFrame({"_row_id": pl.Series([1 << 40], dtype=pl.UInt64), "t": ["a"]})
        >>> made = Dataset(rows, sources=[Source("s", "s.csv", number=1, synthetic=True)])
        >>> labels(made).select("sources", "consent", "synthetic").rows()
        [([1], '', True)]
    """
    facts = pl.DataFrame(
        {
            "source": pl.Series([s.number for s in data.sources], dtype=pl.Int64),
            "licence": pl.Series([s.licence for s in data.sources], dtype=pl.String),
            "consent": pl.Series([s.consent for s in data.sources], dtype=pl.String),
            "synthetic": pl.Series([s.synthetic for s in data.sources], dtype=pl.Boolean),
            "generator": pl.Series([s.generator for s in data.sources], dtype=pl.String),
        }
    ).unique("source", keep="last")
    rows = origins(data)
    owner = source_number(pl.col(ROW_ID))
    every = pl.concat_list(owner)
    if ANCESTORS in rows.columns:
        every = every.list.concat(pl.col(ANCESTORS).list.eval(source_number(pl.element())))
    # Few sets of sources stand behind many rows: what a set says is found once.
    sets = every.list.unique().list.sort()
    key = sets.list.eval(pl.element().cast(pl.String)).list.join(" ")
    held = rows.lazy().select(pl.col(ROW_ID).alias("row_id"), key.alias("key"), sources=sets)
    each = held.select("key", pl.col("sources").alias("source")).unique("key").explode("source")
    told = each.join(facts.lazy(), on="source", how="left").with_columns(
        pl.col("licence", "consent", "generator").fill_null("")
    )
    consent, synthetic = pl.col("consent"), pl.col("synthetic")
    label = told.group_by("key").agg(
        pl.col("licence").unique().sort().alias("licences"),
        pl.when((consent == "denied").any())
        .then(pl.lit("denied"))
        .when((consent == "granted").all())
        .then(pl.lit("granted"))
        .otherwise(pl.lit(""))
        .alias("consent"),
        pl.when(synthetic.fill_null(value=False).any())
        .then(pl.lit(value=True))
        .when(synthetic.is_not_null().all())
        .then(pl.lit(value=False))
        .alias("synthetic"),
        pl.col("generator").filter(pl.col("generator") != "").unique().sort().alias("generators"),
    )
    return held.join(label, on="key", how="left", maintain_order="left").drop("key").collect()


def origins(data: Dataset) -> pl.DataFrame:
    """The hidden columns of the rows: what each was made from, and nothing else is read.

    Args:
        data: The rows.

    Returns:
        `_row_id`, and `_row_ancestors` where rows were joined; in row order.

    Example:
        >>> import pyarrow as pa
        >>> origins(Dataset.of(pa.table({"a": [1]}))).columns
        ['_row_id']
    """
    frame = data.scan(row_id=True)
    held = [name for name in HIDDEN if name in frame.collect_schema()]
    return frame.select(held).collect(engine="streaming")


def source_number(row_id: pl.Expr) -> pl.Expr:
    """The number of the source that a row id carries.

    Args:
        row_id: Row ids, uint64.

    Returns:
        An expression, int64.

    Example:
        >>> pl.select(source_number(pl.lit(3 << 40, dtype=pl.UInt64))).item()
        3
    """
    return (row_id // (1 << ORDINAL_BITS)).cast(pl.Int64)
