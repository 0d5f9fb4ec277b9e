# SPDX-License-Identifier: Apache-2.0
"""Confident learning: which labels contradict out-of-fold probabilities, and how often they do.

Probabilities are float arrays of shape (n, K) whose rows sum to 1; labels are class numbers. Work
is done in blocks of rows, so that beside the input only K x K counts are held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import DeclarationError
from datapipe.measure.label_scan import joint_of, pruned, scanned
from datapipe.measure.label_sources import InMemory, Probabilities

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BLOCK_VALUES = 2**22
"""Most probabilities handled at once."""


def class_thresholds(labels: Ints, probabilities: Probabilities) -> Floats:
    """How sure of class k a model is, on average, on the rows labelled k.

    Args:
        labels: int, shape (n,), in 0..K-1.
        probabilities: float, shape (n, K).

    Returns:
        float, shape (K,); 2, which nothing reaches, for a class without rows.

    Example:
        >>> class_thresholds(np.array([0, 0, 1]), np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]]))
        array([0.7, 0.9])
    """
    return scanned(InMemory(labels, probabilities)).thresholds


def confident_joint(
    labels: Ints, probabilities: Probabilities, *, fix_collisions: bool = False
) -> NDArray[np.int64]:
    """How many rows labelled i a model confidently holds to be j.

    Args:
        labels: int, shape (n,), in 0..K-1.
        probabilities: float, shape (n, K).
        fix_collisions: Where several classes pass their threshold, choose among those only. The
            reference implementation chooses among all classes; False does as it does.

    Returns:
        int64, shape (K, K): given label by likely label, scaled so that rows sum to the class
        counts.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
        >>> confident_joint(np.array([0, 0, 1, 1, 1]), p).tolist()
        [[2, 0], [1, 2]]

    References:
        Northcutt, Jiang & Chuang, 2021, Confident learning: estimating uncertainty in dataset
        labels.
    """
    source = InMemory(labels, probabilities)
    return joint_of(source, scanned(source), fix_collisions=fix_collisions)


def prune_by_noise_rate(
    labels: Ints, probabilities: Probabilities, joint: Ints | None = None
) -> Bools:
    """The rows that confident learning would prune: equal, row by row, to cleanlab's default.

    For each pair of classes the confident joint says how many rows are mislabelled; those are taken
    where the other class beats the given one by the largest margin. Rows whose given label is the
    likeliest are never taken.

    Args:
        labels: int, shape (n,), in 0..K-1.
        probabilities: float, shape (n, K).
        joint: The result of `confident_joint`; None computes it.

    Returns:
        bool, shape (n,).

    Example:
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
        >>> prune_by_noise_rate(np.array([0, 0, 1, 1, 1]), p).tolist()
        [False, False, False, False, True]

    References:
        Northcutt, Jiang & Chuang, 2021, Confident learning: estimating uncertainty in dataset
        labels.
    """
    return pruned(InMemory(labels, probabilities), joint).mask


@dataclass(frozen=True, eq=False)
class LabelPosterior:
    """What each label's chance of being wrong is, once label noise is modelled.

    Args:
        error: float64, shape (n,); probability in [0, 1] that the given label is wrong.
        likeliest: int64, shape (n,); the likeliest true class.
        transition: float64, shape (K, K); row k is P(given label | true class k).

    Example:
        >>> LabelPosterior(np.zeros(1), np.zeros(1, np.int64), np.eye(2)).transition.shape
        (2, 2)
    """

    error: Floats
    likeliest: Ints
    transition: Floats


def transition_posterior(
    labels: Ints, probabilities: Floats, *, rounds: int = 50
) -> LabelPosterior:
    """Fit which class is taken for which, and weigh every label by it.

    A confusion that many rows show (1 taken for 7) makes each row that shows it more doubtful;
    self-confidence alone cannot see that. The probabilities must come from a model that did not
    learn the noise: with one that did, the noise rate comes out too low.

    Args:
        labels: int, shape (n,), in 0..K-1.
        probabilities: float, shape (n, K); P(true class | features).
        rounds: Most EM rounds, >= 1.

    Returns:
        The posterior.

    Raises:
        DeclarationError: The shapes do not fit.

    Example:
        >>> p = np.array([[0.99, 0.01]] * 9 + [[0.01, 0.99]] * 9)
        >>> y = np.array([0] * 8 + [1] + [1] * 9)
        >>> np.flatnonzero(transition_posterior(y, p).error > 0.5).tolist()
        [8]

    References:
        Dawid & Skene, 1979, Maximum likelihood estimation of observer error-rates using the EM
        algorithm (here with a model as the second observer).
    """
    if probabilities.ndim != 2 or labels.size != len(probabilities):
        raise DeclarationError(
            f"{probabilities.shape} probabilities and {labels.size} labels do not fit"
        )
    classes = probabilities.shape[1]
    transition = 0.9 * np.eye(classes) + 0.1 / classes
    for _ in range(rounds):
        seen = np.full((classes, classes), 1.0 / classes)
        for rows in _blocks(labels.size, classes):
            shares = _shares(labels[rows], probabilities[rows], transition)
            order = np.argsort(labels[rows], kind="stable")
            given, first = np.unique(labels[rows][order], return_index=True)
            seen[:, given] += np.add.reduceat(shares[order], first, axis=0).T
        fitted = seen / seen.sum(1, keepdims=True)
        moved = np.abs(fitted - transition).max()
        transition = fitted
        if moved < 1e-5:
            break
    error = np.empty(labels.size)
    likeliest = np.empty(labels.size, np.int64)
    for rows in _blocks(labels.size, classes):
        shares = _shares(labels[rows], probabilities[rows], transition)
        error[rows] = 1.0 - shares[np.arange(len(shares)), labels[rows]]
        likeliest[rows] = shares.argmax(1)
    return LabelPosterior(np.clip(error, 0.0, 1.0), likeliest, transition)


def _shares(labels: Ints, probabilities: Floats, transition: Floats) -> Floats:
    made = probabilities * transition[:, labels].T
    shares: Floats = made / np.maximum(made.sum(1, keepdims=True), 1e-300)
    return shares


def _blocks(n: int, classes: int) -> Iterator[slice]:
    step = max(1, BLOCK_VALUES // max(1, classes))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
