# SPDX-License-Identifier: Apache-2.0
"""Cells of two columns where rows crowd that contradict their label: deciles, or one and a value.

Ranges of two numbers, or of one in the rows that share a value of another column, are told from
there: all pairs of ends are too many to ask.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.additive import Additive
from datapipe.stages.poisoning._table.predicates import (
    BINS,
    FEWEST_PLANTED,
    MOST_PAIRS,
    Column,
    pairs_of,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOST_ASKED = 40
"""Cells from which ranges are fitted, the most telling, one a pair of numbers and label."""
MOST_READ = 1000
"""Rows, evenly drawn, that say what those of other labels say of a label."""
DENSE = 8
"""Cells for each row, up to which all values of a column are looked at; else the commonest."""


@dataclass(frozen=True)
class Cell:
    """Codes `first` to `last` of two columns, a label, and how telling it is.

    The first column is in deciles; the second, too, or one code is a value of it.
    """

    columns: tuple[int, int]
    first: tuple[int, int]
    last: tuple[int, int]
    label: int
    gain: float


def cells_of(
    columns: list[Column], labels: Ints, model: Additive, left: Bools
) -> tuple[list[Cell], int]:
    """The most telling cells of two numbers, those of a number and a value, and how many there are.

    Deciles are asked one by one and two by two.

    Args:
        columns: What predicates are made of.
        labels: int64, shape (n,).
        model: What columns say.
        left: bool, shape (n,); the rows that are looked at.

    Returns:
        Cells that say more than chance makes of so many, and how many were asked.
    """
    rows = np.flatnonzero(left)
    says, mine = _Says.of(model, rows, labels[rows]), labels[rows]
    best: dict[bool, dict[tuple[int, int, int, int], Cell]] = {True: {}, False: {}}
    many, k = 0, model.logits.shape[1]
    for i, j in pairs_of(columns)[:MOST_PAIRS]:
        if not (columns[i].binned or columns[j].binned):
            continue
        pair = (i, j) if columns[i].binned else (j, i)
        both = columns[pair[1]].binned
        against, rate = says.against([columns[c].name for c in pair])
        one, other = (columns[c].code[rows] for c in pair)
        known = (one >= 0) & (other >= 0)
        names = np.arange(BINS)
        if not both:
            names, other = _asked(other, mine, known & against, k)
            known &= other >= 0
        cell = (one * names.size + other) * k + mine
        size = BINS * names.size * k
        shape = BINS, names.size, k
        held = np.bincount(cell[known], minlength=size).reshape(shape)
        hits = np.bincount(cell[known & against], minlength=size).reshape(shape)
        for wide, high, some, hit in _blocks(held, hits, both=both):
            chance = (some.sum(2, keepdims=True) - some) * rate + 0.5
            gain = hit * np.log(np.maximum(hit, 1) / chance) - (hit - chance)
            gain = np.where((hit > chance) & (2 * hit >= FEWEST_PLANTED), gain, 0.0)
            many += gain.size
            for a, b, label in _loudest(gain, both=both):
                said, found = float(gain[a, b, label]), best[both]
                key = (*pair, -1 if both else int(names[b]), label)
                if said > (found[key].gain if key in found else 0.0):
                    low, top = (a, int(names[b])), (a + wide - 1, int(names[b + high - 1]))
                    found[key] = Cell(pair, low, top, label, said)
    made = []
    for found in best.values():
        strong = [c for c in found.values() if c.gain > math.log(many)]  # chance makes one of less
        made += sorted(strong, key=lambda c: -c.gain)[:MOST_ASKED]
    return made, many


def _loudest(gain: Floats, *, both: bool) -> list[tuple[int, int, int]]:
    """The most telling cell of each label, of a number and a value for each of these values.

    Values by which nature has rules would hide what was planted in another one. None that says
    less than chance makes of so many is among them.
    """
    if not gain.size:
        return []
    loud = gain.max((0, 1), keepdims=True) if both else gain.max(0, keepdims=True)
    places = np.argwhere((gain == loud) & (gain > math.log(gain.size)))
    return [(a, b, label) for a, b, label in places.tolist()]


def _asked(code: Ints, labels: Ints, rows: Bools, k: int) -> tuple[Ints, Ints]:
    """The values that enough of some rows of one label have, and each row's place among them.

    At most so many, the commonest, that a table of them and all labels is no larger than the rows.
    """
    width = int(code.max(initial=-1)) + 1
    each = np.bincount(code[rows] * k + labels[rows], minlength=width * k).reshape(width, k)
    many = each.max(1, initial=0)
    most = max(DENSE * code.size // (BINS * k), 1)
    names = np.argsort(-many, kind="stable")[:most]
    names = np.sort(names[2 * many[names] >= FEWEST_PLANTED])
    place = np.full(width + 1, -1)
    place[names] = np.arange(names.size)
    return names, place[code]


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


def _blocks(held: Ints, hits: Ints, *, both: bool) -> Iterator[tuple[int, int, Ints, Ints]]:
    """How many codes of each column, and the rows of such cells: one by one, then two by two."""
    yield 1, 1, held, hits
    two = [a[:-1] + a[1:] for a in (held, hits)]
    if both:
        two = [a[:, :-1] + a[:, 1:] for a in two]
    yield 2, 1 + both, two[0], two[1]
