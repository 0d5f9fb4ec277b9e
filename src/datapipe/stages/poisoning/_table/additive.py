# SPDX-License-Identifier: Apache-2.0
"""A model of the label that adds up over columns, so that one can be taken out without a refit."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from datapipe.core.dataset import Dataset
from datapipe.features.tables import numeric_features
from datapipe.stages.poisoning._labelled import Labelled
from datapipe.stages.poisoning._table.predicates import MANY_VALUES, Column

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STRENGTH = 0.3
"""Inverse strength of the penalty on weights of standardised columns."""


@dataclass(frozen=True, eq=False)
class Additive:
    """Out-of-fold logits, shape (n, K), and what each column adds to them, (n, columns, K).

    What a column adds is taken from its mean over all rows: without it, it says nothing.
    """

    logits: Floats
    parts: NDArray[np.float32]
    names: tuple[str, ...]

    @property
    def shares(self) -> Floats:
        """The chance of each label, shape (n, K)."""
        return softmax(self.logits)

    def without(self, rows: Ints, columns: set[str]) -> Floats:
        """The chance of each label in some rows without some columns, shape (m, K)."""
        left = self.logits[rows].copy()
        for place, name in enumerate(self.names):
            if name in columns:
                left -= self.parts[rows, place]
        return softmax(left)


def fit_additive(data: Dataset, rows: Labelled, columns: list[Column], fold: Ints) -> Additive:
    """Fit on the other folds; numbers are also seen in bins or by value: effects may bend."""
    names = tuple(dict.fromkeys(c.name for c in columns))
    labels, classes = rows.labels, len(rows.names)
    blocks = [_block(data, name, rows.place, columns) for name in names]
    owner = np.repeat(np.arange(len(names)), [b.shape[1] for b in blocks])
    values = np.column_stack(blocks)
    spread = values.std(0)
    values = (values - values.mean(0)) / np.where(spread > 0, spread, 1.0)
    logits = np.zeros((labels.size, classes))
    parts = np.zeros((labels.size, len(names), classes), np.float32)
    for number in np.unique(fold):
        asked, fitted = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        coef, base = _coefficients(values[fitted], labels[fitted], classes)
        logits[asked] = values[asked] @ coef.T + base
        for place in range(len(names)):
            mine = owner == place
            parts[asked, place] = values[asked][:, mine] @ coef[:, mine].T
    return Additive(logits, parts, names)


def _block(data: Dataset, name: str, rows: Ints, columns: list[Column]) -> NDArray[np.float32]:
    plain = numeric_features(data, [name])[0][rows]
    mine = [c for c in columns if c.name == name]
    bins = [c for c in mine if c.binned] or [
        c for c in mine if c.numbers.size and len(c.where) <= MANY_VALUES
    ]
    indicators = [(c.code[:, None] == np.arange(len(c.where))) for c in bins]
    return np.column_stack([plain, *indicators]).astype(np.float32)


def _coefficients(values: NDArray[np.float32], labels: Ints, classes: int) -> tuple[Floats, Floats]:
    """Weights (K, d) and intercepts (K,); a class that no row has gets the lowest one."""
    coef, base = np.zeros((classes, values.shape[1])), np.full(classes, -10.0)
    seen = np.unique(labels)
    if seen.size == 1:
        base[seen] = 0.0
        return coef, base
    model = LogisticRegression(C=STRENGTH, max_iter=100, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(values, labels)
    if seen.size == 2:  # one row of weights stands for the second class
        coef[seen[1]], base[seen] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        coef[seen], base[seen] = model.coef_, model.intercept_
    return coef, base


def softmax(logits: Floats) -> Floats:
    """Logits as chances, row by row."""
    made: Floats = logits - logits.max(1, keepdims=True)
    np.exp(made, out=made)
    made /= made.sum(1, keepdims=True)
    return made


def copies(frame: pl.DataFrame) -> Ints:
    """A number for each row, the same for rows that are equal in every column."""
    return frame.select(pl.struct(pl.all()).rank("dense")).to_series().to_numpy().astype(np.int64)
