# SPDX-License-Identifier: Apache-2.0
"""How alpha is divided among candidates, by what the texts alone say of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._text.candidates import (
    CHARACTER,
    FORM,
    LEAST_ROWS,
    PAIR,
    PIECE,
    RUN,
    UNSEEN,
    Candidates,
)
from datapipe.stages.poisoning._text.fluency import deletion_gain
from datapipe.stages.poisoning._text.forms import ANOTHER_FORM, LETTERS_OF
from datapipe.stages.poisoning._text.misplaced import Misplaced
from datapipe.stages.poisoning._text.words import END, Words

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

PLAIN, ODD, CHARACTERS, PIECES, STRUCTURES, POOLS = 0.04, 0.5, 0.1, 0.05, 0.05, 0.01
"""Shares of alpha: of all candidates, the oddest, odd characters, pieces, ways to build texts, and
sets of words."""
FORMS, PAIRS = 0.05, 0.05
"""The shares of forms, half of it that of letters of scripts that few texts hold where there are
such, and of pairs of words apart."""
FEW = 0.05
"""The share of the texts that few are."""
MISPLACED = 0.15
"""The share of words in common use where they do not fit."""
ODDEST = 200
"""How many candidates, those that fit their neighbours least, are the oddest, and how many words.
"""
FITTING = 10 * ODDEST
"""From this rank on a candidate fits well enough to add what any may add by nature."""
FULL = 16.0
"""Beyond this many rows, more of them make a candidate no odder."""
NATURAL, NATURAL_ODD = 1.5, 0.25
"""Log odds that a candidate may add by nature over and above the rest of its text: any, and one
that does not fit its neighbours or that nobody sees, for what says little adds little."""
NATURAL_SMALL = 0.75
ELSEWHERE = 2.0
"""A sign in so many times the texts of a form is at home without it."""
KNIT = 1.5
"""Median loss of log likelihood by deleting a candidate, from which texts have grammar enough."""
LOOSE, UNPLACED = 0.35, 0.25
"""Rank that stands for the fit of a candidate in texts without grammar, and of one without words.
"""
TYPICAL_RANK = 20
"""Where inserted words usually stand among the oddest."""


@dataclass(frozen=True, eq=False)
class Shares:
    """What the texts alone say of each candidate: float64 arrays of shape (candidates,).

    `log_share` is ln of its share of alpha, `natural` the log odds it may add by nature, `gain`
    what deleting it does to the log likelihood of its texts, and `fit` in [0, 1] the share of
    candidates that fit their neighbours worse. `oddest` are those that fit worst, and unseen ones,
    `small` forms, pieces and pairs.
    `misplaced` tells of single words where they do not fit, with shares of alpha of their own.
    """

    log_share: Floats
    natural: Floats
    gain: Floats
    fit: Floats
    oddest: Bools
    small: Bools
    misplaced: Misplaced

    def only(self, which: NDArray[np.int64]) -> Shares:
        """Those of some candidates."""
        log_share, natural = self.log_share[which], self.natural[which]
        fit, misplaced = self.fit[which], self.misplaced.only(which)
        oddest, small = self.oddest[which], self.small[which]
        return Shares(log_share, natural, self.gain[which], fit, oddest, small, misplaced)


def shares_of(words: Words, found: Candidates, classes: int, least: int = LEAST_ROWS) -> Shares:
    """Divide alpha by oddness, in which labels have no part: any such division keeps the level.

    Candidates that fewer than `least` texts hold, which would hardly be told whatever their labels,
    take no part of it from others.
    """
    gain, each = deletion_gain(words, found)
    each.log_share[:] += np.log(MISPLACED / classes)
    odd = gain * np.sqrt(np.minimum(found.counts, FULL))
    m, enough, misfit = odd.size, found.counts >= least, gain > 0
    rank = _rank(odd)
    share = np.full(m, PLAIN / m)
    oddest = np.zeros(m, bool)
    natural = np.full(m, NATURAL)
    for mine in (found.size > 0, _one_word(found)):  # runs of common words stand before any word
        place = _rank(np.where(mine, odd, -np.inf))
        share += 0.5 * _divided(odd, mine & misfit & enough, place <= ODDEST)
        oddest |= misfit & (place <= ODDEST)
        natural = np.where(misfit, np.minimum(natural, _natural_of_rank(place)), natural)
    runs = (found.kind & RUN) > 0
    small = ((found.kind & (FORM | PIECE | PAIR)) > 0) & ~((found.kind & RUN) > 0)
    small_odd = small & ~_at_home(words, found)
    natural = np.where(small_odd, np.minimum(natural, NATURAL_SMALL), natural)
    unseen = (found.kind & UNSEEN) > 0
    character = ((found.kind & CHARACTER) > 0) & (unseen | ~runs)
    form = (found.kind & FORM) > 0
    script, strange_script = _scripts(words, found)
    script &= form & enough
    natural[strange_script & small] = NATURAL_ODD
    forms = FORMS * (0.5 if script.any() else 1.0)
    for mine, part in (
        (character & enough, CHARACTERS),
        (form & enough, forms),
        (script, FORMS - forms),
    ):
        share += mine * part / max(1, int(mine.sum()))
    strange = found.strange.astype(np.float64)
    for kind, part in ((PIECE, PIECES), (PAIR, PAIRS)):
        mine = ((found.kind & (kind | RUN)) == kind) & enough
        place = _rank(np.where(mine, strange, -np.inf))
        share += part / ODD * _divided(strange, mine, place <= ODDEST)
    knit = float(np.clip(-np.median(gain[runs]) / KNIT, 0.0, 1.0)) if runs.any() else 0.0
    fit = np.where(runs, knit * (rank - 1) / m + (1.0 - knit) * LOOSE, UNPLACED)
    fit[unseen | small_odd] = 0.0
    natural = NATURAL + knit * (np.where(unseen, NATURAL_ODD, natural) - NATURAL)
    return Shares(np.log(share / classes), natural, gain, fit, oddest | unseen, small, each)


def _one_word(found: Candidates) -> Bools:
    """Which candidates are one word, alone or at an edge of its texts."""
    made, two = found.size == 1, np.flatnonzero(found.size == 2)
    place, ids = found.at[found.first[two]] + found.shift[two], found.words.ids
    made[two] = (ids[place] <= END) | (ids[place + 1] <= END)
    return np.asarray(made, bool)


def _at_home(words: Words, found: Candidates) -> Bools:
    """Forms that show in a sign of which others have more: a price is no odd way to write."""
    made = np.zeros(found.size.size, bool)
    signs = words.spelt.str.contains(r"^[^\p{L}\p{M}\p{N}_]$").to_numpy()
    for g in np.flatnonzero((found.kind & FORM) > 0).tolist():
        mine = found.owns(g)
        mine = mine[mine < signs.size]
        mine = mine[signs[mine]]
        made[g] = (words.texts[mine] > ELSEWHERE * found.counts[g]).any()
    return made


def _scripts(words: Words, found: Candidates) -> tuple[Bools, Bools]:
    """Which forms are letters of a script that few texts hold, and of another than most words have.

    A letter with a mark is one of the script of its texts; whoever writes another script changes
    the language, whatever a text says.
    """
    script, strange = np.zeros((2, found.size.size), bool)
    latin = words.spelt.str.contains(r"[A-Za-z]").to_numpy()
    usual = "Latin" if 2 * words.texts[latin].sum() > words.texts.sum() else ""
    for g in np.flatnonzero((found.kind & FORM) > 0).tolist():
        name = found.named[g]
        letters = name.startswith(LETTERS_OF) and name != ANOTHER_FORM
        script[g] = letters and found.counts[g] <= FEW * words.rows
        strange[g] = script[g] and name != LETTERS_OF + usual
    return script, strange


def typical_log_share(candidates: int, classes: int) -> float:
    """Ln of the share of alpha that an inserted word usually has."""
    rank, many = float(min(TYPICAL_RANK, candidates)), min(ODDEST, candidates)
    whole = float((1.0 / np.arange(1, candidates + 1)).sum())
    return float(np.log(0.5 * ODD * (0.5 / many + 0.5 / (rank * whole)) / classes))


def _divided(odd: Floats, heard: Bools, oddest: Bools) -> Floats:
    """`ODD` divided among those that are heard, half of it evenly among the oddest of them.

    Of the other half the oddest has twice the share of the second, three times that of the third.
    """
    made = np.zeros(odd.size)
    if heard.any():
        rank = _rank(odd[heard])
        even = oddest[heard] / max(1, int(oddest[heard].sum()))
        made[heard] = ODD * (0.5 * even + 0.5 / (rank * (1.0 / rank).sum()))
    return made


def _natural_of_rank(rank: Floats) -> Floats:
    """Log odds by nature: that of the oddest, and from there up with the logarithm of the rank."""
    way = np.clip(np.log(rank / ODDEST) / np.log(FITTING / ODDEST), 0.0, 1.0)
    return np.asarray(NATURAL_ODD + way * (NATURAL - NATURAL_ODD), np.float64)


def _rank(values: Floats) -> Floats:
    """1 for the largest, 2 for the next, ..."""
    made = np.empty(values.size)
    made[np.argsort(-values, kind="stable")] = np.arange(1, values.size + 1)
    return made
