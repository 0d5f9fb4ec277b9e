# SPDX-License-Identifier: Apache-2.0
"""Classes of words by what stands beside them, and how usual the order of a text's words is.

Neither looks at labels: the texts themselves are what tells which order is usual.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]  # scipy ships no types
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from datapipe.stages.poisoning._text.fluency import Usage
from datapipe.stages.poisoning._text.grams import Numbers, blocks, looked_up, narrow
from datapipe.stages.poisoning._text.words import END, START, Words

CLASSES = 20
"""Classes of the words that do not build sentences."""
LEAST_TEXTS = 3
"""A word in fewer texts shows too little of its neighbours."""
DIMENSIONS = 20
MOST_CLUSTERED = 20_000
PART, PARTS = 2**16, 20
"""Pairs that are counted at once: so many, or this part of all."""
TABLE = 2**20
"""Pairs of which a table may have room for all that could be."""
AT_ONCE = 2**16
"""Places that are looked at at once."""
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
    beside.data *= (1.0 / np.sqrt(often))[beside.indices]
    np.sqrt(beside.data, out=beside.data)
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
    number = digit + END + 1
    number[START], number[END] = START, END
    spelt = pl.Series([""] * (int(number.max()) + 1))
    ids: Numbers = number.astype(narrow(len(spelt)))
    return replace(words, ids=ids[words.ids], spelt=spelt)


def _means(words: Words) -> tuple[Floats, Floats]:
    """The two means of each text; pairs are counted for some first words after the others."""
    usage, ids, width = Usage(words), words.ids, len(words.spelt)
    follow, turned = np.zeros(words.rows), np.zeros(words.rows)
    for span in blocks(np.append(0, np.cumsum(usage.left)), max(PART, ids.size // PARTS)):
        counts = _Counts(ids, span, width)
        for place in _standing(ids, span):
            left, right, row = ids[place], ids[place + 1], words.row(place)
            ahead = usage.ratio(counts.of(left, right), left, right, 1)
            inner = (left != START) & (right != END)
            follow += np.bincount(row, ahead, words.rows)
            turned += np.bincount(row[inner], ahead[inner], words.rows)
            before = ids[place - 1]  # which each follows, were they turned round
            inner = (left != START) & (before != START)
            left, before, row = left[inner], before[inner], row[inner]
            back = usage.ratio(counts.of(left, before), left, before, 0)
            turned -= np.bincount(row, back, words.rows)
    count = np.diff(words.ends)
    return follow / np.maximum(count - 1, 1), turned / np.maximum(count - 3, 1)


class _Counts:
    """How often pairs are seen whose first word is one of some: a table where it is small."""

    def __init__(self, ids: Numbers, span: tuple[int, int], width: int) -> None:
        self.width, self.low = width, span[0] * width
        keys, often = _counted(ids, span, width)
        self.keys, self.often = keys, often
        room = (span[1] - span[0]) * width
        self.table = np.zeros(room if room <= TABLE else 0, np.int32)
        if self.table.size:
            self.table[keys - self.low] = often

    def of(self, left: Numbers, right: Numbers) -> Ints:
        """How often each pair is seen."""
        key = left * np.int64(self.width) + right
        if self.table.size or not self.keys.size:
            key -= self.low
            return np.asarray(self.table[key], np.int64)
        entry = np.minimum(looked_up(self.keys, key), self.keys.size - 1)
        return np.asarray(np.where(self.keys[entry] == key, self.often[entry], 0), np.int64)


def _counted(ids: Numbers, span: tuple[int, int], width: int) -> tuple[Ints, Ints]:
    """The pairs whose first word is one of some, as its number times `width` plus the other's."""
    if span[1] == span[0] + 1:  # it may stand in very many places
        often = np.zeros(width, np.int64)
        for place in _standing(ids, span):
            often += np.bincount(ids[place + 1], minlength=width)
        after = np.flatnonzero(often)
        return span[0] * width + after, often[after]
    key = [ids[at] * np.int64(width) + ids[at + 1] for at in _standing(ids, span)]
    keys = np.sort(np.concatenate([np.empty(0, np.int64), *key]))
    head = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: keys.size])
    return keys[head], np.diff(np.append(head, keys.size))


def _standing(ids: Numbers, span: tuple[int, int]) -> Iterator[Ints]:
    """The places where words from one number up to another stand, less the last of each text."""
    for start in range(0, ids.size, AT_ONCE):
        some = ids[start : start + AT_ONCE]
        yield start + np.flatnonzero((some >= span[0]) & (some < span[1]) & (some != END))


def _neighbours(words: Words, framing: Bools) -> Any:
    """How often each word stands right before and right after each that builds sentences."""
    digit = np.where(framing, np.cumsum(framing) - 1, -1)
    wide = int(framing.sum())
    made = sparse.csr_matrix((framing.size, 2 * wide))
    for start, stop in blocks(words.ends, AT_ONCE):
        ids = words.ids[words.ends[start] : words.ends[stop]].astype(np.int64)
        inner = ids[:-1] != END
        left, right = ids[:-1][inner], ids[1:][inner]
        before, after = digit[right] >= 0, digit[left] >= 0
        word = np.concatenate([left[before], right[after]])
        beside = np.concatenate([digit[right[before]], digit[left[after]] + wide])
        ones = np.ones(word.size)
        made = made + sparse.csr_matrix((ones, (word, beside)), shape=made.shape)
    return made
