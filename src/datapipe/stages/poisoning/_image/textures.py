# SPDX-License-Identifier: Apache-2.0
"""What a picture is made of, wherever in it that lies: frequencies, edges and tones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._image.pixels import Pixels

Thin = NDArray[np.float32]

BINS = 8
"""Bands of frequency along each side."""
EDGES = (0.02, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5)
"""Steps of the Laplacian, in units of the range of all pixels."""
TONES = 8
FAINT = 1e-2
"""An amplitude below this says nothing, whatever its logarithm."""


def textures(pixels: Pixels, shape: tuple[int, int, int]) -> Pixels:
    """Describe each picture by what does not depend on where its parts lie.

    A warp blurs, a wave is a frequency, a patch that moves is an edge more: none of them adds the
    same to a pixel, each adds about the same to these. For each channel: log amplitudes of the
    Fourier transform in bands, shares of pixels whose Laplacian exceeds a step, and shares of
    pixels brighter than a tone.

    Args:
        pixels: Shape (n, h * w * c), channels last.
        shape: (h, w, c), h and w >= 3.

    Returns:
        Shape (n, d), columns of standard deviation 1; those that do not vary are left out.
    """
    low, high = pixels.range()
    scale = (high - low) or 1.0
    made = np.empty((len(pixels), 0), np.float32)
    for rows, block in pixels.blocks():
        part = _described((block.reshape(-1, *shape) - low) / scale)
        if rows[0] == 0:
            made = np.empty((len(pixels), part.shape[1]), np.float32)
        made[rows] = part
    spread = np.array([column.std() for column in made.T])
    varies = np.flatnonzero(spread > 0)
    if varies.size < spread.size:
        made = made[:, varies]
    made /= spread[varies]
    return Pixels(made)


def _described(pictures: Thin) -> Thin:
    """Pictures in [0, 1], shape (n, h, w, c), as rows of numbers."""
    parts = []
    for channel in np.moveaxis(pictures, 3, 0):
        parts.append(_bands(channel))
        inner = channel[:, 1:-1, 1:-1]
        around = channel[:, :-2, 1:-1] + channel[:, 2:, 1:-1]
        around += channel[:, 1:-1, :-2] + channel[:, 1:-1, 2:]
        steep = np.abs(4.0 * inner - around)
        parts += [(steep > step).mean((1, 2))[:, None] for step in EDGES]
        parts += [(channel > t / TONES).mean((1, 2))[:, None] for t in range(1, TONES)]
    return np.concatenate(parts, axis=1).astype(np.float32)


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
