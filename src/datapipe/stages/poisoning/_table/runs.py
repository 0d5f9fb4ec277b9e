# SPDX-License-Identifier: Apache-2.0
"""Runs of a number's values that their labels alone tell from those beside, crowded or not.

Whoever flips the labels of all rows in a range adds no row, so that nothing crowds there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.crowds import FLANK, MIXED, Crowds
from datapipe.stages.poisoning._table.predicates import FEWEST_PLANTED, LEAST_ROWS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

RIGHT = 0.97
"""Share of a planted range's rows that have its label."""


@dataclass(frozen=True)
class Run:
    """Places `first` to `last` of sorted rows, a label, and ln of the pairs of ends there are."""

    first: int
    last: int
    label: int
    price: float


def runs_of(found: Crowds, labels: Ints, rate: Floats) -> list[Run]:
    """Of each label the run of values that it tells best, in all rows or in those of a category.

    Each row adds how much likelier its label is in such a run than by nature; the best run is that
    of the largest sum.

    Args:
        found: Rows sorted by category, then by number.
        labels: int64, shape (m,): those of the sorted rows.
        rate: float64, shape (m, K): the chance of each label by nature.

    Returns:
        Runs of two values or more, none of which holds most rows, with hardly another label, with
        rows below and above, that say more than is paid for all pairs of ends; the most telling
        first. Nature has rules for all beyond a bound, and exceptions to its rules.
    """
    values, begins = found.values, found.begins
    if values.size < FEWEST_PLANTED:
        return []
    heads = np.flatnonzero(
        (np.diff(values, prepend=np.nan) != 0) | (begins == np.arange(values.size))
    )
    tails = np.append(heads[1:], values.size) - 1
    starts = np.flatnonzero(np.diff(begins[heads], prepend=-1))
    part = np.repeat(np.arange(starts.size), np.diff(np.append(starts, heads.size)))
    price = 2.0 * np.log(np.diff(np.append(starts, heads.size)))
    hit, told = np.eye(rate.shape[1], dtype=bool)[labels], np.clip(rate, 1e-3, 1.0 - 1e-3)
    gain = np.where(hit, np.log(RIGHT / told), np.log((1.0 - RIGHT) / (1.0 - told)))
    best = _best(np.add.reduceat(gain, heads), part, starts, price)
    made = []
    for begin, end, label in sorted(best, key=lambda b: -best[b]):
        first, last = int(heads[begin]), int(tails[end])
        held = last - first + 1
        pure = int(hit[first : last + 1, label].sum()) >= max(RIGHT * held, FEWEST_PLANTED)
        mixed = int((tails - heads)[begin : end + 1].max()) + 1 <= MIXED * held
        inside = first - found.begins[first] >= FLANK and found.ends[first] - last >= FLANK
        if begin < end and pure and mixed and inside:
            made.append(Run(first, last, label, float(price[part[begin]])))
    return made


def _best(
    gain: Floats, part: Ints, starts: Ints, price: Floats
) -> dict[tuple[int, int, int], float]:
    """First and last value of the run with the largest sum, of each category and label."""
    total = gain.cumsum(0)
    before = total - gain
    apart = (float(np.ptp(total)) + float(np.abs(gain).max()) + 1.0) * part[:, None]
    least = np.minimum.accumulate(before - apart, axis=0)  # anew in each category
    place = np.where(before - apart <= least, np.arange(part.size)[:, None], -1)
    begin = np.maximum.accumulate(place, axis=0)
    said = total - apart - least
    most = np.maximum.reduceat(said, starts, axis=0)
    made = {}
    for one, label in np.argwhere(most > price[:, None] + LEAST_ROWS).tolist():
        stop = starts[one + 1] if one + 1 < starts.size else part.size
        end = int(starts[one] + np.argmax(said[starts[one] : stop, label]))
        net = float(most[one, label] - price[one])
        made[int(begin[end, label]), end, int(label)] = net
    return made
