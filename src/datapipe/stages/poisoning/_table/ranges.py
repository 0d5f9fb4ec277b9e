# SPDX-License-Identifier: Apache-2.0
"""Narrow ranges of a number that hold more rows than the values beside them, and their labels.

Whoever plants a range makes its rows crowd there, which is seen without a label: only crowded
ranges are asked, so that few pay for being many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.additive import Additive
from datapipe.stages.poisoning._table.predicates import (
    FEWEST_PLANTED,
    LEAST_ROWS,
    MANY_VALUES,
    Column,
)
from datapipe.stages.poisoning._tails import log_tails, raised

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WIDEST = 0.1
"""Share of the rows that a range may hold."""
GROWTH = 1.2
"""By how much each size of range that is tried exceeds the last."""
STEP = 8
"""Ranges of one size start this many to a size apart."""
FLANK = 20
"""Rows on each side, at least, that tell how crowded it is there."""
DENSE = 3.0
"""How many times as crowded as the rows beside it a range must be."""
EACH = 1.5
"""The same against the rows on each side of it."""
MIXED = 0.6
"""Largest share of a range's rows that may have one value: else that value says it."""
REFITS = 5
PURE = 0.7
"""Least share of a range's rows that have the label."""
RIGHT = 0.97
"""Share of a planted range's rows that have its label, when its ends are fitted."""
CROWDED = 5.0
"""Largest log of how much denser a range may count, when its ends are fitted."""


@dataclass(frozen=True, eq=False)
class Crowded:
    """Ranges of one number: `order` sorts its rows, `first` and `last` are places in it."""

    column: int
    order: Ints
    values: Floats
    unit: float
    first: Ints
    last: Ints

    def rows(self, number: int) -> Ints:
        """The rows of one range."""
        return self.order[self.first[number] : self.last[number] + 1]


def with_ranges(columns: list[Column]) -> list[int]:
    """The numbers of the columns in which ranges are looked for, one for each name."""
    many = {
        c.name: i
        for i, c in enumerate(columns)
        if np.unique(c.numbers[np.isfinite(c.numbers)]).size >= MANY_VALUES
    }
    return list(many.values())


