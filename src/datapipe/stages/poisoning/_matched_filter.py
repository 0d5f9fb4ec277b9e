# SPDX-License-Identifier: Apache-2.0
"""The cross-source matched filter: one pattern, one label, several kinds of content."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.detection import beta_binomial_tail
from datapipe.measure.neighbours import nearest, principal

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NEIGHBOURS = 10
COMPONENTS = 40
SURE = 0.5
"""Share of a row's neighbours that must agree on its content."""
RIDGE = 0.05
LOUD = 5.0
"""A score this many deviations above genuine rows carries the pattern: clean rows rarely do."""
FEWEST_GENUINE = 20
LEAST_TEMPLATE = 3
OUTLYING = 4.0
"""A label whose widest direction holds this many times the usual variance is told again."""
LEAST_HITS = 5
"""Fewer rows with one pattern than this are a coincidence."""
RATES = (0.02, 0.5)
"""Range of the share of suspects that look alike by nature."""
STRENGTH = 20.0
"""How many suspects the share seen in the other labels is worth."""


@dataclass(frozen=True, eq=False)
class Content:
    """What every row shows, whatever its label says.

    `shows` is the class of most neighbours, `genuine` rows show what their label says, `suspect`
    rows clearly show something else. `residual` is what a row's class mean leaves over.
    """

    pixels: Floats
    labels: Ints
    shows: Ints
    genuine: Bools
    suspect: Bools
    residual: Floats
    means: Floats
    left: Bools

    def without(self, rows: Bools) -> Content:
        """The same contents with some rows taking part in no test."""
        return replace(
            self,
            genuine=self.genuine & ~rows,
            suspect=self.suspect & ~rows,
            left=self.left & ~rows,
        )

    @property
    def classes(self) -> int:
        return len(self.means)


@dataclass(frozen=True, eq=False)
class Evidence:
    """How many suspects of a label share a pattern, and how likely that is by nature."""

    label: int
    hits: int
    looked_at: int
    p_value: float
    rows: Ints
    test: str
    view: Content


@dataclass(frozen=True, eq=False)
class Trigger:
    """A pattern that carries a label: the rows that hold it, and what it adds to a pixel."""

    label: int
    evidence: Evidence
    rows: Ints
    scores: Floats
    template: Floats


def content_of(pixels: NDArray[np.float32], labels: Ints, rng: np.random.Generator) -> Content:
    """Tell what each row shows from its neighbours in the principal components."""
    classes = int(labels.max()) + 1
    reduced = principal(pixels, COMPONENTS, rng).project(pixels)
    near = nearest(reduced, k=NEIGHBOURS).indices
    shows, votes = _majority(labels[near], classes)
    return _with_content(pixels.astype(np.float64), labels, shows, votes)


def _majority(neighbours: Ints, classes: int) -> tuple[Ints, Floats]:
    rows = np.repeat(np.arange(len(neighbours)), neighbours.shape[1])
    flat = np.bincount(rows * classes + neighbours.ravel(), minlength=len(neighbours) * classes)
    votes = flat.reshape(-1, classes) / max(neighbours.shape[1], 1)
    return votes.argmax(1), votes.max(1)


def _with_content(pixels: Floats, labels: Ints, shows: Ints, votes: Floats) -> Content:
    classes = int(labels.max()) + 1
    genuine = (shows == labels) & (votes > SURE)
    means = np.empty((classes, pixels.shape[1]))
    for k in range(classes):
        own = genuine & (labels == k)
        means[k] = pixels[own].mean(0) if own.any() else pixels.mean(0)
    suspect = (shows != labels) & (votes >= SURE)
    every = np.ones(labels.size, bool)
    return Content(pixels, labels, shows, genuine, suspect, pixels - means[shows], means, every)


class Filters:
    """Matched filters against the natural spread of genuine rows, one spread per label.

    A label's own rows are left out of its spread: they may hold the pattern, and a pattern that is
    part of the spread cannot stand out from it.
    """

    def __init__(self, content: Content) -> None:
        self._content = content
        rows = content.residual[content.genuine]
        own = content.labels[content.genuine]
        self._whole = rows.T @ rows
        self._count = len(rows)
        self._parts = {k: (rows[own == k], int((own == k).sum())) for k in np.unique(own)}

    def spread(self, label: int) -> Floats:
        """Covariance of the genuine rows of other labels, with a ridge."""
        rows, count = self._parts.get(label, (self._content.residual[:0], 0))
        rest = self._whole - rows.T @ rows
        made = np.asarray(rest / max(self._count - count, 1), np.float64)
        made[np.diag_indices_from(made)] += RIDGE * np.trace(made) / len(made) + 1e-9
        return made


