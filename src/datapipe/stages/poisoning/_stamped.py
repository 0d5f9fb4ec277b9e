# SPDX-License-Identifier: Apache-2.0
"""Rows that hold a pattern to the letter where it hardly shows, for what it covers was bright."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._refined import Trigger

FEWEST = 8
"""Rows found, below which nothing is sure to be the same in all of them."""
ALIKE = 0.01
"""Difference from the usual value, in parts of the pixels' range, that counts as none."""
ALWAYS, SELDOM = 0.95, 0.5
"""A pixel belongs to a stamp when so many of the rows found agree on it and fewer of others do."""
LEAST_PIXELS = 2
CHANCE = 0.01
"""Rows expected to hold a stamp by nature, in parts of those found, above which it tells none."""


def stamped(trigger: Trigger, pixels: NDArray[np.float32]) -> Trigger:
    """Add the rows of the label in which every pixel of a stamp has its value.

    Args:
        trigger: A pattern and the rows found.
        pixels: The pixels of every row, of shape (n, pixels).

    Returns:
        The same pattern with these rows; as it was where the rows found share no exact values, or
        where other labels' rows show that nature makes the same.
    """
    own, view = pixels[trigger.rows], trigger.evidence.view
    others = view.genuine & (view.labels != trigger.label)
    if own.shape[0] < FEWEST or trigger.label < 0 or not others.any():
        return trigger
    usual = np.median(own, axis=0)
    most = ALIKE * float(pixels.max() - pixels.min())
    alike = np.abs(pixels - usual) <= most
    stamp = (alike[trigger.rows].mean(0) >= ALWAYS) & (alike[others].mean(0) < SELDOM)
    if stamp.sum() < LEAST_PIXELS:
        return trigger
    holds = alike[:, stamp].all(axis=1)
    mine = view.labels == trigger.label
    if holds[others].mean() * mine.sum() > CHANCE * trigger.rows.size:
        return trigger
    return replace(trigger, rows=np.union1d(trigger.rows, np.flatnonzero(holds & mine)))
