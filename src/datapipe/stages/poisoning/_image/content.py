# SPDX-License-Identifier: Apache-2.0
"""What an image shows, whatever its label says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.neighbours import Components, nearest
from datapipe.stages.poisoning._image.axes import principal_of
from datapipe.stages.poisoning._image.pixels import BLOCK_BYTES, Pixels, some

Thin = NDArray[np.float32]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NEIGHBOURS = 30
CLOSE = 15
"""The distance to this neighbour is the width within which others speak."""
ROUNDS = 3
COMPONENTS = 40
SURE = 0.5
"""Share of the votes of a row's neighbours that must agree on its content."""
LANDMARKS = 6000
"""Beyond this many rows a sample of them speaks for the others: time stays linear."""
FEWEST_OWN = 16
"""With fewer genuine rows a label does not tell what its rows are like."""
TOLD_AT_ONCE = 1000
"""So many rows ask for their neighbours at a time."""
MOST_TELLING = 5000
"""From about so many rows come the components in which neighbours are near."""
MOST_AXES = 3000
"""Rows that tell the components of what is left without a direction."""
MIXER = np.uint64(0x9E3779B97F4A7C15)
MOST_USUAL = 400
"""So many genuine rows of a class, evenly spread, tell what its rows are like along a pattern."""


@dataclass(frozen=True, eq=False)
class Content:
    """What every row shows, whatever its label says.

    `shows` is the class that neighbours vote for, `genuine` rows show what their label says,
    `suspect` rows clearly show something else, `doubt` in [0, 1] is the share of the votes for any
    other class. `means` has the mean row of each class, shape (K, d); what it leaves over of a row
    is that row's residual. Only rows that are `left` take part in a test. `telling` is the share of
    rows whose label most neighbours share. Where other columns than `pixels` told what rows show,
    they are a `view`.
    """

    pixels: Pixels
    labels: Ints
    shows: Ints
    genuine: Bools
    suspect: Bools
    doubt: Floats
    means: Floats
    left: Bools
    telling: float
    view: bool = False

    @property
    def classes(self) -> int:
        return len(self.means)

    @property
    def untold(self) -> Ints:
        """Labels that have rows enough to be looked at, but too few genuine ones to tell."""
        own = np.bincount(self.labels[self.genuine], minlength=self.classes)
        every = np.bincount(self.labels, minlength=self.classes)
        return np.flatnonzero((own < FEWEST_OWN) & (every >= FEWEST_OWN))

    def without(self, rows: Bools) -> Content:
        """The same contents with some rows taking part in no test."""
        return replace(
            self,
            genuine=self.genuine & ~rows,
            suspect=self.suspect & ~rows,
            left=self.left & ~rows,
        )

    def seen_as(self, columns: Pixels) -> Content:
        """The same contents, with other columns to look for a pattern in: shape (n, m)."""
        means = _means(columns, self.labels, self.genuine, self.classes)
        return replace(self, pixels=columns, means=means, view=True)

    @cached_property
    def usual(self) -> list[Ints]:
        """For each class, genuine rows that tell what its rows are like."""
        order = np.argsort(self.labels, kind="stable")
        order = order[self.genuine[order]]
        ends = np.searchsorted(self.labels[order], np.arange(self.classes + 1))
        return [some(order[a:b], MOST_USUAL) for a, b in pairwise(ends)]

    def suspects(self, label: int) -> Ints:
        """The rows of a label that clearly show something else."""
        return np.flatnonzero(self.suspect & (self.labels == label))

    def confusions(self, label: int) -> Iterator[tuple[int, Ints]]:
        """Every other class that the suspects of a label show, and those that show it."""
        mine = self.suspects(label)
        shows = self.shows[mine]
        for source in np.unique(shows):
            yield int(source), mine[shows == source]

    def residual(self, rows: Ints) -> Thin:
        """What the mean of the class that it shows leaves over of each of some rows."""
        made = np.empty((rows.size, self.pixels.shape[1]), np.float32)
        start = 0
        for mine, block in self.residuals(rows):
            made[start : start + mine.size] = block
            start += mine.size
        return made

    def residuals(self, rows: Ints, size_bytes: int = BLOCK_BYTES) -> Iterator[tuple[Ints, Thin]]:
        """The same block by block, with the numbers of the rows."""
        means = self.means.astype(np.float32)
        for mine, block in self.pixels.blocks(rows, size_bytes):
            yield mine, block - means[self.shows[mine]]

    def average(self, rows: Ints) -> Floats:
        """The mean residual of some rows, shape (d,)."""
        sums = sum(block.sum(0, dtype=np.float64) for _, block in self.pixels.blocks(rows))
        counts = np.bincount(self.shows[rows], minlength=self.classes)
        return np.asarray((sums - counts @ self.means) / rows.size, np.float64)

    def project(self, weights: Floats, rows: Ints | None = None) -> Floats:
        """The residual of all rows, or some, along each of some weights (d, m): shape (n, m)."""
        made = self.pixels.project(weights, rows).astype(np.float64)
        made -= (self.means @ weights)[self.shows if rows is None else self.shows[rows]]
        return made


