# SPDX-License-Identifier: Apache-2.0
"""Answers that are numbers, or choices between two things: means and rankings with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import DeclarationError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Z95 = 1.959963984540054


@dataclass(frozen=True, eq=False)
class Values:
    """A number an item, from the numbers of several annotators.

    Args:
        value: float64, shape (n_items,); NaN without an answer.
        low: float64, shape (n_items,): lower bound of the 95 % interval.
        high: float64, shape (n_items,): upper bound.
        bias: float64, shape (n_annotators,): how far an annotator answers above the others.
        spread: float64, shape (n_annotators,): standard deviation of an annotator's errors.

    Example:
        >>> Values(*(np.zeros(1),) * 5).value.tolist()
        [0.0]
    """

    value: Floats
    low: Floats
    high: Floats
    bias: Floats
    spread: Floats


def joined_values(
    item: Ints, annotator: Ints, value: Floats, *, n_items: int, n_annotators: int, rounds: int = 50
) -> Values:
    """Means weighted by how exact each annotator is, their biases taken out.

    Args:
        item: int64, shape (m,).
        annotator: int64, shape (m,).
        value: float64, shape (m,), finite.
        n_items: How many items there are.
        n_annotators: How many annotators there are.
        rounds: Rounds of EM, >= 1.

    Returns:
        Values with intervals, biases and spreads.

    Raises:
        DeclarationError: The arrays differ in length, or a value is not finite.

    Example:
        >>> made = joined_values(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]),
        ...     np.array([1.0, 2.0, 5.0, 6.0]), n_items=2, n_annotators=2)
        >>> made.value.round(1).tolist(), made.bias.round(1).tolist()
        ([1.5, 5.5], [-0.5, 0.5])

    References:
        Raykar et al., 2010, Learning from crowds.
    """
    if not item.size == annotator.size == value.size or not np.isfinite(value).all():
        raise DeclarationError("one finite value, item and annotator an answer are needed")
    load = np.bincount(annotator, minlength=n_annotators)
    overall = float(value.var()) if value.size else 1.0
    bias, variance = np.zeros(n_annotators), np.full(n_annotators, max(overall, 1e-12))
    mean, error = np.full(n_items, np.nan), np.full(n_items, np.nan)
    for _ in range(rounds):
        precision = 1.0 / variance[annotator]
        weight = np.bincount(item, precision, minlength=n_items)
        pulled = np.bincount(item, precision * (value - bias[annotator]), minlength=n_items)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean, error = pulled / weight, 1.0 / weight
        rest = value - mean[item]
        bias = np.bincount(annotator, rest, minlength=n_annotators) / np.maximum(load, 1)
        bias -= float((bias * load).sum()) / max(1, int(load.sum()))
        square = np.bincount(annotator, (rest - bias[annotator]) ** 2, minlength=n_annotators)
        square += np.bincount(annotator, error[item], minlength=n_annotators)
        floor = max(1e-12, 1e-6 * overall)
        pooled = float(square.sum()) / max(1, item.size)
        variance = np.maximum((square + 2.0 * pooled) / (load + 2.0), floor)  # a weak prior
    half = Z95 * np.sqrt(error)
    return Values(mean, mean - half, mean + half, bias, np.sqrt(variance))


@dataclass(frozen=True, eq=False)
class Ranking:
    """How strongly each thing is preferred.

    Args:
        strength: float64, shape (n,): log of the Bradley-Terry strength, mean 0.
        low: float64, shape (n,): lower bound of the 95 % interval.
        high: float64, shape (n,): upper bound.
        trust: float64, shape (n_annotators,), in [0, 1]: chance that an annotator's choice follows
            the strengths rather than the reverse.

    Example:
        >>> Ranking(*(np.zeros(2),) * 4).order.tolist()
        [0, 1]
    """

    strength: Floats
    low: Floats
    high: Floats
    trust: Floats

    @property
    def order(self) -> Ints:
        """The things from the most to the least preferred, int64 of shape (n,)."""
        made: Ints = np.argsort(-self.strength, kind="stable")
        return made


def bradley_terry(
    winner: Ints,
    loser: Ints,
    annotator: Ints | None = None,
    *,
    n: int,
    rounds: int = 100,
    prior: float = 0.1,
) -> Ranking:
    """Rank things from choices between two, annotators who choose backwards found and turned.

    Args:
        winner: int64 in 0..n-1, shape (m,): what was preferred.
        loser: int64 in 0..n-1, shape (m,): what it was preferred to.
        annotator: int64 >= 0, shape (m,): who chose; None trusts every choice.
        n: How many things there are.
        rounds: Rounds of EM, >= 1.
        prior: Weight of a standard normal prior on strengths, > 0: keeps things that always win
            finite.

    Returns:
        The ranking with intervals from the information matrix.

    Raises:
        DeclarationError: The arrays differ in length, or a thing is compared with itself.

    Example:
        >>> made = bradley_terry(np.array([0, 0, 1, 0]), np.array([1, 2, 2, 1]), n=3)
        >>> made.order.tolist()
        [0, 1, 2]

    References:
        Bradley & Terry, 1952, Rank analysis of incomplete block designs; Chen et al., 2013,
        Pairwise ranking aggregation in a crowdsourced setting.
    """
    if winner.size != loser.size or bool((winner == loser).any()):
        raise DeclarationError("every choice needs two different things")
    if annotator is not None and annotator.size != winner.size:
        raise DeclarationError(f"{annotator.size} annotators for {winner.size} choices")
    who = np.zeros(winner.size, np.int64) if annotator is None else annotator
    people = int(who.max()) + 1 if who.size else 1
    strength, trust = np.zeros(n), np.full(people, 0.9)
    for _ in range(rounds):
        chance = 1.0 / (1.0 + np.exp(strength[loser] - strength[winner]))
        follows = np.ones(winner.size)
        if annotator is not None:
            up = trust[who] * chance
            follows = up / (up + (1 - trust[who]) * (1 - chance))
            load = np.bincount(who, minlength=people)
            trust = (np.bincount(who, follows, minlength=people) + 9.0) / (load + 10.0)
        push = follows - chance
        slope = np.bincount(winner, push, minlength=n) - np.bincount(loser, push, minlength=n)
        bend = chance * (1 - chance)
        curve = np.bincount(winner, bend, minlength=n) + np.bincount(loser, bend, minlength=n)
        # each strength's own curve bounds half of the joint one: half steps never overshoot
        step = (slope - prior * strength) / (2.0 * curve + prior)
        strength = strength + step
        strength -= strength.mean()
        if np.abs(step).max(initial=0.0) < 1e-8:
            break
    half = Z95 * _errors(strength, winner, loser, prior)
    return Ranking(strength, strength - half, strength + half, trust)


def _errors(strength: Floats, winner: Ints, loser: Ints, prior: float) -> Floats:
    """Standard errors: the inverse of the information, or of its diagonal for very many things."""
    n = strength.size
    chance = 1.0 / (1.0 + np.exp(strength[loser] - strength[winner]))
    bend = chance * (1 - chance)
    own = np.bincount(winner, bend, minlength=n) + np.bincount(loser, bend, minlength=n) + prior
    if n > 2000:
        return np.asarray(1.0 / np.sqrt(own))
    table = np.diag(own)
    np.add.at(table, (winner, loser), -bend)
    np.add.at(table, (loser, winner), -bend)
    return np.asarray(np.sqrt(np.diag(np.linalg.inv(table))))
