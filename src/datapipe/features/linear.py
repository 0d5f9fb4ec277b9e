# SPDX-License-Identifier: Apache-2.0
"""Linear classifiers that fit on some rows and predict others; needs scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack  # type: ignore[import-untyped]  # it ships no types
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from datapipe.features.text import UNSPACED

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
WORD = r"(?u)\w+|[^\w\s]"
"""A run of letters and digits, or one other sign."""
FEWEST_OF_PARTS, MOST_OF_PARTS = 200, 10_000
"""Of fewer texts hardly a part of a word recurs; of more, words themselves recur enough."""
PRIOR = 0.3
"""What naive Bayes adds to the weight of every word in every class."""
LEAST_SHARE = 1e-4
"""Two models are pooled by their logarithms: one that is sure must not silence the other."""

Predict = Callable[[Ints, Ints], Floats]


def text_predictor(texts: pl.Series, labels: Ints, classes: int, *, bayes: bool = False) -> Predict:
    """Logistic regression on the words and word pairs of texts, and naive Bayes beside it.

    Sparse weights keep a fit of thousands of texts under a second, and every weight is a word's.
    Scripts without spaces are read by the character, in runs of up to four where most texts are in
    one.

    Args:
        texts: Strings, shape (n,); null reads as empty.
        labels: int, shape (n,), in 0..classes-1.
        classes: K.
        bayes: Whether naive Bayes is asked, too, of these and of runs of three to five characters
            within words, which lend rare words what is known of their like (of 200 to 10,000 texts;
            words recur enough in more). It errs on other texts than the regression, and the
            geometric mean of the two tells more than either, for a tenth more time.

    Returns:
        A function of row numbers to fit on and to predict, giving float64 of shape (m, K).

    Example:
        >>> words = pl.Series(["good film", "bad film"] * 6)
        >>> predict = text_predictor(words, np.array([0, 1] * 6), 2)
        >>> predict(np.arange(10), np.array([10, 11])).argmax(1).tolist()
        [0, 1]
    """
    rare = 2 if len(texts) >= 200 else 1
    unspaced = texts.cast(pl.String).str.contains(f"[{UNSPACED}]").fill_null(value=False)
    spaced, longest = texts, 2
    if unspaced.any():
        spaced = texts.cast(pl.String).str.replace_all(f"([{UNSPACED}])", " $1 ")
        longest = 4 if int(unspaced.sum()) * 2 > len(texts) else 2
    weights = TfidfVectorizer(
        ngram_range=(1, longest), min_df=rare, sublinear_tf=True, token_pattern=WORD
    )
    rows = _sparse(weights, spaced)
    logistic = _logistic(rows, labels, classes)
    if not bayes:
        return logistic
    if FEWEST_OF_PARTS <= len(texts) <= MOST_OF_PARTS:
        runs = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=5, sublinear_tf=True)
        rows = hstack([rows, _sparse(runs, texts)], format="csr")
    return _pooled(logistic, _naive_bayes(csr_array(rows), labels, classes))


def dense_predictor(values: NDArray[np.float32], labels: Ints, classes: int) -> Predict:
    """Logistic regression on standardised columns.

    Args:
        values: float32, shape (n, d), finite.
        labels: int, shape (n,), in 0..classes-1.
        classes: K.

    Returns:
        A function of row numbers to fit on and to predict, giving float64 of shape (m, K).

    Example:
        >>> x = np.array([[0.0], [1.0]] * 6, np.float32)
        >>> predict = dense_predictor(x, np.array([0, 1] * 6), 2)
        >>> predict(np.arange(10), np.array([10, 11])).argmax(1).tolist()
        [0, 1]
    """
    spread = values.std(0)
    return _logistic((values - values.mean(0)) / np.where(spread > 0, spread, 1.0), labels, classes)


def _sparse(weights: TfidfVectorizer, texts: pl.Series) -> Any:
    filled = texts.cast(pl.String).fill_null("").to_list()
    try:
        return weights.fit_transform(filled)
    except ValueError:  # no text holds a word: nothing can be learnt, which is an answer
        return csr_array((len(filled), 1))


def _logistic(rows: Any, labels: Ints, classes: int) -> Predict:
    def predict(fitted: Ints, asked: Ints) -> Floats:
        made = np.zeros((asked.size, classes))
        seen = np.unique(labels[fitted])
        if seen.size == 1:
            made[:, seen[0]] = 1.0
            return made
        model = LogisticRegression(C=4.0, max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(rows[fitted], labels[fitted])
        made[:, model.classes_] = model.predict_proba(rows[asked])
        return made

    return predict


def _naive_bayes(rows: Any, labels: Ints, classes: int) -> Predict:
    """Multinomial naive Bayes on damped weights: a fit is one sum over the rows of each class."""
    given = csr_array((np.ones(labels.size), (np.arange(labels.size), labels)))
    given.resize((labels.size, classes))

    def predict(fitted: Ints, asked: Ints) -> Floats:
        sums = (given[fitted].T @ rows[fitted]).toarray() + PRIOR
        held = np.bincount(labels[fitted], minlength=classes)
        with np.errstate(divide="ignore"):  # a class that was not fitted has no chance
            first = np.log(held / held.sum())
        logs = rows[asked] @ np.log(sums / sums.sum(1, keepdims=True)).T + first
        made = np.exp(logs - logs.max(1, keepdims=True))
        return np.asarray(made / made.sum(1, keepdims=True), np.float64)

    return predict


def _pooled(one: Predict, other: Predict) -> Predict:
    """The geometric mean of what two models say."""

    def predict(fitted: Ints, asked: Ints) -> Floats:
        both = np.maximum(one(fitted, asked), LEAST_SHARE), other(fitted, asked)
        made = np.sqrt(both[0] * np.maximum(both[1], LEAST_SHARE))
        return np.asarray(made / made.sum(1, keepdims=True), np.float64)

    return predict
