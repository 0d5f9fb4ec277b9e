# SPDX-License-Identifier: Apache-2.0
"""Rows go in and come out unchanged, with names of their own; files are streamed."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing.parametric import dataframes

from datapipe.core.arrow_stream import as_any
from datapipe.core.dataset import Dataset, empty
from datapipe.core.roles import ROW_ID, Roles
from datapipe.errors import SchemaMismatch

KINDS = [pl.Int8, pl.Int64, pl.UInt64, pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Date]
frames = dataframes(min_cols=1, max_cols=4, max_size=20, allowed_dtypes=KINDS)


@given(frames)
def test_what_goes_in_comes_out(frame: pl.DataFrame):
    data = Dataset.of(frame)
    assert data.frame().equals(frame)
    assert pl.DataFrame(pa.table(data)).equals(frame)
    assert data.names == frame.columns
    assert len(data) == frame.height


@given(frames, st.integers(1, 7))
@settings(max_examples=30)
def test_batches_are_the_rows_whatever_their_size(frame: pl.DataFrame, size: int):
    data = Dataset.of(frame)
    batches = list(data.batches(size))
    assert all(0 < b.num_rows <= size for b in batches)
    if batches:
        assert pl.DataFrame(pa.Table.from_batches(batches)).equals(frame)


@given(frames)
@settings(max_examples=25)
def test_a_saved_file_holds_the_same_rows(tmp_path_factory, frame: pl.DataFrame):
    path = tmp_path_factory.mktemp("saved") / "rows.parquet"
    data = Dataset.of(frame)
    assert pl.read_parquet(data.save(path)).equals(frame)
    stored = Dataset(pl.scan_parquet(data.save(path, row_id=True)))
    assert stored.frame().equals(frame)
    assert stored.row_ids.to_list() == data.row_ids.to_list()
    assert [p.name for p in path.parent.iterdir()] == ["rows.parquet"], "no partial file is left"


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t,
        pl.DataFrame,
        lambda t: t.to_pandas(),
        duckdb.from_arrow,
        lambda t: pa.RecordBatchReader.from_batches(t.schema, t.to_batches()),
        Dataset.of,
    ],
    ids=["pyarrow", "polars", "pandas", "duckdb", "reader", "datapipe"],
)
def test_any_arrow_object_is_a_dataset(make):
    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    data = Dataset.of(make(table))
    assert data.frame()["a"].to_list() == [1, 2, 3]
    assert data.frame()["b"].to_list() == ["x", None, "z"]


def test_its_arrow_stream_is_read_by_others():
    data = Dataset.of(pa.table({"a": [1, 2], "b": ["x", "y"]}))
    assert pl.DataFrame(data).rows() == [(1, "x"), (2, "y")]
    assert duckdb.sql("select sum(a) from data").fetchall() == [(3,)]
    assert isinstance(pd.DataFrame.from_arrow(data), pd.DataFrame)


def test_row_ids_count_from_zero_and_stay_with_their_rows():
    data = Dataset.of(pa.table({"a": [5, 6, 7]}))
    assert data.row_ids.to_list() == [0, 1, 2]
    assert data.row_ids.dtype == pl.UInt64
    left = data.with_frame(data.scan(row_id=True).filter(pl.col("a") > 5))
    assert left.row_ids.to_list() == [1, 2]
    assert ROW_ID not in left.names
    assert ROW_ID not in left.schema.names


def test_losing_the_row_ids_is_an_error():
    data = Dataset.of(pa.table({"a": [5]}))
    with pytest.raises(SchemaMismatch, match="rows would lose their names"):
        data.with_frame(data.scan())


def test_roles_follow_their_columns():
    data = Dataset.of(pa.table({"t": ["x"], "y": [1], "f": [0.5]}), Roles.of(text="t", label="y"))
    assert data.features == ["f"]
    assert data.values("label").to_list() == [1]
    without = data.with_frame(data.scan(row_id=True).drop("t"))
    assert "text" not in without.roles
    assert without.roles.one("label") == "y"


def test_a_role_without_its_column_is_an_error():
    with pytest.raises(SchemaMismatch, match="no column 'z'"):
        Dataset.of(pa.table({"a": [1]}), Roles.of(label="z"))


def test_an_absent_column_is_told_with_the_nearest_name():
    with pytest.raises(SchemaMismatch, match="no column 'labl'") as told:
        Dataset.of(pa.table({"label": [1]})).frame(["labl"])
    assert "'label'" in told.value.hint


def test_what_is_no_table_is_refused():
    with pytest.raises(SchemaMismatch, match="list has no __arrow_c_stream__"):
        Dataset.of([1, 2])
    with pytest.raises(SchemaMismatch, match="returned int"):
        as_any(3)


def test_what_a_stage_may_return():
    frame = pl.DataFrame({"a": [1]})
    for value in (frame, frame.lazy(), frame.to_arrow()):
        assert as_any(value).collect().equals(frame)


def test_a_stored_file_is_streamed_in_row_groups(tmp_path):
    path = tmp_path / "big.parquet"
    pl.DataFrame({"a": range(1000)}).with_row_index(ROW_ID).with_columns(
        pl.col(ROW_ID).cast(pl.UInt64)
    ).write_parquet(path, row_group_size=100)
    data = Dataset(pl.scan_parquet(path), path=path, rows=1000)
    batches = list(data.batches(64))
    assert max(b.num_rows for b in batches) <= 64
    assert sum(b.num_rows for b in batches) == 1000
    assert batches[0].schema.names == ["a"]


def test_the_digest_is_that_of_the_rows_names_and_types():
    base = Dataset.of(pl.DataFrame({"a": [1, 2]}))
    assert base.digest == Dataset.of(pa.table({"a": [1, 2]})).digest
    others = [
        pl.DataFrame({"a": [2, 1]}),
        pl.DataFrame({"b": [1, 2]}),
        pl.DataFrame({"a": [1, 2]}, schema={"a": pl.Int32}),
        pl.DataFrame({"a": [1, None]}),
        pl.DataFrame({"a": [1, 2, 2]}),
    ]
    assert len({base.digest, *(Dataset.of(o).digest for o in others)}) == len(others) + 1


def test_an_empty_one_and_how_they_read():
    assert len(empty()) == 0
    assert empty().names == []
    assert empty(), "a data set without rows is still one; asking must not count rows"
    data = Dataset.of(pa.table({"t": ["x"], "y": [1]}), Roles.of(text="t", label="y"))
    assert repr(data) == "Dataset(1 rows x 2 columns; text=t, label=y)"


def test_saving_writes_row_groups_of_bounded_size(tmp_path):
    rows = 300_000
    path = Dataset.of(pl.DataFrame({"a": range(rows)})).save(tmp_path / "a.parquet")
    meta = pq.ParquetFile(path).metadata
    assert max(meta.row_group(i).num_rows for i in range(meta.num_row_groups)) <= 131_072 * 2
    assert meta.num_rows == rows


def test_going_through_a_stored_file_holds_no_row_group(tmp_path):
    path = tmp_path / "a.parquet"
    numbers = np.random.default_rng(0).random(2_000_000)
    pl.DataFrame({"x": numbers}).write_parquet(path, row_group_size=2_000_000)
    held = Dataset(pl.scan_parquet(path), path=path)
    before, most, total = pa.total_allocated_bytes(), 0, 0.0
    for batch in held.batches(10_000):
        most = max(most, pa.total_allocated_bytes() - before)
        total += batch.column(0).to_numpy().sum()
    assert total == pytest.approx(numbers.sum())
    assert most < numbers.nbytes / 4


def _breaking() -> pa.RecordBatchReader:
    def batches():
        yield pa.record_batch({"a": [1]})
        raise RuntimeError("the reader broke")

    return pa.RecordBatchReader.from_batches(pa.schema({"a": pa.int64()}), batches())


class Lying:
    def __arrow_c_stream__(self, requested_schema=None):
        return 3


@pytest.mark.parametrize(
    "data",
    [
        pa.table([[1], [2]], names=["a", "a"]),
        pl.Series([1, 2]),
        pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}),
        _breaking(),
        Lying(),
    ],
    ids=["a name twice", "a series", "objects", "a stream that breaks", "no stream"],
)
def test_what_is_no_table_is_refused_in_our_words(data):
    with pytest.raises(SchemaMismatch):
        Dataset.of(data)
