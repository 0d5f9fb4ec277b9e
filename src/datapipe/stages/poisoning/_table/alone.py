# SPDX-License-Identifier: Apache-2.0
"""Whether a predicate that carries a label stands alone: a rule of nature has neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.measure.neighbours import nearest
from datapipe.stages.poisoning._table.additive import Additive
from datapipe.stages.poisoning._table.predicates import (
    FEWEST_PLANTED,
    LEAST_ROWS,
    Column,
    Predicate,
    holds,
)
from datapipe.stages.poisoning._tails import log_tails

TOLD_APART = 0.15
"""By how much more often the neighbours of a label's rows must have it than those of others."""
NEIGHBOURS = 15
BESIDE = 20
"""Rows with the next smaller values of a number, and with the next larger, that are asked at least.

Of a predicate that holds for more rows so many are: twenty cannot say that four hundred are alike.
"""
SURE = 0.5
"""Level of the interval of how often they have the label."""
ASKED = 200
"""Rows of a predicate, and of each side of a label, whose neighbours are asked."""
NEAR = 0.75
"""Share of `bar` (in ln p) by which the next rows must fail to explain a predicate."""
LIKE = 0.75
"""Rows are asked that are as unlike a label as this share of those that a predicate gives it."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Neighbourhood:
    """What the rows near a predicate, that it does not hold for, say of its label.

    Args:
        columns: What predicates are made of.
        labels: int64, shape (n,).
        model: Rows are near where what their columns say is alike.
    """

    def __init__(self, columns: list[Column], labels: Ints, model: Additive) -> None:
        self._columns, self._labels, self._model = columns, labels, model

    def alone(self, predicate: Predicate, label: int, left: Bools, bar: float) -> float:
        """0 where the rows near have the label as often as its rows do, 1 as often as any.

        Columns whose values have none next to them are not looked at when rows are near: a planted
        category, or number that is missing, says more than any other value, so that by it the rows
        that say most for the label would be near. Nor are those whose next numbers were asked.

        Args:
            predicate: What holds for some rows.
            label: What most of them have.
            left: bool, shape (n,); the rows that are looked at.
            bar: Ln p from which a predicate is telling, corrected for all.

        Returns:
            In [0, 1]; NaN where no row near can say: columns hardly tell the label, or it is rare.
        """
        held = holds(self._columns, predicate) & left
        unlike = left & self._as_unlikely(predicate, label, held)
        least, asked = self._by_value(predicate, label, unlike & ~held, unlike & held, bar)
        if least <= 0.0:  # no other row can say more
            return 0.0
        halves = zip(predicate.columns, predicate.codes, strict=True)
        silent = {
            self._columns[c].name
            for c, code in halves
            if c in asked or not self._columns[c].placed(code)
        }
        by_rows = self._by_rows(held, label, silent)
        if by_rows is not None:
            return min(by_rows, least)
        if self._amid_quantity(predicate, left):
            return least
        return np.nan

    def _as_unlikely(self, predicate: Predicate, label: int, held: Bools) -> Bools:
        """The rows whose other columns speak for a label no more than they do where it was given.

        Beside a value that speaks for the label nearly all rows have it, whoever planted the value;
        a rule of nature gives it there also to rows that are otherwise unlike it.
        """
        taken = {self._columns[c].name for c in predicate.columns}
        chance = self._model.without(np.arange(held.size), taken)[:, label]
        given = chance[held & (self._labels == label)]
        return np.asarray(chance <= np.quantile(given, LIKE), bool)

    def tells(self, label: int, silent: set[str]) -> bool:
        """Whether rows near those of a label have it more often than those near others.

        Args:
            label: The label.
            silent: Columns that are not looked at.
        """
        own, apart = np.flatnonzero(self._labels == label), np.flatnonzero(self._labels != label)
        every = np.arange(self._labels.size)
        if min(own.size, apart.size) == 0 or every.size <= NEIGHBOURS:
            return False
        means = self._shares(every, [own, apart], label, silent)
        return bool(means) and means[0] - means[1] >= TOLD_APART

    def _by_rows(self, held: Bools, label: int, silent: set[str]) -> float | None:
        """The same by the nearest rows; None where a label's own do not have it more than others.

        Then features hardly tell the label, or hardly any row has it.
        """
        others = np.flatnonzero(~held)
        if others.size <= NEIGHBOURS:
            return 0.0
        mine = np.flatnonzero(held & (self._labels == label))
        own = others[self._labels[others] == label]
        apart = others[self._labels[others] != label]
        if not apart.size:
            return 0.0
        means = self._shares(others, [mine, own, apart], label, silent) if own.size else []
        if not means or means[1] - means[2] < TOLD_APART:
            return None
        return float(np.clip((means[1] - means[0]) / (means[1] - means[2]), 0.0, 1.0))

    def _shares(self, near: Ints, of: list[Ints], label: int, silent: set[str]) -> list[float]:
        """How often the nearest of some rows to each of some groups have a label, on average.

        Returns:
            A share for each group; none where no column is heard.
        """
        heard = [i for i, name in enumerate(self._model.names) if name not in silent]
        if not heard:
            return []
        asked = [_spread_out(rows) for rows in of]
        whole = np.concatenate(asked)
        values = self._model.parts[:, heard].reshape(self._labels.size, -1)
        found = near[nearest(values[near], values[whole], k=NEIGHBOURS + 1).indices]
        others = found != whole[:, None]
        share = ((self._labels[found] == label) & others).sum(1) / others.sum(1)
        ends = np.cumsum([rows.size for rows in asked])[:-1]
        return [float(part.mean()) for part in np.split(share, ends)]

    def _by_value(
        self, predicate: Predicate, label: int, free: Bools, held: Bools, bar: float
    ) -> tuple[float, set[int]]:
        """The same by the rows with the next numbers, and which columns enough of them were asked.

        A rule of nature, such as *below 1.2*, makes its last value look like a trigger to a model
        that reads numbers in bins. So the rows next below and next above are asked, among those
        that hold the other half of a pair; where they are too few, those next in both numbers, in
        each quarter of the plane, or those next whatever their category.
        """
        least, asked, hit = 1.0, set[int](), self._labels == label
        many = max(BESIDE, int(held.sum()))
        for number, others, sides in self._sides(predicate, free, many):
            share, enough = _asked(hit, held, others, sides, bar)
            least = min(least, share)
            if enough:
                asked.add(number)
        both = [c for c in predicate.columns if self._columns[c].numbers.size]
        if len(both) == 2 and len(asked) < 2:
            others, quarters = self._quarters(predicate, free, many)
            share, enough = _asked(hit, held, others, quarters, bar)
            least = min(least, share)
            if enough:
                asked.update(both)
        return least, asked

    def _sides(
        self, predicate: Predicate, free: Bools, many: int
    ) -> Iterator[tuple[int, Bools, list[Ints]]]:
        """Each half that is a number, the rows that hold the other half, and the next of them."""
        halves = list(zip(predicate.columns, predicate.codes, strict=True))
        for number, code in halves:
            if not self._columns[number].placed(code):
                continue
            values = self._columns[number].numbers
            known = free & np.isfinite(values)
            others, category = known.copy(), False
            for other, its_code in halves:
                others &= (other == number) | (self._columns[other].code == its_code)
                category |= other != number and not self._columns[other].placed(its_code)
            if category and others.sum() < BESIDE:
                others = known
            far = np.abs(values - self._value(number, code))
            below = values < self._value(number, code)
            yield number, others, [_nearest(others & side, far, many) for side in (below, ~below)]

    def _quarters(self, predicate: Predicate, free: Bools, many: int) -> tuple[Bools, list[Ints]]:
        """The rows with both numbers, and the nearest by their ranks in each quarter."""
        others, offsets = free.copy(), []
        for number, code in zip(predicate.columns, predicate.codes, strict=True):
            values = self._columns[number].numbers
            others &= np.isfinite(values)
            order = np.sort(values[np.isfinite(values)])
            value = self._value(number, code)
            place = np.searchsorted(order, np.where(np.isfinite(values), values, 0.0))
            offsets.append(place - float(np.searchsorted(order, value)))
        far = np.maximum(np.abs(offsets[0]), np.abs(offsets[1]))
        quarters = [
            _nearest(others & (a * offsets[0] >= 0) & (b * offsets[1] >= 0), far, many)
            for a, b in product((-1, 1), repeat=2)
        ]
        return others, quarters

    def _amid_quantity(self, predicate: Predicate, left: Bools) -> bool:
        """Whether one half is a value of a quantity that enough rows lie below, and enough above.

        A rule of nature over a quantity does not end at one value. Whole numbers may be codes, and
        the least and the greatest value may stand for *not measured*.
        """
        halves = list(zip(predicate.columns, predicate.codes, strict=True))
        for number, code in halves:
            if not self._columns[number].quantity:
                continue
            values = self._columns[number].numbers
            others = left & np.isfinite(values) & (self._columns[number].code != code)
            for other, its_code in halves:
                others &= (other == number) | (self._columns[other].code == its_code)
            value = self._value(number, code)
            below, above = int((values[others] < value).sum()), int((values[others] > value).sum())
            if min(below, above) >= FEWEST_PLANTED:
                return True
        return False

    def _value(self, number: int, code: int) -> float:
        column = self._columns[number]
        return float(column.numbers[np.argmax(column.code == code)])


def _asked(
    hit: Bools, held: Bools, others: Bools, sides: list[Ints], bar: float
) -> tuple[float, bool]:
    """How much less often the next rows have the label, and whether enough were asked.

    So few rows may have the label by chance: they count as often as they have it at least, and the
    more sides are asked, the wider is the interval of each. Where a side has it so often that as
    many hits of as few rows are no wonder, the rows held are no other than their neighbours.
    """
    if not others.any():
        return 1.0, False
    own, base = float(hit[held].mean()), float(hit[others].mean())
    if own <= base:
        return 1.0, False
    least, level = 1.0, 1.0 - 2.0 * (1.0 - SURE) / len(sides)
    one = np.zeros(int(held.sum()), np.int64)
    for rows in sides:
        if rows.size < LEAST_ROWS:
            continue
        hits = int(hit[rows].sum())
        share = Estimate.rate(hits, rows.size, level=level)
        least = min(least, float(np.clip((own - share.low) / (own - base), 0.0, 1.0)))
        rate = np.full(one.size, (hits + 1.0) / (rows.size + 2.0))
        if log_tails(one, rate, hit[held], 1)[0] > NEAR * bar:
            least = 0.0
    return least, sum(rows.size for rows in sides) >= BESIDE


def _nearest(rows: Bools, far: Floats, many: int) -> Ints:
    """So many of some rows, the nearest."""
    chosen = np.flatnonzero(rows)
    return chosen[np.argsort(far[chosen], kind="stable")][:many]


def _spread_out(rows: Ints) -> Ints:
    """At most `ASKED` of some rows, evenly drawn."""
    return rows[np.linspace(0, rows.size - 1, min(rows.size, ASKED)).astype(np.int64)]
