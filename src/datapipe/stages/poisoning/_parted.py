# SPDX-License-Identifier: Apache-2.0
"""Numbers that fall into two groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST_GROUP = 8

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
