# SPDX-License-Identifier: Apache-2.0
"""Where the probabilities of labelled rows lie: in memory, or read anew for every pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from datapipe.errors import DeclarationError

Ints = NDArray[np.int64]
Probabilities = NDArray[np.floating[Any]]

BLOCK_VALUES = 2**18
"""Probabilities looked at together: they stay in the cache between operations."""
FEW = 8
"""One class in so many, or fewer, is picked out of rows rather than copied with them."""


class Source(Protocol):
    """Labels in memory and probabilities that can be gone through more than once.

    Example:
        >>> hasattr(InMemory(np.array([0]), np.array([[1.0]])), "blocks")
        True
    """

    labels: Ints
    classes: int

    def blocks(self) -> Iterator[tuple[slice, Probabilities]]:
        """The probabilities in row order, some rows at a time.

        Returns:
            Which rows, and their probabilities of shape (rows, K).

        Example:
            >>> len(list(InMemory(np.array([0]), np.array([[1.0]])).blocks()))
            1
        """
        ...

    def take(self, rows: Ints, columns: Ints | None = None) -> Probabilities:
        """The probabilities of some rows.

        Args:
            rows: int64, shape (m,), rising.
            columns: int64, shape (c,): the classes that are wanted; None for all.

        Returns:
            Shape (m, K) or (m, c).

        Example:
            >>> InMemory(np.array([0]), np.array([[1.0]])).take(np.array([0])).tolist()
            [[1.0]]
        """
        ...

    @property
    def random_access(self) -> bool:
        """Whether taking rows costs no pass over the others."""
        ...


class InMemory:
    """Probabilities in one array.

    Args:
        labels: int, shape (n,), in 0..K-1.
        probabilities: float, shape (n, K).

    Raises:
        DeclarationError: The shapes do not fit, a label lies outside the columns, or a probability
            is not finite.

    Example:
        >>> InMemory(np.array([0, 1]), np.eye(2)).classes
        2
    """

    random_access = True

    def __init__(self, labels: Ints, probabilities: Probabilities) -> None:
        if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
            raise DeclarationError(
                f"{probabilities.shape} probabilities and {labels.size} labels do not fit",
                hint="give one row of probabilities a label",
            )
        self.labels = labels
        self.classes = probabilities.shape[1]
        self._values = probabilities
        checked_labels(labels, self.classes)

    def blocks(self) -> Iterator[tuple[slice, Probabilities]]:
        """The probabilities in row order, some rows at a time.

        Yields:
            Which rows, and a view of their probabilities.

        Example:
            >>> next(InMemory(np.array([0]), np.array([[1.0]])).blocks())[0]
            slice(0, 1, None)
        """
        step = max(1, BLOCK_VALUES // max(1, self.classes))
        for start in range(0, self.labels.size, step):
            rows = slice(start, min(start + step, self.labels.size))
            yield rows, self._values[rows]

    def take(self, rows: Ints, columns: Ints | None = None) -> Probabilities:
        """The probabilities of some rows.

        Args:
            rows: int64, shape (m,).
            columns: int64, shape (c,): the classes that are wanted; None for all.

        Returns:
            Shape (m, K) or (m, c), a copy.

        Example:
            >>> InMemory(np.array([0]), np.array([[1.0]])).take(np.array([0])).shape
            (1, 1)
        """
        if columns is None:
            return self._values[rows]
        if columns.size * FEW <= self.classes:
            return self._values[rows[:, None], columns]
        return self._values[rows][:, columns]


class Streamed:
    """Probabilities that are read anew for every pass.

    Args:
        labels: int, shape (n,), in 0..K-1.
        classes: K.
        read: Gives an iterator over the rows' probabilities in order, arrays of shape (some, K).

    Raises:
        DeclarationError: A label lies outside the columns.

    Example:
        >>> source = Streamed(np.array([0, 1]), 2, lambda: iter([np.eye(2)]))
        >>> source.take(np.array([1])).tolist()
        [[0.0, 1.0]]
    """

    random_access = False

    def __init__(
        self, labels: Ints, classes: int, read: Callable[[], Iterator[Probabilities]]
    ) -> None:
        checked_labels(labels, classes)
        self.labels = labels
        self.classes = classes
        self._read = read

    def blocks(self) -> Iterator[tuple[slice, Probabilities]]:
        """The probabilities in row order, as they are read.

        Yields:
            Which rows, and their probabilities.

        Raises:
            DeclarationError: There are more or fewer rows than labels, or of another width.

        Example:
            >>> source = Streamed(np.array([0, 1]), 2, lambda: iter([np.eye(2)]))
            >>> [rows for rows, _ in source.blocks()]
            [slice(0, 2, None)]
        """
        step, start = max(1, BLOCK_VALUES // max(1, self.classes)), 0
        for part in self._read():
            if part.ndim != 2 or part.shape[1] != self.classes:
                raise DeclarationError(f"{part.shape} probabilities for {self.classes} classes")
            if start + len(part) > self.labels.size:
                break
            for first in range(0, len(part), step):
                some = part[first : first + step]
                yield slice(start + first, start + first + len(some)), some
            start += len(part)
        else:
            if start == self.labels.size:
                return
        raise DeclarationError(
            f"{self.labels.size} labels, but not as many rows of probabilities",
            hint="give one row of probabilities a label",
        )

    def take(self, rows: Ints, columns: Ints | None = None) -> Probabilities:
        """The probabilities of some rows, in one pass.

        Args:
            rows: int64, shape (m,), rising.
            columns: int64, shape (c,): the classes that are wanted; None for all.

        Returns:
            Shape (m, K) or (m, c).

        Example:
            >>> source = Streamed(np.array([0, 1]), 2, lambda: iter([np.eye(2)]))
            >>> source.take(np.array([0])).tolist()
            [[1.0, 0.0]]
        """
        made: Probabilities = np.empty((0, self.classes))
        for span, block in self.blocks():
            if made.size == 0:
                made = np.empty((rows.size, self.classes), block.dtype)
            low, high = np.searchsorted(rows, (span.start, span.stop))
            made[low:high] = block[rows[low:high] - span.start]
        return made if columns is None else made[:, columns]


def checked_labels(labels: Ints, classes: int) -> None:
    """Refuse labels that name no column.

    Args:
        labels: int, shape (n,).
        classes: K.

    Raises:
        DeclarationError: A label lies outside 0..K-1.

    Example:
        >>> checked_labels(np.array([0, 1]), 2)
    """
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DeclarationError(
            f"a label lies outside the {classes} columns of probabilities",
            hint="number the classes from 0 in the order of the columns",
        )
