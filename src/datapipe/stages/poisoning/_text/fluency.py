# SPDX-License-Identifier: Apache-2.0
"""How well a text reads without a pattern, by the bigrams of the data itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._text.candidates import FORM, Candidates
from datapipe.stages.poisoning._text.grams import (
    MOST_NARROW,
    Numbers,
    Places,
    Whole,
    blocks,
    looked_up,
    narrow,
    stretches,
)
from datapipe.stages.poisoning._text.misplaced import Misplaced
from datapipe.stages.poisoning._text.words import END, START, Words

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
SMOOTH = 0.1
SIGN = r"^[^\p{L}\p{M}\p{N}_]$"
PART, PARTS = 2**19, 2
"""Pairs that are counted at once: so many, or this part of all, for their table is large."""


def deletion_gain(words: Words, found: Candidates) -> tuple[Floats, Misplaced]:
    """Mean gain in log likelihood where a candidate is deleted; 0 for one without words.

    What joins a candidate to its neighbours is counted without the row in question, so that a rare
    word does not speak for itself. At the edge of a text only the other side counts. What signs
    join is deleted whole: an address, and not only what all addresses share. Of single words the
    gain at each place is told, too.
    """
    made, each = np.zeros(found.size.size), Misplaced.empty(found)
    for pairs in Pairs.parts(words, found.at):
        for which, (of, _, place) in found.blocks():
            for some in stretches(of.size):
                mine = which[of[some]]
                gain = _gain(pairs, found, mine, place[some])
                made[which] += np.bincount(of[some], gain, which.size)
                step = some.start + np.arange(mine.size) - np.searchsorted(of, of[some])
                each.add(mine, step, gain)
    return np.asarray(made / np.maximum(found.counts, 1), np.float64), each.divided(words.rows)


def _gain(pairs: Pairs, found: Candidates, which: Ints, start: Ints) -> Floats:
    """What some of the pairs add to the gain of each occurrence."""
    ids = pairs.words.ids
    start, stop = _whole(pairs.words, found, which, start)
    at_start, at_end = ids[start] == START, ids[stop] == END
    has = (start >= 0) & ~(at_start & at_end)
    left = np.where(at_start, START, ids[np.maximum(start - 1, 0)])
    right = np.where(at_end, END, ids[np.minimum(stop + 1, ids.size - 1)])
    made = pairs.joined(left, right, has)
    alone = 0.5 + 0.5 * (at_start | at_end)
    for joint, edge in ((start - 1, at_start), (stop, at_end)):
        made -= alone * pairs.strength(joint, has & ~edge)
    return made


def _whole(words: Words, found: Candidates, which: Ints, start: Ints) -> tuple[Ints, Ints]:
    """The first and last place of each occurrence; a form reaches over rare words and its own."""
    stop = start + found.size[which] - 1
    some = np.flatnonzero((start >= 0) & ((found.kind[which] & FORM) > 0))
    if not some.size:
        return start, stop
    width, asked = len(words.spelt), np.unique(which[some])
    own = np.concatenate([g * width + found.owns(g).astype(np.int64) for g in asked.tolist()])
    made = []
    for at, step in ((start, -1), (stop, 1)):
        edge, going = at.copy(), some
        while going.size:
            word = words.ids[np.clip(edge[going] + step, 0, words.ids.size - 1)].astype(np.int64)
            joined = (words.texts[word] == 1) | (
                (word > END) & np.isin(which[going] * width + word, own)
            )
            going = going[joined]
            edge[going] += step
        going = some
        while (going := going[edge[going] != at[going]]).size:
            # A sign at its end is one that ends what stands around it.
            going = going[words.spelt.gather(words.ids[edge[going]]).str.contains(SIGN).to_numpy()]
            edge[going] -= step
        made.append(edge)
    return made[0], made[1]


class Usage:
    """How often each word is followed by another, and preceded by one."""

    def __init__(self, words: Words) -> None:
        self.left = words.counts()
        self.right = self.left.copy()
        self.left[END] = self.right[START] = 0  # nothing follows the one, or precedes the other
        self.total = float(self.left.sum())

    def ratio(self, seen: Whole, left: Whole, right: Whole, less: int) -> Floats:
        """Ln of how often pairs were seen to how often chance has it, `less` of each, smoothed."""
        expected = np.maximum(self.left[left] - float(less), 0.0) + 1.0
        expected *= np.maximum(self.right[right] - float(less), 0.0) + 1.0
        expected /= self.total
        others = np.maximum(seen - float(less), 0.0)
        others += SMOOTH
        expected += SMOOTH
        others /= expected
        return np.asarray(np.log(others, out=others), np.float64)


class Pairs:
    """Log ratio of how often two words follow each other to how often chance would have it.

    It tells pairs whose first word is one of some only, 0 for the others.
    """

    def __init__(self, words: Words, usage: Usage, seen_at: Numbers, span: tuple[int, int]) -> None:
        self.words, self.width, self.span = words, len(words.spelt), span
        self.usage, self.seen_at = usage, seen_at
        self.key_of = np.uint32 if self.width <= MOST_NARROW else np.int64
        self.keys, self.seen = np.empty(0, self.key_of), np.empty(0, np.uint16)

    @classmethod
    def parts(cls, words: Words, at: Places) -> Iterator[Pairs]:
        """All pairs, those of some first words after the other; `at` has the places in order."""
        ends = np.append(0, np.cumsum(words.counts()))
        usage, most = Usage(words), max(PART, words.ids.size // PARTS)
        if len(words.spelt) <= MOST_NARROW:
            most = words.ids.size  # a key takes half the room then, and each part takes its time
        seen_at = np.zeros(words.ids.size, np.uint16)
        for start, stop in blocks(ends, most):
            made = cls(words, usage, seen_at, (start, stop))
            made._count(at, ends)
            yield made

    def _count(self, at: Places, ends: Ints) -> None:
        keys, seen = [self.keys], [self.seen]
        ends = ends[self.span[0] : self.span[1] + 1]
        for start, stop in blocks(ends - ends[0]):
            place, first = at[ends[start] : ends[stop]], self.span[0] + start
            if first <= END:
                place = place[self.words.ids[place] != END]
            count = self._count_one if stop == start + 1 else self._count_some
            key, often = count(place, first)
            keys.append(key.astype(self.key_of))
            seen.append(often.astype(narrow(int(often.max(initial=0)) + 1)))
        self.keys = np.concatenate(keys)
        keys.clear()
        self.seen = np.concatenate(seen)

    def _count_some(self, place: Places, _: int) -> tuple[Ints, Ints]:
        """The pairs at some places and how often each occurs, which is noted at each place."""
        key = self.words.ids[place] * np.int64(self.width) + self.words.ids[place + 1]
        order = np.argsort(key)
        key = key[order]
        head = np.flatnonzero(np.append(True, key[1:] != key[:-1])[: key.size])
        often = np.diff(np.append(head, key.size))
        self._hold(often)
        self.seen_at[place[order]] = np.repeat(often, often)
        return key[head], often

    def _count_one(self, place: Places, first: int) -> tuple[Ints, Ints]:
        """The same where all begin with one word, which may stand in very many places."""
        often = np.zeros(self.width, np.int64)
        for some in stretches(place.size):
            often += np.bincount(self.words.ids[place[some] + 1], minlength=self.width)
        self._hold(often)
        for some in stretches(place.size):
            self.seen_at[place[some]] = often[self.words.ids[place[some] + 1]]
        after = np.flatnonzero(often)
        return first * self.width + after, often[after]

    def _hold(self, often: Whole) -> None:
        """Make room for numbers that two bytes do not hold, once one of them comes."""
        if often.max(initial=0) >= MOST_NARROW:
            self.seen_at = self.seen_at.astype(np.int32, copy=False)

    def strength(self, place: Ints, has: Bools) -> Floats:
        """Ln of seen over expected for the words at some places and the next, without these."""
        made = np.zeros(place.size)
        asked = np.flatnonzero(has)
        left = self.words.ids[place[asked]]
        inside = (left >= self.span[0]) & (left < self.span[1])
        asked, left = asked[inside], left[inside]
        place = place[asked]
        made[asked] = self.usage.ratio(self.seen_at[place], left, self.words.ids[place + 1], 1)
        return made

    def joined(self, left: Whole, right: Whole, has: Bools) -> Floats:
        """Ln of seen over expected of two words, both smoothed."""
        made = np.zeros(left.size)
        asked = np.flatnonzero(has & (left >= self.span[0]) & (left < self.span[1]))
        if not self.keys.size:
            return made
        left, right = left[asked].astype(np.int64), right[asked].astype(np.int64)
        wanted = (left * self.width + right).astype(self.key_of)
        entry = np.minimum(looked_up(self.keys, wanted), self.keys.size - 1)
        seen = np.where(self.keys[entry] == wanted, self.seen[entry], 0)
        made[asked] = self.usage.ratio(seen, left, right, 0)
        return made
