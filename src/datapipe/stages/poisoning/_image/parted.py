# SPDX-License-Identifier: Apache-2.0
"""Numbers that fall into two groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.distributions import beta_cdf

LEAST_GROUP = 8
TWO, CROWDED = 4.0, 0.2
"""Deviations by which values part, and share of the higher group, above which it hides what the
others are like."""
QUARTILES = 1.349
"""Width of the middle half of a normal distribution, in deviations."""
FEWEST_LABELS = 5
"""With fewer labels the others do not tell how far groups part by nature."""
ALONE = 0.005
"""Chance, by the other labels, of parting as far as this label does, above which its kinds part by
nature: of labels of two classes each, the likeliest of thirty sets had .01."""
LEAST_SPREAD = 0.1
"""How much the logarithm of a parting varies between labels, at the very least."""

Floats = NDArray[np.float64]


def parted(values: Floats) -> tuple[float, NDArray[np.bool_]]:
    """The best division into two groups: means apart in deviations, and which form the smaller."""
    order = np.argsort(values, kind="stable")
    apart, cut = _cuts(values[order][:, None])
    n, low = values.size, int(cut[0])
    group = np.zeros(n, bool)
    group[order[:low] if 2 * low < n else order[low:]] = True
    return float(apart[0]), group


def _cuts(ranked: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """How far the best two groups of each ranked column are apart, and how many form the lower."""
    n = len(ranked)
    ranked = ranked - ranked.mean(0)
    sums, squares = np.cumsum(ranked, axis=0), (ranked**2).sum(0)
    left = np.arange(LEAST_GROUP, n - LEAST_GROUP)[:, None]
    low = sums[left[:, 0] - 1] / left
    high = (sums[-1] - sums[left[:, 0] - 1]) / (n - left)
    within = (squares - left * low**2 - (n - left) * high**2) / n
    apart = (high - low) / np.sqrt(np.maximum(within, 1e-12))
    best = apart.argmax(0)
    return apart[best, np.arange(apart.shape[1])], left[best, 0]


def usual_of(values: Floats) -> tuple[Floats, Floats]:
    """Where values of each column lie and how wide, less a crowd with a pattern."""
    ranked = np.sort(values, axis=0)
    low, middle, high = np.quantile(ranked, [0.25, 0.5, 0.75], axis=0)
    wide = (high - low) / QUARTILES
    if len(ranked) > 4 * LEAST_GROUP:
        apart, cut = _cuts(ranked)
        small = np.minimum(cut, len(ranked) - cut) / len(ranked)
        for i in np.flatnonzero((apart > TWO) & (small > CROWDED)):
            alone = without_crowd(values[:, i])
            middle[i], wide[i] = np.median(alone), width(alone)
    return middle, wide


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


def chances(parted: list[float]) -> list[float]:
    """Chance of each label to part as far as it does, were it one more like the others.

    By Student's prediction interval of the logarithm; 1 where too few others tell.
    """
    logs = np.log(np.maximum(parted, 1e-3))
    return [_chance(logs, place) for place in range(logs.size)]


def _chance(logs: Floats, place: int) -> float:
    """Chance that one more label parts as far as this one, by Student's prediction interval."""
    others = np.delete(logs, place)
    others = others[np.isfinite(others)]
    if others.size < FEWEST_LABELS - 1 or not np.isfinite(logs[place]):
        return 1.0
    freedom = others.size - 1
    spread = max(float(others.std(ddof=1)), LEAST_SPREAD) * np.sqrt(1.0 + 1.0 / others.size)
    t = float((logs[place] - others.mean()) / spread)
    if t <= 0:
        return 1.0
    return 0.5 * beta_cdf(freedom / (freedom + t * t), 0.5 * freedom, 0.5)
