# SPDX-License-Identifier: Apache-2.0
"""Consecutive row stages as one streaming polars plan, with the reason of every row that leaves.

The plan is built twice from the same expressions: once to keep rows, once (pruned by polars to the
columns the conditions read) to say why the others left. Both read one scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from datapipe.core.dataset import Dataset
from datapipe.core.roles import HIDDEN, ROW_ID, Roles
from datapipe.core.stage import RowStage

CODE = "_reason"


@dataclass(frozen=True)
class Fused:
    """Row stages compiled to one plan.

    Args:
        kept: The rows that stay, hidden column first.
        dropped: `row_id` uint64 and `_reason` uint16 of the rows that leave; None when none can.
        reasons: Code to (index of the stage, reason); codes count from 1.
        roles: The roles after the last stage.

    Example:
        >>> import pyarrow as pa
        >>> fused = fuse(Dataset.of(pa.table({"a": [1]})), [RowStage()])
        >>> fused.dropped is None, fused.reasons
        (True, {})
    """

    kept: pl.LazyFrame
    dropped: pl.LazyFrame | None
    reasons: dict[int, tuple[int, str]]
    roles: Roles


def fuse(data: Dataset, stages: Sequence[RowStage]) -> Fused:
    """Compile row stages, in order, over a data set.

    Args:
        data: The rows; nothing is read.
        stages: The row stages.

    Returns:
        The plans.

    Example:
        >>> import pyarrow as pa
        >>> class Positive(RowStage):
        ...     name = "demo.positive"
        ...     def set_aside(self, roles, types):
        ...         return {"negative": pl.col("a") < 0}
        >>> fused = fuse(Dataset.of(pa.table({"a": [1, -1]})), [Positive()])
        >>> fused.kept.collect()["a"].to_list(), fused.dropped.collect().rows()
        ([1], [(1, 1)])
    """
    kept = data.scan(row_id=True)
    marked = kept.with_columns(pl.lit(0, dtype=pl.UInt16).alias(CODE))
    reasons: dict[int, tuple[int, str]] = {}
    roles = data.roles
    for place, stage in enumerate(stages):
        types = kept.collect_schema()
        visible = pl.Schema({n: t for n, t in types.items() if n not in HIDDEN})
        for reason, condition in stage.set_aside(roles, visible).items():
            leaves = condition.fill_null(value=False)
            code = len(reasons) + 1
            reasons[code] = (place, reason)
            still = pl.col(CODE) == 0
            marked = marked.with_columns(
                pl.when(still & leaves)
                .then(pl.lit(code, dtype=pl.UInt16))
                .otherwise(CODE)
                .alias(CODE)
            )
            kept = kept.filter(~leaves)
        made = stage.columns(roles, visible)
        if made:
            kept = kept.with_columns(**made)
            marked = marked.with_columns(**made)
    dropped = None
    if reasons:
        dropped = marked.select(pl.col(ROW_ID).alias("row_id"), CODE).filter(pl.col(CODE) > 0)
    return Fused(kept, dropped, reasons, roles)
