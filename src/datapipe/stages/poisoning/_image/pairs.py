# SPDX-License-Identifier: Apache-2.0
"""A pattern on rows of one class that carries one label, where nothing can transfer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._image.content import Content, without_direction
from datapipe.stages.poisoning._image.levels import LEAST_HITS
from datapipe.stages.poisoning._image.matched_filter import (
    HALVES,
    PARTED,
    Evidence,
    halved,
    judged,
    tried_on,
)
from datapipe.stages.poisoning._image.parted import ALONE, chances
from datapipe.stages.poisoning._image.spread import Filters, Tried

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HIDDEN = "split-half, one group of a label"
GROUPED = "cross-source, one group of a label"
ASIDE = "one side of a label"
OF_A_GROUP = (HIDDEN, GROUPED, ASIDE)
NEARLY_ALL = 0.8
"""Share of a group that textures part which must show one class: of one among labels of several
letters a third or a half did, of rows planted all.
"""


def pair_test(content: Content, filters: Filters) -> list[Evidence]:
    """For each pair (content, label): does the pattern of one half recur on the other half?

    This sees a trigger that was put on a single class, where nothing can transfer.
    """
    labels, tried = _pairs(filters)
    return [judged(i, labels, tried, content, HALVES) for i in range(len(tried))]


def hidden_test(content: Content, filters: Filters, seen: Filters | None = None) -> list[Evidence]:
    """The same of pairs of which the suspects vouch for each other, held against the plain ones.

    `seen` are filters of another view of the same rows: what parts a label there is a group of it,
    too.
    """
    labels, tried = _pairs(filters)
    plain, views = len(tried), []
    for label, one, view in _hidden(content, filters, seen or filters):
        labels.append(label)
        tried.append(one)
        views.append(view)
    return [judged(plain + i, labels, tried, v, HIDDEN) for i, v in enumerate(views)]


def _pairs(filters: Filters) -> tuple[list[int], list[Tried]]:
    pairs = sorted(key for key in filters.tried if len(key) == 2)
    return [label for label, _ in pairs], [filters.tried[p] for p in pairs]


def _hidden(
    content: Content, filters: Filters, seen: Filters
) -> Iterator[tuple[int, Tried, Content]]:
    """Pairs of which the suspects vouched for each other: many rows of one class with one pattern.

    They are a group of their label. To others, blind to what parts it from these, more of
    its rows show one other class than show their label, as of no kind of the label.
    """
    axes = [seen.widest(label) for label in range(content.classes)]
    p_values = chances([axis.parted for axis in axes])
    for label, axis in enumerate(axes):
        if content.view or not axis.parted > PARTED:
            continue
        if p_values[label] > ALONE:
            continue  # labels part by kinds of a class, and by mirrored copies, too
        parts = axis.direction if seen is filters else _between(content, label, axis.group)
        view = without_direction(content, label, _of_no_class(content, parts), axis.group)
        alone = view.labels != label
        alone[axis.group] = True
        view = replace(view, suspect=view.suspect & alone)
        rng = np.random.default_rng(label)
        least = max(int((view.shows[axis.group] == label).sum()), 2 * LEAST_HITS)
        if seen is not filters:
            least = max(least, int(NEARLY_ALL * axis.group.size))
        for source, mine in view.confusions(label):
            if mine.size > least:
                asked = halved(view, filters, (label, source), mine, rng)
                yield label, tried_on(view, [asked])[0], view


def _between(content: Content, label: int, group: Ints) -> Floats:
    """From the mean of the rest of a label to that of some of its rows."""
    rest = np.setdiff1d(np.flatnonzero((content.labels == label) & content.left), group)
    one, other = (content.pixels.take(rows).mean(0, dtype=np.float64) for rows in (group, rest))
    return np.asarray(one - other, np.float64)


def _of_no_class(content: Content, direction: Floats) -> Floats:
    """A direction less what sets class from class: rows blind to it show their class still."""
    apart = content.means - content.means.mean(0)
    classes = np.linalg.svd(apart, full_matrices=False)[2][: len(apart) - 1]
    left = direction - classes.T @ (classes @ direction)
    return np.asarray(left / (np.linalg.norm(left) or 1.0), np.float64)
