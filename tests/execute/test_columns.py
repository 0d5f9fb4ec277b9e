# SPDX-License-Identifier: Apache-2.0
"""Column lineage as recorded by runs, held against what changes when an input column changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl
import polars.selectors as cs

from datapipe import Pipeline, RowStage, Stage, Yield
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.execute.columns import planned_edges
from datapipe.stages import ExactDuplicates, ReadParquet


@dataclass(frozen=True)
class Sums(RowStage):
    name: ClassVar[str] = "test.sums"

    def columns(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {"s": pl.col("a") + pl.col("b"), "a": pl.col("a"), "one": pl.lit(1)}

    def set_aside(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {"too large": pl.col("c") > 90}


@dataclass(frozen=True)
class Twice(RowStage):
    name: ClassVar[str] = "test.twice"

    def columns(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {"s": pl.col("s") * 2}


@dataclass(frozen=True)
class Own(Stage):
    name: ClassVar[str] = "test.own"

    def run(self, data: Dataset, context: Context) -> Yield:
        return Yield(data.with_frame(data.scan(row_id=True).with_columns(z=pl.lit(0))))


def test_edges_are_those_of_the_plan(tmp_path: Path):
    pl.DataFrame({"a": [1, 2], "b": [3, 4], "c": [5, 99]}).write_parquet(tmp_path / "t.parquet")
    stages = [ReadParquet(str(tmp_path / "t.parquet")), Sums(), Twice(), ExactDuplicates(), Own()]
    run = Pipeline("p", stages).run(seed=1, store=str(tmp_path / "s"))
    told = run.sql("select stage, column_out, column_in, how from column_lineage").rows()
    everything = ("*", "*", "copied")
    assert set(told) == {
        ("ingest.parquet", *everything),
        ("test.sums", *everything),
        ("test.sums", "*", "c", "filtered"),
        ("test.sums", "s", "a", "derived"),
        ("test.sums", "s", "b", "derived"),
        ("test.sums", "a", "a", "copied"),
        ("test.sums", "one", "", "derived"),
        ("test.twice", *everything),
        ("test.twice", "s", "s", "derived"),
        ("dedup.exact", *everything),
    }


def test_columns_that_a_selector_stands_for_are_named():
    types = {"a": pl.Int64(), "b": pl.Int64(), "t": pl.String(), "s": pl.Struct({"u": pl.Int64})}
    asked = {
        "sum": (pl.sum_horizontal(cs.numeric()), "ab"),
        "pattern": (pl.concat_str(pl.col("^[at]$")), "at"),
        "but": (pl.struct(pl.all().exclude("s")), "abt"),
        "first": (pl.first() + 1, "a"),
        "place": (pl.nth(2), "t"),
        "choice": (pl.when(cs.by_name("a") > 1).then("b").otherwise(0), "ab"),
        "field": (pl.col("s").struct.field("u"), "s"),
        "own": (pl.col("b").map_elements(abs, return_dtype=pl.Int64), "b"),
        "constant": (pl.lit(1), ""),
    }
    made = {name: expression for name, (expression, _) in asked.items()}
    leaves = {"zero": pl.any_horizontal(cs.numeric() == 0)}
    methods = {"columns": lambda *_: made, "set_aside": lambda *_: leaves}
    (edges,) = planned_edges([type("Asks", (RowStage,), methods)()], Roles(), types)
    for name, (_, roots) in asked.items():
        told = {made_from for out, made_from, _ in edges if out == name}
        assert told == (set(roots) or {""}), name
    assert [e for e in edges if e[2] == "filtered"] == [
        ("*", "a", "filtered"),
        ("*", "b", "filtered"),
    ]
