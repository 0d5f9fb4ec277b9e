# SPDX-License-Identifier: Apache-2.0
"""What two values say of a label each for itself: a pair by nature may say both, and no more."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import poisson  # type: ignore[import-untyped]  # it ships no types

from datapipe.stages.poisoning._table.additive import Additive
from datapipe.stages.poisoning._table.predicates import Column, Predicate, holds
from datapipe.stages.poisoning._tails import raised

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

PRIOR = 1.0
"""Rows with the label and rows without, as expected, that are added to those that tell."""
WIDE = 3.0
"""Spreads of what the values of a column add, by which one of them may differ by nature."""
FEWEST_OTHERS = 3
LEAST_KNOWN = 0.5
"""Variance of the count of a label, below which a value tells nothing."""
MOST = 8.0
SHUN = 0.25
"""Share of the rows that would meet by chance which meet at least."""
STEPS = 40
ROUNDS = 10


def halves_of(predicate: Predicate) -> list[Predicate]:
    """The single predicates that one is made of."""
    parts = zip(predicate.columns, predicate.codes, strict=True)
    return [Predicate((c,), (v,)) for c, v in parts]


def added_by_halves(
    columns: list[Column], predicate: Predicate, label: int, labels: Ints, model: Additive
) -> float:
    """Log odds of a label that the halves of a pair add where the other half does not hold.

    Two strong effects make a pair that no other column explains. A half that speaks against the
    label counts as silent, for whoever plants a pair may choose it so.

    Args:
        columns: What predicates are made of.
        predicate: A pair; a single value adds nothing but itself.
        label: The label.
        labels: int64, shape (n,).
        model: What columns say.

    Returns:
        The sum over both halves, >= 0.
    """
    parts = halves_of(predicate)
    if len(parts) < 2:
        return 0.0
    both = holds(columns, predicate)
    return sum(
        _added(
            model.without(rows, {columns[half.columns[0]].name})[:, label], labels[rows] == label
        )
        for half in parts
        for rows in [np.flatnonzero(holds(columns, half) & ~both)]
    )


def added_by_others(
    columns: list[Column], predicate: Predicate, label: int, labels: Ints, model: Additive
) -> float:
    """Log odds of a label that a value may add by nature, as the others of its column do.

    Where towns differ much, one of them may differ more; of numbers, those next to each other are
    compared, for a slope is no difference. The spread is told by moments, without the most unusual
    one: it may have been planted, too.

    Args:
        columns: What predicates are made of.
        predicate: A single value; of a pair nothing is told.
        label: The label.
        labels: int64, shape (n,).
        model: What columns say.

    Returns:
        >= 0; 0 where too few others tell.
    """
    column = columns[predicate.columns[0]]
    if len(predicate.columns) > 1 or column.binned:
        return 0.0
    rows = np.flatnonzero((column.code >= 0) & (column.code != predicate.codes[0]))
    chance = model.without(rows, {column.name})[:, label]
    excess, doubt = _apart(column, rows, chance, labels[rows] == label)
    told = np.argsort(-np.abs(excess) / np.sqrt(doubt))[1:]
    if told.size < FEWEST_OTHERS:
        return 0.0
    return WIDE * math.sqrt(_variance(excess[told], doubt[told]))


def rows_missing(
    columns: list[Column], predicate: Predicate, label: int, labels: Ints, left: Bools
) -> float:
    """Ln P that a pair whose rows were added has so few natural rows of other labels.

    Values that meet by chance leave rows of every label, to which whoever plants a pair adds.

    Args:
        columns: What predicates are made of.
        predicate: A pair; of a single value nothing is told.
        label: The label.
        labels: int64, shape (n,).
        left: bool, shape (n,); the rows that are looked at.

    Returns:
        <= 0; by a quarter of those that would meet by chance: some values shun each other.
    """
    parts = [holds(columns, half)[left] for half in halves_of(predicate)]
    if len(parts) < 2:
        return 0.0
    (one, two), other = parts, labels[left] != label
    neither = int((~one & ~two).sum())
    chance = int((one & ~two).sum()) * int((two & ~one).sum()) / max(neither, 1)
    least = SHUN * chance * float(other[~(one & two)].mean())
    return float(min(0.0, poisson.logcdf(int((one & two & other).sum()), least)))


def _variance(excess: Floats, doubt: Floats) -> float:
    """The variance of what values add, without that of chance, by moments (Paule & Mandel)."""
    made = 0.0
    for _ in range(ROUNDS):
        weight = 1.0 / (doubt + made) ** 2
        made = max(float((weight * (excess**2 - doubt)).sum() / weight.sum()), 0.0)
    return made


def _apart(column: Column, rows: Ints, chance: Floats, hit: Bools) -> tuple[Floats, Floats]:
    """How far the log odds of values lie apart, and the variance of that by chance.

    Of categories from what the other columns say, of numbers from the next one, over root two.
    """
    size = len(column.where)
    code, by, known = column.code[rows], np.zeros(size), np.ones(size)
    odds = np.log(np.clip(chance, 1e-6, 1.0)) - np.log(np.clip(1.0 - chance, 1e-6, 1.0))
    hits = np.bincount(code, hit, minlength=size) + 0.5 * PRIOR
    for _ in range(ROUNDS):  # half a row with the label and half a row without hold back the sure
        share = 1.0 / (1.0 + np.exp(-(odds + by[code])))
        prior = 1.0 / (1.0 + np.exp(-by))
        known = np.bincount(code, share * (1.0 - share), minlength=size).astype(np.float64)
        known += PRIOR * prior * (1.0 - prior)
        short = hits - np.bincount(code, share, minlength=size) - PRIOR * prior
        by = np.asarray(by + np.clip(short / np.maximum(known, 1e-3), -1.0, 1.0), np.float64)
    told = np.flatnonzero(np.bincount(code, chance * (1.0 - chance), minlength=size) > LEAST_KNOWN)
    by, doubt = by[told], 1.0 / np.maximum(known[told], 1e-3)
    if not column.numbers.size:
        return by, doubt
    value = np.zeros(size)
    value[column.code[rows]] = column.numbers[rows]
    order = np.argsort(value[told], kind="stable")
    by, doubt = by[order], doubt[order]
    return (by[1:] - by[:-1]) / np.sqrt(2.0), (doubt[1:] + doubt[:-1]) / 2.0


def _added(chance: Floats, hit: Bools) -> float:
    """By how much log odds must rise for as many rows to have the label as do; shrunk to none."""
    if not hit.size:
        return 0.0
    usual = float(chance.mean())
    hits = float(hit.sum()) + PRIOR * usual
    low, high = 0.0, MOST
    for _ in range(STEPS):
        by = 0.5 * (low + high)
        expected = float(raised(chance, by).sum() + PRIOR * raised(np.array([usual]), by)[0])
        low, high = (by, high) if expected < hits else (low, by)
    return low
