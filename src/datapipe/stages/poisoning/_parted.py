# SPDX-License-Identifier: Apache-2.0
"""Numbers that fall into two groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_GROUP = 8
TWO, CROWDED = 4.0, 0.2
"""Deviations by which values part, and share of the higher group, above which it hides what the
others are like."""
QUARTILES = 1.349
"""Width of the middle half of a normal distribution, in deviations."""

Floats = NDArray[np.float64]


def parted(values: Floats) -> tuple[float, NDArray[np.bool_]]:
    """The best division into two groups: means apart in deviations, and which form the smaller."""
    order = np.argsort(values, kind="stable")
    ranked = values[order] - values.mean()
    n = ranked.size
    sums, squares = np.cumsum(ranked), np.cumsum(ranked**2)
    left = np.arange(LEAST_GROUP, n - LEAST_GROUP)
    low = sums[left - 1] / left
    high = (sums[-1] - sums[left - 1]) / (n - left)
    within = (squares[-1] - left * low**2 - (n - left) * high**2) / n
    apart = (high - low) / np.sqrt(np.maximum(within, 1e-12))
    best = int(np.argmax(apart))
    group = np.zeros(n, bool)
    cut = int(left[best])
    group[order[:cut] if 2 * cut < n else order[cut:]] = True
    return float(apart[best]), group


def without_crowd(values: Floats) -> Floats:
    """Values less the higher group, where they part into two and neither group is small.

    The higher group holds a pattern; it would move the centre and the width of the others.
    """
    if values.size <= 4 * LEAST_GROUP:
        return values
    apart, group = parted(values)
    if apart <= TWO or group.mean() <= CROWDED:
        return values
    return values[group if values[group].max() < values[~group].max() else ~group]


def width(values: Floats) -> float:
    """The deviation that the middle half tells: a few rows that hold a pattern do not change it."""
    low, high = np.quantile(values, [0.25, 0.75]) if values.size else (0.0, 0.0)
    return float(high - low) / QUARTILES
