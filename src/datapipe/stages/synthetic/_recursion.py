# SPDX-License-Identifier: Apache-2.0
"""Generations of small models, each learning from what the one before made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.synthetic._drift import RARE
from datapipe.stages.synthetic._language import TEXT, learnt

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PlanName = Literal["replace", "accumulate", "subsample"]

BLOCK = TEXT
"""Tokens that are kept or left out together, as documents are."""
ORDER = 3


class Speaker(Protocol):
    """What a language model can do, however it learnt."""

    def drawn(self, n: int, rng: np.random.Generator) -> Ints:
        """Tokens that the model makes, int64 of shape (n,)."""
        ...

    def surprise(self, tokens: Ints) -> Floats:
        """Bits that each token costs, given those before it; shape (n,)."""
        ...


Learner = Callable[[Ints, int, np.random.Generator], Speaker]
"""From tokens, how many kinds there may be, and a source of chance, to a model."""


def ngrams(order: int = ORDER) -> Learner:
    """The learner of n-gram models: 2 for pairs, 3 for triples."""

    def learn(tokens: Ints, vocabulary: int, rng: np.random.Generator) -> Speaker:
        del rng  # counting leaves nothing to chance
        return learnt(tokens, vocabulary, order=order)

    return learn


@dataclass(frozen=True)
class Plan:
    """How the training data of the next generation comes about.

    Args:
        name: `replace` puts new output in the place of the old, `accumulate` adds it, `subsample`
            draws a training set of the first size from all that has accumulated.
        share: Synthetic share of each training set (`replace`), in [0, 1].
        truncated: Whether what occurred once is never made, as when a sampler cuts the tail.
    """

    name: PlanName
    share: float = 1.0
    truncated: bool = False

    def __str__(self) -> str:
        if self.name != "replace":
            return self.name
        return f"replace {self.share:.0%}" + (", tail cut" if self.truncated else "")


@dataclass(frozen=True)
class Course:
    """What became of a model's training data, generation by generation.

    Args:
        survival: float64, shape (generations + 1,); share of the first rare tokens still there.
        surprise: float64, the same shape; bits a token of unseen real text costs.
    """

    survival: Floats
    surprise: Floats


def recursion(
    tokens: Ints,
    unseen: Ints,
    plan: Plan,
    generations: int,
    rng: np.random.Generator,
    *,
    learner: Learner,
) -> Course:
    """Run generations of models.

    Args:
        tokens: int64, the real training text.
        unseen: int64, real text that no model learns from.
        plan: How training data comes about.
        generations: How many models learn from a model's output.
        rng: Draws blocks and texts.
        learner: Makes a model of each training set.
    """
    vocabulary = int(max(tokens.max(), unseen.max(initial=0))) + 1
    counts = np.bincount(tokens, minlength=vocabulary)
    tail = (counts > 0) & (counts <= RARE)
    n = tokens.size
    made = round(n * plan.share) if plan.name == "replace" else n
    kept = _blocks(tokens, n - made, rng) if plan.name == "replace" else tokens
    now = pool = tokens
    left, cost = [1.0], []
    for g in range(generations + 1):
        model = learner(now, vocabulary, rng)
        cost.append(float(model.surprise(unseen).mean()) if unseen.size else 0.0)
        if g == generations:
            break
        source = learner(_without_single(now), vocabulary, rng) if plan.truncated else model
        fresh = source.drawn(made, rng)
        if plan.name == "replace":
            now = np.concatenate([kept, fresh])
        else:
            pool = np.concatenate([pool, fresh])
            now = pool if plan.name == "accumulate" else _blocks(pool, n, rng)
        there = np.bincount(now, minlength=vocabulary) > 0
        left.append(float(there[tail].mean()) if tail.any() else 1.0)
    return Course(np.array(left), np.array(cost))


def _blocks(tokens: Ints, n: int, rng: np.random.Generator) -> Ints:
    """About n tokens in whole blocks, in random order."""
    starts = np.arange(0, tokens.size, BLOCK)
    chosen = rng.permutation(starts)[: -(-n // BLOCK)] if n else starts[:0]
    return np.concatenate([tokens[s : s + BLOCK] for s in chosen] or [tokens[:0]])[:n]


def _without_single(tokens: Ints) -> Ints:
    counts = np.bincount(tokens)
    return tokens[counts[tokens] > 1]
