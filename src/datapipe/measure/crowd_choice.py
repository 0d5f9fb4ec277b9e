# SPDX-License-Identifier: Apache-2.0
"""Which way of joining answers suits a crowd: the one that foretells answers it was not shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError, LimitExceeded, nearest
from datapipe.measure.crowd import Answers, Consensus, majority, wawa
from datapipe.measure.crowd_bayes import ebcc, ibcc
from datapipe.measure.crowd_glad import glad
from datapipe.measure.crowd_models import (
    affordable,
    confusions,
    dawid_skene,
    hierarchical,
    one_coin,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Fit = Callable[[Answers], Consensus]

ROUNDS = 50
"""Rounds of EBCC within `auto`: what it still gains after them is lost in the average."""

METHODS: Mapping[str, Fit] = {
    "majority": majority,
    "wawa": wawa,
    "one_coin": one_coin,
    "dawid_skene": dawid_skene,
    "hierarchical": hierarchical,
    "ibcc": ibcc,
    "ebcc": ebcc,
    "glad": glad,
}
"""The single methods by name; `auto` weighs them."""

CANDIDATES: Mapping[str, Fit] = {
    **{name: fit for name, fit in METHODS.items() if name not in ("glad", "ebcc")},
    "ebcc": partial(ebcc, iterations=ROUNDS),
    "one_coin, even classes": partial(one_coin, even=True),
    "dawid_skene, firm prior": partial(dawid_skene, smoothing=1.0),
    "hierarchical, firm prior": partial(hierarchical, strength=10.0),
}
"""What `auto` averages: methods that fail in different ways, with weak and firm priors."""

FOLDS = 4
SCALE = 0.07
"""Nats an answer: a method that foretells answers worse by this much counts e times less. Narrow
scales follow the luck of one fold, wide ones keep methods that do not fit."""
OWN_VOICE = 0.4
"""Share of each item's own weighted votes in its posterior, before left-out answers are heard.
Models of annotators take errors for independent; people who find the same item hard err together,
and votes show that."""
VOICES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""Shares of own votes that are compared by left-out answers. The best of them counts for half: what
all annotators of an item get wrong, the left-out ones among them cannot tell."""
HELD_CELLS = 2**24
"""Most numbers kept to compare shares of own votes; beyond that `OWN_VOICE` stands."""
LEAST_WEIGHT = 0.005
SCORED_ANSWERS = 100_000
"""Most answers that methods are compared on; items beyond that are left out of the comparison."""
PULL = 4.0
"""Answers of the average skill that a skill learnt from few answers is drawn by."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What `aggregate` made, and why.

    Args:
        consensus: The joined answers.
        scores: Log likelihood of a left-out answer by method, in nats, with its interval.
        weights: Share of each method in the posterior; they sum to 1.
        left_out: Why a method was not tried.
        own_voice: Share of an item's own weighted votes in its posterior.

    Example:
        >>> one = Consensus(np.ones((1, 1)), None, np.ones(1), 0, 0.0)
        >>> Choice(one, {}, {"majority": 1.0}, {}).best
        'majority'
    """

    consensus: Consensus
    scores: Mapping[str, Estimate]
    weights: Mapping[str, float]
    left_out: Mapping[str, str]
    own_voice: float = 0.0

    @property
    def best(self) -> str:
        """The method with the largest share."""
        return max(self.weights, key=lambda name: self.weights[name])


