# SPDX-License-Identifier: Apache-2.0
"""Out-of-fold predictions: folds that split no group, what they tell, and a second round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError
from datapipe.measure.calibration import softened, temperature
from datapipe.measure.label_noise import (
    LabelPosterior,
    prune_by_noise_rate,
    transition_posterior,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

Predict = Callable[[Ints, Ints], Floats]
"""Fits on the rows of the first array, gives the class probabilities of those of the second."""

Z = 1.96
"""Half a 95 % interval of the normal law, in standard deviations."""


def stratified_folds(labels: Ints, folds: int, rng: np.random.Generator, groups: Ints) -> Ints:
    """Deal rows to folds so that each has its share of every class and no group is split.

    Args:
        labels: int, shape (n,).
        folds: How many, >= 2.
        rng: Shuffles the rows.
        groups: int, shape (n,); rows that stay together.

    Returns:
        int64, shape (n,), in 0..folds-1.

    Raises:
        DeclarationError: Fewer than two folds are asked for.

    Example:
        >>> y = np.array([0, 0, 1, 1])
        >>> made = stratified_folds(y, 2, np.random.default_rng(0), np.arange(4))
        >>> bool(made[0] != made[1]), bool(made[2] != made[3])
        (True, True)
    """
    if folds < 2:
        raise DeclarationError(f"{folds} folds: at least 2 are needed", hint="use folds=5")
    heads, member = np.unique(groups, return_inverse=True)
    first = np.full(heads.size, -1)
    first[member[::-1]] = np.arange(labels.size)[::-1]
    order = rng.permutation(heads.size)
    order = order[np.argsort(labels[first[order]], kind="stable")]
    fold = np.empty(heads.size, np.int64)
    fold[order] = (np.arange(heads.size) + rng.integers(folds)) % folds
    return fold[member]


def out_of_fold(predict: Predict, fold: Ints, keep: Bools, classes: int) -> Floats:
    """The class probabilities of every row from a model that has not seen it.

    Args:
        predict: Fits and predicts by row numbers.
        fold: int64, shape (n,); each row's fold.
        keep: bool, shape (n,); rows that may be fitted on.
        classes: K.

    Returns:
        float64, shape (n, K).

    Example:
        >>> half = lambda fitted, asked: np.full((asked.size, 2), 0.5)
        >>> out_of_fold(half, np.array([0, 1]), np.array([True, True]), 2).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    made = np.full((fold.size, classes), 1.0 / classes)
    for number in np.unique(fold):
        asked = np.flatnonzero(fold == number)
        fitted = np.flatnonzero((fold != number) & keep)
        if fitted.size:
            made[asked] = predict(fitted, asked)
    return made


def recalled(labels: Ints, probabilities: Floats) -> tuple[Floats, Ints]:
    """The share of each class that is predicted, and its rows.

    Args:
        labels: int64 in 0..K-1, shape (n,).
        probabilities: float64 in [0, 1], shape (n, K).

    Returns:
        float64 in [0, 1], shape (K,), 0 for a class without rows; and int64 >= 1, shape (K,).

    Example:
        >>> recalled(np.array([0, 0, 1]), np.eye(2)[[0, 1, 1]])[0].tolist()
        [0.5, 1.0]
    """
    k = probabilities.shape[1]
    right = probabilities.argmax(1) == labels
    held = np.maximum(np.bincount(labels, minlength=k), 1)
    return np.asarray(np.bincount(labels, right, minlength=k) / held, np.float64), held


def telling(labels: Ints, probabilities: Floats) -> Estimate:
    """How well out-of-fold predictions tell the labels, whatever share of the rows a class has.

    The mean share of a class that is predicted, on the scale where guessing has 0 and certainty 1.

    Args:
        labels: int64 in 0..K-1, shape (n,); every class has a row.
        probabilities: float64 in [0, 1], shape (n, K), K >= 2.

    Returns:
        The figure in [-1, 1] with its 95 % interval, by the normal law.

    Example:
        >>> round(telling(np.array([0, 0, 1, 1] * 9), np.eye(2)[[0, 0, 1, 0] * 9]).value, 2)
        0.5
    """
    k = probabilities.shape[1]
    recall, held = recalled(labels, probabilities)
    spread = np.sqrt((recall * (1.0 - recall) / held).sum()) / k
    value, half = (x / (1.0 - 1.0 / k) for x in (recall.mean() - 1.0 / k, Z * spread))
    low, high = max(value - half, -1.0), min(value + half, 1.0)
    return Estimate(float(value), float(low), float(high), n=labels.size, method="macro recall")


@dataclass(frozen=True, eq=False)
class Refit:
    """Two rounds of out-of-fold prediction: with every label, then without the suspect ones.

    Args:
        first: float64, shape (n, K); probabilities learnt from all labels.
        pruned: bool, shape (n,); rows that confident learning leaves out of the second round.
        second: float64, shape (n, K); probabilities learnt from the rest, temperature-scaled.
        posterior: Each label's chance of being wrong, by the second round.

    Example:
        >>> Refit.__name__
        'Refit'
    """

    first: Floats
    pruned: Bools
    second: Floats
    posterior: LabelPosterior


def refit(
    predict: Predict, labels: Ints, fold: Ints, classes: int, first: Floats | None = None
) -> Refit:
    """Predict out of fold, leave out the labels that contradict, and predict again.

    A model fitted to noisy labels learns the noise with them, and its probabilities then explain
    the noise away; the second model, fitted to the labels that held, does not.

    Args:
        predict: Fits and predicts by row numbers.
        labels: int, shape (n,), in 0..classes-1.
        fold: int64, shape (n,); each row's fold.
        classes: K.
        first: float64, shape (n, K); the first round, where it is known; None computes it.

    Returns:
        Both rounds and the posterior.

    Example:
        >>> from datapipe.measure.kernel import kernel_predictor
        >>> x = np.repeat([[0.0], [9.0]], 99, axis=0).astype(np.float32)
        >>> x += np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
        >>> y = np.repeat([0, 1], 99); y[3:9] = 1
        >>> rng = np.random.default_rng(0)
        >>> fold = stratified_folds(y, 5, rng, np.arange(198))
        >>> made = refit(kernel_predictor(x, y, 2, rng), y, fold, 2)
        >>> np.flatnonzero(made.posterior.error > 0.5).tolist()
        [3, 4, 5, 6, 7, 8]
    """
    if first is None:
        first = out_of_fold(predict, fold, np.ones(labels.size, bool), classes)
    pruned = prune_by_noise_rate(labels, first)
    second = out_of_fold(predict, fold, ~pruned, classes)
    power = temperature(second[~pruned], labels[~pruned])
    second = softened(second, power)
    return Refit(first, pruned, second, transition_posterior(labels, second))
