# SPDX-License-Identifier: Apache-2.0
"""Texts as hashed n-grams of three kinds: characters, words, and words stripped of their topic.

Nothing is learnt here, so that every batch of a stream is coded alike and memory is bounded by the
number of buckets.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import scipy.sparse as sp  # type: ignore[import-untyped]  # it ships no types
from numpy.typing import NDArray

from datapipe.features.text import character_shingles, mixed
from datapipe.stages.synthetic._style import FUNCTION_WORDS
from datapipe.stages.synthetic._words import RADIX, TERM, hashed

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

BUCKETS = 1 << 15
CHARACTERS = (2, 3, 4)
MOST_TIMES = 64.0
"""More repeats of an n-gram than this in one text add nothing."""


def coded(texts: pl.Series) -> tuple[sp.csr_array, ...]:
    """How often each hashed n-gram occurs in each text.

    Args:
        texts: Strings as `window` gives them, shape (n,).

    Returns:
        Three sparse matrices of float64, shape (n, BUCKETS): characters, words, bare words.
    """
    lower = texts.str.to_lowercase()
    n = len(texts)
    words, bare, rows = _tokens(texts)
    return (
        _counted([_characters(lower, size) for size in CHARACTERS], n),
        _counted([_runs(words, rows, size) for size in (1, 2)], n),
        _counted([_runs(bare, rows, size) for size in (1, 2, 3)], n),
    )


def _characters(texts: pl.Series, size: int) -> tuple[Ints, Hashes]:
    made = character_shingles(texts, size=size)
    return np.repeat(np.arange(len(texts)), made.counts), made.hashes


def _tokens(texts: pl.Series) -> tuple[Hashes, Hashes, Ints]:
    """The hash of every token, that of its bare form, and the text it stands in."""
    frame = (
        pl.DataFrame({"row": np.arange(len(texts)), "token": texts.str.extract_all(TERM)})
        .explode("token", empty_as_null=True, keep_nulls=True)
        .drop_nulls()
    )
    kinds = frame.select("token").unique(maintain_order=True)
    kinds = kinds.with_columns(
        word=hashed(kinds["token"].str.to_lowercase()), bare=hashed(_stripped(kinds["token"]))
    )
    told = frame.join(kinds, on="token", how="left", maintain_order="left")
    return told["word"].to_numpy(), told["bare"].to_numpy(), told["row"].to_numpy()


def _stripped(tokens: pl.Series) -> pl.Series:
    """A word as its capital, length and ending; function words and signs as they are."""
    lower, token = tokens.str.to_lowercase(), pl.col("t")
    kind = pl.when(token.str.contains(r"^\p{Lu}")).then(pl.lit("C")).otherwise(pl.lit("w"))
    length = (token.str.len_chars() // 3).clip(0, 3).cast(pl.String)
    return pl.DataFrame({"t": tokens, "l": lower}).select(
        pl.when(pl.col("l").is_in(FUNCTION_WORDS))
        .then(pl.col("l"))
        .when(token.str.contains(r"^\p{N}"))
        .then(pl.lit("#"))
        .when(token.str.contains(r"^[\p{L}\p{M}']"))
        .then(pl.concat_str(kind, length, pl.col("l").str.tail(3)))
        .otherwise(token)
    ).to_series()  # fmt: skip


def _runs(hashes: Hashes, rows: Ints, size: int) -> tuple[Ints, Hashes]:
    """The hash of every run of tokens within a text."""
    made = hashes.copy()
    if hashes.size < size:
        return rows[:0], made[:0]
    last = hashes.size - size + 1
    made = made[:last]
    for step in range(1, size):
        made = mixed(made * RADIX + hashes[step : last + step])
    within = rows[:last] == rows[size - 1 :]
    return rows[:last][within], made[within] + np.uint64(size)


def _counted(parts: list[tuple[Ints, Hashes]], n: int) -> sp.csr_array:
    """The buckets of each text and how often each is met; one sort of plain numbers does it."""
    wide = np.uint32 if n * BUCKETS <= 1 << 32 else np.int64  # half the bytes sort in half the time
    met = np.concatenate([(rows * BUCKETS + _buckets(h)).astype(wide) for rows, h in parts])
    met.sort()
    first = np.flatnonzero(np.append(True, met[1:] != met[:-1])[: met.size])
    times = np.diff(np.append(first, met.size)).astype(np.float64)
    kinds = met[first]
    ends = np.searchsorted(kinds, (np.arange(n) * BUCKETS).astype(wide)).astype(np.int32)
    ends = np.append(ends, np.int32(kinds.size))
    made = 1.0 + np.log(np.minimum(times, MOST_TIMES))
    return sp.csr_array((made, (kinds % BUCKETS).astype(np.int32), ends), shape=(n, BUCKETS))


def _buckets(hashes: Hashes) -> Ints:
    return (mixed(hashes) & np.uint64(BUCKETS - 1)).astype(np.int64)
