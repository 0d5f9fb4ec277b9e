# SPDX-License-Identifier: Apache-2.0
"""Intervals for rates, differences, ratios and means: each figure comes with its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError
from datapipe.measure.distributions import beta_quantile, t_quantile

Floats = NDArray[np.float64]
Statistic = Callable[[NDArray[Any]], ArrayLike]
"""Takes resamples of shape (repeats, n, ...) and gives one figure for each, shape (repeats,)."""

CELLS_AT_ONCE = 4_000_000
"""Values of resamples held at a time: bounds the memory of a bootstrap to about 32 MB."""
JACKKNIFE_GROUPS = 200


def clopper_pearson(hits: int, n: int, *, level: float = 0.95) -> Estimate:
    """A share of counted events with the exact binomial interval.

    It never covers less than `level`, at the price of being wider than Wilson's: use it where a
    promise is made of the bound, Wilson's (`Estimate.rate`) where a figure is reported.

    Args:
        hits: How many of the `n` were hits, 0 <= hits <= n.
        n: How many were looked at; 0 gives value NaN and the interval [0, 1].
        level: Coverage of the interval, in (0, 1).

    Returns:
        The rate in [0, 1].

    Raises:
        DeclarationError: `hits` is not within 0..n.

    Example:
        >>> e = clopper_pearson(0, 100)
        >>> e.low, round(e.high, 4)
        (0.0, 0.0362)

    References:
        Clopper & Pearson, 1934, The use of confidence or fiducial limits.
    """
    _counts(hits, n)
    if n == 0:
        return Estimate.unknown(method="clopper-pearson", level=level)
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else beta_quantile(tail, hits, n - hits + 1)
    high = 1.0 if hits == n else beta_quantile(1 - tail, hits + 1, n - hits)
    return _held(hits / n, low, high, n=n, method="clopper-pearson", level=level)


def difference_of_rates(
    hits_a: int, n_a: int, hits_b: int, n_b: int, *, level: float = 0.95
) -> Estimate:
    """The difference a - b of two independent rates with Newcombe's hybrid score interval.

    Rather than Wald's: it stays within [-1, 1] and holds its level at small counts and at 0 and 1.

    Args:
        hits_a: Hits of the first group, 0..n_a.
        n_a: Size of the first group; 0 gives value NaN.
        hits_b: Hits of the second group, 0..n_b.
        n_b: Size of the second group; 0 gives value NaN.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The difference, in [-1, 1]; its `n` is `n_a + n_b`.

    Example:
        >>> e = difference_of_rates(56, 70, 48, 80)
        >>> round(e.low, 4), round(e.value, 4), round(e.high, 4)
        (0.0524, 0.2, 0.3339)

    References:
        Newcombe, 1998, Interval estimation for the difference between independent proportions.
    """
    a, b = (Estimate.rate(h, n, level=level) for h, n in ((hits_a, n_a), (hits_b, n_b)))
    if n_a == 0 or n_b == 0:
        return Estimate.unknown(-1.0, 1.0, method="newcombe", n=n_a + n_b, level=level)
    gap = a.value - b.value
    low = gap - math.hypot(a.value - a.low, b.high - b.value)
    high = gap + math.hypot(a.high - a.value, b.value - b.low)
    return _held(gap, low, high, n=n_a + n_b, method="newcombe", level=level)


def ratio_of_rates(
    hits_a: int, n_a: int, hits_b: int, n_b: int, *, level: float = 0.95
) -> Estimate:
    """The ratio a / b of two independent rates with Katz's interval on the log scale.

    The point is the plain ratio; where a count is 0 or full the interval is computed with half a
    hit and half a row added (Walter), so that it stays finite on the side that is known.

    Args:
        hits_a: Hits of the first group, 0..n_a.
        n_a: Size of the first group; 0 gives value NaN.
        hits_b: Hits of the second group; 0 gives value NaN and no upper bound.
        n_b: Size of the second group; 0 gives value NaN.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The ratio, >= 0; its `n` is `n_a + n_b`.

    Example:
        >>> e = ratio_of_rates(30, 100, 60, 120)
        >>> round(e.low, 3), round(e.value, 3), round(e.high, 3)
        (0.423, 0.6, 0.85)

    References:
        Katz et al., 1978, Obtaining confidence intervals for the risk ratio in cohort studies.
        Walter, 1975, The distribution of Levin's measure of attributable risk.
    """
    _counts(hits_a, n_a)
    _counts(hits_b, n_b)
    n = n_a + n_b
    if n_a == 0 or n_b == 0 or (hits_a == 0 and hits_b == 0):
        return Estimate.unknown(0.0, math.inf, method="katz-log", n=n, level=level)
    edge = 0.5 if {hits_a, hits_b} & {0} or (hits_a == n_a and hits_b == n_b) else 0.0
    a, b, size_a, size_b = hits_a + edge, hits_b + edge, n_a + edge, n_b + edge
    centre = math.log(a / size_a) - math.log(b / size_b)
    half = _z(level) * math.sqrt(max(0.0, 1 / a - 1 / size_a + 1 / b - 1 / size_b))
    low = 0.0 if hits_a == 0 else math.exp(centre - half)
    if hits_b == 0:
        return Estimate(math.nan, low, math.inf, n=n, method="katz-log", level=level)
    ratio = hits_a / n_a / (hits_b / n_b)
    return _held(ratio, low, math.exp(centre + half), n=n, method="katz-log", level=level)


def paired_difference(before: ArrayLike, after: ArrayLike, *, level: float = 0.95) -> Estimate:
    """How much a rate changed when the same rows were judged twice: `after - before`.

    Tango's score interval: only rows whose outcome changed carry information, so it is far
    narrower than the difference of two independent rates, and it holds its level at small counts.

    Args:
        before: bool, shape (n,): whether each row was right before.
        after: bool, shape (n,): the same rows, after.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The difference, in [-1, 1].

    Raises:
        DeclarationError: The two have different lengths.

    Example:
        >>> right = [True] * 80 + [False] * 20
        >>> paired_difference(right, right).value
        0.0

    References:
        Tango, 1998, Equivalence test and confidence interval for the difference in proportions for
        the paired-sample design.
    """
    first, second = _flags(before), _flags(after)
    _same_length(first, second, "paired_difference")
    n = first.size
    if n == 0:
        return Estimate.unknown(-1.0, 1.0, method="tango", level=level)
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    gap, z = (gained - lost) / n, _z(level)

    def high_enough(delta: float) -> bool:
        return _tango(gained, lost, n, delta) <= z

    def low_enough(delta: float) -> bool:
        return _tango(gained, lost, n, delta) >= -z

    low = -1.0 if high_enough(-1.0) else _crossing(high_enough, -1.0, gap)
    high = 1.0 if low_enough(1.0) else _crossing(low_enough, 1.0, gap)
    return _held(gap, low, high, n=n, method="tango", level=level)


def _tango(gained: int, lost: int, n: int, delta: float) -> float:
    """Tango's score statistic of the hypothesis that the true difference is `delta`."""
    b = -gained - lost + (2 * n - gained + lost) * delta
    c = -lost * delta * (1 - delta)
    share = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    spread = n * (2 * share + delta * (1 - delta))
    top = gained - lost - n * delta
    if spread <= 1e-12 * n:
        return math.copysign(math.inf, top) if abs(top) > 1e-9 else 0.0
    return top / math.sqrt(spread)


