# SPDX-License-Identifier: Apache-2.0
"""Texts that are nearly the same but for a pattern are one piece of evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._text.grams import Whole
from datapipe.stages.poisoning._text.word_model import Model

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ALIKE, RARELY = 0.5, 0.995
"""Two texts are one piece of evidence where their other words are this similar (cosine), and more
so than this share of all pairs of texts: in a small vocabulary every two are alike."""
MOST_COMPARED = 400


def usual_likeness(model: Model) -> float:
    """The cosine from which two texts are more alike than any two happen to be."""
    n = model.fold.size
    some = np.linspace(0, n - 1, min(n, MOST_COMPARED)).astype(np.int64)
    every = cosines(model.bag.take(some), np.empty(0, np.int32))
    usual = np.quantile(every[np.triu_indices(some.size, 1)], RARELY)
    return float(max(ALIKE, usual))


def cosines(rest: Any, left_out: Whole) -> Floats:
    """Cosines of rows of a matrix less some columns, which it loses; 1 where nothing is left."""
    rest.data[np.isin(rest.indices, left_out)] = 0.0
    square = np.asarray((rest @ rest.T).toarray(), np.float64)
    norm = np.sqrt(square.diagonal())
    cosine = square / np.maximum(np.outer(norm, norm), 1e-12)
    empty = norm < 1e-6
    cosine[np.ix_(empty, empty)] = 1.0
    return np.asarray(cosine, np.float64)


def different(rest: Any, left_out: Whole, told: tuple[Bools, Floats], alike: float) -> Bools:
    """Which of some texts count, where of those with nearly the same other words one does.

    Args:
        rest: The texts, as a sparse matrix that is changed.
        left_out: The words that are no other words.
        told: Whether each has the label, and by which chance: those that had it anyway count.
        alike: The cosine from which on two texts are alike.
    """
    hit, rate = told
    like = cosines(rest, left_out) > alike
    like &= hit[:, None] == hit
    counts = np.zeros(hit.size, bool)
    for i in np.argsort(-rate, kind="stable"):
        counts[i] = not (counts & like[i]).any()
    return counts
