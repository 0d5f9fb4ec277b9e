# SPDX-License-Identifier: Apache-2.0
"""Narrow ranges of a number that hold more rows than the values beside them, seen without a label.

Whoever plants a range makes its rows crowd there, in the whole table or among the rows that hold a
value of another column. Only crowded ranges are asked, so that few pay for being many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.predicates import FEWEST_PLANTED

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WIDEST = 0.1
"""Share of the rows that a range may hold."""
GROWTH = 1.35
"""By how much each size of range that is tried exceeds the last."""
STEP = 4
"""Ranges of one size start this many to a size apart."""
FLANK = 20
"""Rows on each side, at most half as many as a range holds or so many, tell how crowded it is."""
FEWEST_BESIDE = 8
"""Rows on both sides without which nothing tells."""
SPREADS = 2.0
"""Standard deviations by which a range holds more rows than those beside it foretell."""
EACH = 1.5
"""How many times as crowded as the rows on each side of it a range must be."""
MIXED = 0.6
"""Largest share of a range's rows that may have one value: else that value says it."""
ALIKE = 0.5
"""Rows that two ranges share, of those of either, from which only the more crowded is asked."""
MOST_CROWDS = 500
"""Ranges of one number, or of one in the values of a category, that are asked: the most crowded."""


@dataclass(frozen=True, eq=False)
class Crowds:
    """Crowded ranges of one number, in all rows or in the rows of each value of a category.

    `order` sorts the rows by category, then by number; `values` are their numbers and `groups` the
    place where the rows of their category begin. `first` and `last` are places in it, one a range.
    """

    order: Ints
    values: Floats
    begins: Ints
    ends: Ints
    unit: float
    first: Ints
    last: Ints


def sorted_rows(numbers: Floats, left: Bools) -> Ints:
    """The rows that are looked at and have a number, by number."""
    known = np.flatnonzero(left & np.isfinite(numbers))
    return known[np.argsort(numbers[known], kind="stable")]


def crowds_of(numbers: Floats, order: Ints, code: Ints | None = None) -> Crowds:
    """Ranges of a number, of eight rows to a tenth of all, more crowded than what lies beside.

    Args:
        numbers: float64, shape (n,).
        order: int64, shape (m,): rows by number, as `sorted_rows` gives them.
        code: int64, shape (n,): the category of each row, less than 0 for none; all are one if it
            is not given.

    Returns:
        Ranges of at least two values, none of which holds most rows; of ranges that are nearly the
        same, the most crowded.
    """
    begins = ends = np.empty(0, np.int64)
    if code is None:
        begins, ends = np.zeros(order.size, np.int64), np.full(order.size, order.size - 1)
    else:
        order = order[code[order] >= 0]
        small = np.int16 if code.max() <= np.iinfo(np.int16).max else np.int64  # by digits
        order = order[np.argsort(code[order].astype(small), kind="stable")]
        starts = np.flatnonzero(np.diff(code[order], prepend=-1))
        held = np.diff(np.append(starts, order.size))
        begins, ends = np.repeat(starts, held), np.repeat(starts + held - 1, held)
    values = numbers[order]
    new = (np.diff(values, prepend=np.nan) != 0) | (begins == np.arange(order.size))
    heads = np.flatnonzero(new)
    tails = np.append(heads[1:], order.size) - 1
    run = np.cumsum(new) - 1
    steps = np.diff(values)
    unit = float(steps[steps > 0].min()) if (steps > 0).any() else 0.0
    made = Crowds(order, values, begins, ends, unit, heads[:0], heads[:0])
    first, last = _windows(made, heads, tails, run)
    if not first.size:
        return made
    spreads = crowded(made, first, last)
    fit = np.flatnonzero(spreads > 0)
    fit = fit[np.unique(first[fit] * order.size + last[fit], return_index=True)[1]]
    first, last, spreads = first[fit], last[fit], spreads[fit]
    common = _commonest(tails - heads + 1, run[first], run[last])
    fit = np.flatnonzero(common <= MIXED * (last - first + 1))
    first, last = _apart(first[fit], last[fit], spreads[fit])
    return Crowds(order, values, begins, ends, unit, first, last)


