# SPDX-License-Identifier: Apache-2.0
"""The fused plan gives the same rows and reasons as running the stages one after the other."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import ROW_ID, Roles
from datapipe.core.stage import RowStage
from datapipe.execute.fuse import CODE, fuse


class NotNegative(RowStage):
    name = "demo.not_negative"

    def set_aside(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {"negative": pl.col("a") < 0, "zero": pl.col("a") == 0}


class Half(RowStage):
    name = "demo.half"

    def columns(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {"a": pl.col("a") // 2, "odd": pl.col("a") % 2 == 1}


class Small(RowStage):
    name = "demo.small"

    def set_aside(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {"large": pl.col("a") > 10, "odd before": pl.col("odd")}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(-5, 60)), max_size=40))
def test_fused_equals_one_by_one(values: list[int | None]) -> None:
    data = Dataset.of(pa.table({"a": pa.array(values, pa.int64())}))
    stages = [NotNegative(), Half(), Small()]
    fused = fuse(data, stages)
    expected: list[tuple[int, str]] = []
    now = data
    for stage in stages:
        made = stage.run(now, Context(0, Path()))
        assert made.data is not None
        assert made.set_aside is not None
        expected += made.set_aside.select("row_id", "reason").rows()
        now = made.data
    assert fused.dropped is not None
    told = [
        (row, fused.reasons[code][1])
        for row, code in fused.dropped.select("row_id", CODE).collect().rows()
    ]
    assert sorted(told) == sorted(expected)
    assert fused.kept.collect().equals(now.frame(row_id=True))
    assert fused.kept.collect()[ROW_ID].is_sorted()


def test_a_null_condition_keeps_the_row() -> None:
    data = Dataset.of(pa.table({"a": pa.array([None, 1], pa.int64())}))
    fused = fuse(data, [NotNegative()])
    assert fused.kept.collect()["a"].to_list() == [None, 1]
