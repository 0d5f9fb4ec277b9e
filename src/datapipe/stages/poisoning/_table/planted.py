# SPDX-License-Identifier: Apache-2.0
"""Which of the predicates that carry a label were planted, and which are rules of nature."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.additive import Additive
from datapipe.stages.poisoning._table.alone import Neighbourhood
from datapipe.stages.poisoning._table.crowds import FLANK, WIDEST
from datapipe.stages.poisoning._table.drawn import FEWEST_TOLD, moved, unlike
from datapipe.stages.poisoning._table.families import PART, Family
from datapipe.stages.poisoning._table.halves import (
    added_by_halves,
    added_by_others,
    halves_of,
    rows_missing,
)
from datapipe.stages.poisoning._table.predicates import (
    FEWEST_PLANTED,
    PURE,
    Column,
    Predicate,
    holds,
    where,
)
from datapipe.stages.poisoning._tails import log_tails, raised

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NATURAL = 1.5
"""Log odds that a predicate may add by nature to what the other columns say."""
TOGETHER = 0.75
"""Log odds that two values may add by nature to what each adds for itself."""
PLANTED = 0.6
"""How far its rows must contradict their label for a predicate to be judged."""
MAYBE = 1.3
"""Standard errors by which they may contradict it less: columns that say little say so of few."""
USUAL = 0.75
"""Of a label that fewer than a quarter of the rows have, rows must contradict it so far; of one
that more have, rows drawn from all contradict it less, and the limit sinks with it."""
FAIL = 2.2
"""Ln of how much likelier a predicate was planted than it is a rule of nature, to be called so."""
SUSPECT = 1.4
"""The same, to be doubted."""
MOST_MOVED = 8.0
"""What whose rows they are may say at most: of a model's sums no more is known."""
MOST_ALONE, LEAST_ALONE = 2.0, -8.5
"""What rows near say that have the label no more often than any, and as often as its rows."""
A_DRAW = -3.0
"""Ln P from which rows may be a draw; each e less likely, they are one e less likely planted."""
LEAST_BEYOND, MOST_BEYOND = -1.5, 2.5
"""What it says that a predicate is telling even if its values add as much as others do."""
BEYOND_STEP = 5.0
"""Ln p by which a predicate must pass the bar for that to say one."""
NOT_MET = -8.0
"""What it says that two values meet no more often than by chance: whoever plants adds rows."""
BEYOND_BOUND = -6.0
"""What it says that a range is all beyond a bound, where rows go on: nature has such rules."""
APART = 3.0
"""Rows foretold in the gap before a range, from which it is no tail but stands apart."""
ANYONE = -1.5
"""What it says that rows of any label were given one: a rule of nature has such rows, too.

Of a value it is said only before it is called planted, of a range also before it is doubted.
"""
RARE = -1.0
"""What it says that hardly any other row has its label: who plants takes one that there is."""
MADE_OF = 4
"""Times as many rows as have the label otherwise, from which the label is made of the value."""
KIN, MOST_KIN = -0.5, 3
"""What each other predicate of the same columns says that is as telling: they make labels."""
CONSTANT = -12.0
"""What it says that a column has one value but for these rows: who would plant in such a one?"""
NO_EXCEPTION = 0.97
"""Share of its rows that have the label where rows of any label were given it."""
MOST_HELD = 0.15
"""Share of the rows beyond which a predicate is no trigger."""
SAME = 1.1
"""Rows of a half against those of a pair, up to which they are the same predicate."""
MOST_ASKED = 5000
"""Rows that a predicate does not hold for, evenly drawn, to which what columns say is fitted."""
KEPT = 40
"""Predicates of a family that are judged, the most telling."""


@dataclass(frozen=True)
class Tested:
    """A predicate, the label that most of its rows have, and how telling that is (ln P).

    `price` is what was added to it for all ends that a range may have. Rows can have been `added`
    to values, and to ranges that are crowded.
    """

    predicate: Predicate
    label: int
    log_p: float
    against: float
    held: int
    hits: int
    family: Family
    price: float = 0.0
    added: bool = True

    def pure(self, columns: list[Column]) -> bool:
        """Whether values, not ranges, mostly have the label: nature has its exceptions."""
        ranges = any(columns[c].binned for c in self.predicate.columns)
        return not ranges and self.hits >= max(PURE * self.held, FEWEST_PLANTED)


