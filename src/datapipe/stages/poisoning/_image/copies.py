# SPDX-License-Identifier: Apache-2.0
"""How many of some rows are different images: copies moved or recoloured are wrong together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._image.content import Content
from datapipe.stages.poisoning._image.matched_filter import Evidence
from datapipe.stages.poisoning._image.pixels import Pixels, Thin, some
from datapipe.stages.poisoning._image.two_groups import TWO_GROUPS

Ints = NDArray[np.int64]

MOST = 200
"""Rows, evenly spread, that tell how many are different."""
NEARER = 0.5
"""Rows whose squared distance is below this share of what the nearest of as many genuine rows that
show the same have by nature are copies."""


def counted_once(ranked: list[Evidence], pixels: Pixels, bar: float) -> list[Evidence]:
    """Evidence that would raise an alarm, with copies counted once: most telling first.

    The logarithm of a chance falls about as the number of rows does; how far groups part does not
    depend on it.
    """
    made = []
    for one in ranked:
        alarm = one.p_value <= bar and one.rows.size and one.test != TWO_GROUPS
        share = different(one.view, pixels, one.rows) if alarm else 1.0
        made.append(replace(one, p_value=one.p_value**share))
    return sorted(made, key=lambda e: (e.p_value, -e.hits))


def different(content: Content, pixels: Pixels, rows: Ints) -> float:
    """The share of some rows that are different images, in (0, 1].

    Light and contrast of a row do not count, nor what all rows share, which is their pattern.

    Args:
        content: What the images show.
        pixels: Shape (n, d).
        rows: Numbers of rows.
    """
    rows = some(rows, MOST)
    rng = np.random.default_rng(rows.size)
    order = np.argsort(content.labels, kind="stable")
    order = order[content.genuine[order]]
    start = np.searchsorted(content.labels[order], np.arange(content.classes + 1))
    first, end = start[content.shows[rows]], start[content.shows[rows] + 1]
    if rows.size < 2 or not (end > first).all():
        return 1.0
    natural = np.unique(order[rng.integers(first, end)])
    if natural.size < 2:
        return 1.0
    own, usual = pixels.take(rows), pixels.take(natural)
    shared = own.mean(0) - usual.mean(0)
    shared /= np.linalg.norm(shared) or 1.0
    blind = (part - np.outer(part @ shared, shared) for part in (own, usual))
    near, apart = (_apart(_even(part)) for part in blind)
    bar = NEARER * float(np.median(apart.min(0)))
    return _groups(near < bar) / rows.size


def _even(part: Thin) -> Thin:
    made = part - part.mean(1, keepdims=True)
    spread = made.std(1, keepdims=True)
    return np.asarray(made / np.where(spread > 0, spread, 1.0), np.float32)


def _apart(part: Thin) -> Thin:
    """Squared distances between rows; none of a row is its own neighbour."""
    squares = np.einsum("ij,ij->i", part, part)
    made = np.maximum(squares[:, None] + squares - 2.0 * part @ part.T, 0.0)
    np.fill_diagonal(made, np.inf)
    return np.asarray(made, np.float32)


def _groups(linked: NDArray[np.bool_]) -> int:
    """How many groups links make of rows."""
    number = np.arange(len(linked))
    while True:
        least = np.where(linked, number, len(linked)).min(1, initial=len(linked))
        made = np.minimum(number, least)
        if np.array_equal(made, number):
            return int(np.unique(number).size)
        number = made
