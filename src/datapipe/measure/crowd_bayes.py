# SPDX-License-Identifier: Apache-2.0
"""Bayesian annotator models by variational inference: IBCC, and EBCC whose items have kinds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import DeclarationError
from datapipe.measure.crowd import Answers, Consensus, majority
from datapipe.measure.crowd_models import affordable, confusions, normalised

Floats = NDArray[np.float64]

RIGHT, OTHER = 4.0, 1.0
"""Prior answers of an annotator: on the true class, on every other."""
SETTLED = 1e-3
"""Stops when no posterior moves by more."""


def ibcc(answers: Answers, *, iterations: int = 200) -> Consensus:
    """Confusion matrices with Dirichlet priors, averaged over rather than estimated.

    Args:
        answers: The answers.
        iterations: Most rounds, >= 1.

    Returns:
        The consensus; the confusion matrices are posterior means.

    Example:
        >>> item, who = np.repeat(np.arange(99), 3), np.tile(np.arange(3), 99)
        >>> rng = np.random.default_rng(0)
        >>> said = np.where(rng.random(297) < 0.9, item % 2, 1 - item % 2)
        >>> made = ibcc(Answers(item, who, said, 99, 3, 2))
        >>> float((made.posterior.argmax(1) == np.arange(99) % 2).mean()) > 0.9
        True

    References:
        Kim & Ghahramani, 2012, Bayesian classifier combination.
    """
    return ebcc(answers, kinds=1, iterations=iterations, restarts=1)


def ebcc(
    answers: Answers,
    *,
    kinds: int = 5,
    iterations: int = 200,
    restarts: int = 2,
    seed: int = 0,
) -> Consensus:
    """IBCC in which every class has several kinds of item, so that annotators' errors correlate.

    Args:
        answers: The answers.
        kinds: Kinds of item a class, >= 1; 1 is IBCC.
        iterations: Most rounds of a start, >= 1.
        restarts: Random starts, >= 1; their posteriors are averaged.
        seed: Of the starts.

    Returns:
        The consensus; the confusion matrices are means over kinds.

    Raises:
        DeclarationError: A parameter is below 1.

    Example:
        >>> item, who = np.repeat(np.arange(99), 3), np.tile(np.arange(3), 99)
        >>> rng = np.random.default_rng(0)
        >>> said = np.where(rng.random(297) < 0.9, item % 2, 1 - item % 2)
        >>> made = ebcc(Answers(item, who, said, 99, 3, 2))
        >>> float((made.posterior.argmax(1) == np.arange(99) % 2).mean()) > 0.9
        True

    References:
        Li, Rubinstein & Cohn, 2019, Exploiting worker correlation for label aggregation in
        crowdsourcing.
    """
    runs = subtyped(answers, kinds=kinds, iterations=iterations, restarts=restarts, seed=seed)
    posterior = np.mean([r.classes for r in runs], axis=0)
    confusion = np.mean([r.confusion() for r in runs], axis=0)
    bound = float(np.mean([r.likelihood for r in runs]))
    most = max(r.iterations for r in runs)
    return Consensus(posterior, confusion, posterior.mean(0), most, bound)


@dataclass(frozen=True, eq=False)
class Subtyped:
    """One start of EBCC.

    Args:
        joint: float64, shape (n_items, K * kinds): the posterior of class and kind.
        habits: float64, shape (n_annotators * K said, K * kinds): chance of what was said.
        kinds: Kinds a class.
        iterations: Rounds it took.
        likelihood: Expected log likelihood of the answers.

    Example:
        >>> Subtyped(np.ones((1, 2)), np.ones((2, 2)), 1, 1, 0.0).classes.tolist()
        [[1.0, 1.0]]
    """

    joint: Floats
    habits: Floats
    kinds: int
    iterations: int
    likelihood: float

    @property
    def classes(self) -> Floats:
        """The posterior of the class alone, float64 of shape (n_items, K)."""
        made: Floats = self.joint.reshape(len(self.joint), -1, self.kinds).sum(2)
        return made

    def confusion(self) -> Floats:
        """Chance of each answer given the class, kinds weighed by how common they are.

        Returns:
            float64, shape (n_annotators, K true, K said).

        Example:
            >>> Subtyped(np.full((1, 2), 0.5), np.ones((2, 2)), 1, 1, 0.0).confusion().shape
            (1, 2, 2)
        """
        common = self.joint.sum(0).reshape(-1, self.kinds) + SETTLED
        common /= common.sum(1, keepdims=True)
        k = len(common)
        table = self.habits.reshape(-1, k, k, self.kinds)
        made: Floats = (table * common).sum(3).transpose(0, 2, 1)
        return made


def subtyped(
    answers: Answers, *, kinds: int, iterations: int, restarts: int, seed: int
) -> list[Subtyped]:
    """Every start of EBCC by itself.

    Args:
        answers: The answers.
        kinds: Kinds of item a class, >= 1.
        iterations: Most rounds of a start, >= 1.
        restarts: Random starts, >= 1.
        seed: Of the starts.

    Returns:
        One result a start.

    Raises:
        DeclarationError: A parameter is below 1.

    Example:
        >>> one = np.zeros(2, np.int64)
        >>> two = Answers(np.arange(2), one, np.arange(2), 2, 1, 2)
        >>> len(subtyped(two, kinds=2, iterations=3, restarts=2, seed=0))
        2
    """
    if min(kinds, iterations, restarts) < 1:
        raise DeclarationError(f"kinds={kinds}, iterations={iterations}, restarts={restarts}: >= 1")
    affordable(answers, kinds)
    rng = np.random.default_rng(seed)
    votes = majority(answers).posterior
    made = []
    for _ in range(restarts):
        split = rng.dirichlet(np.ones(kinds), votes.shape) if kinds > 1 else np.ones((1, 1, 1))
        made.append(_inferred(answers, votes, split, kinds, iterations))
    return made


def _inferred(
    answers: Answers, votes: Floats, split: Floats, kinds: int, iterations: int
) -> Subtyped:
    k, n = answers.n_classes, answers.n_items
    prior = (OTHER + (RIGHT - OTHER) * np.eye(k))[None, :, :, None]
    joint = (votes[:, :, None] * split).reshape(n, -1)
    classes = votes
    done = 0
    while done < iterations:
        done += 1
        kind_counts = 0.1 / kinds + joint.sum(0).reshape(k, kinds)
        class_counts = 1.0 + classes.sum(0)
        counts = confusions(answers, joint).reshape(-1, k, k, kinds) + prior
        common = _expected_log(kind_counts, 1) if kinds > 1 else np.zeros((k, 1))
        common = common + _expected_log(class_counts, 0)[:, None]
        habits = _expected_log(counts, 1).reshape(-1, k * kinds)
        joint, likelihood = normalised(answers.by_item.of(habits) + common.ravel())
        joint = _clamped(answers, joint, kinds)
        last, classes = classes, joint.reshape(n, k, kinds).sum(2)
        if np.abs(last - classes).max() < SETTLED:
            break
    means = (counts / counts.sum(1, keepdims=True)).reshape(-1, k * kinds)
    return Subtyped(joint, means, kinds, done, likelihood)


def _clamped(answers: Answers, joint: Floats, kinds: int) -> Floats:
    """Gold questions keep their class; their kind stays open."""
    if answers.gold is not None:
        known = np.flatnonzero(answers.gold >= 0)
        column = np.arange(joint.shape[1]) // kinds
        own = joint[known] * (column == answers.gold[known][:, None]) + 1e-12 * (
            column == answers.gold[known][:, None]
        )
        joint[known] = own / own.sum(1, keepdims=True)
    return joint


def _expected_log(counts: Floats, axis: int) -> Floats:
    """The expectation of a log chance under a Dirichlet distribution."""
    made: Floats = digamma(counts) - digamma(counts.sum(axis, keepdims=True))
    return made


def digamma(values: Floats) -> Floats:
    """The derivative of the log of the gamma function, to 1e-10.

    Args:
        values: float64 > 0, any shape.

    Returns:
        float64 of the same shape.

    Example:
        >>> round(float(digamma(np.array(1.0))), 6)
        -0.577216

    References:
        Bernardo, 1976, Algorithm AS 103: psi (digamma) function.
    """
    x = np.asarray(values, np.float64)
    shift = np.zeros_like(x)
    for _ in range(math.ceil(6.0 - min(6.0, float(x.min(initial=6.0))))):
        low = x < 6.0
        shift = np.where(low, shift - 1.0 / x, shift)
        x = np.where(low, x + 1.0, x)
    inverse = 1.0 / (x * x)
    tail = inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse / 240)))
    made: Floats = shift + np.log(x) - 0.5 / x - tail
    return made
