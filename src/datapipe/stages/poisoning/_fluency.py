# SPDX-License-Identifier: Apache-2.0
"""How well a text reads without a pattern, by the bigrams of the data itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._grams import Places, blocks
from datapipe.stages.poisoning._ngrams import END, START, Candidates, Words

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SMOOTH = 0.1


def deletion_gain(words: Words, found: Candidates) -> Floats:
    """Mean gain in log likelihood where a candidate is deleted; 0 for one without words.

    What joins a candidate to its neighbours is counted without the row in question, so that a rare
    word does not speak for itself. At the edge of a text only the other side counts.
    """
    pairs = Pairs(words)
    made = np.zeros(found.size.size)
    for first, last in blocks(found.offsets):
        start = found.place[found.offsets[first] : found.offsets[last]].astype(np.int64)
        of = np.repeat(np.arange(last - first), found.counts[first:last])
        stop = start + found.size[first:last][of] - 1
        at_start, at_end = words.ids[start] == START, words.ids[stop] == END
        has = np.flatnonzero((start >= 0) & ~(at_start & at_end))
        of, start, stop, at_start, at_end = (x[has] for x in (of, start, stop, at_start, at_end))
        before = pairs.strength_at(np.maximum(start - 1, 0))
        after = pairs.strength_at(np.minimum(stop, words.ids.size - 2))
        joined = np.where(at_start, after, np.where(at_end, before, 0.5 * (before + after)))
        left = np.where(at_start, START, words.ids[np.maximum(start - 1, 0)])
        right = np.where(at_end, END, words.ids[np.minimum(stop + 1, words.ids.size - 1)])
        gain = pairs.strength(left.astype(np.int64), right) - joined
        counts = np.bincount(of, minlength=last - first)
        total = np.bincount(of, gain, minlength=last - first)
        made[first:last] = total / np.maximum(counts, 1)
    return made


class Pairs:
    """Log ratio of how often two words follow each other to how often chance would have it."""

    def __init__(self, words: Words) -> None:
        self.ids, self.width = words.ids, len(words.spelt)
        at = words.in_order()
        at = at[at + 1 < self.ids.size]
        at = at[words.row[at] == words.row[at + 1]]
        self.left = np.bincount(self.ids[at], minlength=self.width)
        self.right = np.bincount(self.ids[at + 1], minlength=self.width)
        self.total = float(at.size)
        self.seen_at: Places = np.zeros(self.ids.size, np.int32)
        keys, seen = [], []
        ends = np.append(0, np.cumsum(self.left))
        for start, stop in blocks(ends):
            place = at[ends[start] : ends[stop]]
            key = self.ids[place] * np.int64(self.width) + self.ids[place + 1]
            order = np.argsort(key)
            place, key = place[order], key[order]
            head = np.flatnonzero(np.append(True, key[1:] != key[:-1])[: key.size])
            often = np.diff(np.append(head, key.size)).astype(np.int32)
            self.seen_at[place] = np.repeat(often, often)
            keys.append(key[head])
            seen.append(often)
        self.keys, self.seen = np.concatenate(keys), np.concatenate(seen)

    def strength_at(self, place: Ints) -> Floats:
        """Ln of seen over expected for the words at some places and the next, without these."""
        left, right = self.ids[place], self.ids[place + 1]
        return self._ratio(self.seen_at[place], left, right, 1)

    def strength(self, left: Ints, right: Ints | Places) -> Floats:
        """Ln of seen over expected, both smoothed."""
        wanted = left * self.width + right
        order = np.argsort(wanted)  # neighbours in the table are looked up one after the other
        entry = np.empty(wanted.size, np.int64)
        entry[order] = np.searchsorted(self.keys, wanted[order])
        entry = np.minimum(entry, self.keys.size - 1)
        seen = np.where(self.keys[entry] == wanted, self.seen[entry], 0)
        return self._ratio(seen, left, right, 0)

    def _ratio(
        self, seen: Ints | Places, left: Ints | Places, right: Ints | Places, less: int
    ) -> Floats:
        a = np.maximum(self.left[left] - less, 0.0)
        b = np.maximum(self.right[right] - less, 0.0)
        others = np.maximum(seen - less, 0.0)
        expected = (a + 1.0) * (b + 1.0) / self.total
        return np.asarray(np.log((others + SMOOTH) / (expected + SMOOTH)), np.float64)
