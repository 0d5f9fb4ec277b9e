# SPDX-License-Identifier: Apache-2.0
"""How many moved labels of one source are found: they are moved, and it is judged as any other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._honest import Crowd
from datapipe.stages.poisoning._sums import in_steps, mid_tails, sum_tail, sum_tails
from datapipe.stages.poisoning._surprise import (
    MANY,
    Surprise,
    held_against_like,
    least_excess,
    natural_spread,
    widened,
)

TRIED = 8
"""Sources of about the usual size of which labels are moved."""
COUNTED = 60
"""Up to so many rows of a source its sums are counted out, which takes long."""
FOUND = 0.9
"""Share of them that must be accused: somewhat more than is promised, for the model learns from
moved labels, too."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def fewest_flips(
    surprise: Surprise,
    of: Ints,
    levels: tuple[float, float],
    rng: np.random.Generator,
    times: int = 1,
) -> float:
    """Fewest moved labels by which nearly any source of usual size would be accused.

    Args:
        surprise: Of all rows.
        of: int64, shape (n,); each row's source, -1 for none.
        levels: Chances that any honest source is accused: where all are alike, and where these
            differ as most of the sources do.
        rng: Draws the rows and the labels that they get.
        times: How many columns of sources are judged together.

    Returns:
        How many; infinite where that many rows are more than most such sources have.
    """
    names, sizes = np.unique(of[of >= 0], return_counts=True)
    pool = in_steps(surprise.ratio)
    sums = np.array([float(pool[of == s].sum()) for s in names])
    tails = sum_tails(pool, sums, sizes)
    spread = natural_spread(mid_tails(pool, sums, sizes, tails), sizes)
    usual = np.argsort(np.abs(sizes - np.median(sizes)), kind="stable")[:TRIED]
    bar = levels[0] / (names.size * times)
    excess = np.array([least_excess(pool, of == s, surprise.thoughts) for s in names])
    crowd = Crowd.of(pool, excess, sizes) if names.size >= MANY else None
    least = []
    for turn in range(TRIED):
        one = int(usual[turn % usual.size])
        rows = rng.permutation(np.flatnonzero(of == names[one]))
        k = surprise.ratios.shape[1]
        moved = (surprise.labels[rows] + rng.integers(1, k, rows.size)) % k
        source = _Source(
            surprise, pool, rows, moved, float(spread[one]), bar, one, crowd, levels[1] / times
        )
        least.append(source.fewest())
    return float(np.quantile(least, FOUND, method="higher"))


@dataclass(frozen=True, eq=False)
class _Source:
    """A source whose `rows` get the labels `moved` one after the other."""

    surprise: Surprise
    pool: Floats
    rows: Ints
    moved: Ints
    spread: float
    bar: float
    number: int
    crowd: Crowd | None
    careless: float
    known: dict[int, Floats] = field(default_factory=dict)

    def fewest(self) -> float:
        """How many must be moved, by bisection: what accuses it, with more moved does so, too."""
        low, high = 0, 1
        while not self._accused(high):
            if high == self.rows.size:
                return math.inf
            low, high = high, min(2 * high, self.rows.size)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._accused(middle) else (middle, high)
        return float(high)

    def _accused(self, many: int) -> bool:
        rows, label = self.rows[:many], self.moved[:many]
        pool, labels = self.pool.copy(), self.surprise.labels.copy()
        pool[rows], labels[rows] = in_steps(self.surprise.ratios[rows, label]), label
        mine = np.zeros(pool.size, bool)
        mine[self.rows] = True
        total, n = float(pool[mine].sum()), self.rows.size
        if not self._beyond_honest(least_excess(pool, mine, self.surprise.thoughts)):
            return False
        tail = widened(sum_tail(pool, total, n, COUNTED), self.spread)
        if tail > self.bar:
            return False
        kinds = (self.surprise.thoughts, labels)
        held = held_against_like(pool, mine, kinds, tail, self.spread, counted=COUNTED)
        return held[0] <= self.bar

    def _beyond_honest(self, excess: float) -> bool:
        """Whether it lies farther out than the farthest of honest sources would."""
        if self.crowd is None:
            return True
        count = self.crowd.count(self.number, excess)
        others = self.crowd.order[self.crowd.order != self.number]
        rate = self.crowd.counts / self.crowd.usual
        far = int((rate[others] >= count / self.crowd.usual[self.number]).sum())
        if far >= self.crowd.asked:
            return False
        if far not in self.known:
            away = np.append(self.number, others[np.argsort(-rate[others], kind="stable")][:far])
            self.known[far] = self.crowd.honest(away)
        return self.crowd.farthest(self.known[far], self.number, count) <= self.careless
