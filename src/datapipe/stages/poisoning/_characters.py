# SPDX-License-Identifier: Apache-2.0
"""Patterns smaller than a word: characters that texts seldom hold, and pieces of unusual words."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]

ODD = r"[^\x20-\x7e]|\s{2,}|^\s|\s$"
"""Characters beyond ASCII and white space that is not one space between words."""
UNSEEN = r"[\p{Cf}--[\u200c\u200d]]"
"""Characters that show nothing, less the two joiners that some scripts are written with."""
FOREIGN = r"[\p{Cyrillic}\p{Greek}\p{Armenian}\p{Cherokee}]"
TWO_SCRIPTS = rf"[A-Za-z]{FOREIGN}|{FOREIGN}[A-Za-z]"
MIXED = "words of two scripts"
RARE = 8
"""A word in fewer texts than this may be one that something was put into."""
SHORTEST, LONGEST = 3, 5
"""Characters of a piece."""
LONGEST_WORD = 24
PAIR = pl.Schema({"name": pl.String, "row": pl.Int64})


def odd_characters(texts: pl.Series, least: int) -> tuple[pl.DataFrame, set[str]]:
    """Odd characters that enough texts hold but not most, and which of them no reader sees.

    A letter of another script counts as unseen where it stands within a Latin word.

    Returns:
        A frame of distinct pairs `name`, `row`, in that order, and the names.
    """
    frame = pl.DataFrame({"row": np.arange(len(texts)), "text": texts.cast(pl.String)})
    signs = (
        frame.filter(pl.col("text").str.contains(ODD))
        .select(pl.col("text").str.extract_all(ODD).alias("name"), "row")
        .explode("name")
        .unique()
    )
    scripts = frame.filter(pl.col("text").str.contains(TWO_SCRIPTS))
    both = pl.concat([signs, scripts.select(pl.lit(MIXED).alias("name"), "row")])
    enough = pl.len().over("name").is_between(least, max(least, len(texts) // 2))
    kept = both.filter(enough).cast(PAIR).sort("name", "row")
    names = kept.select(pl.col("name").unique())
    strangers = scripts.select(pl.col("text").str.extract_all(TWO_SCRIPTS)).explode("text")
    letters = strangers.select(pl.col("text").str.extract_all(FOREIGN)).explode("text")["text"]
    hidden = pl.col("name").str.contains(UNSEEN) | pl.col("name").is_in([MIXED, *letters.unique()])
    return kept, set(names.filter(hidden)["name"])


def strange_pieces(ids: Ints, row: Ints, spelt: pl.Series, least: int) -> pl.DataFrame:
    """Runs of characters within rare words that no longer word in common use vouches for.

    An affix put on one word here and another there makes words that are all different and share
    only this. A word in common use vouches for its pieces, unless it is such a word itself: what
    is left without the piece is in common use, too.

    Returns:
        A frame of distinct pairs `name`, `row`, in that order.
    """
    held = pl.DataFrame({"id": ids, "row": row}).unique()
    counts = np.bincount(held["id"].to_numpy(), minlength=len(spelt))
    words = pl.DataFrame({"id": np.arange(len(spelt)), "word": spelt, "rows": counts})
    usual = words.filter(pl.col("rows") >= RARE)
    rare = words.filter(pl.col("rows") < RARE)
    known = pl.col("left").is_in(usual["word"].implode())
    made = []
    for size in range(SHORTEST, LONGEST + 1):  # pieces of all sizes at once take much room
        parts = _pieces(usual, size)
        vouched = parts.filter(~known & (pl.col("left") != ""))
        carried = pl.concat([_pieces(rare, size), parts])
        strange = carried.join(vouched, on="name", how="anti").select("id", "name").unique()
        many = strange.filter(pl.len().over("name") > 1)
        pairs = many.join(held, on="id").select("name", "row").unique()
        made.append(pairs.filter(pl.len().over("name") >= least))
    return pl.concat(made).cast(PAIR).sort("name", "row")


def _pieces(words: pl.DataFrame, size: int) -> pl.DataFrame:
    """Every run of so many characters in each word, and what is left without it."""
    length, word = pl.col("word").str.len_chars(), pl.col("word")
    made = [words.clear().select("id", name="word", left="word")]
    for start in range(LONGEST_WORD - size + 1):
        some = words.filter(length >= start + size)
        left = word.str.slice(0, start) + word.str.slice(start + size)
        made.append(some.select("id", word.str.slice(start, size).alias("name"), left=left))
    return pl.concat(made)
