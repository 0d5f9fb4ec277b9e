# SPDX-License-Identifier: Apache-2.0
"""Several people's answers to one question: what they are, and the ways to count them as votes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import DeclarationError, LimitExceeded
from datapipe.measure.incidence import Sums

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOST_CELLS = 200_000_000
"""Most cells of all confusion matrices, or of all posteriors, together: 1.6 GB of float64."""
TIE = 1e-9


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
        weight: float64 in (0, 1], shape (m,): the voice of each answer; None for whole ones.
        gold: int64, shape (n_items,): the known class of gold questions, -1 for the others; None
            where nothing is known.

    Raises:
        DeclarationError: The arrays differ in length, or a code lies outside its range.
        LimitExceeded: The posteriors would not fit in memory.

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
    weight: Floats | None = None
    gold: Ints | None = None

    def __post_init__(self) -> None:
        told = (
            ("item", self.item, self.n_items),
            ("annotator", self.annotator, self.n_annotators),
            ("label", self.label, self.n_classes),
        )
        for name, codes, most in told:
            if codes.shape != self.item.shape:
                raise DeclarationError(
                    f"{codes.size} {name} codes for {self.item.size} items answered",
                    hint="give one item, annotator and label an answer",
                )
            if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < most:
                raise DeclarationError(f"{name} codes must lie in 0..{most - 1}")
        if self.n_items * self.n_classes > MOST_CELLS:
            raise LimitExceeded(
                f"{self.n_items:,} items x {self.n_classes:,} classes do not fit in memory",
                code="DP-DATA-032",
                hint="split the items",
            )

    @cached_property
    def by_item(self) -> Sums:
        """Sums over the answers of each item, of a table with a row a habit."""
        return Sums(self.item, self.habit, self.n_items, self.weight)

    @cached_property
    def by_habit(self) -> Sums:
        """Sums over the answers of each habit, of a table with a row an item."""
        return Sums(self.habit, self.item, self.n_annotators * self.n_classes, self.weight)

    @property
    def habit(self) -> Ints:
        """Annotator and what he said as one number, int64 of shape (m,)."""
        made: Ints = self.annotator * self.n_classes + self.label
        return made

    def votes(self) -> Floats:
        """How often each item got each label, weights counted.

        Returns:
            float64 of shape (n_items, n_classes).

        Example:
            >>> codes = np.array([0, 0, 0])
            >>> Answers(codes, np.arange(3), np.array([1, 1, 0]), 1, 3, 2).votes().tolist()
            [[1.0, 2.0]]
        """
        return self.tally(self.weight)

    def tally(self, weight: Floats | None) -> Floats:
        """The weights of each item's answers, by label.

        Args:
            weight: float64, shape (m,); None for ones.

        Returns:
            float64 of shape (n_items, n_classes).

        Example:
            >>> codes = np.array([0, 0])
            >>> two = Answers(codes, np.arange(2), np.array([1, 0]), 1, 2, 2)
            >>> two.tally(np.array([3.0, 1.0])).tolist()
            [[1.0, 3.0]]
        """
        cell = self.item * self.n_classes + self.label
        counted = np.bincount(cell, weight, minlength=self.n_items * self.n_classes)
        return counted.reshape(self.n_items, self.n_classes).astype(np.float64)

    def load(self, values: Floats | None = None) -> Floats:
        """Weight of each annotator's answers, or of a value of theirs.

        Args:
            values: float64, shape (m,); None for ones.

        Returns:
            float64 of shape (n_annotators,).

        Example:
            >>> codes = np.array([0, 0])
            >>> Answers(codes, np.array([1, 1]), codes, 1, 2, 2).load().tolist()
            [0.0, 2.0]
        """
        parts = (p for p in (self.weight, values) if p is not None)
        weight = np.prod(list(parts), axis=0) if self.weight is not None else values
        load = np.bincount(self.annotator, weight, minlength=self.n_annotators)
        return load.astype(np.float64)

    def clamped(self, posterior: Floats) -> Floats:
        """The posterior with the known class of every gold question put in, in place.

        Args:
            posterior: float64, shape (n_items, n_classes).

        Returns:
            The same array.

        Example:
            >>> codes = np.array([0])
            >>> known = Answers(codes, codes, codes, 1, 1, 2, gold=np.array([1]))
            >>> known.clamped(np.array([[0.5, 0.5]])).tolist()
            [[0.0, 1.0]]
        """
        if self.gold is not None:
            known = np.flatnonzero(self.gold >= 0)
            posterior[known] = 0.0
            posterior[known, self.gold[known]] = 1.0
        return posterior

    def part(self, keep: Bools | Ints) -> Answers:
        """Some of the answers, with the same items, annotators and classes.

        Args:
            keep: Which: bool of shape (m,), or places.

        Returns:
            The answers kept.

        Example:
            >>> codes = np.array([0, 0])
            >>> Answers(codes, codes, codes, 1, 1, 2).part(np.array([True, False])).item.size
            1
        """
        weight = None if self.weight is None else self.weight[keep]
        return replace(
            self,
            item=self.item[keep],
            annotator=self.annotator[keep],
            label=self.label[keep],
            weight=weight,
        )


@dataclass(frozen=True, eq=False)
class Consensus:
    """What the answers say together.

    Args:
        posterior: float64 of shape (n_items, n_classes), rows sum to 1.
        confusion: float64 of shape (n_annotators, n_classes, n_classes): probability of an answer
            (last axis) given the true class; None where annotators have no such matrix.
        prior: float64 of shape (n_classes,): how common each class is.
        iterations: Rounds of estimation.
        log_likelihood: Of the answers under the model; NaN where there is none.
        skill: float64 of shape (n_annotators,): chance of a right answer, where the model has one
            number an annotator; None elsewhere.

    Example:
        >>> Consensus(np.ones((1, 1)), None, np.ones(1), 0, 0.0).iterations
        0
    """

    posterior: Floats
    confusion: Floats | None
    prior: Floats
    iterations: int
    log_likelihood: float
    skill: Floats | None = None


def shares(votes: Floats) -> Floats:
    """Votes as shares of an item's votes; an item without any gets the uniform distribution.

    Args:
        votes: float64 >= 0, shape (n, K).

    Returns:
        float64, shape (n, K), rows sum to 1.

    Example:
        >>> shares(np.array([[1.0, 3.0], [0.0, 0.0]])).tolist()
        [[0.25, 0.75], [0.5, 0.5]]
    """
    total = votes.sum(1, keepdims=True)
    made: Floats = np.where(total > 0, votes / np.where(total > 0, total, 1.0), 1 / votes.shape[1])
    return made


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
    posterior = answers.clamped(shares(answers.votes()))
    return Consensus(posterior, None, posterior.mean(0), 1, float("nan"))


def wawa(answers: Answers) -> Consensus:
    """Votes weighted by how often each annotator agrees with the majority.

    Args:
        answers: The answers.

    Returns:
        The consensus, with each annotator's agreement as skill.

    Example:
        >>> item, who = np.repeat(np.arange(9), 3), np.tile(np.arange(3), 9)
        >>> said = np.where(who == 2, np.arange(27) % 2, 1)
        >>> made = wawa(Answers(item, who, said, 9, 3, 2))
        >>> bool(made.skill[2] < made.skill[0])
        True

    References:
        Appen, Worker agreement with aggregate (Wawa), as published in the crowd-kit library.
    """
    first = majority(answers).posterior
    leading = first.argmax(1)
    right = (answers.label == leading[answers.item]).astype(np.float64)
    skill = answers.load(right) / np.maximum(answers.load(), TIE)
    voice = skill[answers.annotator]
    weight = voice if answers.weight is None else voice * answers.weight
    posterior = answers.clamped(shares(answers.tally(weight)))
    return Consensus(posterior, None, posterior.mean(0), 2, float("nan"), skill)
