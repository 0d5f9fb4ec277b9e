# SPDX-License-Identifier: Apache-2.0
"""The cross-source matched filter: one pattern, one label, several kinds of content."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.detection import binomial_tail
from datapipe.stages.poisoning._image.content import FEWEST_OWN, Content, without_direction
from datapipe.stages.poisoning._image.levels import (
    LEAST_HITS,
    LEVELS,
    LOUD,
    MOST_NATURAL,
    Levels,
    natural_rate,
    tail,
)
from datapipe.stages.poisoning._image.parted import parted, usual_of
from datapipe.stages.poisoning._image.pixels import some

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Thin = NDArray[np.float32]

RIDGE = 0.05
BETWEEN = 2.0
"""How many times the spread between class means counts as natural."""
FEWEST_GENUINE = 20
LEAST_TEMPLATE = 3
OUTLYING = 4.0
PARTED = 5.5
"""A label whose widest direction holds this many times the usual variance, and along which its
rows part into two groups this many deviations from each other, is told again."""
HEAVIEST = 0.7
"""Index of the heaviest tail that scores of suspects have by nature: the loudest labels of twenty
clean sets had 0.4 to 0.6 by Hill's estimate."""
FEWEST_KINDS = 4
"""What suspects that share a pattern must show, different things, to stand apart from the others:
by nature a kind of one class looks like two or three others."""
SPREAD_OUT = 0.5
"""No label may have more of a pattern's rows than this for it to be one of all labels."""
MOST_LEARNT = 4096
"""So many genuine rows, evenly spread, tell the natural spread."""
SQUARED_BYTES, PARTS = 2**20, 8
"""About how many bytes of pixels are squared at a time, for each time the whole square is gone
through; and how many parts of the square are made one after the other."""
MOST_COMPARED, ALIKE_ROUNDS = 1000, 12
"""More suspects than this are not compared one by one; their mean tells what they share."""
HALVES = "split-half"
FLAT = 1e-9
"""Columns with less variance than this share of the largest do not vary."""
MOST_ASKED = 500
"""Rows of a label, evenly spread, that tell in which direction it spreads most."""
FEW_GENUINE = 0.01
NARROW = 64
"""A triangle of this width is inverted as it is."""
AT_ONCE = 64
"""Rows or columns that are looked at together where all at once would take a copy of them."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """How many suspects of a label share a pattern, and how likely that is by nature.

    `label` is -1 for a pattern that goes with wrong labels of any class. `faint` rows are those of
    a level below `LOUD`.
    """

    label: int
    hits: int
    looked_at: int
    p_value: float
    rows: Ints
    test: str
    view: Content
    filters: Filters | None = None
    faint: bool = False


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


@dataclass(frozen=True, eq=False)
class Asked:
    """Patterns of a label to try on its suspects: filter weights of shape (d, m).

    `parts` has for each pattern the suspects that had no part in it; `key` starts with the label.
    """

    key: tuple[int, ...]
    weights: Floats
    parts: list[Ints]


def try_all(content: Content, filters: Filters, rng: np.random.Generator | None = None) -> None:
    """Learn the patterns of all labels and try them, in one pass over the pixels.

    `rng` draws the halves of each pair of what suspects show and their label; None leaves them out.
    """
    asked: list[Asked] = []
    for label in range(content.classes):
        filters.widest(label)
        if (label,) not in filters.tried:
            asked.append(_across(content, filters, label))
        if rng is not None:
            asked += _halves(content, filters, label, rng)
    for one, tried in zip(asked, tried_on(content, asked), strict=True):
        filters.tried[one.key] = tried


def tried_on(content: Content, asked: list[Asked]) -> list[Tried]:
    """How far suspects hold patterns: more than genuine rows of what they show, and of their label.

    A row whose neighbours err about it is like those of its label, however odd it is for what it
    seems to show. Not told where a label has too few genuine rows.
    """
    if not asked:
        return []
    usual = content.usual
    every = np.unique(np.concatenate([*usual, *(p for a in asked for p in a.parts)]))
    along = content.pixels.project(np.concatenate([a.weights for a in asked], axis=1), every)
    own = [np.searchsorted(every, rows) for rows in usual]
    centre, spread = usual_along(along, own)
    made, column = [], 0
    for one in asked:
        own_rows = own[one.key[0]]
        mine = slice(column, column + len(one.parts))
        middle = wide = np.full(len(one.parts), np.nan)
        if own_rows.size >= FEWEST_OWN:
            middle, wide = usual_of(along[own_rows, mine].astype(np.float64))
        parts = []
        for i, rows in enumerate(one.parts):
            there = along[np.searchsorted(every, rows), column].astype(np.float64)
            shows = content.shows[rows]
            scores = (there - centre[shows, column]) / spread[shows, column]
            parts.append((rows, np.minimum(scores, (there - middle[i]) / (wide[i] or np.inf))))
            column += 1
        made.append(Tried.of(parts))
    return made


def usual_along(along: Thin, own: list[Ints]) -> tuple[Floats, Floats]:
    """Where genuine rows of each class lie along each of some weights, and how wide, shape (K, m).

    NaN where a class has too few to tell.
    """
    centre = np.full((len(own), along.shape[1]), np.nan)
    spread = centre.copy()
    for k, rows in enumerate(own):
        if rows.size >= FEWEST_GENUINE:
            there = along[rows].astype(np.float64)
            centre[k], spread[k] = there.mean(0), there.std(0)
    spread[spread <= 0] = np.inf
    return centre, spread


def transfer_test(content: Content, filters: Filters) -> list[Evidence]:
    """For each label: does the pattern of suspects of some contents recur on another content?

    Natural confusions (a 4 like a 9) stay within a pair of classes; a trigger is the same
    whatever it lies on. The share of hits in the other labels, the worst left out, is the null.
    """
    tried, views = [], []
    widest = [filters.widest(k) for k in range(content.classes)]
    usual = float(np.median([w.variance for w in widest]))
    for label, axis in enumerate(widest):
        best, view = filters.tried[label,], content
        if axis.variance > OUTLYING * usual > 0 and axis.parted > PARTED:
            retold = without_direction(content, label, axis.direction)
            second = across_sources(retold, filters, label)
            if second.above(LOUD) > best.above(LOUD):
                best, view = second, retold
        tried.append(best)
        views.append(view)
    labels = list(range(content.classes))
    return [
        judged(k, labels, tried, views[k], "cross-source", levels=filters.levels) for k in labels
    ]


def across_sources(content: Content, filters: Filters, label: int) -> Tried:
    """The suspects of each content, scored by the pattern of those of the other contents."""
    return tried_on(content, [_across(content, filters, label)])[0]


def _across(content: Content, filters: Filters, label: int) -> Asked:
    suspects = content.suspects(label)
    shows = content.shows[suspects]
    sources = [e for e in np.unique(shows) if (shows != e).sum() >= LEAST_TEMPLATE]
    if suspects.size < LEAST_TEMPLATE + 1 or not sources:
        return Asked((label,), np.empty((content.pixels.shape[1], 0)), [])
    averages = _averages(content, suspects, sources, filters.whitening(label))
    return Asked(
        (label,), filters.templates(label, averages), [suspects[shows == e] for e in sources]
    )


def _averages(content: Content, suspects: Ints, sources: list[int], white: Thin) -> Floats:
    """What the suspects of all contents but one share, for each of some contents: shape (m, d).

    Most suspects may be natural ones, in which a mean drowns a pattern of a few. Each counts as
    much as others that show something else resemble it, once what is natural is evened out.
    """
    shows = content.shows[suspects]
    others = (shows[:, None] != np.array(sources)).astype(np.float32)
    weights = others / others.sum(0)
    if shows.size <= MOST_COMPARED:
        even = evened(content.residual(suspects), white)
        alike = even @ even.T
        del even
        alike[shows[:, None] == shows] = 0.0
        for _ in range(ALIKE_ROUNDS):  # the loudest that are a multiple of what they add up to
            shared = others * np.maximum(alike @ weights, 0.0)
            total = shared.sum(0)
            weights = np.where(total > 0, shared / np.where(total > 0, total, 1.0), weights)
    made, start = np.zeros((len(sources), content.pixels.shape[1])), 0
    for mine, rest in content.residuals(suspects):
        made += weights[start : start + mine.size].T @ rest
        start += mine.size
    return made


def evened(rows: Thin, white: Thin) -> Thin:
    """Rows with natural spread evened out, in their own place."""
    for first in reversed(range(0, len(white), AT_ONCE)):  # what comes before is still as it was
        end = min(first + AT_ONCE, len(white))
        rows[:, first:end] = rows[:, :end] @ white[first:end, :end].T
    return rows


def _halves(
    content: Content, filters: Filters, label: int, rng: np.random.Generator
) -> list[Asked]:
    asked = []
    for source, mine in content.confusions(label):
        if mine.size < 2 * LEAST_HITS or (label, source) in filters.tried:
            continue
        asked.append(halved(content, filters, (label, source), mine, rng))
    return asked


def halved(
    content: Content, filters: Filters, key: tuple[int, int], mine: Ints, rng: np.random.Generator
) -> Asked:
    rows = rng.permutation(mine)
    one, other = rows[: rows.size // 2], rows[rows.size // 2 :]
    averages = np.array([content.average(half) for half in (one, other)])
    return Asked(key, filters.templates(key[0], averages), [other, one])


def blind_test(content: Content, filters: Filters) -> list[Evidence]:
    """Does the pattern of suspects of all other labels recur on the suspects of each label?

    This sees a trigger that moves every class to another one. Natural oddness stands in genuine
    rows as well, so that few of the rows that hold it are suspects; of a trigger's nearly all are.
    """
    suspects = np.flatnonzero(content.suspect)
    own = content.labels[suspects]
    labels = [k for k in np.unique(own) if (own != k).sum() >= LEAST_TEMPLATE]
    if len(labels) < 2:
        return []
    sums = np.zeros((content.classes, content.pixels.shape[1]))
    for mine, rest in content.residuals(suspects):
        one = (content.labels[mine] == np.arange(content.classes)[:, None]).astype(np.float32)
        sums += one @ rest
    averages = np.array([(sums.sum(0) - sums[k]) / (own != k).sum() for k in labels])
    along = content.pixels.project(filters.templates(-1, averages))
    centre, spread = usual_along(along, content.usual)
    of = np.full(content.classes, -1)
    of[labels] = np.arange(len(labels))
    asked = np.flatnonzero((content.genuine | content.suspect) & (of[content.labels] >= 0))
    shows, column = content.shows[asked], of[content.labels[asked]]
    scores = (along[asked, column] - centre[shows, column]) / spread[shows, column]
    loud = asked[scores > LEVELS[1][0]]
    hits = loud[content.suspect[loud]]
    if hits.size < LEAST_HITS:
        return []
    if np.bincount(content.labels[hits]).max() > SPREAD_OUT * hits.size:
        return []
    p_value = binomial_tail(hits.size, loud.size, MOST_NATURAL)
    return [Evidence(-1, hits.size, loud.size, p_value, hits, "label-blind", content)]


def apart(tried: Tried, content: Content) -> float:
    """Chance that by nature a gap as wide parts the loud suspects from all others.

    The tail of natural scores may be as heavy as a Pareto law of index `HEAVIEST`, of which the
    log of neighbouring scores differs by an exponential (Renyi, 1953). Those of several contents
    only, never those of one pair.
    """
    loud = tried.scores > LOUD
    kinds = np.unique(content.shows[tried.rows[loud]]).size
    if loud.sum() < LEAST_HITS or kinds < max(2, min(FEWEST_KINDS, content.classes - 1)):
        return 1.0
    below = max(float(tried.scores[~loud].max(initial=0.0)), 0.5 * LOUD)
    gap = np.log(float(tried.scores[loud].min()) / below)
    return float(np.exp(-int(loud.sum()) * gap / HEAVIEST))


def judged(
    place: int,
    labels: list[int],
    tried: list[Tried],
    view: Content,
    test: str,
    *,
    levels: Levels = LEVELS,
) -> Evidence:
    mine = tried[place]
    p_values = []
    for level, floor, strength in levels:
        others = [(t.above(level), t.rows.size) for i, t in enumerate(tried) if i != place]
        rate = natural_rate(others, floor)
        p_value = tail(mine.above(level), mine.rows.size, rate, strength)
        if levels is not LEVELS and not several_kinds(view, mine.rows[mine.scores > level]):
            p_value = 1.0
        p_values.append(p_value)
    p_values.append(apart(mine, view))
    best = int(np.argmin(p_values))
    level = levels[best][0] if best < len(levels) else LOUD
    rows = mine.rows[mine.scores > level]
    p_value = min(1.0, p_values[best] * len(p_values))
    made = Evidence(labels[place], rows.size, mine.rows.size, p_value, rows, test, view)
    return replace(made, faint=level < LOUD)


def several_kinds(view: Content, rows: Ints) -> bool:
    """Whether rows show several things, none of them more than half: a kind of one class does not.

    A 1 with a foot is like a 2 and a 6, all over. Of few classes a pattern has no more to lie on.
    """
    shown = np.bincount(view.shows[rows], minlength=view.classes)
    least = min(FEWEST_KINDS, view.classes - 1)
    most = SPREAD_OUT if least == FEWEST_KINDS else 1.0
    return bool((shown > 0).sum() >= least and shown.max() <= most * rows.size)


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
