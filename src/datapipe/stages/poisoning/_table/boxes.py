# SPDX-License-Identifier: Apache-2.0
"""Ranges of two numbers, or of one in the rows of a value, where rows crowd against their label.

Of all cells those are asked where such rows are the most beyond what rows of other
labels foretell; from there the ends of the ranges are fitted, of two in turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.additive import Additive
from datapipe.stages.poisoning._table.cells import Cell, cells_of
from datapipe.stages.poisoning._table.crowds import WIDEST, sorted_rows
from datapipe.stages.poisoning._table.ends import dense, fitted, part_of
from datapipe.stages.poisoning._table.predicates import FEWEST_PLANTED, Column
from datapipe.stages.poisoning._table.ranges import Heard, ranged, told

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ROUNDS = 4
"""Times that the ends of both are fitted, each among the rows of the other."""


@dataclass(frozen=True, eq=False)
class Box:
    """A range, and another one, or the number of the column in whose value it was found."""

    one: Heard
    other: Heard | int


def boxes_of(
    columns: list[Column], labels: Ints, model: Additive, left: Bools
) -> tuple[list[Box], int]:
    """Crowded ranges with their ends as labels and density tell, and how many cells were asked.

    Args:
        columns: What predicates are made of.
        labels: int64, shape (n,).
        model: What columns say.
        left: bool, shape (n,); the rows that are looked at.

    Returns:
        Pairs of ranges, or of a range and a value, that hold at most a tenth of the rows, and the
        number of cells.
    """
    asked, many = cells_of(columns, labels, model, left)
    made = []
    for cell in asked:
        fit = _fitted_box if columns[cell.columns[1]].binned else _fitted_beside
        found = fit(columns, cell, labels, model, left)
        if found is not None:
            made.append(found)
    return made, many


def _fitted_beside(
    columns: list[Column], cell: Cell, labels: Ints, model: Additive, left: Bools
) -> Box | None:
    """A range with its ends, among the rows of a value; None if not crowded."""
    (own, other), value = (columns[c] for c in cell.columns), cell.first[1]
    order = sorted_rows(own.numbers, left & (other.code == value))
    hit, code = labels[order] == cell.label, own.code[order]
    part = part_of(order, own.numbers[order], _unit(own.numbers[left]))
    asked = (code >= cell.first[0]) & (code <= cell.last[0])
    places = np.flatnonzero(asked & _middle(part.values, asked & hit))
    if places.size < FEWEST_PLANTED:
        return None
    chance = model.without(order, {own.name, other.name})[:, cell.label]
    low, high = fitted(part, int(places[0]), int(places[-1]), chance, hit)
    if part.values[low] == part.values[high] or high - low >= WIDEST * left.sum():
        return None
    if not dense(part, low, high):
        return None
    price = told(part, low, high, chance, hit)[1]
    heard = Heard(ranged(own, part, low, high), cell.label, 0.0, value, price, crowded=True)
    return Box(heard, cell.columns[1])


def _fitted_box(
    columns: list[Column], cell: Cell, labels: Ints, model: Additive, left: Bools
) -> Box | None:
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
                alone = dense(part, low, high)
                column = ranged(own, part, low, high)
                ranges[axis] = Heard(column, cell.label, 0.0, -1, price, alone)
            numbers = own.numbers
            inside[axis] = left & (numbers >= part.values[low]) & (numbers <= part.values[high])
        if all(np.array_equal(a, b) for a, b in zip(before, inside, strict=True)):
            break
    held = int((inside[0] & inside[1]).sum())
    one, other = ranges
    if one is None or other is None or not (one.crowded and other.crowded):
        return None
    return Box(one, other) if FEWEST_PLANTED <= held <= WIDEST * left.sum() else None


def _middle(numbers: Floats, rows: Bools) -> Bools:
    """The rows within the middle half of some: a few natural ones lie far out in their decile."""
    low, high = np.quantile(numbers[rows], [0.25, 0.75])
    return np.asarray((numbers >= low) & (numbers <= high), bool)


def _unit(numbers: Floats) -> float:
    """The least step between two numbers."""
    steps = np.diff(np.unique(numbers[np.isfinite(numbers)]))
    return float(steps.min()) if steps.size else 0.0
