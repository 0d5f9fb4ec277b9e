# SPDX-License-Identifier: Apache-2.0
"""Keyed green lists: which tokens a watermarking sampler favours after which context."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.features.text import mixed
from datapipe.measure.detection import binomial_tail

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

ODD = np.uint64(0x9E37_79B9_7F4A_7C15)
SHARED = 0.05
"""A pair in more than this share of the texts is left out: with one key it is green in all of them
or in none, and would shift every count alike."""
LEAST_TEXTS = 40


def green(key: bytes, context: Hashes, token: Hashes, *, gamma: float) -> Bools:
    """Whether each token is on the green list of its context.

    A sampler that knows the key adds to the odds of green tokens; without it every pair is green
    with chance `gamma`.

    Args:
        key: The secret, any bytes.
        context: uint64; a number or hash of what stands before each token.
        token: uint64, the same shape; a number or hash of each token.
        gamma: Share of the vocabulary that is green, in (0, 1).

    Returns:
        bool, the same shape.

    References:
        Kirchenbauer et al., 2023, A watermark for large language models.
    """
    first, second = _seeds(key)
    drawn = mixed(mixed(mixed(context ^ first) * ODD + token) ^ second)
    return np.asarray(drawn < np.uint64(min(int(gamma * 2.0**64), 2**64 - 1)), np.bool_)


def _seeds(key: bytes) -> tuple[np.uint64, np.uint64]:
    raw = hashlib.sha256(b"datapipe green list" + key).digest()
    return np.uint64(int.from_bytes(raw[:8], "big")), np.uint64(int.from_bytes(raw[8:16], "big"))


def unique_pairs(tokens: Hashes, rows: Ints, width: int) -> tuple[Hashes, Hashes, Ints]:
    """Each text's distinct pairs of context and token: repeats tell nothing new.

    Args:
        tokens: uint64, shape (m,); the tokens of all texts in reading order.
        rows: int64, shape (m,); the text of each token, ascending.
        width: Tokens in a context, >= 1.

    Returns:
        Context, token and text of each pair that is left.
    """
    if tokens.size <= width:
        return tokens[:0], tokens[:0], rows[:0]
    context = np.zeros(tokens.size - width, np.uint64)
    for step in range(width):
        context = mixed(context * ODD + tokens[step : tokens.size - width + step])
    token, row = tokens[width:], rows[width:]
    within = rows[:-width] == row
    frame = pl.DataFrame({"c": context[within], "t": token[within], "r": row[within]})
    frame = frame.unique(maintain_order=True)
    texts = frame["r"].n_unique()
    if texts >= LEAST_TEXTS:
        often = pl.len().over("c", "t") > max(2, int(SHARED * texts))
        frame = frame.filter(~often)
    return frame["c"].to_numpy(), frame["t"].to_numpy(), frame["r"].to_numpy()


def tail(hits: int, n: int, gamma: float) -> float:
    """The exact chance of so many green pairs or more without the key."""
    return _tail(hits, n, gamma) if n and hits else 1.0


@lru_cache(maxsize=1 << 16)
def _tail(hits: int, n: int, gamma: float) -> float:
    return min(1.0, max(0.0, float(binomial_tail(hits, n, gamma))))
