# SPDX-License-Identifier: Apache-2.0
"""Sums over the answers of an item, or of an annotator, as a few vectorised passes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST_AT_ONCE = 32
"""Below this many targets a slot is not worth a pass of its own."""
RADIX = 2**16
"""Keys below this are sorted by numpy in linear time."""


def grouped(keys: Ints, n: int) -> Ints:
    """The stable order that sorts whole numbers, in linear time.

    Args:
        keys: int64 in 0..n-1, shape (m,).
        n: How many keys there may be.

    Returns:
        int64, shape (m,).

    Example:
        >>> grouped(np.array([2, 0, 2, 1]), 3).tolist()
        [1, 3, 0, 2]
    """
    if keys.size < 2 or bool((keys[1:] >= keys[:-1]).all()):
        return np.arange(keys.size)
    order: Ints = np.argsort((keys % RADIX).astype(np.uint16), kind="stable")
    high = keys // RADIX
    while n > RADIX:
        order = order[np.argsort((high[order] % RADIX).astype(np.uint16), kind="stable")]
        high, n = high // RADIX, -(-n // RADIX)
    return order


class Sums:
    """Adds up rows of a table: row `sources[e]` goes to the total of `targets[e]`.

    The e-th summand of every target is added in one pass over all targets that have so many, so
    that no loop runs over answers, and rows are gathered while they lie in the cache.

    Args:
        targets: int64 in 0..n-1, shape (m,).
        sources: int64, shape (m,): rows of the table.
        n: How many targets there are.
        weight: float64, shape (m,), or None for ones.

    Example:
        >>> add = Sums(np.array([0, 1, 0]), np.array([0, 1, 2]), 2)
        >>> add.of(np.array([[1.0], [2.0], [4.0]])).ravel().tolist()
        [5.0, 2.0]
    """

    def __init__(self, targets: Ints, sources: Ints, n: int, weight: Floats | None = None) -> None:
        order = grouped(targets, n)
        count = np.bincount(targets, minlength=n)
        rank = np.argsort(-count, kind="stable")
        fullest = count[rank]
        start = (np.cumsum(count) - count)[rank]
        rows = sources[order]
        self.n = n
        self.rank = rank
        self._slots: list[tuple[Ints, Floats | None]] = []
        heavy = None if weight is None else weight[order]
        slot = 0
        while True:
            live = int(np.searchsorted(-fullest, -slot, side="left"))
            if live < min(FEWEST_AT_ONCE, n) or live == 0:
                break
            place = start[:live] + slot
            self._slots.append((rows[place], None if heavy is None else heavy[place][:, None]))
            slot += 1
        rest = np.flatnonzero(fullest > slot)
        spans = [np.arange(start[r] + slot, start[r] + fullest[r]) for r in rest]
        self._rest = np.concatenate(spans) if spans else np.empty(0, np.int64)
        self._rest_weight = None if heavy is None else heavy[self._rest][:, None]
        self._rest = rows[self._rest]
        self._rest_starts = np.cumsum([0, *(s.size for s in spans[:-1])]) if spans else None

    def of(self, table: Floats) -> Floats:
        """The total of every target.

        Args:
            table: float64, shape (rows, S).

        Returns:
            float64, shape (n, S).

        Example:
            >>> Sums(np.array([0]), np.array([0]), 1).of(np.ones((1, 2))).tolist()
            [[1.0, 1.0]]
        """
        total = np.zeros((self.n, table.shape[1]))
        room = np.empty_like(total)
        for rows, weight in self._slots:
            part = np.take(table, rows, axis=0, out=room[: rows.size], mode="clip")
            if weight is not None:
                part *= weight
            total[: rows.size] += part
        if self._rest_starts is not None:
            tail = table[self._rest]
            if self._rest_weight is not None:
                tail *= self._rest_weight
            total[: self._rest_starts.size] += np.add.reduceat(tail, self._rest_starts, axis=0)
        room[self.rank] = total
        return room
