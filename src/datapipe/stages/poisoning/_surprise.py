# SPDX-License-Identifier: Apache-2.0
"""How much the labels of one source surprise a model, held against the rows of the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

SHARE = 0.2
"""Share of moved labels at which the likelihood ratio is taken; others are told nearly as well."""
MANY = 8
"""From this many sources on, how much they differ by nature is read from themselves."""
STRENGTH = 300.0
"""With fewer, a source's own rate is worth this many rows."""
FLOOR = 0.002
MOST_TILT = 60.0
MARGIN = 1.5
"""Deviations, over the root of how many sources there are, by which the middle half of them is wide
or narrow by chance; only what is wider than that is nature."""
QUARTILES = 1.349
"""Width of the middle half of a normal distribution, in deviations."""
STEP = 0.005
"""Surprise is told in such steps, so that sums of it can be counted out."""
MOST_COUNTED = 2000
"""Up to so many rows the sums of a source are counted out."""
COUNTED = 1e-7
"""Smaller chances drown in the rounding of the counts."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Surprise:
    """What a model that has not seen a row thinks of its label.

    `ratio` is the log likelihood ratio of a moved label, less its mean over the labels that the
    model deems possible: 0 on average whatever a row holds. `moved` is what it would be on average
    had the label of the row been moved. `unlikely` is the chance of any other label.
    """

    ratio: Floats
    moved: Floats
    unlikely: Floats
    likeliest: Ints
    contradicts: Bools

    @classmethod
    def of(cls, labels: Ints, shares: Floats) -> Surprise:
        """From given labels, shape (n,), and out-of-fold chances, shape (n, K)."""
        k = shares.shape[1]
        p = np.maximum(shares, FLOOR)
        p = p / p.sum(1, keepdims=True)
        each = np.log((1.0 - SHARE) + SHARE * (1.0 - p) / ((k - 1) * p))
        mean = (p * each).sum(1)
        other = ((1.0 - p) * each).sum(1) / (k - 1)
        rows = np.arange(labels.size)
        own = shares[rows, labels]
        likeliest = shares.argmax(1)
        contradicts = (likeliest != labels) & (shares.max(1) > 2.0 * own)
        return cls(each[rows, labels] - mean, other - mean, 1.0 - own, likeliest, contradicts)


@dataclass(frozen=True)
class Accused:
    """A source with its p-value, corrected for all sources that were judged."""

    number: int
    rows: int
    contradicted: int
    p_value: float


def accused(surprise: Surprise, of: Ints, times: int = 1) -> list[Accused]:
    """Every source with the chance that honest labels surprise as much, by Holm over all.

    Args:
        surprise: Of all rows.
        of: int64, shape (n,); each row's source, -1 for none.
        times: How many columns of sources are judged together.

    Returns:
        One entry a source, the most telling first.
    """
    names = np.unique(of[of >= 0])
    sizes = np.array([int((of == s).sum()) for s in names])
    tails = _tails(surprise, of, names, sizes)
    order = np.argsort(tails, kind="stable")
    made, running = [], 0.0
    for place, i in enumerate(order):
        running = max(running, min(1.0, float(tails[i]) * (names.size - place) * times))
        mine = of == names[i]
        hits = int(surprise.contradicts[mine].sum())
        made.append(Accused(int(names[i]), int(sizes[i]), hits, running))
    return made


def _tails(surprise: Surprise, of: Ints, names: Ints, sizes: Ints) -> Floats:
    """One p-value a source, with the natural spread between sources taken out."""
    pool = np.round(surprise.ratio / STEP) * STEP
    sums = [float(pool[of == s].sum()) for s in names]
    plain = np.array([sum_tail(pool, t, int(n)) for t, n in zip(sums, sizes, strict=True)])
    inflation = _natural_spread(plain, sizes)
    return np.array([_widened(p, f) for p, f in zip(plain, inflation, strict=True)])


def _widened(p_value: float, inflation: float) -> float:
    """A one-sided p-value, with the variance of its statistic raised."""
    if not 0.0 < p_value < 1.0:
        return p_value
    z = -NormalDist().inv_cdf(p_value)
    return 0.5 * math.erfc(z / math.sqrt(2.0 * inflation))


def _natural_spread(plain: Floats, sizes: Ints) -> Floats:
    """By how much the variance of a source's sum exceeds that of rows drawn from all, >= 1."""
    if plain.size < MANY:
        return np.asarray(1.0 + (sizes - 1) / (STRENGTH + 1.0))
    normal = NormalDist()
    z = np.array([normal.inv_cdf(min(max(1.0 - p, 1e-12), 1 - 1e-12)) for p in plain])
    width = float(np.subtract(*np.quantile(z, [0.75, 0.25]))) / QUARTILES
    width /= 1.0 + MARGIN / np.sqrt(plain.size)
    return np.full(plain.size, max(1.0, width * width))