def aggregate(answers: Answers, method: str = "auto", *, seed: int = 0) -> Choice:
    """Join answers by one method, or by all that foretell left-out answers well.

    `auto` leaves out every fourth answer in turn, asks each method how likely the left-out answers
    were, and averages the methods' posteriors with weights that fall off with that likelihood. No
    truth is used. Every item's own weighted votes have a voice in its posterior, so that
    disagreement stays visible in the soft labels.

    Args:
        answers: The answers.
        method: `auto` or a name in `METHODS`.
        seed: Deals the folds.

    Returns:
        The joined answers with scores and weights.

    Raises:
        DeclarationError: There is no such method.

    Example:
        >>> item, who = np.repeat(np.arange(99), 3), np.tile(np.arange(3), 99)
        >>> rng = np.random.default_rng(0)
        >>> said = np.where(rng.random(297) < 0.9, item % 2, 1 - item % 2)
        >>> made = aggregate(Answers(item, who, said, 99, 3, 2))
        >>> float((made.consensus.posterior.argmax(1) == np.arange(99) % 2).mean()) > 0.9
        True
    """
    if method != "auto":
        if method not in METHODS:
            raise DeclarationError(
                f"there is no method {method!r}", hint=nearest(method, ["auto", *METHODS])
            )
        return Choice(METHODS[method](answers), {}, {method: 1.0}, {})
    left_out = _unaffordable(answers)
    names = [name for name in CANDIDATES if name not in left_out]
    told, parts = _compared(answers, names, seed)
    scores = {n: s for n, s in told.items() if s.n}
    if not scores:
        return Choice(wawa(answers), {}, {"wawa": 1.0}, left_out)
    best = max(s.value for s in scores.values())
    raw = {n: float(np.exp((s.value - best) / SCALE)) for n, s in scores.items()}
    total = sum(raw.values())
    weights = {n: w / total for n, w in raw.items() if w / total >= LEAST_WEIGHT}
    total = sum(weights.values())
    weights = {n: w / total for n, w in weights.items()}
    own = _own_voice(parts, weights, left_out)
    posterior = own * wawa(answers).posterior
    for name, weight in weights.items():
        posterior += (1.0 - own) * weight * CANDIDATES[name](answers).posterior
    return Choice(_described(answers, posterior, left_out), scores, weights, left_out, own)


def foretold(answers: Answers, names: list[str], *, seed: int = 0) -> dict[str, Estimate]:
    """How likely each method holds the answers that it was not shown.

    Args:
        answers: The answers.
        names: Keys of `CANDIDATES`.
        seed: Deals the folds.

    Returns:
        Mean log likelihood of a left-out answer in nats, with a normal interval; n is the number
        of answers compared.

    Example:
        >>> item, who = np.repeat(np.arange(99), 3), np.tile(np.arange(3), 99)
        >>> made = foretold(Answers(item, who, item % 2, 99, 3, 2), ["majority"])
        >>> made["majority"].value > -0.5
        True
    """
    return _compared(answers, names, seed)[0]


@dataclass(frozen=True, eq=False)
class _Part:
    """What the methods made of all answers but a fold's."""

    shown: Answers
    hidden: Answers
    posteriors: Mapping[str, NDArray[np.float32]]


def _compared(
    answers: Answers, names: list[str], seed: int
) -> tuple[dict[str, Estimate], list[_Part]]:
    """How well each method foretells left-out answers; the parts, where they are few enough."""
    rng = np.random.default_rng(seed)
    sample = _sampled(answers, rng)
    fold = rng.permutation(sample.item.size) % FOLDS
    told = {name: np.zeros(sample.item.size) for name in names}
    held = sample.n_items * sample.n_classes * len(names) * FOLDS <= HELD_CELLS
    parts: list[_Part] = []
    for number in range(FOLDS):
        shown, hidden = sample.part(fold != number), sample.part(fold == number)
        posteriors: dict[str, NDArray[np.float32]] = {}
        for name in names:
            made = CANDIDATES[name](shown)
            told[name][fold == number] = chances(made, shown, hidden)
            if held:
                posteriors[name] = made.posterior.astype(np.float32)
        if held:
            parts.append(_Part(shown, hidden, posteriors))
    return {name: _mean(np.log(np.maximum(p, 1e-12))) for name, p in told.items()}, parts


def _own_voice(
    parts: list[_Part], weights: Mapping[str, float], left_out: Mapping[str, str]
) -> float:
    """The share of own votes, half way between the usual one and the one left-out answers ask."""
    if not parts:
        return OWN_VOICE
    total = dict.fromkeys(VOICES, 0.0)
    for part in parts:
        votes = part.posteriors["wawa"].astype(np.float64)
        joined = sum((w * part.posteriors[n] for n, w in weights.items()), np.zeros_like(votes))
        for voice in VOICES:
            mixed = _described(part.shown, voice * votes + (1.0 - voice) * joined, left_out)
            chance = chances(mixed, part.shown, part.hidden)
            total[voice] += float(np.log(np.maximum(chance, 1e-12)).sum())
    return 0.5 * (OWN_VOICE + max(VOICES, key=lambda voice: total[voice]))


