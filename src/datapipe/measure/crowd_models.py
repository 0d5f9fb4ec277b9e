# SPDX-License-Identifier: Apache-2.0
"""Annotators with a skill or a confusion matrix, learnt together with the labels by EM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import DeclarationError, LimitExceeded
from datapipe.measure.crowd import MOST_CELLS, Answers, Consensus, majority

Floats = NDArray[np.float64]

SEEN = 1e-10
"""What a confusion cell of an observed answer holds at least, as in the reference."""
FEW_COLUMNS = 24
SHRINKAGE = 100.0
"""Answers of a perfect or chance crowd that the pooled confusion matrix is shrunk by."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """One M-step: logarithms of the chances that the E-step adds up.

    Args:
        habits: float64, shape (n_annotators * n_classes, n_classes): row `who * K + said`, one
            column a true class.
        prior: float64, shape (n_classes,).

    Example:
        >>> Fitted(np.zeros((2, 2)), np.zeros(2)).prior.size
        2
    """

    habits: Floats
    prior: Floats


def one_coin(
    answers: Answers, *, iterations: int = 100, tolerance: float = 1e-6, even: bool = False
) -> Consensus:
    """One skill an annotator: the chance of a right answer, errors spread evenly.

    Args:
        answers: The answers.
        iterations: Most rounds, >= 1.
        tolerance: Stops when the log likelihood of an answer rises by less; 0 never stops.
        even: Whether all classes are held equally common rather than learnt.

    Returns:
        The consensus with skills; no confusion matrices.

    Example:
        >>> item, who = np.repeat(np.arange(99), 3), np.tile(np.arange(3), 99)
        >>> rng = np.random.default_rng(0)
        >>> said = np.where(rng.random(297) < 0.9, item % 2, 1 - item % 2)
        >>> made = one_coin(Answers(item, who, said, 99, 3, 2))
        >>> bool((np.abs(made.skill - 0.9) < 0.15).all())
        True

    References:
        Ghosh, Kale & McAfee, 2011, Who moderates the moderators?; Zhang et al., 2016, Spectral
        methods meet EM.
    """
    k = answers.n_classes
    load = answers.load()
    held: list[Floats] = []

    def fit(posterior: Floats) -> Fitted:
        right = answers.load(posterior[answers.item, answers.label])
        skill = (2.0 + right) / (3.0 + load)
        held[:] = [skill]
        wrong = np.log((1.0 - skill) / max(1, k - 1))
        counts = np.ones(k) if even else posterior.sum(0) + 1.0
        return Fitted(np.stack([np.log(skill) - wrong, wrong]), np.log(counts / counts.sum()))

    def expect(fitted: Fitted) -> Floats:
        gain, wrong = fitted.habits
        weight = gain[answers.annotator]
        weight = weight if answers.weight is None else weight * answers.weight
        every = np.bincount(answers.item, wrong[answers.annotator], minlength=answers.n_items)
        if answers.weight is not None:
            every = np.bincount(
                answers.item,
                wrong[answers.annotator] * answers.weight,
                minlength=answers.n_items,
            )
        made: Floats = answers.tally(weight) + every[:, None]
        return made

    posterior, fitted, done, likelihood = _learnt(answers, fit, expect, iterations, tolerance)
    return Consensus(posterior, None, np.exp(fitted.prior), done, likelihood, held[0])


def dawid_skene(
    answers: Answers, *, iterations: int = 100, tolerance: float = 1e-6, smoothing: float = 0.1
) -> Consensus:
    """Annotators' confusion matrices and the items' classes, by EM with a weak prior.

    The prior (maximum a posteriori, not maximum likelihood) keeps an annotator with two answers
    from being declared perfect or hostile.

    Args:
        answers: The answers.
        iterations: Most rounds, >= 1.
        tolerance: Stops when the log likelihood of an answer rises by less; 0 never stops.
        smoothing: Pseudo-answers in each cell of a confusion matrix, >= 0; the diagonal gets
            three times as many. 0 is the method of 1979.

    Returns:
        The consensus, confusion matrices included.

    Raises:
        DeclarationError: The smoothing is negative.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> truth = rng.integers(0, 2, 200)
        >>> item, who = np.repeat(np.arange(200), 5), np.tile(np.arange(5), 200)
        >>> wrong = rng.random(1000) < np.tile([0.05, 0.1, 0.2, 0.3, 0.45], 200)
        >>> made = dawid_skene(Answers(item, who, truth[item] ^ wrong, 200, 5, 2))
        >>> float((made.posterior.argmax(1) == truth).mean()) > 0.95
        True

    References:
        Dawid & Skene, 1979, Maximum likelihood estimation of observer error-rates.
    """
    if smoothing < 0:
        raise DeclarationError(f"smoothing={smoothing} must not be negative")
    affordable(answers)
    k = answers.n_classes
    pseudo = smoothing * (1 + 2 * np.eye(k))
    seen: Floats = np.zeros((0, 0, 0))
    if smoothing == 0:
        habits = np.bincount(answers.habit, minlength=answers.n_annotators * k) > 0
        seen = habits.reshape(-1, k, 1).astype(np.float64) * SEEN

    def fit(posterior: Floats) -> Fitted:
        counts = confusions(answers, posterior)
        if smoothing:
            counts += pseudo
            common = posterior.sum(0) + smoothing
        else:
            np.maximum(counts, seen, out=counts)
            common = np.maximum(posterior.sum(0), SEEN * answers.n_items)
        return _fitted(counts, common)

    return _with_confusions(answers, fit, iterations, tolerance)


def hierarchical(
    answers: Answers, *, iterations: int = 100, tolerance: float = 1e-6, strength: float = 3.0
) -> Consensus:
    """Confusion matrices that are drawn towards the crowd's own, so that few answers suffice.

    The prior of an annotator is `strength` answers of the pooled matrix of all annotators, which
    is itself drawn to one skill for all.

    Args:
        answers: The answers.
        iterations: Most rounds, >= 1.
        tolerance: Stops when the log likelihood of an answer rises by less; 0 never stops.
        strength: Answers a true class that the crowd's matrix counts for, > 0.

    Returns:
        The consensus, confusion matrices included.

    Raises:
        DeclarationError: The strength is not positive.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> truth = rng.integers(0, 2, 200)
        >>> item, who = np.repeat(np.arange(200), 5), np.tile(np.arange(5), 200)
        >>> wrong = rng.random(1000) < np.tile([0.05, 0.1, 0.2, 0.3, 0.45], 200)
        >>> made = hierarchical(Answers(item, who, truth[item] ^ wrong, 200, 5, 2))
        >>> float((made.posterior.argmax(1) == truth).mean()) > 0.95
        True

    References:
        Paun et al., 2018, Comparing Bayesian models of annotation.
    """
    if strength <= 0:
        raise DeclarationError(f"strength={strength} must be above 0")
    affordable(answers)
    k = answers.n_classes
    same = np.eye(k)

    def fit(posterior: Floats) -> Fitted:
        counts = confusions(answers, posterior)
        pooled = counts.sum(0).T
        skill = float(np.trace(pooled)) / max(float(pooled.sum()), SEEN)
        coin = skill * same + (1.0 - skill) / max(1, k - 1) * (1.0 - same)
        pooled = pooled + SHRINKAGE * coin / k + SEEN
        pooled /= pooled.sum(1, keepdims=True)
        counts += strength * pooled.T
        return _fitted(counts, posterior.sum(0) + 1.0)

    return _with_confusions(answers, fit, iterations, tolerance)


def affordable(answers: Answers, states: int = 1) -> None:
    """Refuse confusion matrices that would not fit in memory.

    Args:
        answers: The answers.
        states: Matrices an annotator.

    Raises:
        LimitExceeded: They would not fit.

    Example:
        >>> one = np.zeros(1, np.int64)
        >>> affordable(Answers(one, one, one, 1, 1, 2))
    """
    cells = answers.n_annotators * answers.n_classes**2 * states
    if cells > MOST_CELLS:
        raise LimitExceeded(
            f"{answers.n_annotators:,} annotators x {answers.n_classes:,} classes squared are more"
            " confusion cells than fit in memory",
            code="DP-DATA-031",
            hint="use majority, wawa or one_coin, or split the classes",
        )


def confusions(answers: Answers, posterior: Floats) -> Floats:
    """Expected answers of each annotator.

    Args:
        answers: The answers.
        posterior: float64, shape (n_items, K).

    Returns:
        float64, shape (n_annotators, K said, K true).

    Example:
        >>> one = np.zeros(1, np.int64)
        >>> confusions(Answers(one, one, one, 1, 1, 2), np.array([[0.5, 0.5]])).tolist()
        [[[0.5, 0.5], [0.0, 0.0]]]
    """
    made = answers.by_habit.of(posterior)
    return made.reshape(answers.n_annotators, answers.n_classes, -1)


def normalised(logs: Floats) -> tuple[Floats, float]:
    """Rows of log chances as probabilities, and the log of their sums added up.

    Args:
        logs: float64, shape (n, S); overwritten.

    Returns:
        float64 of the same shape, rows sum to 1; the total log likelihood.

    Example:
        >>> made, total = normalised(np.log(np.array([[0.1, 0.3]])))
        >>> made.round(2).tolist(), round(total, 3)
        ([[0.25, 0.75]], -0.916)
    """
    top = _across(np.maximum, logs)
    logs -= top
    np.exp(logs, out=logs)
    total = _across(np.add, logs)
    logs *= 1.0 / total
    return logs, float(np.log(total).sum() + top.sum())


def _across(join: np.ufunc, table: Floats) -> Floats:
    """A ufunc over the columns; for few columns a pass a column beats a call a row."""
    if table.shape[1] > FEW_COLUMNS:
        return np.asarray(join.reduce(table, axis=1, keepdims=True))
    made = table[:, :1].copy()
    for column in range(1, table.shape[1]):
        join(made, table[:, column : column + 1], out=made)
    return made


def _fitted(counts: Floats, common: Floats) -> Fitted:
    """Counts (who, said, true) and class counts as logs of chances."""
    whole = counts.sum(1, keepdims=True)
    counts /= np.where(whole > 0, whole, 1.0)
    logs = np.log(np.maximum(counts, 1e-300, out=counts), out=counts)
    return Fitted(logs.reshape(-1, counts.shape[2]), np.log(common / common.sum()))


def _with_confusions(
    answers: Answers, fit: Callable[[Floats], Fitted], iterations: int, tolerance: float
) -> Consensus:
    posterior, fitted, done, likelihood = _learnt(
        answers, fit, lambda m: answers.by_item.of(m.habits), iterations, tolerance
    )
    k = answers.n_classes
    confusion = np.exp(fitted.habits).reshape(answers.n_annotators, k, k).transpose(0, 2, 1)
    return Consensus(posterior, confusion, np.exp(fitted.prior), done, likelihood)


def _learnt(
    answers: Answers,
    fit: Callable[[Floats], Fitted],
    expect: Callable[[Fitted], Floats],
    iterations: int,
    tolerance: float,
) -> tuple[Floats, Fitted, int, float]:
    """EM from the majority vote on."""
    if iterations < 1:
        raise DeclarationError(f"iterations={iterations} must be at least 1")
    posterior = majority(answers).posterior
    last, done = -np.inf, 0
    while True:
        done += 1
        fitted = fit(posterior)
        posterior, likelihood = normalised(expect(fitted) + fitted.prior)
        posterior = answers.clamped(posterior)
        gain = (likelihood - last) / max(answers.item.size, 1)
        last = likelihood
        if done >= iterations or abs(gain) < tolerance:
            return posterior, fitted, done, likelihood
