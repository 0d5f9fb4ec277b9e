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

TYPICAL = 0.5
OUTERMOST = 0.05
REACH = 3.0


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
    pairs = np.unique(place * n + rows)  # each word once a text
    at, text = pairs // n, pairs % n
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
