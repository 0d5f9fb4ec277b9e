# SPDX-License-Identifier: Apache-2.0
"""What a whole stage gives back is believed only as far as it is about rows that were given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

from datapipe import Estimate, Finding, Pipeline, Stage, Yield, stage
from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import ANCESTORS, ORDINAL_BITS, ROW_ID
from datapipe.core.run import Run
from datapipe.errors import DeclarationError, ExecutionError, SchemaMismatch

ROWS = pl.DataFrame({"x": [0, 1, 2, 3]})
ID = pl.col(ROW_ID)
FIRST = 1 << ORDINAL_BITS
Frame = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True)
class Gives(Stage):
    name: ClassVar[str] = "test.gives"
    on_finding: str = "note"

    def run(self, data: Dataset, context: Context) -> Yield:
        return self.made(data)


def run_of(gives: Callable[[Dataset], Any], store: Path, **params: str) -> Run:
    kind = type("Gives", (Gives,), {"made": staticmethod(gives)})
    return Pipeline("p", [kind(**params)]).run(ROWS, seed=1, store=store)


def frame_of(change: Frame) -> Callable[[Dataset], Yield]:
    def gives(data: Dataset) -> Yield:
        made = change(data.frame(row_id=True)).lazy()
        return Yield(Dataset(made, data.roles, sources=data.sources))

    return gives


STRANGE: dict[str, Frame] = {
    "no ids": lambda f: f.drop(ROW_ID),
    "a null id": lambda f: f.with_columns(pl.when(ID > FIRST).then(ID).alias(ROW_ID)),
    "new ids": lambda f: f.with_columns(ID + 100),
    "ids of another source": lambda f: f.with_columns(ID + FIRST),
    "ids as words": lambda f: f.with_columns(ID.cast(pl.String)),
    "unknown ancestors": lambda f: f.with_columns(pl.concat_list(ID + 50).alias(ANCESTORS)),
    "ancestors as words": lambda f: f.with_columns(pl.lit("q").alias(ANCESTORS)),
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_rows_that_nobody_gave_are_refused(tmp_path: Path, change: Frame):
    with pytest.raises(SchemaMismatch, match=r"^test\.gives "):
        run_of(frame_of(change), tmp_path)


@pytest.mark.parametrize("kind", [pl.Int64, pl.UInt64, pl.Int128])
def test_ids_of_other_whole_numbers_are_read(tmp_path: Path, kind: Any):
    older = pl.concat_list(pl.lit(FIRST)).cast(pl.List(kind)).alias(ANCESTORS)
    run = run_of(frame_of(lambda f: f[1:].with_columns(ID.cast(kind), older)), tmp_path)
    assert run.data.row_ids.to_list() == [FIRST + n for n in (1, 2, 3)]
    assert run.sql("from dropped_rows")["reason"].to_list() == ["made part of other rows"]


ASIDE: dict[str, Any] = {
    "of rows not there": pl.DataFrame({"row_id": [5], "reason": ["r"]}),
    "of no row": pl.DataFrame({"row_id": pl.Series([None], dtype=pl.UInt64), "reason": ["r"]}),
    "for no reason": pl.DataFrame(
        {"row_id": [FIRST], "reason": pl.Series([None], dtype=pl.String)}
    ),
    "for an empty reason": pl.DataFrame({"row_id": [FIRST], "reason": [" "]}),
    "without a column of reasons": pl.DataFrame({"row_id": [FIRST]}),
    "in a dictionary": {"row_id": [FIRST]},
}


@pytest.mark.parametrize("aside", ASIDE.values(), ids=ASIDE)
def test_setting_aside_needs_a_row_and_a_reason(tmp_path: Path, aside: Any):
    with pytest.raises(SchemaMismatch, match=r"^test\.gives "):
        run_of(lambda _: Yield(set_aside=aside), tmp_path)


@pytest.mark.parametrize("made", [None, 3, ROWS, {}, [1]], ids=lambda made: type(made).__name__)
def test_what_is_no_yield_is_refused(tmp_path: Path, made: Any):
    with pytest.raises(ExecutionError, match=r"test\.gives gave back \w+, not a Yield"):
        run_of(lambda _: made, tmp_path)


@pytest.mark.parametrize("reason", [None, ""])
def test_a_finding_without_reasons_sets_rows_aside_under_its_name(tmp_path: Path, reason: Any):
    def gives(data: Dataset) -> Yield:
        said = pl.Series([reason] * 4, dtype=pl.String)
        flags = [True, False, False, False]
        rows = pl.DataFrame({"row_id": data.row_ids, "score": [1.0] * 4, "flagged": flags})
        rows = rows.with_columns(reason=said)
        return Yield(findings=(Finding("test.f", "fail", Estimate.rate(1, 4), "f", rows=rows),))

    run = run_of(gives, tmp_path, on_finding="quarantine")
    assert run.sql("select row_id, reason from dropped_rows").rows() == [(FIRST, "test.f")]


@stage("test.left", version="1")
def left(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.with_columns(left=pl.lit(1))


@stage("test.right", version="1")
def right(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.with_columns(right=pl.lit(1))


@stage("test.some", version="1")
def some(frame: pl.LazyFrame, *, least: int = 1) -> pl.LazyFrame:
    return frame.filter(pl.col("x") >= least)


@dataclass(frozen=True)
class Silent(Stage):
    name: ClassVar[str] = "test.silent"

    def run(self, data: Dataset, context: Context) -> Yield:
        return Yield(data.with_frame(data.scan(row_id=True).filter(pl.col("x") < 3)))


def test_of_parallel_branches_only_one_may_rewrite_rows(tmp_path: Path):
    with pytest.raises(DeclarationError, match=r"test\.left and test\.right are parallel"):
        Pipeline("p", [[left(), right()]]).run(ROWS, seed=1, store=tmp_path)


@pytest.mark.parametrize("turn", [1, -1])
def test_what_each_branch_did_is_in_the_rows_after(tmp_path: Path, turn: int):
    group = [left(), some(), Silent(), some(least=0)][::turn]
    run = Pipeline("p", [group]).run(ROWS, seed=1, store=tmp_path)
    assert run.data.frame().rows() == [(1, 1), (2, 1)]
    told = run.sql("select ordinal, stage from dropped_rows order by ordinal")
    assert told.rows() == [(0, "test.some"), (3, "test.silent")]
