# SPDX-License-Identifier: Apache-2.0
"""Which of the predicates that share rows tells best which rows were planted."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.crowds import FLANK
from datapipe.stages.poisoning._table.halves import halves_of
from datapipe.stages.poisoning._table.planted import Judge
from datapipe.stages.poisoning._table.predicates import Column, Predicate, holds

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FEWEST_SOURCE = 20
"""Rows of a label from which a trigger's rows may come alone."""
SHARES = 2.0 ** -np.arange(0.0, 6.0, 0.5)
"""Shares of the rows with the label that may have been planted."""


def described(judge: Judge, predicate: Predicate, label: int, without: set[str]) -> float:
    """By how many nats the labels and values of all rows are told sooner with a planted predicate.

    Of n rows a share e was planted: these have the label and every half; the others have the label
    as often as their other columns say (p), and the halves as often as rows of other labels do (s).
    So a row with the predicate and the label is 1 + e / (s p) times as likely as without the
    story, and any other 1 - e times. Each half costs ln of how many there are to choose among.

    Args:
        judge: What is known of the rows that are looked at.
        predicate: A value, a range, or two of these.
        label: The label that it is said to carry.
        without: Columns that say nothing, at least those of the predicate: the same for all
            predicates that are compared.

    Returns:
        The gain, less the price of the predicate; it may be less than 0.
    """
    columns, left, labels = judge.columns, judge.left, judge.ground.labels
    many = int(left.sum())
    hits = np.flatnonzero(holds(columns, predicate) & left & (labels == label))
    chance = judge.ground.model.without(hits, without)[:, label]
    natural = _natural_share(judge, predicate, label)
    planted = SHARES * hits.size / many
    told = np.log1p(planted[:, None] / (natural * np.maximum(chance, 1e-6))).sum(1)
    told = told + many * np.log1p(-np.minimum(planted, 0.999))
    return float(told.max()) - len(predicate.columns) * math.log(_halves(columns))


def _natural_share(judge: Judge, predicate: Predicate, label: int) -> float:
    """How often rows of other labels would have all halves of a predicate.

    The rarest half is told by all of them, the other by those that lack the first: whoever plants
    one half leaves the other as it is anywhere, whatever natural rows of the first have. All rows
    may have been taken from one label, so that which has the other half most often says it.
    """
    columns, left, labels = judge.columns, judge.left, judge.ground.labels
    others, share = left & (labels != label), 1.0
    for half in sorted(halves_of(predicate), key=lambda h: int(holds(columns, h)[left].sum())):
        held = holds(columns, half)
        share *= max(_most_often(held, others, labels), _as_beside(columns, half, held, others))
        others &= ~held
    return share


def _as_beside(columns: list[Column], half: Predicate, held: Bools, rows: Bools) -> float:
    """The share of some rows that a range would have were they as dense as with those beside it.

    Its ends were chosen where labels tell it, so that rows of other labels lie just outside.
    """
    numbers = columns[half.columns[0]].numbers
    if not numbers.size or not held.any():
        return 0.0
    low, high = float(numbers[held].min()), float(numbers[held].max())
    if not low < high:
        return 0.0
    values = np.sort(numbers[rows & np.isfinite(numbers)])
    first, last = np.searchsorted(values, low, "left"), np.searchsorted(values, high, "right")
    many = int(held.sum()) // 2 + FLANK
    start, stop = max(int(first) - many, 0), min(int(last) + many, values.size)
    wide = max(float(values[stop - 1]), high) - min(float(values[start]), low) if stop else 0.0
    return (stop - start) / max(int(rows.sum()), 1) * (high - low) / wide if wide > 0.0 else 0.0


def _most_often(held: Bools, rows: Bools, labels: Ints) -> float:
    """The share of some rows that have a half, in the label where it is largest."""
    every = np.bincount(labels[rows])
    mine = np.bincount(labels[rows & held], minlength=every.size)
    enough = every >= FEWEST_SOURCE
    overall = (float(mine.sum()) + 0.5) / (float(every.sum()) + 1.0)
    return max(overall, float((mine[enough] / every[enough]).max(initial=0.0)))


def _halves(columns: list[Column]) -> int:
    """How many values there are to choose a half among."""
    return max(sum(len(c.where) for c in columns if not c.binned), 2)
