# SPDX-License-Identifier: Apache-2.0
"""How likely a sum of draws is to be as large: counted out, or by a saddlepoint."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

MOST_TILT = 60.0
STEP = 0.005
"""Surprise is told in such steps, so that sums of it can be counted out."""
MOST_COUNTED = 2000
"""Up to so many rows the sums of a source are counted out."""
COUNTED = 1e-7
"""Smaller chances drown in the rounding of the counts."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def in_steps(ratio: Floats) -> Floats:
    """Surprise in whole steps, so that sums of it can be counted out."""
    return np.asarray(np.round(ratio / STEP) * STEP, np.float64)


def sum_tails(pool: Floats, sums: Floats, sizes: Ints, counted: int = MOST_COUNTED) -> Floats:
    """P(sum of n draws from a pool >= the sum) of each source, for values in whole steps.

    Sources of as many rows share what is counted out.
    """
    made = np.empty(sizes.size)
    for n in np.unique(sizes):
        same = sizes == n
        made[same] = _counted_tails([(pool, int(n))], sums[same], counted)
    return made


def mid_tails(pool: Floats, sums: Floats, sizes: Ints, tails: Floats) -> Floats:
    """`sum_tails` where a sum as large counts half: in ties they are 1 for half of all sources.

    Lancaster, 1961, Significance tests in discrete distributions.
    """
    return np.asarray(0.5 * (tails + sum_tails(pool, sums + STEP, sizes)), np.float64)


def sum_tail(pool: Floats, total: float, n: int, counted: int = MOST_COUNTED) -> float:
    """P(sum of n draws from a pool >= total), for values in whole steps."""
    return stratified_tail([(pool, n)], total, counted)


def stratified_tail(
    like: list[tuple[Floats, int]], total: float, counted: int = MOST_COUNTED
) -> float:
    """P(sum of n draws from each pool >= total), for values in whole steps."""
    return float(_counted_tails(like, np.array([total]), counted)[0])


def _counted_tails(like: list[tuple[Floats, int]], totals: Floats, counted: int) -> Floats:
    """P(sum of n draws from each pool >= total) of some totals, for values in whole steps.

    Counted out by the powers of the pools' characteristic functions; for many rows or very small
    chances by a saddlepoint. A source of few rows has none or one contradiction: no smooth curve
    describes its sums.
    """
    like = [(pool, n) for pool, n in like if pool.size and n > 0]
    if not like:
        return np.ones(totals.size)
    if sum(n for _, n in like) > counted:
        return np.array([saddlepoint_tail(like, float(total)) for total in totals])
    steps = [np.round(pool / STEP).astype(np.int64) for pool, _ in like]
    lows = [int(s.min()) for s in steps]
    widest = sum(n * int(np.ptp(s)) for s, (_, n) in zip(steps, like, strict=True))
    length = 1 << max(widest, 1).bit_length()
    shape = np.ones(length // 2 + 1, np.complex128)
    for s, low, (_, n) in zip(steps, lows, like, strict=True):
        shape *= np.fft.rfft(np.bincount(s - low) / s.size, length) ** n
    made = np.clip(np.fft.irfft(shape, length)[: widest + 1], 0.0, None)
    least = sum(n * low for low, (_, n) in zip(lows, like, strict=True))
    tails = np.empty(totals.size)
    for i, total in enumerate(totals):
        tail = float(made[max(round(float(total) / STEP) - least, 0) :].sum())
        tails[i] = min(1.0, tail) if tail > COUNTED else saddlepoint_tail(like, float(total))
    return tails


def saddlepoint_tail(like: list[tuple[Floats, int]], total: float) -> float:
    """P(sum of n draws from each pool >= total), by Lugannani and Rice.

    A normal tail would accuse honest sources: surprise is rare and large, its sum is skewed.
    """
    like = [(pool, n) for pool, n in like if pool.size and n > 0]
    if not like:
        return 1.0
    mean = sum(n * float(pool.mean()) for pool, n in like)
    if total <= mean:
        other = [(-pool, n) for pool, n in like]
        return 1.0 - saddlepoint_tail(other, -total) if total < mean else 0.5
    if total >= sum(n * float(pool.max()) for pool, n in like):
        return float(np.prod([np.mean(pool >= pool.max()) ** n for pool, n in like]))
    drawn = [(*np.unique(np.round(pool, 3), return_counts=True), n) for pool, n in like]
    low, high = 0.0, MOST_TILT
    for _ in range(60):
        tilt = 0.5 * (low + high)
        grown, first, second = _tilted(drawn, tilt)
        if first < total:
            low = tilt
        else:
            high = tilt
    w = math.sqrt(max(2.0 * (tilt * total - grown), 0.0))
    u = tilt * math.sqrt(max(second, 1e-12))
    if w < 1e-3 or u < 1e-3:
        return 0.5
    density = math.exp(-0.5 * w * w) / math.sqrt(2.0 * math.pi)
    tail = 0.5 * math.erfc(w / math.sqrt(2.0)) + density * (1.0 / u - 1.0 / w)
    most = math.exp(-0.5 * w * w)  # Chernoff's bound: what lies beyond it is no tail
    return tail if 0.0 < tail <= most else 0.5 * most


def _tilted(drawn: list[tuple[Floats, Ints, int]], tilt: float) -> tuple[float, float, float]:
    """The cumulant function of a sum of draws at a tilt, and its first two derivatives."""
    grown = first = second = 0.0
    for values, counts, n in drawn:
        logs = np.log(counts / counts.sum()) + tilt * values
        most = float(logs.max())
        shares = np.exp(logs - most)
        whole = float(shares.sum())
        mean = float((shares * values).sum()) / whole
        grown += n * (most + math.log(whole))
        first += n * mean
        second += n * (float((shares * values**2).sum()) / whole - mean * mean)
    return grown, first, second