def chances(consensus: Consensus, shown: Answers, hidden: Answers) -> Floats:
    """The chance of each hidden answer, given what was made of the shown ones.

    Args:
        consensus: Learnt from `shown`.
        shown: The answers it was learnt from.
        hidden: Answers with the same codes.

    Returns:
        float64, shape (number of hidden answers,).

    Example:
        >>> one = np.zeros(3, np.int64)
        >>> three = Answers(one, np.arange(3), one, 1, 3, 2)
        >>> float(chances(majority(three), three, three)[0]) > 0.9
        True
    """
    if consensus.confusion is not None:
        q, table = consensus.posterior, consensus.confusion
        made = np.zeros(hidden.item.size)
        for true in range(q.shape[1]):
            made += q[hidden.item, true] * table[hidden.annotator, true, hidden.label]
        return made
    q, load = consensus.posterior, shown.load()
    right = shown.load(q[shown.item, shown.label])
    average = right.sum() / max(load.sum(), 1e-12)
    skill = ((right + PULL * average) / (load + PULL))[hidden.annotator]
    own = q[hidden.item, hidden.label]
    spread: Floats = skill * own + (1.0 - skill) / max(1, q.shape[1] - 1) * (1.0 - own)
    return spread


def _unaffordable(answers: Answers) -> dict[str, str]:
    """Methods whose tables would not fit; the rest is tried without them."""
    left_out = {}
    for name in CANDIDATES:
        if name.startswith(("majority", "wawa", "one_coin")):
            continue
        try:
            affordable(answers, 5 if name == "ebcc" else 1)
        except LimitExceeded as error:
            left_out[name] = error.message
    return left_out


def _sampled(answers: Answers, rng: np.random.Generator) -> Answers:
    """The answers of as many random items as the comparison may take, renumbered."""
    if answers.item.size <= SCORED_ANSWERS:
        return replace(answers, gold=None)
    order = rng.permutation(answers.n_items)
    count = np.bincount(answers.item, minlength=answers.n_items)[order]
    chosen = np.sort(order[: max(1, int(np.searchsorted(np.cumsum(count), SCORED_ANSWERS)))])
    number = np.full(answers.n_items, -1)
    number[chosen] = np.arange(chosen.size)
    some = answers.part(number[answers.item] >= 0)
    people, who = np.unique(some.annotator, return_inverse=True)
    return Answers(
        number[some.item],
        who.astype(np.int64),
        some.label,
        chosen.size,
        people.size,
        answers.n_classes,
        some.weight,
    )


def _described(answers: Answers, posterior: Floats, left_out: Mapping[str, str]) -> Consensus:
    """A consensus around a mixed posterior: prior and, where they fit, confusion matrices."""
    posterior = answers.clamped(posterior)
    prior = posterior.mean(0)
    right = answers.load(posterior[answers.item, answers.label])
    load = answers.load()
    average = right.sum() / max(load.sum(), 1e-12)
    skill = (right + PULL * average) / (load + PULL)
    if "dawid_skene" in left_out:
        return Consensus(posterior, None, prior, 1, float("nan"), skill)
    table = confusions(answers, posterior).transpose(0, 2, 1)
    pooled = table.sum(0) + 1e-6 + np.eye(answers.n_classes)
    pooled /= pooled.sum(1, keepdims=True)
    table = table + PULL * pooled
    table /= table.sum(2, keepdims=True)
    return Consensus(posterior, table, prior, 1, float("nan"), skill)


def _mean(logs: Floats) -> Estimate:
    if logs.size < 2:
        return Estimate.unknown(-np.inf, 0.0, method="too few answers")
    value, half = float(logs.mean()), 1.96 * float(logs.std(ddof=1)) / float(np.sqrt(logs.size))
    return Estimate(
        value, value - half, value + half, n=logs.size, method="left-out answers", unit="nats"
    )
