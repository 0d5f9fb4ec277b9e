# SPDX-License-Identifier: Apache-2.0
"""Whether rows to judge are of the reference's population at all.

Machines write with fewer rare words than people, so that more of their words stand in a reference;
another topic, language or alphabet has fewer. The two directions do not mix: only the second is
looked at, and it says that the reference is too far, not that a machine wrote.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.stages.synthetic._words import word_hashes

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

TYPICAL = 0.5
OUTERMOST = 0.05
REACH = 3.0
COMMON = 0.05
"""A word that this share of the reference's texts use is one of its domain."""
LEAST_TEXTS = 30
"""Texts of one maker and place without which words may lack by chance."""
FOREIGN = 0.17
"""Makers of the same domain lacked up to 16 % of its common words, those of other domains 11 % and
mostly over 20 %, on five sets of texts."""


def known_shares(texts: pl.Series, known: Bools) -> Floats:
    """Which share of each text's words also stands in another text that is known.

    Args:
        texts: Strings as `window` gives them, shape (n,).
        known: bool, shape (n,); the reference, and anchors where there are any.

    Returns:
        float64 in [0, 1], shape (n,); 0 for texts without words.
    """
    words, rows = word_hashes(texts)
    n = len(texts)
    kinds, place = np.unique(words, return_inverse=True)
    at, text = _once_a_text(place, rows, n)
    seen = np.bincount(at[known[text]], minlength=kinds.size)
    stands = seen[place] > known[rows]  # its own text does not make a word known
    total = np.maximum(np.bincount(rows, minlength=n), 1)
    return np.asarray(np.bincount(rows, stands, minlength=n) / total, np.float64)


def too_far(shares: Floats, people: Bools, asked: Bools) -> bool:
    """Whether half of the rows to judge lie where only the outermost reference rows do."""
    if not asked.any() or not people.any():
        return True
    middle = float(np.quantile(shares[asked], TYPICAL))
    return middle < float(np.quantile(shares[people], OUTERMOST))


def beyond(shares: Floats, people: Bools) -> Bools:
    """Rows so far from the reference's words that its scores say nothing about them."""
    middle, outer = np.quantile(shares[people], [TYPICAL, OUTERMOST])
    return np.asarray(shares < middle - REACH * (middle - outer), np.bool_)


def lacking(texts: pl.Series, people: Bools, groups: Ints) -> float:
    """Which share of the reference's common words a group of other texts lacks, chance aside.

    Machines that write of the same things use those words; texts of another domain do not, whoever
    wrote them. Of several groups the one that lacks most counts.

    Args:
        texts: Strings as `window` gives them, shape (n,).
        people: bool, shape (n,); the reference.
        groups: int64, shape (n,); which group a text is of, -1 for none. Small ones do not count.

    Returns:
        A share in [0, 1]; 0 without a group.
    """
    words, rows = word_hashes(texts)
    _, place = np.unique(words, return_inverse=True)
    sides = [groups == group for group in np.unique(groups[groups >= 0])]
    large = [held for held in sides if int(held.sum()) >= LEAST_TEXTS]
    return max((lacked(place, rows, people, held) for held in large), default=0.0)


def lacked(place: Ints, rows: Ints, people: Bools, held: Bools) -> float:
    """As `lacking`, of one group and words that are numbered already.

    Args:
        place: int64, shape (m,); which kind each word is of.
        rows: int64, shape (m,); the text it stands in.
        people: bool, shape (n,); the reference.
        held: bool, shape (n,); the group.

    Returns:
        A share in [0, 1]; 0 where the reference has no common words.
    """
    kinds = int(place.max(initial=0)) + 1
    at, text = _once_a_text(place, rows, people.size)
    use = np.bincount(at[people[text]], minlength=kinds) / max(1, int(people.sum()))
    common = use >= COMMON
    if not common.any():
        return 0.0
    seen = np.bincount(at[held[text]], minlength=kinds)
    chance = (1.0 - use[common]) ** int(held.sum())
    return max(0.0, float((seen[common] == 0).mean() - chance.mean()))


def _once_a_text(place: Ints, rows: Ints, n: int) -> tuple[Ints, Ints]:
    """Each word once for each text that it stands in: the word, and the text."""
    pairs = np.sort(place * n + rows)
    pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])[: pairs.size]]
    return pairs // n, pairs % n
