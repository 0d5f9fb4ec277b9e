# SPDX-License-Identifier: Apache-2.0
"""Column lineage as recorded by runs, held against what changes when an input column changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import polars.selectors as cs
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

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


@dataclass(frozen=True)
class Given(RowStage):
    """A row stage of expressions that were made at random."""

    made: tuple[tuple[str, pl.Expr], ...] = ()
    left_out: tuple[pl.Expr, ...] = ()

    name: ClassVar[str] = "test.given"

    def columns(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return dict(self.made)

    def set_aside(self, roles: Roles, types: pl.Schema) -> dict[str, pl.Expr]:
        return {f"reason {i}": each for i, each in enumerate(self.left_out)}


def expression(chance: np.random.Generator, names: list[str], depth: int = 2) -> pl.Expr:
    """A computation over some of the columns."""
    kind = int(chance.integers(7 if depth else 2))
    below = [expression(chance, names, depth - 1) for _ in range(3)] if kind > 1 else []
    picked = [str(n) for n in chance.choice(names, size=2)]
    if kind == 0:
        return pl.lit(int(chance.integers(9)))
    if kind == 1:
        return pl.col(picked[0])
    first, second, third = below
    ways = (
        first * 3 + second,
        pl.when(first > 4).then(second).otherwise(third),
        pl.sum_horizontal(cs.by_name(picked)),
        pl.max_horizontal(pl.col(f"^({picked[0]}|{picked[1]})$"), first),
        pl.struct(first.alias("u"), second.alias("v")).struct.field("u"),
    )
    return ways[kind - 2]


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.integers(0, 10**9))
def test_whatever_a_column_changes_with_is_told(seed: int):
    """The oracle computes: one column at a time gets other values, and what differs then is due."""
    chance = np.random.default_rng(seed)
    names = list("abcd")
    table = pl.DataFrame({n: chance.integers(0, 9, 200) for n in names})
    stages: list[Given] = []
    for _ in range(int(chance.integers(1, 4))):
        known = [*names, *(n for s in stages for n, _ in s.made)]
        targets = [str(n) for n in chance.choice([*names, "x", "y"], size=2, replace=False)]
        made = tuple((n, expression(chance, known)) for n in targets)
        aside = (expression(chance, known) > 4,) if chance.random() < 0.4 else ()
        stages.append(Given(made, aside))
    reads: dict[str, set[str]] = {n: {n} for n in names}
    kept: set[str] = set()
    for edges in planned_edges(stages, Roles(), dict(table.schema)):
        before = dict(reads)
        for out in {o for o, _, how in edges if o != "*"}:
            reads[out] = set[str]().union(*(before[i] for o, i, _ in edges if o == out and i))
        for _, column, how in edges:
            kept |= before[column] if how == "filtered" else set()

    def computed(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
        stays = pl.repeat(True, rows.height, eager=True)
        for each in stages:
            for condition in each.left_out:
                stays = stays & ~rows.select(pl.repeat(False, rows.height) | condition).to_series()
            rows = rows.with_columns(**dict(each.made))
        return rows, stays

    was, stood = computed(table)
    for column in names:
        for _ in range(3):
            other = pl.Series(column, chance.permutation(table[column].to_numpy()))
            now, stands = computed(table.with_columns(other))
            changed = {n for n in was.columns if not was[n].equals(now[n])}
            assert changed <= {n for n, sources in reads.items() if column in sources}
            assert stood.equals(stands) or column in kept
