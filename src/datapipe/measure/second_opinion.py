# SPDX-License-Identifier: Apache-2.0
"""A second opinion on class probabilities, from rows that a model holds to be alike.

A model that learnt from noisy labels, or that can only draw straight lines, errs in ways that rows
with similar probabilities have in common. A kernel over the probabilities learns these ways from
the given labels, and as much of it is mixed in as left-out labels ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.crossfit import out_of_fold, stratified_folds
from datapipe.measure.kernel import LANDMARKS, kernel_predictor
from datapipe.measure.noise_models import FITTED_ROWS, LEAST, NoiseModel, noise_model

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Probabilities = NDArray[np.floating[Any]]

WEIGHTS = (0.2, 0.4)
"""Shares of the second opinion that are tried; more blurs what a good model knew."""
FEWEST_ROWS = 200
"""With fewer rows there are too few alike."""
MOST_CLASSES = 64
FEW_LANDMARKS = 400
"""Rows that the kernel is centred on where there are more than `LANDMARKS`."""
FLOOR = 1e-3
"""Probabilities below this count as equal: their logarithms would rule the distances."""


@dataclass(frozen=True, eq=False)
class Opinion:
    """What was made of given probabilities.

    Args:
        model: The noise model that left-out labels choose.
        probabilities: float64, shape (n, K): what it judges labels by.
        weight: Share of the second opinion in them, in [0, 1]; 0 leaves them as given.

    Example:
        >>> Opinion.__name__
        'Opinion'
    """

    model: NoiseModel
    probabilities: Floats
    weight: float


def worth_asking(rows: int, classes: int) -> bool:
    """Whether a second opinion can be had at a cost like that of the noise model itself.

    Args:
        rows: How many rows, n.
        classes: How many classes, K.

    Returns:
        True for some hundreds to some ten thousands of rows, and not too many classes.

    Example:
        >>> worth_asking(5000, 10), worth_asking(50, 10), worth_asking(10**6, 10)
        (True, False, False)
    """
    return FEWEST_ROWS <= rows <= FITTED_ROWS and classes <= MOST_CLASSES


def second_opinion(labels: Ints, probabilities: Probabilities, rng: np.random.Generator) -> Opinion:
    """Mix in what rows with similar probabilities are labelled, where left-out labels ask for it.

    The choice is by the likelihood of given labels that neither the kernel nor the noise model was
    shown; no truth is needed.

    Args:
        labels: int, shape (n,), in 0..K-1.
        probabilities: float, shape (n, K); out of fold.
        rng: Deals folds and halves.

    Returns:
        The noise model and the probabilities that it judges by.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.uniform(-1, 1, 600)
        >>> true = (np.abs(x) > 0.5).astype(int)
        >>> given = np.where(rng.random(600) < 0.1, 1 - true, true)
        >>> line = 1 / (1 + np.exp(-3 * x))  # what a straight line can say of two ends
        >>> made = second_opinion(given, np.stack([1 - line, line], 1), rng)
        >>> made.weight
        0.4

    References:
        Wolpert, 1992, Stacked generalization (a second level that learns how the first one errs).
    """
    state = rng.integers(2**63)
    given = probabilities.astype(np.float64)
    best = Opinion(noise_model(labels, given, np.random.default_rng(state)), given, 0.0)
    if not worth_asking(*given.shape):
        return best
    second = np.log(_alike(labels, given, rng))
    first = np.log(np.maximum(given, LEAST))
    for weight in WEIGHTS:
        mixed = np.exp((1.0 - weight) * first + weight * second)
        mixed /= mixed.sum(1, keepdims=True)
        model = noise_model(labels, mixed, np.random.default_rng(state))
        if _likelihood(model) > _likelihood(best.model):
            best = Opinion(model, mixed, weight)
    return best


def _alike(labels: Ints, probabilities: Floats, rng: np.random.Generator) -> Floats:
    """What rows of similar probabilities are labelled, out of fold."""
    logs = np.log(np.maximum(probabilities, FLOOR))
    places = (logs - logs.mean(1, keepdims=True)).astype(np.float32)
    n, classes = places.shape
    marks = LANDMARKS if n <= LANDMARKS else FEW_LANDMARKS
    predict = kernel_predictor(places, labels, classes, rng, landmarks=marks)
    fold = stratified_folds(labels, 5, rng, np.arange(n))
    return out_of_fold(predict, fold, np.ones(n, bool), classes)


def _likelihood(model: NoiseModel) -> float:
    return max(score.value for score in model.scores.values())
