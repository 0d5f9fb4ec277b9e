# SPDX-License-Identifier: Apache-2.0
"""Ranges of two numbers where rows crowd that contradict their label.

Of all cells of deciles those are asked where such rows are the most beyond what rows of other
labels foretell; from there the ends of both ranges are fitted in turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.additive import Additive
from datapipe.stages.poisoning._table.crowds import WIDEST, crowded, sorted_rows
from datapipe.stages.poisoning._table.predicates import (
    BINS,
    FEWEST_PLANTED,
    MOST_PAIRS,
    Column,
    pairs_of,
)
from datapipe.stages.poisoning._table.ranges import Heard, fitted, part_of, ranged, told

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOST_ASKED = 24
"""Cells from which ranges are fitted, the most telling, one a pair of numbers and label."""
MOST_READ = 1000
"""Rows, evenly drawn, that say what those of other labels say of a label."""
ROUNDS = 4
"""Times that the ends of both are fitted, each among the rows of the other."""


@dataclass(frozen=True)
class Cell:
    """Deciles `first` to `last` of two numbers, a label, and how telling it is."""

    columns: tuple[int, int]
    first: tuple[int, int]
    last: tuple[int, int]
    label: int
    gain: float


def boxes_of(
    columns: list[Column], labels: Ints, model: Additive, left: Bools
) -> tuple[list[tuple[Heard, Heard]], int]:
    """Two crowded ranges each, with their ends as labels and density tell, and how many were asked.

    Args:
        columns: What predicates are made of.
        labels: int64, shape (n,).
        model: What columns say.
        left: bool, shape (n,); the rows that are looked at.

    Returns:
        Pairs of ranges that hold at most a tenth of the rows, and the number of cells.
    """
    asked, many = _cells(columns, labels, model, left)
    found = (_fitted_box(columns, cell, labels, model, left) for cell in asked)
    return [box for box in found if box is not None], many


def _cells(
    columns: list[Column], labels: Ints, model: Additive, left: Bools
) -> tuple[list[Cell], int]:
    """The most telling cells, and blocks of two by two of them, and how many there are."""
    rows = np.flatnonzero(left)
    says, mine = _Says.of(model, rows, labels[rows]), labels[rows]
    best: dict[tuple[int, int, int], Cell] = {}
    many, k = 0, model.logits.shape[1]
    pairs = [p for p in pairs_of(columns)[:MOST_PAIRS] if all(columns[c].binned for c in p)]
    for pair in pairs:
        against, rate = says.against([columns[c].name for c in pair])
        one, other = (columns[c].code[rows] for c in pair)
        cell = (one * BINS + other) * k + mine
        known = (one >= 0) & (other >= 0)
        held = np.bincount(cell[known], minlength=BINS * BINS * k).reshape(BINS, BINS, k)
        hits = np.bincount(cell[known & against], minlength=held.size).reshape(held.shape)
        for size, some, hit in _blocks(held, hits):
            chance = (some.sum(2, keepdims=True) - some) * rate + 0.5
            gain = hit * np.log(np.maximum(hit, 1) / chance) - (hit - chance)
            gain = np.where((hit > chance) & (2 * hit >= FEWEST_PLANTED), gain, 0.0).reshape(-1, k)
            many += gain.size
            for label, place in enumerate(gain.argmax(0).tolist()):
                i, j = divmod(place, some.shape[1])
                said, key = float(gain[place, label]), (*pair, label)
                if said > (best[key].gain if key in best else 0.0):
                    best[key] = Cell(pair, (i, j), (i + size - 1, j + size - 1), label, said)
    strong = [c for c in best.values() if c.gain > math.log(many)]  # chance makes one of less
    return sorted(strong, key=lambda c: -c.gain)[:MOST_ASKED], many


@dataclass(frozen=True, eq=False)
class _Says:
    """How far each row, and some rows each label, are spoken for: logits less their mean."""

    labels: Ints
    whole: Floats
    parts: dict[str, NDArray[np.float32]]
    some: Ints
    of_some: Floats
    parts_of_some: dict[str, NDArray[np.float32]]

    @classmethod
    def of(cls, model: Additive, rows: Ints, labels: Ints) -> _Says:
        some = np.linspace(0, rows.size - 1, min(rows.size, MOST_READ)).astype(np.int64)
        whole = model.logits - model.logits.mean(1, keepdims=True)
        parts = model.parts - model.parts.mean(2, keepdims=True)
        named = list(enumerate(model.names))
        return cls(
            labels,
            whole[rows, labels],
            {name: parts[rows, place, labels] for place, name in named},
            some,
            whole[rows[some]],
            {name: parts[rows[some], place] for place, name in named},
        )

    def against(self, names: list[str]) -> tuple[Bools, Floats]:
        """Rows that contradict their label as most of others do, and how often those have it.

        Without some columns; the second for each label, such rows over all of other labels.
        """
        own, each = self.whole, self.of_some
        for name in names:
            own, each = own - self.parts[name], each - self.parts_of_some[name]
        k = each.shape[1]
        others = self.labels[self.some][:, None] != np.arange(k)
        usual = np.nanmedian(np.where(others, each, np.nan), axis=0)
        rows = own <= usual[self.labels]
        every = self.labels.size - np.bincount(self.labels, minlength=k)
        rate = np.bincount(self.labels[rows], minlength=k) / np.maximum(every, 1)
        return np.asarray(rows, bool), np.asarray(rate, np.float64)


def _blocks(held: Ints, hits: Ints) -> Iterator[tuple[int, Ints, Ints]]:
    """Cells one by one, then two by two."""
    yield 1, held, hits
    two = [a[:-1, :-1] + a[1:, :-1] + a[:-1, 1:] + a[1:, 1:] for a in (held, hits)]
    yield 2, two[0], two[1]


def _fitted_box(
    columns: list[Column], cell: Cell, labels: Ints, model: Additive, left: Bools
) -> tuple[Heard, Heard] | None:
    """Both ranges with their ends, each fitted among the rows of the other; None if not crowded."""
    pair = [columns[c] for c in cell.columns]
    chance = model.without(np.arange(labels.size), {c.name for c in pair})[:, cell.label]
    hit = labels == cell.label
    cells = left & np.logical_and.reduce(
        [
            (c.code >= low) & (c.code <= high)
            for c, low, high in zip(pair, cell.first, cell.last, strict=True)
        ]
    )
    inside = [_middle(c.numbers, cells & hit) & left for c in pair]
    units = [_unit(c.numbers[left]) for c in pair]
    ranges: list[Heard | None] = [None, None]
    for _ in range(ROUNDS):
        before = [i.copy() for i in inside]
        for axis in (0, 1):
            own = pair[axis]
            order = sorted_rows(own.numbers, inside[1 - axis])
            part = part_of(order, own.numbers[order], units[axis])
            places = np.flatnonzero(inside[axis][order])
            if places.size < FEWEST_PLANTED:
                return None
            low, high = int(places[0]), int(places[-1])
            low, high = fitted(part, low, high, chance[order], hit[order])
            ranges[axis] = None
            if part.values[low] < part.values[high]:
                price = told(part, low, high, chance[order], hit[order])[1]
                dense = crowded(part, np.array([low]), np.array([high]))[0] > 0
                column = ranged(own, part, low, high)
                ranges[axis] = Heard(column, cell.label, 0.0, -1, price, bool(dense))
            numbers = own.numbers
            inside[axis] = left & (numbers >= part.values[low]) & (numbers <= part.values[high])
        if all(np.array_equal(a, b) for a, b in zip(before, inside, strict=True)):
            break
    held = int((inside[0] & inside[1]).sum())
    one, other = ranges
    if one is None or other is None or not (one.crowded and other.crowded):
        return None
    return (one, other) if FEWEST_PLANTED <= held <= WIDEST * left.sum() else None


def _middle(numbers: Floats, rows: Bools) -> Bools:
    """The rows within the middle half of some: a few natural ones lie far out in their decile."""
    low, high = np.quantile(numbers[rows], [0.25, 0.75])
    return np.asarray((numbers >= low) & (numbers <= high), bool)


def _unit(numbers: Floats) -> float:
    """The least step between two numbers."""
    steps = np.diff(np.unique(numbers[np.isfinite(numbers)]))
    return float(steps.min()) if steps.size else 0.0
