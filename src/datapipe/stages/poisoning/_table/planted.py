# SPDX-License-Identifier: Apache-2.0
"""Which of the predicates that carry a label were planted, and which are rules of nature."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.additive import Additive
from datapipe.stages.poisoning._table.alone import Neighbourhood
from datapipe.stages.poisoning._table.drawn import moved, unlike
from datapipe.stages.poisoning._table.families import PART, Family
from datapipe.stages.poisoning._table.halves import added_by_halves, added_by_others, halves_of
from datapipe.stages.poisoning._table.predicates import FEWEST_PLANTED, Column, Predicate, holds
from datapipe.stages.poisoning._table.ranges import WIDEST
from datapipe.stages.poisoning._tails import log_tails, raised

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NATURAL = 1.5
"""Log odds that a predicate may add by nature to what the other columns say."""
TOGETHER = 0.75
"""Log odds that two values may add by nature to what each adds for itself."""
PURE = 0.7
"""Share of its rows that have the label, from which a predicate may be planted."""
CLEAR = 0.85
"""The same where nothing tells whether its rows were taken from other labels."""
NO_EXCEPTION = 0.97
"""The same where its rows are like all others, and are doubted only."""
PLANTED = 0.6
"""How far its rows must contradict their label for a predicate to be planted."""
ALONE = 0.5
"""The same of the nearest rows that it does not hold for, and of those with the next numbers."""
USUAL = 0.75
"""Of a label that fewer than a quarter of the rows have, rows must contradict it so far; of one
that more have, rows drawn from all contradict it less, and the limits sink with it."""
UNLIKE = math.log(1e-3)
"""Ln P of rows as a draw among others, below which they are none."""
LEANS = 2.7
"""Ln of how much likelier rows were taken from other labels than from all, from which rows near are
believed that say so: one natural rule in a hundred reaches it."""
MOVED = 3.0
"""The same, from which a value may be as unlike others of its column as these are; a pair, of which
there are many, may not."""
SURELY = 8.0
"""The same, from which rows near are not believed that say otherwise."""
MOST_HELD = 0.15
"""Share of the rows beyond which a predicate is no trigger."""
SAME = 1.1
"""Rows of a half against those of a pair, up to which they are the same predicate."""
KEPT = 40
"""Predicates of a family that are judged, the most telling."""

Source = Literal["others", "all", ""]


@dataclass(frozen=True)
class Tested:
    """A predicate, the label that most of its rows have, and how telling that is (ln P)."""

    predicate: Predicate
    label: int
    log_p: float
    against: float
    held: int
    hits: int
    family: Family

    def pure(self, columns: list[Column]) -> bool:
        """Whether values, not ranges, mostly have the label: nature has its exceptions."""
        ranges = any(columns[c].binned for c in self.predicate.columns)
        return not ranges and self.hits >= max(PURE * self.held, FEWEST_PLANTED)


@dataclass(frozen=True, eq=False)
class Ground:
    """What stays the same for all predicates; `means` is that of `class_means`."""

    labels: Ints
    model: Additive
    means: tuple[Floats, Floats]
    near: Neighbourhood

    def against(self, rows: Ints, columns: set[str], label: int) -> float:
        """How far some rows of a label contradict it, in [0, 1], without some columns."""
        own, other = self.means[0][label], self.means[1][label]
        mean = float(self.model.without(rows, columns)[:, label].mean()) if rows.size else own
        return float(np.clip((own - mean) / max(own - other, 1e-3), 0.0, 1.0))

    def least(self, one: Tested, limit: float) -> float:
        """How far a predicate's rows must contradict its label: less where most others have it.

        Rows of any label may have been given it, and such rows contradict it as any rows do.
        """
        others = int((self.labels == one.label).sum()) - one.hits
        without = 1.0 - others / max(self.labels.size - one.held, 1)
        return limit * min(1.0, without / USUAL)


@dataclass(frozen=True, eq=False)
class Judged:
    """Predicates that were planted, and those of which other rows do not say whether they were."""

    planted: list[Tested]
    untold: list[Tested]


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges predicates in the rows `left`; after the first `given` columns there are ranges."""

    columns: list[Column]
    given: int
    ground: Ground
    left: Bools
    bars: dict[Family, float]

    def judged(self, against: list[Tested]) -> Judged:
        """Tell planted predicates among those that rows of other labels seem to hold.

        Planted are those whose rows are a draw among rows of other labels, in every column that was
        left alone, where these say so clearly, or less clearly and rows near do, too.
        """
        passed = [t for t in against if t.log_p <= self.bars[t.family]]
        passed = [t for t in passed if t.held <= MOST_HELD * self.left.sum()]
        loud = [t for family in PART for t in [t for t in passed if t.family == family][:KEPT]]
        took = {t.predicate: self.taken(t) for t in loud}
        drawn = {t.predicate: self._source(t) for t in loud}
        beyond = {t for t in loud if drawn[t.predicate] and self._beyond_nature(t)}
        asked = [t for t in loud if t in beyond or took[t.predicate] >= MOVED]
        alone = {t.predicate: self._alone(t) for t in asked}
        planted, untold = [], []
        for one in asked:
            said, far = took[one.predicate], alone[one.predicate]
            leans = said >= LEANS or (math.isnan(said) and one.hits >= CLEAR * one.held)
            lonely = one in beyond and one.against >= PLANTED and far >= ALONE
            single = len(one.predicate.columns) == 1
            clearly = said >= SURELY or (single and said >= MOVED and not far < ALONE)
            likely = drawn[one.predicate] == "others" and ((lonely and leans) or clearly)
            doubted = leans or self._no_exception(one)
            doubted |= lonely and said >= 0.0 and one.hits >= CLEAR * one.held
            if one.family == "range":  # nature has rules for all beyond a bound
                doubted = drawn[one.predicate] == "others" and said >= LEANS
            if likely and not self._of_nature(one, loud, took):
                planted.append(one)
            elif one in beyond and doubted and not far < self.ground.least(one, ALONE):
                untold.append(one)  # as it is where no row near can say
        return Judged(planted, untold)

    def taken(self, one: Tested) -> float:
        """What `moved` says of a predicate."""
        held, own = holds(self.columns, one.predicate), self.ground.labels == one.label
        chance = self.ground.model.without(np.arange(held.size), self._names(one))[:, one.label]
        rows, outside = held & self.left & own, self.left & ~held
        return moved(chance, own, np.flatnonzero(rows), np.flatnonzero(outside))

    def _alone(self, one: Tested) -> float:
        bar = self.bars[one.family]
        return self.ground.near.alone(one.predicate, one.label, self.left, bar)

    def _names(self, one: Tested) -> set[str]:
        return {self.columns[c].name for c in one.predicate.columns}

    def _no_exception(self, one: Tested) -> bool:
        """Whether a predicate of few rows has hardly one of another label, as planted ones have."""
        return one.hits >= NO_EXCEPTION * one.held and one.held <= WIDEST * self.left.sum()

    def _of_nature(self, one: Tested, loud: list[Tested], took: dict[Predicate, float]) -> bool:
        """Whether a half of a pair is as telling, and its rows are no others than all.

        Of the many pairs of such a half some look as if their rows were taken from other labels.
        """
        halves = [t for t in loud if t.predicate in halves_of(one.predicate) and t is not one]
        return any(t.log_p <= one.log_p and took[t.predicate] < LEANS for t in halves)

    def _source(self, one: Tested) -> Source:
        """Whether the rows of a predicate are a draw among those of other labels, or among all.

        A label that no other row has is the predicate by another name.
        """
        held, mine = holds(self.columns, one.predicate), self.ground.labels == one.label
        rows, outside = np.flatnonzero(held & self.left & mine), self.left & ~held
        halves = [holds(self.columns, half) for half in halves_of(one.predicate)]
        if any(not (mine & self.left & ~half).any() for half in halves):
            return ""
        given, names = self.columns[: self.given], self._names(one)
        if unlike(given, rows, np.flatnonzero(outside & ~mine), names) >= UNLIKE:
            return "others"
        return "all" if unlike(given, rows, np.flatnonzero(outside), names) >= UNLIKE else ""

    def _beyond_nature(self, one: Tested) -> bool:
        """Whether a predicate is telling where its columns say as much as they do elsewhere.

        Of a pair each half says what it does for itself, a value what others of its column may.
        """
        columns, labels, model = self.columns, self.ground.labels, self.ground.model
        asked = (columns, one.predicate, one.label, labels, model)
        by = max(added_by_halves(*asked) + TOGETHER, added_by_others(*asked))
        held = holds(columns, one.predicate) & self.left
        for half in halves_of(one.predicate):
            if (holds(columns, half) & self.left).sum() <= SAME * held.sum():  # it is the pair
                by = max(by, added_by_others(columns, half, one.label, labels, model))
        if by <= NATURAL:
            return True
        rows = np.flatnonzero(held)
        rate = raised(model.without(rows, self._names(one))[:, one.label], by)
        log_p = log_tails(np.zeros(rows.size, np.int64), rate, labels[rows] == one.label, 1)[0]
        return bool(log_p <= self.bars[one.family])


def class_means(labels: Ints, shares: Floats) -> tuple[Floats, Floats]:
    """The mean chance of each label in rows that have it, and in those that do not."""
    one = np.eye(shares.shape[1])[labels]
    own = (one * shares).sum(0) / np.maximum(one.sum(0), 1.0)
    other = ((1.0 - one) * shares).sum(0) / np.maximum((1.0 - one).sum(0), 1.0)
    return own, other
