# SPDX-License-Identifier: Apache-2.0
"""Exact nearest neighbours and principal components, by blocked matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import DeclarationError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

BLOCK_BYTES = 4 * 2**20
"""Most memory that one block of distances or of rows takes; larger ones leave the cache."""
GROUPS = 16
"""Of so many distances at a time the smallest bounds the k smallest of all."""
WIDE = 512
"""From this many columns on, components come from a random projection."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest points of each query.

    Args:
        indices: int64, shape (m, k); nearest first, ties by index.
        distances: float32, shape (m, k); in units of the features.

    Example:
        >>> nearest(np.array([[0.0], [1.0], [5.0]], np.float32), k=1).indices.ravel().tolist()
        [1, 0, 1]
    """

    indices: Ints
    distances: Floats


def nearest(
    points: Floats, queries: Floats | None = None, *, k: int, local_scaling: bool = False
) -> Neighbours:
    """Exact Euclidean nearest neighbours.

    Blocks of one matrix product keep the memory bounded and BLAS busy; for the tens of thousands
    of rows of an audit that beats a tree in more than a few dimensions.

    Args:
        points: float32, shape (n, d).
        queries: float32, shape (m, d); None asks for each point's neighbours but itself.
        k: How many, >= 1; fewer come back when there are fewer points.
        local_scaling: Divide a distance by the geometric mean of both ends' own neighbourhood
            sizes, so that hubs are not everybody's neighbour.

    Returns:
        Indices into `points` and distances.

    Raises:
        DeclarationError: `k` is below 1.

    Example:
        >>> x = np.array([[0.0, 0.0], [0.0, 1.0], [3.0, 0.0]], np.float32)
        >>> nearest(x, k=2).indices.tolist()
        [[1, 2], [0, 2], [0, 1]]

    References:
        Schnitzer et al., 2012, Local and global scaling reduce hubs in space.
    """
    if k < 1:
        raise DeclarationError(f"nearest(k={k}): at least one neighbour is needed")
    scale = None
    if local_scaling:
        sizes = nearest(points, k=k).distances.mean(1)
        own = sizes if queries is None else nearest(points, queries, k=k).distances.mean(1)
        tiny = np.float32(np.finfo(np.float32).tiny)
        scale = (np.maximum(own, tiny), np.maximum(sizes, tiny))
    centre = points.mean(0) if len(points) else 0.0  # large offsets would cost float32 its digits
    asked = (points if queries is None else queries) - centre
    points = points - centre
    most = max(0, min(k, len(points) - (queries is None)))
    indices = np.empty((len(asked), most), np.int64)
    distances = np.empty((len(asked), most), np.float32)
    lengths = np.einsum("ij,ij->i", points, points)
    step = max(1, BLOCK_BYTES // (4 * max(1, len(points))))
    doubled = -2.0 * points.T
    room = np.empty((min(step, len(asked)), len(points)), np.float32)
    for start in range(0, len(asked) if most else 0, step):
        block = asked[start : start + step]
        squares = np.matmul(block, doubled, out=room[: len(block)])
        squares += lengths
        squares += np.einsum("ij,ij->i", block, block)[:, None]
        np.maximum(squares, 0.0, out=squares)
        if scale is not None:
            squares /= scale[0][start : start + step, None] * scale[1]
        if queries is None:
            squares[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        rows = slice(start, start + len(block))
        indices[rows], distances[rows] = smallest(squares, most)
    return Neighbours(indices, distances)


def smallest(squares: Floats, k: int) -> tuple[Ints, Floats]:
    """The k smallest of each row, in order; equal ones by index, so that results repeat.

    Args:
        squares: float32, shape (m, n): squared distances, finite or infinite.
        k: How many, in 1..n.

    Returns:
        int64 columns and float32 distances, both of shape (m, k).

    Example:
        >>> smallest(np.array([[4.0, 1.0, 9.0]], np.float32), 2)[0].tolist()
        [[1, 0]]
    """
    rows, picked = np.divmod(np.flatnonzero(squares <= _bound(squares, k)), squares.shape[1])
    values = squares[rows, picked]
    order = np.lexsort((values, rows))
    first = np.searchsorted(rows, np.arange(len(squares)))
    ordered = order[first[:, None] + np.arange(k)]
    return picked[ordered], np.sqrt(values[ordered])


def _bound(squares: Floats, k: int) -> Floats:
    """For each row a number that at least k are not above, and few more, shape (m, 1).

    Groups of columns have a smallest each; k groups have one not above the k-th smallest of these.
    """
    m, n = squares.shape
    wide = n // GROUPS
    least = squares
    if wide >= 2 * k:
        least = squares[:, : wide * GROUPS].reshape(m, GROUPS, wide).min(axis=1)
    return np.partition(least, k - 1, axis=1)[:, k - 1 : k]


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of a sample.

    Args:
        mean: float32, shape (d,).
        axes: float32, shape (dims, d); orthonormal rows, largest variance first.
        variances: float32, shape (dims,); variance of the sample along each axis.

    Example:
        >>> x = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.1]], np.float32)
        >>> principal(x, 1, np.random.default_rng(0)).axes.shape
        (1, 2)
    """

    mean: Floats
    axes: Floats
    variances: Floats

    def project(self, values: Floats, *, whiten: float = 0.0) -> Floats:
        """Coordinates along the axes.

        Args:
            values: float32, shape (n, d).
            whiten: 0 keeps the scale of the features, 1 gives every axis unit variance; between
                them is a compromise that keeps weak axes from being mere noise.

        Returns:
            float32, shape (n, dims).

        Example:
            >>> x = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]], np.float32)
            >>> found = principal(x, 1, np.random.default_rng(0))
            >>> np.abs(found.project(x)).ravel().tolist()
            [2.0, 0.0, 2.0]
        """
        made = (values - self.mean) @ self.axes.T
        if whiten:
            floor = np.float32(1e-6) * max(float(self.variances.max(initial=0.0)), 1e-30)
            made = made / np.maximum(self.variances, floor) ** np.float32(whiten / 2)
        return made.astype(np.float32, copy=False)


