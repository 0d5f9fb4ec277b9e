# SPDX-License-Identifier: Apache-2.0
"""The search for predicates that carry a label against what the other columns say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.measure.detection import binomial_tail
from datapipe.measure.neighbours import nearest
from datapipe.stages.poisoning._additive import Additive
from datapipe.stages.poisoning._association import log_tails, raised
from datapipe.stages.poisoning._predicates import (
    LEAST_ROWS,
    Cells,
    Column,
    Predicate,
    every_cell,
    holds,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SHARE = 0.8
"""A predicate is tested for the label that at least this share of its rows has."""
NATURAL = 1.5
"""Log odds that a predicate may add by nature to what the other columns say."""
PLANTED = 0.6
"""How far its rows must contradict their label for a predicate to be planted."""
FEWEST_PLANTED = 8
PURE = 0.85
"""Share of its rows that have the label, from which a predicate may be planted."""
TOLD_APART = 0.15
"""By how much more often the neighbours of a label's rows must have it than those of others."""
WORTH = 10.0
"""By how much more telling a pair must be than one of its halves (in ln p) to be named."""
CHANCE = 1e-4
"""A pair is named only where so many rows of one half and the label hold the other half less often
by chance: some fifty values of other columns in common use may do so."""
MOST_FOUND = 6
KEPT = 40
ALONE = 0.5
"""The same of the nearest rows that it does not hold for."""
NEIGHBOURS = 15
BESIDE = 20
"""Rows with the next smaller values of a number, and with the next larger, that are asked."""
SURE = 0.5
"""Level of the interval of how often they have the label."""
ASKED = 200
"""Rows of a predicate, and of each side of a label, whose neighbours are asked."""


@dataclass(frozen=True, eq=False)
class Carrier:
    """A predicate that carries a label.

    `rows` hold it and the label, `held` counts the rows that hold it. `log_p` is corrected for all
    predicates. `against` is 0 where the other columns speak for the label as they do in any row of
    it, 1 where they speak as in rows of other labels; `alone` says the same of the nearest rows
    that the predicate does not hold for: a rule of nature does not end at one value.
    """

    predicate: Predicate
    label: int
    rows: Ints
    held: int
    log_p: float
    against: float
    alone: float


@dataclass(frozen=True)
class _Tested:
    predicate: Predicate
    label: int
    log_p: float
    against: float
    held: int
    hits: int

    def pure(self, columns: list[Column]) -> bool:
        """Whether values, not ranges, nearly always have the label: nature has its exceptions."""
        ranges = any(columns[c].binned for c in self.predicate.columns)
        return not ranges and self.hits >= max(PURE * self.held, FEWEST_PLANTED)


@dataclass(frozen=True, eq=False)
class Search:
    """Planted predicates, rules that may be natural, and how many predicates were looked at.

    `best` is the least corrected ln p of a planted one, `score` of each row -ln p of its loudest.
    """

    planted: list[Carrier]
    natural: list[Carrier]
    looked_at: int
    best: float
    score: Floats


