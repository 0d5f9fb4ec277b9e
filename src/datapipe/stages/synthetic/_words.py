# SPDX-License-Identifier: Apache-2.0
"""Words as hashes that are the same with every version of every library."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.features.text import character_shingles

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

TERM = r"[\p{L}\p{M}']+|\p{N}+|[^\p{L}\p{M}\p{N}\s]"
"""A word, a number or one other sign."""
WORD = r"[\p{L}\p{M}']+"
RADIX = np.uint64(0x9E37_79B9_7F4A_7C15)
LONGEST = 64
"""Characters of a word that count."""


def word_hashes(texts: pl.Series) -> tuple[Hashes, Ints]:
    """The hash of every word in reading order, without numbers and signs, and its text."""
    frame = (
        pl.DataFrame({"row": np.arange(len(texts)), "token": texts.str.to_lowercase()})
        .with_columns(pl.col("token").str.extract_all(WORD))
        .explode("token", empty_as_null=True, keep_nulls=True)
        .drop_nulls()
    )
    kinds = frame.select("token").unique(maintain_order=True)
    kinds = kinds.with_columns(word=hashed(kinds["token"]))
    told = frame.join(kinds, on="token", how="left", maintain_order="left")
    return told["word"].to_numpy(), told["row"].to_numpy()


def hashed(tokens: pl.Series) -> Hashes:
    """One hash for each token; ours, so that it is the same with every version of polars."""
    made = character_shingles(tokens, size=LONGEST)
    first = np.minimum(made.offsets[:-1], max(made.hashes.size - 1, 0))
    return made.hashes[first] if made.hashes.size else np.zeros(len(tokens), np.uint64)
