# SPDX-License-Identifier: Apache-2.0
"""Laws of every pipeline: no row is lost, names stay, the way of running does not show."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe import Pipeline
from datapipe.core.function import stage
from datapipe.core.roles import ORDINAL_BITS, ROW_ID
from datapipe.core.stage import RowStage
from datapipe.stages import ExactDuplicates, ReadArrow, ReadCSV, ReadJSONL, ReadParquet

BELOW = (1 << ORDINAL_BITS) - 1


@dataclass(frozen=True)
class DropMultiples(RowStage):
    """Sets aside the multiples of a number."""

    name: ClassVar[str] = "laws.multiples"
    of: int = 2

    def set_aside(self, roles, types):
        return {f"multiple of {self.of}": pl.col("a") % self.of == 0}


@dataclass(frozen=True)
class Add(RowStage):
    """Adds a number."""

    name: ClassVar[str] = "laws.add"
    n: int = 1

    def columns(self, roles, types):
        return {"a": pl.col("a") + self.n}


@stage("laws.pause", version="1")
def pause(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Does nothing; being a whole stage it splits a fused plan in two."""
    return frame


row_stages = st.lists(
    st.builds(DropMultiples, st.integers(2, 5)) | st.builds(Add, st.integers(-3, 3)),
    min_size=1,
    max_size=5,
)
numbers = st.lists(st.integers(-20, 20), max_size=30)


def run(stages, values: list[int], folder: str):
    frame = pl.DataFrame({"a": values}, schema={"a": pl.Int64})
    return Pipeline("laws", stages).run(frame, seed=7, store=Path(folder) / "store")


@settings(max_examples=4)
@given(row_stages, numbers)
def test_rows_in_are_rows_out_and_rows_set_aside(stages, values):
    with tempfile.TemporaryDirectory() as folder:
        made = run([*stages, ExactDuplicates()], values, folder)
        left = [i & BELOW for i in made.data.row_ids]
        gone = made.sql("select ordinal from dropped_rows")["ordinal"].to_list()
        assert sorted([*left, *gone]) == list(range(len(values)))
        assert left == sorted(left)
        assert sum(s.rows_aside for s in made.steps) == len(gone)


@settings(max_examples=4)
@given(row_stages, numbers)
def test_fused_stages_give_what_single_stages_give(stages, values):
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        fused = run(stages, values, one)
        apart = run([s for stage in stages for s in (stage, pause())], values, other)
        assert fused.data.frame(row_id=True).equals(apart.data.frame(row_id=True))
        query = "select ordinal, reason from dropped_rows order by ordinal"
        assert fused.sql(query).equals(apart.sql(query))


@settings(max_examples=4)
@given(row_stages, numbers)
def test_the_naive_way_gives_the_same(stages, values):
    with tempfile.TemporaryDirectory() as folder:
        made = run(stages, values, folder)
        expected = []
        for value in values:
            now = value
            for step in stages:
                if isinstance(step, Add):
                    now += step.n
                elif now % step.of == 0:
                    break
            else:
                expected.append(now)
        assert made.data.frame()["a"].to_list() == expected


@settings(max_examples=4)
@given(row_stages, numbers)
def test_an_unchanged_run_is_reused_and_equal(stages, values):
    with tempfile.TemporaryDirectory() as folder:
        first, again = run(stages, values, folder), run(stages, values, folder)
        assert all(s.reused for s in again.steps)
        assert first.data.frame(row_id=True).equals(again.data.frame(row_id=True))
        assert first.run_id != again.run_id


WRITERS = {
    "parquet": (ReadParquet, pl.DataFrame.write_parquet),
    "arrow": (ReadArrow, pl.DataFrame.write_ipc),
    "csv": (ReadCSV, pl.DataFrame.write_csv),
    "jsonl": (ReadJSONL, pl.DataFrame.write_ndjson),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_format_of_a_file_does_not_show(kind, tmp_path):
    frame = pl.DataFrame({"t": ["a", "b, c", 'd"e', "f\ng", "ü🙂"], "n": [1, 2, 3, 4, 2**53 - 1]})
    reader, write = WRITERS[kind]
    path = tmp_path / f"rows.{kind}"
    write(frame, path)
    made = Pipeline("formats", [reader(path, text="t")]).run(seed=7, store=tmp_path / "store")
    assert made.data.frame().equals(frame)
    assert [i & BELOW for i in made.data.row_ids] == [0, 1, 2, 3, 4]
    assert ROW_ID not in made.data.names


def test_rows_of_two_sources_keep_their_names(tmp_path):
    for name, values in (("a", [1, 2]), ("b", [3])):
        pl.DataFrame({"x": values}).write_parquet(tmp_path / f"{name}.parquet")
    readers = [ReadParquet(tmp_path / "a.parquet"), ReadParquet(tmp_path / "b.parquet")]
    made = Pipeline("two", [readers]).run(seed=7, store=tmp_path / "store")
    numbers = {s.name: s.number for s in made.data.sources}
    assert sorted(numbers.values()) == [1, 2]
    where = [(i >> ORDINAL_BITS, i & BELOW) for i in made.data.row_ids]
    assert where == [(numbers["a"], 0), (numbers["a"], 1), (numbers["b"], 0)]


@settings(max_examples=4)
@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_a_seed_changes_nothing_where_there_is_no_chance(one, other):
    frame = pl.DataFrame({"a": [1, 1, 2, 3, 3]})
    with tempfile.TemporaryDirectory() as folder:
        digests = {
            Pipeline("p", [ExactDuplicates()])
            .run(frame, seed=s, store=Path(folder) / str(i))
            .data.digest
            for i, s in enumerate((one, other))
        }
    assert len(digests) == 1