def search(columns: list[Column], labels: Ints, model: Additive, alpha: float) -> Search:
    """Find predicates one after the other, each with the rows of the last ones left out.

    Args:
        columns: What predicates are made of.
        labels: int64, shape (n,), in 0..K-1.
        model: What the columns of a row say of its label, without having seen it.
        alpha: Chance of naming a predicate where there is none.

    Returns:
        What was found.
    """
    left = np.ones(labels.size, bool)
    found: list[Carrier] = []
    natural: list[Carrier] = []
    looked_at, best = 0, 0.0
    score = np.zeros(labels.size)
    near = _Nearness(model, labels)
    for turn in range(MOST_FOUND):
        telling, cells = _tested(columns, labels, model, left)
        looked_at = looked_at or max(cells, 1)
        bar = np.log(alpha) - np.log(looked_at)
        pure = [t for t in telling if t.pure(columns)]
        against = [t for t in pure if t.against >= PLANTED]
        sure = [t for t in against if t.log_p <= bar][:KEPT]
        alone = {t.predicate: _alone(columns, t, labels, left, near) for t in sure}
        planted = [t for t in sure if alone[t.predicate] >= ALONE]
        if turn == 0:
            rest = [t for t in against if t.log_p > bar]
            best = min((t.log_p for t in [*planted, *rest]), default=0.0)
            named = [t for t in telling if t.log_p <= bar and t not in planted][:MOST_FOUND]
            natural = [
                _carrier(t, holds(columns, t.predicate), labels, looked_at, np.nan) for t in named
            ]
        if not planted:
            break
        first = _simplest(columns, planted, pure, labels, left)
        held = holds(columns, first.predicate) & left
        far = _alone(columns, first, labels, left, near)
        told = _carrier(first, held, labels, looked_at, far)
        found.append(told)
        score[told.rows] = np.maximum(score[told.rows], -told.log_p)
        left = left & ~held
    return Search(found, natural, looked_at, min(0.0, best + float(np.log(looked_at))), score)


def _carrier(one: _Tested, held: Bools, labels: Ints, looked_at: int, alone: float) -> Carrier:
    rows = np.flatnonzero(held & (labels == one.label))
    log_p = min(0.0, one.log_p + float(np.log(looked_at)))
    return Carrier(one.predicate, one.label, rows, int(held.sum()), log_p, one.against, alone)


def _alone(
    columns: list[Column], one: _Tested, labels: Ints, left: Bools, near: _Nearness
) -> float:
    """How alone a predicate is by its nearest rows and by the next values of its numbers.

    Rows near a label that hardly any other row has say nothing. Then a quantity that is amid its
    other values may still tell: a rule of nature over it does not end at one of them.
    """
    by_value = _alone_by_value(columns, one, labels, left)
    silent = {columns[c].name for c in one.predicate.columns if not columns[c].numbers.size}
    by_rows = near.alone(holds(columns, one.predicate) & left, one.label, silent)
    if by_rows is None:
        by_rows = 1.0 if _amid_quantity(columns, one.predicate, left) else 0.0
    return min(by_rows, by_value)


def _amid_quantity(columns: list[Column], predicate: Predicate, left: Bools) -> bool:
    """Whether one half is a value of a quantity that enough rows lie below, and enough above.

    Whole numbers may be codes, and the least and the greatest value may stand for *not measured*.
    """
    halves = list(zip(predicate.columns, predicate.codes, strict=True))
    for number, code in halves:
        if not columns[number].quantity:
            continue
        values = columns[number].numbers
        others = left & np.isfinite(values)
        for other, its_code in halves:
            others &= (other == number) | (columns[other].code == its_code)
        value = float(values[np.argmax(columns[number].code == code)])
        below, above = int((values[others] < value).sum()), int((values[others] > value).sum())
        if min(below, above) >= FEWEST_PLANTED:
            return True
    return False


class _Nearness:
    """What the nearest rows that a predicate does not hold for say of its label."""

    def __init__(self, model: Additive, labels: Ints) -> None:
        # Rows are near where what their columns say is alike: a column that says nothing is silent.
        self._parts, self._names = model.parts, model.names
        self._labels = labels

    def alone(self, held: Bools, label: int, silent: set[str]) -> float | None:
        """0 where they have the label as often as those of any of its rows, 1 as of other rows.

        `silent` columns are not looked at: a planted category says more than any other value does,
        so that by it the rows that say most for the label would be near.
        None where the rows near a label's other rows do not have it more often than elsewhere.
        """
        others = np.flatnonzero(~held)
        if others.size <= NEIGHBOURS:
            return 0.0
        mine = np.flatnonzero(held & (self._labels == label))
        own = others[self._labels[others] == label]
        apart = others[self._labels[others] != label]
        if not apart.size:
            return 0.0
        heard = [i for i, name in enumerate(self._names) if name not in silent]
        if not own.size or not heard:
            return None
        asked = [_spread_out(rows) for rows in (mine, own, apart)]
        values = self._parts[:, heard].reshape(self._labels.size, -1)
        near = nearest(values[others], values[np.concatenate(asked)], k=NEIGHBOURS + 1).indices
        whose = others[near] != np.concatenate(asked)[:, None]
        share = ((self._labels[others[near]] == label) & whose).sum(1) / whose.sum(1)
        means = [float(p.mean()) for p in np.split(share, np.cumsum([a.size for a in asked])[:-1])]
        if means[1] - means[2] < TOLD_APART:
            return None
        return float(np.clip((means[1] - means[0]) / (means[1] - means[2]), 0.0, 1.0))


