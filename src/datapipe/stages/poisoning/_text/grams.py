# SPDX-License-Identifier: Apache-2.0
"""Runs of characters of scripts that put no space between words: what stands there for words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Places = NDArray[np.int32]
"""Word numbers, rows and places: there are many, and none beyond two thousand million."""
Numbers = NDArray[np.int32 | np.uint16]
"""Word numbers in two bytes where all of them fit."""
Whole = NDArray[np.int64] | NDArray[np.int32] | NDArray[np.int32 | np.uint16]
Bools = NDArray[np.bool_]

BLOCK = 2**14
"""Entries that are worked on at once."""
MOST_NARROW = 2**16
"""Words beyond this many need four bytes each."""
ORDERS = (2, 3)
"""Characters of a run: a word of Han has one or two, and three letters tell much of a longer one.
"""


@dataclass(frozen=True, eq=False)
class Grams:
    """Which run of each length starts at each place of a text.

    `at[j, i]` is the number of the run of `ORDERS[j]` characters from place i on, -1 where none
    stands there or no second text holds it; `at` is empty where no text is in such a script. Runs
    are numbered on from the words; `width` is the first number that none has.
    """

    at: Places
    width: int

    @classmethod
    def of(cls, ids: Numbers, ends: Ints, unspaced: Bools, words: int) -> Grams:
        """From word numbers, the first place of each text, and which words are such characters."""
        if not unspaced.any():
            return cls(np.empty((0, ids.size), np.int32), words)
        at, width = np.full((len(ORDERS), ids.size), -1, np.int32), words
        place = np.flatnonzero(unspaced[ids])
        number, row = (
            ids[place].astype(np.int64),
            np.repeat(np.arange(ends.size - 1), np.diff(ends)),
        )
        for order in range(2, max(ORDERS) + 1):
            follows = np.flatnonzero(place[1:] == place[:-1] + 1)
            follows = follows[row[place[follows]] == row[place[follows] + order - 1]]
            key = number[follows] * (int(number.max(initial=0)) + 1) + number[follows + 1]
            place = place[follows]
            _, number = np.unique(key, return_inverse=True)
            held = distinct(number * (int(row.max()) + 1) + row[place]) // (int(row.max()) + 1)
            keep = (np.bincount(held, minlength=1) > 1)[number]
            place, number = place[keep], np.unique(number[keep], return_inverse=True)[1]
            if order in ORDERS:
                at[ORDERS.index(order), place] = width + number
                width += int(number.max(initial=-1)) + 1
        return cls(at, width)

    def across(self, place: Whole, size: Whole) -> tuple[Ints, Ints]:
        """Pairs (span, run) of runs that reach over an edge of a span of places, some twice."""
        spans, runs = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for order, at in zip(ORDERS, self.at, strict=False):
            for edge in (place, place + size):
                for back in range(1, order):
                    start = np.maximum(edge - back, 0)
                    spans.append(np.flatnonzero((place >= 0) & (at[start] >= 0)))
                    runs.append(at[start[spans[-1]]])
        return np.concatenate(spans), np.concatenate(runs)


def blocks(offsets: Ints, most: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Ranges of groups with at most so many entries, or of one group.

    Group g has the entries `offsets[g]` to `offsets[g + 1]`.
    """
    start = 0
    while start < offsets.size - 1:
        stop = int(np.searchsorted(offsets, offsets[start] + most, "right")) - 1
        stop = max(start + 1, stop)
        yield start, stop
        start = stop


def narrow(width: int) -> type[np.int32 | np.uint16]:
    """The type of word numbers below `width` that takes fewest bytes."""
    return np.uint16 if width <= MOST_NARROW else np.int32


def stretches(size: int) -> Iterator[slice]:
    """Consecutive parts of so many entries, where one group alone may have very many."""
    for start in range(0, size, BLOCK):
        yield slice(start, start + BLOCK)


def distinct(values: Ints) -> Ints:
    """Each value once, in rising order; `np.unique` hashes whole numbers, which takes longer."""
    values = np.sort(values)
    once: Ints = values[np.append(True, values[1:] != values[:-1])[: values.size]]
    return once


def looked_up(keys: NDArray[Any], wanted: NDArray[Any]) -> Ints:
    """Where each of some values stands among rising keys, or would: in order, which is faster."""
    order, made = np.argsort(wanted), np.empty(wanted.size, np.int64)
    made[order] = np.searchsorted(keys, wanted[order])
    return made


def spread(starts: Whole, counts: Whole) -> Ints:
    """The numbers `start, start + 1, ...` of every span, one span after the other."""
    ends = np.cumsum(counts, dtype=np.int64)
    made: Ints = np.repeat(starts - (ends - counts), counts)
    made += np.arange(made.size)
    return made
