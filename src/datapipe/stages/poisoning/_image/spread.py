# SPDX-License-Identifier: Apache-2.0
"""The natural spread of genuine rows, and filters that even it out."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._image.content import Content
from datapipe.stages.poisoning._image.levels import LEVELS, Levels
from datapipe.stages.poisoning._image.parted import parted
from datapipe.stages.poisoning._image.pixels import some

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Thin = NDArray[np.float32]

RIDGE = 0.05
BETWEEN = 2.0
"""How many times the spread between class means counts as natural."""
MOST_LEARNT = 4096
"""So many genuine rows, evenly spread, tell the natural spread."""
SQUARED_BYTES, PARTS = 2**20, 8
"""About how many bytes of pixels are squared at a time, for each time the whole square is gone
through; and how many parts of the square are made one after the other."""
FLAT = 1e-9
"""Columns with less variance than this share of the largest do not vary."""
MOST_ASKED = 500
"""Rows of a label, evenly spread, that tell in which direction it spreads most."""
FEW_GENUINE = 0.01
NARROW = 64
"""A triangle of this width is inverted as it is."""
AT_ONCE = 64
"""Rows or columns that are looked at together where all at once would take a copy of them."""
FEWEST_GENUINE = 20


@dataclass(frozen=True, eq=False)
class Tried:
    """Suspects that a filter learnt from others was tried on, and their scores."""

    rows: Ints
    scores: Floats

    @classmethod
    def of(cls, parts: list[tuple[Ints, Floats]]) -> Tried:
        if not parts:
            return cls(np.empty(0, np.int64), np.empty(0))
        rows, scores = (np.concatenate(p) for p in zip(*parts, strict=True))
        there = np.isfinite(scores)
        return cls(rows[there], scores[there])

    def above(self, level: float) -> int:
        return int((self.scores > level).sum())


@dataclass(frozen=True, eq=False)
class Axis:
    """The direction in which a label's rows spread most, against natural spread.

    `parted` says how many deviations apart the two groups are into which they fall along it, and
    `group` has the rows of the smaller.
    """

    variance: float
    direction: Floats
    parted: float
    group: Ints


class Filters:
    """Matched filters against the natural spread of genuine rows, one spread per label.

    A label's own rows are left out of its spread: they may hold the pattern, and a pattern that is
    part of the spread cannot stand out from it. What sets class from class counts as spread, too: a
    row that its neighbours take for another class leans toward its own. `levels` say how loud what
    they find must be.
    """

    def __init__(self, content: Content, levels: Levels = LEVELS) -> None:
        self._content, self.levels = content, levels
        self._count = int(content.genuine.sum())
        self._rows = some(np.flatnonzero(content.genuine), MOST_LEARNT)
        self._whole = self._square(self._rows)
        self._made: dict[int, Thin] = {}
        self._axes: dict[int, Axis] = {}
        self.tried: dict[tuple[int, ...], Tried] = {}

    def spread(self, label: int) -> Thin:
        """Covariance of the genuine rows of other labels, with a ridge: its lower triangle."""
        own = self._rows[self._content.labels[self._rows] == label]
        made = self._square(own)
        np.subtract(self._whole, made, out=made)
        made /= max(self._rows.size - own.size, 1)
        apart = (self._content.means - self._content.means.mean(0)).astype(np.float32)
        made += apart.T @ (np.float32(BETWEEN / len(apart)) * apart)
        own_spread = made[np.diag_indices_from(made)]
        varying = max(int((own_spread > FLAT * own_spread.max(initial=0.0)).sum()), 1)
        made[np.diag_indices_from(made)] += RIDGE * own_spread.sum() / varying + 1e-9
        return made

    def whitening(self, label: int) -> Thin:
        """The matrix W with W' W the inverse of the spread."""
        if label not in self._made:
            self.forget()
            self._made[label] = _whitening(self.spread(label))
        return self._made[label]

    def templates(self, label: int, averages: Floats) -> Floats:
        """Filter weights (d, m) for mean residuals (m, d)."""
        white = self.whitening(label)
        return np.asarray(white.T @ (white @ averages.T.astype(np.float32)), np.float64)

    def forget(self) -> None:
        """Let go of the last whitening, which takes as much as hundreds of rows of pixels."""
        self._made.clear()

    def widest(self, label: int) -> Axis:
        """The direction in which a label's rows spread most, against natural spread."""
        if label not in self._axes:
            self._axes[label] = _widest(self._content, self, label)
        return self._axes[label]

    def without(self, content: Content, label: int, genuine: int) -> Filters:
        """Filters of the same contents less the rows of one pattern, so many of them genuine.

        Where these were few among all, natural spread stays, and what was found of other labels.
        """
        if genuine > FEW_GENUINE * self._count:
            return Filters(content, self.levels)
        made = copy(self)
        kept = {k: axis for k, axis in self._axes.items() if -1 < label != k}
        made._content, made._axes = content, kept  # noqa: SLF001 - a copy of our own
        made.tried = {k: tried for k, tried in self.tried.items() if -1 < label != k[0]}
        return made

    def _square(self, rows: Ints) -> Thin:
        """The lower triangle of the sum of outer products of residuals; above it, parts of it."""
        width = self._content.pixels.shape[1]
        made = np.zeros((width, width), np.float32)
        edges = np.linspace(0, width, PARTS + 1).astype(np.int64)
        for _, rest in self._content.residuals(rows, SQUARED_BYTES):
            for first, end in pairwise(edges):
                made[first:end, :end] += rest[:, first:end].T @ rest[:, :end]
        return made


