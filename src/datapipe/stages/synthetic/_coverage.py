# SPDX-License-Identifier: Apache-2.0
"""How much of a reference's rare words a corpus still holds, against the reference's own halves.

Half of the reference is asked for; the other half answers, and so do as many words of the corpus.
The halves tell how much a corpus of people would hold, so that topic and size do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.synthetic._drift import RARE
from datapipe.stages.synthetic._language import learnt
from datapipe.stages.synthetic._tokens import Tokens

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SPLITS, SHUFFLES = 16, 60
ORDER = 2


@dataclass(frozen=True)
class Coverage:
    """Coverage by the corpus and by the reference's own half, one for each split.

    Args:
        corpus: float64, shape (splits,); share of rare words that the corpus holds.
        people: float64, shape (splits,); share that as many words of the reference hold.
        fit_corpus: Bits a word of the asked half costs a model of the corpus.
        fit_people: The same for a model of the other half.
        p_value: Of a coverage this low if corpus and reference were of one population.
        words: Words that each side answered with.
    """

    corpus: Floats
    people: Floats
    fit_corpus: Floats
    fit_people: Floats
    p_value: float
    words: int


def coverage(tokens: Tokens, people: Ints, corpus: Ints, rng: np.random.Generator) -> Coverage:
    """Compare the rows of a corpus with those of a reference.

    Args:
        tokens: The tokens of all rows.
        people: int64; rows of the reference.
        corpus: int64; distinct rows of the corpus.
        rng: Splits, draws and shuffles.
    """
    sizes = np.bincount(tokens.rows, minlength=int(max(people.max(), corpus.max())) + 1)
    found: list[tuple[float, float, float, float, float]] = []
    words = 0
    for _ in range(SPLITS):
        order = rng.permutation(people)
        asked, own = order[: order.size // 2], order[order.size // 2 :]
        drawn = _matched(rng.permutation(corpus), sizes, int(sizes[own].sum()))
        own = _matched(own, sizes, int(sizes[drawn].sum()))
        words = int(sizes[drawn].sum())
        found.append((*_held(tokens, asked, own, drawn, rng), *_fits(tokens, asked, own, drawn)))
    made = np.array(found)
    p_value = min(1.0, 2.0 * float(made[:, 2].mean()))  # twice the mean of p-values is one
    return Coverage(made[:, 0], made[:, 1], made[:, 3], made[:, 4], p_value, words)


def _matched(rows: Ints, sizes: Ints, words: int) -> Ints:
    """The first rows that hold about so many words."""
    return rows[: max(1, int(np.searchsorted(np.cumsum(sizes[rows]), words, side="right")))]


def _held(
    tokens: Tokens, asked: Ints, own: Ints, drawn: Ints, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Coverage by the corpus, by people, and how odd that is among shuffles of the two."""
    counts = np.bincount(tokens.of(asked), minlength=tokens.kinds)
    rare = np.flatnonzero((counts > 0) & (counts <= RARE))
    place = np.full(tokens.kinds, -1, np.int64)
    place[rare] = np.arange(rare.size)
    rows = np.concatenate([drawn, own])
    at = place[tokens.of(rows)]
    text = np.repeat(np.arange(rows.size), tokens.sizes(rows))
    there = np.zeros((rows.size, max(1, rare.size)), np.float32)
    there[text[at >= 0], at[at >= 0]] = 1.0
    sides = np.zeros((SHUFFLES + 1, rows.size), np.float32)
    sides[0, : drawn.size] = 1.0
    for s in range(1, SHUFFLES + 1):
        sides[s, rng.permutation(rows.size)[: drawn.size]] = 1.0
    ours = (sides @ there > 0).mean(1)
    theirs = ((1.0 - sides) @ there > 0).mean(1)
    gap = ours - theirs
    spread = max(float(gap[1:].std()), 1e-9)
    as_low = NormalDist().cdf(float(gap[0] - gap[1:].mean()) / spread)
    return float(ours[0]), float(theirs[0]), as_low


def _fits(tokens: Tokens, asked: Ints, own: Ints, drawn: Ints) -> tuple[float, float]:
    unseen = tokens.of(asked)
    made = [learnt(tokens.of(side), tokens.kinds, order=ORDER) for side in (drawn, own)]
    first, second = (float(m.surprise(unseen).mean()) for m in made)
    return first, second
