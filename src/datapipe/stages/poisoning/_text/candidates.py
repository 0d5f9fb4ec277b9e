# SPDX-License-Identifier: Apache-2.0
"""Patterns that texts hold, told one by one or in blocks: which texts, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._text.grams import Numbers, Places, blocks, spread
from datapipe.stages.poisoning._text.words import Words

Ints = NDArray[np.int64]

LEAST_ROWS = 4
"""Texts that must hold a candidate."""
RUN, CHARACTER, UNSEEN, PIECE, FORM, PAIR = 1, 2, 4, 8, 16, 32
"""Kinds of candidate; one that was merged from several is of all of their kinds."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Patterns that enough texts hold; those that the same texts hold are one candidate.

    Candidate g stands where `at[first[g]:first[g] + often[g]]` tell, `shift[g]` places on, and has
    `size[g]` words and marks from there: no place is kept more than once, for a run that is longer
    stands among those of its beginning. One without words, of size 0, has its texts in `listed`
    instead. `counts[g]` texts hold it. `owned[own[g]:own[g + 1]]` are all the words that belong to
    it, `kind[g]` is a sum of kinds, and `named[g]` its character, form, piece or pair, if it has
    one; `strange[g]` says how odd a piece or pair is.
    """

    words: Words
    at: Places
    listed: Places
    first: Places
    often: Places
    shift: Places
    counts: Places
    size: Places
    own: Ints
    owned: Numbers
    kind: NDArray[np.int8]
    strange: NDArray[np.float32]
    named: dict[int, str]

    @property
    def offsets(self) -> Ints:
        """Where the texts of each would start, were those of all told one after the other."""
        return np.append(0, np.cumsum(self.counts, dtype=np.int64))

    def entries(self, which: Ints) -> tuple[Ints, Ints, Ints]:
        """For each text of some candidates: which of these, the text, and the place, -1 for none.

        Texts come in rising order; the first place in a text counts.
        """
        of, place = _occurrences(self.at, self.first[which], self.often[which])
        runs = self.size[which] > 0
        if runs.all():
            row = self.words.row(place)
        else:
            listed = spread(self.first[which], self.often[which])
            keep = runs[of]
            row = self.words.row(np.where(keep, place, 0))
            row[~keep], place[~keep] = self.listed[listed[~keep]], -1
        once = np.append(True, (row[1:] != row[:-1]) | (of[1:] != of[:-1]))[: of.size]
        if not once.all():
            of, row, place = of[once], row[once], place[once]
        return of, row, place + np.where(place >= 0, self.shift[which][of], 0)

    def spans(self) -> Iterator[Ints]:
        """Some candidates after the other, by their numbers: as many as are looked at at once."""
        for start, stop in blocks(np.append(0, np.cumsum(self.often, dtype=np.int64))):
            yield np.arange(start, stop)

    def blocks(self) -> Iterator[tuple[Ints, tuple[Ints, Ints, Ints]]]:
        """Some candidates after the other, by their numbers, and their entries."""
        for which in self.spans():
            yield which, self.entries(which)

    def rows(self, g: int) -> Ints:
        """The texts that hold a candidate, in rising order."""
        span = slice(self.first[g], self.first[g] + self.often[g])
        if not self.size[g]:
            return self.listed[span].astype(np.int64)
        row = self.words.row(np.sort(self.at[span]))
        once: Ints = row[np.append(True, row[1:] != row[:-1])]
        return once

    def run(self, g: int) -> Numbers:
        """The words and marks of a candidate."""
        if not self.size[g]:
            return self.words.ids[:0]
        start = self.entries(np.array([g]))[2][0]
        return self.words.ids[start : start + self.size[g]]

    def owns(self, g: int) -> Numbers:
        """The words that belong to a candidate, as the model numbers them."""
        return self.owned[self.own[g] : self.own[g + 1]]

    def only(self, which: Ints) -> Candidates:
        """Some of them, by their numbers in rising order."""
        at, first, often = self.at, self.first[which], self.often[which]
        runs = self.size[which] > 0
        if int(often[runs].sum()) < at.size / 2:  # or the two together take more room
            first = first.copy()
            at = _gathered(at, first[runs], often[runs])
            first[runs] = np.cumsum(often[runs]) - often[runs]
        sizes = np.diff(self.own)[which]
        return replace(
            self,
            at=at,
            first=first,
            often=often,
            shift=self.shift[which],
            counts=self.counts[which],
            size=self.size[which],
            own=np.append(0, np.cumsum(sizes)),
            owned=self.owned[spread(self.own[which], sizes)],
            kind=self.kind[which],
            strange=self.strange[which],
            named={i: self.named[g] for i, g in enumerate(which.tolist()) if g in self.named},
        )


def _gathered(values: Places, first: Places, often: Places) -> Places:
    """Some spans of an array, one after the other: the numbers of all at once take much room."""
    ends = np.append(0, np.cumsum(often, dtype=np.int64))
    made = np.empty(int(ends[-1]), values.dtype)
    for start, stop in blocks(ends):
        made[ends[start] : ends[stop]] = values[spread(first[start:stop], often[start:stop])]
    return made


def _occurrences(at: Places, first: Places, often: Places) -> tuple[Ints, Ints]:
    """Of the occurrences of some runs, in rising order: which run, and the place."""
    taken = spread(first, often)
    np.minimum(taken, max(at.size - 1, 0), out=taken)
    key = np.repeat(np.arange(first.size) << 32, often)
    if at.size:
        key |= at[taken]
    del taken
    key.sort()
    of = key >> 32
    key &= 2**32 - 1
    return of, key