def transfer_test(content: Content, filters: Filters) -> list[Evidence]:
    """For each label: does the pattern of suspects of some contents recur on another content?

    Natural confusions (a 4 like a 9) stay within a pair of classes; a trigger is the same
    whatever it lies on. The share of hits in the other labels, the worst left out, is the null.
    """
    counts, views = [], []
    widest = [_widest(content, filters, k) for k in range(content.classes)]
    usual = float(np.median([w.variance for w in widest]))
    for label, axis in enumerate(widest):
        best, view = _across_sources(content, filters, label), content
        if axis.variance > OUTLYING * usual > 0:
            retold = without_direction(content, label, axis.direction)
            second = _across_sources(retold, filters, label)
            if second[0].size > best[0].size:
                best, view = second, retold
        counts.append(best)
        views.append(view)
    labels = list(range(content.classes))
    return [_judged(k, labels, counts, views[k], "cross-source") for k in labels]


def _across_sources(content: Content, filters: Filters, label: int) -> tuple[Ints, int]:
    """The suspects that hold the pattern of the suspects of other content, and how many tried."""
    suspects = np.flatnonzero(content.suspect & (content.labels == label))
    hits: list[Ints] = []
    tried = 0
    if suspects.size < LEAST_TEMPLATE + 1:
        return np.empty(0, np.int64), 0
    spread = filters.spread(label)
    shows = content.shows[suspects]
    sources = np.unique(shows)
    others = [suspects[shows != e] for e in sources]
    averages = np.array([content.residual[o].mean(0) for o in others if o.size >= LEAST_TEMPLATE])
    if not averages.size:
        return np.empty(0, np.int64), 0
    solved = iter(np.linalg.solve(spread, averages.T).T)
    for source, other in zip(sources, others, strict=True):
        if other.size < LEAST_TEMPLATE:
            continue
        weights = next(solved)
        own = suspects[shows == source]
        scores = standardised(content, weights, source, own)
        if scores is not None:
            hits.append(own[scores > LOUD])
            tried += own.size
    return np.concatenate(hits) if hits else np.empty(0, np.int64), tried


def standardised(content: Content, weights: Floats, source: int, rows: Ints) -> Floats | None:
    """Filter scores of rows that show a class, in deviations of the genuine rows that do."""
    genuine = content.residual[content.genuine & (content.labels == source)] @ weights
    if genuine.size < FEWEST_GENUINE or genuine.std() == 0:
        return None
    scores: Floats = (content.residual[rows] @ weights - genuine.mean()) / genuine.std()
    return scores


def pair_test(content: Content, filters: Filters, rng: np.random.Generator) -> list[Evidence]:
    """For each pair (content, label): does the pattern of one half recur on the other half?

    This sees a trigger that was put on a single class, where nothing can transfer.
    """
    found: list[tuple[int, tuple[Ints, int]]] = []
    for label in range(content.classes):
        mine = np.flatnonzero(content.suspect & (content.labels == label))
        for source in np.unique(content.shows[mine]):
            rows = mine[content.shows[mine] == source]
            if rows.size >= 2 * LEAST_HITS:
                found.append((label, _halves(content, filters, label, rng.permutation(rows))))
    labels, counts = [k for k, _ in found], [c for _, c in found]
    return [_judged(i, labels, counts, content, "split-half") for i in range(len(found))]


def _halves(content: Content, filters: Filters, label: int, rows: Ints) -> tuple[Ints, int]:
    middle = rows.size // 2
    halves = (rows[:middle], rows[middle:])
    averages = np.array([content.residual[h].mean(0) for h in halves])
    weights = np.linalg.solve(filters.spread(label), averages.T).T
    source = int(content.shows[rows[0]])
    hits = []
    for w, half in zip(weights, reversed(halves), strict=True):
        scores = standardised(content, w, source, half)
        hits.append(half[scores > LOUD] if scores is not None else half[:0])
    return np.concatenate(hits), rows.size


def _judged(
    place: int, labels: list[int], counts: list[tuple[Ints, int]], view: Content, test: str
) -> Evidence:
    hits, looked_at = counts[place]
    p_value = tail(hits.size, looked_at, natural_rate(place, counts))
    return Evidence(labels[place], hits.size, looked_at, p_value, hits, test, view)


def natural_rate(place: int, counts: list[tuple[Ints, int]]) -> float:
    """The share of hits among the other labels, the worst of them left out."""
    others = [(h.size, n) for i, (h, n) in enumerate(counts) if i != place and n]
    others.sort(key=lambda pair: pair[0] / pair[1])
    kept = others[:-1]
    hits, tried = sum(h for h, _ in kept), sum(n for _, n in kept)
    return float(np.clip((hits + 1) / (tried + 2), *RATES)) if tried else 0.1


def tail(hits: int, looked_at: int, rate: float) -> float:
    """Chance of as many hits by nature; few hits are never evidence."""
    if hits < LEAST_HITS:
        return 1.0
    return beta_binomial_tail(hits, looked_at, STRENGTH * rate, STRENGTH * (1 - rate))


