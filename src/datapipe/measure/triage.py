# SPDX-License-Identifier: Apache-2.0
"""Where the next hour of labelling is best spent, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

EXPLORED = 0.2
"""Share of a rare-event sample that is drawn evenly, so that what no score foresees is seen too."""


@dataclass(frozen=True, eq=False)
class RelabelPlan:
    """Which rows to have labelled again, in order.

    Args:
        rows: int64, shape (m,): places, the most errors a cost first.
        removed: float64, shape (m,): errors expected to be gone once so many are done.
        spent: float64, shape (m,): cost until then.
        stop: How many of them are worth their cost.
        total: Errors expected in the whole.

    Example:
        >>> relabel_plan(np.array([0.9, 0.0, 0.5]), budget=2).rows.tolist()
        [0, 2]
    """

    rows: Ints
    removed: Floats
    spent: Floats
    stop: int
    total: float


def relabel_plan(
    scores: Floats,
    *,
    budget: float,
    cost: Floats | None = None,
    skill: float = 1.0,
    least: float = 0.05,
) -> RelabelPlan:
    """The rows whose check removes the most errors for a budget, with a stopping rule.

    A check by somebody of skill s turns a wrong label right with chance s and a right one wrong
    with chance 1 - s, so that a row is worth s e - (1 - s)(1 - e) errors.

    Args:
        scores: float in [0, 1], shape (n,): each label's chance of being wrong.
        budget: What may be spent, > 0, in the unit of the costs.
        cost: float > 0, shape (n,): of checking each row; None for 1 each.
        skill: Chance that whoever checks is right, in (0, 1].
        least: Fewest errors that a unit of cost must remove; beyond it the plan says stop.

    Returns:
        The plan.

    Raises:
        DeclarationError: A figure is out of range.

    Example:
        >>> plan = relabel_plan(np.array([0.9, 0.8, 0.01, 0.0]), budget=4)
        >>> plan.stop, plan.removed.round(2).tolist()
        (2, [0.9, 1.7, 1.71, 1.71])

    References:
        Sheng, Provost & Ipeirotis, 2008, Get another label?
    """
    prices = np.ones(scores.size) if cost is None else cost
    if prices.shape != scores.shape:
        raise DeclarationError(
            f"{prices.size} costs for {scores.size} rows",
            code="DP-DECL-080",
            hint="give every row one cost",
        )
    if not (prices > 0).all():
        row = int(np.flatnonzero(~(prices > 0))[0])
        raise DeclarationError(
            f"the cost of row {row + 1} is {prices[row]:g}; above 0 was expected",
            code="DP-DECL-080",
            hint="name a column that holds what it costs to have a row labelled",
        )
    if not (budget > 0 and 0 < skill <= 1):
        raise DeclarationError(
            f"budget={budget:g} and skill={skill:g}; a budget above 0 and a skill in (0, 1]"
            " were expected",
            code="DP-DECL-080",
            hint="give what may be spent, and how often who checks is right",
        )
    if scores.size and (not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1):
        raise DeclarationError("scores must be chances between 0 and 1")
    gain = skill * scores - (1 - skill) * (1 - scores)
    order = np.argsort(-gain / prices, kind="stable")
    spent = np.cumsum(prices[order])
    order = order[: int(np.searchsorted(spent, budget, side="right"))]
    worth = gain[order] / prices[order] >= least
    stop = int(worth.size if worth.all() else worth.argmin())
    return RelabelPlan(
        order, np.cumsum(gain[order]), spent[: order.size], stop, float(scores.sum())
    )


def route(scores: Floats, skills: Floats, costs: Floats, *, budget: float) -> Ints:
    """Who checks which row: the expert where it pays, others elsewhere.

    Args:
        scores: float in [0, 1], shape (n,): each label's chance of being wrong.
        skills: float in (0, 1], shape (w,): of each annotator.
        costs: float > 0, shape (w,): of an answer of each.
        budget: What may be spent, > 0.

    Returns:
        int64, shape (n,): annotator of each row, -1 for rows that are left alone.

    Raises:
        DeclarationError: The arrays do not fit.

    Example:
        >>> who = route(np.array([0.95, 0.4, 0.0]), np.array([0.7, 1.0]), np.array([1.0, 3.0]),
        ...     budget=4.0)
        >>> who.tolist()
        [0, 1, -1]
    """
    if skills.shape != costs.shape or not skills.size or not (costs > 0).all():
        raise DeclarationError("one skill and one cost above 0 an annotator are needed")
    gain = skills * scores[:, None] - (1 - skills) * (1 - scores[:, None])
    made = np.full(scores.size, -1)
    left = budget
    # steps to a better annotator are taken while they pay most: the classic greedy of knapsacks
    first = (gain / costs).argmax(1)
    rate = (gain / costs).max(1)
    for row in np.argsort(-rate, kind="stable"):
        if rate[row] <= 0:
            break
        if costs[first[row]] <= left:
            made[row] = first[row]
            left -= costs[first[row]]
    for row in np.argsort(-np.abs(0.5 - np.abs(scores - 0.5)), kind="stable"):
        own = made[row]
        held = gain[row, own] if own >= 0 else 0.0
        paid = costs[own] if own >= 0 else 0.0
        better = np.flatnonzero((gain[row] > held) & (costs - paid <= left))
        if better.size:
            best = int(better[gain[row, better].argmax()])
            left -= costs[best] - paid
            made[row] = best
    return made


@dataclass(frozen=True, eq=False)
class RarePlan:
    """A sample that finds rare rows and still tells how rare they are.

    Args:
        rows: int64, shape (m,): places of the rows to look at.
        chance: float64, shape (m,): how likely each was to be drawn.
        n: Rows of the whole.

    Example:
        >>> RarePlan(np.array([0]), np.array([1.0]), 1).n
        1
    """

    rows: Ints
    chance: Floats
    n: int


def rare_plan(scores: Floats, m: int, rng: np.random.Generator) -> RarePlan:
    """Draw rows in proportion to how likely they are to be the rare ones.

    Args:
        scores: float >= 0, shape (n,): how likely each row is to be one.
        m: How many rows may be looked at, >= 2.
        rng: Draws the rows.

    Returns:
        The sample, `m` rows.

    Raises:
        DeclarationError: `m` or a score is out of range.

    Example:
        >>> scores = np.repeat([0.001, 0.5], [990, 10])
        >>> plan = rare_plan(scores, 30, np.random.default_rng(0))
        >>> int((plan.rows >= 990).sum()) >= 8
        True

    References:
        Hansen & Hurwitz, 1943, On the theory of sampling from finite populations; Madow, 1949, On
        the theory of systematic sampling.
    """
    n = scores.size
    if not 2 <= m <= n or not np.isfinite(scores).all() or scores.min() < 0:
        raise DeclarationError(f"{m} of {n} rows, with scores of at least 0, cannot be drawn")
    total = float(scores.sum())
    own = scores / total if total > 0 else np.full(n, 1.0 / n)
    size = (1 - EXPLORED) * own + EXPLORED / n
    chance = np.zeros(n)
    sure = np.zeros(n, bool)
    while True:  # rows that would be drawn more than once are drawn for certain
        rest = m - int(sure.sum())
        chance = np.where(sure, 1.0, rest * size / float(size[~sure].sum() or 1.0))
        over = (chance > 1) & ~sure
        if not over.any():
            break
        sure |= over
    order = rng.permutation(n)
    reach = np.cumsum(chance[order])
    marks = rng.random() + np.arange(m)
    rows = order[np.minimum(np.searchsorted(reach, marks), n - 1)]
    rows = np.unique(rows)
    return RarePlan(rows, chance[rows], n)


def prevalence(plan: RarePlan, positive: Bools, *, level: float = 0.95) -> Estimate:
    """How common the rare rows are, unbiased whatever the scores were worth.

    Args:
        plan: The sample.
        positive: bool, shape (m,): whether each looked-at row is one.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The share, in [0, 1].

    Raises:
        DeclarationError: The answers do not fit the plan.

    Example:
        >>> scores = np.repeat([0.001, 0.5], [990, 10])
        >>> plan = rare_plan(scores, 60, np.random.default_rng(0))
        >>> made = prevalence(plan, plan.rows >= 990)
        >>> made.low <= 0.01 <= made.high
        True

    References:
        Horvitz & Thompson, 1952, A generalization of sampling without replacement.
    """
    if positive.shape != plan.rows.shape:
        raise DeclarationError(f"{positive.size} answers for {plan.rows.size} rows")
    found = positive / plan.chance
    value = min(1.0, float(found.sum()) / plan.n)
    m = plan.rows.size
    spread: Any = (found * (1 - plan.chance)).std(ddof=1) * math.sqrt(m) / plan.n if m > 1 else 1.0
    floor = 1.0 / (plan.n * float(plan.chance.min()))  # what one unseen row would have added
    half = 2.0 * float(spread) + (0.5 * floor if level >= 0.9 else 0.0)
    low = max(int(positive.sum()) / plan.n, value - half)
    return Estimate(
        value,
        min(low, value),
        min(1.0, value + half),
        n=m,
        method="Horvitz-Thompson",
        level=level,
    )
