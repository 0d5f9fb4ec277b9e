# SPDX-License-Identifier: Apache-2.0
"""MinHash signatures, the candidates that share a band, and their exact resemblance."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.features.text import Hashes, Indices, Shingles, mixed

Cut = Callable[[pl.Series], Shingles]
"""Cuts texts into shingles."""

RECALL = 0.995
"""The chance to become a candidate that a pair exactly at the threshold must have."""
WINDOW = 32
"""Members of one bucket that are compared with each other; larger buckets are chained."""
CELLS = 32_768
"""Shingles hashed at a time: what stays in the cache."""
PAIR_CELLS = 2_000_000
"""Shingles of pairs compared at a time."""
DOCUMENTS = 16_384
"""Texts whose shingles are held at a time."""
PADDING = np.uint64(2**64 - 1)


def banding(threshold: float, permutations: int) -> tuple[int, int]:
    """Bands and rows a band: the longest rows with which a pair at the threshold is still found.

    Long rows propose few pairs in vain; a pair of resemblance s is proposed with probability
    1 - (1 - s**rows)**bands.
    """
    for rows in range(min(permutations, 32), 1, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= RECALL:
            return bands, rows
    return permutations, 1


def band_keys(
    texts: pl.Series, cut: Cut, shape: tuple[int, int], rng: np.random.Generator
) -> Hashes:
    """One 64-bit key for each text and band, uint64 of shape (n, bands)."""
    bands, rows = shape
    draws = rng.integers(0, 2**32, size=(2, bands * rows), dtype=np.uint32)
    factors, shifts = draws[0] | np.uint32(1), draws[1]
    weights = mixed(np.arange(1, rows + 1, dtype=np.uint64)) | np.uint64(1)
    keys = np.empty((len(texts), bands), np.uint64)
    for start in range(0, len(texts), DOCUMENTS):
        shingles = cut(texts[start : start + DOCUMENTS])
        signatures = _signatures(shingles, factors, shifts)
        parts = signatures.reshape(-1, bands, rows).astype(np.uint64)
        keys[start : start + DOCUMENTS] = mixed((parts * weights).sum(axis=2, dtype=np.uint64))
    return keys


def _signatures(
    shingles: Shingles, factors: NDArray[np.uint32], shifts: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    """The smallest hash of every text under every permutation.

    Texts of like length stand side by side in one array, so that the minimum over a text runs
    over whole vectors of texts.
    """
    counts, high = shingles.counts, (shingles.hashes >> np.uint64(32)).astype(np.uint32)
    order = np.argsort(counts, kind="stable")
    signatures = np.empty((counts.size, factors.size), np.uint32)
    for members in _alike(order, counts):
        width = int(counts[members[-1]])
        within = np.minimum(np.arange(width)[:, None], counts[members] - 1)  # the last one repeats
        values = high[shingles.offsets[members] + within]
        hashed = np.empty_like(values)
        for p, (factor, shift) in enumerate(zip(factors, shifts, strict=True)):
            np.multiply(values, factor, out=hashed)
            np.add(hashed, shift, out=hashed)
            signatures[members, p] = hashed.min(axis=0)
    return signatures


def _alike(order: Indices, counts: Indices) -> Iterator[Indices]:
    """Runs of texts, shortest first, whose padded shingles fill the cache."""
    start = 0
    while start < order.size:
        stop = min(order.size, start + max(1, CELLS // int(counts[order[start]])))
        widths = counts[order[start:stop]] * np.arange(1, stop - start + 1)
        stop = start + max(1, int(np.searchsorted(widths, CELLS, side="right")))
        yield order[start:stop]
        start = stop


def candidates(keys: Hashes) -> tuple[Indices, Indices]:
    """Pairs of texts that share a band, each once, the smaller position first."""
    n = len(keys)
    found = [np.empty(0, np.int64)]
    for band in range(keys.shape[1]):
        order = np.argsort(keys[:, band], kind="stable")
        ordered = keys[order, band]
        for step in range(1, WINDOW + 1):
            equal = ordered[step:] == ordered[:-step]
            if not equal.any():
                break
            found.append(order[:-step][equal] * n + order[step:][equal])
    pairs = np.sort(np.concatenate(found))  # np.unique hashes large numbers, at ten times the cost
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    return pairs // max(n, 1), pairs % max(n, 1)


def resemblance(texts: pl.Series, left: Indices, right: Indices, cut: Cut) -> NDArray[np.float64]:
    """The exact Jaccard resemblance of the shingle sets of pairs of texts, shape (m,)."""
    used, places = np.unique(np.concatenate([left, right]), return_inverse=True)
    shingles = cut(texts.gather(used))
    a, b = places[: left.size], places[left.size :]
    widths = shingles.counts[a] + shingles.counts[b]
    order = np.argsort(widths, kind="stable")
    made = np.empty(left.size, np.float64)
    start = 0
    while start < order.size:
        step = max(1, PAIR_CELLS // int(widths[order[min(start + 1023, order.size - 1)]]))
        some = order[start : start + min(step, 1024)]
        made[some] = _jaccard(_sets(shingles, a[some]), _sets(shingles, b[some]))
        start += some.size
    return made


def _sets(shingles: Shingles, members: Indices) -> Hashes:
    """The shingles of some texts, one row each, repeats and the space behind blotted out."""
    counts = shingles.counts[members]
    width = int(counts.max(initial=1))
    within = np.minimum(np.arange(width), counts[:, None] - 1)
    rows = np.sort(shingles.hashes[shingles.offsets[members][:, None] + within], axis=1)
    rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = PADDING
    return rows


def _jaccard(left: Hashes, right: Hashes) -> NDArray[np.float64]:
    both = np.sort(np.concatenate([left, right], axis=1), axis=1)
    shared = ((both[:, 1:] == both[:, :-1]) & (both[:, 1:] != PADDING)).sum(axis=1)
    total = (left != PADDING).sum(axis=1) + (right != PADDING).sum(axis=1)
    return np.asarray(shared / np.maximum(total - shared, 1), np.float64)
