# SPDX-License-Identifier: Apache-2.0
"""From the first rows that share a pattern to all of them, and to the pattern itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._image.content import Content, without_direction
from datapipe.stages.poisoning._image.levels import LOUD
from datapipe.stages.poisoning._image.matched_filter import PARTED, Evidence
from datapipe.stages.poisoning._image.parted import LEAST_GROUP, parted, width, without_crowd
from datapipe.stages.poisoning._image.spread import Filters

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ROUNDS = 4
CLEAN, MOSTLY = 0.999, 0.9
"""Quantiles of the clean rows' scores: a row must exceed the first, or `TAIL` times the second
where some clean rows hold the pattern with their true label, as covers."""
TAIL = 4.0
DOUBTED, LEAST_DOUBTED = 0.5, 3.0
"""Share of the usual score of the rows found that a row needs that neighbours do not vouch for, and
the least score: natural ones of the label seldom have half of the pattern."""
STRAYS = 0.05
"""Rows that are loud but fainter than the gap, against those beyond it, that clean ones may be."""
HEARD = 0.5
"""Share of the rows with a window that a filter must hear for the pattern to lie at one place."""
FAINTEST = 0.1
"""Share of the rows found that may be fainter than the gap that parts them from the others."""


@dataclass(frozen=True, eq=False)
class Trigger:
    """A pattern that carries a label: the rows that hold it, and how loudly each row does."""

    label: int
    evidence: Evidence
    rows: Ints
    scores: Floats

    @classmethod
    def of(cls, evidence: Evidence) -> Trigger:
        """The rows of some evidence as they are, all as loud as it is sure."""
        scores = np.zeros(evidence.view.labels.size)
        scores[evidence.rows] = -np.log(max(evidence.p_value, 1e-300))
        return cls(evidence.label, evidence, evidence.rows, scores)

    @property
    def vouched(self) -> float:
        """The share of the rows that neighbours find rightly labelled."""
        return float(self.evidence.view.genuine[self.rows].mean()) if self.rows.size else 0.0

    @property
    def loudness(self) -> Floats:
        """Scores in [0, 1)."""
        loud = np.maximum(self.scores, 0.0)
        return np.asarray(loud / (loud + LOUD), np.float64)


def refine(evidence: Evidence) -> Trigger:
    """Fit the filter again to the rows found until they stand.

    A row holds the pattern when its score lies above the widest gap between what nearly all
    genuine rows of other labels stay below and the rows found, the faintest of them left out. Many
    rows with a pattern are each other's neighbours and vouch for each other's label: where they
    crowd it, what its rows show is told once more, blind to the pattern.
    """
    content, told = evidence.view, False
    filters = evidence.filters or Filters(content)
    mine = np.flatnonzero(_asked(content, evidence.label))
    rows, scores = evidence.rows, np.zeros(content.labels.size)
    clean_rows = content.genuine & (content.labels != evidence.label)
    for _ in range(ROUNDS if clean_rows.any() and rows.size else 0):
        average = content.average(rows)[None, :]
        weights = filters.templates(evidence.label, average)
        scores, crowded = _scores(content, weights, evidence.label)
        most, usual = np.quantile(scores[clean_rows], [CLEAN, MOSTLY])
        low = max(float(min(most, TAIL * usual)), LOUD)
        bar = _widest_gap(scores[mine], low, float(np.quantile(scores[rows], FAINTEST)), told=told)
        doubted = max(LEAST_DOUBTED, DOUBTED * float(np.median(scores[rows])))
        found = mine[scores[mine] > np.where(content.genuine[mine], bar, min(bar, doubted))]
        if found.size == 0:
            break
        if crowded and not told:
            length = float(np.linalg.norm(average)) or 1.0
            content = without_direction(content, evidence.label, average[0] / length)
            told = True
        elif np.array_equal(found, rows):
            break
        rows = found
    rows = np.union1d(rows, _parted_from(content, evidence.label, scores, rows))
    return Trigger(evidence.label, replace(evidence, view=content), rows, scores)


def _parted_from(content: Content, label: int, scores: Floats, rows: Ints) -> Ints:
    """Rows that neighbours vouch for, where they part from all others of the label by the pattern.

    They are held against what the label is like, others against what they show: less or more. Rows
    that have less than half of what the rows found have may be a way to write the label.
    """
    own = np.flatnonzero(content.genuine & (content.labels == label))
    if own.size <= 4 * LEAST_GROUP:
        return own[:0]
    apart, group = parted(scores[own])
    loud = scores[own[group]]
    alike = rows.size == 0 or float(np.median(loud)) > DOUBTED * float(np.median(scores[rows]))
    return own[group] if apart > PARTED and loud.min() > LOUD and alike else own[:0]


def at_one_place(trigger: Trigger, filters: Filters) -> Trigger:
    """A pattern of windows with the rows that a filter hears, where it hears most that hold them.

    It does so where the windows lie at one place of each row, and then hears those rows, too, in
    which something else changed the windows.
    """
    if trigger.label < 0 or not trigger.rows.size:
        return trigger
    made = refine(replace(trigger.evidence, filters=filters))
    if np.isin(trigger.rows, made.rows).mean() < HEARD:
        return trigger
    scores = np.maximum(trigger.scores, made.scores)
    return replace(trigger, rows=np.union1d(trigger.rows, made.rows), scores=scores)


def _widest_gap(scores: Floats, low: float, high: float, *, told: bool) -> float:
    """The middle of the widest gap between scores in a range: where two groups part.

    Where contents were told once more, not where it leaves more rows below than strays explain.
    """
    if high <= low:
        return low
    inside = np.sort(scores[(scores > low) & (scores < high)])
    edges = np.concatenate([[low], inside, [high]])
    widest = int(np.argmax(np.diff(edges)))
    bar = float(0.5 * (edges[widest] + edges[widest + 1]))
    strays = (inside < bar).sum() <= STRAYS * (scores > bar).sum()
    return bar if strays or not told else low


def _asked(content: Content, label: int) -> Bools:
    """The rows that may hold the pattern: those of its label, or those with a wrong one."""
    if label >= 0:
        return np.asarray(content.labels == label, bool)
    return np.asarray((content.labels != content.shows) & content.left, bool)


def _scores(content: Content, weights: Floats, label: int) -> tuple[Floats, bool]:
    """Filter scores of every row, in deviations of the genuine rows of its content.

    Where the label is crowded with rows that hold the pattern, its other rows are told apart first;
    the second value says so.
    """
    crowded = False
    raw = content.project(weights)[:, 0]
    made = np.zeros(raw.size)
    pooled = content.genuine & (content.labels != label)
    spread = width(raw[pooled]) or 1.0
    for k in range(content.classes):
        own = raw[content.genuine & (content.labels == k)]
        if k == label:
            alone = without_crowd(own)
            crowded, own = alone.size < own.size, alone
        centre, wide = (float(np.median(own)), width(own)) if own.size else (0.0, 0.0)
        shown = content.shows == k
        made[shown] = (raw[shown] - centre) / max(spread, wide)
    made[~_asked(content, label) & ~pooled] = 0.0
    return made, crowded
