# SPDX-License-Identifier: Apache-2.0
"""Where the lower tail of a sample stops being its own: a cut calibrated by the bulk.

Log distances to near neighbours have an exponential lower tail when rows are drawn, not copied.
Its rate is read off quantiles well inside the bulk, so copies far below do not bend it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FITS = ((0.25, 0.10), (0.50, 0.25))
"""Quantiles between which the rate of the tail is read; the second bears more copies."""
MOST_COPIES = 0.45
"""The largest share of rows that may lie below the cut; half of them are originals."""
GAP_LEVEL = 0.01
"""Level at which the empty space above the cut must be no coincidence."""
FEWEST = 50
COMMONEST = 0.03
"""A value that more than this share of rows has makes a ladder of a tail."""
CREDIT = 0.3
"""What a row found before counts in the level of those found later."""
ENOUGH = 100
"""Rows between the two quantiles from which a rate is lowered by one standard error, not two."""
LEAST_WIDTH = 1e-9


def is_ladder(values: Floats) -> bool:
    """Whether a sample repeats its values so often that it has steps where a tail should be."""
    repeats = np.unique(np.round(values, 4), return_counts=True)[1]
    return bool(repeats.max(initial=0) > COMMONEST * values.size)


def rows_below(values: Floats, level: float, already: int = 0) -> int:
    """How many of the smallest values do not belong to the tail of the others; 0 for none.

    For every r, the tail is fitted to the values that are left when the r smallest are taken away.
    The largest r whose r-th value is still improbable under that fit (Benjamini-Hochberg at
    `level`) says that there are strangers. The cut is then moved to the widest empty space nearby,
    where there is one: for an exponential tail r times the r-th spacing is exponential (Rényi,
    1953, On the theory of order statistics), so its width can be tested. Rows that were found
    `already` count among the rejections, but less, for they were found at a level of their own.
    """
    ordered = np.sort(values)
    n = ordered.size
    r = np.arange(1, int(MOST_COPIES * n))
    tails, rates = np.ones(r.size), np.full(r.size, np.inf)
    for upper, lower in FITS:
        edge, rate = _fit(ordered, r, upper, lower)
        reach = np.maximum(edge - ordered[r - 1], 0.0)
        tails = np.minimum(tails, lower * np.exp(-rate * reach))
        rates = np.minimum(rates, rate)
    allowed = level * (r + CREDIT * already) / (n + already)
    strangers = np.flatnonzero(tails <= allowed)
    if strangers.size == 0:
        return 0
    most = int(r[strangers[-1]])
    near = slice(0, min(r.size, int(1.1 * most) + 5))
    spacings = (rates * r * (ordered[r] - ordered[r - 1]))[near]
    widest = int(np.argmax(spacings))
    if spacings[widest] >= np.log(n / GAP_LEVEL):
        return int(r[widest])
    stricter = np.flatnonzero(tails <= 0.5 * allowed)
    return int(r[stricter[-1]]) if stricter.size else 0


def _fit(
    ordered: Floats, taken: NDArray[np.int64], upper: float, lower: float
) -> tuple[Floats, Floats]:
    """The lower quantile of what is left, and a cautious rate of an exponential tail."""
    left = ordered.size - taken
    edge = ordered[taken + (lower * left).astype(np.int64)]
    width = ordered[taken + (upper * left).astype(np.int64)] - edge
    rate = np.log(upper / lower) / np.maximum(width, LEAST_WIDTH)
    between = (upper - lower) * left
    errors = np.where(between < ENOUGH, 2.0, 1.0) / np.sqrt(between)
    return edge, rate * np.maximum(1 - errors, 0.0)


def tail_p_values(values: Floats, reference: Floats) -> Floats:
    """The chance of a value as small or smaller in the population of the reference.

    Args:
        values: float, any shape; infinite where nothing was measured.
        reference: float, shape (m,): values of rows that are not copies.

    Returns:
        Probabilities of the same shape: shares within the bulk, the fitted tail below it.
    """
    ordered = np.sort(reference)
    upper, lower = FITS[0]
    edge, rate = _fit(ordered, np.zeros(1, np.int64), upper, lower)
    shares = (np.searchsorted(ordered, values, side="right") + 1) / (ordered.size + 1)
    below = lower * np.exp(-rate * np.maximum(edge - values, 0.0))
    return np.asarray(np.where(values < edge, below, np.minimum(shares, 1.0)), np.float64)
