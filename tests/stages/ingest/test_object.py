# SPDX-License-Identifier: Apache-2.0
"""ReadObject: anything that speaks the Arrow stream interface, and nothing else."""

from __future__ import annotations

import pickle
import re
import struct

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset, empty
from datapipe.core.digest import canonical, digest_batches
from datapipe.errors import Malformed, SchemaMismatch
from datapipe.stages import ReadObject

TABLE = pa.table({"t": ["a", "b", "c"], "y": [0, 1, 0]})


def read(reader, tmp_path):
    return reader.run(empty(), Context(0, tmp_path))


@pytest.mark.parametrize(
    "value",
    [
        TABLE,
        TABLE.to_reader(),
        pl.DataFrame(TABLE),
        duckdb.sql("select * from (values ('a', 0), ('b', 1), ('c', 0)) v(t, y)"),
        Dataset.of(TABLE),
    ],
)
def test_every_arrow_object_is_read(value, tmp_path):
    reader = ReadObject(value, text="t", label="y")
    made = read(reader, tmp_path)
    assert made.data.frame().rows() == [("a", 0), ("b", 1), ("c", 0)]
    assert made.data.row_ids.to_list() == [0, 1, 2]
    assert made.data.sources[0].uri.startswith("arrow:")
    assert reader.files() == ()


def test_the_digest_is_that_of_the_rows():
    split = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])
    assert ReadObject(TABLE).content() == ReadObject(split).content()
    assert ReadObject(TABLE).content() == digest_batches(TABLE.schema, TABLE.to_batches())
    assert ReadObject(TABLE).content() != ReadObject(TABLE.slice(1)).content()


def test_equal_rows_are_equal_readers():
    one, other = ReadObject(TABLE, label="y"), ReadObject(pl.DataFrame(TABLE).to_arrow(), label="y")
    assert ReadObject(TABLE, label="y") == one
    assert hash(ReadObject(TABLE, label="y")) == hash(one)
    assert one != ReadObject(TABLE.slice(1), label="y")
    assert canonical(one.params()).count(b"sha256:") == 1
    assert pickle.loads(pickle.dumps(one)) == one
    assert repr(one) != repr(other) or one == other


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def test_nothing_is_unpickled(tmp_path):
    marker = tmp_path / "ran"
    for value in (
        pickle.dumps(Payload(marker)),
        np.array([Payload(marker)], dtype=object),
        [1, 2],
        {"a": [1]},
        None,
    ):
        assert ReadObject(value).check()
        with pytest.raises(SchemaMismatch, match="__arrow_c_stream__"):
            read(ReadObject(value), tmp_path)
    assert not marker.exists()


def test_forged_offsets_are_refused(tmp_path):
    offsets = pa.py_buffer(struct.pack("<4i", 0, 5, 2_000_000_000, 10))
    bad = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"alphabravo"))
    with pytest.raises(Malformed):
        read(ReadObject(pa.table({"s": bad})), tmp_path)


def test_no_rows_and_bad_columns_are_refused(tmp_path):
    with pytest.raises(Malformed, match="no rows"):
        read(ReadObject(TABLE.slice(0, 0)), tmp_path)
    with pytest.raises(Malformed, match="no columns"):
        read(ReadObject(pa.table({})), tmp_path)
    with pytest.raises(Malformed, match="twice"):
        read(ReadObject(pa.table([[1], [2]], names=["a", "a"])), tmp_path)
    with pytest.raises(SchemaMismatch, match="_row_id"):
        read(ReadObject(pa.table({"_row_id": [1]})), tmp_path)
    for name in ("_row_ancestors", "*", "^x.*$"):
        with pytest.raises(SchemaMismatch, match=re.escape(repr(name))):
            read(ReadObject(pa.table({name: [1], "xy": [2]})), tmp_path)
    with pytest.raises(SchemaMismatch, match="did you mean 'y'"):
        read(ReadObject(TABLE, label="yy"), tmp_path)


def test_labels_that_are_missing_are_refused(tmp_path):
    bad = pa.table({"y": [0, None, 1]})
    with pytest.raises(Malformed, match="first at row 2"):
        read(ReadObject(bad, label="y"), tmp_path)
    made = read(ReadObject(bad, label="y", missing_labels="quarantine"), tmp_path)
    assert made.data.row_ids.to_list() == [0, 2]
