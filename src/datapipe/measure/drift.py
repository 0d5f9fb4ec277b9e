# SPDX-License-Identifier: Apache-2.0
"""Whether two samples differ, and by how much: a test says *surely*, an effect size says *much*.

With a million rows every difference is significant, so a column has drifted only when the test
rejects and the effect is above a floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datapipe.core.estimate import Estimate
from datapipe.measure.detection import benjamini_hochberg
from datapipe.measure.distributions import chi2_tail, kolmogorov_tail

Floats = NDArray[np.float64]
Judgement = Literal["same", "negligible", "drifted", "not_evaluated"]

FLOOR = 0.05
"""Largest gap of two distribution functions, or Cramér's V, that nobody need care about."""
FEWEST = 20
LEAST_EXPECTED = 5.0


@dataclass(frozen=True)
class Shift:
    """The comparison of one column in two samples.

    Args:
        effect: How much they differ, in [0, 1]: the largest gap of the distribution functions for
            numbers, Cramér's V for categories.
        p_value: Evidence that they differ at all, in [0, 1].
        q_value: The same after Benjamini-Hochberg over the columns that were judged together.
        judgement: `same` (no evidence), `negligible` (surely different, hardly so), `drifted`, or
            `not_evaluated` (too few values).

    Example:
        >>> numbers_shift(range(100), range(50, 150)).judgement
        'drifted'
    """

    effect: Estimate
    p_value: float
    q_value: float
    judgement: Judgement


def numbers_shift(
    first: ArrayLike, second: ArrayLike, *, alpha: float = 0.05, floor: float = FLOOR
) -> Shift:
    """Compare two samples of numbers by their largest gap, and test them by it and by ranks.

    The gap of Kolmogorov and Smirnov sees every kind of difference, the rank sum of Wilcoxon sees
    a small shift that runs through all values much sooner; the smaller p-value counts, doubled.

    Args:
        first: float, shape (n,); NaN is left out.
        second: float, shape (m,); NaN is left out.
        alpha: Level of the test, in (0, 1).
        floor: The gap that nobody need care about, in [0, 1).

    Returns:
        The comparison; its p-value is asymptotic, with Stephens's correction for small samples.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> numbers_shift(rng.normal(size=500), rng.normal(size=500)).judgement
        'same'

    References:
        Wilcoxon, 1945, Individual comparisons by ranking methods.
        Smirnov, 1939, On the estimation of the discrepancy between empirical curves.
        Stephens, 1970, Use of the Kolmogorov-Smirnov, Cramér-von Mises and related statistics.
    """
    a, b = (np.sort(x[~np.isnan(x)]) for x in map(_floats, (first, second)))
    n = a.size + b.size
    if min(a.size, b.size) < FEWEST:
        return _unknown("kolmogorov-smirnov", n)
    places = np.concatenate([a, b])
    below = [np.searchsorted(x, places, side="right") / x.size for x in (a, b)]
    gap = float(np.abs(below[0] - below[1]).max())
    root = math.sqrt(a.size * b.size / n)
    by_gap = kolmogorov_tail((root + 0.12 + 0.11 / root) * gap)
    p_value = min(1.0, 2 * min(by_gap, _rank_sum(a, b)))
    band = _band(1 - alpha) / root
    low, high = max(0.0, gap - band), min(1.0, gap + band)
    effect = Estimate(gap, low, high, n, "kolmogorov-smirnov", 1 - alpha)
    return _judged(effect, p_value, p_value, alpha, floor)


def _rank_sum(a: Floats, b: Floats) -> float:
    """The two-sided p-value of the Wilcoxon-Mann-Whitney test, ties counted as halves."""
    n, m = a.size, b.size
    sides = [np.searchsorted(b, a, side=side).sum(dtype=np.float64) for side in ("left", "right")]
    pairs_won = 0.5 * sum(sides)
    _, ties = np.unique(np.concatenate([a, b]), return_counts=True)
    cubes = float((ties.astype(np.float64) ** 3 - ties).sum())
    spread = n * m / 12 * (n + m + 1 - cubes / ((n + m) * (n + m - 1)))
    if spread <= 0:
        return 1.0
    return math.erfc(abs(float(pairs_won) - n * m / 2) / math.sqrt(2 * spread))


def _band(level: float) -> float:
    """The scaled gap that chance exceeds with probability 1 - level."""
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kolmogorov_tail(middle) > 1 - level else (low, middle)
    return high


