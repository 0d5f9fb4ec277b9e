# SPDX-License-Identifier: Apache-2.0
"""The fused plan gives the same rows and reasons as running the stages one after the other."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import ROW_ID, Roles
from datapipe.core.stage import RowStage
from datapipe.errors import DeclarationError
from datapipe.execute.fuse import CODE, Fused, fuse


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


def asks(name: str, columns: dict[str, pl.Expr] | None = None, **leaves: pl.Expr) -> RowStage:
    made = {"name": name, "columns": lambda *_: columns or {}, "set_aside": lambda *_: leaves}
    return type("Asks", (RowStage,), made)()


def told(fused: Fused) -> list[tuple[int, str]]:
    left = fused.left()
    assert left is not None
    return [(row, fused.reasons[code][1]) for row, code in left.select("row_id", CODE).rows()]


def test_nothing_is_computed_for_rows_that_have_left() -> None:
    rows = pl.DataFrame({"t": ["1", "x", "-3", "4", None]})
    number = pl.col("t").cast(pl.Int64)
    stages = [
        asks("a.a", words=~pl.col("t").str.contains(r"^-?\d+$")),
        asks("a.b", {"n": number}, four=number == 4),
        asks("a.c", low=pl.col("n") < 0),
    ]
    fused = fuse(Dataset.of(rows), stages)
    assert fused.kept.collect()["n"].to_list() == [1, None]
    assert told(fused) == [(1, "words"), (2, "low"), (3, "four")]


def test_columns_may_have_any_name() -> None:
    rows = pl.DataFrame({"_reason": [1, 2, 3], "_holds": [1, 0, 1]})
    stages = [
        asks("a.a", one=pl.col("_reason") == 1),
        asks("a.b", {"__reason": pl.lit(0)}, zero=pl.min_horizontal(pl.all()) == 0),
    ]
    fused = fuse(Dataset.of(rows), stages)
    assert told(fused) == [(0, "one"), (1, "zero")]
    assert fused.kept.collect().rows() == [(2, 3, 1, 0)]
    apart = fused.apart
    assert apart is not None
    assert apart.collect().rows() == [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        (asks("a.b", dup=pl.col("a").is_duplicated()), "the condition 'dup' looks at more"),
        (asks("a.b", {"m": pl.col("a") - pl.col("a").mean()}), "the column 'm' looks at more"),
        (asks("a.b", {ROW_ID: pl.lit(7)}), "makes the column '_row_id'"),
        (asks("a.b", {"m": 3}), "is of type int, no expression"),
    ],
)
def test_what_is_not_about_one_row_is_refused(refused: RowStage, says: str) -> None:
    with pytest.raises(DeclarationError, match=f"^a.b.*{says}"):
        fuse(Dataset.of(pl.DataFrame({"a": [1]})), [refused])
