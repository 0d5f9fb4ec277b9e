# SPDX-License-Identifier: Apache-2.0
"""Is a row's label explained by the rest of its text, once an n-gram is taken out?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from datapipe.measure.calibration import temperature
from datapipe.measure.detection import chernoff_log_tail

START = "startoftext"
"""Marks the beginning, so that a place can be part of a pattern."""
WORD = r"(?u)\w+|[^\w\s]"
LONGEST = 5
LEAST_ROWS = 4
SHARE = 0.7
"""An n-gram is tested for a label that at least this share of its rows has."""
NATURAL = 1.5
"""Log odds that a word may add by nature, over and above the rest of its text."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Model:
    """Out-of-fold logistic regression on words, with what every word adds in every row.

    `words` is a sparse (n, V) matrix of weights; `parts[k]` has the same shape and holds what each
    word adds to the logit of class k in that row; `logits` is (n, K); `power` scales them.
    """

    words: Any
    columns: dict[str, int]
    parts: list[Any]
    logits: Floats
    power: float

    def shares(self) -> Floats:
        """Calibrated out-of-fold probabilities: float64, shape (n, K)."""
        return _softmax(self.power * self.logits)


@dataclass(frozen=True, eq=False)
class Tested:
    """Every n-gram that was tested: its words, label, rows, and how unlikely its rows are.

    `log_p` is an upper bound of ln P(as many rows with this label | the rest of the texts);
    `against` is the share of its rows whose other words speak for another label.
    """

    names: list[str]
    label: Ints
    rows: list[Ints]
    log_p: Floats
    against: Floats
    counted: int


def fit_out_of_fold(texts: list[str], labels: Ints, fold: Ints, classes: int) -> Model:
    """Fit on the other folds and keep what each word contributes to each row."""
    vectorizer = TfidfVectorizer(token_pattern=WORD, min_df=2)
    words = vectorizer.fit_transform(texts).tocsr()
    n, width = words.shape
    logits = np.zeros((n, classes))
    parts = [words.copy() for _ in range(classes)]
    row_of = np.repeat(np.arange(n), np.diff(words.indptr))
    for number in np.unique(fold):
        fitted, asked = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        weights, offset = _weights(words[fitted], labels[fitted], classes, width)
        logits[asked] = words[asked] @ weights.T + offset
        mine = fold[row_of] == number
        for k in range(classes):
            parts[k].data[mine] = words.data[mine] * weights[k, words.indices[mine]]
    power = temperature(_softmax(logits), labels)
    columns = {w: int(j) for w, j in vectorizer.vocabulary_.items()}
    return Model(words, columns, parts, logits, power)


def _weights(words: Any, labels: Ints, classes: int, width: int) -> tuple[Floats, Floats]:
    """Weights (K, V) and offsets (K,); a class that no row has gets the lowest offset."""
    weights, offset = np.zeros((classes, width)), np.full(classes, -10.0)
    seen = np.unique(labels)
    if seen.size == 1:
        offset[seen] = 0.0
        return weights, offset
    model = LogisticRegression(C=4.0, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(words, labels)
    if seen.size == 2:  # one row of weights stands for the second class
        weights[seen[1]], offset[seen] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        weights[seen], offset[seen] = model.coef_, model.intercept_
    return weights, offset


def tested_ngrams(texts: list[str], labels: Ints, model: Model, alpha: float) -> Tested:
    """Test every n-gram of up to five words that enough rows hold.

    `alpha` is the chance of a false name over all n-grams and labels together.
    """
    classes = model.logits.shape[1]
    counter = CountVectorizer(
        token_pattern=WORD, ngram_range=(1, LONGEST), min_df=LEAST_ROWS, binary=True
    )
    held = counter.fit_transform([f"{START} {t}" for t in texts]).tocsc()
    names = counter.get_feature_names_out()
    column_of = np.repeat(np.arange(held.shape[1]), np.diff(held.indptr))
    flat = np.bincount(column_of * classes + labels[held.indices], minlength=names.size * classes)
    counts = flat.reshape(-1, classes)
    top, total = counts.argmax(1), counts.sum(1)
    chosen = np.flatnonzero(counts.max(1) >= np.maximum(SHARE * total, LEAST_ROWS))
    log_bar = float(np.log(alpha / max(1, names.size * (classes - 1))))
    tested_rows = [held.indices[held.indptr[g] : held.indptr[g + 1]] for g in chosen]
    rest = _rest(model, names[chosen], tested_rows)
    log_p, against = np.zeros(chosen.size), np.zeros(chosen.size)
    for i, (g, rows) in enumerate(zip(chosen, tested_rows, strict=True)):
        agrees = labels[rows] == top[g]
        shares = _softmax(model.power * rest[i])
        log_p[i] = _log_tail(agrees, shares[:, top[g]], log_bar)
        against[i] = float((shares.argmax(1) != top[g])[agrees].mean())
    return Tested(
        list(names[chosen]), top[chosen], tested_rows, log_p, against, names.size * (classes - 1)
    )


def _rest(model: Model, names: Any, rows: list[Ints]) -> list[Floats]:
    """The logits of each n-gram's rows with the n-gram's own words taken out."""
    sizes = np.array([r.size for r in rows], np.int64)
    row = np.concatenate(rows) if rows else np.empty(0, np.int64)
    logits = model.logits[row]
    for place in range(LONGEST):
        token = np.array([_token(name, place, model.columns) for name in names], np.int64)
        wanted = np.repeat(token, sizes)
        there = np.flatnonzero(wanted >= 0)
        if there.size:
            for k, part in enumerate(model.parts):
                logits[there, k] -= np.asarray(part[row[there], wanted[there]]).ravel()
    return list(np.split(logits, np.cumsum(sizes)[:-1])) if rows else []


def _token(name: str, place: int, columns: dict[str, int]) -> int:
    """The column of an n-gram's word at a place; -1 for none, for the mark and for a repeat."""
    words = name.split(" ")
    if place >= len(words) or words[place] in words[:place]:
        return -1
    return columns.get(words[place], -1)


def _log_tail(agrees: NDArray[np.bool_], shares: Floats, log_bar: float) -> float:
    """Ln P(as many agree), each row's odds inflated by what a word may add by nature.

    The product over the agreeing rows is a lower bound of the tail, so that Chernoff's bound is
    worked out only where that product is small enough.
    """
    odds = np.log(np.maximum(shares, 1e-12)) - np.log(np.maximum(1.0 - shares, 1e-12)) + NATURAL
    rates = 1.0 / (1.0 + np.exp(-odds))
    least = float(np.log(rates[agrees]).sum())
    if agrees.all() or least > log_bar / 4:
        return least if agrees.all() else 0.0
    return chernoff_log_tail(float(agrees.sum()), rates)


def natural_rate(model: Model, labels: Ints) -> float:
    """The usual chance that a row would carry a label other than its own, odds inflated."""
    shares = model.shares()
    shares[np.arange(labels.size), labels] = 0.0
    other = np.clip(shares.max(1), 1e-9, 1 - 1e-9)
    odds = np.log(other / (1 - other)) + NATURAL
    return float(np.median(1.0 / (1.0 + np.exp(-odds))))


def _softmax(logits: Floats) -> Floats:
    made = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(made / made.sum(1, keepdims=True), np.float64)
