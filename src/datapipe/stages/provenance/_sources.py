# SPDX-License-Identifier: Apache-2.0
"""Facts of a source become facts of its rows, and of all that was joined from them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import polars as pl

from datapipe.core.ancestry import source_number
from datapipe.core.estimate import Estimate
from datapipe.core.finding import scored_rows
from datapipe.core.roles import ANCESTORS, ROW_ID
from datapipe.core.source import Source


def present(sources: Sequence[Source], rows: pl.DataFrame) -> list[Source]:
    """The sources of which a row is left, or a part of one; the others break no rule.

    Args:
        sources: All that are known.
        rows: The rows' `origins`.
    """
    numbers = set(rows.select(source_number(pl.col(ROW_ID)).unique()).to_series())
    if ANCESTORS in rows.columns:
        parts = rows.select(pl.col(ANCESTORS).explode().drop_nulls())
        numbers |= set(parts.select(source_number(pl.col(ANCESTORS)).unique()).to_series())
    return [s for s in sources if s.number in numbers]


def rows_of(rows: pl.DataFrame, numbers: Collection[int], reason: str) -> pl.DataFrame:
    """A line for every row; those made from a row of the given sources flagged with score 1.

    Args:
        rows: The rows' `origins`.
        numbers: The sources' numbers.
        reason: Why they are flagged.
    """
    wanted = sorted(numbers)
    hit = source_number(pl.col(ROW_ID)).is_in(wanted)
    if ANCESTORS in rows.columns:
        parts = pl.col(ANCESTORS).list.eval(source_number(pl.element()).is_in(wanted)).list.any()
        hit = hit | parts.fill_null(value=False)
    flagged = rows.select(hit=hit)["hit"]
    return scored_rows(rows[ROW_ID], flagged.cast(pl.Float64), flagged=flagged, reason=reason)


def share(rows: pl.DataFrame) -> Estimate:
    """The share of flagged rows, counted over all rows."""
    if not rows.height:
        return Estimate.unknown(method="no rows")
    return Estimate.exact(int(rows["flagged"].sum()) / rows.height, n=rows.height)


def named(sources: Sequence[Source], *, most: int = 5) -> str:
    """The names of some sources, for a sentence."""
    shown = ", ".join(s.name for s in sources[:most])
    return shown + (f" and {len(sources) - most} more" if len(sources) > most else "")
