# SPDX-License-Identifier: Apache-2.0
"""Rows of numbers, kept as they came and read as 32-bit floats a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Thin = NDArray[np.float32]
Ints = NDArray[np.int64]
Stored = NDArray[np.float32] | NDArray[np.uint8]

BLOCK_BYTES = 2**18
"""About what a block takes as 32-bit floats."""
SAMPLED = 20_000
"""Values that are looked at to tell pixels from embeddings."""
GOLDEN = 0.6180339887498949
"""Multiples of it, modulo one, lie evenly, however many are taken (Weyl)."""
DIFFERENT = 0.25
"""The least share of different ones among embeddings; half floats have some third, bytes a
hundredth."""
AT_AN_END = 0.002
"""The largest share at the rarer end of the range among embeddings: of those of a network in bytes
at most a thousandth, of digits a hundredth and more."""
FEWEST_VALUES = 16
"""Of fewer different values an end says nothing."""
MOST_PIXELS = 1024
"""Larger images are hashed to this many columns before the filter."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pixels of each row: bytes or 32-bit floats, shape (n, d), with rows `added` behind them.

    All of them as floats would take as much as the data themselves, or four times as much.
    """

    stored: Stored
    added: Stored | None = None

    @property
    def shape(self) -> tuple[int, int]:
        more = 0 if self.added is None else len(self.added)
        return len(self.stored) + more, self.stored.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, rows: Ints) -> Thin:
        """Some rows, shape (rows, d)."""
        return self._read(rows, slice(None))

    def cells(self, rows: Ints, columns: Ints) -> Thin:
        """Some columns of some rows, shape (rows, columns)."""
        return self._read(rows[:, None], columns)

    def blocks(
        self, rows: Ints | None = None, size_bytes: int = BLOCK_BYTES
    ) -> Iterator[tuple[Ints, Thin]]:
        """All rows, or some, block by block: their numbers and pixels."""
        step = max(1, size_bytes // (4 * max(1, self.shape[1])))
        every = np.arange(len(self)) if rows is None else rows
        for start in range(0, every.size, step):
            mine = every[start : start + step]
            if rows is None and self.added is None:
                yield mine, np.asarray(self.stored[start : start + step], np.float32)
            else:
                yield mine, self.take(mine)

    def project(self, weights: NDArray[np.floating], rows: Ints | None = None) -> Thin:
        """All rows, or some, along each of some weights (d, m): shape (n, m)."""
        thin = np.asarray(weights, np.float32)
        made = np.empty((len(self) if rows is None else rows.size, thin.shape[1]), np.float32)
        start = 0
        for mine, block in self.blocks(rows):
            np.matmul(block, thin, out=made[start : start + mine.size])
            start += mine.size
        return made

    def range(self) -> tuple[float, float]:
        """The least and the largest of all."""
        if not self.stored.size:  # no rows, or images without a pixel
            return 0.0, 0.0
        return float(self.stored.min()), float(self.stored.max())

    def spread(self, most: int) -> Thin:
        """Single values of all rows and columns, evenly spread: as many as there are, or `most`.

        Whole rows would be few: a dozen images may have no white in them, where others do.
        """
        count = min(most, len(self) * self.shape[1])
        rows = np.arange(count) * len(self) // max(count, 1)
        columns = (np.arange(count) * GOLDEN % 1.0 * self.shape[1]).astype(np.int64)
        return self._read(rows, columns)

    def only(self, rows: Ints) -> Pixels:
        """Some rows; the same where they are all in order."""
        if np.array_equal(rows, np.arange(len(self))):
            return self
        return Pixels(self.stored[rows])

    def with_more(self, rows: Thin) -> Pixels:
        """With rows behind all others; what is stored as bytes, they are in bytes."""
        if self.stored.dtype == np.uint8:
            return replace(self, added=rows.round().clip(0, 255).astype(np.uint8))
        return replace(self, added=rows)

    def _read(self, rows: Ints, columns: slice | Ints) -> Thin:
        if self.added is None:
            return np.asarray(self.stored[rows, columns], np.float32)
        own = len(self.stored)
        made = np.asarray(self.stored[np.minimum(rows, own - 1), columns], np.float32)
        late = rows.ravel() >= own
        if late.any():
            behind = rows.ravel()[late] - own
            made[late] = self.added[:, columns][behind]
        return made


def embedded(pixels: Pixels) -> bool:
    """Whether rows are embeddings, of which a patch moves all columns, each a little.

    Nearly every value is another one, or were they rounded or put in bytes, hardly one stands at an
    end of the range: paper, ink and light do in most pictures.
    """
    values, often = np.unique(pixels.spread(SAMPLED), return_counts=True)
    if values.size < FEWEST_VALUES:
        return False
    usual = int(often.max())  # a zero, in what a network has passed on
    return bool(
        values.size - 1 > DIFFERENT * (often.sum() - usual)
        or min(often[0], often[-1]) - 1 < AT_AN_END * often.sum()
    )


def some(rows: Ints, most: int) -> Ints:
    """Some of many rows, evenly spread among them."""
    return rows if rows.size <= most else rows[np.linspace(0, rows.size - 1, most).astype(np.int64)]


@dataclass(frozen=True, eq=False)
class Columns:
    """What filters see: the pixels, or of very wide images random sums, which keep distances."""

    sides: NDArray[np.float32] | None

    @classmethod
    def drawn(cls, pixels: Pixels, rng: np.random.Generator) -> Columns:
        width = pixels.shape[1]
        if width <= MOST_PIXELS:
            return cls(None)
        signs = np.where(rng.random((width, MOST_PIXELS)) < 0.5, -1.0, 1.0)
        return cls((signs / np.sqrt(MOST_PIXELS)).astype(np.float32))

    def of(self, pixels: Pixels) -> Pixels:
        return pixels if self.sides is None else Pixels(pixels.project(self.sides))

    def seen(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows if self.sides is None else rows @ self.sides