def content_of(pixels: Pixels, labels: Ints, rng: np.random.Generator) -> Content:
    """Tell what each row shows from its neighbours in the principal components.

    Neighbours that are doubted themselves say less in the next round: rows that share a pattern
    are each other's neighbours and would otherwise vouch for each other's label.
    """
    classes = int(labels.max()) + 1
    telling = np.arange(0, len(pixels), max(1, len(pixels) // MOST_TELLING))
    axes = principal_of(pixels, telling, COMPONENTS, rng)
    votes, share = _votes(_coordinates(axes, pixels), labels, classes, rng)
    return _with_content(pixels, labels, votes, share)


def _coordinates(axes: Components, pixels: Pixels, rows: Ints | None = None) -> Thin:
    made = pixels.project(axes.axes.T, rows)
    made -= axes.mean @ axes.axes.T
    return made


def _means(pixels: Pixels, labels: Ints, genuine: Bools, classes: int) -> Floats:
    """The mean genuine row of each class, shape (K, d); of all rows where a class has none."""
    sums, every = np.zeros((classes, pixels.shape[1])), np.zeros(pixels.shape[1])
    for rows, block in pixels.blocks():
        own = labels[rows] == np.arange(classes)[:, None]
        sums += (own & genuine[rows]).astype(np.float32) @ block
        every += block.sum(0)
    counts = np.bincount(labels[genuine], minlength=classes)[:, None]
    return np.where(counts > 0, sums / np.maximum(counts, 1), every / max(len(pixels), 1))


def _votes(
    reduced: Thin, labels: Ints, classes: int, rng: np.random.Generator
) -> tuple[Floats, float]:
    """The share of the neighbours' votes for each class, shape (n, K), and how telling they are."""
    n = len(reduced)
    marks = np.arange(n)
    if n > LANDMARKS:
        marks = np.sort(rng.permutation(n)[:LANDMARKS])
    told = labels[marks]
    near, weight = _weighted(reduced[marks])
    voted = _shares(told[near], weight, classes)
    telling = float((voted[np.arange(marks.size), told] > SURE).mean())
    for _ in range(ROUNDS):
        doubt = 1.0 - voted[np.arange(marks.size), told]
        voted = _shares(told[near], weight * _trust(doubt)[near], classes)
    del near, weight
    if n == marks.size:
        return voted, telling
    doubt = 1.0 - voted[np.arange(marks.size), told]
    votes = np.empty((n, classes))
    votes[marks] = voted
    other = np.setdiff1d(np.arange(n), marks, assume_unique=True)
    for start in range(0, other.size, TOLD_AT_ONCE):
        mine = other[start : start + TOLD_AT_ONCE]
        near, weight = _weighted(reduced[marks], reduced[mine])
        votes[mine] = _shares(told[near], weight * _trust(doubt)[near], classes)
    return votes, telling


def _weighted(points: Thin, queries: Thin | None = None) -> tuple[Ints, Floats]:
    found = nearest(points, queries, k=NEIGHBOURS)
    apart = found.distances.astype(np.float64)
    width = apart[:, min(CLOSE, apart.shape[1] - 1)][:, None]
    return found.indices, np.exp(-0.5 * (apart / np.where(width > 0, width, 1.0)) ** 2)


def _trust(doubt: Floats) -> Floats:
    return np.asarray((1.0 - doubt) ** 2 + 1e-3)


def _shares(neighbours: Ints, weight: Floats, classes: int) -> Floats:
    rows = np.repeat(np.arange(len(neighbours)), neighbours.shape[1])
    flat = np.bincount(
        rows * classes + neighbours.ravel(), weight.ravel(), minlength=len(neighbours) * classes
    )
    votes = flat.reshape(-1, classes)
    return np.asarray(votes / votes.sum(1, keepdims=True), np.float64)


def _with_content(pixels: Pixels, labels: Ints, votes: Floats, telling: float) -> Content:
    shows, most = votes.argmax(1), votes.max(1)
    genuine = (shows == labels) & (most > SURE)
    suspect = (shows != labels) & (most >= SURE)
    means = _means(pixels, labels, genuine, votes.shape[1])
    doubt = 1.0 - votes[np.arange(labels.size), labels]
    every = np.ones(labels.size, bool)
    return Content(pixels, labels, shows, genuine, suspect, doubt, means, every, telling)


def without_direction(
    content: Content, label: int, direction: Floats, silent: Ints | None = None
) -> Content:
    """The contents of one label's rows told again, blind to one direction; `silent` rows tell none.

    Rows with a loud pattern are each other's neighbours and vouch for each other's label. Their
    pattern is then the direction that sets the label's rows apart most. A view tells no contents.
    """
    if content.view:
        return content
    mine = np.flatnonzero(content.labels == label)
    rng = np.random.default_rng(label)
    others = np.arange(content.labels.size)
    if others.size > LANDMARKS:
        others = np.union1d(rng.permutation(others)[:LANDMARKS], mine[:LANDMARKS])
    if silent is not None:
        others = np.setdiff1d(others, silent)
    toward = direction.astype(np.float32)
    seen = some(others, MOST_AXES)
    axes = principal_of(content.pixels, seen, COMPONENTS, rng, toward)  # orthogonal to it
    reduced, asked = (_coordinates(axes, content.pixels, r) for r in (others, mine))
    near = nearest(reduced, asked, k=NEIGHBOURS + 1).indices
    other = others[near] != mine[:, None]
    other[other.all(1), -1] = False
    told = content.labels[others[near[other].reshape(mine.size, -1)]]
    votes = _shares(told, np.ones(told.shape), content.classes)
    return _retold(content, mine, votes)


def _retold(content: Content, mine: Ints, votes: Floats) -> Content:
    label = int(content.labels[mine[0]])
    every, genuine, suspect = content.shows.copy(), content.genuine.copy(), content.suspect.copy()
    shows, most = votes.argmax(1), votes.max(1)
    every[mine] = shows
    left = content.left[mine]
    genuine[mine] = (shows == label) & (most > SURE) & left
    suspect[mine] = (shows != label) & (most >= SURE) & left
    means = content.means.copy()
    if genuine[mine].any():
        means[label] = content.pixels.take(mine[genuine[mine]]).mean(0, dtype=np.float64)
    doubt = content.doubt.copy()
    doubt[mine] = 1.0 - votes[:, label]
    return replace(content, shows=every, genuine=genuine, suspect=suspect, means=means, doubt=doubt)


def equal_rows(pixels: Pixels) -> Ints:
    """For each row the first that equals it."""
    prints = np.concatenate([_prints(block) for _, block in pixels.blocks()])
    order = np.argsort(prints, kind="stable")
    new = np.ones(order.size, bool)
    new[1:] = prints[order[1:]] != prints[order[:-1]]
    made = np.empty(order.size, np.int64)
    made[order] = order[new][np.cumsum(new) - 1]
    for row in np.flatnonzero(made != np.arange(order.size)):
        if not np.array_equal(pixels.stored[row], pixels.stored[made[row]]):
            made[row] = row  # another image with the same print
    return made


def _prints(block: Thin) -> NDArray[np.uint64]:
    """64 bits of each row: a sum of its mixed words, each times an odd number of its own."""
    words = (block + np.float32(0.0)).view(np.uint32).astype(np.uint64)  # -0.0 equals 0.0
    odd = np.random.default_rng(words.shape[1]).integers(0, 2**63, words.shape[1], np.uint64)
    words *= MIXER
    words ^= words >> np.uint64(32)
    return np.asarray(np.einsum("ij,j->i", words, odd * np.uint64(2) + np.uint64(1)))
