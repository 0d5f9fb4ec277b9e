# SPDX-License-Identifier: Apache-2.0
"""How few rows with one pattern would raise the alarm: patterns planted in the data themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._image.content import Content
from datapipe.stages.poisoning._image.levels import DEAF, LEAST_HITS, tail
from datapipe.stages.poisoning._image.matched_filter import across_sources, apart
from datapipe.stages.poisoning._image.pixels import Pixels, some
from datapipe.stages.poisoning._image.places import SIDES as WINDOWS
from datapipe.stages.poisoning._image.places import Places
from datapipe.stages.poisoning._image.spread import Filters
from datapipe.stages.poisoning._image.stamps import Stamps, evidence_across

Thin = NDArray[np.float32]
Ints = NDArray[np.int64]

PATTERNS, FOUND, LABELS = 6, 5, 3
"""How many patches are planted, how many of them must raise the alarm, and how many labels they
carry at most: so few tell the power roughly."""
SIDES = (2, 4)
STEP = 1.4
"""How much more rows are tried next."""
CHANGED, SEEN, REDRAWN = 0.5, 1000, 20
"""A patch must change so many of the rows, of some evenly spread, or it is drawn again: black on
black is none. So often at most, for images may be nearly empty."""
SHIFT, PAIRS = 4.0, 500
"""How far a pattern moves an embedding, in standard deviations of rows that show the same along its
own direction: of steps of two hardly any are heard, of three half. So many pairs of rows tell these
directions."""
MOST = 0.2
"""Larger shares of the rows are not tried."""


@dataclass(frozen=True, eq=False)
class Ground:
    """Clean data to plant in: what they show, their pixels and how pixels become columns."""

    content: Content
    filters: Filters
    stamps: Stamps
    places: list[Places]
    shape: tuple[int, int, int]
    pictures: bool
    embedded: bool
    columns: Callable[[Thin], Thin]

    @property
    def pixels(self) -> Pixels:
        return self.stamps.pixels


def fewest_found(ground: Ground, times: int, alpha: float, rng: np.random.Generator) -> int:
    """The fewest rows that nearly any patch must be on to raise an alarm in these data.

    A patch of random side, place, values and label is put on genuine rows of other labels, which
    then are suspects as far as neighbours are sure of rows at all; to embeddings a step in a random
    direction is added. How many rows the tests need is found by doubling and halving; a pattern
    that fewer rows were enough for is not asked again.

    Args:
        ground: The data, in which nothing was found.
        times: By how many tests and labels a p-value is multiplied.
        alpha: The largest p-value that is an alarm.
        rng: Draws patches and rows.

    Returns:
        The fewest rows; all of them where no share tried is enough.
    """
    n = ground.content.labels.size
    asked = [LEAST_HITS]
    while asked[-1] * STEP < MOST * n:
        asked.append(int(np.ceil(asked[-1] * STEP)))
    kinds = np.unique(ground.content.labels[ground.content.genuine])
    labels = rng.permutation(kinds)[:LABELS] if kinds.size else np.zeros(1, np.int64)
    told = [_Planting.drawn(ground, int(labels[i % labels.size]), rng) for i in range(PATTERNS)]
    told.sort(key=lambda one: one.label)  # a whitening takes time: one after the other
    fails, raises = [-1] * PATTERNS, [len(asked)] * PATTERNS

    def enough(step: int) -> bool:
        for i, one in enumerate(told):
            if not fails[i] < step < raises[i]:
                continue  # fewer rows were enough, or more were not
            if sum(f >= step for f in fails) > PATTERNS - FOUND:
                break
            heard = _p_value(one, ground, asked[step], alpha / times) * times <= alpha
            fails[i], raises[i] = (fails[i], step) if heard else (step, raises[i])
        return sum(f >= step for f in fails) <= PATTERNS - FOUND

    low, high, further = 0, 0, 1
    while high < len(asked) and not enough(high):
        low, high, further = high + 1, high + further, 2 * further
    high = min(high, len(asked))
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return asked[low] if low < len(asked) else n


def planted_in(ground: Ground) -> str:
    """In words, the patterns of which `fewest_found` counts rows; others may need more of them."""
    low, high = SIDES
    if ground.embedded:
        return f"one step of {SHIFT:g} standard deviations in all columns"
    if ground.pictures:
        return f"one patch of {low} to {high} pixels a side, at the same place in each image"
    return f"the same {low * low} to {high * high} columns at their extremes"


@dataclass(frozen=True, eq=False)
class _Planting:
    """A pattern, the label it carries and the rows it is put on, first ones first."""

    label: int
    place: Ints
    values: Thin
    rows: Ints
    sure: NDArray[np.bool_]

    @classmethod
    def drawn(cls, ground: Ground, label: int, rng: np.random.Generator) -> _Planting:
        content = ground.content
        rows = rng.permutation(np.flatnonzero(content.genuine & (content.labels != label)))
        share = float((content.genuine | content.suspect)[content.left].mean())
        sure = rng.random(rows.size) < share
        if ground.embedded:
            every = np.arange(ground.pixels.shape[1])
            return cls(label, every, _step(ground, rng), rows, sure)
        for _ in range(REDRAWN):
            place = _place(ground, rng)
            there = ground.pixels.cells(some(rows, SEEN), place)
            low, high = there.min(0), there.max(0)
            if ground.pictures:
                low, high = (np.full(place.size, end, np.float32) for end in ground.pixels.range())
            bright = rng.random(place.size) < (1.0 if rng.random() < 0.5 else 0.5)
            values = np.where(bright, high, low)
            if (there != values).any(1).mean() >= CHANGED:
                break
        return cls(label, place, values, rows, sure)

    def on(self, ground: Ground, count: int) -> Stamps:
        """The data with the pattern on so many rows: copies of them in their stead."""
        content, rows = ground.content, self.rows[:count]
        held = ground.pixels.take(rows)
        held[:, self.place] = self.values + (held if ground.embedded else 0.0)
        gone = np.zeros(content.labels.size, bool)
        gone[rows] = True
        left = content.without(gone)
        false, true = np.zeros(count, bool), np.ones(count, bool)
        planted = replace(
            left,
            pixels=content.pixels.with_more(ground.columns(held)),
            labels=np.append(left.labels, np.full(count, self.label)),
            shows=np.append(left.shows, left.shows[rows]),
            genuine=np.append(left.genuine, false),
            suspect=np.append(left.suspect, self.sure[:count]),
            doubt=np.append(left.doubt, true.astype(np.float64)),
            left=np.append(left.left, true),
        )
        return ground.stamps.after(planted, ground.pixels.with_more(held))


def _step(ground: Ground, rng: np.random.Generator) -> Thin:
    """A random step of `SHIFT` in embeddings, as rows that show the same differ from each other."""
    content = ground.content
    rows = rng.permutation(np.flatnonzero(content.genuine))
    rows = rows[np.argsort(content.shows[rows], kind="stable")]
    alike = np.flatnonzero(content.shows[rows[1:]] == content.shows[rows[:-1]])
    pairs = rng.permutation(alike)[:PAIRS]
    apart = ground.pixels.take(rows[pairs + 1]) - ground.pixels.take(rows[pairs])
    weights = rng.normal(size=pairs.size) / np.sqrt(2.0 * max(pairs.size, 1))
    free = max(int((apart.std(0) > 0).sum()), 1) if pairs.size else 1
    return np.asarray(SHIFT / np.sqrt(free) * (weights @ apart), np.float32)


def _place(ground: Ground, rng: np.random.Generator) -> Ints:
    """Where a pattern lies: a square in a picture, any columns otherwise."""
    height, width, channels = ground.shape
    side = int(rng.integers(SIDES[0], SIDES[1] + 1))
    if not ground.pictures:
        return rng.permutation(ground.pixels.shape[1])[: side * side]
    top, left = (int(rng.integers(0, size - side + 1)) for size in (height, width))
    cells = np.arange(height * width * channels).reshape(height, width, channels)
    return cells[top : top + side, left : left + side].ravel()


def _p_value(one: _Planting, ground: Ground, count: int, enough: float) -> float:
    stamps = one.on(ground, count)
    tried = across_sources(stamps.content, ground.filters, one.label)
    others = int(stamps.content.suspect.sum()) - tried.rows.size
    rate = 1.0 / (others + 2) if others else DEAF
    p_values = [
        tail(tried.above(level), tried.rows.size, max(floor, rate), strength)
        for level, floor, strength in ground.filters.levels
    ]
    p_values.append(apart(tried, stamps.content))
    least = min(p_values) * len(p_values)
    if least <= enough:
        return least
    if not ground.embedded:
        least = min(least, evidence_across(stamps, one.label).p_value)
    if least <= enough:
        return least
    for places in ground.places:
        placed = Places(stamps.pixels, places.shape, places.side, places)
        least = min(least, len(WINDOWS) * placed.evidence(stamps.content, one.label).p_value)
    return least
