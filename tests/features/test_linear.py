# SPDX-License-Identifier: Apache-2.0
"""Linear classifiers predict rows they have not seen and know every class."""

from __future__ import annotations

import numpy as np
import polars as pl

from datapipe.features.linear import dense_predictor, text_predictor


def test_dense_columns_of_any_scale():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    x = rng.normal(size=(300, 2)) + np.eye(3)[labels][:, :2] * 5
    predict = dense_predictor((x * [1e-4, 1e4]).astype(np.float32), labels, 3)
    made = predict(np.arange(200), np.arange(200, 300))
    assert (made.argmax(1) == labels[200:]).mean() > 0.9
    assert np.allclose(made.sum(1), 1.0)


def test_a_class_that_was_not_fitted_has_no_chance():
    x = np.arange(6, dtype=np.float32)[:, None]
    predict = dense_predictor(x, np.array([0, 0, 1, 1, 2, 2]), 3)
    assert (predict(np.arange(4), np.array([5]))[:, 2] == 0).all()
    assert predict(np.array([0, 1]), np.array([5])).tolist() == [[1.0, 0.0, 0.0]]


def test_texts_and_texts_without_a_word():
    texts = pl.Series(["sun and sand", "rain and wind"] * 20)
    labels = np.array([0, 1] * 20)
    assert text_predictor(texts, labels, 2)(np.arange(30), np.array([30, 31])).argmax(
        1
    ).tolist() == [0, 1]
    empty = text_predictor(pl.Series(["", None] * 20), labels, 2)
    assert np.allclose(empty(np.arange(30), np.array([30]))[0], 0.5, atol=0.01)


def test_parts_of_words_tell_what_no_whole_word_does():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    ends = ("ful", "less")
    texts = [f"{''.join(rng.choice(list('bcdfg'), 6))}{ends[k]} thing" for k in labels]
    fitted, asked = np.arange(200), np.arange(200, 300)
    right = [
        (predict(fitted, asked).argmax(1) == labels[200:]).mean()
        for predict in (text_predictor(pl.Series(texts), labels, 2, parts=p) for p in (True, False))
    ]
    assert right[0] > 0.95
    assert right[1] < 0.7
