# SPDX-License-Identifier: Apache-2.0
"""Texts into a fixed number of columns, by hashing their words."""

from __future__ import annotations

import zlib

import numpy as np
import polars as pl
from numpy.typing import NDArray

WORD = r"[\p{L}\p{N}_']+|[^\s\p{L}\p{N}_']"
"""What counts as a word: letters and digits, or one other sign."""


def hashed_tfidf(texts: pl.Series, *, dims: int = 1024) -> NDArray[np.float32]:
    """TF-IDF weights of the words of each text, hashed with signs into a few columns.

    Signs keep the expected dot product of two texts equal to that of their full TF-IDF vectors, so
    that no vocabulary has to be kept. CRC-32 is the hash because it is the same everywhere.

    Args:
        texts: Strings, shape (n,); null reads as empty.
        dims: How many columns, >= 2.

    Returns:
        float32, shape (n, dims); rows of length 1, or all 0 for a text without words.

    Example:
        >>> made = hashed_tfidf(pl.Series(["a good film", "a bad film", ""]), dims=32)
        >>> made.shape, np.round(np.linalg.norm(made, axis=1), 3).tolist()
        ((3, 32), [1.0, 1.0, 0.0])

    References:
        Weinberger et al., 2009, Feature hashing for large scale multitask learning.
    """
    n = len(texts)
    words = (
        pl.DataFrame({"row": np.arange(n), "word": texts.cast(pl.String).fill_null("")})
        .with_columns(pl.col("word").str.to_lowercase().str.extract_all(WORD))
        .explode("word")
        .drop_nulls()
    )
    counts = words.group_by("row", "word", maintain_order=True).len("tf")
    spread = counts.group_by("word", maintain_order=True).len("df")
    crcs = np.array([zlib.crc32(w.encode()) for w in spread["word"]], np.uint32)
    hashes = _mixed(crcs)
    spread = spread.with_columns(
        pl.Series("column", (hashes >> np.uint32(8)) % np.uint32(dims), dtype=pl.UInt32),
        pl.Series("weight", np.where(hashes >> np.uint32(31), 1.0, -1.0))
        * (np.log((1.0 + n) / (1.0 + spread["df"].to_numpy())) + 1.0),
    )
    joined = counts.join(spread, on="word", how="left", maintain_order="left")
    flat = joined["row"].to_numpy() * dims + joined["column"].to_numpy()
    weights = (1.0 + np.log(joined["tf"].to_numpy())) * joined["weight"].to_numpy()
    values = np.bincount(flat, weights, minlength=n * dims).reshape(n, dims)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return (values / np.where(norms > 0, norms, 1.0)).astype(np.float32)


def _mixed(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """MurmurHash3's last step: CRC-32 alone is linear, so that alike words would share columns."""
    mixed: NDArray[np.uint32] = hashes ^ (hashes >> np.uint32(16))
    mixed = mixed * np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed = mixed * np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed
