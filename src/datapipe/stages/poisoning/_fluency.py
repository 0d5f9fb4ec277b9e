# SPDX-License-Identifier: Apache-2.0
"""How well a text reads without a pattern, by the bigrams of the data itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._ngrams import END, START, Candidates, Words

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SMOOTH = 0.1


def deletion_gain(words: Words, found: Candidates) -> Floats:
    """Mean gain in log likelihood where a candidate is deleted; 0 for one without words.

    What joins a candidate to its neighbours is counted without the row in question, so that a rare
    word does not speak for itself. At the edge of a text only the other side counts.
    """
    pairs = _Pairs(words)
    has = np.flatnonzero(found.place >= 0)
    of = found.of[has]
    start = found.place[has]
    stop = start + found.size[of] - 1
    at_start, at_end = words.ids[start] == START, words.ids[stop] == END
    inside = ~(at_start & at_end)
    of, start, stop = of[inside], start[inside], stop[inside]
    at_start, at_end = at_start[inside], at_end[inside]
    left = np.where(at_start, START, words.ids[np.maximum(start - 1, 0)])
    right = np.where(at_end, END, words.ids[np.minimum(stop + 1, words.ids.size - 1)])
    before = pairs.strength(left, words.ids[start], 1)
    after = pairs.strength(words.ids[stop], right, 1)
    joined = np.where(at_start, after, np.where(at_end, before, 0.5 * (before + after)))
    gain = pairs.strength(left, right, 0) - joined
    counts = np.bincount(of, minlength=found.size.size)
    total = np.bincount(of, gain, minlength=found.size.size)
    return np.asarray(total / np.maximum(counts, 1), np.float64)


class _Pairs:
    """Log ratio of how often two words follow each other to how often chance would have it."""

    def __init__(self, words: Words) -> None:
        inner = words.row[1:] == words.row[:-1]
        self.width = len(words.spelt)
        keys = words.ids[:-1][inner] * self.width + words.ids[1:][inner]
        self.keys, self.seen = np.unique(keys, return_counts=True)
        self.left = np.bincount(words.ids[:-1][inner], minlength=self.width)
        self.right = np.bincount(words.ids[1:][inner], minlength=self.width)
        self.total = float(keys.size)

    def strength(self, left: Ints, right: Ints, less: int) -> Floats:
        """Ln of seen over expected, both smoothed, `less` occurrences left out."""
        wanted = left * self.width + right
        entry = np.minimum(np.searchsorted(self.keys, wanted), self.keys.size - 1)
        seen = np.where(self.keys[entry] == wanted, self.seen[entry], 0)
        a = np.maximum(self.left[left] - less, 0.0)
        b = np.maximum(self.right[right] - less, 0.0)
        seen = np.maximum(seen - less, 0.0)
        expected = (a + 1.0) * (b + 1.0) / self.total
        return np.asarray(np.log((seen + SMOOTH) / (expected + SMOOTH)), np.float64)
