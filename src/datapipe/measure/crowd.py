# SPDX-License-Identifier: Apache-2.0
"""Several people's answers to one question: votes, and the annotator model of Dawid and Skene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import LimitExceeded

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_CELLS = 200_000_000
"""Most cells of all confusion matrices together: 1.6 GB of float64."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers as integer codes; one entry an answer.

    Args:
        item: int64 in 0..n_items-1, shape (m,): what was asked about.
        annotator: int64 in 0..n_annotators-1, shape (m,): who answered.
        label: int64 in 0..n_classes-1, shape (m,): what was answered.
        n_items: How many items there are.
        n_annotators: How many annotators there are.
        n_classes: How many classes there are.

    Example:
        >>> one = np.zeros(1, np.int64)
        >>> Answers(one, one, one, 1, 1, 2).n_classes
        2
    """

    item: Ints
    annotator: Ints
    label: Ints
    n_items: int
    n_annotators: int
    n_classes: int

    def votes(self) -> Floats:
        """How often each item got each label.

        Returns:
            float64 of shape (n_items, n_classes).

        Example:
            >>> codes = np.array([0, 0, 0])
            >>> Answers(codes, np.arange(3), np.array([1, 1, 0]), 1, 3, 2).votes().tolist()
            [[1.0, 2.0]]
        """
        cell = self.item * self.n_classes + self.label
        counted = np.bincount(cell, minlength=self.n_items * self.n_classes)
        return counted.reshape(self.n_items, self.n_classes).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Consensus:
    """What the answers say together.

    Args:
        posterior: float64 of shape (n_items, n_classes), rows sum to 1.
        confusion: float64 of shape (n_annotators, n_classes, n_classes): probability of an answer
            (last axis) given the true class; None where annotators are not modelled.
        prior: float64 of shape (n_classes,): how common each class is.
        iterations: Rounds of estimation.
        log_likelihood: Of the answers under the model; NaN where there is none.

    Example:
        >>> Consensus(np.ones((1, 1)), None, np.ones(1), 0, 0.0).iterations
        0
    """

    posterior: Floats
    confusion: Floats | None
    prior: Floats
    iterations: int
    log_likelihood: float


def majority(answers: Answers) -> Consensus:
    """The share of votes for each label, annotators counting alike.

    Args:
        answers: The answers.

    Returns:
        The consensus; an item without an answer gets the uniform distribution.

    Example:
        >>> codes = np.array([0, 0, 0])
        >>> three = Answers(codes, np.arange(3), np.array([1, 1, 0]), 1, 3, 2)
        >>> majority(three).posterior.round(2).tolist()
        [[0.33, 0.67]]
    """
    votes = answers.votes()
    total = votes.sum(1, keepdims=True)
    posterior = np.where(total > 0, votes / np.maximum(total, 1), 1 / answers.n_classes)
    prior = posterior.mean(0)
    return Consensus(posterior, None, prior, 1, float("nan"))


def dawid_skene(
    answers: Answers, *, iterations: int = 100, tolerance: float = 1e-6, smoothing: float = 0.1
) -> Consensus:
    """Annotators' confusion matrices and the items' classes, by EM with a weak prior.

    The prior (maximum a posteriori, not maximum likelihood) keeps an annotator with two answers
    from being declared perfect or hostile.

    Args:
        answers: The answers.
        iterations: Most rounds, >= 1.
        tolerance: Stops when the log likelihood of an answer rises by less than this.
        smoothing: Pseudo-answers in each cell of a confusion matrix, > 0; the diagonal gets
            three times as many.

    Returns:
        The consensus, confusion matrices included.

    Raises:
        LimitExceeded: The confusion matrices would not fit in memory.

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
    k, w = answers.n_classes, answers.n_annotators
    if w * k * k > MOST_CELLS:
        raise LimitExceeded(
            f"{w:,} annotators x {k:,} classes squared are more confusion cells than fit in memory",
            code="DP-DATA-031",
            hint="use majority vote, or split the classes",
        )
    posterior = majority(answers).posterior
    pseudo = smoothing * (1 + 2 * np.eye(k))
    last, done = -np.inf, 0
    while done < iterations:
        done += 1
        confusion = _confusions(answers, posterior) + pseudo
        confusion /= confusion.sum(2, keepdims=True)
        prior = (posterior.sum(0) + 1) / (answers.n_items + k)
        posterior, likelihood = _expected(answers, np.log(confusion), np.log(prior))
        gain = (likelihood - last) / max(answers.item.size, 1)
        last = likelihood
        if gain < tolerance:
            break
    return Consensus(posterior, confusion, prior, done, float(last))


def _confusions(answers: Answers, posterior: Floats) -> Floats:
    """Expected answers of each annotator by true class, shape (annotators, classes, classes)."""
    k, w = answers.n_classes, answers.n_annotators
    cell = answers.annotator * k + answers.label
    counted = np.empty((w, k, k))
    for true in range(k):
        weight = posterior[answers.item, true]
        counted[:, true, :] = np.bincount(cell, weight, minlength=w * k).reshape(w, k)
    return counted


def _expected(answers: Answers, confusion: Floats, prior: Floats) -> tuple[Floats, float]:
    """Posterior of every item by log-sum-exp, and the log likelihood of all answers."""
    log_joint = np.empty((answers.n_items, answers.n_classes))
    for true in range(answers.n_classes):
        said: Any = confusion[answers.annotator, true, answers.label]
        log_joint[:, true] = prior[true] + np.bincount(
            answers.item, said, minlength=answers.n_items
        )
    top = log_joint.max(1, keepdims=True)
    scaled = np.exp(log_joint - top)
    total = scaled.sum(1, keepdims=True)
    return scaled / total, float((np.log(total) + top).sum())
