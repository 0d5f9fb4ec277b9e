# SPDX-License-Identifier: Apache-2.0
"""From the first rows that share a pattern to all of them, and to the pattern itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._content import Content
from datapipe.stages.poisoning._matched_filter import LOUD, Evidence, Filters
from datapipe.stages.poisoning._parted import LEAST_GROUP, parted

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ROUNDS = 4
CLEAN, MOSTLY = 0.999, 0.9
"""Quantiles of the clean rows' scores: a row must exceed the first, or `TAIL` times the second
where some clean rows hold the pattern with their true label, as covers."""
TAIL = 4.0
QUARTILES = 1.349
"""Width of the middle half of a normal distribution, in deviations."""
FAINTEST = 0.1
"""Share of the rows found that may be fainter than the gap that parts them from the others."""
TWO, CROWDED = 4.0, 0.2
"""Deviations by which a label's scores part, and share of its rows that hold the pattern, above
which they hide what its others are like."""
LEAST = 0.1
"""Quantile of a label's own scores from which its clean rows are told: most may hold a pattern."""
BELOW = 1.2816
STEP = 0.44
"""Deviations of a normal distribution from that quantile to its mean, and to twice the quantile."""


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

    A row holds the pattern when its score lies above the widest gap between what nearly all
    genuine rows of other labels stay below and the rows found, the faintest of them left out.
    """
    content = evidence.view
    mine = np.flatnonzero(_asked(content, evidence.label))
    rows, scores = evidence.rows, np.zeros(content.labels.size)
    clean_rows = content.genuine & (content.labels != evidence.label)
    for _ in range(ROUNDS):
        average = content.residual(rows).mean(0)[None, :]
        scores = _scores(content, filters.templates(evidence.label, average), evidence.label)
        most, usual = np.quantile(scores[clean_rows], [CLEAN, MOSTLY])
        low = max(float(min(most, TAIL * usual)), LOUD)
        bar = _widest_gap(scores[mine], low, float(np.quantile(scores[rows], FAINTEST)))
        found = mine[scores[mine] > bar]
        if found.size == 0 or np.array_equal(found, rows):
            break
        rows = found
    return Trigger(evidence.label, evidence, rows, scores)


def _crowded(own: Floats) -> bool:
    """Whether a label's scores part into two groups, neither of them small."""
    if own.size <= 4 * LEAST_GROUP:
        return False
    apart, group = parted(own)
    return bool(apart > TWO and group.mean() > CROWDED)


def _width(values: Floats) -> float:
    """The deviation that the middle half tells: a few rows that hold a pattern do not change it."""
    low, high = np.quantile(values, [0.25, 0.75]) if values.size else (0.0, 0.0)
    return float(high - low) / QUARTILES


def _widest_gap(scores: Floats, low: float, high: float) -> float:
    """The middle of the widest gap between scores in a range: where two groups part."""
    if high <= low:
        return low
    inside = np.sort(scores[(scores > low) & (scores < high)])
    edges = np.concatenate([[low], inside, [high]])
    widest = int(np.argmax(np.diff(edges)))
    return float(0.5 * (edges[widest] + edges[widest + 1]))


def _asked(content: Content, label: int) -> Bools:
    """The rows that may hold the pattern: those of its label, or those with a wrong one."""
    if label >= 0:
        return np.asarray(content.labels == label, bool)
    return np.asarray((content.labels != content.shows) & content.left, bool)


def _scores(content: Content, weights: Floats, label: int) -> Floats:
    """Filter scores of every row, in deviations of the genuine rows of its content.

    Where the label is crowded with rows that hold the pattern, the centre of its rows is read from
    the lowest of them and their spread from other labels.
    """
    raw = content.project(weights)[:, 0]
    made = np.zeros(raw.size)
    pooled = content.genuine & (content.labels != label)
    spread = _width(raw[pooled]) or 1.0
    for k in range(content.classes):
        own = raw[content.genuine & (content.labels == k)]
        centre, wide = (float(np.median(own)), _width(own)) if own.size else (0.0, 0.0)
        if k == label and _crowded(own):
            low, lower = np.quantile(own, [LEAST, 2 * LEAST])
            wide = max(spread, float(lower - low) / STEP)
            centre = float(low) + BELOW * wide
        shown = content.shows == k
        made[shown] = (raw[shown] - centre) / max(spread, wide)
    made[~_asked(content, label) & ~pooled] = 0.0
    return made
