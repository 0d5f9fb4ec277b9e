# SPDX-License-Identifier: Apache-2.0
"""Where the rows of a predicate come from: whoever plants one takes rows of other labels.

A rule of nature holds for rows of its own kind. Rows that were taken from other labels are, in
every column that was left alone, what those rows are.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom  # type: ignore[import-untyped]  # it ships no types

from datapipe.stages.poisoning._table.predicates import LEAST_ROWS, Column
from datapipe.stages.poisoning._tails import DOUBT

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FEWEST_TOLD = 20
"""Rows of a label, and of others, from which its chance can be made to fit."""
SAID = 4.0
"""What as many rows of other labels say on average, up to which what rows say counts for more."""
MUCH = 16.0
"""The same, from which it counts for less: of many rows more is asked."""
LEAST_SAID = 1.0
"""What they must say at least to be asked."""
MORE = 2.0
"""Standard errors by which rows may be more unlike a label than those of others are by chance."""
STEPS = 8
NATURAL_ROWS = 0.15
"""Share of the rows that may have the value of a predicate by nature, and be alike."""
SMALLEST = 1e-300
"""Chances below it are no chances."""
MOST_GROUPS = 12
"""Values of a column that are asked for, the commonest; the rest are one."""


def moved(chance: Floats, own: Bools, rows: Ints, outside: Ints) -> float:
    """Ln of how much likelier rows of a label were taken from others than drawn among all.

    Among all rows a share has the label; where rows of other labels were given it, no more than
    half of that share of its rows had it before. The chance is first made to fit the rows outside:
    without a column a model is too sure.

    Args:
        chance: float64, shape (n,); of the label, by the columns that were left alone.
        own: bool, shape (n,); the rows that have the label.
        rows: int64; those in question.
        outside: int64; rows that the predicate does not hold for.

    Returns:
        The log of a likelihood ratio, less than 0 where they are like all rows; NaN where so few
        rows of other labels would hardly say so, or nobody could.
    """
    least = min(int(own[outside].sum()), int((~own[outside]).sum()))
    if least < FEWEST_TOLD:
        return math.nan
    usual = float(own[outside].mean())
    told = _refitted(chance, own, outside)
    from_others, from_own = (1.0 - told) / (1.0 - usual), told / usual
    others = outside[~own[outside]]
    by_others = rows.size * float(np.log(from_others[others]).mean())
    if by_others < LEAST_SAID:
        return math.nan
    from_others, from_own = from_others[rows], from_own[rows]
    shares = np.append(1.0 - usual * np.linspace(0.0, 0.5, 21), 1.0 - usual)
    mixed = shares[:, None] * from_others + (1.0 - shares)[:, None] * from_own
    likely = np.log(mixed).sum(1)
    told_more = float(likely[:-1].max() - likely[-1])
    return told_more * float(_counted(by_others)) - _more_so(told[rows], told[others])


def foretold(chance: Floats, own: Bools, many: Ints, spreads: float) -> Floats:
    """What `moved` will say of rows of other labels, or more so in all but few draws of them.

    Args:
        chance: float64, shape (n,); of the label.
        own: bool, shape (n,); the rows that have it.
        many: int64, shape (m,); how many are drawn.
        spreads: Standard deviations below the mean.

    Returns:
        float64, shape (m,); NaN where it will say nothing.
    """
    if min(int(own.sum()), int((~own).sum())) < FEWEST_TOLD:
        return np.full(many.size, math.nan)
    others = _refitted(chance, own, np.arange(own.size))[~own]
    told = np.log1p(-others) - math.log1p(-float(own.mean()))
    mean = many * float(told.mean())
    made = (mean - spreads * np.sqrt(many) * float(told.std())) * _counted(np.maximum(mean, 1e-9))
    return np.where(mean < LEAST_SAID, math.nan, made)


def _counted(said: float | Floats) -> float | Floats:
    """How much what rows say counts where as many rows of other labels say so much on average."""
    return np.maximum(1.0, SAID / said) * np.minimum(1.0, MUCH / said)


def _refitted(chance: Floats, own: Bools, rows: Ints) -> Floats:
    """The chance of a label as some rows tell it: without a column a model is too sure."""
    doubted = DOUBT + (1.0 - 2.0 * DOUBT) * chance
    odds = np.log(doubted) - np.log1p(-doubted)
    slope, base = _fitted(odds[rows], own[rows])
    told = DOUBT + (1.0 - 2.0 * DOUBT) / (1.0 + np.exp(-(slope * odds + base)))
    return np.asarray(told, np.float64)


def _more_so(mine: Floats, others: Floats) -> float:
    """Ln of how much less likely rows of other labels contradict a label so much by chance.

    A kind of its own may be more unlike the label than rows of other labels are; a draw is not.
    """
    mine, others = np.log(mine / (1.0 - mine)), np.log(others / (1.0 - others))
    spread = max(float(others.std()), 1e-9) / math.sqrt(mine.size)
    return 0.5 * max(0.0, (float(others.mean() - mine.mean())) / spread - MORE) ** 2


def _fitted(odds: Floats, own: Bools) -> tuple[float, float]:
    """Slope and intercept of a logistic curve, by Newton's method."""
    features = np.column_stack([odds, np.ones(odds.size)])
    weights = np.array([1.0, 0.0])
    for _ in range(STEPS):
        told = 1.0 / (1.0 + np.exp(-np.clip(features @ weights, -30.0, 30.0)))
        spread = told * (1.0 - told)
        square = (features * spread[:, None]).T @ features + 1e-3 * np.eye(2)
        weights = weights + np.clip(np.linalg.solve(square, features.T @ (own - told)), -2.0, 2.0)
    return float(weights[0]), float(weights[1])


def unlike(columns: list[Column], rows: Ints, others: Ints, taken: set[str]) -> float:
    """Ln P that some rows are a random draw among others, by each column that was left alone.

    Args:
        columns: What predicates are made of; a number is asked in bins where it has some.
        rows: int64; the rows in question.
        others: int64; what they may have been drawn from.
        taken: Names of the columns that are not looked at.

    Returns:
        <= 0; of the value that they have most too often, times the values asked for.
    """
    binned = {c.name for c in columns if c.binned}
    drawn: list[tuple[Ints, Ints]] = []
    asked = rows.size - int(NATURAL_ROWS * rows.size)
    for column in columns:
        if column.name in taken or (column.name in binned and not column.binned):
            continue
        size = len(column.where) + 1
        mine = np.bincount(column.code[rows] + 1, minlength=size)
        every = mine + np.bincount(column.code[others] + 1, minlength=size)
        kept = np.argsort(-every, kind="stable")[:MOST_GROUPS]
        fewer = np.maximum(mine - (rows.size - asked), 0)
        kept = kept[every[kept] >= LEAST_ROWS]
        drawn.append((every[kept] - mine[kept] + fewer[kept], fewer[kept]))
    if not drawn:
        return 0.0
    good, fewer = (np.concatenate(part) for part in zip(*drawn, strict=True))
    tails = hypergeom.sf(fewer - 1, asked + others.size, good, asked)
    tails = np.log(np.maximum(tails, SMALLEST))  # its own logarithm takes a loop for each
    return min(0.0, float(tails.min(initial=0.0)) + math.log(max(fewer.size, 1)))
