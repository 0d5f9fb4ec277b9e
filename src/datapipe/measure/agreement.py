# SPDX-License-Identifier: Apache-2.0
"""How far annotators agree beyond chance: Cohen, Fleiss, Krippendorff, with bootstrap intervals."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError
from datapipe.measure.crowd import Answers

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Level = Literal["nominal", "ordinal", "interval"]

REPEATS = 500
FEWEST_SHARED = 2
"""Items that two annotators must share to be compared."""


def cohen_kappa(first: Ints, second: Ints, n_classes: int) -> float:
    """Agreement of two annotators beyond chance.

    Args:
        first: int64 in 0..K-1, shape (n,).
        second: int64 in 0..K-1, shape (n,): of the same items.
        n_classes: K.

    Returns:
        Kappa, at most 1; NaN where both always gave one and the same answer.

    Raises:
        DeclarationError: The two have different lengths.

    Example:
        >>> round(cohen_kappa(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]), 2), 2)
        0.5

    References:
        Cohen, 1960, A coefficient of agreement for nominal scales.
    """
    if first.size != second.size:
        raise DeclarationError(f"{first.size} and {second.size} answers: the same items are needed")
    table = np.bincount(first * n_classes + second, minlength=n_classes**2) * 1.0
    table = table.reshape(n_classes, n_classes) / max(1, first.size)
    chance = float(table.sum(0) @ table.sum(1))
    return float("nan") if chance >= 1 else (float(np.trace(table)) - chance) / (1 - chance)


def fleiss_kappa(votes: Floats) -> float:
    """Agreement of any number of annotators beyond chance.

    Args:
        votes: float64, shape (n_items, K): answers by class; items with one answer are left out.

    Returns:
        Kappa, at most 1; NaN where it is not defined.

    Example:
        >>> fleiss_kappa(np.array([[3.0, 0.0], [0.0, 3.0]]))
        1.0

    References:
        Fleiss, 1971, Measuring nominal scale agreement among many raters.
    """
    count = votes.sum(1)
    used, count = votes[count > 1], count[count > 1]
    if not count.size:
        return float("nan")
    same = ((used**2).sum(1) - count) / (count * (count - 1))
    common = used.sum(0) / used.sum()
    chance = float((common**2).sum())
    return float("nan") if chance >= 1 else (float(same.mean()) - chance) / (1 - chance)


def krippendorff_alpha(
    votes: Floats, *, level: Level = "nominal", values: Floats | None = None
) -> float:
    """Agreement beyond chance for any number of annotators, with gaps, on any scale.

    Args:
        votes: float64, shape (n_items, K): answers by class; items with one answer are left out.
        level: Scale of the classes: `nominal`, `ordinal` (in column order) or `interval`.
        values: float64, shape (K,): the number that each class stands for; None counts columns.

    Returns:
        Alpha, at most 1; NaN where every answer is the same.

    Raises:
        DeclarationError: There is no such level.

    Example:
        >>> krippendorff_alpha(np.array([[2.0, 0.0], [0.0, 2.0]]))
        1.0

    References:
        Krippendorff, 2011, Computing Krippendorff's alpha-reliability.
    """
    coincidence, common = _coincidences(votes)
    return _alpha(coincidence, common, _distance(common, level, values))


def alpha_estimate(
    answers: Answers,
    rng: np.random.Generator,
    *,
    level: Level = "nominal",
    values: Floats | None = None,
    repeats: int = REPEATS,
) -> Estimate:
    """Krippendorff's alpha with a bootstrap interval over items.

    Args:
        answers: The answers.
        rng: Draws the resamples.
        level: Scale of the classes.
        values: float64, shape (K,): the number that each class stands for.
        repeats: How many resamples, >= 100.

    Returns:
        Alpha; n is the number of items with two answers or more.

    Raises:
        DeclarationError: Fewer than 100 repeats were asked for.

    Example:
        >>> item, who = np.repeat(np.arange(40), 3), np.tile(np.arange(3), 40)
        >>> made = alpha_estimate(Answers(item, who, item % 2, 40, 3, 2), np.random.default_rng(0))
        >>> made.value
        1.0

    References:
        Hayes & Krippendorff, 2007, Answering the call for a standard reliability measure.
    """
    if repeats < 100:
        raise DeclarationError(f"repeats={repeats}: at least 100 are needed")
    votes = answers.votes()
    votes = votes[votes.sum(1) > 1]
    if len(votes) < FEWEST_SHARED:
        return Estimate.unknown(-1.0, 1.0, method="no two items have two answers", n=len(votes))
    value = krippendorff_alpha(votes, level=level, values=values)
    drawn = []
    for _ in range(repeats):
        again = np.bincount(rng.integers(len(votes), size=len(votes)), minlength=len(votes))
        coincidence, common = _coincidences(votes, again.astype(np.float64))
        drawn.append(_alpha(coincidence, common, _distance(common, level, values)))
    held = np.array(drawn)[np.isfinite(drawn)]
    if not np.isfinite(value) or not held.size:
        return Estimate.unknown(-1.0, 1.0, method="every answer is the same", n=len(votes))
    low, high = (float(q) for q in np.quantile(held, [0.025, 0.975]))
    return Estimate(
        value, min(low, value), max(high, value), n=len(votes), method="bootstrap over items"
    )


def pairwise_kappas(answers: Answers) -> list[tuple[int, int, int, float]]:
    """Cohen's kappa of every two annotators who share items.

    Args:
        answers: The answers; the first of an annotator to an item counts.

    Returns:
        First annotator, second annotator, items shared, kappa; annotators in order.

    Example:
        >>> item, who = np.repeat(np.arange(9), 2), np.tile(np.arange(2), 9)
        >>> pairwise_kappas(Answers(item, who, item % 2, 9, 2, 2))
        [(0, 1, 9, 1.0)]
    """
    pair = answers.annotator * answers.n_items + answers.item
    _, first = np.unique(pair, return_index=True)
    who, item, said = answers.annotator[first], answers.item[first], answers.label[first]
    ends = np.cumsum(np.bincount(who, minlength=answers.n_annotators))
    starts = np.r_[0, ends[:-1]]
    held = np.full(answers.n_items, -1)
    made = []
    for a in range(answers.n_annotators):
        held[:] = -1
        own = slice(starts[a], ends[a])
        held[item[own]] = said[own]
        theirs = held[item[ends[a] :]]
        shared = theirs >= 0
        later, ours = who[ends[a] :][shared], theirs[shared]
        others = said[ends[a] :][shared]
        for b in np.unique(later).tolist():
            both = later == b
            n = int(both.sum())
            if n >= FEWEST_SHARED:
                made.append((a, b, n, cohen_kappa(ours[both], others[both], answers.n_classes)))
    return made


def retested(answers: Answers) -> Floats:
    """How often an annotator who is asked again says the same.

    Args:
        answers: The answers, repeats included.

    Returns:
        float64, shape (n_annotators,); NaN for somebody who was never asked twice.

    Example:
        >>> zero = np.zeros(2, np.int64)
        >>> retested(Answers(zero, zero, np.array([1, 1]), 1, 1, 2)).tolist()
        [1.0]
    """
    pair = answers.annotator * answers.n_items + answers.item
    kinds, number, count = np.unique(pair, return_inverse=True, return_counts=True)
    cell, votes = np.unique(number * answers.n_classes + answers.label, return_counts=True)
    same = np.bincount(cell // answers.n_classes, votes * (votes - 1.0), minlength=kinds.size)
    pairs = count * (count - 1.0)
    who = kinds // answers.n_items
    asked = np.bincount(who, pairs, minlength=answers.n_annotators)
    agreed = np.bincount(who, same, minlength=answers.n_annotators)
    made: Floats = np.where(asked > 0, agreed / np.where(asked > 0, asked, 1.0), np.nan)
    return made


def _coincidences(votes: Floats, weight: Floats | None = None) -> tuple[Floats, Floats]:
    """Pairs of answers to one item, each item's pairs sharing its answers' weight."""
    count = votes.sum(1)
    used = votes[count > 1]
    share = 1.0 / (count[count > 1] - 1.0)
    if weight is not None:
        share = share * weight[count > 1]
    table = (used * share[:, None]).T @ used
    table[np.diag_indices_from(table)] -= share @ used
    return table, table.sum(0)


def _distance(common: Floats, level: Level, values: Floats | None) -> Floats:
    k = common.size
    if level == "nominal":
        return 1.0 - np.eye(k)
    if level == "interval":
        at = np.arange(k, dtype=np.float64) if values is None else values
    elif level == "ordinal":
        at = np.cumsum(common) - common / 2.0
    else:
        raise DeclarationError(f"{level!r} is none of nominal, ordinal, interval")
    made: Floats = (at[:, None] - at[None, :]) ** 2
    return made


def _alpha(coincidence: Floats, common: Floats, distance: Floats) -> float:
    n = float(common.sum())
    expected = float(common @ distance @ common) / max(n - 1.0, 1e-12)
    return float("nan") if expected <= 0 else 1.0 - float((coincidence * distance).sum()) / expected
