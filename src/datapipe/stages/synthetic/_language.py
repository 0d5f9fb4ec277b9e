# SPDX-License-Identifier: Apache-2.0
"""A small language model on token numbers: back-off n-grams, drawn and scored a column at a time.

Witten-Bell smoothing needs no tuning: after a history with c occurrences and t kinds of
successors, the chance of leaving what was seen is t / (c + t). Drawing never makes a token that
the training data lacks, scoring allows for one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TEXT = 200
"""Tokens of a text that is drawn: longer ones would be caught in loops of their own, and how far
that goes would depend on how much is drawn."""


@dataclass(frozen=True)
class Level:
    """The histories of one length and what followed them.

    Args:
        keys: int64, sorted, shape (h,); one for each history.
        starts: int64, shape (h + 1,); history i owns `successors[starts[i]:starts[i + 1]]`.
        successors: int64; what followed each occurrence of a history, sorted within it.
        kinds: int64, shape (h,); how many different tokens followed.
    """

    keys: Ints
    starts: Ints
    successors: Ints
    kinds: Ints


@dataclass(frozen=True)
class Language:
    """An n-gram model.

    Args:
        levels: Histories of length 1, 2, ...
        tokens: int64; the training data, from which single tokens are drawn.
        counts: int64, shape (vocabulary,).
        vocabulary: How many tokens may occur at all.
    """

    levels: tuple[Level, ...]
    tokens: Ints
    counts: Ints
    vocabulary: int

    def drawn(self, n: int, rng: np.random.Generator) -> Ints:
        """Tokens that the model makes, int64 of shape (n,)."""
        streams = max(1, -(-n // TEXT))
        steps = -(-n // streams)
        longest = len(self.levels)
        made = np.empty((streams, steps + longest), np.int64)
        at = rng.integers(0, max(1, self.tokens.size - longest), streams)
        for step in range(longest):  # begin with a real history, that is not given out
            made[:, step] = self.tokens[np.minimum(at + step, self.tokens.size - 1)]
        for step in range(longest, steps + longest):
            made[:, step] = _next(self, made[:, step - longest : step], rng)
        return made[:, longest:].ravel()[:n]

    def surprise(self, tokens: Ints) -> Floats:
        """Bits that each token costs, given those before it; shape (n,)."""
        total, seen = self.tokens.size, int((self.counts > 0).sum())
        chance = (self.counts[tokens] + seen / self.vocabulary) / (total + seen)
        for length, level in enumerate(self.levels, start=1):
            if tokens.size <= length or not level.keys.size:
                continue
            keys = _histories(tokens, self.vocabulary, length)[:-1]
            place, known = _found(level, keys)
            times = level.starts[place + 1] - level.starts[place]
            hits = _occurrences(level, place, tokens[length:], self.vocabulary)
            lower = chance[length:]
            mixed = (hits + level.kinds[place] * lower) / np.maximum(times + level.kinds[place], 1)
            chance[length:] = np.where(known, mixed, lower)
        return np.asarray(-np.log2(chance), np.float64)


def learnt(tokens: Ints, vocabulary: int, *, order: int) -> Language:
    """The model of a token sequence.

    Args:
        tokens: int64, shape (n,), in 0..vocabulary-1.
        vocabulary: How many tokens may occur; its power of `order` is at most 2**63.
        order: 2 for pairs, 3 for triples.
    """
    levels = tuple(_level(tokens, vocabulary, length) for length in range(1, order))
    return Language(levels, tokens, np.bincount(tokens, minlength=vocabulary), vocabulary)


def _level(tokens: Ints, vocabulary: int, length: int) -> Level:
    if tokens.size <= length:
        return Level(tokens[:0], np.zeros(1, np.int64), tokens[:0], tokens[:0])
    pairs = np.sort(_histories(tokens, vocabulary, length + 1))  # one number sorts both parts
    keys, after = np.divmod(pairs, vocabulary)
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    fresh = np.append(True, pairs[1:] != pairs[:-1]).astype(np.int64)
    return Level(keys[starts], np.append(starts, after.size), after, np.add.reduceat(fresh, starts))


def _histories(tokens: Ints, vocabulary: int, length: int) -> Ints:
    """The history that ends at each token from `length - 1` on, as one number."""
    made = np.zeros(tokens.size - length + 1, np.int64)
    for step in range(length):
        made = made * vocabulary + tokens[step : tokens.size - length + 1 + step]
    return made


def _next(model: Language, past: Ints, rng: np.random.Generator) -> Ints:
    """One token after each history: the longest history that is not left decides."""
    m = past.shape[0]
    token: Ints = model.tokens[rng.integers(0, model.tokens.size, m)]
    open_ = np.ones(m, np.bool_)
    for length in range(len(model.levels), 0, -1):
        level = model.levels[length - 1]
        if not level.keys.size:
            continue
        place, known = _found(level, _folded(past[:, -length:], model.vocabulary))
        times = level.starts[place + 1] - level.starts[place]
        stay = rng.random(m) * (times + level.kinds[place]) < times
        pick = level.starts[place] + (rng.random(m) * times).astype(np.int64)
        use = open_ & known & stay
        followed = level.successors[np.minimum(pick, level.successors.size - 1)]
        token = np.where(use, followed, token)
        open_ &= ~use
    return token


def _folded(past: Ints, vocabulary: int) -> Ints:
    made = np.zeros(past.shape[0], np.int64)
    for step in range(past.shape[1]):
        made = made * vocabulary + past[:, step]
    return made


def _found(level: Level, keys: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    place = np.minimum(np.searchsorted(level.keys, keys), level.keys.size - 1)
    return place, level.keys[place] == keys


def _occurrences(level: Level, place: Ints, after: Ints, vocabulary: int) -> Ints:
    """How often each token followed its history, by one search over all."""
    owner = np.repeat(np.arange(level.keys.size), np.diff(level.starts))
    pairs = owner * vocabulary + level.successors  # sorted, because successors are within one
    asked = place * vocabulary + after
    after_, before = (np.searchsorted(pairs, asked, side=s) for s in ("right", "left"))
    return np.asarray(after_ - before, np.int64)
