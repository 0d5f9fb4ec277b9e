# SPDX-License-Identifier: Apache-2.0
"""Facts of a source become facts of its rows: a row's id carries the number of its source."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import scored_rows
from datapipe.core.roles import ORDINAL_BITS
from datapipe.core.source import Source


def owners(row_ids: pl.Series) -> pl.Series:
    """The number of the source of each row, int64."""
    return (
        row_ids.to_frame("id").select((pl.col("id") // 2**ORDINAL_BITS).cast(pl.Int64)).to_series()
    )


def present(sources: Sequence[Source], row_ids: pl.Series) -> list[Source]:
    """The sources of which a row is left; a source whose rows all left breaks no rule."""
    numbers = set(owners(row_ids).unique())
    return [s for s in sources if s.number in numbers]


def rows_of(row_ids: pl.Series, numbers: Collection[int], reason: str) -> pl.DataFrame:
    """A line for every row, those of the given sources flagged with score 1."""
    hit = owners(row_ids).is_in(sorted(numbers))
    return scored_rows(row_ids, hit.cast(pl.Float64), flagged=hit, reason=reason)


def share(rows: pl.DataFrame) -> Estimate:
    """The share of flagged rows, counted over all rows."""
    if not rows.height:
        return Estimate.unknown(method="no rows")
    return Estimate.exact(int(rows["flagged"].sum()) / rows.height, n=rows.height)


def with_sources(data: Dataset, sources: Sequence[Source]) -> Dataset:
    """The same rows with other facts about their sources; nothing is read or stored again."""
    return Dataset(
        data.scan(row_id=True),
        data.roles,
        sources=sources,
        path=data.path,
        digest=data.digest if data.path is not None else "",
        rows=len(data),
    )


def named(sources: Sequence[Source], *, most: int = 5) -> str:
    """The names of some sources, for a sentence."""
    shown = ", ".join(s.name for s in sources[:most])
    return shown + (f" and {len(sources) - most} more" if len(sources) > most else "")