def sum_tail(pool: Floats, total: float, n: int) -> float:
    """P(sum of n draws from a pool >= total), for values in whole steps.

    Counted out by the n-th power of the pool's characteristic function; for many rows or very
    small chances by a saddlepoint. A source of few rows has none or one contradiction: no smooth
    curve describes its sums.
    """
    if pool.size == 0 or n <= 0:
        return 1.0
    if n > MOST_COUNTED:
        return saddlepoint_tail(pool, total, float(n))
    steps = np.round(pool / STEP).astype(np.int64)
    least = int(steps.min())
    shares = np.bincount(steps - least) / steps.size
    length = 1 << ((shares.size - 1) * n).bit_length()
    made = np.fft.irfft(np.fft.rfft(shares, length) ** n, length)
    place = max(round(total / STEP) - n * least, 0)
    tail = float(np.clip(made[place : (shares.size - 1) * n + 1], 0.0, None).sum())
    return min(1.0, tail) if tail > COUNTED else saddlepoint_tail(pool, total, float(n))


def saddlepoint_tail(pool: Floats, total: float, n: float) -> float:
    """P(sum of n draws from a pool >= total), by Lugannani and Rice.

    A normal tail would accuse honest sources: surprise is rare and large, its sum is skewed.
    """
    if pool.size == 0 or n <= 0:
        return 1.0
    mean, top = float(pool.mean()), float(pool.max())
    if total <= n * mean:
        return 1.0 - saddlepoint_tail(-pool, -total, n) if total < n * mean else 0.5
    if total >= n * top:
        return float(np.mean(pool >= top) ** n)
    values, counts = np.unique(np.round(pool, 3), return_counts=True)
    weight = np.log(counts / counts.sum())
    low, high = 0.0, MOST_TILT
    for _ in range(60):
        tilt = 0.5 * (low + high)
        logs = weight + tilt * values
        shares = np.exp(logs - logs.max())
        shares /= shares.sum()
        if float((shares * values).sum()) * n < total:
            low = tilt
        else:
            high = tilt
    grown = float(logs.max() + math.log(np.exp(logs - logs.max()).sum()))
    first = float((shares * values).sum())
    second = max(float((shares * values**2).sum()) - first * first, 1e-12)
    w = math.sqrt(max(2.0 * (tilt * total - n * grown), 0.0))
    u = tilt * math.sqrt(n * second)
    if w < 1e-3 or u < 1e-3:
        return 0.5
    density = math.exp(-0.5 * w * w) / math.sqrt(2.0 * math.pi)
    tail = 0.5 * math.erfc(w / math.sqrt(2.0)) + density * (1.0 / u - 1.0 / w)
    most = math.exp(-0.5 * w * w)  # Chernoff's bound: what lies beyond it is no tail
    return tail if 0.0 < tail <= most else 0.5 * most


def fewest_flips(surprise: Surprise, of: Ints, alpha: float) -> float:
    """Fewest moved labels that would accuse a source of usual size; infinite when none would."""
    names, sizes = np.unique(of[of >= 0], return_counts=True)
    usual = float(np.median(sizes))
    gain = float((surprise.moved - surprise.ratio).mean())
    pool = np.round(surprise.ratio / STEP) * STEP
    spread = 1.0 + (usual - 1) / (STRENGTH + 1.0) if names.size < MANY else 1.0
    for flips in range(1, int(usual) + 1):
        total = usual * float(pool.mean()) + flips * gain
        p_value = _widened(sum_tail(pool, total, int(usual)), spread)
        if p_value * names.size <= alpha:
            return float(flips)
    return math.inf
