# SPDX-License-Identifier: Apache-2.0
"""Rows that hold a pattern to the letter where it hardly shows, for what it covers was bright."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from datapipe.stages.poisoning._image.pixels import Pixels, some
from datapipe.stages.poisoning._image.refined import Trigger
from datapipe.stages.poisoning._image.stamps import with_stamp

FEWEST = 8
"""Rows found, below which nothing is sure to be the same in all of them."""
ALIKE = 0.01
"""Difference from the usual value, in parts of the pixels' range, that counts as none."""
ALWAYS, SELDOM = 0.95, 0.5
"""A pixel belongs to a stamp when so many of the rows found agree on it and fewer of others do."""
LEAST_PIXELS = 2
MOST_OTHERS = 5000
"""Rows of other labels, evenly spread, that tell how often nature makes a stamp."""
CHANCE = 0.01
"""Rows expected to hold a stamp by nature, in parts of those found, above which it tells none."""


def stamped(trigger: Trigger, pixels: Pixels) -> Trigger:
    """Add the rows of the label, or where it is any, wrong ones, that have all values of a stamp.

    Where rows of other labels hold it too, as covers do, those of the label that do not show it.

    Args:
        trigger: A pattern and the rows found.
        pixels: The pixels of every row, of shape (n, pixels).

    Returns:
        The same pattern with these rows; as it was where the rows found share no exact values, or
        where nature makes the same.
    """
    view = trigger.evidence.view
    others = some(np.flatnonzero(view.genuine & (view.labels != trigger.label)), MOST_OTHERS)
    if trigger.rows.size < FEWEST or not others.size:
        return trigger
    own = pixels.take(some(trigger.rows, MOST_OTHERS))
    usual = np.median(own, axis=0)
    low, high = pixels.range()
    most = ALIKE * (high - low)
    shared = np.flatnonzero((np.abs(own - usual) <= most).mean(0) >= ALWAYS)
    alike = np.abs(pixels.cells(others, shared) - usual[shared]) <= most
    kept = alike.mean(0) < SELDOM
    if kept.sum() < LEAST_PIXELS:
        return trigger
    may = view.labels == trigger.label
    if trigger.label < 0:
        may = (view.labels != view.shows) & view.left
    mine, stamp = np.flatnonzero(may), shared[kept]
    if alike[:, kept].all(axis=1).mean() * mine.size > CHANCE * trigger.rows.size:
        rows = with_stamp(replace(trigger.evidence, rows=trigger.rows), pixels).rows
        return replace(trigger, rows=np.union1d(trigger.rows, rows[~view.genuine[rows]]))
    holds = (np.abs(pixels.cells(mine, stamp) - usual[stamp]) <= most).all(axis=1)
    return replace(trigger, rows=np.union1d(trigger.rows, mine[holds]))
