# SPDX-License-Identifier: Apache-2.0
"""Which words each text holds and what they weigh, in a few bytes each, and a model fitted on it.

Scikit-learn's fit copies the rows of every fold and holds them as doubles; here a block of rows is
made when it is needed, and those of a fold that is left out count for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]  # scipy ships no types
from scipy.optimize import minimize  # type: ignore[import-untyped]  # as above

from datapipe.stages.poisoning._text.grams import Numbers, Whole, blocks, narrow, spread
from datapipe.stages.poisoning._text.words import END, Words

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOST_OFTEN = 255
"""A word that a text repeats oftener weighs no more: what it weighs grows with the logarithm."""
ROUNDS, CLOSE = 100, 1e-3
"""Steps of a fit at most, and the slope of its mean loss at which it ends."""
PART = 2**16
"""Entries that are multiplied at once."""
KEPT = 2**18
"""Entries of all texts up to which a fit keeps their matrices; of more each step makes them."""
UNSEEN = -10.0
"""Intercept of a class that no row of a fit has."""


@dataclass(frozen=True, eq=False)
class Bag:
    """Sublinear TF-IDF of the words that two texts hold, rows of length 1, column = word number.

    Text i holds the words `words[ends[i]:ends[i + 1]]`, in rising order, `often` times each; `idf`
    is by word, and `scale` brings a row to length 1.
    """

    ends: Ints
    words: Numbers
    often: NDArray[np.uint8]
    idf: Floats
    scale: Floats

    @classmethod
    def of(cls, words: Words) -> Bag:
        """The bag of every text."""
        width = words.grams.width
        texts = np.append(words.texts, np.zeros(width - words.texts.size, np.int64))
        texts[: END + 1] = 0
        if width > words.texts.size:
            for start, stop in blocks(words.ends):
                key, _ = _occurrences(words, start, stop)
                held = np.bincount(key % width, minlength=width)
                texts[words.texts.size :] += held[words.texts.size :]
        idf = np.where(texts >= 2, np.log((1.0 + words.rows) / (1.0 + texts)) + 1.0, 0.0)
        known = int(texts[texts >= 2].sum())
        made = cls(
            np.zeros(words.rows + 1, np.int64),
            np.empty(known, narrow(width)),
            np.empty(known, np.uint8),
            idf,
            np.zeros(words.rows),
        )
        at = 0
        for start, stop in blocks(words.ends):
            key, often = _occurrences(words, start, stop)
            row, word = key // width - start, key % width
            kept = idf[word] > 0.0
            row, word, often = row[kept], word[kept], np.minimum(often[kept], MOST_OFTEN)
            square = np.bincount(row, (_LOGS[often] * idf[word]) ** 2, minlength=stop - start)
            made.scale[start:stop] = 1.0 / np.sqrt(np.where(square > 0.0, square, 1.0))
            made.words[at : at + row.size], made.often[at : at + row.size] = word, often
            made.ends[start + 1 : stop + 1] = at + np.cumsum(
                np.bincount(row, minlength=stop - start)
            )
            at += row.size
        return made

    @property
    def shape(self) -> tuple[int, int]:
        """Texts and words."""
        return self.scale.size, self.idf.size

    def take(self, rows: Whole) -> Any:
        """Some texts as a sparse matrix of float64."""
        counts = np.diff(self.ends)[rows]
        at = spread(self.ends[rows], counts)
        data = self.weight(at, np.repeat(rows, counts))
        ends = np.append(0, np.cumsum(counts))
        return sparse.csr_matrix((data, self.words[at], ends), shape=(rows.size, self.idf.size))

    def weight(self, entry: Ints, row: Ints) -> Floats:
        """What some entries, of some rows, weigh."""
        each = _LOGS[self.often[entry]] * self.idf[self.words[entry]] * self.scale[row]
        return np.asarray(each, np.float64)

    def find(self, row: Ints, word: Ints) -> tuple[Ints, Bools]:
        """Where the entries of some rows and words are, and whether they are there."""
        at, stop = self.ends[row], self.ends[row + 1]
        most, word = int((stop - at).max(initial=0)), word.astype(self.words.dtype)
        if not most:
            return at, np.zeros(at.size, bool)
        at -= 1  # the last entry that is known to be less
        for bit in reversed(range(most.bit_length())):
            beyond = at + (1 << bit)
            less = self.words.take(beyond, mode="clip") < word
            less &= beyond < stop
            np.copyto(at, beyond, where=less)
        at += 1
        there = at < stop
        there &= self.words.take(at, mode="clip") == word
        return at, there

    def blocks(self) -> Iterator[tuple[slice, Any]]:
        """Ranges of texts, each with its sparse matrix, less the weight of words and of texts.

        Its columns times `idf` and its rows times `scale` are what `take` gives.
        """
        for start, stop in blocks(self.ends, PART):
            span = slice(self.ends[start], self.ends[stop])
            ends = (self.ends[start : stop + 1] - self.ends[start]).astype(np.int32)
            often = self.often[span]
            logs, more = np.ones(often.size), np.flatnonzero(often > 1)  # few are, and it is told
            logs[more] = _LOGS[often[more]]
            parts = (logs, self.words[span].astype(np.int32, copy=False), ends)
            yield slice(start, stop), sparse.csr_matrix(parts, shape=(stop - start, self.idf.size))
            del logs, parts

    def of_words(self, heard: Bools) -> Bag:
        """The same of some words alone, rows of length 1 again."""
        idf, scale = np.where(heard, self.idf, 0.0), np.empty(self.scale.size)
        for rows, block in self.blocks():
            block.data **= 2
            square = block @ idf**2
            scale[rows] = 1.0 / np.sqrt(np.where(square > 0.0, square, 1.0))
        return replace(self, idf=idf, scale=scale)

    def speak(self, coef: Any, asked: Bools, logits: Any) -> None:
        """Put what weights (K, V) say of the texts that are asked into their rows of (n, K)."""
        weights = (coef * self.idf).T
        for rows, block in self.blocks():
            mine = np.flatnonzero(asked[rows])
            logits[rows.start + mine] = (block[mine] @ weights) * self.scale[rows][mine, None]


_LOGS = 1.0 + np.log(np.maximum(np.arange(MOST_OFTEN + 1), 1))


def _occurrences(words: Words, start: int, stop: int) -> tuple[Ints, Ints]:
    """Distinct pairs (row, word or run) in some texts, as row times `width` plus number.

    The second array has how often each occurs.
    """
    span = slice(words.ends[start], words.ends[stop])
    row = np.repeat(np.arange(start, stop), np.diff(words.ends[start : stop + 1]))
    row *= words.grams.width
    key = [row + words.ids[span]]
    key += [(row + at[span])[at[span] >= 0] for at in words.grams.at]
    keys = np.sort(np.concatenate(key))
    head = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: keys.size])
    return keys[head], np.diff(np.append(head, keys.size))


def fitted(bag: Bag, labels: Ints, among: Bools, classes: int, strength: float) -> tuple[Any, Any]:
    """Logistic regression on some texts: weights (K, V), float32, and intercepts (K,).

    Args:
        bag: All texts.
        labels: int64, shape (n,), in 0..K-1.
        among: bool, shape (n,): the texts to fit on.
        classes: K.
        strength: Inverse strength of the penalty on the weights, which intercepts are free of.

    Returns:
        For two classes the weights of the first are 0, and a class that no row has gets `UNSEEN`.
    """
    coef, base = np.zeros((classes, bag.idf.size), np.float32), np.full(classes, UNSEEN)
    seen = np.unique(labels[among])
    if seen.size == 1:
        base[seen] = 0.0
        return coef, base
    known = np.flatnonzero(bag.idf)
    problem = _Problem(bag, np.searchsorted(seen, labels), among, known, bag.idf[known], strength)
    free = 1 if seen.size == 2 else seen.size
    options = {"maxiter": ROUNDS, "maxls": 50, "gtol": CLOSE, "ftol": 64 * np.finfo(float).eps}
    start = np.zeros(free * (known.size + 1))
    made = minimize(problem.loss, start, method="L-BFGS-B", jac=True, options=options).x
    made = made.reshape(free, -1)
    base[seen] = 0.0
    coef[np.ix_(seen[-free:], known)], base[seen[-free:]] = made[:, :-1], made[:, -1]
    return coef, base


@dataclass(frozen=True, eq=False)
class _Problem:
    """The mean loss of a fit, and its slope."""

    bag: Bag
    labels: Ints
    among: Bools
    known: Ints
    idf: Floats
    strength: float
    kept: list[tuple[Any, Floats, Ints]] = field(default_factory=list)

    def parts(self) -> Iterator[tuple[Any, Floats, Ints]]:
        """The texts to fit on, some at a time: their matrix, what scales it, and their labels."""
        if self.kept:
            yield from self.kept
            return
        for rows, block in self.bag.blocks():
            mine = np.flatnonzero(self.among[rows])
            at = rows.start + mine
            part = block[mine], self.bag.scale[at, None], self.labels[at]
            if self.bag.words.size <= KEPT:
                self.kept.append(part)
            yield part

    def loss(self, flat: Floats) -> tuple[float, Floats]:
        """Loss and slope at some weights, each class's followed by its intercept."""
        at = flat.reshape(-1, self.known.size + 1)
        total, slope, n = 0.0, np.zeros_like(at), int(self.among.sum())
        weights, pulled = np.zeros((2, self.bag.idf.size, len(at)))
        weights[self.known] = (at[:, :-1] * self.idf).T
        for block, scale, labels in self.parts():
            lost, pull = _lost(scale * (block @ weights) + at[:, -1], labels)
            total += float(lost.sum())
            pulled += block.T @ (scale * pull)
            slope[:, -1] += pull.sum(0)
        slope[:, :-1] = (pulled[self.known]).T * self.idf
        penalty = 1.0 / (self.strength * n)
        loss = total / n + 0.5 * penalty * float((at[:, :-1] ** 2).sum())
        slope /= n
        slope[:, :-1] += penalty * at[:, :-1]
        return loss, slope.ravel()


def _lost(logits: Floats, labels: Ints) -> tuple[Floats, Floats]:
    """The loss of each row and its slope along the logits, of which two classes have one."""
    if logits.shape[1] == 1:
        one = logits[:, 0]
        small = np.exp(-np.abs(one))
        chance = np.where(one > 0.0, 1.0, small) / (1.0 + small)
        return np.log1p(small) + np.maximum(one, 0.0) - labels * one, (chance - labels)[:, None]
    high = logits.max(1, keepdims=True)
    chance = np.exp(logits - high)
    whole = chance.sum(1, keepdims=True)
    rows = np.arange(labels.size)
    lost = np.log(whole[:, 0]) + high[:, 0] - logits[rows, labels]
    chance /= whole
    chance[rows, labels] -= 1.0
    return lost, chance
