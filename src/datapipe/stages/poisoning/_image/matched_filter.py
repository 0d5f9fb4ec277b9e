# SPDX-License-Identifier: Apache-2.0
"""The cross-source matched filter: one pattern, one label, several kinds of content."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.detection import binomial_tail
from datapipe.stages.poisoning._image.content import FEWEST_OWN, Content, without_direction
from datapipe.stages.poisoning._image.levels import (
    LEAST_HITS,
    LEVELS,
    LOUD,
    MOST_NATURAL,
    SOFT,
    Levels,
    natural_rate,
    tail,
)
from datapipe.stages.poisoning._image.parted import usual_of
from datapipe.stages.poisoning._image.spread import FEWEST_GENUINE, Filters, Tried, evened

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Thin = NDArray[np.float32]

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
MOST_COMPARED, ALIKE_ROUNDS = 1000, 12
"""More suspects than this are not compared one by one; their mean tells what they share."""
HALVES, TWO_GROUPS = "split-half", "two groups"


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


def transfer_test(
    content: Content, filters: Filters, levels: Levels | None = None
) -> list[Evidence]:
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
        judged(k, labels, tried, views[k], "cross-source", levels=levels or filters.levels)
        for k in labels
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
        odd = level < LOUD or levels not in (LEVELS, SOFT)
        if odd and not several_kinds(view, mine.rows[mine.scores > level]):
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
