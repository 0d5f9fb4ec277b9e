# SPDX-License-Identifier: Apache-2.0
"""How far probabilities can be believed, and one number that mends over-confidence."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FLOOR = 0.02
"""Share of uniform noise mixed in while fitting, so that a few wrong labels do not rule it."""


def temperature(probabilities: Floats, labels: Ints) -> float:
    """The temperature that makes the given labels likeliest.

    The labels may be noisy: mixing in a little uniform noise keeps single wrong ones from forcing
    every row towards doubt.

    Args:
        probabilities: float, shape (n, K); rows sum to 1.
        labels: int, shape (n,), in 0..K-1.

    Returns:
        An exponent in [e^-3, e]: `softened` raises probabilities to it. Below 1 for a model that
        is over-confident.

    Raises:
        DeclarationError: The shapes do not fit.

    Example:
        >>> sure = np.array([[0.99, 0.01]] * 10)
        >>> temperature(sure, np.array([0] * 7 + [1] * 3)) < 0.5
        True

    References:
        Guo et al., 2017, On calibration of modern neural networks.
    """
    if probabilities.ndim != 2 or len(labels) != len(probabilities):
        raise DeclarationError(
            f"temperature: {probabilities.shape} probabilities and {len(labels)} labels do not fit"
        )
    logs = np.log(np.maximum(probabilities, 1e-12))

    def loss(power: float) -> float:
        soft = _softmax(power * logs)
        given = soft[np.arange(len(labels)), labels]
        return float(-np.log((1 - FLOOR) * given + FLOOR / logs.shape[1]).sum())

    return math.exp(lowest(lambda x: loss(math.exp(x)), -3.0, 1.0))


def softened(probabilities: Floats, power: float) -> Floats:
    """Probabilities raised to a power and brought back to sum 1.

    Args:
        probabilities: float, shape (n, K).
        power: > 0; below 1 moves them towards uniform.

    Returns:
        float64, shape (n, K).

    Example:
        >>> softened(np.array([[0.9, 0.1]]), 0.5).round(3).tolist()
        [[0.75, 0.25]]
    """
    return _softmax(power * np.log(np.maximum(probabilities, 1e-12)))


def calibration_error(
    confidence: Floats, correct: NDArray[np.bool_], *, bins: int = 15, level: float = 0.95
) -> Estimate:
    """Expected calibration error: the mean gap between confidence and accuracy.

    Bins hold equally many rows, so that none rests on a handful.

    Args:
        confidence: float in [0, 1], shape (n,); probability of the class that was chosen.
        correct: bool, shape (n,).
        bins: How many bins, >= 1.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The error in [0, 1]; its interval is a normal one from the spread of the bins' accuracies.

    Example:
        >>> calibration_error(np.full(100, 0.9), np.arange(100) < 90).value < 1e-9
        True

    References:
        Naeini, Cooper & Hauskrecht, 2015, Obtaining well calibrated probabilities.
    """
    n = len(confidence)
    if n == 0:
        return Estimate.unknown(method="no rows", level=level)
    order = np.argsort(confidence, kind="stable")
    place = np.empty(n, np.int64)
    place[order] = np.arange(n) * min(bins, n) // n
    _, first = np.unique(confidence[order], return_index=True)  # ties share a bin
    tie = np.searchsorted(first, np.arange(n), side="right") - 1
    place[order] = place[order][first][tie]
    count = np.bincount(place).astype(np.float64)
    used = count > 0
    hits = np.bincount(place, weights=correct)[used] / count[used]
    said = np.bincount(place, weights=confidence)[used] / count[used]
    share = count[used] / n
    value = float((share * np.abs(hits - said)).sum())
    spread = math.sqrt(float((share**2 * hits * (1 - hits) / count[used]).sum()))
    half = NormalDist().inv_cdf(0.5 + level / 2) * spread
    low, high = max(0.0, value - half), max(value, min(1.0, value + half))
    return Estimate(value, low, high, n=n, method="equal-mass bins", level=level)


def _softmax(logs: Floats) -> Floats:
    made = np.exp(logs - logs.max(1, keepdims=True))
    shares: Floats = made / made.sum(1, keepdims=True)
    return shares


def lowest(loss: Callable[[float], float], low: float, high: float, *, steps: int = 30) -> float:
    """Where a loss with one valley is lowest, by golden section.

    Args:
        loss: The loss.
        low: Lower end of where to look.
        high: Upper end.
        steps: How often the interval is cut, to 0.62 of its length each time.

    Returns:
        The place.

    Example:
        >>> round(lowest(lambda x: (x - 1.0) ** 2, -3.0, 3.0), 3)
        1.0
    """
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(steps):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return 0.5 * (low + high)
