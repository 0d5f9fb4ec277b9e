# SPDX-License-Identifier: Apache-2.0
"""What an image shows, whatever its label says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.neighbours import Components, nearest, principal
from datapipe.stages.poisoning._parted import width, without_crowd

Pixels = NDArray[np.float32]
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
BLOCK = 8192


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
        means = np.empty((self.classes, columns.shape[1]))
        for k in range(self.classes):
            own = self.genuine & (self.labels == k)
            means[k] = columns[own if own.any() else slice(None)].mean(0, dtype=np.float64)
        return replace(self, pixels=columns, means=means, view=True)

    def suspects(self, label: int) -> Ints:
        """The rows of a label that clearly show something else."""
        return np.flatnonzero(self.suspect & (self.labels == label))

    def confusions(self) -> Iterator[tuple[int, int, Ints]]:
        """Every label, every other class that its suspects show, and those that show it."""
        for label in range(self.classes):
            mine = self.suspects(label)
            shows = self.shows[mine]
            for source in np.unique(shows):
                yield label, int(source), mine[shows == source]

    def residual(self, rows: Ints) -> Floats:
        """What the mean of the class that it shows leaves over of each of some rows."""
        return np.asarray(self.pixels[rows] - self.means[self.shows[rows]], np.float64)

    def project(self, weights: Floats) -> Floats:
        """The residual of every row along each of some weights (d, m): shape (n, m)."""
        made = (self.pixels @ weights.astype(np.float32)).astype(np.float64)
        made -= (self.means @ weights)[self.shows]
        return made

    def standardised(self, weights: Floats, least: int) -> Floats:
        """Projections in deviations of the genuine rows that show the same class: shape (n, m).

        NaN where fewer than `least` genuine rows show it.
        """
        made = self.project(weights)
        for k in range(self.classes):
            shown = self.shows == k
            own = made[shown & self.genuine]
            if len(own) < least:
                made[shown] = np.nan
                continue
            spread = own.std(0)
            made[shown] = (made[shown] - own.mean(0)) / np.where(spread > 0, spread, np.inf)
        return made

    def against(self, label: int, rows: Ints, weights: Floats) -> Floats:
        """Some rows along each of some weights, in deviations of the genuine rows of a label.

        A row whose neighbours err about it is like these, however odd it is for what it seems to
        show. Shape (rows, m); NaN where the label has too few genuine rows to tell.
        """
        own = np.flatnonzero(self.genuine & (self.labels == label))
        made = np.full((rows.size, weights.shape[1]), np.nan)
        if own.size < FEWEST_OWN:
            return made
        thin = weights.astype(np.float32)
        asked, kept = (np.asarray(self.pixels[r] @ thin, np.float64) for r in (rows, own))
        for i in range(weights.shape[1]):
            alone = without_crowd(kept[:, i])
            made[:, i] = (asked[:, i] - np.median(alone)) / (width(alone) or np.inf)
        return made


def content_of(pixels: Pixels, labels: Ints, rng: np.random.Generator) -> Content:
    """Tell what each row shows from its neighbours in the principal components.

    Neighbours that are doubted themselves say less in the next round: rows that share a pattern
    are each other's neighbours and would otherwise vouch for each other's label.
    """
    classes = int(labels.max()) + 1
    axes = principal(pixels, COMPONENTS, rng)
    votes, telling = _votes(axes.project(pixels), labels, classes, rng)
    return _with_content(pixels, labels, votes, telling)


def _votes(
    reduced: Pixels, labels: Ints, classes: int, rng: np.random.Generator
) -> tuple[Floats, float]:
    """The share of the neighbours' votes for each class, shape (n, K), and how telling they are."""
    n = len(reduced)
    marks = np.arange(n)
    if n > LANDMARKS:
        marks = np.sort(rng.permutation(n)[:LANDMARKS])
    near, weight = _weighted(reduced[marks])
    told = labels[marks]
    voted = _shares(told[near], weight, classes)
    telling = float((voted[np.arange(marks.size), told] > SURE).mean())
    for _ in range(ROUNDS):
        doubt = 1.0 - voted[np.arange(marks.size), told]
        voted = _shares(told[near], weight * _trust(doubt)[near], classes)
    if n == marks.size:
        return voted, telling
    doubt = 1.0 - voted[np.arange(marks.size), told]
    votes = np.empty((n, classes))
    votes[marks] = voted
    other = np.setdiff1d(np.arange(n), marks, assume_unique=True)
    near, weight = _weighted(reduced[marks], reduced[other])
    votes[other] = _shares(told[near], weight * _trust(doubt)[near], classes)
    return votes, telling


def _weighted(points: Pixels, queries: Pixels | None = None) -> tuple[Ints, Floats]:
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
    means = np.empty((votes.shape[1], pixels.shape[1]))
    for k in range(len(means)):
        own = genuine & (labels == k)
        means[k] = pixels[own if own.any() else slice(None)].mean(0, dtype=np.float64)
    doubt = 1.0 - votes[np.arange(labels.size), labels]
    every = np.ones(labels.size, bool)
    return Content(pixels, labels, shows, genuine, suspect, doubt, means, every, telling)


def without_direction(content: Content, label: int, direction: Floats) -> Content:
    """The contents of one label's rows told again, blind to one direction.

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
    toward = direction.astype(np.float32)
    axes = _blind_axes(content.pixels[others], toward, rng)
    reduced = axes.project(content.pixels[others])
    asked = axes.project(content.pixels[mine])
    near = nearest(reduced, asked, k=NEIGHBOURS + 1).indices
    other = others[near] != mine[:, None]
    other[other.all(1), -1] = False
    told = content.labels[others[near[other].reshape(mine.size, -1)]]
    votes = _shares(told, np.ones(told.shape), content.classes)
    return _retold(content, mine, votes)


def _blind_axes(pixels: Pixels, toward: Pixels, rng: np.random.Generator) -> Components:
    """Principal components of what is left without one direction; they are orthogonal to it."""
    return principal(pixels - np.outer(pixels @ toward, toward), COMPONENTS, rng)


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
        means[label] = content.pixels[mine[genuine[mine]]].mean(0, dtype=np.float64)
    doubt = content.doubt.copy()
    doubt[mine] = 1.0 - votes[:, label]
    return replace(content, shows=every, genuine=genuine, suspect=suspect, means=means, doubt=doubt)


def equal_rows(pixels: Pixels) -> Ints:
    """A number for each row, the same for equal rows."""
    width = pixels.shape[1]
    sides = np.random.default_rng(width).normal(size=(width, 2))
    prints = np.concatenate(
        [pixels[i : i + BLOCK].astype(np.float64) @ sides for i in range(0, len(pixels), BLOCK)]
    )
    keys = np.round(prints / (np.abs(prints).max(0) + 1e-30), 12)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
