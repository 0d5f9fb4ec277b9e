# SPDX-License-Identifier: Apache-2.0
"""Speed against accuracy: whether an annotator's quick answers are worse than the slow ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST = 40
"""Answers below which quick and slow ones are not compared."""
QUICK = 0.25
"""Share of the answers that count as quick."""
LEAST_OF_ITEM = 3
"""Answers of an item from which on it has a usual time."""


@dataclass(frozen=True)
class Speed:
    """What an annotator's time tells of the answers.

    Args:
        correlation: Spearman's between time taken and being right, in [-1, 1]: above 0 where slow
            answers are better.
        quick: Share of the quickest quarter that is right, in [0, 1]; NaN for too few answers.
        others: The same of the rest.
        p_value: Chance of quick answers so much worse, were speed no matter.

    Example:
        >>> speed(np.ones(3), np.ones(3)).p_value
        1.0
    """

    correlation: Estimate
    quick: float
    others: float
    p_value: float


def relative_times(seconds: Floats, item: Ints) -> Floats:
    """How long each answer took against the usual time of its item: hard items take everybody long.

    Args:
        seconds: float, shape (n,): time taken; what is not above 0 is left out.
        item: int64, shape (n,), >= 0: the item answered.

    Returns:
        float64, shape (n,): log of the time over the item's median where it has three times, else
        over the median of all; NaN for what was left out.

    Raises:
        DeclarationError: The shapes differ.

    Example:
        >>> times = relative_times(np.array([2.0, 4, 8, 30, 60, 120]), np.repeat([0, 1], 3))
        >>> times.round(2).tolist()
        [-0.69, 0.0, 0.69, -0.69, 0.0, 0.69]
    """
    if seconds.shape != item.shape:
        raise DeclarationError(f"{seconds.shape} times for {item.shape} answers")
    known = np.flatnonzero(np.isfinite(seconds) & (seconds > 0))
    made = np.full(seconds.size, np.nan)
    if not known.size:
        return made
    logs = np.log(seconds[known].astype(np.float64))
    order = known[np.lexsort((logs, item[known]))]
    numbers, starts, counts = np.unique(item[order], return_index=True, return_counts=True)
    ordered = np.log(seconds[order].astype(np.float64))
    low, high = ordered[starts + (counts - 1) // 2], ordered[starts + counts // 2]
    usual = np.where(counts >= LEAST_OF_ITEM, (low + high) / 2, float(np.median(logs)))
    made[known] = logs - usual[np.searchsorted(numbers, item[known])]
    return made


def speed(right: Floats, times: Floats) -> Speed:
    """Hold one annotator's quick answers against the slow ones.

    Args:
        right: float in [0, 1], shape (n,): how likely each answer is right.
        times: float, shape (n,): time taken, on any rising scale; NaN where it is not known.

    Returns:
        The comparison.

    Raises:
        DeclarationError: The shapes differ.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> times = rng.random(400)
        >>> right = (rng.random(400) < 0.5 + 0.45 * (times > 0.25)).astype(float)
        >>> made = speed(right, times)
        >>> made.quick < 0.65 < made.others, made.p_value < 1e-6, made.correlation.low > 0
        (True, True, True)

    References:
        Wickelgren, 1977, Speed-accuracy tradeoff and information processing dynamics; Fieller,
        Hartley & Pearson, 1957, Tests for rank correlation coefficients (the interval).
    """
    if right.shape != times.shape:
        raise DeclarationError(f"{times.shape} times for {right.shape} answers")
    known = np.isfinite(times)
    right, times = right[known], times[known]
    n = right.size
    spread = right.size and float(right.std()) > 0 and float(times.std()) > 0
    if n < FEWEST or not spread:
        why = f"fewer than {FEWEST} timed answers" if n < FEWEST else "nothing varies"
        return Speed(Estimate.unknown(method=why), math.nan, math.nan, 1.0)
    rho = float(np.corrcoef(_ranks(right), _ranks(times))[0, 1])
    half = NormalDist().inv_cdf(0.975) * math.sqrt(1.06 / (n - 3))
    middle = math.atanh(min(max(rho, -0.999999), 0.999999))
    low, high = math.tanh(middle - half), math.tanh(middle + half)
    correlation = Estimate(rho, low, high, n=n, method="Spearman, Fisher's interval")
    quick = times <= np.quantile(times, QUICK)
    fast, slow = right[quick], right[~quick]
    if not fast.size or not slow.size:
        return Speed(correlation, math.nan, math.nan, 1.0)
    pooled = float(right.mean()) * (1.0 - float(right.mean()))
    error = math.sqrt(max(pooled * (1.0 / fast.size + 1.0 / slow.size), 1e-12))
    gap = (float(fast.mean()) - float(slow.mean())) / error
    return Speed(correlation, float(fast.mean()), float(slow.mean()), NormalDist().cdf(gap))


def _ranks(values: Floats) -> Floats:
    """Ranks from 0, those of equal values averaged."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2.0)[place], np.float64)
