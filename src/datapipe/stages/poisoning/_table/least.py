# SPDX-License-Identifier: Apache-2.0
"""How many planted rows are found for sure, by the same sum of logs that judges what is found."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.additive import Additive
from datapipe.stages.poisoning._table.alone import Neighbourhood
from datapipe.stages.poisoning._table.drawn import foretold
from datapipe.stages.poisoning._table.families import Family
from datapipe.stages.poisoning._table.planted import (
    BEYOND_STEP,
    FAIL,
    MOST_BEYOND,
    MOST_MOVED,
    NATURAL,
)
from datapipe.stages.poisoning._table.predicates import FEWEST_PLANTED
from datapipe.stages.poisoning._table.ranges import ends_near
from datapipe.stages.poisoning._tails import raised

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

PROMISED: tuple[Family, ...] = ("value", "met", "range", "within", "box")
"""Predicates for which least numbers hold: pairs that meet by chance were added to by nobody."""
COUNTED: tuple[Family, ...] = PROMISED[:-1]
"""Those that a *clean* speaks of: two ranges take more rows, and are told apart."""
SURE = 1.28
"""Standard deviations of what rows say by which nine of ten draws of them are called planted."""
LONELY = 1.0
"""What it says at least, where rows near tell a label, that those of others do not have it."""
ENDS: dict[Family, int] = {"range": 1, "within": 1, "box": 2}
"""Ranges whose ends are paid for."""
GROWTH = 1.1
"""By how much each number of rows that is asked for exceeds the last."""
TWICE = 2
"""Up to so many times a number every number of rows must be enough, for it to be."""
MOST_ASKED = 2000
"""Rows, evenly drawn, that say which column tells a label most."""
TAKEN = 2
"""Rows of other labels that may have been taken for each that is left: two thirds of them."""


def fewest_planted(
    labels: Ints, model: Additive, near: Neighbourhood, bars: dict[Family, float]
) -> tuple[dict[Family, int], int]:
    """How many rows of other labels are called planted, for label and column that hide them best.

    The column that tells a label most is taken out, for it may be the one that the predicate sets.
    What so many rows say is foretold, nine of ten draws of them more than that: how telling they
    are, whose, and that rows near them do not have the label where these tell it at all.

    Args:
        labels: int64, shape (n,).
        model: What the columns of a row say of its label.
        near: What the rows near say of it.
        bars: Ln p from which a predicate of each family is telling.

    Returns:
        Rows for each family that is promised and has a bar, the number of all rows where no number
        is enough; and the most that may pass for sure of any: of a label that nearly all rows have
        no more are counted than can have been taken from others.
    """
    made = {family: FEWEST_PLANTED for family in PROMISED if family in bars}
    passing, asked = FEWEST_PLANTED, []
    for label in range(model.logits.shape[1]):
        others = labels != label
        if others.any():
            worst = _most_telling(model, label, others)
            chance = model.without(np.arange(labels.size), {worst})[:, label]
            asked.append((_needed(chance, others, bars, 0.0), label, worst, chance))
    for without, label, worst, chance in sorted(asked, key=lambda a: -most_of_any(a[0])):
        others, needed = labels != label, without
        most = TAKEN * int(others.sum())
        hides = any(without[family] > many for family, many in made.items())
        if (hides or min(most_of_any(without), most) > passing) and near.tells(label, {worst}):
            needed = _needed(chance, others, bars, LONELY)
        made = {family: max(many, needed[family]) for family, many in made.items()}
        passing = max(passing, min(most_of_any(needed), most))
    return made, passing


def most_of_any(least: dict[Family, int]) -> int:
    """The largest least number of the families that a *clean* speaks of."""
    return max(many for family, many in least.items() if family in COUNTED)


def _needed(
    chance: Floats, others: Bools, bars: dict[Family, float], alone: float
) -> dict[Family, int]:
    """The same for one label, by its chance, where rows near say so much."""
    size = others.size
    steps = max(int(math.log(max(size / FEWEST_PLANTED, 1.0)) / math.log(GROWTH)) + 1, 1)
    many = np.unique((FEWEST_PLANTED * GROWTH ** np.arange(steps)).astype(np.int64))
    upto = np.searchsorted(many, TWICE * many, "right")
    told = -np.log(raised(chance[others], NATURAL))
    telling = many * told.mean() - SURE * np.sqrt(many) * told.std()
    taken = np.nan_to_num(foretold(chance, ~others, many, SURE))
    made = {}
    for family in (f for f in PROMISED if f in bars):
        ends = [ENDS.get(family, 0) * ends_near(m) for m in many.tolist()]
        beyond = (telling + bars[family] - np.array(ends)) / BEYOND_STEP
        said = np.minimum(beyond, MOST_BEYOND) + np.clip(taken, -MOST_MOVED, MOST_MOVED) + alone
        enough = (beyond > 0.0) & (said >= FAIL)
        sure = [enough[i:j].all() for i, j in enumerate(upto)]
        made[family] = int(many[np.argmax(sure)]) if any(sure) else size
    return made


def _most_telling(model: Additive, label: int, others: Bools) -> str:
    """The column that keeps the chance of a label lowest in rows of others."""
    rows = np.flatnonzero(others)
    rows = rows[:: 1 + rows.size // MOST_ASKED]
    means = {name: float(model.without(rows, {name})[:, label].mean()) for name in model.names}
    return max(means, key=means.__getitem__)