def refine(filters: Filters, evidence: Evidence) -> Trigger:
    """From the first hits to every row that holds the pattern, and to the pattern itself.

    The filter is fitted again to the rows found. A row holds the pattern when its score lies above
    the widest gap between what 99.9 % of other labels' genuine rows stay below and the rows found.
    """
    content = evidence.view
    spread = filters.spread(evidence.label)
    mine = np.flatnonzero(content.labels == evidence.label)
    rows = evidence.rows
    scores = np.zeros(content.labels.size)
    for _ in range(4):
        weights = np.linalg.solve(spread, content.residual[rows].mean(0))
        scores = _scores(content, weights, evidence.label)
        clean = scores[content.genuine & (content.labels != evidence.label)]
        low = max(float(np.quantile(clean, 0.999)), LOUD)
        bar = _widest_gap(scores[mine], low, float(np.median(scores[rows])))
        found = mine[scores[mine] > bar]
        if found.size == 0 or np.array_equal(found, rows):
            break
        rows = found
    template = np.median(content.residual[rows], axis=0)
    return Trigger(evidence.label, evidence, rows, scores, template)


def _widest_gap(scores: Floats, low: float, high: float) -> float:
    """The middle of the widest gap between scores in a range: where two groups part."""
    inside = np.sort(scores[(scores > low) & (scores < high)])
    edges = np.concatenate([[low], inside, [max(low, high)]])
    widest = int(np.argmax(np.diff(edges)))
    return float(edges[widest] + edges[widest + 1]) / 2.0


def _scores(content: Content, weights: Floats, label: int) -> Floats:
    """Filter scores of every row, in deviations of the genuine rows of its content.

    The label's own rows may hold the pattern, so that their spread is read from the middle half.
    """
    raw: Floats = content.residual @ weights
    made = np.zeros(raw.size)
    pooled = content.genuine & (content.labels != label)
    spread = float(raw[pooled].std()) or 1.0
    for k in range(content.classes):
        own = raw[content.genuine & (content.labels == k)]
        centre = float(np.median(own)) if own.size else 0.0
        middle = float(np.median(np.abs(own - centre))) * 1.4826 if own.size else 0.0
        shown = content.shows == k
        made[shown] = (raw[shown] - centre) / max(spread, middle)
    return made


@dataclass(frozen=True, eq=False)
class _Axis:
    """The direction in which a label's rows spread most, against natural spread."""

    variance: float
    direction: Floats


def _widest(content: Content, filters: Filters, label: int) -> _Axis:
    mine = np.flatnonzero((content.labels == label) & content.left)
    if mine.size < 2 * FEWEST_GENUINE:
        return _Axis(0.0, np.zeros(content.pixels.shape[1]))
    lower = np.linalg.cholesky(filters.spread(label))
    white = np.linalg.solve(lower, content.residual[mine].T).T
    white -= np.median(white, axis=0)
    start = white[np.argmax((white * white).sum(1))]
    for _ in range(30):  # power iterations: only the first axis is asked for
        start = white.T @ (white @ start)
        start /= np.linalg.norm(start) or 1.0
    direction = lower @ start
    length = float(np.linalg.norm(direction)) or 1.0
    return _Axis(float(((white @ start) ** 2).mean()), direction / length)


def without_direction(content: Content, label: int, direction: Floats) -> Content:
    """The contents of one label's rows told again, blind to one direction.

    Rows with a loud pattern are each other's neighbours and vouch for each other's label. Their
    pattern is then the direction that sets the label's rows apart most.
    """
    mine = np.flatnonzero(content.labels == label)
    shadow = np.outer(content.pixels @ direction, direction)
    flat = np.asarray(content.pixels - shadow, np.float32)
    reduced = principal(flat, COMPONENTS, np.random.default_rng(label)).project(flat)
    near = nearest(reduced, reduced[mine], k=NEIGHBOURS + 1).indices
    other = near != mine[:, None]
    other[other.all(1), -1] = False
    told = content.labels[near[other].reshape(mine.size, -1)]
    shows, votes = _majority(told, content.classes)
    return _retold(content, mine, shows, votes)


def _retold(content: Content, mine: Ints, shows: Ints, votes: Floats) -> Content:
    label = int(content.labels[mine[0]])
    every, genuine, suspect = content.shows.copy(), content.genuine.copy(), content.suspect.copy()
    every[mine] = shows
    left = content.left[mine]
    genuine[mine] = (shows == label) & (votes > SURE) & left
    suspect[mine] = (shows != label) & (votes >= SURE) & left
    means = content.means.copy()
    if genuine[mine].any():
        means[label] = content.pixels[mine][genuine[mine]].mean(0)
    residual = content.residual.copy()
    moved = np.union1d(mine, np.flatnonzero(every == label))
    residual[moved] = content.pixels[moved] - means[every[moved]]
    return replace(
        content, shows=every, genuine=genuine, suspect=suspect, means=means, residual=residual
    )
