# SPDX-License-Identifier: Apache-2.0
"""A label whose rows fall into two groups that the rows of other labels do not fall into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.detection import binomial_tail
from datapipe.measure.distributions import beta_cdf
from datapipe.stages.poisoning._image.content import Content, without_direction
from datapipe.stages.poisoning._image.matched_filter import (
    FEWEST_KINDS,
    HALVES,
    PARTED,
    SPREAD_OUT,
    Evidence,
    Filters,
    across_sources,
    judged,
)
from datapipe.stages.poisoning._image.pairs import HIDDEN
from datapipe.stages.poisoning._image.parted import TWO
from datapipe.stages.poisoning._image.refined import Trigger
from datapipe.stages.poisoning._image.windows import ONE_LABEL, PURE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TWO_GROUPS = "two groups"
GROUPED = "cross-source, one group of a label"
OF_A_GROUP = (HIDDEN, GROUPED)
ONE_TEXTURE = "texture of one label"
MOSTLY_VOUCHED = 0.5
"""Share of rows that neighbours vouch for, beyond which they may be a kind of their label."""
FEWEST_LABELS = 5
"""With fewer labels the others do not tell how far groups part by nature."""
ALONE = 0.005
"""Chance, by the other labels, of parting as far as this label does, above which its kinds part by
nature: of labels of two classes each, the likeliest of thirty sets had .01."""
LEAST_PART = 0.1
"""Share of a label's rows that a texture of its own must be on: a few odd ones part far by nature.
"""
LEAST_SPREAD = 0.1
"""How much the logarithm of a parting varies between labels, at the very least."""


def group_test(content: Content, filters: Filters) -> list[Evidence]:
    """For each label: do its rows part further than those of other labels do?

    This sees a pattern on images that keep their true label. How far the two groups part along the
    direction in which a label spreads most is held against the other labels by the prediction
    interval of its logarithm. A class may have two kinds by nature, too.
    """
    axes = [filters.widest(k) for k in range(content.classes)]
    logs = np.log(np.maximum([a.parted for a in axes], 1e-3))
    p_values = [_p_value(logs, k) for k in range(content.classes)]
    made = [
        Evidence(
            k,
            axes[k].group.size,
            int((content.labels == k).sum()),
            p_values[k],
            axes[k].group,
            TWO_GROUPS,
            content,
        )
        for k in range(content.classes)
    ]
    asked = _of_one_texture if content.view else _of_groups
    return [*made, *asked(content, filters, p_values)]


def _of_one_texture(
    content: Content, filters: Filters, p_values: list[float]
) -> Iterator[Evidence]:
    """Does hardly a row of other labels have the texture that parts a label?

    Of images that keep their label a pattern parts many, for it teaches nothing otherwise, and
    neighbours vouch for them. Were the texture no label's, rows that have it would be of all. What
    classes look like parts them less: of 250 labels with such a part, some of two classes each,
    none parted beyond five deviations.
    """
    for label in range(content.classes):
        axis = filters.widest(label)
        mine = np.flatnonzero((content.labels == label) & content.left)
        if not axis.parted > PARTED or p_values[label] > ALONE:
            continue
        if axis.group.size < LEAST_PART * mine.size:
            continue
        if content.genuine[axis.group].mean() <= MOSTLY_VOUCHED:
            continue
        rest = np.setdiff1d(mine, axis.group)
        apart = _mean(content, axis.group) - _mean(content, rest)
        along = content.pixels.project(filters.templates(label, apart[None, :]))[:, 0]
        bar = 0.5 * (np.median(along[axis.group]) + np.median(along[rest]))
        held = (along > bar) & content.left
        own = int(held[mine].sum())
        p_value = binomial_tail(own, int(held.sum()), PURE)
        yield Evidence(label, own, int(held.sum()), p_value, axis.group, ONE_TEXTURE, content)


def _of_groups(content: Content, filters: Filters, p_values: list[float]) -> Iterator[Evidence]:
    """Is what parts a group from its label the same on whatever its rows show without it?

    Many rows with one pattern vouch for each other's label, most of all in what a network that has
    learnt the pattern makes of them. All other rows tell them once more, blind to what parts them
    from the rest of their label. A second kind of the label, then, still shows its label, or mostly
    one class that it is like.
    """
    every = range(content.classes)
    for label in every:
        axis = filters.widest(label)
        if not axis.parted > TWO or p_values[label] > ALONE:
            continue
        rest = np.setdiff1d(np.flatnonzero((content.labels == label) & content.left), axis.group)
        apart = _mean(content, axis.group) - _mean(content, rest)
        apart /= np.linalg.norm(apart) or 1.0
        view = without_direction(content, label, apart, axis.group)
        alone = view.labels != label
        alone[axis.group] = True
        view = replace(view, suspect=view.suspect & alone)
        tried = [*(filters.tried[k,] for k in every), across_sources(view, filters, label)]
        made = judged(len(every), [*every, label], tried, view, GROUPED, levels=filters.levels)
        shown = np.bincount(view.shows[made.rows], minlength=content.classes)
        several = (shown > 0).sum() >= min(FEWEST_KINDS, content.classes - 1)
        if several and shown.max() <= SPREAD_OUT * made.hits:
            yield replace(made, rows=axis.group)


def _mean(content: Content, rows: Ints) -> Floats:
    return np.asarray(content.pixels.take(rows).mean(0, dtype=np.float64))


def _p_value(logs: Floats, place: int) -> float:
    """Chance that one more label parts as far as this one, by Student's prediction interval."""
    others = np.delete(logs, place)
    others = others[np.isfinite(others)]
    if others.size < FEWEST_LABELS - 1 or not np.isfinite(logs[place]):
        return 1.0
    freedom = others.size - 1
    spread = max(float(others.std(ddof=1)), LEAST_SPREAD) * np.sqrt(1.0 + 1.0 / others.size)
    t = float((logs[place] - others.mean()) / spread)
    if t <= 0:
        return 1.0
    return 0.5 * beta_cdf(freedom / (freedom + t * t), 0.5 * freedom, 0.5)


def may_be_natural(trigger: Trigger) -> bool:
    """Whether rows may be a kind of their label: of two groups, or alike and mostly vouched for.

    Where a border, say, sets most images of a class apart, the others resemble another class. Only
    a pattern of pixels on several kinds is none of one label, however many rows hold it.
    """
    if trigger.evidence.test in (TWO_GROUPS, *OF_A_GROUP):
        return True
    alike = trigger.evidence.view.view or trigger.evidence.test in (ONE_LABEL, HALVES)
    return alike and trigger.vouched > MOSTLY_VOUCHED
