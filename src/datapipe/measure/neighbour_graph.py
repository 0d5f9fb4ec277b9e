# SPDX-License-Identifier: Apache-2.0
"""The nearest others of every row, also among hundreds of thousands of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.measure.neighbours import Neighbours, nearest, smallest

Features = NDArray[np.float32]
Ints = NDArray[np.int64]

EXACT = 20_000
"""Up to so many rows every pair is looked at."""
LEAF = 160
"""Most rows of a leaf."""
PROBED = 16
"""Leaves that the rows of one are held against: itself and those with the nearest centres."""
FEWEST_TREES, MOST_TREES = 2, 8
SETTLED = 0.99
"""Share of near pairs that must share leaves for no further tree to be grown."""
ASKED = 2_000
"""Rows near which a pair is tried."""
NEAR = 0.5
"""How far such a pair lies apart, in distances to the row's nearest."""
LEARNT = 256
"""Rows of a cell that tell where it is wide."""
WIDE, NARROW = 128, 64
"""From so many columns on, so many random sums of them tell which rows may be near..."""
SPARE = 2
"""... of which so many times those asked for are measured in all columns."""
MEASURED = 1 << 22
"""Differences of columns that are held at a time."""
MERGED = 1 << 15
"""Rows whose neighbours from two trees are put together at a time."""


@dataclass(frozen=True, eq=False)
class NeighbourGraph:
    """The nearest others of each row.

    Args:
        indices: int64, shape (n, k); nearest first.
        distances: float32, shape (n, k); in units of the features.
        recall: Share of pairs half as far apart as a row and its nearest that are found; None
            where every pair was looked at.

    Example:
        >>> x = np.array([[0.0], [1.0], [5.0]], np.float32)
        >>> neighbour_graph(x, k=1, rng=np.random.default_rng(0)).recall is None
        True
    """

    indices: Ints
    distances: Features
    recall: Estimate | None = None


def neighbour_graph(points: Features, *, k: int, rng: np.random.Generator) -> NeighbourGraph:
    """The nearest others of every row: all of them for few rows, most of them for many.

    Up to `EXACT` rows every pair is looked at. More are put in the leaves of trees, cells halved
    where they are wide, and held against the rows of the leaves around their own; trees are grown
    until nearly all near pairs share leaves, which is tried out. Copies are found so; among rows
    that are all about equally far from each other, as in many dimensions, some of the nearest are
    passed over for others hardly farther. Of wide rows random sums of columns tell which others are
    measured. Time is n log n.

    Args:
        points: float32, shape (n, d), finite.
        k: How many neighbours, >= 1; fewer come back when there are fewer points.
        rng: Draws the directions of the cuts; not used for few rows.

    Returns:
        Indices, distances, and the share of near pairs that are found.

    Raises:
        DeclarationError: `k` is below 1.

    Example:
        >>> x = np.array([[0.0, 0.0], [0.0, 1.0], [3.0, 0.0]], np.float32)
        >>> neighbour_graph(x, k=2, rng=np.random.default_rng(0)).indices.tolist()
        [[1, 2], [0, 2], [0, 1]]

    References:
        Dasgupta & Freund, 2008, Random projection trees and low dimensional manifolds;
        Johnson & Lindenstrauss, 1984, Extensions of Lipschitz mappings into a Hilbert space.
    """
    if len(points) <= EXACT:
        every = nearest(points, k=k)
        return NeighbourGraph(every.indices, every.distances)
    if points.shape[1] < WIDE:  # large offsets would cost float32 its digits
        return _by_trees(points - points.mean(0), k, rng)
    sums = rng.normal(size=(points.shape[1], NARROW)) / np.sqrt(NARROW)
    narrow = points @ sums.astype(np.float32)
    narrow -= narrow.mean(0)
    return _measured(points, _by_trees(narrow, SPARE * k, rng), k)


def _by_trees(points: Features, k: int, rng: np.random.Generator) -> NeighbourGraph:
    asked = rng.choice(len(points), ASKED, replace=False)
    steps = rng.normal(size=(ASKED, points.shape[1])).astype(np.float32)
    steps /= np.linalg.norm(steps, axis=1, keepdims=True)
    tree = _Tree.grown(points, rng)
    known = tree.neighbours(points, k)
    steps *= NEAR * known.distances[asked, :1]
    met = tree.meet(points, asked, points[asked] + steps)
    for number in range(1, MOST_TREES):
        if number >= FEWEST_TREES and met.mean() >= SETTLED:
            break
        tree = _Tree.grown(points, rng)
        _merge(known, tree.neighbours(points, k))
        met |= tree.meet(points, asked, points[asked] + steps)
    return NeighbourGraph(known.indices, known.distances, Estimate.rate(int(met.sum()), ASKED))