@dataclass(frozen=True, eq=False)
class Ground:
    """What stays the same for all predicates; `means` is that of `class_means`.

    `said` is the evidence of those judged before, by condition, label, rows and hits: one that has
    lost no row with another one found is judged as it was.
    """

    labels: Ints
    model: Additive
    means: tuple[Floats, Floats]
    near: Neighbourhood
    said: dict[tuple[str, int, int, int], tuple[float, float]] = field(default_factory=dict)

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
    """Judges predicates in the rows `left`; after the first `given` columns there are ranges.

    `telling` are all predicates that were tested, planted or not.
    """

    columns: list[Column]
    given: int
    ground: Ground
    left: Bools
    bars: dict[Family, float]
    telling: list[Tested] = field(default_factory=list)

    def against(self, one: Tested) -> bool:
        """Whether its rows contradict its label far enough, or may, for all that so few can say."""
        least = self.ground.least(one, PLANTED)
        if one.against >= least or one.log_p > self.bars[one.family]:
            return one.against >= least
        chance, own, rows = self._without(one)
        given, outside, mine = chance[:rows], chance[rows:], own[rows:]
        if mine.all() or not mine.any():
            return False
        usual, other = float(outside[mine].mean()), float(outside[~mine].mean())
        doubt = MAYBE * float(given.std()) / math.sqrt(rows)
        return bool(usual - float(given.mean()) + doubt >= least * (usual - other))

    def judged(self, against: list[Tested]) -> Judged:
        """Tell planted predicates among those that rows of other labels seem to hold.

        A pair is no likelier planted than a half of it that is as telling: of the many pairs of
        such a half some look as if their rows were taken from other labels.
        """
        passed = [t for t in against if t.log_p <= self.bars[t.family]]
        passed = [t for t in passed if t.held <= MOST_HELD * self.left.sum()]
        loud = [t for family in PART for t in [t for t in passed if t.family == family][:KEPT]]
        says = {t.predicate: self._said(t) for t in loud}
        log_p = {t.predicate: t.log_p for t in loud}
        planted, untold = [], []
        for one in loud:
            others, everyone = says[one.predicate]
            for half in halves_of(one.predicate):
                if half in says and log_p[half] <= one.log_p and not self._brought(one, half):
                    others = min(others, says[half][0])
                    everyone = min(everyone, says[half][1])
            if max(others, everyone + ANYONE) >= FAIL:
                planted.append(one)
            elif max(others, everyone + (ANYONE if one.price else 0.0)) >= SUSPECT:
                untold.append(one)
        return Judged(planted, untold)

    def _said(self, one: Tested) -> tuple[float, float]:
        key = (where(self.columns, one.predicate), one.label, one.held, one.hits)
        if key not in self.ground.said:
            self.ground.said[key] = self.evidence(one)
        return self.ground.said[key]

    def evidence(self, one: Tested) -> tuple[float, float]:
        """Ln of how much likelier a predicate was planted than it is a rule of nature.

        Args:
            one: A predicate.

        Returns:
            Where its rows were taken from other labels, and where they were taken whatever their
            label: a rule of nature holds for rows of its own kind, does not end at one value, adds
            what the other values of its column add, and brings no two values together.
        """
        held, mine = holds(self.columns, one.predicate), self.ground.labels == one.label
        halves = [holds(self.columns, half) for half in halves_of(one.predicate)]
        if any(not (mine & self.left & ~half).any() for half in halves):
            return -math.inf, -math.inf  # no other row has the label: it is another name of it
        rows, outside = np.flatnonzero(held & self.left & mine), self.left & ~held
        given, names = self.columns[: self.given], self._names(one)
        pure = one.hits >= NO_EXCEPTION * one.held and one.held <= WIDEST * self.left.sum()
        pure &= not self._beyond_a_bound(one)  # nature has rules for all of these
        taken = self.taken(one)
        said = float(np.clip(np.nan_to_num(taken), -MOST_MOVED, MOST_MOVED))
        others = said if one.added else -math.inf
        everyone = 0.0 if pure else -math.inf
        most = MOST_BEYOND + MOST_ALONE
        if max(others, everyone) + most < SUSPECT:
            return others, everyone
        beyond, labels = self._beyond(one), self.ground.labels
        shared = min(max(beyond, LEAST_BEYOND), MOST_BEYOND)
        shared += NOT_MET if one.family == "pair" else 0.0
        ranged = one.family in ("range", "within")
        shared += BEYOND_BOUND if ranged and self._goes_on(one) else 0.0
        shared += KIN * self._kin(one)
        usual = max(FEWEST_TOLD, rows.size // MADE_OF)
        shared += RARE if (mine & outside).sum() < usual else 0.0
        shared += CONSTANT if self._all_that_differs(one) else 0.0
        a_draw = unlike(given, rows, np.flatnonzero(outside & ~mine), names) - A_DRAW
        missing = rows_missing(self.columns, one.predicate, one.label, labels, self.left)
        others += shared + min(a_draw, 0.0) + missing
        if pure:
            a_draw = unlike(given, rows, np.flatnonzero(outside), names) - A_DRAW
            everyone += shared + min(a_draw, 0.0)
        if max(others, everyone) + MOST_ALONE < SUSPECT:
            return others, everyone
        bar = self.bars[one.family]
        alone = self.ground.near.alone(one.predicate, one.label, self.left, bar)
        if math.isnan(alone):
            return others, everyone
        most = self.ground.least(one, 1.0)
        shares = [min(1.0, alone / most), min(1.0, alone / (USUAL * most))]
        near = [LEAST_ALONE + (MOST_ALONE - LEAST_ALONE) * share for share in shares]
        return others + near[0], everyone + near[1]

    def taken(self, one: Tested) -> float:
        """What `moved` says of a predicate."""
        chance, own, rows = self._without(one)
        place = np.arange(chance.size)
        return moved(chance, own, place[:rows], place[rows:])

    def _without(self, one: Tested) -> tuple[Floats, Bools, int]:
        """The chance of a label in a predicate's rows, so many, and in others, and who has it."""
        held, own = holds(self.columns, one.predicate), self.ground.labels == one.label
        rows, outside = np.flatnonzero(held & self.left & own), np.flatnonzero(self.left & ~held)
        asked = np.concatenate([rows, outside[:: 1 + outside.size // MOST_ASKED]])
        chance = self.ground.model.without(asked, self._names(one))[:, one.label]
        return chance, own[asked], rows.size

    def _kin(self, one: Tested) -> int:
        """How many predicates of the same columns, that share no row with it, carry a label."""
        held, names, found = holds(self.columns, one.predicate), self._names(one), 0
        for other in self.telling:
            passed = other.log_p <= self.bars[other.family] and other.family != "decile"
            if passed and self._names(other) == names:
                found += not (held & holds(self.columns, other.predicate)).any()
            if found == MOST_KIN:
                break
        return found

    def _all_that_differs(self, one: Tested) -> bool:
        """Whether a column has one value but for a half's rows with the label: it is for that."""
        for place, code in zip(one.predicate.columns, one.predicate.codes, strict=True):
            own = self.columns[place].code
            rest = own[self.left & ((own != code) | (self.ground.labels != one.label))]
            if place < self.given and rest.size and rest[0] >= 0 and bool((rest == rest[0]).all()):
                return True
        return False

    def _beyond_a_bound(self, one: Tested) -> bool:
        """Whether a half is a range that hardly a row with the other half lies below, or above."""
        held = holds(self.columns, one.predicate)
        for place in one.predicate.columns:
            if place < self.given:
                continue
            numbers, others = self.columns[place].numbers, self.left.copy()
            for other, code in zip(one.predicate.columns, one.predicate.codes, strict=True):
                others &= (other == place) | (self.columns[other].code == code)
            inside = numbers[held]
            below, above = numbers[others] < inside.min(), numbers[others] > inside.max()
            if min(int(below.sum()), int(above.sum())) < FLANK:
                return True
        return False

    def _goes_on(self, one: Tested) -> bool:
        """Whether a range is all beyond a bound, before which rows do not thin out."""
        place, others = one.predicate.columns[0], self.left.copy()
        for other, code in zip(one.predicate.columns[1:], one.predicate.codes[1:], strict=True):
            others &= self.columns[other].code == code
        numbers = self.columns[place].numbers
        inside = numbers[holds(self.columns, one.predicate) & self.left]
        low, high = float(inside.min()), float(inside.max())
        below = np.sort(numbers[others & (numbers < low)])
        above = np.sort(numbers[others & (numbers > high)])
        if min(below.size, above.size) >= FLANK or max(below.size, above.size) < FLANK:
            return False
        near, gap = above[:FLANK], float(above[:1].sum()) - high
        if below.size > above.size:
            near, gap = below[-FLANK:], low - float(below[-1])
        step = float(np.diff(np.unique(np.append(near, inside))).min())
        return FLANK * (gap - step) < APART * (float(near[-1] - near[0]) + step)

    def _names(self, one: Tested) -> set[str]:
        return {self.columns[c].name for c in one.predicate.columns}

    def _brought(self, one: Tested, half: Predicate) -> bool:
        """Whether a half has hardly a row but those of its pair, to which it owes the other half.

        Such a half is no draw by the other column, which was not left alone.
        """
        return int((holds(self.columns, half) & self.left).sum()) <= SAME * one.held

    def _beyond(self, one: Tested) -> float:
        """How telling a predicate is where its columns say as much as they do elsewhere.

        Of a pair each half says what it does for itself, a value what others of its column may.
        """
        columns, labels, model = self.columns, self.ground.labels, self.ground.model
        asked = (columns, one.predicate, one.label, labels, model)
        by = max(added_by_halves(*asked) + TOGETHER, added_by_others(*asked))
        held = holds(columns, one.predicate) & self.left
        for half in halves_of(one.predicate):
            if (holds(columns, half) & self.left).sum() <= SAME * held.sum():  # it is the pair
                by = max(by, added_by_others(columns, half, one.label, labels, model))
        rows = np.flatnonzero(held)
        rate = raised(model.without(rows, self._names(one))[:, one.label], by)
        log_p = log_tails(np.zeros(rows.size, np.int64), rate, labels[rows] == one.label, 1)[0]
        return float(self.bars[one.family] - log_p - one.price) / BEYOND_STEP


def class_means(labels: Ints, shares: Floats) -> tuple[Floats, Floats]:
    """The mean chance of each label in rows that have it, and in those that do not."""
    one = np.eye(shares.shape[1])[labels]
    own = (one * shares).sum(0) / np.maximum(one.sum(0), 1.0)
    other = ((1.0 - one) * shares).sum(0) / np.maximum((1.0 - one).sum(0), 1.0)
    return own, other