def categories_shift(
    first: ArrayLike, second: ArrayLike, *, alpha: float = 0.05, floor: float = FLOOR
) -> Shift:
    """Compare two samples of categories by Pearson's chi-squared test and Cramér's V.

    Categories too rare for the test are taken together. V is corrected for the size that chance
    alone gives it.

    Args:
        first: Any values that numpy can sort, shape (n,).
        second: The same kind, shape (m,).
        alpha: Level of the test, in (0, 1).
        floor: The V that nobody need care about, in [0, 1).

    Returns:
        The comparison.

    Example:
        >>> categories_shift(["a", "b"] * 50, ["a", "a", "a", "b"] * 25).judgement
        'drifted'

    References:
        Pearson, 1900, On the criterion that a given system of deviations is such that it can be
        reasonably supposed to have arisen from random sampling.
        Bergsma, 2013, A bias-correction for Cramér's V and Tschuprow's T.
    """
    a, b = (np.asarray(x).ravel() for x in (first, second))
    n = a.size + b.size
    if min(a.size, b.size) < FEWEST:
        return _unknown("cramer's v", n)
    _, codes = np.unique(np.concatenate([a, b]), return_inverse=True)
    kinds = int(codes.max()) + 1
    table = np.array([np.bincount(c, minlength=kinds) for c in (codes[: a.size], codes[a.size :])])
    table = _rare_together(table.astype(np.float64))
    if table.shape[1] < 2:
        return Shift(Estimate(0.0, 0.0, 0.0, n, "cramer's v", 1 - alpha), 1.0, 1.0, "same")
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / n
    square = float((np.square(table - expected) / expected).sum())
    freedom = table.shape[1] - 1
    effect = _cramer(square, freedom, n, 1 - alpha)
    p_value = min(1.0, chi2_tail(square, freedom))
    return _judged(effect, p_value, p_value, alpha, floor)


def _rare_together(table: Floats) -> Floats:
    """One column for all categories whose expected count is too small for the test."""
    smaller = table.sum(axis=1).min() / table.sum()
    rare = table.sum(axis=0) * smaller < LEAST_EXPECTED
    if not rare.any():
        return table
    rest = table[:, rare].sum(axis=1, keepdims=True)
    return np.concatenate([table[:, ~rare], rest], axis=1)


def _cramer(square: float, freedom: int, n: int, level: float) -> Estimate:
    """V of a table with two rows, its bias taken off, with a normal interval of its square root.

    sqrt(chi-squared) is close to normal with variance one, around the square root of its mean.
    """
    half = NormalDist().inv_cdf(0.5 + level / 2)
    centre = math.sqrt(max(0.0, square - freedom))
    low, high = max(0.0, centre - half), centre + half
    v, least, most = (min(1.0, x / math.sqrt(n)) for x in (centre, low, high))
    return Estimate(v, least, most, n, "cramer's v", level)


def judged_together(
    shifts: Sequence[Shift], *, alpha: float = 0.05, floor: float = FLOOR
) -> list[Shift]:
    """Judge many columns at once, so that many columns do not make an alarm by themselves.

    Args:
        shifts: One for each column.
        alpha: False discovery rate, in (0, 1).
        floor: The effect that nobody need care about, in [0, 1).

    Returns:
        The same comparisons with q-values, in the same order; what was not evaluated stays so.

    Example:
        >>> made = numbers_shift(range(100), range(8, 108))
        >>> judged_together([made] * 3)[0].q_value == made.p_value
        True

    References:
        Benjamini & Hochberg, 1995, Controlling the false discovery rate.
    """
    known = [s for s in shifts if s.judgement != "not_evaluated"]
    q_values = iter(benjamini_hochberg([s.p_value for s in known]))
    return [
        s
        if s.judgement == "not_evaluated"
        else _judged(s.effect, s.p_value, float(next(q_values)), alpha, floor)
        for s in shifts
    ]


def _judged(effect: Estimate, p_value: float, q_value: float, alpha: float, floor: float) -> Shift:
    """A difference counts when it is sure and its point is above the floor."""
    made = Shift(effect, p_value, q_value, "same")
    if q_value > alpha:
        return made
    return replace(made, judgement="drifted" if effect.value > floor else "negligible")


def _unknown(method: str, n: int) -> Shift:
    return Shift(Estimate.unknown(method=method, n=n), 1.0, 1.0, "not_evaluated")


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).ravel()
