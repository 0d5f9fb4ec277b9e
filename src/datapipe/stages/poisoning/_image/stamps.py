# SPDX-License-Identifier: Apache-2.0
"""Exact values that the wrongly labelled rows of several kinds share: a patch, whatever it covers.

A matched filter asks what a pattern adds. A patch on a bright stroke adds little, yet its pixels
have its values to the letter: few genuine rows have them all.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._image.content import Content
from datapipe.stages.poisoning._image.levels import LEAST_HITS, LOUD, tail
from datapipe.stages.poisoning._image.matched_filter import (
    FEWEST_KINDS,
    LEAST_TEMPLATE,
    SPREAD_OUT,
    Evidence,
)
from datapipe.stages.poisoning._image.pixels import Pixels, some
from datapipe.stages.poisoning._image.refined import Trigger
from datapipe.stages.poisoning._image.spread import FEWEST_GENUINE, Tried

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Thin = NDArray[np.float32]

STAMPS = ("stamp, cross-source", "stamp, split-half", "stamp, label-blind")
BINS = 16
"""Steps of brightness by which the first pixel of a stamp is looked for."""
SEEDS, CELLS = 3, 100
"""How many first pixels and steps are tried, and how many may join."""
ALIKE = 0.01
"""Difference from the usual value, in parts of the pixels' range, that counts as none where the
rows do not have the very same value."""
SHARED = 0.9
"""Share of the rows that hold the stamp so far that must have a pixel's value for it to join."""
MOST_PIXELS = 12
MOST_BESIDE = 4000
"""Genuine rows among which the next pixel of a stamp is chosen; how many hold it is asked of all.
"""
LEAST_GAIN = 1.0
"""Log likelihood that a pixel must add to join."""
FEW_ALIKE, ONE_KIND = (0.07, 25.0), (0.1, 10.0)
"""The share of suspects that are alike by nature, and how many suspects that is worth: those of
several contents, and those of one pair, for some classes have a kind that looks like another class.
"""
GROUPS = 10
"""Parts into which the classes that suspects show are put; the stamp of all parts but one is tried
on that one."""
STRAYS = 0.05
"""Rows whose neighbours vouch for their label, in parts of all that hold a stamp, that go with it.
"""
MOST_SHARED = 1000
"""Genuine rows of a class, evenly spread, that tell how often a pixel is how bright."""


@dataclass(frozen=True, eq=False)
class Stamp:
    """Pixels and the range of values that each must have."""

    pixels: Ints
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def held(self, pixels: Pixels, rows: Ints) -> Bools:
        """Which of some rows have every value."""
        part = pixels.cells(rows, self.pixels)
        return np.asarray(((part >= self.low) & (part <= self.high)).all(axis=1), bool)


