# SPDX-License-Identifier: Apache-2.0
"""Crowded ranges that carry a label, in all rows or in those of a category, with their ends."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.additive import Additive
from datapipe.stages.poisoning._table.crowds import FLANK, WIDEST, Crowds
from datapipe.stages.poisoning._table.ends import fitted, part_of
from datapipe.stages.poisoning._table.predicates import (
    LEAST_ROWS,
    MANY_VALUES,
    PURE,
    Column,
)
from datapipe.stages.poisoning._table.runs import runs_of
from datapipe.stages.poisoning._tails import log_tails, raised

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOST_HEARD = 3
"""Ranges of one number, or of one in the values of a category, that are judged."""


def with_ranges(columns: list[Column]) -> list[int]:
    """The numbers of the columns in which ranges are looked for, one for each name."""
    many = {
        c.name: i
        for i, c in enumerate(columns)
        if np.unique(c.numbers[np.isfinite(c.numbers)]).size >= MANY_VALUES
    }
    return list(many.values())


def with_groups(columns: list[Column]) -> dict[int, Column]:
    """The columns in whose values ranges are looked for, by number: those without ranges.

    Of numbers that have some, only where they are missing.
    """
    numbers = {columns[i].name for i in with_ranges(columns)}
    made = {}
    for i, column in enumerate(columns):
        if column.binned:
            continue
        if column.name not in numbers:
            made[i] = column
        elif (none := (column.code >= 0) & ~np.isfinite(column.numbers)).any():
            made[i] = replace(column, code=np.where(none, column.code, -1))
    return made


@dataclass(frozen=True, eq=False)
class Heard:
    """A range as a column of one code, its label, and ln P of it or of what it grew from.

    `group` is the code of the category among whose rows it was found, `price` ln of the pairs of
    ends among which its labels told them, `crowded` whether it was found by its crowd.
    """

    column: Column
    label: int
    log_p: float
    group: int
    price: float
    crowded: bool


def loudest(
    pair: tuple[Column, Column | None], found: Crowds, labels: Ints, model: Additive, natural: float
) -> list[Heard]:
    """The ranges of one number whose rows carry a label most, with their ends as the rows tell.

    Args:
        pair: The number, and the category among whose rows ranges were looked for, if any.
        found: Its sorted rows, and the crowded ranges among them.
        labels: int64, shape (n,).
        model: What columns say.
        natural: Log odds that a range may add by nature.

    Returns:
        At most three that are crowded, and three that labels alone tell.
    """
    own, group = pair
    if not found.order.size:
        return []
    chance = model.without(found.order, {own.name} | ({group.name} if group is not None else set()))
    mine, rate = labels[found.order], raised(chance, natural)
    made, most = [], 2 * WIDEST * found.values.size
    for crowd in _crowded(found, mine, rate):
        grown = _grown(pair, found, crowd, (chance, rate), mine)
        if grown is not None:
            made.append(grown)
    runs = [run for run in runs_of(found, mine, rate) if run.last - run.first < most]
    for run in runs[:MOST_HEARD]:
        ends = slice(run.first, run.last + 1)
        one = np.zeros(run.last - run.first + 1, np.int64)
        log_p = float(log_tails(one, rate[ends, run.label], mine[ends] == run.label, 1)[0])
        said = run.label, log_p + run.price, run.price
        made.append(_heard(pair, found, (run.first, run.last), said, crowd=False))
    return made


def _grown(
    pair: tuple[Column, Column | None],
    found: Crowds,
    run: tuple[int, int, int, float],
    says: tuple[Floats, Floats],
    mine: Ints,
) -> Heard | None:
    """A range with its ends as the rows tell; None for one value, or too many."""
    (first, last, label, log_p), (chance, rate) = run, says
    start, stop = int(found.begins[first]), int(found.ends[first]) + 1
    part, hit = _part(found, start, stop), mine[start:stop] == label
    low, high = fitted(part, first - start, last - start, chance[start:stop, label], hit)
    if part.values[low] == part.values[high] or high - low >= 2 * WIDEST * found.values.size:
        return None
    fit, price = told(part, low, high, rate[start:stop, label], hit)
    said = label, min(log_p, fit + price), price
    return _heard(pair, found, (low + start, high + start), said, crowd=True)


def _crowded(found: Crowds, mine: Ints, rate: Floats) -> list[tuple[int, int, int, float]]:
    """First and last place, label and ln P of the crowded ranges that carry a label most."""
    held = found.last - found.first + 1
    if not held.size:
        return []
    of = np.repeat(np.arange(held.size), held)
    places = np.arange(of.size) + np.repeat(found.first - (np.cumsum(held) - held), held)
    k = rate.shape[1]
    table = np.bincount(of * k + mine[places], minlength=held.size * k).reshape(-1, k)
    top = table.argmax(1)
    keep = (table.max(1) >= PURE * held)[of]
    places, of = places[keep], of[keep]
    chance = rate[places, top[of]]
    strong = np.bincount(of, np.log(chance), minlength=held.size) < -LEAST_ROWS
    keep = strong[of]  # none of less could pass the bar
    places, of, chance = places[keep], of[keep], chance[keep]
    log_p = log_tails(of, chance, mine[places] == top[of], held.size)
    told = np.argsort(log_p, kind="stable")[:MOST_HEARD]
    told = told[log_p[told] < -LEAST_ROWS]
    parts = found.first[told], found.last[told], top[told], log_p[told]
    return list(zip(*(part.tolist() for part in parts), strict=True))


def _heard(
    pair: tuple[Column, Column | None],
    found: Crowds,
    ends: tuple[int, int],
    said: tuple[int, float, float],
    *,
    crowd: bool,
) -> Heard:
    """The range between two places, with its label, ln P and price."""
    (own, group), (low, high), (label, log_p, price) = pair, ends, said
    row = found.order[low]
    start, stop = int(found.begins[low]), int(found.ends[low]) + 1
    part = _part(found, start, stop)
    column = ranged(own, part, low - start, high - start)
    code = -1 if group is None else int(group.code[row])
    return Heard(column, label, log_p, code, price, crowd)


def ends_near(many: int) -> float:
    """Ln of the pairs of ends near a range of so many rows, where each has a value of its own."""
    return 2.0 * math.log(3 * many + 2 * FLANK)


def told(part: Crowds, low: int, high: int, rate: Floats, hit: Bools) -> tuple[float, float]:
    """Ln P of a range, and of how many its labels told the ends: at any value near."""
    one, far = np.zeros(high - low + 1, np.int64), high - low + 1 + FLANK
    near = part.values[max(low - far, 0) : high + far + 1]
    log_p = log_tails(one, rate[low : high + 1], hit[low : high + 1], 1)[0]
    return float(log_p), 2.0 * math.log(np.unique(near).size)


def _part(found: Crowds, start: int, stop: int) -> Crowds:
    """The rows of one category, as if there were no others."""
    return part_of(found.order[start:stop], found.values[start:stop], found.unit)


def ranged(own: Column, found: Crowds, low: int, high: int) -> Column:
    """The column of one code that the rows from one place to another have, by round numbers."""
    values = found.values
    below = float(values[low - 1]) if low > 0 else -math.inf
    above = float(values[high + 1]) if high + 1 < values.size else math.inf
    start, stop = float(values[low]), float(values[high])
    within = (own.numbers >= start) & (own.numbers <= stop)
    if own.decimal:
        start, stop = rounded(below, start, stop, above)
        within = (own.numbers >= start) & (own.numbers < stop)
    code = np.where(within, 0, -1)
    return Column(own.name, code, (own.between(start, stop),), numbers=own.numbers, kind=own.kind)


def rounded(below: float, low: float, high: float, above: float) -> tuple[float, float]:
    """The shortest decimals that part a range from the values beside it: from one, to below other.

    Args:
        below: The next smaller value, or minus infinity.
        low: The least value of the range.
        high: Its greatest.
        above: The next greater value, or infinity.

    Returns:
        One in (below, low] and one in (high, above].

    Example:
        >>> rounded(3.0962, 3.1004, 3.2991, 3.3127)
        (3.1, 3.3)
    """
    wide = max(high - low, 1e-9)
    below, above = max(below, low - wide), min(above, high + wide)
    start, stop = low, above
    for digits in range(17, -1, -1):
        ten = 10.0**digits
        least, most = float(np.floor(low * ten)) / ten, float(np.floor(high * ten) + 1.0) / ten
        start = least if below < least <= low else start
        stop = most if high < most <= above else stop
    return start, stop
