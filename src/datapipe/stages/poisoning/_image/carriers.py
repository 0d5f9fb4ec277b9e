# SPDX-License-Identifier: Apache-2.0
"""Doubted rows of a label that more likely hold its pattern than not: what nature has beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.detection import binomial_tail
from datapipe.stages.poisoning._image.content import Content
from datapipe.stages.poisoning._image.matched_filter import HALVES
from datapipe.stages.poisoning._image.parted import width, without_crowd
from datapipe.stages.poisoning._image.pixels import some
from datapipe.stages.poisoning._image.refined import Trigger
from datapipe.stages.poisoning._image.spread import FEWEST_GENUINE, Filters

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ROUNDS = 3
FEWEST = 5
"""Rows found, below which they do not tell what the others may be like."""
FEWEST_DOUBTED = 100
"""Doubted rows of other labels tell natural scores; where there are fewer, genuine ones as well."""
UNEVEN = 0.001
"""Chance below which suspects that show one class are more than its size accounts for."""
FAINTER = 4.0
"""Deviations of the rows found by which one may be fainter than they are in the middle."""
MOST_NATURAL = 1 / 3
"""Chance of not holding the pattern below which a row is found: twice likelier to than not."""
MOST_FALSE = 0.001
"""Share of the clean rows that may be expected among those found so."""


def carriers(trigger: Trigger, filters: Filters) -> Trigger:
    """Add the rows that neighbours doubt and that hold the pattern more likely than not.

    The chance that a row does not is the local false discovery rate (Efron et al., 2001): how many
    natural rows are expected about its score, by how many of those not yet found are there. Natural
    scores are those of doubted rows of other labels. Their counts tell how many suspects a label
    has by nature: where they have hardly any, one of this label holds the pattern, however faintly.
    Rows that neighbours are unsure of, suspects of a pattern on one pair, and those that show what
    many suspects of the label do, may all be natural: they must stand out by their scores. None is
    added that is far fainter than the rows found are among themselves.

    Args:
        trigger: A pattern and the rows found.
        filters: Of the columns in which it was found.

    Returns:
        The same pattern with these rows.
    """
    view, label = trigger.evidence.view, trigger.label
    if label < 0 or trigger.rows.size < FEWEST:
        return trigger
    doubted = view.left & ~view.genuine & (view.labels == label)
    doubted[trigger.rows] = False
    even = _even(view, label) & (trigger.evidence.test != HALVES)
    counted = [np.flatnonzero(doubted & (even == e)) for e in (True, False)]
    mine, rows = np.concatenate(counted), trigger.rows
    if not mine.size:
        return trigger
    usual = [_usual_suspects(view, label), float(counted[1].size)]
    for _ in range(ROUNDS):
        scores = _scores(view, filters, label, rows)
        nature, height = scores[_natural(view, label)], float(np.median(scores[rows]))
        faintest = height - FAINTER * max(float(scores[rows].std()), width(nature))
        chances = [
            _natural_chance(scores[part], nature, n, height)
            for part, n in zip(counted, usual, strict=True)
        ]
        chance = np.where(scores[mine] >= faintest, np.concatenate(chances), 1.0)
        few = _few_false(chance, int(view.left.sum()) - rows.size)
        found = np.union1d(trigger.rows, mine[few])
        if np.array_equal(found, rows):
            break
        rows = found
    return replace(trigger, rows=rows)


def _natural(view: Content, label: int) -> Ints:
    """Rows of other labels whose scores are natural: doubted ones and, if few, genuine ones."""
    other = view.left & (view.labels != label)
    doubted = np.flatnonzero(other & ~view.genuine)
    if doubted.size >= FEWEST_DOUBTED:
        return doubted
    return np.union1d(doubted, some(np.flatnonzero(other & view.genuine), FEWEST_DOUBTED))


def _even(view: Content, label: int) -> Bools:
    """Suspects that show no class oftener than its size accounts for, among those of a label.

    Natural ones mostly show the one or two classes that are like the label, or were taken for it by
    whoever labelled them.
    """
    suspects = np.bincount(view.shows[view.suspects(label)], minlength=view.classes)
    genuine = np.bincount(view.labels[view.genuine], minlength=view.classes) + 1.0
    genuine[label] = 0.0
    shares = genuine / genuine.sum()
    uneven = [
        binomial_tail(int(n), int(suspects.sum()), float(share)) <= UNEVEN
        for n, share in zip(suspects, shares, strict=True)
    ]
    return np.asarray(view.suspect & ~np.array(uneven)[view.shows], bool)


def _usual_suspects(view: Content, label: int) -> float:
    """How many suspects a label has by nature: as the other labels, the worst left out.

    Of these as the one with most, by its genuine rows or by those that neighbours are unsure of:
    some classes are mistaken more often than others, and are doubted more often, too.
    """
    others = np.arange(view.classes) != label
    counts = np.bincount(view.labels[view.suspect], minlength=view.classes)
    usual = []
    for rows in (view.genuine, view.left & ~view.genuine & ~view.suspect):
        beside = np.bincount(view.labels[rows], minlength=view.classes) + 2.0
        shares = np.sort((counts[others] + 1.0) / beside[others])
        usual.append(float(shares[max(shares.size - 2, 0)] * beside[label]))
    return max(usual)


def _scores(view: Content, filters: Filters, label: int, rows: Ints) -> Floats:
    """How far each row is above genuine rows of what it shows, and of its label: the lesser."""
    weights = filters.templates(label, view.average(rows)[None, :])
    along = view.pixels.project(weights)[:, 0].astype(np.float64)
    centre, wide = np.zeros(view.classes), np.full(view.classes, np.nan)
    for k in range(view.classes):
        own = along[view.genuine & (view.labels == k)]
        own = without_crowd(own) if k == label else own
        if own.size >= FEWEST_GENUINE:
            centre[k], wide[k] = np.median(own), width(own)
    usual = float(np.nanmedian(wide)) if np.isfinite(wide).any() else 1.0
    wide = np.maximum(np.where(np.isfinite(wide), wide, usual), usual) + 1e-12
    shown = (along - centre[view.shows]) / wide[view.shows]
    own_label = (along - centre[view.labels]) / wide[view.labels]
    return np.minimum(shown, own_label)


def _natural_chance(scores: Floats, nature: Floats, usual: float, height: float) -> Floats:
    """The local false discovery rate of each score, never more for a louder one.

    Densities are sums of normal kernels one natural deviation wide. Above `height`, where the rows
    found lie, it is what it is there.
    """
    if not scores.size:
        return scores
    wide = max(width(nature), 1e-12)
    at = np.minimum(scores, height)
    there = np.exp(-0.5 * ((at[:, None] - at) / wide) ** 2).sum(1)
    expected = usual * np.exp(-0.5 * ((at[:, None] - nature) / wide) ** 2).mean(1)
    order = np.argsort(-at, kind="stable")
    made = np.empty(scores.size)
    made[order] = np.maximum.accumulate((expected / there)[order])
    return np.minimum(made, 1.0)


def _few_false(chance: Floats, clean: int) -> Bools:
    """The surest rows: each likelier to hold the pattern, and few of all expected not to."""
    order = np.argsort(chance, kind="stable")
    few = np.cumsum(chance[order]) <= MOST_FALSE * clean
    found = np.zeros(chance.size, bool)
    found[order[few]] = True
    return found & (chance <= MOST_NATURAL)
