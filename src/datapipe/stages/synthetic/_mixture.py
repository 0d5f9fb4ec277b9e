# SPDX-License-Identifier: Apache-2.0
"""The share of one kind in a mixture, from scores whose mean is known for both kinds.

The score need not be calibrated: its mean over the mixture lies between its means over the two
kinds, and how far along tells the share. What is uncertain is the sampling of all three, and which
generator wrote the unknown rows; the second is by far the larger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REPEATS = 400
SEPARATION = 0.05
"""Below this distance of the mean scores (in [0, 1]) the two kinds cannot be told apart."""
OUTSIDE = 0.25
"""A mixture cannot lie this far beyond either kind: then it is made of something else."""
MIN_GENERATOR_ROWS = 12
SPREAD, SPREAD_ELSEWHERE, SPREAD_WORTH = 0.3, 0.5, 4
"""Before any is seen, generators' distances from people differ by about this much (on the log
scale), by more where anchors are of other domains: a belief worth so many generators, because two
anchors alone cannot tell how a third differs."""
DRAWS = 4_000


@dataclass(frozen=True)
class Scores:
    """Scores in [0, 1], each from a model that has not seen the row or its prompt.

    Args:
        human: float64, shape (n_h,).
        machine: float64, shape (n_m,).
        generator: int64, shape (n_m,); which generator made each machine row.
        unknown: float64, shape (n_u,).
        homes: float64, shape (n_m,); mean score of people where each machine row comes from, when
            that is elsewhere; else empty.
    """

    human: Floats
    machine: Floats
    generator: Ints
    unknown: Floats
    homes: Floats = field(default_factory=lambda: np.empty(0))


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


def share(
    scores: Scores, rng: np.random.Generator, *, level: float = 0.95, unseen: bool = False
) -> Share:
    """The share of machine rows among the unknown ones.

    With anchors of the one generator that is meant, a bootstrap over all three samples. With
    several, with anchors from elsewhere, or where another generator may have written the rows, the
    distance between machine and people is itself uncertain: random effects over generators. Where
    some of those from elsewhere lie no farther from people than chance, machines here may not
    either, and nothing bounds the share from above.

    Args:
        scores: Of all rows.
        rng: Draws resamples and generators.
        level: Coverage of the interval.
        unseen: Whether the unknown rows may come from a generator that is not among the anchors.
    """
    elsewhere = scores.homes.size > 0
    gain = scores.machine - (scores.homes if elsewhere else scores.human.mean())
    distance = float(gain.mean())
    if distance < SEPARATION:
        return _unknown(f"the anchors cannot be told from the reference (distance {distance:.2f})")
    kinds, counts = np.unique(scores.generator, return_counts=True)
    apart = np.array(
        [gain[scores.generator == k].mean() for k in kinds[counts >= MIN_GENERATOR_ROWS]]
    )
    lost = (
        elsewhere and bool((apart < SEPARATION).mean() > (1 - level) / 2) if apart.size else False
    )
    apart = apart[apart >= SEPARATION]
    if unseen or elsewhere or apart.size > 1:
        spread = SPREAD_ELSEWHERE if elsewhere else SPREAD
        groups = apart if apart.size else np.array([distance])
        made = _over_generators(scores, groups, spread, rng, level)
    else:
        drawn = _drawn(scores.human, scores.machine, scores.unknown, rng)
        low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
        made = (_point(scores.human, scores.machine, scores.unknown), float(low), float(high))
    value, low, high = made
    if low > 1 + OUTSIDE or high < -OUTSIDE:
        return _unknown("the rows are like neither the reference nor the anchors")
    moved = min(1.0, max(0.0, value)) - value  # chance put it outside: its interval comes along,
    low, high = low + min(0.0, moved), high + max(0.0, moved)  # or it would shut on nothing
    high = 1.0 if lost else high
    low, value, high = (min(1.0, max(0.0, x)) for x in (low, value, high))
    return Share(value, min(low, value), max(high, value), max(1, apart.size))


def _over_generators(
    scores: Scores, apart: Floats, expected: float, rng: np.random.Generator, level: float
) -> tuple[float, float, float]:
    """Random effects on the log of the distance: it predicts that of one more generator."""
    logs, k = np.log(apart), apart.size
    squares = SPREAD_WORTH * expected**2 + float(((logs - logs.mean()) ** 2).sum())
    spread = math.sqrt(squares / (SPREAD_WORTH + k - 1) * (1 + 1 / k))
    moved = float(scores.unknown.mean() - scores.human.mean())
    sampling = math.sqrt(
        scores.human.var() / scores.human.size + scores.unknown.var() / scores.unknown.size
    )
    distances = np.exp(logs.mean() + spread * rng.standard_t(2 * SPREAD_WORTH, DRAWS))
    drawn = (moved + sampling * rng.standard_normal(DRAWS)) / np.maximum(distances, SEPARATION / 2)
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return moved / float(np.exp(logs.mean())), float(low), float(high)


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


def differs(human: Floats, unknown: Floats) -> float:
    """The chance of a mean score this high if the unknown rows were written by people."""
    spread = math.sqrt(human.var(ddof=1) / human.size + unknown.var(ddof=1) / unknown.size)
    if spread == 0:
        return 1.0
    return 1.0 - NormalDist().cdf(float(unknown.mean() - human.mean()) / spread)
