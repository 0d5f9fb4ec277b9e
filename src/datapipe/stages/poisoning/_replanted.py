# SPDX-License-Identifier: Apache-2.0
"""How few rows with one pattern would raise the alarm: patches planted in the data themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._content import Content
from datapipe.stages.poisoning._matched_filter import (
    LEAST_HITS,
    LEVELS,
    Filters,
    across_sources,
    apart,
    tail,
)
from datapipe.stages.poisoning._stamps import Stamps, evidence_across

Pixels = NDArray[np.float32]
Ints = NDArray[np.int64]

PATTERNS, FOUND = 6, 5
"""How many patches are planted, and how many of them must raise the alarm: so
few tell the power roughly."""
SIDES = (2, 4)
STEP = 1.4
"""How much more rows are tried next."""
MOST = 0.2
"""Larger shares of the rows are not tried."""


@dataclass(frozen=True, eq=False)
class Ground:
    """Clean data to plant in: what they show, their pixels and how pixels become columns."""

    content: Content
    filters: Filters
    stamps: Stamps
    shape: tuple[int, int, int]
    pictures: bool
    columns: Callable[[Pixels], Pixels]

    @property
    def pixels(self) -> Pixels:
        return self.stamps.pixels


def fewest_found(ground: Ground, times: int, alpha: float, rng: np.random.Generator) -> int:
    """The fewest rows that nearly any patch must be on to raise an alarm in these data.

    A patch of random side, place, values and label is put on genuine rows of other labels, which
    then are suspects as far as neighbours are sure of rows at all. How many of them the tests need
    is found by halving, and a patch that fewer rows were enough for is not asked again.

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
    told = [_Planting.drawn(ground, rng) for _ in range(PATTERNS)]
    fails, raises = [-1] * PATTERNS, [len(asked)] * PATTERNS
    low, high = 0, len(asked)
    while low < high:
        middle = (low + high) // 2
        for i, one in enumerate(told):
            if not fails[i] < middle < raises[i]:
                continue  # fewer rows were enough, or more were not
            if sum(f >= middle for f in fails) > PATTERNS - FOUND:
                break
            enough = _p_value(one, ground, asked[middle], alpha / times) * times <= alpha
            fails[i], raises[i] = (fails[i], middle) if enough else (middle, raises[i])
        if sum(f >= middle for f in fails) > PATTERNS - FOUND:
            low = middle + 1
        else:
            high = middle
    return asked[low] if low < len(asked) else n


@dataclass(frozen=True, eq=False)
class _Planting:
    """A pattern, the label it carries and the rows it is put on, first ones first."""

    label: int
    place: Ints
    values: Pixels
    rows: Ints
    sure: NDArray[np.bool_]

    @classmethod
    def drawn(cls, ground: Ground, rng: np.random.Generator) -> _Planting:
        content = ground.content
        kinds = np.unique(content.labels[content.genuine])
        label = int(rng.choice(kinds)) if kinds.size else 0
        place = _place(ground, rng)
        low, high = ground.pixels[:, place].min(0), ground.pixels[:, place].max(0)
        if ground.pictures:
            low[:], high[:] = ground.pixels.min(), ground.pixels.max()
        bright = rng.random(place.size) < (1.0 if rng.random() < 0.5 else 0.5)
        rows = rng.permutation(np.flatnonzero(content.genuine & (content.labels != label)))
        share = float((content.genuine | content.suspect)[content.left].mean())
        return cls(label, place, np.where(bright, high, low), rows, rng.random(rows.size) < share)

    @contextmanager
    def on(self, ground: Ground, count: int) -> Iterator[Stamps]:
        """The data with the pattern on so many rows, which get their own pixels back."""
        rows, sure = self.rows[:count], self.sure[:count]
        content, pixels = ground.content, ground.pixels
        labels, genuine = content.labels.copy(), content.genuine.copy()
        suspect = content.suspect.copy()
        labels[rows], genuine[rows], suspect[rows] = self.label, False, sure
        planted = replace(content, labels=labels, genuine=genuine, suspect=suspect)
        held = pixels[rows]
        try:
            pixels[rows[:, None], self.place] = self.values
            content.pixels[rows] = ground.columns(pixels[rows])
            yield ground.stamps.after(planted, rows)
        finally:
            pixels[rows] = held
            content.pixels[rows] = ground.columns(held)
            ground.stamps.after(content, rows)


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
    with one.on(ground, count) as stamps:
        tried = across_sources(stamps.content, ground.filters, one.label)
        others = int(stamps.content.suspect.sum()) - tried.rows.size
        p_values = [
            tail(tried.above(level), tried.rows.size, max(floor, 1.0 / (others + 2)), strength)
            for level, floor, strength in LEVELS
        ]
        p_values.append(apart(tried, stamps.content))
        least = min(p_values) * len(p_values)
        if least <= enough:
            return least
        return min(least, evidence_across(stamps, one.label).p_value)
