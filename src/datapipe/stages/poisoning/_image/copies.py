# SPDX-License-Identifier: Apache-2.0
"""How many of some rows are different images: copies moved or recoloured are wrong together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._image.content import Content
from datapipe.stages.poisoning._image.matched_filter import TWO_GROUPS, Evidence
from datapipe.stages.poisoning._image.pairs import OF_A_GROUP
from datapipe.stages.poisoning._image.pixels import Pixels, Thin, some
from datapipe.stages.poisoning._image.rightly import like_their_label

Ints = NDArray[np.int64]

MOST = 200
"""Rows, evenly spread, that tell how many are different."""
NEARER = 0.5
"""Rows whose squared distance is below this share of what the nearest of as many genuine rows that
show the same have by nature are copies."""
MOST_USUAL, NEXT = 600, 5
"""Genuine rows, evenly spread, that rows are held against, and how many neighbours are asked."""
KIN, STRAYS = 2.0, 0.05
"""Rows are of one kind where each other's share of their neighbours is this many times what chance
has it, and so much more: of four kinds of letters in labels of several it was three to six times,
of seven sets of planted rows at most 1.3 times."""


def counted_once(
    ranked: list[Evidence], pixels: Pixels, bar: float, *, embedded: bool = False
) -> list[Evidence]:
    """Evidence that would raise an alarm, with copies counted once: most telling first.

    The logarithm of a chance falls about as the number of rows does; how far groups part does not
    depend on it. A network that has learnt a pattern puts the rows with it beside their label: that
    `embedded` ones lie near it tells nothing.
    """
    made, rest = [], list(ranked)
    while rest:
        one = rest.pop(0)
        alarm = one.p_value <= bar and one.rows.size and one.test != TWO_GROUPS
        share = different(one.view, pixels, one.rows) if alarm else 1.0
        if alarm and not embedded and like_their_label(one.view, pixels, one.rows):
            share = 0.0
        made.append(replace(one, p_value=one.p_value**share))
        stands = alarm and one.test not in OF_A_GROUP and made[-1].p_value <= bar
        if stands and all(made[-1].p_value < other.p_value for other in rest):
            break  # none of the others can tell more
    return sorted([*made, *rest], key=lambda e: (e.p_value, -e.hits))


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
    near, apart = (_apart(part) for part in _blind(pixels.take(rows), pixels.take(natural)))
    bar = NEARER * float(np.median(apart.min(0)))
    return _groups(near < bar) / rows.size


def are_kin(content: Content, rows: Ints) -> bool:
    """Whether rows are a kind of their own: each other's neighbours, blind to what all share.

    Rows with a pattern are as near as any to genuine rows of what they show.
    """
    rows = some(rows, MOST)
    shown = np.isin(content.labels, content.shows[rows]) & content.genuine
    others = some(np.setdiff1d(np.flatnonzero(shown), rows), MOST_USUAL)
    if rows.size < 2 or others.size < NEXT:
        return False
    own, usual = _blind(content.pixels.take(rows), content.pixels.take(others))
    apart = _apart(np.concatenate([own, usual]))[: rows.size]
    share = (np.argpartition(apart, NEXT, axis=1)[:, :NEXT] < rows.size).mean()
    chance = rows.size / (rows.size + others.size)
    return bool(share > KIN * chance + STRAYS)


def _blind(own: Thin, usual: Thin) -> tuple[Thin, Thin]:
    """Rows, and usual ones, less the direction that parts both; light and contrast evened out."""
    shared = own.mean(0) - usual.mean(0)
    shared /= np.linalg.norm(shared) or 1.0
    one, other = (_even(part - np.outer(part @ shared, shared)) for part in (own, usual))
    return one, other


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
