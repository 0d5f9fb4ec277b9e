# SPDX-License-Identifier: Apache-2.0
"""Fitted preprocessing: the same numbers for the same rows, wherever and whenever."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.errors import DataError, SchemaMismatch
from datapipe.features.encoding import Encoded, Encoding, fit_encoding, picture_shape, standardised

MIXED = pl.DataFrame(
    {
        "n": [1.0, 2.0, 3.0, 4.0] * 5,
        "flag": [True, False] * 10,
        "day": [dt.date(2024, 1, 1 + i) for i in range(20)],
        "kind": ["a"] * 9 + ["b"] * 9 + ["rare", None],
        "nested": [[1]] * 20,
        "y": [0, 1] * 10,
    }
)


def whole(encoding: Encoding, frame: pl.DataFrame) -> np.ndarray:
    return encoding.encode(frame).take(np.arange(len(frame)))


def test_a_table_is_standardised_and_its_rare_values_are_not_kept() -> None:
    encoding = fit_encoding(Dataset.of(MIXED, Roles.of(label="y")))
    assert encoding.columns == ("n", "flag", "day", "kind")
    made = whole(encoding, MIXED)
    assert np.allclose(made[:, :3].mean(0), 0, atol=1e-6)
    assert np.allclose(made[:, :3].std(0), 1, atol=1e-6)
    assert "rare" not in json.dumps(encoding.to_json())
    assert made[:, 3:].tolist()[0] == [1, 0, 0]
    assert made[-2:, 3:].tolist() == [[0, 0, 1]] * 2


def test_only_the_given_rows_are_fitted_on() -> None:
    data = Dataset.of(MIXED, Roles.of(label="y"))
    encoding = fit_encoding(data, rows=np.arange(4))
    assert encoding.settings["columns"][0]["mean"] == 2.5


@pytest.mark.parametrize("row_local", [False, True])
def test_new_rows_are_seen_as_before_after_a_way_through_json(row_local) -> None:
    data = Dataset.of(MIXED, Roles.of(label="y"))
    encoding = fit_encoding(data, row_local=row_local, ranges={"day": (0.0, 40000.0)})
    again = Encoding.from_json(json.loads(json.dumps(encoding.to_json())))
    part = MIXED[[3, 19]].with_columns(kind=pl.Series(["never seen", "a"]))
    assert np.array_equal(whole(again, part), whole(encoding, part))
    assert np.array_equal(whole(again, MIXED)[[3]], whole(again, MIXED[[3]]))


@given(st.lists(st.text(max_size=30), min_size=1, max_size=12))
def test_texts_are_encoded_row_by_row_to_length_one(texts) -> None:
    encoding = Encoding("text", (64,), ("t",), {"buckets": 64})
    made = whole(encoding, pl.DataFrame({"t": texts}))
    for i, text in enumerate(texts):
        alone = whole(encoding, pl.DataFrame({"t": [text]}))[0]
        assert np.array_equal(made[i], alone)
        assert np.linalg.norm(alone) == pytest.approx(1.0, abs=1e-5) or not alone.any()


@given(st.integers(0, 999), st.integers(1, 30), st.integers(1, 20))
def test_sparse_rows_are_taken_like_dense_ones(seed, n, width) -> None:
    rng = np.random.default_rng(seed)
    dense = (rng.random((n, width)) * (rng.random((n, width)) < 0.3)).astype(np.float32)
    rows, columns = np.nonzero(dense)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int64)
    sparse = Encoded((width,), None, starts, columns.astype(np.int32), dense[rows, columns])
    index = rng.integers(0, n, 2 * n)
    assert len(sparse) == n
    assert np.array_equal(sparse.take(index), dense[index])


PICTURES = np.random.default_rng(0).integers(0, 255, (6, 4, 4, 3)).astype(np.uint8)


@pytest.mark.parametrize("form", ["array", "nested", "list", "bytes", "columns"])
def test_pictures_read_alike_however_they_are_stored(form) -> None:
    flat = PICTURES.reshape(6, 48)
    frame = {
        "array": lambda: pl.DataFrame({"p": flat}),
        "nested": lambda: pl.DataFrame(
            {"p": pl.Series(PICTURES.tolist(), dtype=pl.Array(pl.UInt8, (4, 4, 3)))}
        ),
        "list": lambda: pl.DataFrame({"p": flat.tolist()}),
        "bytes": lambda: pl.DataFrame({"p": [r.tobytes() for r in flat]}),
        "columns": lambda: pl.DataFrame(flat, schema=[f"p{i}" for i in range(48)]),
    }[form]()
    data = Dataset.of(frame, Roles.of(image="p*" if form == "columns" else "p"))
    encoding = fit_encoding(data)
    assert encoding.shape == (3, 4, 4)
    made = whole(encoding, frame)
    expected = PICTURES.transpose(0, 3, 1, 2).astype(np.float64)
    expected -= expected.mean((1, 2, 3), keepdims=True)
    assert np.allclose(made, expected / expected.std((1, 2, 3), keepdims=True), atol=1e-4)


def test_pictures_that_are_no_square_keep_their_declared_shape() -> None:
    tall = pl.DataFrame({"p": np.zeros((2, 6, 4))})
    assert picture_shape(tall, ["p"]) == (1, 6, 4)
    assert picture_shape(pl.DataFrame({"p": np.zeros((2, 10))}), ["p"]) == (10,)
    assert np.array_equal(
        standardised(np.full((1, 4), 7, np.float32), (1, 2, 2)), np.zeros((1, 1, 2, 2))
    )


def test_what_cannot_be_encoded_is_refused() -> None:
    data = Dataset.of(pl.DataFrame({"p": np.zeros((2, 16))}), Roles.of(image="p"))
    encoding = fit_encoding(data)
    with pytest.raises(DataError, match="9 values, the model was trained on 16"):
        encoding.encode(pl.DataFrame({"p": np.zeros((2, 9))}))
    with pytest.raises(SchemaMismatch, match="reads the column 'p'"):
        encoding.encode(pl.DataFrame({"q": [1]}))
    with pytest.raises(DataError, match="1 texts are missing"):
        Encoding("text", (8,), ("t",), {"buckets": 8}).encode(pl.DataFrame({"t": ["a", None]}))
    table = Dataset.of(pl.DataFrame({"a": [1.0, float("inf")]}))
    with pytest.raises(DataError, match="'a': 1 of 2 values"):
        fit_encoding(table)
    with pytest.raises(SchemaMismatch, match="no column can be learned from"):
        fit_encoding(Dataset.of(pl.DataFrame({"n": [[1]]})))


@pytest.mark.parametrize("name", ["count", "value", "rows", "len", ""])
def test_a_column_of_categories_may_have_any_name(name) -> None:
    table = pl.DataFrame({name: ["a"] * 6 + ["b"] * 6, "y": [0, 1] * 6})
    encoding = fit_encoding(Dataset.of(table, Roles.of(label="y")))
    assert whole(encoding, table).tolist() == [[1, 0, 0]] * 6 + [[0, 1, 0]] * 6
