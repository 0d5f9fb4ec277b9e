# SPDX-License-Identifier: Apache-2.0
"""Wrong labels that are sets of classes, sequences of tokens, or values.

Masks and scores are those of cleanlab's modules for these kinds; a score here is the chance to be
wrong or its like, one minus their quality.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import DeclarationError
from datapipe.measure.label_scan import pruned
from datapipe.measure.label_sources import InMemory

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Probabilities = NDArray[np.floating[Any]]

WORST = 0.8
"""How much the worst class of a row counts against all that are better."""
RESIDUALS = 5.0
"""How much more a residual counts than a value when both are looked at together."""
MOST_POINTS = 10_000
"""Most rows whose distances are averaged; beyond, an even sample of them stands for all."""
FAR = 5.0
"""Robust standard deviations from which on a residual is far: 6 in 10 million of normal ones."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What was found in the parts of rows: classes of a set, tokens of a sequence.

    Args:
        mask: bool; of the parts' shape: which are issues.
        doubt: float64, of the same shape; one minus the probability of what is given.
        score: float64, shape (n,); how doubtful each row is, in [0, 1].
        likeliest: int64, shape (parts,); the likeliest class of each token; empty for sets.
        rate: The share of parts that confident learning holds to be wrong, in [0, 1].

    Example:
        >>> Parts.__name__
        'Parts'
    """

    mask: Bools
    doubt: Floats
    score: Floats
    likeliest: Ints
    rate: float


def set_issues(given: Bools, probabilities: Probabilities) -> Parts:
    """Sets of classes: each class is a yes or no of its own, pruned by its own noise rate.

    Args:
        given: bool, shape (n, K): which classes each row has.
        probabilities: float, shape (n, K), each in [0, 1]; rows need not sum to 1.

    Returns:
        Mask and doubt of shape (n, K); a row's score leans on its worst class.

    Raises:
        DeclarationError: The shapes do not fit, or a probability lies outside [0, 1].

    Example:
        >>> given = np.array([[True, False]] * 9 + [[False, True]] * 9 + [[True, True]])
        >>> p = np.array([[0.9, 0.1]] * 9 + [[0.1, 0.9]] * 9 + [[0.05, 0.9]])
        >>> np.argwhere(set_issues(given, p).mask).tolist()
        [[18, 0]]

    References:
        Thyagarajan et al., 2023, Identifying incorrect annotations in multi-label classification
        data.
    """
    if probabilities.ndim != 2 or given.shape != probabilities.shape or not given.size:
        raise DeclarationError(f"{given.shape} labels and {probabilities.shape} probabilities")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise DeclarationError("a probability lies outside [0, 1]", hint="apply a sigmoid first")
    mask = np.zeros(given.shape, bool)
    wrong = 0
    for k in range(given.shape[1]):
        said = given[:, k].astype(np.int64)
        found = pruned(InMemory(said, np.stack([1 - probabilities[:, k], probabilities[:, k]], 1)))
        mask[:, k] = found.mask
        wrong += said.size - int(np.trace(found.joint))
    quality = np.where(given, probabilities, 1.0 - probabilities).astype(np.float64)
    ordered = np.sort(quality, axis=1)[:, ::-1]
    mean = ordered[:, 0]
    for k in range(1, ordered.shape[1]):
        mean = WORST * ordered[:, k] + (1.0 - WORST) * mean
    return Parts(mask, 1.0 - quality, 1.0 - mean, np.empty(0, np.int64), wrong / given.size)


def token_issues(labels: Ints, probabilities: Probabilities, lengths: Ints) -> Parts:
    """Sequences of tokens: all tokens are pruned together, a row is as doubtful as its worst.

    Args:
        labels: int, shape (tokens,), in 0..K-1: the sequences one after the other.
        probabilities: float, shape (tokens, K).
        lengths: int, shape (n,), >= 0: tokens of each sequence.

    Returns:
        Mask, doubt and likeliest class of shape (tokens,); scores of shape (n,), 0 for a sequence
        without tokens.

    Raises:
        DeclarationError: The lengths do not add up to the tokens.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.7, 0.3], [0.05, 0.95], [0.8, 0.2], [0.8, 0.2]])
        >>> token_issues(np.array([0, 0, 1, 0, 1]), p, np.array([3, 2])).mask.tolist()
        [False, False, False, False, True]

    References:
        Wang & Mueller, 2022, Detecting label errors in token classification data.
    """
    if int(lengths.sum()) != labels.size or labels.size == 0:
        raise DeclarationError(f"{labels.size} tokens for lengths of {int(lengths.sum())} together")
    found = pruned(InMemory(labels, probabilities))
    doubt = 1.0 - found.scan.own.astype(np.float64)
    some = np.flatnonzero(lengths)
    starts = (np.cumsum(lengths) - lengths)[some]
    score = np.zeros(lengths.size)
    score[some] = np.maximum.reduceat(doubt, starts)
    rate = 1.0 - float(np.trace(found.joint)) / labels.size
    return Parts(found.mask, doubt, score, found.scan.leading.astype(np.int64), rate)


@dataclass(frozen=True, eq=False)
class Values:
    """What was made of labels that are numbers.

    Args:
        mask: bool, shape (n,); labels far from what is predicted.
        score: float64, shape (n,); how odd label and residual are together, in [0, 1).
        spread: Robust standard deviation of the residuals, >= 0.

    Example:
        >>> Values(np.zeros(1, bool), np.zeros(1), 1.0).spread
        1.0
    """

    mask: Bools
    score: Floats
    spread: float


def value_issues(labels: Floats, predictions: Floats) -> Values:
    """Labels that are numbers, against out-of-fold predictions of them.

    Rows are ranked by how far label and residual lie from half of all rows; flagged is a residual
    more than `FAR` robust standard deviations from the median.

    Args:
        labels: float, shape (n,), finite.
        predictions: float, shape (n,), finite; out of fold.

    Returns:
        Mask, scores and the residuals' spread.

    Raises:
        DeclarationError: The shapes do not fit, or a number is missing or infinite.

    Example:
        >>> y = np.arange(40.0)
        >>> guess = y + np.tile([0.1, -0.1], 20)
        >>> y[7] = 30.0
        >>> made = value_issues(y, guess)
        >>> np.flatnonzero(made.mask).tolist(), int(made.score.argmax())
        ([7], 7)

    References:
        Zhou, Mueller et al., 2023, Detecting errors in numerical data via any regression model
        (label and residual together).
    """
    if labels.shape != predictions.shape or labels.ndim != 1 or not labels.size:
        raise DeclarationError(f"{labels.shape} labels and {predictions.shape} predictions")
    if not (np.isfinite(labels).all() and np.isfinite(predictions).all()):
        raise DeclarationError("a label or prediction is missing or infinite")
    residual = predictions - labels
    away = np.abs(residual - np.median(residual))
    spread = 1.4826 * float(np.median(away))
    floor = 1e-9 * float(np.abs(labels).max())
    points = np.stack([_standard(labels), RESIDUALS * _standard(residual)], axis=1)
    mean = _mean_distance(points)
    scale = max(float(np.median(mean)), 100 * np.finfo(np.float64).eps)
    return Values(away > FAR * max(spread, floor), 1.0 - np.exp(-mean / scale), spread)


def _standard(values: Floats) -> Floats:
    made: Floats = (values - values.mean()) / (values.std() + 1e-100)
    return made


def _mean_distance(points: Floats) -> Floats:
    """The mean distance to the nearer half of all rows, the row itself among them."""
    n = len(points)
    others = points[:: max(1, -(-n // MOST_POINTS))]
    near = int(np.ceil(0.5 * len(others)))
    made = np.empty(n)
    step = max(1, 2**22 // len(others))
    for start in range(0, n, step):
        gap = points[start : start + step, None] - others
        apart = np.sqrt((gap**2).sum(2))
        made[start : start + step] = np.partition(apart, near - 1, axis=1)[:, :near].mean(1)
    return made
