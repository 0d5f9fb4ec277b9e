# SPDX-License-Identifier: Apache-2.0
"""A label whose rows fall into two groups that the rows of other labels do not fall into."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.detection import binomial_tail
from datapipe.stages.poisoning._image.content import Content, without_direction
from datapipe.stages.poisoning._image.copies import are_kin
from datapipe.stages.poisoning._image.levels import tail
from datapipe.stages.poisoning._image.matched_filter import (
    FEWEST_KINDS,
    HALVES,
    PARTED,
    SPREAD_OUT,
    TWO_GROUPS,
    Evidence,
    across_sources,
    judged,
    several_kinds,
)
from datapipe.stages.poisoning._image.pairs import ASIDE, GROUPED, OF_A_GROUP
from datapipe.stages.poisoning._image.parted import ALONE, FEWEST_LABELS, TWO, chances
from datapipe.stages.poisoning._image.refined import Trigger
from datapipe.stages.poisoning._image.spread import Filters
from datapipe.stages.poisoning._image.stamps import STAMPS
from datapipe.stages.poisoning._image.windows import ONE_LABEL, PURE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ONE_TEXTURE = "texture of one label"
MOSTLY_VOUCHED = 0.5
"""Share of rows that neighbours vouch for, beyond which they may be a kind of their label."""
SURE, SURE_FAINT = 1e-6, 1e-8
"""P-values, corrected, from which on rows of one pair, and faint ones of embeddings, are no odd
kind of their label: of 300 clean sets (embeddings, colours) the oddest kinds had 7e-5 and 6e-6."""
MOST_OTHERS, NATURAL_SIDE, SIDES_WORTH = 0.75, 0.05, 40.0
"""By nature one side of a label shows something else as often as three quarters of the other labels
do at most, and so often at least; and so many rows that share is worth. Of 1,008 labels of 104 sets
of embeddings, none of them with a pattern, the likeliest had a chance of .006.
"""
LEAST_PART = 0.1
"""Share of a label's rows that a texture of its own must be on: a few odd ones part far by nature.
"""


def group_test(content: Content, filters: Filters) -> list[Evidence]:
    """For each label: do its rows part further than those of other labels do?

    This sees a pattern on images that keep their true label. How far the two groups part along the
    direction in which a label spreads most is held against the other labels by the prediction
    interval of its logarithm. A class may have two kinds by nature, too.
    """
    axes = [filters.widest(k) for k in range(content.classes)]
    p_values = chances([a.parted for a in axes])
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
        for k in range(content.classes):  # how far each lies from the usual ones of its label
            own_label = content.labels == k
            along[own_label] -= np.median(along[rest if k == label else own_label])
        held = (along > 0.5 * np.median(along[axis.group])) & content.left
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


def aside_test(content: Content, filters: Filters) -> list[Evidence]:
    """For each label: do rows on one side of it show all kinds of things, where the others do not?

    A network that has learnt a pattern puts the rows that hold it beside their label, close enough
    for neighbours to vouch for them, and not always in a group that parts. All other rows tell both
    sides once more, blind to what parts them: rows with a pattern show what they showed before.
    Held against the other side, and against such sides of the other labels; odd rows of a class
    show one or two other classes.
    """
    told = [_sides(content, filters, label) for label in range(content.classes)]
    sides = [(int(mine.size), size) for _, mine, size, _ in told]
    made = []
    for label, (view, mine, size, beside) in enumerate(told):
        others = [side for k, side in enumerate(sides) if k != label and side[1]]
        p_value = 1.0
        if len(others) >= FEWEST_LABELS - 1 and several_kinds(view, mine):
            usual = float(np.quantile([(hits + 1) / (n + 2) for hits, n in others], MOST_OTHERS))
            rate = max(beside, usual, NATURAL_SIDE)
            p_value = tail(mine.size, size, rate, SIDES_WORTH)
        made.append(Evidence(label, mine.size, size, p_value, mine, ASIDE, view))
    return made


def _sides(content: Content, filters: Filters, label: int) -> tuple[Content, Ints, int, float]:
    """What parts a label left out: who clearly shows something else of so many rows of a side.

    And the share of the rows of its larger side that do.
    """
    group = filters.widest(label).group
    rest = np.setdiff1d(np.flatnonzero((content.labels == label) & content.left), group)
    if not group.size or not rest.size:
        return content, group[:0], 0, 1.0
    apart = _mean(content, group) - _mean(content, rest)
    apart /= np.linalg.norm(apart) or 1.0
    view = without_direction(content, label, apart, group)
    beside = float(view.suspect[rest].sum() + 1.0) / (rest.size + 2.0)
    return view, group[view.suspect[group]], group.size, beside


def _mean(content: Content, rows: Ints) -> Floats:
    return np.asarray(content.pixels.take(rows).mean(0, dtype=np.float64))


def may_be_natural(trigger: Trigger) -> bool:
    """Whether rows may be a kind of their label: of two groups, or alike and mostly vouched for.

    Where a border, say, sets most images of a class apart, the others resemble another class. Only
    a pattern of pixels on several kinds is none of one label, however many rows hold it. Odd rows
    of a class share a faint step of embeddings by nature, or are like one other class; these
    are like each other, too, where rows with a pattern are like any of what they show.
    """
    if trigger.evidence.test in (TWO_GROUPS, *OF_A_GROUP):
        return True
    view, p_value = trigger.evidence.view.view, trigger.evidence.p_value
    if trigger.evidence.faint and not view and p_value > SURE_FAINT:
        return True
    if trigger.evidence.test == HALVES and p_value > SURE:
        return True
    of_a_pair = trigger.evidence.test in (HALVES, STAMPS[1])
    if of_a_pair and are_kin(trigger.evidence.view, trigger.evidence.rows):
        return True
    alike = view or trigger.evidence.test in (ONE_LABEL, HALVES)
    return alike and trigger.vouched > MOSTLY_VOUCHED
