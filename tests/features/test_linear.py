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
        for predict in (text_predictor(pl.Series(texts), labels, 2, bayes=b) for b in (True, False))
    ]
    assert right[0] > 0.95
    assert right[1] < 0.7


def test_hundreds_of_texts_without_a_word_tell_nothing():
    empty = text_predictor(pl.Series(["", None] * 150), np.arange(300) % 2, 2, bayes=True)
    assert np.allclose(empty(np.arange(200), np.array([250, 251])), 0.5, atol=0.01)


def test_regression_and_naive_bayes_tell_more_than_either(monkeypatch):
    """Words that come together: naive Bayes counts each anew, the regression knows few of them."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 900)
    lean = rng.normal(size=(3, 400))
    chances = np.exp(lean) / np.exp(lean).sum(1, keepdims=True)
    drawn = [rng.choice(400, 7, p=chances[k]) for k in labels]
    texts = pl.Series(
        [" ".join(f"w{w}x{i}" for w in words for i in range(1 + w % 4)) for words in drawn]
    )
    fitted, asked = np.arange(600), np.arange(600, 900)

    def given(*, bayes: bool) -> float:
        made = text_predictor(texts, labels, 3, bayes=bayes)(fitted, asked)
        assert np.allclose(made.sum(1), 1.0)
        return float(np.log(made[np.arange(300), labels[600:]]).mean())

    pooled, regression = given(bayes=True), given(bayes=False)
    monkeypatch.setattr("datapipe.features.linear._pooled", lambda _, other: other)
    assert pooled > max(regression, given(bayes=True)) + 0.04


def test_naive_bayes_gives_a_class_that_was_not_fitted_hardly_a_chance():
    texts = pl.Series(["sun", "rain", "snow"] * 10)
    made = text_predictor(texts, np.arange(30) % 3, 3, bayes=True)(
        np.flatnonzero(np.arange(30) % 3 < 2), np.array([2])
    )
    assert made[0, 2] < 0.01
