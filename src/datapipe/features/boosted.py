# SPDX-License-Identifier: Apache-2.0
"""Boosted trees that fit on some rows and predict others; needs scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Predict = Callable[[Ints, Ints], Floats]

ROUNDS = 60
"""Trees a class: few and shallow, for a wrong label is learnt by the last and deepest ones."""
LEAVES = 15


def boosted_predictor(values: NDArray[np.float32], labels: Ints, classes: int) -> Predict:
    """Gradient-boosted trees over histograms of the columns.

    Args:
        values: float32, shape (n, d).
        labels: int, shape (n,), in 0..classes-1.
        classes: K.

    Returns:
        A function of row numbers to fit on and to predict, giving float64 of shape (m, K).

    Example:
        >>> x = np.repeat(np.array([[0.0], [1.0]], np.float32), 60, axis=0)
        >>> predict = boosted_predictor(x, np.repeat([0, 1], 60), 2)
        >>> predict(np.arange(1, 119), np.array([0, 119])).argmax(1).tolist()
        [0, 1]

    References:
        Friedman, 2001, Greedy function approximation: a gradient boosting machine.
    """

    def predict(fitted: Ints, asked: Ints) -> Floats:
        made = np.zeros((asked.size, classes))
        seen = np.unique(labels[fitted])
        if seen.size == 1:
            made[:, seen[0]] = 1.0
            return made
        model = HistGradientBoostingClassifier(
            max_iter=ROUNDS,
            learning_rate=0.1,
            max_leaf_nodes=LEAVES,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=0,
        )
        model.fit(values[fitted], labels[fitted])
        made[:, model.classes_] = model.predict_proba(values[asked])
        return made

    return predict