def _crossing(holds: Callable[[float], bool], outside: float, inside: float) -> float:
    """The edge of an interval by halving: `holds` is false outside and true inside."""
    for _ in range(60):
        middle = 0.5 * (outside + inside)
        outside, inside = (outside, middle) if holds(middle) else (middle, inside)
    return inside


def mean(values: ArrayLike, *, level: float = 0.95, unit: str = "") -> Estimate:
    """A mean with Student's t interval.

    Args:
        values: float, shape (n,); NaN is left out.
        level: Coverage of the interval, in (0, 1).
        unit: The unit of the values.

    Returns:
        The mean; with fewer than two values nothing bounds it.

    Example:
        >>> e = mean([4.0, 5.0, 6.0])
        >>> round(e.low, 3), e.value, round(e.high, 3)
        (2.516, 5.0, 7.484)

    References:
        Student, 1908, The probable error of a mean.
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    x = x[~np.isnan(x)]
    centre = float(x.mean()) if x.size else math.nan
    if x.size < 2:
        return Estimate(centre, -math.inf, math.inf, x.size, "student-t", level, unit)
    half = t_quantile(0.5 + level / 2, x.size - 1) * float(x.std(ddof=1)) / math.sqrt(x.size)
    return Estimate(centre, centre - half, centre + half, x.size, "student-t", level, unit)


def bootstrap(
    values: ArrayLike,
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    repeats: int = 2000,
    level: float = 0.95,
) -> Estimate:
    """Any figure of a sample with the bias-corrected and accelerated bootstrap interval.

    Rather than the plain percentile interval: it corrects the bias of the figure and the skew of
    its distribution, at the cost of one grouped jackknife.

    Args:
        values: Shape (n,) or (n, ...): one entry per independent observation.
        statistic: Takes resamples of shape (repeats, n, ...), gives shape (repeats,).
        rng: The source of resampling.
        repeats: How many resamples, >= 100.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The figure; with fewer than two observations nothing bounds it.

    Raises:
        DeclarationError: Fewer than 100 repeats were asked for.

    Example:
        >>> e = bootstrap(np.arange(50.0), lambda x: np.median(x, axis=1), np.random.default_rng(7))
        >>> e.value, e.low < 24.5 < e.high
        (24.5, True)

    References:
        Efron, 1987, Better bootstrap confidence intervals.
    """
    if repeats < 100:
        raise DeclarationError(f"bootstrap(repeats={repeats}): at least 100 are needed")
    x = np.asarray(values)
    n = x.shape[0]
    if n < 2:
        return Estimate.unknown(-math.inf, math.inf, method="bootstrap-bca", n=n, level=level)
    point = float(_figures(x[None], statistic)[0])
    drawn = _resampled(x, statistic, rng, repeats)
    shares = _bca_shares(drawn, point, _jackknife(x, statistic), level)
    low, high = (float(q) for q in np.quantile(drawn, np.array(shares)))
    return _held(point, low, high, n=n, method="bootstrap-bca", level=level)


def _resampled(
    x: NDArray[Any], statistic: Statistic, rng: np.random.Generator, repeats: int
) -> Floats:
    per_sample = max(1, x.size)
    step = max(1, min(repeats, CELLS_AT_ONCE // per_sample))
    made = []
    for start in range(0, repeats, step):
        rows = rng.integers(0, x.shape[0], size=(min(step, repeats - start), x.shape[0]))
        made.append(_figures(x[rows], statistic))
    return np.concatenate(made)


def _figures(samples: NDArray[Any], statistic: Statistic) -> Floats:
    figures = np.asarray(statistic(samples), dtype=np.float64)
    if figures.shape != (samples.shape[0],):
        raise DeclarationError(
            f"bootstrap: the statistic gave shape {figures.shape} for {samples.shape[0]} resamples",
            hint="reduce along axis 1, such as lambda x: x.mean(axis=1)",
        )
    return figures


def _jackknife(x: NDArray[Any], statistic: Statistic) -> Floats:
    """The figure with one group of observations left out at a time."""
    groups = np.array_split(np.arange(x.shape[0]), min(x.shape[0], JACKKNIFE_GROUPS))
    return np.concatenate(
        [_figures(np.delete(x, left, axis=0)[None], statistic) for left in groups]
    )


def _bca_shares(drawn: Floats, point: float, left_out: Floats, level: float) -> tuple[float, float]:
    """At which shares of the resampled figures the interval's ends lie."""
    normal = NormalDist()
    below = float((drawn < point).mean() + (drawn == point).mean() / 2)
    edge = 0.5 / drawn.size
    bias = normal.inv_cdf(min(max(below, edge), 1 - edge))
    pull = left_out.mean() - left_out
    spread = float((pull**2).sum())
    skew = float((pull**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0

    def share(tail: float) -> float:
        reach = bias + normal.inv_cdf(tail)
        return normal.cdf(bias + reach / (1 - skew * reach))

    return share((1 - level) / 2), share((1 + level) / 2)


def precision_recall(
    flagged: ArrayLike, truth: ArrayLike, *, level: float = 0.95
) -> tuple[Estimate, Estimate]:
    """How much of what was flagged is right, and how much of what is right was flagged.

    Args:
        flagged: bool, shape (n,).
        truth: bool, shape (n,).
        level: Coverage of each interval, in (0, 1).

    Returns:
        Precision (n = rows flagged) and recall (n = true rows), each with Wilson's interval.

    Raises:
        DeclarationError: The two have different lengths.

    Example:
        >>> precision, recall = precision_recall([True, True, False], [True, False, False])
        >>> precision.value, recall.value
        (0.5, 1.0)
    """
    found, real = _flags(flagged), _flags(truth)
    _same_length(found, real, "precision_recall")
    both = int((found & real).sum())
    precision = Estimate.rate(both, int(found.sum()), level=level)
    return precision, Estimate.rate(both, int(real.sum()), level=level)


def rows_for_margin(rate: float, margin: float, *, level: float = 0.95) -> int:
    """How many observations make a rate's interval reach at most `margin` to each side.

    Args:
        rate: The rate that is expected, in [0, 1]; 0.5 is the worst case.
        margin: The half-width wanted, in (0, 0.5).
        level: Coverage of the interval, in (0, 1).

    Returns:
        The smallest n for which Wilson's interval is narrow enough.

    Raises:
        DeclarationError: The rate or the margin is out of range.

    Example:
        >>> rows_for_margin(0.9, 0.05)
        141
    """
    if not 0 <= rate <= 1 or not 0 < margin < 0.5:
        raise DeclarationError(
            f"rows_for_margin(rate={rate}, margin={margin}): 0..1 and 0..0.5 are needed"
        )
    z = _z(level)

    def narrow(n: int) -> bool:
        half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return half <= margin

    high = 1
    while not narrow(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if narrow(middle) else (middle, high)
    return high


def _held(value: float, low: float, high: float, *, n: int, method: str, level: float) -> Estimate:
    """An estimate whose interval holds its value in spite of rounding."""
    return Estimate(value, min(low, value), max(high, value), n=n, method=method, level=level)


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def _flags(values: ArrayLike) -> NDArray[np.bool_]:
    return np.asarray(values, dtype=np.bool_).ravel()


def _counts(hits: int, n: int) -> None:
    if not 0 <= hits <= n:
        raise DeclarationError(
            f"hits={hits}, n={n}: hits must lie within 0..n",
            hint="count hits among the n rows that were looked at",
        )


def _same_length(a: NDArray[Any], b: NDArray[Any], where: str) -> None:
    if a.size != b.size:
        raise DeclarationError(
            f"{where}: {a.size} and {b.size} rows; the two must be the same rows"
        )
