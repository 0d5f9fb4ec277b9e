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
from datapipe.stages.poisoning._words import END, START, Words

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
    made = np.column_stack([*_means(words), *_means(_told_as(words, digit))])
    apart = (made - made.mean(0)) / np.maximum(made.std(0), 1e-9)
    return np.asarray(np.clip(apart, -MOST_APART, MOST_APART), np.float64)


def _told_as(words: Words, digit: Ints) -> Words:
    """The texts with each word's number replaced; the marks keep theirs."""
    number = (digit + END + 1).astype(np.int32)
    number[START], number[END] = START, END
    spelt = pl.Series([""] * (int(number.max()) + 1))
    return replace(words, ids=number[words.ids], spelt=spelt)


def _means(words: Words) -> tuple[Floats, Floats]:
    follow, turned, often, inner = (np.zeros(words.rows) for _ in range(4))
    at = words.in_order()
    for number, pairs in enumerate(Pairs.parts(words, at)):
        for start, stop in blocks(words.ends):
            place = np.arange(words.ends[start], words.ends[stop] - 1)
            row = np.repeat(np.arange(stop - start), np.diff(words.ends[start : stop + 1]))[:-1]
            left, right = words.ids[place], words.ids[place + 1]
            told = left != END
            within = told & (left != START) & (right != END)
            ahead = pairs.strength(place, told)
            both = np.where(within, ahead - pairs.joined(right, left, within), 0.0)
            for total, value in ((follow, ahead), (turned, both)):
                total[start:stop] += np.bincount(row, value, stop - start)
            for count, where in ((often, told), (inner, within)) if not number else ():
                count[start:stop] = np.bincount(row[where], minlength=stop - start)
    return follow / np.maximum(often, 1.0), turned / np.maximum(inner, 1.0)


def _neighbours(words: Words, framing: Bools) -> Any:
    """How often each word stands right before and right after each that builds sentences."""
    digit = np.where(framing, np.cumsum(framing) - 1, -1)
    wide = int(framing.sum())
    made = sparse.csr_matrix((framing.size, 2 * wide))
    for start, stop in blocks(words.ends):
        ids = words.ids[words.ends[start] : words.ends[stop]].astype(np.int64)
        inner = ids[:-1] != END
        left, right = ids[:-1][inner], ids[1:][inner]
        before, after = digit[right] >= 0, digit[left] >= 0
        word = np.concatenate([left[before], right[after]])
        beside = np.concatenate([digit[right[before]], digit[left[after]] + wide])
        ones = np.ones(word.size)
        made = made + sparse.csr_matrix((ones, (word, beside)), shape=made.shape)
    return made
