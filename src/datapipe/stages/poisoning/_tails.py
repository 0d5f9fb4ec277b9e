# SPDX-License-Identifier: Apache-2.0
"""How unlikely it is that so many rows carry a label, when each may by a chance of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DOUBT = 0.005
"""However sure the model is, this share of labels may be otherwise."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def raised(share: Floats, by: Floats | float) -> Floats:
    """Chances of which some are in doubt whatever the model says, with their odds raised."""
    doubted = DOUBT + (1.0 - 2.0 * DOUBT) * share
    odds = np.log(doubted) - np.log1p(-doubted) + by
    return np.asarray(1.0 / (1.0 + np.exp(-odds)), np.float64)


def log_tails(of: Ints, rate: Floats, hit: Bools, tests: int) -> Floats:
    """Ln P(as many hits), exact where every row is a hit, else Chernoff's bound of it."""
    logs = np.bincount(of, np.log(rate), minlength=tests)
    hits = np.bincount(of, hit, minlength=tests).astype(np.float64)
    total = np.bincount(of, minlength=tests)
    expected = np.bincount(of, rate, minlength=tests)
    some = (hits < total) & (hits > expected)
    made = np.where(hits == total, logs, 0.0)
    number = np.full(tests, -1)
    number[some] = np.arange(int(some.sum()))
    mine = number[of] >= 0
    made[some] = _chernoff(number[of[mine]], rate[mine], hits[some])
    return np.asarray(made, np.float64)


def _chernoff(of: Ints, rate: Floats, hits: Floats) -> Floats:
    """The tilt at which the expected count equals the hits, by bisection over all tests at once."""
    low, high = np.zeros(hits.size), np.full(hits.size, 40.0)
    for _ in range(40):
        tilt = 0.5 * (low + high)
        tilted = rate / (rate + (1.0 - rate) * np.exp(-tilt)[of])
        few = np.bincount(of, tilted, minlength=hits.size) < hits
        low, high = np.where(few, tilt, low), np.where(few, high, tilt)
    bound = np.bincount(of, np.log1p(rate * np.expm1(tilt)[of]), minlength=hits.size)
    return np.asarray(np.minimum(0.0, bound - tilt * hits), np.float64)
