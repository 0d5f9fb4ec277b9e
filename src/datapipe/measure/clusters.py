# SPDX-License-Identifier: Apache-2.0
"""Rates counted in clusters (seeds, sources, persons) whose rows are not independent."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError
from datapipe.measure.distributions import beta_quantile, t_quantile

Floats = NDArray[np.float64]


def clustered_rate(hits: ArrayLike, sizes: ArrayLike, *, level: float = 0.95) -> Estimate:
    """A share of counted events whose interval respects that rows of a cluster are alike.

    Ten seeds of 60 rows are not 600 rows: what went wrong with a seed went wrong with many of its
    rows. The variance between the clusters says how many independent rows they are worth, and the
    exact binomial interval is taken at that number.

    Args:
        hits: int, shape (k,): hits of each cluster, 0..size.
        sizes: int, shape (k,): rows of each cluster, >= 0.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The pooled rate, in [0, 1]; its `n` is the number of rows. With fewer than two clusters
        nothing tells how alike rows are, and the interval is [0, 1].

    Raises:
        DeclarationError: The two have different lengths, or hits are not within 0..size.

    Example:
        >>> alike = clustered_rate([30, 60, 45, 59], [60, 60, 60, 60])
        >>> apart = clustered_rate([48, 49, 48, 49], [60, 60, 60, 60])
        >>> alike.value == apart.value, alike.low < apart.low
        (True, True)

    References:
        Korn & Graubard, 1998, Confidence intervals for proportions with small expected number of
        positive counts estimated from survey data.
    """
    x = np.asarray(hits, np.float64).ravel()
    n = np.asarray(sizes, np.float64).ravel()
    if x.size != n.size or (x < 0).any() or (x > n).any():
        raise DeclarationError(
            f"clustered_rate: {x.size} and {n.size} clusters; hits must lie within 0..size of each",
            hint="count the hits among the rows of each cluster",
        )
    total, method = int(n.sum()), "korn-graubard"
    if total == 0:
        return Estimate.unknown(method=method, level=level)
    rate = float(x.sum()) / total
    k = int((n > 0).sum())
    if k < 2:
        return Estimate(rate, 0.0, 1.0, n=total, method=method, level=level)
    worth = _independent_rows(x, n, rate, k)
    shrunk = NormalDist().inv_cdf(0.5 + level / 2) / t_quantile(0.5 + level / 2, k - 1)
    worth *= shrunk * shrunk
    found, tail = rate * worth, (1 - level) / 2
    low = 0.0 if found == 0 else beta_quantile(tail, found, worth - found + 1)
    high = 1.0 if rate == 1 else beta_quantile(1 - tail, found + 1, worth - found)
    return Estimate(rate, min(low, rate), max(high, rate), n=total, method=method, level=level)


def _independent_rows(x: Floats, n: Floats, rate: float, k: int) -> float:
    """How many independent rows vary as much as the clusters do; never more than there are."""
    total = float(n.sum())
    variance = k / (k - 1) * float(((x - rate * n) ** 2).sum()) / total**2
    return min(total, rate * (1 - rate) / variance) if variance > 0 else total