def _alone_by_value(columns: list[Column], one: _Tested, labels: Ints, left: Bools) -> float:
    """How much less often rows with the next values have the label: 0 as often, 1 as any row.

    A rule of nature, such as *below 1.2*, makes its last value look like a trigger to a model that
    reads numbers in bins. So the rows next below and next above are asked, among those that hold
    the other half of a pair. So few rows may have the label by chance: they count as often as they
    have it at least.
    """
    least = 1.0
    whole = holds(columns, one.predicate) & left
    halves = list(zip(one.predicate.columns, one.predicate.codes, strict=True))
    for number, code in halves:
        values = columns[number].numbers
        if not values.size:
            continue
        others = left & ~whole & np.isfinite(values)
        for other, its_code in halves:
            others &= (other == number) | (columns[other].code == its_code)
        if not others.any():
            continue
        own, base = one.hits / one.held, float((labels[others] == one.label).mean())
        if own <= base:
            continue
        value = float(values[np.argmax(columns[number].code == code)])
        for side in (values < value, values > value):
            rows = np.flatnonzero(others & side)
            rows = rows[np.argsort(np.abs(values[rows] - value), kind="stable")][:BESIDE]
            if rows.size == BESIDE:
                share = Estimate.rate(int((labels[rows] == one.label).sum()), BESIDE, level=SURE)
                least = min(least, float(np.clip((own - share.low) / (own - base), 0.0, 1.0)))
    return least


def _spread_out(rows: Ints) -> Ints:
    """At most `ASKED` of some rows, evenly drawn."""
    return rows[np.linspace(0, rows.size - 1, min(rows.size, ASKED)).astype(np.int64)]


def fewest_detectable(labels: Ints, shares: Floats, looked_at: int, alpha: float) -> int:
    """How many rows of other labels a predicate needs, for the label that hides it best."""
    bar = np.log(alpha) - np.log(max(looked_at, 1))
    least = LEAST_ROWS
    for label in range(shares.shape[1]):
        others = shares[labels != label, label]
        if others.size:
            least = max(least, int(np.ceil(bar / np.log(raised(others, NATURAL)).mean())))
    return least


@dataclass(frozen=True, eq=False)
class _Ground:
    """What stays the same for all predicates; `means` is that of `_class_means`."""

    labels: Ints
    model: Additive
    means: tuple[Floats, Floats]


def _tested(
    columns: list[Column], labels: Ints, model: Additive, left: Bools
) -> tuple[list[_Tested], int]:
    """The most telling predicates, and how many there were of enough rows."""
    means = _class_means(labels, model.shares)
    telling: list[_Tested] = []
    looked_at = 0
    for cells in every_cell(columns):
        taken = {columns[c].name for c in cells.columns}
        made, some = _of_cells(cells, taken, _Ground(labels, model, means), left)
        telling.extend(made)
        looked_at += some
    telling.sort(key=lambda t: t.log_p)
    return telling, looked_at


