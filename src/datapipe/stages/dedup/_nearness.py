# SPDX-License-Identifier: Apache-2.0
"""How near each row is to its nearest others, relative to its neighbourhood, in several ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.core.estimate import Estimate
from datapipe.measure.neighbour_graph import neighbour_graph
from datapipe.measure.neighbours import principal

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]
Indices = NDArray[np.int64]

AROUND = 32
"""Neighbours that make a neighbourhood; up to as many copies of one row are told apart."""
CANDIDATES = 10
"""Neighbours that may be copies."""
AXES = 256
"""Principal axes in which distances of wider rows are measured."""
SAMPLED = 8192
RIDGE = 0.01
TRIMMED = 0.02
"""Share of the pixels that a retouched copy may change at will."""
NARROWEST_PICTURE = 16
BLOCK_CELLS = 4_000_000
NOTHING = 1e-6


@dataclass(frozen=True, eq=False)
class Nearness:
    """Log distances of rows to candidates, relative to the row's neighbourhood; smaller is nearer.

    Args:
        candidates: int64, shape (n, k): positions of the nearest other rows.
        distances: float64, shape (n,): distance to the nearest row that is not equal, up to a
            factor; infinite for a row that equals an earlier one.
        measures: Name to float64 of shape (n, k); infinite where a pair cannot be compared.
        recall: Share of near pairs that were compared; None where every pair was looked at.
    """

    candidates: Indices
    distances: Floats
    measures: dict[str, Floats]
    recall: Estimate | None = None


def nearness(
    values: Matrix, missing: NDArray[np.bool_] | None, rng: np.random.Generator
) -> Nearness:
    """Compare every row with its nearest others.

    `noise` sets the distance in relation to what differences between neighbours look like: added
    noise spreads evenly over all directions, honest differences do not, so what is small and even
    at once is small here. `largest` is the largest change of one value: small after a change of
    brightness. `trimmed` leaves out the values that changed most: small after a retouch.

    Args:
        values: float32, shape (n, d), finite.
        missing: bool, shape (n, d), for pictures; None for table rows, which are compared by
            `noise` and `plain`, and never with an equal row.
        rng: Draws the pairs from which differences between neighbours are learnt.

    Returns:
        The measures of each row's candidates.
    """
    axes = min(values.shape[1], AXES, max(1, len(values) // 4))
    narrow = values
    if axes < values.shape[1]:
        narrow = principal(values, axes, rng).project(values)
    found = neighbour_graph(narrow, k=min(AROUND, max(2, len(values) // 4)), rng=rng)
    scale = np.maximum(found.distances[:, -1:], np.float32(NOTHING))
    whiten, level = _learnt(narrow, found.indices, scale, rng)
    candidates = found.indices[:, :CANDIDATES]
    picture = missing is not None and values.shape[1] >= NARROWEST_PICTURE
    names = ("noise", "largest", "trimmed") if picture else ("noise", "plain")
    measures = {name: np.empty(candidates.shape) for name in names}
    squares = np.empty(candidates.shape)
    kinds = values[:, ((values == 0) | (values == 1)).all(axis=0)] == 1
    for rows in _blocks(len(values), candidates.shape[1] * values.shape[1]):
        there = candidates[rows]
        gap = (narrow[rows, None] - narrow[there]) / scale[rows, None]
        square = np.einsum("nkd,nkd->nk", gap, gap) / (level * gap.shape[2])
        squares[rows] = square * np.square(scale[rows])
        even = np.square(gap @ whiten).mean(axis=2)
        measures["noise"][rows] = 2 * np.log(square + NOTHING**2) - np.log(even + NOTHING**2)
        if missing is not None and picture:
            changes = np.abs(values[rows, None] - values[there]) / scale[rows, None]
            _picture_measures(changes, missing[rows, None] | missing[there], rows, measures)
        else:
            measures["plain"][rows] = np.log(square + NOTHING**2)
        if missing is None:
            other = (kinds[rows, None] != kinds[there]).any(axis=2)
            for made in measures.values():
                made[rows][other | (square == 0)] = np.inf
    return Nearness(candidates, _distances(candidates, squares), measures, found.recall)


def _distances(candidates: Indices, squares: Floats) -> Floats:
    """To the nearest row that is not equal; none for a row that equals an earlier one."""
    made: Floats = np.sqrt(np.where(squares > 0, squares, np.inf).min(axis=1))
    earlier = candidates < np.arange(len(candidates))[:, None]
    made[((squares == 0) & earlier).any(axis=1)] = np.inf
    return made


def _picture_measures(
    changes: Matrix, unknown: NDArray[np.bool_], rows: slice, measures: dict[str, Floats]
) -> None:
    changes[unknown] = 0.0
    dropped = max(1, int(np.ceil(TRIMMED * changes.shape[2])))
    rest = np.partition(changes, -dropped, axis=2)[:, :, :-dropped]
    measures["largest"][rows] = np.log(changes.max(axis=2) + NOTHING)
    measures["trimmed"][rows] = np.log(np.sqrt(np.square(rest).sum(axis=2)) + NOTHING)
    hidden = unknown.mean(axis=2) > 0.5
    for made in measures.values():
        made[rows][hidden] = np.inf


def _learnt(
    values: Matrix, neighbours: Indices, scale: Matrix, rng: np.random.Generator
) -> tuple[Matrix, np.float32]:
    """What differences between neighbours look like: their whitening, and their mean square.

    Outer neighbours teach, for the inner ones may be copies.
    """
    n, k = neighbours.shape
    rows = rng.integers(0, n, SAMPLED)
    others = neighbours[rows, rng.integers(k // 2, k, SAMPLED)]
    gaps = ((values[rows] - values[others]) / scale[rows]).astype(np.float64)
    spread = gaps.T @ gaps / SAMPLED
    level = max(float(np.trace(spread)) / values.shape[1], NOTHING**2)
    roots, axes = np.linalg.eigh(spread)
    whiten = axes / np.sqrt(np.maximum(roots, 0.0) + RIDGE * level)
    return whiten.astype(np.float32), np.float32(level)


def _blocks(n: int, cells: int) -> Iterator[slice]:
    step = max(1, BLOCK_CELLS // max(1, cells))
    for start in range(0, n, step):
        yield slice(start, min(n, start + step))