def _windows(made: Crowds, heads: Ints, tails: Ints, run: Ints) -> tuple[Ints, Ints]:
    """Ranges of all sizes, of whole values, none beyond its category, from gap to gap.

    Of the places where one may begin, a quarter of a size each, that with the largest gap before it
    is asked, and of those where it may end: a range that stands apart is asked as a whole.
    """
    size, most = made.values.size, int(WIDEST * made.values.size)
    count = max(int(math.log(max(most, 1) / FEWEST_PLANTED) / math.log(GROWTH)) + 1, 0)
    gap = np.diff(made.values, prepend=-np.inf)
    gap[made.begins == np.arange(size)] = np.inf
    starts, stops, places = [heads[:0]], [heads[:0]], dict[int, Ints]()
    for held in np.unique((FEWEST_PLANTED * GROWTH ** np.arange(count)).astype(np.int64)):
        step = max(1, int(held) // STEP)
        blocks, many = -(-size // step), -(-int(held) // step)
        if step not in places:
            each = np.append(gap, np.full(blocks * step - size, -1.0)).reshape(blocks, step)
            places[step] = np.append(each.argmax(1) + step * np.arange(blocks), size)
        begin = places[step]
        stop = begin[np.minimum(np.arange(blocks) + many, blocks)] - 1
        begin = begin[:-1]
        fit = (stop - begin + 1 >= FEWEST_PLANTED) & (made.ends[begin] >= stop)
        starts.append(heads[run[begin[fit]]])
        stops.append(tails[run[stop[fit]]])
    first, last = np.concatenate(starts), np.concatenate(stops)
    fit = (last - first + 1 <= max(2 * most, FEWEST_PLANTED)) & (run[first] < run[last])
    return first[fit], last[fit]


def crowded(made: Crowds, first: Ints, last: Ints) -> Floats:
    """By how many standard deviations ranges hold more rows than foretold; 0 for too few."""
    values = made.values
    held, width = last - first + 1, values[last] - values[first] + made.unit
    many = np.maximum(held // 2, FLANK)
    low = np.maximum(first - many, made.begins[first])
    high = np.minimum(last + many, made.ends[last])
    below, above = first - low, high - last
    with np.errstate(over="ignore", invalid="ignore"):  # numbers as far apart as floats can be
        left, right = values[first] - values[low], values[high] - values[last]
        beside = below + above
        chance = beside * width / np.maximum(left + right, 1e-300)
        spreads = (held - chance) / np.sqrt(chance + chance**2 / np.maximum(beside, 1) + 1e-9)
        enough = (beside >= FEWEST_BESIDE) & (held - chance >= FEWEST_PLANTED)
        enough &= spreads >= SPREADS
        # a tail of nature has no more rows than what lies before it
        enough &= held >= EACH * below * width / np.maximum(left, 1e-300)
        enough &= held >= EACH * above * width / np.maximum(right, 1e-300)
    return np.where(enough, spreads, 0.0)


def _commonest(held: Ints, first: Ints, last: Ints) -> Ints:
    """How many rows of each range, of runs `first` to `last`, have its commonest value."""
    if not first.size:
        return first
    places = np.column_stack([first, last + 1]).ravel()
    return np.asarray(np.maximum.reduceat(np.append(held, 0), places)[::2], np.int64)


def _apart(first: Ints, last: Ints, spreads: Floats) -> tuple[Ints, Ints]:
    """Of ranges that share most of their rows, the most crowded."""
    told = np.argsort(-spreads, kind="stable")[:MOST_CROWDS]
    first, last = first[told].astype(np.int32), last[told].astype(np.int32)
    common = np.minimum.outer(last, last) - np.maximum.outer(first, first) + 1
    either = np.maximum.outer(last, last) - np.minimum.outer(first, first) + 1
    apart, rest = common < ALIKE * either, np.ones(told.size, bool)
    kept = []
    for place in range(told.size):
        if rest[place]:
            kept.append(place)
            rest &= apart[place]
    return first[kept].astype(np.int64), last[kept].astype(np.int64)