class Stamps:
    """Looks for stamps in the suspects of one label, against genuine rows of what these show."""

    def __init__(self, content: Content, pixels: Pixels) -> None:
        self.content, self.pixels = content, pixels
        self._low, high = pixels.range()
        self._range = (high - self._low) or 1.0
        self._cells = np.arange(pixels.shape[1]) * BINS
        self.genuine = _genuine(content)
        self._shares = np.array([self._share(some(rows, MOST_SHARED)) for rows in self.genuine])

    def after(self, content: Content, pixels: Pixels) -> Stamps:
        """The same where few rows of all are others; natural shares stay."""
        made = copy(self)
        made.content, made.pixels, made.genuine = content, pixels, _genuine(content)
        return made

    def _steps(self, part: Thin) -> NDArray[np.uint8]:
        made = (part - self._low) * (BINS / self._range)
        return np.asarray(np.clip(made, 0, BINS - 1), np.uint8)

    def _counts(self, rows: Ints) -> Ints:
        made = np.zeros(self._cells.size * BINS, np.int64)
        for _, block in self.pixels.blocks(rows):
            cells = self._steps(block) + self._cells
            made += np.bincount(cells.ravel(), minlength=made.size)
        return made

    def _share(self, rows: Ints) -> Floats:
        return np.asarray((self._counts(rows) + 0.5) / (rows.size + 1.0), np.float64)

    def rate(self, stamp: Stamp, k: int) -> float:
        """The share of genuine rows of a class that hold a stamp by nature; NaN where few tell."""
        own = self.genuine[k]
        if own.size < FEWEST_GENUINE:
            return float("nan")
        return float((stamp.held(self.pixels, own).sum() + 0.5) / (own.size + 1.0))

    def oddness(self, stamp: Stamp, classes: list[int]) -> float:
        """How many deviations above genuine rows a row that holds a stamp is: the least of some."""
        rates = np.array([self.rate(stamp, k) for k in classes])
        return float(np.fmin.reduce(np.sqrt((1.0 - rates) / rates)))

    def learnt(self, rows: Ints, label: int) -> Stamp | None:
        """The stamp that most tells some rows from genuine ones of what they show, if any.

        Genuine rows of the label count as well, unless it is -1.
        """
        mix = np.bincount(self.content.shows[rows], minlength=self.content.classes) / rows.size
        natural = mix @ self._shares
        if label >= 0 and self.genuine[label].size:
            natural = np.maximum(natural, self._shares[label])
        gains = _gain(self._counts(rows), rows.size, natural)
        best, most = None, 0.0
        beside = self._beside(mix, label)
        first = np.argsort(-gains, kind="stable")[:CELLS]
        first = first[gains[first] > LEAST_GAIN]
        among = np.unique(first // BINS)
        for cell in first[:SEEDS]:
            made, gain = self._grown(rows, int(cell), among, *beside)
            if gain > most:
                best, most = made, gain
        return best

    def _beside(self, mix: Floats, label: int) -> tuple[Ints, Floats]:
        """Genuine rows to hold a stamp against, and what each counts: of the mix, of the label."""
        rows, weights = [], []
        shown = np.flatnonzero(mix)
        most = MOST_BESIDE // (shown.size + 1)
        for k in shown:
            own = some(self.genuine[k], most)
            rows.append(own)
            weights.append(np.tile([[mix[k] / max(own.size, 1)], [0.0]], own.size))
        if label >= 0:
            own = some(self.genuine[label], most)
            rows.append(own)
            weights.append(np.tile([[0.0], [1.0 / max(own.size, 1)]], own.size))
        return np.concatenate(rows), np.concatenate(weights, axis=1)

    def _grown(
        self, rows: Ints, cell: int, among: Ints, beside: Ints, weights: Floats
    ) -> tuple[Stamp, float]:
        """A stamp that starts at one pixel and takes on others as long as they tell more."""
        pixel, step = divmod(cell, BINS)
        total, faintest = rows.size, 0.5 / (beside.size + 1.0)
        there = self._steps(self.pixels.cells(rows, np.array([pixel])))[:, 0] == step
        mine = rows[there]
        seed = self.pixels.cells(mine, np.array([pixel]))
        ranges = {pixel: (float(seed.min()), float(seed.max()))}
        kept = _within(self.pixels.cells(beside, np.array([pixel]))[:, 0], *ranges[pixel])
        beside, weights = beside[kept], weights[:, kept]
        own, near = (self.pixels.cells(r, among) for r in (mine, beside))
        gain = 0.0
        for _ in range(MOST_PIXELS):
            column, low, high = self._shared_by(own)
            if not column.size:
                break
            have = _within(own[:, column], low, high)
            natural = weights @ _within(near[:, column], low, high)
            gains = _gain(have.sum(0), total, np.maximum(natural.max(0), faintest))
            best = int(np.argmax(gains))
            if gains[best] < gain + LEAST_GAIN:
                break
            gain = float(gains[best])
            ranges[int(among[column[best]])] = (float(low[best]), float(high[best]))
            own = own[have[:, best]]
            kept = _within(near[:, column[best]], low[best], high[best])
            near, weights = near[kept], weights[:, kept]
        bounds = np.array(list(ranges.values()), np.float32).reshape(-1, 2)
        made = Stamp(np.array(list(ranges), np.int64), bounds[:, 0], bounds[:, 1])
        return made, gain

    def _shared_by(self, own: Thin) -> tuple[Ints, Thin, Thin]:
        """Columns on which some rows agree, and between what values."""
        usual = np.partition(own, len(own) // 2, axis=0)[len(own) // 2]
        same = (own == usual).mean(0) >= SHARED
        width = np.where(same, 0.0, ALIKE * self._range).astype(np.float32)
        low, high = usual - width, usual + width
        kept = np.flatnonzero(_within(own, low, high).mean(0) >= SHARED)
        return kept, low[kept], high[kept]


def _genuine(content: Content) -> list[Ints]:
    own = content.genuine
    return [np.flatnonzero(own & (content.labels == k)) for k in range(content.classes)]


def _within(rows: Thin, low: Thin | float, high: Thin | float) -> Bools:
    return np.asarray((rows >= low) & (rows <= high), bool)


def _gain(hits: Ints, n: int, natural: Floats) -> Floats:
    """How much likelier hits are at their own rate than at the natural one, in log likelihood."""
    share = np.clip(hits / n, 1e-12, 1.0 - 1e-12)
    rate = np.clip(natural, 1e-12, 1.0 - 1e-12)
    made = hits * np.log(share / rate) + (n - hits) * np.log((1.0 - share) / (1.0 - rate))
    return np.where((share > rate) & (hits >= LEAST_TEMPLATE), made, 0.0)


def stamp_tests(content: Content, pixels: Pixels, rng: np.random.Generator) -> list[list[Evidence]]:
    """Is the stamp of some suspects of a label held by others of them, and by few genuine rows?

    As the matched filters: learnt on suspects of other contents, on the other half of a pair, and
    on those of all other labels.
    """
    stamps = Stamps(content, pixels)
    across = [evidence_across(stamps, label) for label in range(content.classes)]
    return [across, _halves(stamps, rng), _blind(stamps)]


def with_stamp(evidence: Evidence, pixels: Pixels) -> Trigger:
    """All rows that hold the stamp of the suspects found, and may: those of the label.

    Where the stamp is part of a larger pattern, the filter finds the rows that hold only the rest.
    """
    content, label = evidence.view, evidence.label
    stamps = Stamps(content, pixels)
    shown = np.unique(content.shows[evidence.rows])
    suspects = content.suspect & np.isin(content.shows, shown)
    if label >= 0:
        suspects &= content.labels == label
    tried = [stamps.learnt(r, label) for r in (evidence.rows, np.flatnonzero(suspects)) if r.size]
    made = [s for s in tried if s is not None and stamps.oddness(s, list(shown)) > LOUD]
    made = [s for s in made if s.held(pixels, evidence.rows).mean() > 0.5]  # not a natural one
    if not made:
        return Trigger(label, evidence, evidence.rows, np.zeros(content.labels.size))
    every = np.arange(content.labels.size)
    stamp = max(made, key=lambda s: int(s.held(pixels, np.flatnonzero(suspects)).sum()))
    may = content.labels == label if label >= 0 else content.labels != content.shows
    held = stamp.held(pixels, every) & may & content.left
    natural = held & content.genuine
    if natural.sum() > STRAYS * held.sum():  # as many as nature explains: neighbours vouch for them
        held &= ~natural
    rows = np.flatnonzero(held)
    scores = np.zeros(content.labels.size)
    scores[rows] = stamps.oddness(stamp, list(shown))
    return Trigger(label, evidence, rows, scores)


def _tried(stamps: Stamps, learn: Ints, ask: Ints, label: int) -> tuple[Ints, Floats]:
    """Rows asked, and how oddly each holds the stamp of some others, that show other classes."""
    stamp = stamps.learnt(learn, label)
    scores = np.zeros(ask.size)
    if stamp is None:
        return ask, scores
    shows = np.where(stamp.held(stamps.pixels, ask), stamps.content.shows[ask], -1)
    for shown in np.unique(shows[shows >= 0]):
        scores[shows == shown] = stamps.oddness(stamp, [int(shown), label])
    return ask, scores


def evidence_across(stamps: Stamps, label: int) -> Evidence:
    """Is the stamp of the suspects of a label that show some classes on those that show another?"""
    content = stamps.content
    suspects = content.suspects(label)
    parts: list[tuple[Ints, Floats]] = [(suspects, np.zeros(suspects.size))]
    if suspects.size >= LEAST_HITS:
        shows = content.shows[suspects]
        first = stamps.learnt(suspects, label)
        held = first.held(stamps.pixels, suspects) if first is not None else shows < 0
        if held.sum() >= LEAST_HITS and np.unique(shows[held]).size > 1:
            group = _grouped(shows)
            parts = [
                _tried(stamps, suspects[group != g], suspects[group == g], label)
                for g in np.unique(group)
                if (group != g).sum() >= LEAST_TEMPLATE
            ]
    made = _evidence(label, Tried.of(parts), content, STAMPS[0], FEW_ALIKE)
    kinds = np.unique(content.shows[made.rows]).size
    return made if kinds >= min(FEWEST_KINDS, content.classes - 1) else replace(made, p_value=1.0)


def _grouped(shows: Ints) -> Ints:
    """A few groups of about as many rows, each with all the rows that show some classes."""
    kinds, of, counts = np.unique(shows, return_inverse=True, return_counts=True)
    group, filled = np.empty(kinds.size, np.int64), np.zeros(GROUPS, np.int64)
    for kind in np.argsort(-counts, kind="stable"):
        group[kind] = filled.argmin()
        filled[group[kind]] += counts[kind]
    return group[of]


def _evidence(
    label: int, tried: Tried, content: Content, test: str, natural: tuple[float, float]
) -> Evidence:
    rows = tried.rows[tried.scores > LOUD]
    p_value = tail(rows.size, tried.rows.size, *natural)
    return Evidence(label, rows.size, tried.rows.size, p_value, rows, test, content)


def _halves(stamps: Stamps, rng: np.random.Generator) -> list[Evidence]:
    content = stamps.content
    labels: list[int] = []
    tried: list[Tried] = []
    for label in range(content.classes):
        for _, mine in content.confusions(label):
            if mine.size < 2 * LEAST_HITS:
                continue
            rows = rng.permutation(mine)
            one, other = rows[: rows.size // 2], rows[rows.size // 2 :]
            labels.append(label)
            parts = [_tried(stamps, one, other, label), _tried(stamps, other, one, label)]
            tried.append(Tried.of(parts))
    return [
        _evidence(label, one, content, STAMPS[1], ONE_KIND)
        for label, one in zip(labels, tried, strict=True)
    ]


def _blind(stamps: Stamps) -> list[Evidence]:
    content = stamps.content
    suspects = np.flatnonzero(content.suspect)
    own = content.labels[suspects]
    parts = []
    for label in np.unique(own):
        learn, ask = suspects[own != label], suspects[own == label]
        stamp = stamps.learnt(learn, -1) if learn.size >= LEAST_TEMPLATE else None
        scores = np.zeros(ask.size)
        if stamp is not None:
            for row in np.flatnonzero(stamp.held(stamps.pixels, ask)):
                shown = int(content.shows[ask[row]])
                scores[row] = stamps.oddness(stamp, [shown, int(label)])
        parts.append((ask, scores))
    tried = Tried.of(parts)
    found = tried.rows[tried.scores > LOUD]
    if found.size < LEAST_HITS:
        return []
    if np.bincount(content.labels[found]).max() > SPREAD_OUT * found.size:
        return []
    return [_evidence(-1, tried, content, STAMPS[2], FEW_ALIKE)]
