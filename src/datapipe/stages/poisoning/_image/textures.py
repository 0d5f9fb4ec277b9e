# SPDX-License-Identifier: Apache-2.0
"""What a picture is made of, wherever in it that lies: frequencies, edges and tones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._image.axes import principal_of
from datapipe.stages.poisoning._image.pixels import Pixels

Thin = NDArray[np.float32]

BINS = 8
"""Bands of frequency along each side."""
EDGES = (0.02, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5)
"""Steps of the Laplacian, in units of the range of all pixels."""
TONES = tuple(t / 8 for t in range(1, 8))
SHADES = (*TONES, 0.0, 0.02, 0.04, 0.08, 0.92, 0.96, 0.98)
"""Tones, and more of them towards both ends: paper, ink and light stand there."""
COMPONENT_BANDS = (0, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Bands of principal components, the larger the further: edges."""
MOST_TELLING = 3000
"""Rows, evenly spread, that tell the components."""
ROUNDED = 1e-4
"""Bands of less energy than this share of all are left out: the rounding of numbers is some."""
FAINT = 1e-2
"""An amplitude below this says nothing, whatever its logarithm."""


def textures(pixels: Pixels, shape: tuple[int, int, int]) -> Iterator[Pixels]:
    """Describe each picture by what does not depend on where its parts lie.

    A warp blurs, a wave is a frequency, a patch that moves is an edge more: none of them adds the
    same to a pixel, each adds about the same to these. For each channel: log amplitudes of the
    Fourier transform in bands, shares of pixels whose Laplacian exceeds a step, and shares of
    pixels brighter than a tone; then the tones alone, and more of them, of all channels together.

    Args:
        pixels: Shape (n, h * w * c), channels last.
        shape: (h, w, c), h and w >= 3.

    Yields:
        Shape (n, d), columns of standard deviation 1; those that do not vary are left out.
    """
    made = _of_all(pixels, lambda block: _described(block.reshape(-1, *shape)))
    made = made.reshape(len(made), shape[2], -1)
    every = made[:, :, -len(SHADES) :].mean(1)
    yield _even(made[:, :, : len(TONES) - len(SHADES)].reshape(len(made), -1))
    yield _even(every)


def tones(pixels: Pixels) -> Iterator[Pixels]:
    """Describe each row by what does not depend on the order of its pixels.

    How many are how dark, and how much of the row lies along which principal components: these are
    to pixels in any order what frequencies are to a picture. A wave, a change of contrast and fewer
    grey levels move the first, a warp, which blurs, both, whatever they do to a pixel.

    Args:
        pixels: Shape (n, d).

    Yields:
        Shape (n, m), columns of standard deviation 1; those that do not vary are left out.
    """
    shades = _of_all(pixels, lambda block: _above(block, SHADES))
    yield _even(np.concatenate([shades, _spectrum(pixels)], axis=1))


def _spectrum(pixels: Pixels) -> Thin:
    """Log energy of each row along bands of principal components, and of what these leave over."""
    telling = np.arange(0, len(pixels), max(1, len(pixels) // MOST_TELLING))
    rng = np.random.default_rng(pixels.shape[1])
    found = principal_of(pixels, telling, COMPONENT_BANDS[-1], rng)
    edges = [e for e in COMPONENT_BANDS if e < len(found.axes)] + [len(found.axes)]
    along = pixels.project(found.axes.T) - found.mean @ found.axes.T
    every = np.concatenate([((b - found.mean) ** 2).sum(1) for _, b in pixels.blocks()])
    parts = [(along[:, i:j] ** 2).sum(1) for i, j in pairwise(edges)]
    parts.append(np.maximum(every - sum(parts), 0.0))
    made = np.stack(parts, axis=1)
    made = made[:, made.mean(0) > ROUNDED * every.mean()]
    return np.asarray(np.log(made + FAINT * made.mean(0)), np.float32)


def _of_all(pixels: Pixels, described: Callable[[Thin], Thin]) -> Thin:
    """What a description makes of rows in [0, 1], block by block."""
    low, high = pixels.range()
    scale = (high - low) or 1.0
    made = np.empty((len(pixels), 0), np.float32)
    for rows, block in pixels.blocks():
        part = described((block - low) / scale)
        if rows[0] == 0:
            made = np.empty((len(pixels), part.shape[1]), np.float32)
        made[rows] = part
    return made


def _even(made: Thin) -> Pixels:
    """Columns that vary, each by its spread."""
    spread = np.array([column.std() for column in made.T])
    varies = np.flatnonzero(spread > 0)
    if varies.size < spread.size:
        made = made[:, varies]
    return Pixels(made / spread[varies])


def _described(pictures: Thin) -> Thin:
    """Pictures in [0, 1], shape (n, h, w, c), as rows of numbers, one channel after the other."""
    parts = []
    for channel in np.moveaxis(pictures, 3, 0):
        parts.append(_bands(channel))
        inner = channel[:, 1:-1, 1:-1]
        around = channel[:, :-2, 1:-1] + channel[:, 2:, 1:-1]
        around += channel[:, 1:-1, :-2] + channel[:, 1:-1, 2:]
        steep = np.abs(4.0 * inner - around).reshape(len(inner), -1)
        parts += [_above(steep, EDGES), _above(channel.reshape(len(channel), -1), SHADES)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _above(rows: Thin, levels: tuple[float, ...]) -> Thin:
    """The share of each row's numbers that lie above each level, shape (n, levels)."""
    bits = (np.packbits(rows > level, axis=1) for level in levels)
    counts = [np.bitwise_count(b).sum(1, dtype=np.float32) for b in bits]
    return np.asarray(np.stack(counts, axis=1) / rows.shape[1], np.float32)


def _bands(channel: Thin) -> Thin:
    """Mean log amplitude in each band of frequencies, shape (n, bands)."""
    centred = channel - channel.mean((1, 2), keepdims=True)
    logs = np.log(np.abs(np.fft.rfft2(centred)) + FAINT)
    n, height, width = logs.shape
    down, across = (np.arange(s) * min(BINS, s) // s for s in (height, width))
    band = (down[:, None] * BINS + across).ravel()
    _, band = np.unique(band, return_inverse=True)
    weights = np.zeros((band.size, int(band.max()) + 1), np.float32)
    weights[np.arange(band.size), band] = 1.0 / np.bincount(band)[band]
    return np.asarray(logs.reshape(n, -1) @ weights, np.float32)
