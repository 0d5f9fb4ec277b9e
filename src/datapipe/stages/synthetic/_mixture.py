# SPDX-License-Identifier: Apache-2.0
"""The share of one kind in a mixture, from scores whose mean is known for both kinds.

The score need not be calibrated: its mean over the mixture lies between its means over the two
kinds, and how far along tells the share. What is uncertain is the sampling of all three, and which
generator wrote the unknown rows; the second is by far the larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.distributions import t_quantile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REPEATS = 400
SEPARATION = 0.05
"""Below this distance of the mean scores (in [0, 1]) the two kinds cannot be told apart."""
OUTSIDE = 0.25
"""A mixture cannot lie this far beyond either kind: then it is made of something else."""
MIN_GENERATOR_ROWS = 12


@dataclass(frozen=True)
class Scores:
    """Scores in [0, 1], each from a model that has not seen the row or its prompt.

    Args:
        human: float64, shape (n_h,).
        machine: float64, shape (n_m,).
        generator: int64, shape (n_m,); which generator made each machine row.
        unknown: float64, shape (n_u,).
    """

    human: Floats
    machine: Floats
    generator: Ints
    unknown: Floats


@dataclass(frozen=True)
class Share:
    """A share with its interval, or why there is none.

    Args:
        value: In [0, 1]; NaN when not identifiable.
        low: Lower bound.
        high: Upper bound.
        generators: How many generators the interval rests on.
        why_not: Why the share is not identifiable, empty when it is.
    """

    value: float
    low: float
    high: float
    generators: int
    why_not: str = ""


def share(scores: Scores, rng: np.random.Generator, *, level: float = 0.95) -> Share:
    """The share of machine rows among the unknown ones.

    With anchors of one generator, a bootstrap over all three samples. With several, one estimate
    for each, and a prediction interval for the share if the unknown rows came from a generator
    like these: its width holds the spread between generators.
    """
    distance = float(scores.machine.mean() - scores.human.mean())
    if distance < SEPARATION:
        return _unknown(f"the anchors cannot be told from the reference (distance {distance:.2f})")
    kinds, counts = np.unique(scores.generator, return_counts=True)
    enough = [int(k) for k, c in zip(kinds, counts, strict=True) if c >= MIN_GENERATOR_ROWS]
    if len(enough) > 1:
        made = _over_generators(scores, enough, rng, level)
    else:
        drawn = _drawn(scores.human, scores.machine, scores.unknown, rng)
        low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
        made = (_point(scores.human, scores.machine, scores.unknown), float(low), float(high))
    value, low, high = made
    if low > 1 + OUTSIDE or high < -OUTSIDE:
        return _unknown("the rows are like neither the reference nor the anchors")
    low, value, high = (min(1.0, max(0.0, x)) for x in (low, value, high))
    return Share(value, min(low, value), max(high, value), max(1, len(enough)))


def _over_generators(
    scores: Scores, kinds: Sequence[int], rng: np.random.Generator, level: float
) -> tuple[float, float, float]:
    """Random effects: the interval predicts the estimate under one more generator."""
    points, spreads = [], []
    for kind in kinds:
        machine = scores.machine[scores.generator == kind]
        points.append(_point(scores.human, machine, scores.unknown))
        spreads.append(float(np.std(_drawn(scores.human, machine, scores.unknown, rng), ddof=1)))
    k, within = len(points), float(np.mean(np.square(spreads)))
    between = max(0.0, float(np.var(points, ddof=1)) - within)
    generator = t_quantile(0.5 + level / 2, k - 1) * math.sqrt(between * (1 + 1 / k))
    sampling = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(within)
    half, centre = math.hypot(generator, sampling), float(np.mean(points))
    return centre, centre - half, centre + half


def _point(human: Floats, machine: Floats, unknown: Floats) -> float:
    distance = max(SEPARATION / 2, float(machine.mean() - human.mean()))
    return float(unknown.mean() - human.mean()) / distance


def _drawn(human: Floats, machine: Floats, unknown: Floats, rng: np.random.Generator) -> Floats:
    """The share in resamples of all three samples, not clipped, shape (REPEATS,)."""
    h, m, u = (_resampled_means(x, rng) for x in (human, machine, unknown))
    return np.asarray((u - h) / np.maximum(m - h, SEPARATION / 2), np.float64)


def _resampled_means(values: Floats, rng: np.random.Generator) -> Floats:
    """Means of bootstrap resamples; those of large samples by their normal limit."""
    n = values.size
    if n > 5000:
        return rng.normal(values.mean(), values.std() / math.sqrt(n), REPEATS)
    counts = rng.multinomial(n, np.full(n, 1 / n), REPEATS)
    return np.asarray(counts @ values / n, np.float64)


def _unknown(why: str) -> Share:
    return Share(math.nan, 0.0, 1.0, 0, why)


def conformal(reference: Floats, scores: Floats) -> Floats:
    """The share of reference rows, each row itself included, that score at least as high.

    A human row of the same population gets a value <= a with probability at most a, whatever the
    score is worth.
    """
    ordered = np.sort(reference)
    above = reference.size - np.searchsorted(ordered, scores, side="left")
    return np.asarray((1.0 + above) / (reference.size + 1.0), np.float64)


def differs(human: Floats, unknown: Floats) -> float:
    """The chance of a mean score this high if the unknown rows were written by people."""
    spread = math.sqrt(human.var(ddof=1) / human.size + unknown.var(ddof=1) / unknown.size)
    if spread == 0:
        return 1.0
    return 1.0 - NormalDist().cdf(float(unknown.mean() - human.mean()) / spread)
