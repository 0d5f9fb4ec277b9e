# SPDX-License-Identifier: Apache-2.0
"""Tests of many hypotheses at once, tails of counts, and how well scores rank."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """q-values: the smallest false discovery rate at which each hypothesis is rejected.

    Args:
        p_values: float in [0, 1], shape (n,).

    Returns:
        float64, shape (n,), never below the p-values.

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.5]).round(3).tolist()
        [0.03, 0.06, 0.5]

    References:
        Benjamini & Hochberg, 1995, Controlling the false discovery rate.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")[::-1]
    ranks = np.arange(p.size, 0, -1)
    q = np.empty(p.size)
    q[order] = np.minimum.accumulate(np.minimum(p[order] * p.size / ranks, 1.0))
    return q


def beta_binomial_tail(hits: int, n: int, a: float, b: float) -> float:
    """P(X >= hits) when X counts hits in n draws whose rate is itself Beta(a, b).

    Rates differ between classes even in clean data; a plain binomial tail would call that an
    attack.

    Args:
        hits: The count seen, 0 <= hits <= n.
        n: How many were drawn.
        a: First shape of the rate, > 0; a / (a + b) is the rate expected.
        b: Second shape, > 0; a + b is how many draws that expectation is worth.

    Returns:
        A probability.

    Raises:
        DeclarationError: `hits` is outside 0..n or a shape is not positive.

    Example:
        >>> round(beta_binomial_tail(1, 2, 1, 1), 4), beta_binomial_tail(0, 5, 1, 1)
        (0.6667, 1.0)
    """
    if not 0 <= hits <= n or a <= 0 or b <= 0:
        raise DeclarationError(f"beta_binomial_tail({hits}, {n}, {a}, {b}) has no meaning")
    if hits == 0:
        return 1.0
    front = math.lgamma(n + 1) - (math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))
    logs = [
        front
        - math.lgamma(x + 1)
        - math.lgamma(n - x + 1)
        + (math.lgamma(x + a) + math.lgamma(n - x + b) - math.lgamma(n + a + b))
        for x in range(hits, n + 1)
    ]
    top = max(logs)
    return min(1.0, math.exp(top) * sum(math.exp(v - top) for v in logs))


def binomial_tail(hits: int, n: int, rate: float) -> float:
    """P(X >= hits) when X counts hits in n independent draws.

    Args:
        hits: The count seen, 0 <= hits <= n.
        n: How many were drawn.
        rate: Chance of a hit, in [0, 1].

    Returns:
        A probability.

    Raises:
        DeclarationError: `hits` is outside 0..n or the rate outside [0, 1].

    Example:
        >>> binomial_tail(2, 2, 0.5)
        0.25
    """
    if not 0 <= hits <= n or not 0 <= rate <= 1:
        raise DeclarationError(f"binomial_tail({hits}, {n}, {rate}) has no meaning")
    if hits == 0 or rate == 1:
        return 1.0
    if rate == 0:
        return 0.0
    x = np.arange(hits, n + 1, dtype=np.float64)
    steps = np.log((n - x[:-1]) / (x[:-1] + 1)) + math.log(rate) - math.log1p(-rate)
    first = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    first += hits * math.log(rate) + (n - hits) * math.log1p(-rate)
    logs = first + np.concatenate([[0.0], np.cumsum(steps)])
    top = float(logs.max())
    return float(min(1.0, math.exp(top) * np.exp(logs - top).sum()))


