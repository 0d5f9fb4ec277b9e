# SPDX-License-Identifier: Apache-2.0
"""Columns become finite numbers, and roles choose which."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.features.hashing import hashed_tfidf
from datapipe.features.tables import MOST_CATEGORIES, features_of, numeric_features, single_valued


def test_numbers_are_standardised_and_gaps_are_marked():
    values, names = numeric_features(Dataset.of(pa.table({"a": [1.0, None, 3.0, float("nan")]})))
    assert names == ["a", "a is missing"]
    assert values[:, 0].tolist() == [-1.0, 0.0, 1.0, 0.0]
    assert values[:, 1].tolist() == [0.0, 1.0, 0.0, 1.0]


def test_rare_categories_share_a_column_of_frequencies():
    words = [f"w{i:03d}" for i in range(100)] + [f"w{i:03d}" for i in range(40)]
    values, names = numeric_features(Dataset.of(pa.table({"job": words})))
    assert len(names) == MOST_CATEGORIES + 1
    assert names[-1] == "job frequency"
    assert np.isclose(values[39, -1], 2 / 140)
    assert values[0, -1] == 0.0


def test_columns_with_a_role_are_left_out():
    table = pa.table({"x": [1.0, 2.0], "y": [0, 1], "who": ["a", "b"]})
    assert numeric_features(Dataset.of(table, Roles.of(label="y", annotator="who")))[1] == ["x"]


def test_roles_choose_image_then_text_then_table():
    table = pa.table({"i": [[1.0, 2.0]], "t": ["a b"], "n": [1]})
    assert features_of(Dataset.of(table, Roles.of(image="i", text="t"))).kind == "image"
    assert features_of(Dataset.of(table, Roles.of(text="t"))).kind == "text"
    assert features_of(Dataset.of(table.select(["n"]))).kind == "table"
    assert features_of(Dataset.of(table.select(["n"]), Roles.of(label="n"))).kind == "none"


@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(-5, 5)), min_size=1, max_size=20))
def test_features_are_always_finite(column):
    made = numeric_features(Dataset.of(pl.DataFrame({"a": pl.Series(column, dtype=pl.Float64)})))
    assert np.isfinite(made[0]).all()


def test_texts_that_share_rare_words_lie_closer_than_texts_that_share_none():
    texts = pl.Series(["the red whale sings", "a red whale sang", "seven grey tractors", None])
    made = hashed_tfidf(texts, dims=4096)
    near = made @ made.T
    assert near[0, 1] > near[0, 2] + 0.2
    assert not made[3].any()
    assert np.array_equal(made, hashed_tfidf(texts, dims=4096))


def test_a_column_is_looked_into_where_a_cell_is_one_number_time_or_word():
    frame = pl.DataFrame(
        {
            "number": [1.5],
            "time": pl.Series([0], dtype=pl.Duration),
            "word": pl.Series(["a"], dtype=pl.Categorical),
            "bytes": [b"a"],
            "list": [[1]],
            "none": [None],
        }
    )
    told = [name for name, kind in frame.schema.items() if single_valued(kind)]
    assert told == ["number", "time", "word"]
