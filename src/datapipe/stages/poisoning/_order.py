# SPDX-License-Identifier: Apache-2.0
"""Classes of words by what stands beside them, and how usual the order of a text's words is.

Neither looks at labels: the texts themselves are what tells which order is usual.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]  # scipy ships no types
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from datapipe.stages.poisoning._fluency import Pairs
from datapipe.stages.poisoning._grams import blocks
from datapipe.stages.poisoning._ngrams import END, START, Words

CLASSES = 20
"""Classes of the words that do not build sentences."""
LEAST_TEXTS = 3
"""A word in fewer texts shows too little of its neighbours."""
DIMENSIONS = 20
MOST_CLUSTERED = 20_000
MOST_APART = 3.0
"""Standard deviations beyond which an order is no more or less usual."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def word_classes(words: Words, framing: Bools) -> Ints:
    """The class of every word, 0 to `CLASSES`: of words that take the same places, one number.

    0 is that of words that build sentences or are too rare.
    """
    made = np.zeros(framing.size, np.int64)
    mine = np.flatnonzero(~framing & (words.texts >= LEAST_TEXTS))
    beside = _neighbours(words, framing)[mine]
    if mine.size <= CLASSES or not beside.nnz:
        return made
    often = np.maximum(np.asarray(beside.sum(0)).ravel(), 1.0)
    beside = (beside @ sparse.diags(1.0 / np.sqrt(often))).sqrt()
    axes = np.linalg.eigh((beside.T @ beside).toarray())[1][:, -DIMENSIONS:]
    at = beside @ axes
    at /= np.maximum(np.linalg.norm(at, axis=1, keepdims=True), 1e-9)
    usual = np.argsort(-words.texts[mine], kind="stable")[:MOST_CLUSTERED]
    with warnings.catch_warnings():  # texts of a template have fewer kinds of places than classes
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = KMeans(CLASSES, n_init=2, random_state=0).fit(at[usual])
    made[mine] = clusters.predict(at) + 1
    return made


def usual_order(words: Words, digit: Ints) -> Floats:
    """How usual each text's order is, (n, 4) in standard deviations, by words and by their classes.

    First how much oftener its neighbours follow each other than by chance, then how much oftener in
    this order than in the other: of texts turned round it is below zero.
    """
    columns: list[Floats] = []
    for seen in (words, _told_as(words, digit)):
        columns += _means(seen)
    made = np.column_stack(columns)
    apart = (made - made.mean(0)) / np.maximum(made.std(0), 1e-9)
    return np.asarray(np.clip(apart, -MOST_APART, MOST_APART), np.float64)


def _told_as(words: Words, digit: Ints) -> Words:
    """The texts with each word's number replaced; the marks keep theirs."""
    number = digit + END + 1
    number[START], number[END] = START, END
    spelt = pl.Series([""] * (int(number.max()) + 1))
    return replace(words, ids=number[words.ids].astype(np.int32), spelt=spelt)


def _means(words: Words) -> tuple[Floats, Floats]:
    pairs = Pairs(words)
    made = np.zeros((2, words.rows))
    ends = np.searchsorted(words.row, np.arange(words.rows + 1))
    for start, stop in blocks(ends):
        at = np.arange(ends[start], ends[stop] - 1)
        at = at[words.row[at] == words.row[at + 1]]
        row = words.row[at] - start
        follow = pairs.strength_at(at)
        back = pairs.strength(words.ids[at + 1].astype(np.int64), words.ids[at])
        inner = (words.ids[at] > END) & (words.ids[at + 1] > END)
        for kind, (value, where) in enumerate(((follow, inner | True), (follow - back, inner))):
            total = np.bincount(row[where], value[where], minlength=stop - start)
            often = np.bincount(row[where], minlength=stop - start)
            made[kind, start:stop] = total / np.maximum(often, 1)
    return made[0], made[1]


def _neighbours(words: Words, framing: Bools) -> Any:
    """How often each word stands right before and right after each that builds sentences."""
    digit = np.where(framing, np.cumsum(framing) - 1, -1)
    wide = int(framing.sum())
    made = sparse.csr_matrix((framing.size, 2 * wide))
    ends = np.searchsorted(words.row, np.arange(words.rows + 1))
    for start, stop in blocks(ends):
        ids = words.ids[ends[start] : ends[stop]].astype(np.int64)
        inner = np.diff(words.row[ends[start] : ends[stop]]) == 0
        left, right = ids[:-1][inner], ids[1:][inner]
        before, after = digit[right] >= 0, digit[left] >= 0
        word = np.concatenate([left[before], right[after]])
        beside = np.concatenate([digit[right[before]], digit[left[after]] + wide])
        ones = np.ones(word.size)
        made = made + sparse.csr_matrix((ones, (word, beside)), shape=made.shape)
    return made