def evened(rows: Thin, white: Thin) -> Thin:
    """Rows with natural spread evened out, in their own place."""
    for first in reversed(range(0, len(white), AT_ONCE)):  # what comes before is still as it was
        end = min(first + AT_ONCE, len(white))
        rows[:, first:end] = rows[:, :end] @ white[first:end, :end].T
    return rows


def _widest(content: Content, filters: Filters, label: int) -> Axis:
    mine = np.flatnonzero((content.labels == label) & content.left)
    if mine.size < 2 * FEWEST_GENUINE:
        return Axis(0.0, np.zeros(content.pixels.shape[1]), np.nan, mine[:0])
    white = filters.whitening(label)
    even = content.residual(mine[:: max(1, mine.size // MOST_ASKED)])
    columns = range(0, even.shape[1], AT_ONCE)
    middle = np.concatenate([np.median(even[:, i : i + AT_ONCE], axis=0) for i in columns])
    even -= middle
    evened(even, white)
    weights = even[np.argmax(np.einsum("ij,ij->i", even, even))]
    for _ in range(31):  # power iterations: only the first axis is asked for
        weights = (even @ weights) @ even
        weights /= np.linalg.norm(weights) or 1.0
    wide = (white.T @ weights).astype(np.float64)
    direction = _solved_by_lower(white, weights)
    length = float(np.linalg.norm(direction)) or 1.0
    along = content.project(wide[:, None], mine)[:, 0] - middle @ wide
    apart, group = parted(along)
    return Axis(float((along**2).mean()), direction / length, apart, mine[group])


def _solved_by_lower(lower: Thin, right: Thin) -> Floats:
    """What a lower triangle makes `right` of, from the top down."""
    made = right.astype(np.float64)
    for start in range(0, len(lower), NARROW):
        part = slice(start, start + NARROW)
        rest = made[part] - lower[part, :start] @ made[:start]
        made[part] = np.linalg.solve(lower[part, part].astype(np.float64), rest)
    return made


def _whitening(spread: Thin) -> Thin:
    """The lower triangle W with W' W the inverse of a spread, in its place.

    By halves: all but the smallest are matrix products, in 32-bit floats throughout.
    """
    n = len(spread)
    if n <= NARROW:
        spread[...] = np.linalg.inv(np.linalg.cholesky(spread))
        return spread
    half = n // 2
    upper = _whitening(spread[:half, :half])
    across = spread[half:, :half] @ upper.T
    spread[half:, half:] -= across @ across.T
    lower = _whitening(spread[half:, half:])
    np.matmul(-lower, across @ upper, out=spread[half:, :half])
    spread[:half, half:] = 0.0
    return spread
