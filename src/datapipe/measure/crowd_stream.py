# SPDX-License-Identifier: Apache-2.0
"""Answers that go on arriving: labels and skills are carried forward, not learnt anew."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import DeclarationError
from datapipe.measure.crowd import Answers, Consensus, shares
from datapipe.measure.crowd_models import affordable, confusions, normalised

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUNDS = 5
"""E- and M-steps on the items that a batch touches."""


class RunningCrowd:
    """Dawid-Skene with a weak prior, updated batch by batch in time proportional to the batch.

    What is kept: each annotator's expected answers, and of every item the answers that it got.
    Items of a batch are judged anew with all of their answers; the others keep their labels.

    Args:
        n_classes: How many classes there are, >= 2.
        smoothing: Pseudo-answers a confusion cell, > 0; the diagonal gets three times as many.

    Raises:
        DeclarationError: A parameter is out of range.

    Example:
        >>> crowd = RunningCrowd(2)
        >>> crowd.add(np.array([0, 0, 0]), np.array([0, 1, 2]), np.array([1, 1, 0]))
        >>> crowd.consensus().posterior.argmax(1).tolist()
        [1]
    """

    def __init__(self, n_classes: int, *, smoothing: float = 0.1) -> None:
        if n_classes < 2 or smoothing <= 0:
            raise DeclarationError(
                f"n_classes={n_classes}, smoothing={smoothing}: two classes and a prior are needed"
            )
        self._k = n_classes
        self._pseudo = smoothing * (1 + 2 * np.eye(n_classes))
        self._answers = np.empty((3, 0), np.int64)
        self._posterior = np.empty((0, n_classes))
        self._counts = np.empty((0, n_classes, n_classes))

    def add(self, item: Ints, annotator: Ints, label: Ints) -> None:
        """Take a batch of answers in.

        Args:
            item: int64 >= 0, shape (m,); new items may have any new number.
            annotator: int64 >= 0, shape (m,).
            label: int64 in 0..n_classes-1, shape (m,).

        Raises:
            DeclarationError: The arrays differ in length or hold a number out of range.

        Example:
            >>> RunningCrowd(2).add(np.array([3]), np.array([0]), np.array([1]))
        """
        if not item.size == annotator.size == label.size:
            raise DeclarationError("a batch needs one item, annotator and label an answer")
        if item.size == 0:
            return
        if min(item.min(), annotator.min(), label.min()) < 0 or label.max() >= self._k:
            raise DeclarationError(f"codes must be >= 0, labels below {self._k}")
        self._answers = np.concatenate([self._answers, np.stack([item, annotator, label])], axis=1)
        self._grow(int(item.max()) + 1, int(annotator.max()) + 1)
        touched = np.unique(item)
        number = np.full(len(self._posterior), -1)
        number[touched] = np.arange(touched.size)
        mine = self._answers[:, number[self._answers[0]] >= 0]
        batch = Answers(number[mine[0]], mine[1], mine[2], touched.size, len(self._counts), self._k)
        affordable(batch)
        self._judge(batch, touched)

    def _judge(self, batch: Answers, touched: Ints) -> None:
        """EM on the touched items, the expected answers of the others held fixed."""
        before = self._posterior[touched]
        known = self._posterior[touched].sum(1) > 0
        others = self._counts - confusions(batch, before)
        posterior = np.where(known[:, None], before, shares(batch.votes()))
        if not known.any() and self._counts.sum() > 0:
            posterior = self._expected(batch, self._counts)
        for _ in range(ROUNDS):
            posterior = self._expected(batch, others + confusions(batch, posterior))
        self._posterior[touched] = posterior
        self._counts = np.maximum(others + confusions(batch, posterior), 0.0)

    def _expected(self, batch: Answers, counts: Floats) -> Floats:
        chance = np.maximum(counts, 0.0) + self._pseudo
        chance /= chance.sum(1, keepdims=True)
        common = self._posterior.sum(0) + 1.0
        logs = batch.by_item.of(np.log(chance).reshape(-1, self._k))
        return normalised(logs + np.log(common / common.sum()))[0]

    def _grow(self, items: int, people: int) -> None:
        more = max(0, items - len(self._posterior))
        self._posterior = np.pad(self._posterior, ((0, more), (0, 0)))
        more = max(0, people - len(self._counts))
        self._counts = np.pad(self._counts, ((0, more), (0, 0), (0, 0)))

    def consensus(self, *, rounds: int = ROUNDS) -> Consensus:
        """What all answers so far say together, early items judged again by later skills.

        Args:
            rounds: EM rounds over all answers, started where the batches left off, >= 0; 0 gives
                the labels as they stand.

        Returns:
            Labels of every item number seen, confusion matrices of every annotator number.

        Example:
            >>> RunningCrowd(2).consensus().posterior.shape
            (0, 2)
        """
        if rounds and self._answers.size:
            items, people = len(self._posterior), len(self._counts)
            item, annotator, label = self._answers
            every = Answers(item, annotator, label, items, people, self._k)
            for _ in range(rounds):
                self._posterior = self._expected(every, self._counts)
                self._counts = confusions(every, self._posterior)
        chance = self._counts + self._pseudo
        confusion = (chance / chance.sum(1, keepdims=True)).transpose(0, 2, 1)
        posterior = shares(self._posterior)
        prior = posterior.sum(0) + 1.0
        return Consensus(posterior, confusion, prior / prior.sum(), rounds, float("nan"))
