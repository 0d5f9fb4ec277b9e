# SPDX-License-Identifier: Apache-2.0
"""Principal components of some rows of pixels, of which a few at a time are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.measure.neighbours import WIDE, Components
from datapipe.stages.poisoning._image.pixels import Pixels

Thin = NDArray[np.float32]
Ints = NDArray[np.int64]

BESIDE, POWERS = 10, 2
"""Directions drawn beside those asked for, and power iterations: slow spectra need them."""


def principal_of(
    pixels: Pixels,
    rows: Ints,
    dims: int,
    rng: np.random.Generator,
    without: Thin | None = None,
) -> Components:
    """What `principal` makes of some rows, with none of them copied out.

    Of bytes a copy, and blocks of it as floats, would take as much as half of the data.

    Args:
        pixels: Shape (n, d).
        rows: Numbers of rows, one or more.
        dims: How many components at most.
        rng: Draws the random projection.
        without: A direction of length one, shape (d,), that rows are read less of; None for none.

    References:
        Halko, Martinsson & Tropp, 2011, Finding structure with randomness.
    """
    read = _Read(pixels, rows, without)
    keep = min(dims, rows.size, read.width)
    if read.width <= WIDE:
        spread = sum(block.T @ block for block in read.centred())
        variances, axes = np.linalg.eigh(np.asarray(spread, np.float64))
        axes, variances = axes.T[::-1][:keep], variances[::-1][:keep]
    else:
        basis = rng.normal(size=(read.width, min(keep + BESIDE, read.width))).astype(np.float32)
        for _ in range(POWERS):
            basis = read.back(np.linalg.qr(read.along(basis))[0])
        basis = np.linalg.qr(read.along(basis))[0]
        _, sizes, axes = np.linalg.svd(read.back(basis).T, full_matrices=False)
        axes, variances = axes[:keep], sizes[:keep] ** 2
    strongest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
    axes = axes * np.where(strongest < 0, -1.0, 1.0)
    variances = np.maximum(variances, 0.0) / max(rows.size - 1, 1)
    return Components(read.mean, axes.astype(np.float32), variances.astype(np.float32))


@dataclass(eq=False)
class _Read:
    """Some rows less a direction and their mean, block by block."""

    pixels: Pixels
    rows: Ints
    without: Thin | None

    def __post_init__(self) -> None:
        self.width = self.pixels.shape[1]
        sums = sum(block.sum(0, dtype=np.float64) for block in self._blocks())
        self.mean = np.asarray(sums / self.rows.size, np.float32)

    def _blocks(self) -> Iterator[Thin]:
        for _, block in self.pixels.blocks(self.rows):
            if self.without is None:
                yield block
            else:
                yield block - np.outer(block @ self.without, self.without)

    def centred(self) -> Iterator[Thin]:
        for block in self._blocks():
            yield block - self.mean

    def along(self, basis: Thin) -> Thin:
        """All rows along each column of a basis: shape (rows, columns)."""
        made, start = np.empty((self.rows.size, basis.shape[1]), np.float32), 0
        for block in self.centred():
            np.matmul(block, basis, out=made[start : start + len(block)])
            start += len(block)
        return made

    def back(self, sketch: Thin) -> Thin:
        """What rows add up to with the weights of each column: shape (d, columns)."""
        made, start = np.zeros((self.width, sketch.shape[1]), np.float32), 0
        for block in self.centred():
            made += block.T @ sketch[start : start + len(block)]
            start += len(block)
        return made