def chernoff_log_tail(hits: float, rates: ArrayLike) -> float:
    """Upper bound of ln P(X >= hits) when X counts independent hits of unequal rates.

    Exact where every draw hits; else Chernoff's bound, which no true tail exceeds.

    Args:
        hits: The count seen, in 0..n.
        rates: float in [0, 1], shape (n,); each draw's chance of a hit.

    Returns:
        A logarithm, <= 0.

    Example:
        >>> round(chernoff_log_tail(3, [0.5, 0.5, 0.5]), 4)
        -2.0794
        >>> chernoff_log_tail(1, [0.5, 0.5, 0.5])
        0.0

    References:
        Chernoff, 1952, A measure of asymptotic efficiency for tests of a hypothesis.
    """
    q = np.clip(np.asarray(rates, np.float64), 1e-12, 1.0)
    if hits <= q.sum():
        return 0.0
    if hits >= q.size:
        return float(np.log(q).sum())
    low, high = 0.0, 50.0  # the tilt at which the tilted mean equals the count
    for _ in range(60):
        tilt = 0.5 * (low + high)
        tilted = q / (q + (1.0 - q) * math.exp(-tilt))
        low, high = (tilt, high) if tilted.sum() < hits else (low, tilt)
    tilt = 0.5 * (low + high)
    return float(min(0.0, np.log1p(q * np.expm1(tilt)).sum() - tilt * hits))


def average_precision(truth: ArrayLike, scores: ArrayLike, *, level: float = 0.95) -> Estimate:
    """The mean precision at the rank of each true row; tied scores count as one rank.

    Args:
        truth: bool, shape (n,).
        scores: float, shape (n,); higher is more suspect.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The average precision, with the logit interval; unknown when no row is true.

    Example:
        >>> average_precision([True, False, True], [0.9, 0.8, 0.7]).value
        0.8333333333333333

    References:
        Boyd, Eng & Page, 2013, Area under the precision-recall curve: point estimates and
        confidence intervals.
    """
    hits, flagged = _thresholds(truth, scores)
    if not hits.size or hits[-1] == 0:
        return Estimate.unknown(method="no true rows", level=level)
    gained = np.diff(hits, prepend=0.0)
    value = float((gained * hits / flagged).sum() / hits[-1])
    return _logit_interval(value, int(hits[-1]), int(flagged[-1]), level)


def auroc(truth: ArrayLike, scores: ArrayLike, *, level: float = 0.95) -> Estimate:
    """The chance that a true row scores above another one; ties count one half.

    Args:
        truth: bool, shape (n,).
        scores: float, shape (n,).
        level: Coverage of the interval, in (0, 1).

    Returns:
        The area, with the interval of Hanley & McNeil; unknown when one side is empty.

    Example:
        >>> auroc([True, False, True, False], [0.9, 0.8, 0.7, 0.1]).value
        0.75

    References:
        Hanley & McNeil, 1982, The meaning and use of the area under a ROC curve.
    """
    hits, flagged = _thresholds(truth, scores)
    total = flagged[-1] if flagged.size else 0.0
    positives = hits[-1] if hits.size else 0.0
    negatives = total - positives
    if positives == 0 or negatives == 0:
        return Estimate.unknown(method="one side is empty", level=level)
    recall = np.concatenate([[0.0], hits / positives])
    false = np.concatenate([[0.0], (flagged - hits) / negatives])
    value = float(min(1.0, np.trapezoid(recall, false)))
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    spread = value * (1 - value) + (positives - 1) * (q1 - value**2)
    spread += (negatives - 1) * (q2 - value**2)
    half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(
        max(spread, 0.0) / (positives * negatives)
    )
    low, high = max(0.0, value - half), min(1.0, value + half)
    return Estimate(value, low, high, n=int(total), method="hanley-mcneil", level=level)


def _thresholds(truth: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """True rows and all rows at or above each distinct score, highest first."""
    real = np.asarray(truth, bool)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ranked = np.asarray(scores, np.float64)[order]
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, [True] * bool(ranked.size)))
    return np.cumsum(real[order])[last].astype(np.float64), (last + 1).astype(np.float64)


def _logit_interval(value: float, positives: int, n: int, level: float) -> Estimate:
    inner = min(max(value, 1e-6), 1 - 1e-6)
    half = NormalDist().inv_cdf(0.5 + level / 2) / math.sqrt(positives * inner * (1 - inner))
    centre = math.log(inner / (1 - inner))
    low, high = (1 / (1 + math.exp(-min(max(centre + s * half, -500), 500))) for s in (-1, 1))
    return Estimate(value, min(low, value), max(high, value), n=n, method="logit", level=level)
