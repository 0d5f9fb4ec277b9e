# SPDX-License-Identifier: Apache-2.0
"""Which rows are copies of each other, so that no fold learns from a copy of what it is asked."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.neighbour_graph import neighbour_graph
from datapipe.measure.neighbours import nearest

Features = NDArray[np.float32]
Ints = NDArray[np.int64]

COPY = 0.35
"""Two rows closer than this share of the usual neighbour distance count as copies."""
NEIGHBOUR = 5
"""The neighbour whose distance is the usual one."""
ASKED = 2_000
"""Rows that tell the usual distance."""
FEWEST = 20
"""Where most rows repeat others, so many must differ for the others to be their copies."""
REMEMBERED = 4
"""Answers that are kept."""
_GROUPS: dict[str, Ints] = {}
_LOCK = threading.Lock()


def copy_groups(features: Features) -> Ints:
    """Which rows are copies of each other, exact or nearly.

    A copy in another fold would let a wrong label confirm itself. Exact copies are all found, near
    ones as `neighbour_graph` finds neighbours: all among few rows, nearly all among many. The last
    answers are remembered under the features' digest: several stages of a run ask the same of the
    same rows.

    Args:
        features: float32, shape (n, d).

    Returns:
        int64, shape (n,); rows of one group share a number, that of their first row.

    Example:
        >>> x = np.array([[0, 0], [9, 9], [0, 0], [5, 1], [2, 7]], np.float32)
        >>> copy_groups(x).tolist()
        [0, 1, 0, 3, 4]
    """
    n = len(features)
    if n < 2:
        return np.arange(n)
    seen = hashlib.sha256(f"{features.dtype} {features.shape} ".encode())
    seen.update(np.ascontiguousarray(features).data)
    digest = seen.hexdigest()
    known = _GROUPS.get(digest)
    if known is None:
        known = _copies(features, np.random.default_rng(int(digest[:16], 16)))
        with _LOCK:
            _GROUPS[digest] = known
            for oldest in list(_GROUPS)[:-REMEMBERED]:
                del _GROUPS[oldest]
    return known.copy()


def _copies(features: Features, rng: np.random.Generator) -> Ints:
    n = len(features)
    whole = np.dtype((np.void, features.itemsize * features.shape[1]))
    lines = np.ascontiguousarray(features).view(whole).ravel()
    _, first, member = np.unique(lines, return_index=True, return_inverse=True)
    first, member = _in_order(first, member)
    if _coarse(features, first.size):
        return np.arange(n)
    distinct = features[first]
    k = min(NEIGHBOUR, first.size - 1)
    graph = neighbour_graph(distinct, k=k, rng=rng)
    distances = graph.distances
    if graph.recall is not None:  # the k-th of those found may lie farther than the k-th
        asked = distinct[rng.choice(first.size, ASKED, replace=False)]
        distances = nearest(distinct, asked, k=k + 1).distances  # a row itself is the nearest
    usual = float(np.median(distances[:, -1]))
    left, column = np.nonzero(graph.distances <= COPY * usual)
    return first[_joined(first.size, left, graph.indices[left, column])][member]


def _in_order(first: Ints, member: Ints) -> tuple[Ints, Ints]:
    """Distinct rows as they first occur, so that the smallest number is that of the first row."""
    order = np.argsort(first, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    return first[order], place[member]


def _coarse(features: Features, distinct: int) -> bool:
    """Whether equal rows are no copies: few rows differ, or equality is what chance would bring.

    Rows of a few categories are equal though nobody copied them; were the values of each column
    dealt to the rows anew, they would be so about as often.
    """
    n = len(features)
    if distinct < 2:
        return True
    if 2 * distinct > n:
        return False
    agree = float(n - 1)
    for column in features.T:
        _, counts = np.unique(column, return_counts=True)
        agree *= float(np.square(counts / n).sum())
        if agree < 1.0:
            break
    return distinct < FEWEST or agree >= 1.0


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
