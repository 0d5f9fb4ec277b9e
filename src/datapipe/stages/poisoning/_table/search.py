# SPDX-License-Identifier: Apache-2.0
"""The search for predicates that carry a label against what the other columns say."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.additive import Additive
from datapipe.stages.poisoning._table.alone import Neighbourhood
from datapipe.stages.poisoning._table.boxes import boxes_of
from datapipe.stages.poisoning._table.crowds import crowds_of, sorted_rows
from datapipe.stages.poisoning._table.families import Family, families, prices
from datapipe.stages.poisoning._table.halves import halves_of
from datapipe.stages.poisoning._table.named import described
from datapipe.stages.poisoning._table.planted import (
    KEPT,
    NATURAL,
    Ground,
    Judge,
    Judged,
    Tested,
    class_means,
)
from datapipe.stages.poisoning._table.predicates import (
    FEWEST_PLANTED,
    LEAST_ROWS,
    MOST_PAIRS,
    PURE,
    Cells,
    Column,
    Predicate,
    every_cell,
    holds,
)
from datapipe.stages.poisoning._table.ranges import Heard, loudest, with_groups, with_ranges
from datapipe.stages.poisoning._tails import log_tails, raised

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOST_FOUND = 6
DENSE = 8
"""Cells for each row, up to which a table of them all is made."""


@dataclass(frozen=True, eq=False)
class Carrier:
    """A predicate that carries a label.

    `rows` hold it and the label, `held` counts the rows that hold it. `log_p` is corrected for all
    predicates. `against` is 0 where the other columns speak for the label as they do in any row of
    it, 1 where they speak as in rows of other labels; `alone` says the same of the nearest rows
    that the predicate does not hold for: a rule of nature does not end at one value. NaN stands
    where no row near can say. `moved` is ln of how much likelier its rows were taken from other
    labels than drawn among all, NaN where hardly any row tells.
    """

    predicate: Predicate
    label: int
    rows: Ints
    held: int
    log_p: float
    against: float
    alone: float
    moved: float


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
    planted: list[Carrier] = []
    untold: list[Carrier] = []
    natural: list[Carrier] = []
    looked_at, best = 0, 0.0
    paid: dict[Family, float] = {}
    score = np.zeros(labels.size)
    near = Neighbourhood(columns, labels, model)
    ground = Ground(labels, model, class_means(labels, model.shares), near)
    known, heard = left, list[Tested]()
    for turn in range(MOST_FOUND):
        telling, counts = _tested(given, ground, left)
        ranges, many = _ranges(columns, len(given), ground, left)
        boxes, more = _boxes(columns, len(given), ground, left)
        telling = sorted([*telling, *ranges, *boxes], key=lambda t: t.log_p)
        counts = counts + many + more
        paid = paid or prices(counts)
        looked_at = looked_at or counts.total()
        bars = {family: np.log(alpha) - price for family, price in paid.items()}
        pure = [t for t in telling if t.pure(columns)]
        judge = Judge(columns, len(given), ground, left, bars, telling)
        against = [t for t in pure if judge.against(t)]
        judged = judge.judged(against)
        if untold:
            judged = _standing(judged, replace(judge, left=known, telling=heard))
        else:
            heard = telling
        if turn == 0:
            doubted = [*judged.planted, *judged.untold]
            rest = [t for t in against if t.log_p > bars[t.family]]
            best = min((t.log_p + paid[t.family] for t in [*doubted, *rest]), default=0.0)
            named = [t for t in telling if t.log_p <= bars[t.family] and t not in doubted]
            natural = [_carrier(t, judge, paid, asked=False) for t in named[:MOST_FOUND]]
        first, sure = _first(judge, judged.planted, pure, strict=True), True
        if first is None:
            first, sure = _first(judge, judged.untold, pure, strict=False), False
        if first is None:
            break
        told = _carrier(first, judge, paid)
        (planted if sure else untold).append(told)
        score[told.rows] = np.maximum(score[told.rows], -told.log_p)
        left = left & ~holds(columns, first.predicate)
        if sure:
            known = known & ~holds(columns, first.predicate)
            heard = [t for t in heard if t.predicate != first.predicate]
    return Search(columns, planted, untold, natural, looked_at, paid, min(0.0, best), score)


def _standing(judged: Judged, before: Judge) -> Judged:
    """What is still planted among the rows of those that are only doubted; the rest is doubted.

    A rule of nature that lost rows to one of these has fewer of its like beside it than there are.
    """
    rows = before.columns, before.ground, before.left
    kept = [t for t in judged.planted if before.judged([_tested_alone(t, *rows)]).planted]
    return Judged(kept, [*judged.untold, *(t for t in judged.planted if t not in kept)])


def _carrier(
    one: Tested, judge: Judge, paid: dict[Family, float], *, asked: bool = True
) -> Carrier:
    held, ground = holds(judge.columns, one.predicate) & judge.left, judge.ground
    rows = np.flatnonzero(held & (ground.labels == one.label))
    log_p = min(0.0, one.log_p + paid[one.family])
    bar, far = judge.bars[one.family], np.nan
    if asked:
        far = ground.near.alone(one.predicate, one.label, judge.left, bar)
    return Carrier(
        one.predicate, one.label, rows, int(held.sum()), log_p, one.against, far, judge.taken(one)
    )


def _tested(
    columns: list[Column], ground: Ground, left: Bools
) -> tuple[list[Tested], Counter[Family]]:
    """The most telling predicates, and how many there were of enough rows."""
    telling: list[Tested] = []
    counts: Counter[Family] = Counter()
    for cells in every_cell(columns):
        made, some = _of_cells(cells, columns, ground, left)
        telling.extend(made)
        counts += some
    telling.sort(key=lambda t: t.log_p)
    return telling, counts


def _of_cells(
    cells: Cells, columns: list[Column], ground: Ground, left: Bools
) -> tuple[list[Tested], Counter[Family]]:
    """Tests of the predicates over one column or pair, by what the other columns say."""
    labels, model, means = ground.labels, ground.model, ground.means
    k, taken = model.logits.shape[1], {columns[c].name for c in cells.columns}
    rows = np.flatnonzero((cells.cell >= 0) & left)
    names, rows, of = _shared(cells.cell, rows)
    table = np.bincount(of * k + labels[rows], minlength=names.size * k).reshape(-1, k)
    held, top = table.sum(1), table.argmax(1)
    of_family = families(cells, columns, names, held)
    counts = Counter(of_family)
    chosen = table.max(1) >= PURE * held
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
        Tested(
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


def _shared(cell: Ints, rows: Ints) -> tuple[Ints, Ints, Ints]:
    """The cells that enough of some rows hold, those rows, and the place of each one's cell."""
    mine = cell[rows]
    most = int(mine.max(initial=-1)) + 1
    if most > DENSE * rows.size:  # so many cells are sorted sooner than counted
        names, mine = np.unique(mine, return_inverse=True)
        most = names.size
    else:
        names = np.arange(most)
    enough = np.bincount(mine, minlength=most) >= FEWEST_PLANTED
    keep = enough[mine]
    return names[enough], rows[keep], (np.cumsum(enough) - 1)[mine[keep]]


