# SPDX-License-Identifier: Apache-2.0
"""How long rare kinds survive when a model learns from its own output: a branching process.

A kind that occurs c times in the training data is c independent families. In each generation an
occurrence leaves a number of offspring with mean `share`, the synthetic part of the next training
set; a model that repeats itself spreads that number more than chance would (`excess`). A kind
that also stands among real rows that are kept never dies. So survival needs the histogram of
counts only, whatever the size of the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RARE = 3
"""Kinds that occur at most so often are the tail."""
MOST_GENERATIONS = 10_000
MOST_EXCESS = 64.0
HALVINGS = 50
"""Of the range that an excess is looked for in."""


@dataclass(frozen=True)
class Histogram:
    """How many kinds occur how often.

    Args:
        times: int64, shape (k,), distinct and positive.
        kinds: int64, shape (k,).
    """

    times: Ints
    kinds: Ints

    @property
    def tokens(self) -> int:
        """How many occurrences there are."""
        return int((self.times * self.kinds).sum())

    @property
    def rare(self) -> int:
        """How many kinds occur at most `RARE` times."""
        return int(self.kinds[self.times <= RARE].sum())


def histogram(counts: Ints) -> Histogram:
    """The histogram of the counts of kinds; zeros are left out."""
    times, kinds = np.unique(counts[counts > 0], return_counts=True)
    return Histogram(times.astype(np.int64), kinds.astype(np.int64))


def extinct(generations: int, share: float, excess: float | Floats = 0.0) -> Floats:
    """The chance that the family of one occurrence is gone, shape (generations + 1,).

    Args:
        generations: How many.
        share: Mean offspring, in [0, 1].
        excess: Variance of the offspring beyond Poisson's, over the squared mean; >= 0. One for
            all generations, or float64 of shape (k,): the first k each have their own, and what
            follows is like the last.

    Returns:
        float64; entry g is for generation g.

    References:
        Watson & Galton, 1875, On the probability of the extinction of families.
    """
    own = np.atleast_1d(np.asarray(excess, np.float64))[:generations]
    gone = np.zeros(generations + 1)
    for g in range(generations):
        alike = own.size == 1  # then one more step from the last answer is all
        gone[g + 1] = (
            _childless(share * (1.0 - gone[g]), float(own[0]))
            if alike
            else _gone_after(g + 1, share, own)
        )
    return gone


def _gone_after(generations: int, share: float, own: Floats) -> float:
    """The chance to be gone by one generation, from the last back to the first."""
    gone = 0.0
    for g in reversed(range(generations)):
        gone = _childless(share * (1.0 - gone), float(own[min(g, own.size - 1)]))
    return gone


def _childless(mean: float, excess: float) -> float:
    """The chance of no offspring at all."""
    if excess > 1e-6:
        return float((1.0 + excess * mean) ** (-1.0 / excess))
    return math.exp(-mean)


def survival(
    counts: Histogram,
    generations: int,
    share: float,
    *,
    kept: float,
    excess: float | Floats = 0.0,
) -> Floats:
    """The expected share of rare kinds that are left, shape (generations + 1,).

    Args:
        counts: Of the first training data.
        generations: How many times a model learns from the last one's output.
        share: Synthetic share of each training set, in [0, 1].
        kept: Share of the first data that stays in every training set, in [0, 1].
        excess: As for `extinct`.

    Returns:
        float64 in [0, 1]; 1 where there is no rare kind.
    """
    tail = counts.times <= RARE
    times, kinds = counts.times[tail], counts.kinds[tail]
    if not kinds.sum():
        return np.ones(generations + 1)
    gone = extinct(generations, share, excess)
    lost = ((1.0 - kept) * gone[:, None]) ** times[None, :]  # not kept, and all families gone
    made: Floats = 1.0 - (lost * kinds).sum(1) / kinds.sum()
    made[0] = 1.0
    return made


def fitted_excess(counts: Histogram, share: float, kept: float, seen: Floats) -> Floats:
    """The excess of each generation under which so many rare kinds are left as were seen.

    Args:
        counts: Of the data that the simulated models began with.
        share: As for `survival`.
        kept: As for `survival`.
        seen: float64, shape (generations,); shares of rare kinds left, from the first generation.

    Returns:
        float64, shape (generations,); each is fitted with those before it as they are.
    """
    made = np.zeros(seen.size)
    for g in range(seen.size):

        def left(excess: float, own: Floats = made[: g + 1]) -> float:
            own[-1] = excess
            return float(survival(counts, own.size, share, kept=kept, excess=own)[-1])

        low, high = 0.0, MOST_EXCESS
        if left(low) <= seen[g]:
            continue
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if left(middle) > seen[g] else (low, middle)
        made[g] = 0.5 * (low + high)
    return made


def generations_to_half(counts: Histogram, share: float, *, kept: float, excess: float) -> int:
    """Generations until half of the rare kinds are gone; 0 when that never comes."""
    reach = 8
    while reach <= MOST_GENERATIONS:
        left = survival(counts, reach, share, kept=kept, excess=excess)
        under = np.flatnonzero(left < 0.5)
        if under.size:
            return int(under[0])
        if left[-2] - left[-1] < 1e-9:
            return 0
        reach *= 4
    return 0


def largest_share(counts: Histogram, generations: int, least: float, *, excess: float) -> float:
    """The largest synthetic share, the rest kept real, that leaves `least` of the rare kinds."""

    def left(share: float) -> float:
        kept = 1.0 - share
        return float(survival(counts, generations, share, kept=kept, excess=excess)[-1])

    if left(1.0) >= least:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if left(middle) >= least else (low, middle)
    return low


def drifted(
    counts: Ints,
    generations: int,
    rng: np.random.Generator,
    *,
    plan: str,
    share: float = 1.0,
    excess: float = 0.0,
    truncated: bool = False,
) -> Floats:
    """Survival of rare kinds when whole histograms are resampled: for plans without closed form.

    Args:
        counts: int64, shape (k,); occurrences of each kind.
        generations: How many.
        rng: The source of resampling.
        plan: `replace`, or `subsample` from all that accumulated, without replacement.
        share: Synthetic share of each training set (`replace`).
        excess: As for `extinct`.
        truncated: Whether what occurs once is never made; what is left is made the more.

    Returns:
        float64, shape (generations + 1,).
    """
    tail = (counts > 0) & (counts <= RARE)
    left = np.ones(generations + 1)
    if not tail.any():
        return left
    kept = rng.binomial(counts, 1.0 - share)
    pool, now = counts.copy(), counts
    for g in range(1, generations + 1):
        source = np.where(now > 1, now, 0) if truncated else now
        scale = now.sum() / max(1, source.sum())
        if plan == "replace":
            now = kept + _offspring(source, scale * share, excess, rng)
        else:
            pool = pool + _offspring(source, scale, excess, rng)
            now = rng.binomial(pool, min(1.0, counts.sum() / max(1, pool.sum())))
        left[g] = float((now[tail] > 0).mean())
    return left


def _offspring(counts: Ints, share: float, excess: float, rng: np.random.Generator) -> Ints:
    if excess <= 1e-6:
        return np.asarray(rng.poisson(share * counts), np.int64)
    made = np.zeros(counts.size, np.int64)
    alive = counts > 0
    made[alive] = rng.negative_binomial(counts[alive] / excess, 1.0 / (1.0 + excess * share))
    return made
