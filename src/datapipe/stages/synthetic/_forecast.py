# SPDX-License-Identifier: Apache-2.0
"""What generations of training on generated text do to a corpus, from a small part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.measure.intervals import mean
from datapipe.stages.synthetic import _drift
from datapipe.stages.synthetic._recursion import Learner, Plan, ngrams, recursion
from datapipe.stages.synthetic._tokens import Tokens

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PAIRS = ngrams(2)
"""Pairs: on a part of the corpus they forget as triples do on all of it."""
UNSEEN = 0.2
MOST_TOKENS = 60_000


@dataclass(frozen=True)
class Forecast:
    """How the tail and the fit of a model develop under one plan.

    Args:
        plan: The plan.
        survival: One estimate for each generation, 0 included.
        surprise: Change of bits a token of unseen real text costs, one for each generation.
        exact: Whether survival comes from the counts of the whole corpus.
    """

    plan: Plan
    survival: tuple[Estimate, ...]
    surprise: tuple[Estimate, ...]
    exact: bool

    def to_json(self) -> dict[str, Any]:
        """The curves with their bands, as JSON values."""
        return {
            "plan": str(self.plan),
            "regime": self.plan.name,
            "share": self.plan.share,
            "tail_survival": [e.value for e in self.survival],
            "tail_survival_low": [e.low for e in self.survival],
            "tail_survival_high": [e.high for e in self.survival],
            "cross_entropy_change": [e.value for e in self.surprise],
            "cross_entropy_change_low": [e.low for e in self.surprise],
            "cross_entropy_change_high": [e.high for e in self.surprise],
        }


@dataclass(frozen=True)
class Corpus:
    """The counts of a whole corpus, and the part of it that models are run on.

    Args:
        counts: Histogram of the whole corpus.
        train: int64; tokens that the first model learns from, numbered anew.
        unseen: int64; tokens that no model learns from, with the same numbers.
        vocabulary_counts: int64; how often each kind of token occurs in the whole corpus.
    """

    counts: _drift.Histogram
    train: Ints
    unseen: Ints
    vocabulary_counts: Ints


def corpus(tokens: Tokens, rows: int, sample: float, rng: np.random.Generator) -> Corpus:
    """Draw whole texts until the sample is full; a fifth of them stays unseen."""
    counts = np.bincount(tokens.ids, minlength=tokens.kinds).astype(np.int64)
    wanted = min(round(sample * tokens.ids.size), MOST_TOKENS)
    sizes = np.bincount(tokens.rows, minlength=rows)
    order = rng.permutation(rows)
    chosen = order[: int(np.searchsorted(np.cumsum(sizes[order]), wanted)) + 1]
    held = max(1, round(UNSEEN * chosen.size)) if chosen.size > 1 else 0
    train = tokens.of(chosen[held:])[:wanted]
    unseen = tokens.of(chosen[:held])
    if not held:
        cut = round((1 - UNSEEN) * train.size)
        train, unseen = train[:cut], train[cut:]
    unseen = unseen[: wanted // 4 + 1]
    _, small = np.unique(np.concatenate([train, unseen]), return_inverse=True)
    return Corpus(_drift.histogram(counts), small[: train.size], small[train.size :], counts)


def excesses(
    made: Corpus, seeds: Sequence[np.random.Generator], learner: Learner = PAIRS
) -> Floats:
    """How much more unevenly a model repeats itself than chance would, one for each seed."""
    part = _drift.histogram(np.bincount(made.train))
    every = Plan("replace", 1.0)
    seen = [recursion(made.train, made.unseen, every, 1, rng, learner=learner) for rng in seeds]
    return np.array([_drift.fitted_excess(part, 1.0, 0.0, c.survival[1:])[0] for c in seen])


def forecast(
    made: Corpus,
    plan: Plan,
    generations: int,
    seeds: Sequence[np.random.Generator],
    excess: Floats,
    *,
    learner: Learner = PAIRS,
) -> Forecast:
    """The course under one plan, as intervals over seeds.

    Survival comes from the counts of the whole corpus: in closed form, with the excess of each
    generation that the simulation shows, for models that fall into loops lose more with each; or
    by resampling the counts. Under accumulation nothing is lost.
    """
    runs = [
        recursion(made.train, made.unseen, plan, generations, r, learner=learner) for r in seeds
    ]
    cost = [_over([c.surprise[g] - c.surprise[0] for c in runs]) for g in range(generations + 1)]
    exact = plan.name != "accumulate"
    if plan.name == "replace" and not plan.truncated:
        kept, part = 1.0 - plan.share, _drift.histogram(np.bincount(made.train))
        own = [_drift.fitted_excess(part, plan.share, kept, c.survival[1:]) for c in runs]
        curves = [
            _drift.survival(made.counts, generations, plan.share, kept=kept, excess=e) for e in own
        ]
    elif exact:
        curves = [
            _drift.drifted(
                made.vocabulary_counts, generations, r, plan=plan.name, share=plan.share, excess=e,
                truncated=plan.truncated,
            )
            for r, e in zip(seeds, excess, strict=False)
        ]  # fmt: skip
    else:
        curves = [c.survival for c in runs]
    left = [
        _over([c[g] for c in curves], within=(0.0, 1.0), spread=_chance(made, curves, g, exact))
        for g in range(generations + 1)
    ]
    return Forecast(plan, tuple(left), tuple(cost), exact)


def _chance(made: Corpus, curves: Sequence[Floats], g: int, exact: bool) -> float:  # noqa: FBT001 - one fact, named at both ends
    """Chance alone, beside the spread over seeds: survival counts a finite number of kinds."""
    tail = max(1, made.counts.rare if exact else _drift.histogram(np.bincount(made.train)).rare)
    p = float(np.mean([c[g] for c in curves]))
    return float(np.sqrt(p * (1 - p) / tail))


def _over(
    values: Sequence[float], *, within: tuple[float, float] | None = None, spread: float = 0.0
) -> Estimate:
    found = mean(np.array(values))
    low = found.low - 1.96 * spread if len(values) > 1 else found.value - 1.96 * spread
    high = found.high + 1.96 * spread if len(values) > 1 else found.value + 1.96 * spread
    if within:
        low, high = max(within[0], low), min(within[1], high)
    value = min(max(found.value, low), high)
    return Estimate(value, low, high, n=len(values), method="seeds, student-t")
