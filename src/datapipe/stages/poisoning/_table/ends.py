# SPDX-License-Identifier: Apache-2.0
"""Where a planted range begins and ends: which rows it holds, as likely as they can be told.

Rows with the label come from two sources, each a Poisson process along the number: natural ones as
dense as beside the range, and planted ones spread over it. Rows of other labels come from nature
alone and say nothing of where planted ones end. What is told is a set of rows, not two numbers: an
end lies anywhere between two values, and the wider that gap, the likelier it holds the end.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._table.crowds import FLANK, Crowds, crowded
from datapipe.stages.poisoning._table.predicates import PURE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

REFITS = 8
BEYOND = 0.25
"""Chance that a range has one bound only, and holds all rows beyond it."""
SURE = 0.005
"""Least chance of a label by nature, whatever columns say."""
LIKELY = 0.8
"""Greatest chance of it, whatever they say."""
NARROW = 1e-9
"""Least chance that an end lies in a gap."""


def part_of(order: Ints, values: Floats, unit: float) -> Crowds:
    """Sorted rows of one kind, with their numbers and the least step between two."""
    begins, ends = np.zeros(order.size, np.int64), np.full(order.size, order.size - 1)
    return Crowds(order, values, begins, ends, unit, begins[:0], begins[:0])


def fitted(part: Crowds, low: int, high: int, chance: Floats, hit: Bools) -> tuple[int, int]:
    """The ends of a range that labels and density tell; as they are where these lead astray.

    The rows that it is held against stay the same until it reaches their end, so that each step
    is likelier than the last: with those beside each new range ends would go to and fro.

    Args:
        part: The sorted rows among which it lies.
        low: Place of its first row, about.
        high: Place of its last.
        chance: float64, shape (m,): that of its label, by columns that were left alone.
        hit: bool, shape (m,): the rows that have it.

    Returns:
        Places of the first and the last row.
    """
    first, last, beside = low, high, _beside(part, low, high)
    for _ in range(REFITS):  # how dense it is hangs on its ends
        ends = _ends(part, (low, high), beside, chance, hit)
        if ends == (low, high):
            break
        (low, high), far = ends, _beside(part, *ends)
        if low == beside[0] or high == beside[1] - 1:
            beside = min(beside[0], far[0]), max(beside[1], far[1])
    added = np.append(hit[low:first], hit[last + 1 : high + 1])
    mine = not added.size or added.mean() >= PURE  # what was crowded may hold it, or it that
    return (low, high) if mine or dense(part, low, high) else (first, last)


def dense(part: Crowds, low: int, high: int) -> bool:
    """Whether a range holds more rows than those beside it foretell."""
    return bool(crowded(part, np.array([low]), np.array([high]))[0] > 0)


def _beside(part: Crowds, low: int, high: int) -> tuple[int, int]:
    """First place, and the one behind the last, of a range and of as many rows on each side."""
    held = high - low + 1
    start, stop = max(low - held - FLANK, 0), min(high + held + FLANK, part.values.size - 1)
    whole = np.searchsorted(part.values, part.values[start], "left")
    return int(whole), int(np.searchsorted(part.values, part.values[stop], "right"))


def _ends(
    part: Crowds, ends: tuple[int, int], beside: tuple[int, int], chance: Floats, hit: Bools
) -> tuple[int, int]:
    """The run of values, as places of rows, that most likely holds the planted rows and no other.

    Each row with the label adds how much likelier it is where rows are planted, each step between
    values costs the planted rows that it lacks; the best run is that of the largest sum.
    """
    (first, last), (start, stop) = ends, beside
    values, hit = part.values[start:stop], hit[start:stop]
    low, high = first - start, last - start + 1
    width = max(float(values[high - 1] - values[low]) + part.unit, 1e-300)
    told = np.clip(chance[start:stop], SURE, 1.0 - SURE)
    outside = np.append(hit[:low], hit[high:])
    usual = float(told[:low].sum() + told[high:].sum())
    told = np.minimum(told * max((float(outside.sum()) + 1.0) / (usual + 1.0), 1.0), LIKELY)
    natural = _others(values, values[~hit], part.unit) * told / (1.0 - told)
    planted = float(hit[low:high].sum()) / width
    for _ in range(REFITS):
        share = planted / (planted + natural[low:high])
        planted = max(float(share[hit[low:high]].sum()), 1.0) / width
    gain = np.where(hit, np.log1p(planted / natural), 0.0)
    heads = np.flatnonzero(np.append(True, np.diff(values) > 0))
    tails = np.append(heads[1:], values.size) - 1
    gain = np.add.reduceat(gain, heads)
    lost = planted * (values[heads] - values[0])
    run = np.cumsum(gain)
    extent = planted * max(float(part.values[-1] - part.values[0]), width)
    open_ended = math.log(max(BEYOND / (1.0 - BEYOND) * extent, 1.0))
    below, above = part.values[start - 1 : start], part.values[stop : stop + 1]
    edges = np.concatenate([below, values[heads], above])
    gap = np.log(np.maximum(-np.expm1(-planted * np.diff(edges)), NARROW))
    opens = gap if below.size else np.append(open_ended, gap)
    closes = gap[-heads.size :] if above.size else np.append(gap, open_ended)[-heads.size :]
    before = run - gain - lost - opens[: heads.size]
    after = run - lost + closes
    place = int(np.argmax(after - np.minimum.accumulate(before)))
    begin = int(np.argmin(before[: place + 1]))
    return start + int(heads[begin]), start + int(tails[place])


def _others(values: Floats, others: Floats, unit: float) -> Floats:
    """How dense rows of other labels are about some values, by the twenty nearest, or at one.

    No more than the gap between two of them leaves, or that before the first and behind the last.
    """
    near = min(FLANK // 2, others.size)
    if near == 0:
        return np.full(values.size, 1.0 / max(float(values[-1] - values[0]) + unit, 1e-300))
    place = np.searchsorted(others, values, "left")
    start = np.maximum(place - near, 0)
    stop = np.minimum(place + near, others.size)
    below = np.minimum(others[start], values)
    above = np.maximum(others[stop - 1], values)
    dense: Floats = (stop - start) / np.maximum(above - below + unit, 1e-300)
    behind = np.searchsorted(others, values, "right")
    before, after = np.append(-np.inf, others)[place], np.append(others, np.inf)[behind]
    between, far = after - before, np.minimum(after - values, values - before)
    sides = np.where(
        np.isfinite(between), 2.0 / np.maximum(between, 1e-300), 1.0 / np.maximum(far, 1e-300)
    )
    dense, same = np.minimum(dense, sides), behind - place
    return np.asarray(np.maximum(dense, same / max(unit, 1e-300)), np.float64)
