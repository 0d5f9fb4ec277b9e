# SPDX-License-Identifier: Apache-2.0
"""The chunk root: the same rows give the same root, and nothing else does."""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather

from datapipe.core.chunks import chunk_root
from datapipe.core.digest import CHUNK_ROWS
from datapipe.errors import DeclarationError


def digest(table: pa.Table) -> str:
    return chunk_root(table.schema, table.to_batches())


def rows(n: int = 1000) -> pa.Table:
    rng = np.random.default_rng(5)
    nothing = rng.random(n) < 0.2
    return pa.table(
        {
            "id": np.arange(n),
            "text": pa.array([f"row {i} \u00e9" * (i % 4) for i in range(n)], mask=nothing),
            "label": pa.array(rng.integers(0, 9, n), pa.int32(), mask=nothing),
            "x": pa.array(rng.normal(size=n), pa.float32()),
            "flag": pa.array(rng.random(n) < 0.5, mask=nothing),
            "at": pa.array([datetime(2026, 1, 1 + i % 28, tzinfo=UTC) for i in range(n)]),
            "many": pa.array([list(range(i % 5)) if i % 3 else None for i in range(n)]),
            "pair": pa.array([{"a": i, "b": "z" * (i % 3)} if i % 7 else None for i in range(n)]),
            "money": pa.array([Decimal(i) for i in range(n)]),
            "raw": pa.array([bytes([i % 256]) for i in range(n)]),
            "none": pa.nulls(n),
        }
    )


def encodings(table: pa.Table, folder):
    """The same rows as other writers, codecs and groups would leave them."""
    for codec in ("none", "zstd", "snappy"):
        for group in (77, 1000):
            path = folder / f"{codec}-{group}.parquet"
            pq.write_table(table, path, compression=codec, row_group_size=group)
            yield pq.read_table(path)
    pq.write_table(table, folder / "plain.parquet", use_dictionary=False, data_page_version="2.0")
    yield pq.read_table(folder / "plain.parquet", read_dictionary=["text"])
    feather.write_feather(table, folder / "t.arrow", chunksize=100)
    yield feather.read_table(folder / "t.arrow")
    yield pl.from_arrow(table).to_arrow()
    yield pl.from_arrow(table).to_arrow(compat_level=pl.CompatLevel.oldest())
    yield pa.concat_tables([table.slice(0, 333), table.slice(333)])
    yield table.slice(0).replace_schema_metadata({"who": "else"})


def test_every_encoding_of_the_same_rows_has_one_root(tmp_path):
    table = rows()
    assert {digest(other) for other in encodings(table, tmp_path)} == {digest(table)}


@pytest.mark.parametrize("size", [0, 1, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1])
def test_chunks_do_not_depend_on_batches(size):
    table = pa.table({"a": np.arange(size), "b": pa.array(["x"] * size, pa.string())})
    for most in (7_001, 40_000, 200_000):
        batches = table.to_batches(max_chunksize=most)
        assert chunk_root(table.schema, batches) == digest(table)


CHANGES = {
    "a value": lambda t: t.set_column(0, "id", pc_add(t["id"])),
    "a row less": lambda t: t.slice(1),
    "two rows swapped": lambda t: t.take(pa.array([1, 0, *range(2, len(t))])),
    "a row twice": lambda t: t.take(pa.array([0, *range(len(t))])),
    "another name": lambda t: t.rename_columns(["ID", *t.column_names[1:]]),
    "another order of columns": lambda t: t.select(t.column_names[::-1]),
    "another type": lambda t: t.set_column(0, "id", t["id"].cast(pa.int32())),
    "a null": lambda t: t.set_column(
        3, "x", pa.array([None, *t["x"].to_pylist()[1:]], pa.float32())
    ),
    "an empty text for a null": lambda t: t.set_column(1, "text", t["text"].fill_null("")),
    "a zero for a null": lambda t: t.set_column(2, "label", t["label"].fill_null(0)),
    "an empty list for a null": lambda t: t.set_column(
        6, "many", pa.array([v or [] for v in t["many"].to_pylist()], t["many"].type)
    ),
}


def pc_add(column):
    values = column.to_pylist()
    values[17] += 1
    return pa.array(values)


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_of_the_rows_changes_the_root(name):
    table = rows(200)
    assert digest(CHANGES[name](table)) != digest(table)


def test_what_lies_under_a_null_does_not_count():
    valid = pa.py_buffer(b"\x05")
    made = [
        pa.Array.from_buffers(pa.int64(), 3, [valid, pa.py_buffer(struct.pack("<3q", 1, junk, 3))])
        for junk in (0, 99)
    ]
    assert digest(pa.table({"a": made[0]})) == digest(pa.table({"a": made[1]}))


def test_the_form_is_the_one_that_is_written_down():
    """By hand, for those who write it in another language."""
    table = pa.table({"a": pa.array([7, None], pa.int16()), "s": ["hi", ""]})
    sha = lambda data: hashlib.sha256(b"\x00" + data).digest()  # noqa: E731  # read in place
    head = sha(b"a\0int16\0s\0large_string\0")
    a = b"a\0int16\0" + struct.pack("<Q", 2) + b"\x01" + struct.pack("<hh", 7, 0)
    s = b"s\0large_string\0" + struct.pack("<Q", 2) + struct.pack("<qqq", 0, 2, 2) + b"hi"
    assert digest(table) == hashlib.sha256(b"\x01" + head + sha(a + s)).hexdigest()


@given(st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=30), st.integers(1, 9))
def test_slices_and_groups_do_not_count(values, step):
    table = pa.table({"a": pa.array(values, pa.string())})
    parts = [table.slice(i, step) for i in range(0, len(table), step)]
    again = pa.concat_tables(parts) if parts else table
    assert chunk_root(again.schema, again.to_batches()) == digest(table)
    shifted = pa.table({"a": pa.array(["x", *values], pa.string())}).slice(1)
    assert digest(shifted) == digest(table)


def test_types_without_a_plain_form_are_told():
    union = pa.UnionArray.from_dense(
        pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]
    )
    with pytest.raises(DeclarationError, match="no chunk digest"):
        digest(pa.table({"u": union}))
