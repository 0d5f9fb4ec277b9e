# SPDX-License-Identifier: Apache-2.0
"""Which rows are copies of each other, so that no fold learns from a copy of what it is asked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.neighbours import nearest

Features = NDArray[np.float32]
Ints = NDArray[np.int64]

COPY = 0.35
"""Two rows closer than this share of the usual neighbour distance count as copies."""
NEIGHBOUR = 5
"""The neighbour whose distance is the usual one."""
EXACT = 20_000
"""Up to so many rows every pair is looked at."""
ASKED = 2_000
"""Of more rows, so many tell the usual distance."""
TABLES, DIRECTIONS, WIDTH, LAGS = 10, 10, 4.0, 8
"""Of more rows, so many times rows are put in cells, along so many random directions, so many
copying distances wide; each is held against so many that follow it in its cell."""
CHUNK = 1 << 16
REMEMBERED = 4
"""Answers that are kept."""
_GROUPS: dict[str, Ints] = {}
_LOCK = threading.Lock()


def copy_groups(features: Features) -> Ints:
    """Which rows are copies of each other, exact or nearly.

    A copy in another fold would let a wrong label confirm itself. Up to `EXACT` rows all pairs are
    looked at; of more, exact copies are all found, and near ones by random cells: nine tenths of
    those at half the distance that counts, about half of those that just count. The last answers
    are remembered under the features' digest: several stages of a run ask the same of the same
    rows.

    Args:
        features: float32, shape (n, d).

    Returns:
        int64, shape (n,); rows of one group share a number, that of their first row.

    Example:
        >>> x = np.array([[0, 0], [9, 9], [0, 0], [5, 1], [2, 7]], np.float32)
        >>> copy_groups(x).tolist()
        [0, 1, 0, 3, 4]

    References:
        Datar, Immorlica, Indyk & Mirrokni, 2004, Locality-sensitive hashing scheme based on
        p-stable distributions.
    """
    n = len(features)
    if n < 2:
        return np.arange(n)
    seen = hashlib.sha256(f"{features.dtype} {features.shape} ".encode())
    seen.update(np.ascontiguousarray(features).data)
    digest = seen.hexdigest()
    known = _GROUPS.get(digest)
    if known is None:
        known = _every_pair(features) if n <= EXACT else _by_cells(features, digest)
        with _LOCK:
            _GROUPS[digest] = known
            for oldest in list(_GROUPS)[:-REMEMBERED]:
                del _GROUPS[oldest]
    return known.copy()


def _every_pair(features: Features) -> Ints:
    found = nearest(features, k=min(NEIGHBOUR, len(features) - 1))
    usual = float(np.median(found.distances[:, -1]))
    left, column = np.nonzero(found.distances <= COPY * usual if usual > 0 else found.distances < 0)
    return _joined(len(features), left, found.indices[left, column])


def _by_cells(features: Features, digest: str) -> Ints:
    """The same from random cells, in time linear in the rows."""
    rng = np.random.default_rng(int(digest[:16], 16))
    n = len(features)
    asked = features[rng.choice(n, ASKED, replace=False)]
    near = nearest(features, asked, k=NEIGHBOUR + 1)  # a row itself is the nearest
    usual = float(np.median(near.distances[:, -1]))
    if usual <= 0:
        return np.arange(n)
    whole = np.dtype((np.void, features.itemsize * features.shape[1]))
    lines = np.ascontiguousarray(features).view(whole).ravel()
    _, first, member = np.unique(lines, return_index=True, return_inverse=True)
    apart = features[first] - features.mean(0)
    pairs = list(_near_pairs(apart, COPY * usual, rng))
    left, right = (first[np.concatenate([pair[side] for pair in pairs])] for side in (0, 1))
    exact = first[member]
    return _joined(n, np.concatenate([np.arange(n), left]), np.concatenate([exact, right]))


def _near_pairs(
    points: Features, radius: float, rng: np.random.Generator
) -> Iterator[tuple[Ints, Ints]]:
    """Pairs no farther apart than a radius, most of them, from cells of random directions."""
    d = points.shape[1]
    for _ in range(TABLES):
        directions = rng.normal(size=(d, DIRECTIONS)).astype(np.float32)
        shifts = rng.random(DIRECTIONS, np.float32)
        along = points @ directions / np.float32(WIDTH * radius) + shifts
        odd = rng.integers(1, 1 << 62, DIRECTIONS) * 2 + 1
        with np.errstate(over="ignore"):
            cells = (np.floor(along).astype(np.int64) * odd).sum(1)
        order = np.lexsort((along[:, 0], cells))
        for lag in range(1, LAGS + 1):
            left, right = order[:-lag], order[lag:]
            same = np.flatnonzero(cells[left] == cells[right])
            for start in range(0, same.size, CHUNK):
                rows = same[start : start + CHUNK]
                a, b = left[rows], right[rows]
                gap = points[a] - points[b]
                close = np.einsum("ij,ij->i", gap, gap) <= radius * radius
                yield a[close], b[close]
    yield np.empty(0, np.int64), np.empty(0, np.int64)


def _joined(n: int, left: Ints, right: Ints) -> Ints:
    """The groups that pairs make, each under the number of its first row."""
    group = np.arange(n)
    while True:  # labels spread along pairs until every group holds its smallest member's
        lower = np.minimum(group[left], group[right])
        spread = group.copy()
        np.minimum.at(spread, left, lower)
        np.minimum.at(spread, right, lower)
        spread = spread[spread]
        if np.array_equal(spread, group):
            return group
        group = spread
