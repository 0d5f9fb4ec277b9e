# SPDX-License-Identifier: Apache-2.0
"""What a picture is made of, wherever in it that lies: frequencies, edges and tones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]

BINS = 8
"""Bands of frequency along each side."""
EDGES = (0.02, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5)
"""Steps of the Laplacian, in units of the range of all pixels."""
TONES = 8
FAINT = 1e-2
"""An amplitude below this says nothing, whatever its logarithm."""
BLOCK = 2048


def textures(pixels: Pixels, shape: tuple[int, int, int]) -> Pixels:
    """Describe each picture by what does not depend on where its parts lie.

    A warp blurs, a wave is a frequency, a patch that moves is an edge more: none of them adds the
    same to a pixel, each adds about the same to these. For each channel: log amplitudes of the
    Fourier transform in bands, shares of pixels whose Laplacian exceeds a step, and shares of
    pixels brighter than a tone.

    Args:
        pixels: float32, shape (n, h * w * c), channels last.
        shape: (h, w, c), h and w >= 3.

    Returns:
        float32, shape (n, d), columns of standard deviation 1; those that do not vary are left out.
    """
    low, high = float(pixels.min()), float(pixels.max())
    scale = (high - low) or 1.0
    parts = [
        _described((pixels[i : i + BLOCK].reshape(-1, *shape) - low) / scale)
        for i in range(0, len(pixels), BLOCK)
    ]
    made = np.concatenate(parts)
    spread = made.std(0)
    varies = spread > 0
    return np.ascontiguousarray(made[:, varies] / spread[varies])


def _described(pictures: Pixels) -> Pixels:
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


def _bands(channel: Pixels) -> Pixels:
    """Mean log amplitude in each band of frequencies, shape (n, bands)."""
    centred = channel - channel.mean((1, 2), keepdims=True)
    logs = np.log(np.abs(np.fft.rfft2(centred)) + FAINT)
    n, height, width = logs.shape
    down, across = (np.arange(s) * min(BINS, s) // s for s in (height, width))
    band = (down[:, None] * BINS + across).ravel()
    _, band = np.unique(band, return_inverse=True)
    weights = np.zeros((band.size, int(band.max()) + 1))
    weights[np.arange(band.size), band] = 1.0 / np.bincount(band)[band]
    return np.asarray(logs.reshape(n, -1) @ weights, np.float32)
