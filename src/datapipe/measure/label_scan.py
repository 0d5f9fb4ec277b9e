# SPDX-License-Identifier: Apache-2.0
"""Confident learning in few passes over probabilities that need not lie in memory.

Every comparison is made in the probabilities' own precision and in the reference's order, so that
the outcome is the reference's row by row; what is kept between passes is a few numbers a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import DeclarationError
from datapipe.measure.label_sources import Probabilities, Source

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

SLACK = 1e-6
"""How far below a threshold still counts as reaching it, as in the reference implementation."""
HELD_VALUES = 2**22
"""Probabilities of doubtful rows held together while the largest margins are picked."""


@dataclass(frozen=True, eq=False)
class Scan:
    """What one pass over the probabilities leaves: a few numbers a row.

    Args:
        own: Shape (n,): the probability of the given label, in the given precision.
        top: Shape (n,): the largest probability.
        leading: int32, shape (n,): the class with the largest probability.
        thresholds: Shape (K,): mean probability of each class on the rows given it.
        order: int64, shape (n,): the rows by class, in row order within.
        ends: int64, shape (K,): where each class ends in `order`.

    Example:
        >>> from datapipe.measure.label_sources import InMemory
        >>> scanned(InMemory(np.array([0]), np.array([[0.5, 0.5]]))).leading.tolist()
        [0]
    """

    own: Probabilities
    top: Probabilities
    leading: NDArray[np.int32]
    thresholds: Floats
    order: Ints
    ends: Ints

    def rows_of(self, k: int) -> Ints:
        """The rows given class k, in row order.

        Args:
            k: The class.

        Returns:
            int64, shape (rows,).

        Example:
            >>> from datapipe.measure.label_sources import InMemory
        >>> scanned(InMemory(np.array([0]), np.array([[1.0]]))).rows_of(0).tolist()
            [0]
        """
        return self.order[self.ends[k - 1] if k else 0 : self.ends[k]]


def scanned(source: Source) -> Scan:
    """One pass: own and largest probability of every row, and the classes' thresholds.

    Args:
        source: Labels and probabilities.

    Returns:
        What was seen.

    Raises:
        DeclarationError: A probability is not finite.

    Example:
        >>> from datapipe.measure.label_sources import InMemory
        >>> scanned(InMemory(np.array([0, 1]), np.eye(2))).thresholds.tolist()
        [1.0, 1.0]
    """
    n, classes = source.labels.size, source.classes
    own = top = np.empty(0)
    leading = np.empty(n, np.int32)
    for rows, block in source.blocks():
        if not rows.start:
            own, top = np.empty(n, block.dtype), np.empty(n, block.dtype)
        every = np.arange(len(block))
        best = block.argmax(1)
        leading[rows] = best
        top[rows] = block[every, best]
        own[rows] = block[every, source.labels[rows]]
        # argmax stops at a NaN and at inf, so the largest values tell of either
        if not np.isfinite(top[rows]).all() or not np.isfinite(own[rows]).all():
            raise DeclarationError(
                "some probabilities are missing or infinite", hint="give a number everywhere"
            )
    order = by_class(source.labels, classes)
    ends = np.cumsum(np.bincount(source.labels, minlength=classes))
    sorted_own = own[order]
    starts = ends - np.diff(ends, prepend=0)
    means: list[Any] = [
        sorted_own[low:high].mean() if high > low else 2
        for low, high in zip(starts, ends, strict=True)
    ]
    return Scan(own, top, leading, np.clip(means, 2 * SLACK, None), order, ends)


def by_class(labels: Ints, classes: int) -> Ints:
    """The rows by class, in row order within a class.

    Args:
        labels: int, shape (n,), in 0..K-1.
        classes: K.

    Returns:
        int64, shape (n,).

    Example:
        >>> by_class(np.array([1, 0, 1]), 2).tolist()
        [1, 0, 2]
    """
    narrow = labels.astype(np.uint16) if classes <= 2**16 else labels
    return np.argsort(narrow, kind="stable")


def joint_of(source: Source, scan: Scan, *, fix_collisions: bool = False) -> Ints:
    """The confident joint, scaled to the class counts.

    A row whose likeliest class passes its threshold counts there, whatever else passes; only the
    others have to be looked at again, and of them only those that reach any threshold at all.

    Args:
        source: Labels and probabilities.
        scan: What the first pass left.
        fix_collisions: Choose among the classes that pass only.

    Returns:
        int64, shape (K, K): given label by likely label.

    Example:
        >>> from datapipe.measure.label_sources import InMemory
        >>> source = InMemory(np.array([0, 1]), np.eye(2))
        >>> joint_of(source, scanned(source)).tolist()
        [[1, 0], [0, 1]]
    """
    labels, classes = source.labels, source.classes
    bar = at_least(scan.thresholds - SLACK, scan.top.dtype)
    lowest = bar.min()
    counts = np.zeros(classes * classes, np.int64)
    for rows, block in source.blocks():
        passes = scan.top[rows] >= bar[scan.leading[rows]]
        cell = labels[rows][passes] * classes + scan.leading[rows][passes]
        np.add.at(counts, cell, 1)
        rest = np.flatnonzero(~passes & (scan.top[rows] >= lowest))
        if not rest.size:
            continue
        some = block[rest] if rest.size < len(block) else block
        sure = some >= bar
        first = sure.argmax(1)
        any_sure = sure[np.arange(rest.size), first]
        if not any_sure.any():
            continue
        rest, some, sure, first = (x[any_sure] for x in (rest, some, sure, first))
        if fix_collisions:
            guess = np.where(sure, some, -1.0).argmax(1)
        else:
            guess = np.where(sure.sum(1) > 1, scan.leading[rows][rest], first)
        np.add.at(counts, labels[rows][rest] * classes + guess, 1)
    joint = counts.reshape(classes, classes)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    per_class = np.diff(scan.ends, prepend=0)
    scaled = joint / np.maximum(joint.sum(1, keepdims=True), 1e-100) * per_class[:, None]
    return rounded(scaled / max(scaled.sum(), 1e-100) * per_class.sum())


@dataclass(frozen=True, eq=False)
class Pruned:
    """Which rows confident learning takes, and what it took them by.

    Args:
        mask: bool, shape (n,).
        joint: int64, shape (K, K): given label by likely label.
        scan: The numbers a row that the first pass left.

    Example:
        >>> from datapipe.measure.label_sources import InMemory
        >>> pruned(InMemory(np.array([0, 1]), np.eye(2))).mask.tolist()
        [False, False]
    """

    mask: Bools
    joint: Ints
    scan: Scan


def pruned(source: Source, joint: Ints | None = None) -> Pruned:
    """Take, for each pair of classes, the rows with the largest margins.

    Args:
        source: Labels and probabilities.
        joint: The confident joint; None computes it.

    Returns:
        The rows taken.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]])
        >>> from datapipe.measure.label_sources import InMemory
        >>> pruned(InMemory(np.array([0, 0, 1, 1, 1]), p)).mask.tolist()
        [False, False, False, False, True]
    """
    scan = scanned(source)
    joint = joint_of(source, scan) if joint is None else joint
    doubtful = ~_agrees(source.labels, scan)
    mask = np.zeros(source.labels.size, bool)
    counts = np.ascontiguousarray(prunable(joint).T)  # a row is a given class
    np.fill_diagonal(counts, 0)
    unsettled: dict[int, Ints] = {}
    by_given = ((k, scan.rows_of(k)) for k in np.flatnonzero(counts.any(1)).tolist())
    asked = [
        _Asked(k, rows[doubtful[rows]], np.flatnonzero(counts[k]))
        for k, rows in by_given
        if rows.size > 1
    ]
    for pair, table in _tables(source, asked):
        picked, left_open = _picked(table, scan.own[pair.rows], counts[pair.given, pair.columns])
        mask[pair.rows[picked]] = True
        if left_open.size:
            unsettled[pair.given] = pair.columns[left_open]
    rest = [_Asked(k, scan.rows_of(k), columns) for k, columns in unsettled.items()]
    for pair, table in _tables(source, rest):
        for j, chances in zip(pair.columns.tolist(), table.T, strict=True):
            # too few rows ahead, or a tie at the cut: the reference's own order decides
            margins = chances - scan.own[pair.rows]
            mask[pair.rows[np.argsort(-margins)[: counts[pair.given, j]]]] = True
    return Pruned(mask & doubtful, joint, scan)


def _agrees(labels: Ints, scan: Scan) -> Bools:
    """Whether the given label is the likeliest, near ties decided in its favour."""
    lifted = scan.own.copy()
    lifted += SLACK
    level = (lifted == scan.top) & (labels < scan.leading)
    agrees: Bools = (scan.leading == labels) | (lifted > scan.top) | level
    return agrees


@dataclass(frozen=True, eq=False)
class _Asked:
    """Rows given one class, and the classes that some of them may rather be."""

    given: int
    rows: Ints
    columns: Ints


def _tables(source: Source, asked: list[_Asked]) -> Iterator[tuple[_Asked, Probabilities]]:
    """The probabilities that are asked for, as many given classes a pass as fit."""
    if source.random_access:
        for pair in asked:
            yield pair, source.take(pair.rows, pair.columns)
        return
    most = max(1, HELD_VALUES // max(1, source.classes))
    while asked:
        size = np.cumsum([pair.rows.size for pair in asked])
        group = asked[: max(1, int(np.searchsorted(size, most, side="right")))]
        asked = asked[len(group) :]
        every = np.concatenate([pair.rows for pair in group])
        order = np.argsort(every, kind="stable")
        held = source.take(every[order])
        place = np.empty(every.size, np.int64)
        place[order] = np.arange(every.size)
        start = 0
        for pair in group:
            yield pair, held[place[start : start + pair.rows.size]][:, pair.columns]
            start += pair.rows.size


def _picked(table: Probabilities, own: Probabilities, most: Ints) -> tuple[Bools, Ints]:
    """Doubtful rows among the `most[j]` largest margins of column j, and columns left open.

    Rows that are not doubtful lie behind all margins above `2 * SLACK`, so that doubtful rows
    alone settle a pair with enough of these and no tie at the cut.
    """
    rows, line = len(table), np.arange(most.size)
    if not rows:
        return np.zeros(0, bool), line
    margins = np.ascontiguousarray(table.T)
    margins -= own
    ordered = np.sort(margins, axis=1)
    fits = most <= rows
    cut = ordered[line, np.where(fits, rows - most, 0)]
    behind = np.where(most < rows, ordered[line, np.maximum(rows - most - 1, 0)], 2 * SLACK)
    settled = fits & (cut > 2 * SLACK) & (cut > behind)
    settled |= fits & (most == rows) & (cut > 2 * SLACK)
    ahead = margins[settled] >= cut[settled][:, None]
    return np.asarray(ahead.any(axis=0)), line[~settled]


def at_least(bar: Floats, kind: np.dtype[Any]) -> Probabilities:
    """The smallest numbers of a kind that reach a bar: compared in the numbers' own precision.

    Args:
        bar: float64, any shape.
        kind: A floating type.

    Returns:
        The same shape, of that type: x >= bar just when x >= the result, for x of the type.

    Example:
        >>> tight = at_least(np.array([0.1]), np.dtype(np.float32))
        >>> bool(tight[0] >= 0.1), bool(np.nextafter(tight[0], np.float32(0)) >= 0.1)
        (True, False)
    """
    near = bar.astype(kind)
    short = near.astype(np.float64) < bar
    near[short] = np.nextafter(near[short], np.array(np.inf, kind))
    return near


def prunable(joint: Ints) -> Ints:
    """How many rows of each (likely, given) pair to take, at least one row of a class kept.

    Args:
        joint: int64, shape (K, K): given label by likely label.

    Returns:
        int64, shape (K, K): likely label by given label.

    Example:
        >>> prunable(np.array([[2, 0], [1, 2]])).tolist()
        [[2, 1], [0, 2]]
    """
    counts = joint.T.astype(np.float64)
    kept = np.maximum(counts.diagonal(), 1.0)
    short = kept - counts.diagonal()
    others = np.maximum(np.count_nonzero(counts, axis=0) - 1.0, 1.0)
    counts = np.maximum(counts - short / others, 0.0)
    np.fill_diagonal(counts, kept)
    return rounded(np.trunc(counts))


def rounded(values: Floats) -> Ints:
    """Whole numbers with the same row sums: the largest remainders are moved.

    Args:
        values: float64, shape (K, K).

    Returns:
        int64, shape (K, K).

    Example:
        >>> rounded(np.array([[0.5, 0.5], [1.2, 1.8]])).tolist()
        [[0, 1], [1, 2]]
    """
    whole = values.round()
    totals = values.sum(1).round()
    for i in np.flatnonzero(np.abs(whole.sum(1) - totals) > SLACK):
        while abs(whole[i].sum() - totals[i]) > SLACK:
            missing = round(totals[i] - whole[i].sum())
            step = -1 if missing < 0 else 1
            order = np.argsort(values[i] - whole[i])[::-step]
            whole[i, order[: min(abs(missing), whole.shape[1])]] += step
    return whole.astype(np.int64)
