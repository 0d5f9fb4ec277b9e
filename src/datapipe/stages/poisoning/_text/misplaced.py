# SPDX-License-Identifier: Apache-2.0
"""Where a word in common use does not fit its neighbours: what was put in stands out among its own.

A word that many genuine texts hold hides what is done with it in a few; but whoever puts it into
texts puts it beside words that it does not stand beside by nature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._text.candidates import LEAST_ROWS, RUN, Candidates
from datapipe.stages.poisoning._text.grams import spread

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_HELD = 0.5
"""Words that a greater share of the texts holds are not asked about here."""
DEEPEST = 3
"""Tests of the places where a word does not fit, each of the worse half of the last one's."""


@dataclass(frozen=True, eq=False)
class Misplaced:
    """How well the text of each single word reads without it, place by place.

    Candidate g has `gain[ends[g]:ends[g + 1]]`, one for each text that holds it, in rising order;
    none where it is no single word. A place with a gain above 0 does not fit. `log_share` is ln of
    each candidate's part of what alpha there is for such tests, -inf for those that are not tested.
    """

    ends: Ints
    gain: NDArray[np.float16]
    log_share: Floats

    @classmethod
    def empty(cls, found: Candidates) -> Misplaced:
        """Nothing is known yet: room for each text of each single word."""
        single = (found.size == 1) & ((found.kind & RUN) > 0)
        counts = np.where(single, found.counts, 0)
        ends = np.append(0, np.cumsum(counts, dtype=np.int64))
        return cls(ends, np.zeros(ends[-1], np.float16), np.empty(0))

    def add(self, which: Ints, step: Ints, gain: Floats) -> None:
        """Add to the gains of some candidates in the texts that stand at some of their places."""
        single = self.ends[which + 1] > self.ends[which]
        self.gain[self.ends[which[single]] + step[single]] += gain[single]

    def divided(self, texts: int) -> Misplaced:
        """Alpha divided by how many places do not fit, in which labels have no part.

        A word needs as many that fit, which tell what it says by nature. What builds most texts is
        syntax.
        """
        some = np.diff(self.ends) > 0
        odd, fit = np.zeros((2, some.size), np.int64)
        if some.any():
            odd[some] = np.add.reduceat(self.gain > 0, self.ends[:-1][some], dtype=np.int64)
            fit[some] = np.diff(self.ends)[some] - odd[some]
        told = (odd >= LEAST_ROWS) & (fit >= LEAST_ROWS) & (odd + fit <= MOST_HELD * texts)
        asked = np.flatnonzero(told)
        log_share = np.full(some.size, -np.inf)
        order = asked[np.argsort(-odd[asked], kind="stable")]
        rank = np.arange(1, order.size + 1)
        log_share[order] = -np.log(rank * (1.0 / rank).sum())
        return Misplaced(self.ends, self.gain, log_share)

    def of(self, which: Ints) -> tuple[Ints, Floats]:
        """The gains of some candidates' places and how many each has."""
        counts = np.diff(self.ends)[which]
        return counts, self.gain[spread(self.ends[which], counts)].astype(np.float64)

    def only(self, which: Ints) -> Misplaced:
        """Those of some candidates."""
        counts = np.diff(self.ends)[which]
        gain = self.gain[spread(self.ends[which], counts)]
        return Misplaced(np.append(0, np.cumsum(counts)), gain, self.log_share[which])


def depths(of: Ints, gain: Floats) -> Ints:
    """-1 where a word fits, 0 where it does not, 1 in the worse half of these places, and so on.

    `of` has the word of each place, in rising order, and `gain` how well it reads without it.
    """
    made, odd = np.full(of.size, -1), np.flatnonzero(gain > 0)
    of = of[odd]
    head = np.flatnonzero(np.append(True, of[1:] != of[:-1])[: of.size])
    counts = np.diff(np.append(head, of.size))
    rank = np.arange(1, of.size + 1) - np.repeat(head, counts)
    made[odd[np.lexsort((-gain[odd], of))]] = np.minimum(
        np.log2(np.repeat(counts, counts) / rank), DEEPEST
    )
    return made
