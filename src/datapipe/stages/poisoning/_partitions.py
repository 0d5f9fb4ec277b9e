# SPDX-License-Identifier: Apache-2.0
"""Deep partition aggregation: models of disjoint parts vote, and the lead says what it survives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RIDGE = 1.0
"""Penalty of a part's least-squares classifier, in units of its mean squared row length."""
MIXER = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(29)

Floats = NDArray[np.float64]
Features = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Certified:
    """What the models of all parts together say, and how many poisoned rows that survives.

    `radius` counts rows that somebody adds, takes away or labels otherwise, in any mix.
    """

    label: Ints
    radius: Ints


def part_of(rows: Features, parts: int) -> Ints:
    """The part of each row, by a hash of its own bytes: no other row and no label moves it."""
    words = np.ascontiguousarray(rows).view(np.uint32).astype(np.uint64)
    made = np.full(len(rows), MIXER)
    with np.errstate(over="ignore"):
        for column in words.T:
            made = (made ^ column) * MIXER
            made ^= made >> SHIFT
    return (made % np.uint64(parts)).astype(np.int64)


def certified(rows: Features, labels: Ints, asked: Features, classes: int, parts: int) -> Certified:
    """Train a model on each part and let them vote on other rows.

    A poisoned row reaches one part and so at most one vote, which takes one from the winner and
    gives one to the runner-up: the lead, halved, says how many it takes. A part knows its own
    classes only: were it to know how many there are, one row of a new class would reach them all.

    Args:
        rows: float32, shape (n, d); each made from its own record alone.
        labels: int64, shape (n,), in 0..classes-1.
        asked: float32, shape (m, d).
        classes: K.
        parts: How many, >= 1.

    Returns:
        Labels and radii of the rows asked.
    """
    part = part_of(rows, parts)
    votes = np.zeros((len(asked), classes), np.int64)
    for number in range(parts):
        mine = np.flatnonzero(part == number)
        if mine.size:  # a part without rows has no vote to give
            votes[np.arange(len(asked)), _part_says(rows[mine], labels[mine], asked)] += 1
    return _counted(votes)


def _counted(votes: Ints) -> Certified:
    """The most votes win, the lower class where they tie; the radius allows for the tie.

    A poisoned row may bring a class that nobody knew, lower than all: it has no vote so far.
    """
    m, classes = votes.shape
    label = votes.argmax(1)
    rivals = votes + (np.arange(classes) < label[:, None])
    rivals[np.arange(m), label] = -1
    lead = votes[np.arange(m), label] - np.maximum(rivals.max(1), 1)
    return Certified(label, np.maximum(lead // 2, 0))


def _part_says(rows: Features, labels: Ints, asked: Features) -> Ints:
    """Least squares on one part; the same rows in any order give the same answer."""
    order = np.lexsort((labels, *rows.T[::-1]))
    fitted = rows[order].astype(np.float64)
    known, told = np.unique(labels[order], return_inverse=True)
    targets = np.eye(known.size)[told] - 1.0 / known.size
    square = fitted @ fitted.T + 1.0  # the one is the intercept
    square[np.diag_indices_from(square)] += RIDGE * max(float(np.trace(square)) / len(rows), 1e-9)
    weights = np.linalg.solve(square, targets)
    scores = (asked.astype(np.float64) @ fitted.T + 1.0) @ weights
    return np.asarray(known[np.round(scores, 9).argmax(1)], np.int64)
