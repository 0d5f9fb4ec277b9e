# SPDX-License-Identifier: Apache-2.0
"""The search for predicates that carry a label against what the other columns say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.detection import binomial_tail
from datapipe.stages.poisoning._table.additive import Additive
from datapipe.stages.poisoning._table.alone import Neighbourhood
from datapipe.stages.poisoning._table.families import Family, families, prices
from datapipe.stages.poisoning._table.halves import added_by_halves, added_by_others, halves_of
from datapipe.stages.poisoning._table.predicates import (
    FEWEST_PLANTED,
    LEAST_ROWS,
    Cells,
    Column,
    Predicate,
    every_cell,
    holds,
)
from datapipe.stages.poisoning._table.ranges import crowded_ranges, loudest
from datapipe.stages.poisoning._tails import log_tails, raised

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SHARE = 0.8
"""A predicate is tested for the label that at least this share of its rows has."""
NATURAL = 1.5
"""Log odds that a predicate may add by nature to what the other columns say."""
TOGETHER = 0.75
"""Log odds that two values may add by nature to what each adds for itself."""
PLANTED = 0.6
"""How far its rows must contradict their label for a predicate to be planted."""
PURE = 0.85
"""Share of its rows that have the label, from which a predicate may be planted."""
WORTH = 10.0
"""By how much more telling a pair must be than one of its halves (in ln p) to be named."""
MOST = 0.8
"""Share of a half's rows with the label, of which a pair less telling may be named, too."""
CHANCE = 1e-4
"""A pair is named only where so many rows of one half and the label hold the other half less often
by chance: some fifty values of other columns in common use may do so."""
USUAL = 0.75
"""Of a label that fewer than a quarter of the rows have, rows must contradict it so far; of one
that more have, rows drawn from all contradict it less, and the limits sink with it."""
MOST_FOUND = 6
KEPT = 40
ALONE = 0.5
"""The same of the nearest rows that it does not hold for, and of those with the next numbers."""