def _measured(points: Features, found: NeighbourGraph, k: int) -> NeighbourGraph:
    """The nearest k of those found, by their distances in all columns."""
    indices = np.empty((len(points), k), np.int64)
    distances = np.empty((len(points), k), np.float32)
    step = max(1, MEASURED // (points.shape[1] * found.indices.shape[1]))
    for start in range(0, len(points), step):
        rows = slice(start, start + step)
        gaps = points[found.indices[rows]]
        gaps -= points[rows, None]
        far = np.sqrt(np.einsum("nkd,nkd->nk", gaps, gaps))
        order = np.argsort(far, axis=1, kind="stable")[:, :k]
        indices[rows] = np.take_along_axis(found.indices[rows], order, 1)
        distances[rows] = np.take_along_axis(far, order, 1)
    return NeighbourGraph(indices, distances, found.recall)


@dataclass(frozen=True, eq=False)
class _Tree:
    """Cells halved again and again: the cuts of each level, the leaves, and the leaves near each.

    `leaf` is the number of each row's leaf, `beside` has the leaves that its rows are held against,
    shape (leaves, probed).
    """

    cuts: list[tuple[Features, Features]]
    leaves: list[Ints]
    leaf: Ints
    beside: Ints

    @classmethod
    def grown(cls, points: Features, rng: np.random.Generator) -> _Tree:
        cells, cuts = [np.arange(len(points))], []
        while cells[0].size > LEAF:
            halves, lines, edges = [], [], []
            for cell in cells:
                block = points[cell]
                line = _direction(block, rng)
                along = block @ line
                middle = cell.size // 2
                order = np.argpartition(along, middle)
                halves += [cell[order[:middle]], cell[order[middle:]]]
                lines.append(line)
                edges.append(along[order[middle]])
            cells = halves
            cuts.append((np.stack(lines), np.array(edges, np.float32)))
        leaf = np.empty(len(points), np.int64)
        for number, cell in enumerate(cells):
            leaf[cell] = number
        centres = np.stack([points[cell].mean(0) for cell in cells])
        beside = nearest(centres, k=min(PROBED, len(cells)) - 1).indices
        return cls(cuts, cells, leaf, np.column_stack([np.arange(len(cells)), beside]))

    def neighbours(self, points: Features, k: int) -> Neighbours:
        """The k nearest others of each row among those of the leaves beside its own."""
        lengths = np.einsum("ij,ij->i", points, points)
        indices = np.empty((len(points), k), np.int64)
        distances = np.empty((len(points), k), np.float32)
        for rows, beside in zip(self.leaves, self.beside, strict=True):
            pool = np.sort(np.concatenate([self.leaves[i] for i in beside]))  # ties by index
            squares = points[rows] @ (-2.0 * points[pool].T)
            squares += lengths[pool]
            squares += lengths[rows, None]
            np.maximum(squares, 0.0, out=squares)
            squares[np.arange(rows.size), np.searchsorted(pool, rows)] = np.inf
            place, distances[rows] = smallest(squares, k)
            indices[rows] = pool[place]
        return Neighbours(indices, distances)

    def meet(self, points: Features, rows: Ints, others: Features) -> NDArray[np.bool_]:
        """Whether points would be held against the rows that they lie next to."""
        cell = np.zeros(len(others), np.int64)
        for lines, edges in self.cuts:
            beyond = np.einsum("ij,ij->i", others, lines[cell]) >= edges[cell]
            cell = 2 * cell + beyond
        either = (self.beside[cell] == self.leaf[rows, None]) | (
            self.beside[self.leaf[rows]] == cell[:, None]
        )
        return np.asarray(either.any(axis=1))


def _direction(block: Features, rng: np.random.Generator) -> Features:
    """A direction, drawn at random, along which a cell is wide: two steps of the power method."""
    some = block[rng.integers(0, len(block), min(len(block), LEARNT))]
    some = some - some.mean(0)
    drawn: Features = np.asarray(rng.normal(size=block.shape[1]), np.float32)
    line = drawn
    for _ in range(2):
        line = np.asarray(some.T @ (some @ line), np.float32)
        length = np.float32(np.linalg.norm(line))
        if length == 0:  # all equal: any cut is as good
            return drawn
        line /= length
    return line


def _merge(known: Neighbours, more: Neighbours) -> None:
    """Put the nearest of both in the place of the first, each row once."""
    k = known.indices.shape[1]
    for start in range(0, len(known.indices), MERGED):
        rows = slice(start, start + MERGED)
        indices = np.hstack([known.indices[rows], more.indices[rows]])
        distances = np.hstack([known.distances[rows], more.distances[rows]])
        order = np.argsort(indices, axis=1, kind="stable")
        indices = np.take_along_axis(indices, order, 1)
        distances = np.take_along_axis(distances, order, 1)
        distances[:, 1:][indices[:, 1:] == indices[:, :-1]] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        known.indices[rows] = np.take_along_axis(indices, order, 1)
        known.distances[rows] = np.take_along_axis(distances, order, 1)
