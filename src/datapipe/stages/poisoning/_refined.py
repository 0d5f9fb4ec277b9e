# SPDX-License-Identifier: Apache-2.0
"""From the first rows that share a pattern to all of them, and to the pattern itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._content import Content
from datapipe.stages.poisoning._matched_filter import LOUD, Evidence, Filters

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ROUNDS = 4
CLEAN = 0.999
"""Quantile of the clean rows' scores that a row must exceed."""
FAINT = 0.35
"""Share of the usual loudness of the pattern below which a row does not hold it."""


@dataclass(frozen=True, eq=False)
class Trigger:
    """A pattern that carries a label: the rows that hold it, and how loudly each row does."""

    label: int
    evidence: Evidence
    rows: Ints
    scores: Floats

    @property
    def loudness(self) -> Floats:
        """Scores in [0, 1)."""
        loud = np.maximum(self.scores, 0.0)
        return np.asarray(loud / (loud + LOUD), np.float64)


def refine(filters: Filters, evidence: Evidence) -> Trigger:
    """Fit the filter again to the rows found until they stand.

    A row holds the pattern when its score exceeds those of nearly all genuine rows of other labels
    and is not faint beside those of the rows found.
    """
    content = evidence.view
    mine = np.flatnonzero(_asked(content, evidence.label))
    rows, scores = evidence.rows, np.zeros(content.labels.size)
    clean_rows = content.genuine & (content.labels != evidence.label)
    for _ in range(ROUNDS):
        average = content.residual(rows).mean(0)[None, :]
        scores = _scores(content, filters.templates(evidence.label, average), evidence.label)
        low = max(float(np.quantile(scores[clean_rows], CLEAN)), LOUD)
        bar = max(low, FAINT * float(np.median(scores[rows])))
        found = mine[scores[mine] > bar]
        if found.size == 0 or np.array_equal(found, rows):
            break
        rows = found
    return Trigger(evidence.label, evidence, rows, scores)


def _asked(content: Content, label: int) -> Bools:
    """The rows that may hold the pattern: those of its label, or those with a wrong one."""
    if label >= 0:
        return np.asarray(content.labels == label, bool)
    return np.asarray((content.labels != content.shows) & content.left, bool)


def _scores(content: Content, weights: Floats, label: int) -> Floats:
    """Filter scores of every row, in deviations of the genuine rows of its content.

    The label's own rows may hold the pattern, so that their spread is read from the middle half.
    """
    raw = content.project(weights)[:, 0]
    made = np.zeros(raw.size)
    pooled = content.genuine & (content.labels != label)
    spread = float(raw[pooled].std()) or 1.0
    for k in range(content.classes):
        own = raw[content.genuine & (content.labels == k)]
        centre = float(np.median(own)) if own.size else 0.0
        middle = float(np.median(np.abs(own - centre))) * 1.4826 if own.size else 0.0
        shown = content.shows == k
        made[shown] = (raw[shown] - centre) / max(spread, middle)
    made[~_asked(content, label) & ~pooled] = 0.0
    return made