@dataclass(frozen=True, eq=False)
class Carrier:
    """A predicate that carries a label.

    `rows` hold it and the label, `held` counts the rows that hold it. `log_p` is corrected for all
    predicates. `against` is 0 where the other columns speak for the label as they do in any row of
    it, 1 where they speak as in rows of other labels; `alone` says the same of the nearest rows
    that the predicate does not hold for: a rule of nature does not end at one value. NaN stands
    where no row near can say.
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
    family: Family

    def pure(self, columns: list[Column]) -> bool:
        """Whether values, not ranges, nearly always have the label: nature has its exceptions."""
        ranges = any(columns[c].binned for c in self.predicate.columns)
        return not ranges and self.hits >= max(PURE * self.held, FEWEST_PLANTED)


@dataclass(frozen=True, eq=False)
class Search:
    """Planted predicates, rules that may be natural, and how many predicates were looked at.

    `untold` are predicates of which other rows do not say whether they were planted: none is near,
    or so many have the label that rows drawn from all hardly contradict it.
    `columns` are those given and, after them, a column for each range that was heard.
    `best` is the least corrected ln p of a planted one, `score` of each row -ln p of its loudest.
    """

    columns: list[Column]
    planted: list[Carrier]
    untold: list[Carrier]
    natural: list[Carrier]
    looked_at: int
    paid: dict[Family, float]
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
    given, columns = columns, list(columns)
    found: list[Carrier] = []
    natural: list[Carrier] = []
    looked_at, best = 0, 0.0
    paid: dict[Family, float] = {}
    score = np.zeros(labels.size)
    near = Neighbourhood(columns, labels, model)
    ground = _Ground(labels, model, _class_means(labels, model.shares))
    for turn in range(MOST_FOUND):
        telling, counts = _tested(given, ground, left)
        ranges, many = _ranges(columns, len(given), ground, left)
        telling, counts = sorted([*telling, *ranges], key=lambda t: t.log_p), counts + many
        paid = paid or prices(counts)
        looked_at = looked_at or counts.total()
        bars = {family: np.log(alpha) - price for family, price in paid.items()}
        pure = [t for t in telling if t.pure(columns)]
        against = [t for t in pure if t.against >= ground.least(t, PLANTED)]
        sure = [
            t
            for t in [t for t in against if t.log_p <= bars[t.family]][:KEPT]
            if _beyond_nature(columns, t, ground, left) <= bars[t.family]
        ]
        alone = {t.predicate: near.alone(t.predicate, t.label, left, bars[t.family]) for t in sure}
        planted = [t for t in sure if t.against >= PLANTED and alone[t.predicate] >= ALONE]
        untold = [
            t
            for t in sure
            if t not in planted and t.family != "range"  # nature has rules for all beyond a bound
            if not alone[t.predicate] < ground.least(t, ALONE)  # or unknown
        ]
        if turn == 0:
            rest = [t for t in against if t.log_p > bars[t.family]]
            best = min((t.log_p + paid[t.family] for t in [*planted, *untold, *rest]), default=0.0)
            doubted = {t.predicate for t in [*planted, *untold]}
            named = [t for t in telling if t.log_p <= bars[t.family] and t.predicate not in doubted]
            natural = [
                _carrier(t, holds(columns, t.predicate), labels, paid[t.family], np.nan)
                for t in named[:MOST_FOUND]
            ]
        if not planted and not untold:
            break
        first = _simplest(columns, planted or untold, pure, ground, left)
        held = holds(columns, first.predicate) & left
        bar = bars[first.family]
        far = near.alone(first.predicate, first.label, left, bar) if planted else np.nan
        told = _carrier(first, held, labels, paid[first.family], far)
        found.append(told)
        score[told.rows] = np.maximum(score[told.rows], -told.log_p)
        left = left & ~held
    sure_of = [c for c in found if not np.isnan(c.alone)]
    doubtful = [c for c in found if np.isnan(c.alone)]
    return Search(columns, sure_of, doubtful, natural, looked_at, paid, min(0.0, best), score)


def _carrier(one: _Tested, held: Bools, labels: Ints, price: float, alone: float) -> Carrier:
    rows = np.flatnonzero(held & (labels == one.label))
    log_p = min(0.0, one.log_p + price)
    return Carrier(one.predicate, one.label, rows, int(held.sum()), log_p, one.against, alone)


def fewest_detectable(labels: Ints, shares: Floats, price: float, alpha: float) -> int:
    """How many rows of other labels a predicate needs, for the label that hides it best."""
    bar = np.log(alpha) - price
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

    def against(self, rows: Ints, columns: set[str], label: int) -> float:
        """How far some rows of a label contradict it, in [0, 1], without some columns."""
        own, other = self.means[0][label], self.means[1][label]
        mean = float(self.model.without(rows, columns)[:, label].mean()) if rows.size else own
        return float(np.clip((own - mean) / max(own - other, 1e-3), 0.0, 1.0))

    def least(self, one: _Tested, limit: float) -> float:
        """How far a predicate's rows must contradict its label: less where most others have it.

        Rows of any label may have been given it, and such rows contradict it as any rows do.
        """
        others = int((self.labels == one.label).sum()) - one.hits
        without = 1.0 - others / max(self.labels.size - one.held, 1)
        return limit * min(1.0, without / USUAL)


def _tested(
    columns: list[Column], ground: _Ground, left: Bools
) -> tuple[list[_Tested], Counter[Family]]:
    """The most telling predicates, and how many there were of enough rows."""
    telling: list[_Tested] = []
    counts: Counter[Family] = Counter()
    for cells in every_cell(columns):
        made, some = _of_cells(cells, columns, ground, left)
        telling.extend(made)
        counts += some
    telling.sort(key=lambda t: t.log_p)
    return telling, counts


def _of_cells(
    cells: Cells, columns: list[Column], ground: _Ground, left: Bools
) -> tuple[list[_Tested], Counter[Family]]:
    """Tests of the predicates over one column or pair, by what the other columns say."""
    labels, model, means = ground.labels, ground.model, ground.means
    k, taken = model.logits.shape[1], {columns[c].name for c in cells.columns}
    rows = np.flatnonzero((cells.cell >= 0) & left)
    names, of = np.unique(cells.cell[rows], return_inverse=True)
    table = np.bincount(of * k + labels[rows], minlength=names.size * k).reshape(-1, k)
    held, top = table.sum(1), table.argmax(1)
    enough = held >= FEWEST_PLANTED
    of_family = families(cells, columns, names, held)
    counts = Counter(f for f, e in zip(of_family, enough.tolist(), strict=True) if e)
    chosen = enough & (table.max(1) >= SHARE * held)
    keep = chosen[of]
    rows, of = rows[keep], of[keep]
    shares = model.without(rows, taken)[np.arange(rows.size), top[of]]
    rate = raised(shares, NATURAL)
    lower = np.bincount(of, np.log(rate), minlength=names.size)
    strong = np.flatnonzero(chosen & (lower < -LEAST_ROWS))  # none of less could pass the bar
    if not strong.size:
        return [], counts
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
            of_family[strong[i]],
        )
        for i in best
    ], counts


def _ranges(
    columns: list[Column], given: int, ground: _Ground, left: Bools
) -> tuple[list[_Tested], Counter[Family]]:
    """The most telling range of each number, put behind the columns, and how many were asked."""
    telling, counts = [], Counter[Family]()
    for number in [i for i in range(given) if columns[i].binned]:
        crowded = crowded_ranges(columns, number, left)
        counts["range"] += crowded.first.size
        heard = loudest(columns, crowded, ground.labels, ground.model, NATURAL)
        if heard is None:
            continue
        columns.append(heard.column)
        predicate = Predicate((len(columns) - 1,), (0,))
        rows = np.flatnonzero(holds(columns, predicate) & left)
        mine = rows[ground.labels[rows] == heard.label]
        against = ground.against(mine, {heard.column.name}, heard.label)
        telling.append(
            _Tested(predicate, heard.label, heard.log_p, against, rows.size, mine.size, "range")
        )
    return telling, counts


def _beyond_nature(columns: list[Column], one: _Tested, ground: _Ground, left: Bools) -> float:
    """Ln P of the hits of a predicate where its columns say as much as they do elsewhere.

    Of a pair each half says what it does for itself, a category what others of its column may.
    """
    labels, model = ground.labels, ground.model
    asked = (columns, one.predicate, one.label, labels, model)
    by = max(added_by_halves(*asked) + TOGETHER, added_by_others(*asked))
    if by <= NATURAL:
        return one.log_p
    rows = np.flatnonzero(holds(columns, one.predicate) & left)
    taken = {columns[c].name for c in one.predicate.columns}
    rate = raised(model.without(rows, taken)[:, one.label], by)
    hit = labels[rows] == one.label
    return float(log_tails(np.zeros(rows.size, np.int64), rate, hit, 1)[0])


def _simplest(
    columns: list[Column], planted: list[_Tested], pure: list[_Tested], ground: _Ground, left: Bools
) -> _Tested:
    """The most telling planted predicate, or one of its halves where no other half adds to it.

    A half as telling is named even where its own neighbours say nothing: they are what is left of
    its rows when the neighbours of a pair are asked. Of pairs as telling, or of most of a half's
    rows, each of which adds a half, that is named whose rows hold it least by chance. (A half that
    speaks against the label makes the other half more telling than the pair.)
    """
    best = min(planted, key=lambda t: (t.log_p, len(t.predicate.columns)))
    mine = {t.predicate: t for t in pure if t.label == best.label}
    by = {p: t for p, t in mine.items() if t.log_p <= best.log_p + WORTH}
    halves = [h for h in map(by.get, halves_of(best.predicate)) if h is not None]
    for half in [best] if len(best.predicate.columns) == 1 else halves:
        chances = {
            t: _by_chance(columns, half, t, ground, left)
            for t in mine.values()
            if t is not half and half.predicate in halves_of(t.predicate)
            if t.predicate in by or t.hits >= MOST * half.hits
        }
        least = min(chances, key=chances.__getitem__, default=half)
        if chances.get(least, 1.0) < CHANCE:
            best = least
        elif half is not best:
            return half
    return best


def _by_chance(
    columns: list[Column], half: _Tested, pair: _Tested, ground: _Ground, left: Bools
) -> float:
    """How often so many of a half's rows with the label would hold the other half, too.

    Those are counted whose other columns say less for the label than those of most rows that
    nature gave it to.
    """
    label, labels = half.label, ground.labels
    added = next(h for h in halves_of(pair.predicate) if h != half.predicate)
    held, both = holds(columns, half.predicate) & left, holds(columns, added)
    outside = left & ~held & (labels != label)
    share = float(both[outside].mean()) if outside.any() else 1.0
    rows = np.flatnonzero(held & (labels == label))
    taken = {columns[c].name for c in pair.predicate.columns}
    rows = rows[ground.model.without(rows, taken)[:, label] <= ground.means[0][label]]
    return float(binomial_tail(int(both[rows].sum()), rows.size, min(share, 1.0)))


def _class_means(labels: Ints, shares: Floats) -> tuple[Floats, Floats]:
    """The mean chance of each label in rows that have it, and in those that do not."""
    one = np.eye(shares.shape[1])[labels]
    own = (one * shares).sum(0) / np.maximum(one.sum(0), 1.0)
    other = ((1.0 - one) * shares).sum(0) / np.maximum((1.0 - one).sum(0), 1.0)
    return own, other