def principal(values: NDArray[np.number], dims: int, rng: np.random.Generator) -> Components:
    """Principal components; exact for narrow data, randomised for wide data.

    Args:
        values: float32 or bytes, shape (n, d), finite.
        dims: How many components, >= 1; fewer come back when n or d is smaller.
        rng: Draws the random projection.

    Returns:
        The components; the sign of an axis makes its largest weight positive.

    Raises:
        DeclarationError: There are no rows, or `dims` is below 1.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
        >>> found = principal(x, 3, np.random.default_rng(0))
        >>> bool(np.allclose(found.axes @ found.axes.T, np.eye(3), atol=1e-5))
        True

    References:
        Halko, Martinsson & Tropp, 2011, Finding structure with randomness.
    """
    n, d = values.shape
    if n == 0 or dims < 1:
        raise DeclarationError(f"principal(n={n}, dims={dims}): rows and dims >= 1 are needed")
    keep = min(dims, n, d)
    mean = _mean(values)
    if d <= WIDE:
        spread = sum(block.T @ block for block in _centred(values, mean))
        variances, axes = np.linalg.eigh(np.asarray(spread, np.float64))
        axes, variances = axes.T[::-1][:keep], variances[::-1][:keep]
    else:
        basis = rng.normal(size=(d, min(keep + 10, d))).astype(np.float32)
        for _ in range(2):  # power iterations: slow spectra need them
            sketch = np.linalg.qr(_along(values, mean, basis))[0]
            basis = _back(values, mean, sketch)
        basis = np.linalg.qr(_along(values, mean, basis))[0]
        _, sizes, axes = np.linalg.svd(_back(values, mean, basis).T, full_matrices=False)
        axes, variances = axes[:keep], sizes[:keep] ** 2
    strongest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
    axes = axes * np.where(strongest < 0, -1.0, 1.0)
    return Components(
        mean,
        axes.astype(np.float32),
        (np.maximum(variances, 0.0) / max(n - 1, 1)).astype(np.float32),
    )


def _mean(values: NDArray[np.number]) -> Floats:
    sums = sum(block.sum(0, dtype=np.float64) for block in _centred(values, 0.0))
    return np.asarray(sums / len(values), np.float32)


def _centred(values: NDArray[np.number], mean: Floats | float) -> Iterator[Floats]:
    """The rows less their mean, block by block: all at once would take as much as the data."""
    step = max(1, BLOCK_BYTES // (4 * max(1, values.shape[1])))
    for start in range(0, len(values), step):
        block = values[start : start + step].astype(np.float32)
        block -= np.float32(mean)
        yield block


def _along(values: NDArray[np.number], mean: Floats, basis: Floats) -> Floats:
    return np.concatenate([block @ basis for block in _centred(values, mean)])


def _back(values: NDArray[np.number], mean: Floats, sketch: Floats) -> Floats:
    made = np.zeros((values.shape[1], sketch.shape[1]), np.float32)
    start = 0
    for block in _centred(values, mean):
        made += block.T @ sketch[start : start + len(block)]
        start += len(block)
    return made