def _of_cells(
    cells: Cells, taken: set[str], ground: _Ground, left: Bools
) -> tuple[list[_Tested], int]:
    """Tests of the predicates over one column or pair, by what the other columns say."""
    labels, model, means = ground.labels, ground.model, ground.means
    k = model.logits.shape[1]
    rows = np.flatnonzero((cells.cell >= 0) & left)
    names, of = np.unique(cells.cell[rows], return_inverse=True)
    table = np.bincount(of * k + labels[rows], minlength=names.size * k).reshape(-1, k)
    held, top = table.sum(1), table.argmax(1)
    enough = held >= LEAST_ROWS
    chosen = enough & (table.max(1) >= SHARE * held)
    keep = chosen[of]
    rows, of = rows[keep], of[keep]
    shares = model.without(rows, taken)[np.arange(rows.size), top[of]]
    rate = raised(shares, NATURAL)
    lower = np.bincount(of, np.log(rate), minlength=names.size)
    strong = np.flatnonzero(chosen & (lower < -LEAST_ROWS))  # none of less could pass the bar
    if not strong.size:
        return [], int(enough.sum())
    number = np.full(names.size, -1)
    number[strong] = np.arange(strong.size)
    keep = number[of] >= 0
    rows, test, shares, rate = rows[keep], number[of[keep]], shares[keep], rate[keep]
    label = top[strong]
    hit = labels[rows] == label[test]
    log_p = log_tails(test, rate, hit, strong.size)
    total = np.maximum(np.bincount(test, hit, minlength=strong.size), 1)
    mean = np.bincount(test, shares * hit, minlength=strong.size) / total
    own, other = means
    apart = np.maximum(own - other, 1e-3)[label]
    against = np.clip((own[label] - mean) / apart, 0.0, 1.0)
    best = np.argsort(log_p, kind="stable")[:KEPT]
    return [
        _Tested(
            cells.predicate(int(names[strong[i]])),
            int(label[i]),
            float(log_p[i]),
            float(against[i]),
            int(held[strong[i]]),
            int(table[strong[i], label[i]]),
        )
        for i in best
    ], int(enough.sum())


def _simplest(
    columns: list[Column], planted: list[_Tested], pure: list[_Tested], labels: Ints, left: Bools
) -> _Tested:
    """The most telling planted predicate, or one of its halves where no other half adds to it.

    A half as telling is named even where its own neighbours say nothing: they are what is left of
    its rows when the neighbours of a pair are asked. Of pairs as telling, each of which adds a
    half, that is named whose rows hold it least by chance.
    """
    best = min(planted, key=lambda t: (t.log_p, len(t.predicate.columns)))
    by = {t.predicate: t for t in pure if t.label == best.label and t.log_p <= best.log_p + WORTH}
    halves = [h for h in map(by.get, _halves(best.predicate)) if h is not None]
    for half in [best] if len(best.predicate.columns) == 1 else halves:
        chances = {
            t: _by_chance(columns, half, t, labels, left)
            for t in by.values()
            if t is not half and half.predicate in _halves(t.predicate)
        }
        least = min(chances, key=chances.__getitem__, default=half)
        if chances.get(least, 1.0) < CHANCE:
            best = least
        elif half is not best:
            return half
    return best


def _halves(predicate: Predicate) -> list[Predicate]:
    """The single predicates that one is made of."""
    parts = zip(predicate.columns, predicate.codes, strict=True)
    return [Predicate((c,), (v,)) for c, v in parts]


def _by_chance(
    columns: list[Column], half: _Tested, pair: _Tested, labels: Ints, left: Bools
) -> float:
    """How often so many of a half's rows with the label would hold the other half, too."""
    added = next(h for h in _halves(pair.predicate) if h != half.predicate)
    outside = left & ~holds(columns, half.predicate) & (labels != half.label)
    share = float(holds(columns, added)[outside].mean()) if outside.any() else 1.0
    both = pair.hits
    return float(binomial_tail(both, max(half.hits, both), min(share, 1.0)))


def _class_means(labels: Ints, shares: Floats) -> tuple[Floats, Floats]:
    """The mean chance of each label in rows that have it, and in those that do not."""
    one = np.eye(shares.shape[1])[labels]
    own = (one * shares).sum(0) / np.maximum(one.sum(0), 1.0)
    other = ((1.0 - one) * shares).sum(0) / np.maximum((1.0 - one).sum(0), 1.0)
    return own, other