def _ranges(
    columns: list[Column], given: int, ground: Ground, left: Bools
) -> tuple[list[Tested], Counter[Family]]:
    """The most telling ranges, put behind the columns, and how many were asked.

    Of each number they are looked for among all rows, and among those of each value of a category.
    """
    heard: list[tuple[Heard, int]] = []
    counts, looked_at = Counter[Family](), 0
    groups = with_groups(columns[:given])
    for number in with_ranges(columns[:given]):
        own = columns[number]
        order = sorted_rows(own.numbers, left)
        for place in [-1, *groups]:
            group = groups.get(place)
            if group is not None and group.name == own.name:
                continue
            looked_at += place >= 0
            if looked_at > MOST_PAIRS:
                break
            crowds = crowds_of(own.numbers, order, None if group is None else group.code)
            runs = np.unique(crowds.begins).size * ground.model.logits.shape[1]
            counts["range" if group is None else "within"] += crowds.first.size + runs
            found = loudest((own, group), crowds, ground.labels, ground.model, NATURAL)
            heard.extend((one, place) for one in found)
    heard = sorted(heard, key=lambda h: h[0].log_p)[:KEPT]
    whole = [one.column for one, place in heard if place < 0]
    telling = []
    for one, place in heard:
        columns.append(one.column)
        alone = Predicate((len(columns) - 1,), (0,))
        told = _range(columns, alone, one, ground, left)
        if place < 0:
            telling.append(replace(told, log_p=one.log_p))
            hit = holds(columns, alone) & left & (ground.labels == one.label)
            beside = [g for g, c in enumerate(columns[:given]) if c.name != one.column.name]
            beside = [g for g in beside if not columns[g].binned]
            others = [(g, _commonest(columns[g].code[hit])) for g in beside]
        else:
            if not any(_meet(one.column, column) for column in whole):
                telling.append(told)
            others = [(place, one.group)]
        for other, code in others:
            both = Predicate((*alone.columns, other), (0, code))
            told = _range(columns, both, one, ground, left)
            telling.append(told if place < 0 else replace(told, log_p=one.log_p))
    return telling, counts