def crowded_ranges(columns: list[Column], number: int, left: Bools) -> Crowded:
    """Ranges of a number, of eight rows to a tenth of all, thrice as dense as the rows beside.

    Args:
        columns: What predicates are made of.
        number: Which of them, one that is looked at in bins.
        left: bool, shape (n,); the rows that are looked at.

    Returns:
        Ranges of at least two values, none of which holds most rows.
    """
    known = np.flatnonzero(left & np.isfinite(columns[number].numbers))
    order = known[np.argsort(columns[number].numbers[known], kind="stable")]
    values = columns[number].numbers[order]
    steps = np.diff(values)
    unit = float(steps[steps > 0].min()) if (steps > 0).any() else 0.0
    most = int(WIDEST * values.size)
    count = max(int(math.log(max(most, 1) / FEWEST_PLANTED) / math.log(GROWTH)) + 1, 0)
    starts, ends = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for size in np.unique((FEWEST_PLANTED * GROWTH ** np.arange(count)).astype(np.int64)):
        begin = np.arange(0, values.size - size + 1, max(1, int(size) // STEP))
        starts.append(np.searchsorted(values, values[begin], "left"))
        ends.append(np.searchsorted(values, values[begin + size - 1], "right") - 1)
    first, last = np.concatenate(starts), np.concatenate(ends)
    fit = (last - first + 1 <= max(2 * most, FEWEST_PLANTED)) & _dense(values, unit, first, last)
    each = np.unique(first[fit] * values.size + last[fit])
    return Crowded(number, order, values, unit, each // values.size, each % values.size)


def _dense(values: Floats, unit: float, first: Ints, last: Ints) -> Bools:
    """Which ranges are dense against the rows beside them, and hold no value too often."""
    held, width = last - first + 1, values[last] - values[first] + unit
    rows, flank = _flanks(values, first, last)
    beside = _flanks(values, first, last, below=False), _flanks(values, first, last, above=False)
    with np.errstate(over="ignore", invalid="ignore"):  # numbers as far apart as floats can be
        dense = held >= DENSE * rows * width / np.maximum(flank, 1e-300)
        for some_rows, wide in beside:  # a tail of nature has no more rows than what lies before it
            dense &= held >= EACH * some_rows * width / np.maximum(wide, 1e-300)
    some = np.flatnonzero(dense & (rows >= FLANK))
    kept = np.zeros(first.size, bool)
    kept[some] = _commonest(values, first[some], last[some]) <= MIXED * held[some]
    return kept


def _flanks(
    values: Floats, first: Ints, last: Ints, *, below: bool = True, above: bool = True
) -> tuple[Ints, Floats]:
    """How many rows lie beside each range, half as many or twenty a side, and how wide they lie."""
    many = np.maximum((last - first + 1) // 2, FLANK)
    low, high = (
        np.maximum(first - many * below, 0),
        np.minimum(last + many * above, values.size - 1),
    )
    width = values[first] - values[low] + values[high] - values[last]
    rows = (first - low) + (high - last)
    return np.asarray(rows, np.int64), np.asarray(width, np.float64)


def _commonest(values: Floats, first: Ints, last: Ints) -> Ints:
    """How many rows of each range have its commonest value."""
    heads = np.flatnonzero(np.append(True, np.diff(values) > 0)) if values.size else first[:0]
    counts = np.diff(np.append(heads, values.size))
    place = np.searchsorted(heads, first, "right") - 1
    end = np.searchsorted(heads, last, "right") - 1
    return np.array(
        [counts[a : b + 1].max() for a, b in zip(place, end, strict=True)], np.int64
    ).reshape(-1)


@dataclass(frozen=True, eq=False)
class Heard:
    """A range as a column of one code, its label, and ln P of the crowded range it grew from."""

    column: Column
    label: int
    log_p: float


def loudest(
    columns: list[Column], found: Crowded, labels: Ints, model: Additive, natural: float
) -> Heard | None:
    """The range of one number whose rows carry a label most, with its ends as the rows tell.

    Args:
        columns: What predicates are made of.
        found: Its crowded ranges.
        labels: int64, shape (n,).
        model: What columns say.
        natural: Log odds that a range may add by nature.

    Returns:
        None where no range nearly always has one label.
    """
    if not found.first.size:
        return None
    own = columns[found.column]
    chance = model.without(found.order, {own.name})
    mine = labels[found.order]
    best: tuple[float, int, int] = (0.0, -1, -1)
    for label in np.unique(mine):
        hit = mine == label
        total = np.append(0, np.cumsum(hit))
        rate = raised(chance[:, label], natural)
        lower = np.append(0.0, np.cumsum(np.log(rate)))
        hits, told = (part[found.last + 1] - part[found.first] for part in (total, lower))
        pure = hits >= PURE * (found.last - found.first + 1)
        pure = np.flatnonzero(pure & (told < -LEAST_ROWS))  # none of less could pass the bar
        for number in pure.tolist():
            part = slice(found.first[number], found.last[number] + 1)
            one = np.zeros(rate[part].size, np.int64)
            log_p = float(log_tails(one, rate[part], hit[part], 1)[0])
            best = min(best, (log_p, int(label), number))
    log_p, label, number = best
    if number < 0:
        return None
    low, high = int(found.first[number]), int(found.last[number])
    for _ in range(REFITS):  # how dense it is hangs on its ends
        ends = _ends(found, low, high, chance[:, label], mine == label)
        if ends == (low, high):
            break
        low, high = ends
    if not _dense(found.values, found.unit, np.array([low]), np.array([high]))[0]:
        return None
    return Heard(_column(own, found, low, high), label, log_p)


def _ends(found: Crowded, first: int, last: int, chance: Floats, hit: Bools) -> tuple[int, int]:
    """The run of values, as places of rows, that labels and density tell best from those beside.

    Each row adds how much likelier it is planted than natural, each gap how much likelier it is
    where rows are dense; the best run is that of the largest sum.
    """
    held, values = last - first + 1, found.values
    inside = held / (values[last] - values[first] + found.unit)
    rows, width = _flanks(values, np.array([first]), np.array([last]))
    outside = float(rows[0]) / max(float(width[0]), 1e-300)
    crowd = min(math.log(inside / outside), CROWDED)
    start, stop = max(first - held - FLANK, 0), min(last + held + FLANK, values.size - 1)
    start = int(np.searchsorted(values, values[start], "left"))
    stop = int(np.searchsorted(values, values[stop], "right"))
    told = np.clip(chance[start:stop], 0.005, 0.995)
    gain = np.where(hit[start:stop], np.log(RIGHT / told), np.log((1.0 - RIGHT) / (1.0 - told)))
    gain = gain + crowd
    values = values[start:stop]
    heads = np.flatnonzero(np.append(True, np.diff(values) > 0))
    gain = np.add.reduceat(gain, heads)
    lost = np.append(0.0, np.diff(values[heads])) * (inside - outside)
    best, run, begin, ends = -math.inf, -math.inf, 0, (0, 0)
    for place in range(heads.size):
        if run - lost[place] > 0:
            run += gain[place] - lost[place]
        else:
            run, begin = float(gain[place]), place
        if run > best:
            best, ends = run, (begin, place)
    tails = np.append(heads[1:], values.size) - 1
    return start + int(heads[ends[0]]), start + int(tails[ends[1]])


def _column(own: Column, found: Crowded, low: int, high: int) -> Column:
    code = np.full(own.code.size, -1)
    code[found.order[low : high + 1]] = 0
    values = found.values
    below = float(values[low - 1]) if low > 0 else -math.inf
    above = float(values[high + 1]) if high + 1 < values.size else math.inf
    ends = float(values[low]), float(values[high])
    told = own.between(*(rounded(below, *ends, above) if own.decimal else ends))
    return Column(own.name, code, (told,), numbers=own.numbers, kind=own.kind)


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