def _boxes(
    columns: list[Column], given: int, ground: Ground, left: Bools
) -> tuple[list[Tested], Counter[Family]]:
    """The most telling ranges of two numbers, put behind the columns, and how many were asked."""
    found, many = boxes_of(columns[:given], ground.labels, ground.model, left)
    telling = []
    for box in found:
        paid, columns_of, codes = box.one, [len(columns)], [0]
        columns.append(box.one.column)
        if isinstance(box.other, Heard):
            paid = replace(paid, price=paid.price + box.other.price)
            columns_of.append(len(columns))
            codes.append(0)
            columns.append(box.other.column)
        else:
            columns_of.append(box.other)
            codes.append(paid.group)
        both = Predicate(tuple(columns_of), tuple(codes))
        telling.append(replace(_range(columns, both, paid, ground, left), family="box"))
    return telling, Counter({"box": many})


def _range(
    columns: list[Column], predicate: Predicate, one: Heard, ground: Ground, left: Bools
) -> Tested:
    """The test of a range, or of one with a category, by its own rows and for all its ends."""
    family: Family = "range" if len(predicate.columns) == 1 else "within"
    made = Tested(predicate, one.label, 0.0, 0.0, 0, 0, family, one.price, one.crowded)
    return _tested_alone(made, columns, ground, left)


def _tested_alone(one: Tested, columns: list[Column], ground: Ground, left: Bools) -> Tested:
    """A predicate with the test of its rows among those that are looked at."""
    rows = np.flatnonzero(holds(columns, one.predicate) & left)
    hit, names = ground.labels[rows] == one.label, {columns[c].name for c in one.predicate.columns}
    rate = raised(ground.model.without(rows, names)[:, one.label], NATURAL)
    log_p = float(log_tails(np.zeros(rows.size, np.int64), rate, hit, 1)[0])
    against = ground.against(rows[hit], names, one.label)
    log_p, hits = min(0.0, log_p + one.price), int(hit.sum())
    return replace(one, log_p=log_p, against=against, held=rows.size, hits=hits)


def _meet(one: Column, other: Column) -> bool:
    """Whether two ranges are of one number and have a row in common."""
    return one.name == other.name and bool(((one.code == 0) & (other.code == 0)).any())


def _commonest(code: Ints) -> int:
    """The value of a category that most of some rows have."""
    counts = np.bincount(code[code >= 0], minlength=1)
    return int(counts.argmax())


def _first(judge: Judge, found: list[Tested], pure: list[Tested], *, strict: bool) -> Tested | None:
    """The most telling of some predicates, by what tells its rows best; no rule of nature may."""
    for one in sorted(found, key=lambda t: (t.log_p, len(t.predicate.columns))):
        named = _best_told(judge, one, pure)
        if not strict or named is one or not judge.taken(named) < 0.0:  # or unknown
            return named
    return None


def _best_told(judge: Judge, one: Tested, pure: list[Tested]) -> Tested:
    """Of a predicate, its halves and all that share a half with it, that which tells most.

    One that is telling itself, and no rule of nature that holds beside it.
    """
    halves = set(halves_of(one.predicate))
    best, most = one, 0.0
    for other in pure:
        if other is one or other.label != one.label or not halves & set(halves_of(other.predicate)):
            continue
        if other.log_p > judge.bars[other.family]:
            continue
        of = (*one.predicate.columns, *other.predicate.columns)
        asked = (one.label, {judge.columns[c].name for c in of})
        gained = described(judge, other.predicate, *asked) - described(judge, one.predicate, *asked)
        natural = gained > most and other.log_p > one.log_p and judge.taken(other) < 0.0
        if gained > most and not natural:
            best, most = other, gained
    return best
