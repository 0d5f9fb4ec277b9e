# SPDX-License-Identifier: Apache-2.0
"""Texts into style numbers that survive copying: no line breaks, quote styles, lengths or endings.

A scraper leaves traces (line breaks, curly quotes, cut ends) that tell the sources of texts apart
perfectly and say nothing about who wrote them. So texts are brought to one form and one window of
words first, and no feature counts what that form takes away.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.features.text import mixed, normalise

Floats = NDArray[np.float64]

WINDOW_WORDS = 200
"""Words of a text that are looked at; the rest would measure length."""
WINDOW_CHARACTERS = 20 * WINDOW_WORDS
"""Nor are more characters: what has no spaces is no single word of any length."""
RUN_WORDS = 50
PREFIX_CHARACTERS = 45
"""Texts that begin with the same so many characters were made from one prompt."""
FUNCTION_WORDS = """
a about after all also an and any are as at be because been before but by can could did do even
for from had has have he her him his how i if in into is it its just like made may me more most
much must my new no not now of on one only or other our out over said she should so some such than
that the their them then there these they this through to up was we were what when which while who
will with would you your
""".split()  # noqa: SIM905 - words read best as words
MARKS = (",", ".", ";", ":", "!", "?", "'", '"', "-", "(", "/", "*")
SUFFIXES = ("ing", "ly", "tion", "ed", "ment", "ness", "ive", "ous")


def window(texts: pl.Series) -> pl.Series:
    """The first words of each text, in one spelling but in its own case.

    White space becomes single spaces and typographic signs ASCII; the last sentence is not cut at
    a full stop, because where a text ends is not counted.
    """
    spelt = texts.cast(pl.String).fill_null("")
    for signs, plain in (("[“”„«»]|``|''", '"'), ("[‘’‚`´]", "'"), ("[–—−]", "-"), ("…", "...")):
        spelt = spelt.str.replace_all(signs, plain)
    words = spelt.str.replace_all(r"\s+", " ").str.strip_chars().str.split(" ")
    return words.list.head(WINDOW_WORDS).list.join(" ").str.head(WINDOW_CHARACTERS)


def word_counts(texts: pl.Series) -> NDArray[np.int64]:
    """How many words each text has, int64 of shape (n,)."""
    counts = texts.cast(pl.String).fill_null("").str.count_matches(r"\S+")
    return counts.cast(pl.Int64).to_numpy()


def prompt_groups(texts: pl.Series) -> pl.Series:
    """A key that texts made from one prompt share: how they begin, in normal form."""
    return normalise(texts.cast(pl.String).fill_null("")).str.head(PREFIX_CHARACTERS)


def style(texts: pl.Series) -> Floats:
    """Style numbers of each text.

    Args:
        texts: Strings as `window` gives them, shape (n,).

    Returns:
        float64, shape (n, d), finite; rates are per word or per character.
    """
    n = len(texts)
    frame = pl.DataFrame({"row": np.arange(n), "text": texts})
    words = (
        frame.select("row", word=pl.col("text").str.extract_all(r"[\p{L}\p{N}']+"))
        .explode("word", empty_as_null=True, keep_nulls=True)
        .drop_nulls()
        .with_columns(lower=pl.col("word").str.to_lowercase())
    )
    parts = [
        _per_row(_shape_of_words(words), n),
        _per_row(_richness(words), n),
        _per_row(_sentences(frame), n),
        _function_words(words, n),
        _characters(frame),
    ]
    made: Floats = np.column_stack(parts)
    return np.nan_to_num(made, nan=0.0, posinf=0.0, neginf=0.0)


def _per_row(table: pl.DataFrame, n: int) -> Floats:
    """A table with a `row` column as a matrix with a line for every row, 0 where there is none."""
    rows = pl.DataFrame({"row": np.arange(n)})
    full = rows.join(table, on="row", how="left", maintain_order="left").drop("row")
    return full.fill_null(0.0).to_numpy().astype(np.float64)


def _shape_of_words(words: pl.DataFrame) -> pl.DataFrame:
    length = pl.col("word").str.len_chars()
    ends = [pl.col("lower").str.ends_with(s).mean().alias(f"-{s}") for s in SUFFIXES]
    return words.group_by("row", maintain_order=True).agg(
        length.mean().alias("length"),
        length.std().alias("spread"),
        (length > 8).mean().alias("long"),
        (length < 4).mean().alias("short"),
        pl.col("word").str.contains(r"^\p{Lu}").mean().alias("capital"),
        pl.col("word").str.contains("'").mean().alias("contracted"),
        *ends,
    )


def _richness(words: pl.DataFrame) -> pl.DataFrame:
    """How often words and pairs of words come again; hashes do for what is only told apart."""
    row = words["row"].to_numpy()
    first = np.searchsorted(row, row)  # rows are in order
    run = (np.arange(row.size) - first) // RUN_WORDS
    size = np.searchsorted(row, row, side="right") - first
    word = words["lower"].hash().to_numpy()
    pair = mixed(word[:-1]) + word[1:]
    within = row[1:] == row[:-1]
    placed = pl.DataFrame({
        "row": row, "run": run, "word": word,
        "pair": pl.Series(np.append(pair, np.zeros(min(1, row.size), np.uint64))),
        "paired": np.append(within, np.zeros(min(1, row.size), np.bool_)),
        "full": run < size // RUN_WORDS,
    })  # fmt: skip
    runs = (
        placed.filter("full")
        .group_by("row", "run", maintain_order=True)
        .agg(kinds=pl.col("word").n_unique() / RUN_WORDS)
        .group_by("row", maintain_order=True)
        .agg(pl.col("kinds").mean(), spread=pl.col("kinds").std())
    )
    counts = placed.group_by("row", "word", maintain_order=True).len("times")
    share = pl.col("times") / pl.col("times").sum()
    repeats = counts.group_by("row", maintain_order=True).agg(
        once=(pl.col("times") == 1).mean(), entropy=-(share * share.log()).sum()
    )
    pairs = placed.group_by("row", maintain_order=True).agg(
        pairs=(pl.col("pair").filter("paired").n_unique() + 1) / pl.len()  # the last has none
    )
    return repeats.join(runs, on="row", how="left").join(pairs, on="row", how="left")


def _sentences(frame: pl.DataFrame) -> pl.DataFrame:
    parts = frame.select(
        "row", s=pl.col("text").str.replace_all(r"([.!?])\s", "$1\n").str.split("\n")
    )
    length = pl.col("s").str.count_matches(" ", literal=True) + 1
    return (
        parts.explode("s", empty_as_null=True, keep_nulls=True)
        .group_by("row", maintain_order=True)
        .agg(
            length.mean().alias("mean"),
            length.std().alias("spread"),
            (length.std() / length.mean()).alias("variation"),
            (length < 6).mean().alias("short"),
        )
    )


def _function_words(words: pl.DataFrame, n: int) -> Floats:
    places = pl.DataFrame({"lower": FUNCTION_WORDS, "place": np.arange(len(FUNCTION_WORDS))})
    hits = words.join(places, on="lower", how="inner")
    flat = hits["row"].to_numpy() * len(FUNCTION_WORDS) + hits["place"].to_numpy()
    counts = np.bincount(flat, minlength=n * len(FUNCTION_WORDS)).reshape(n, -1)
    total = np.bincount(words["row"].to_numpy(), minlength=n)
    rates: Floats = counts / np.maximum(total, 1)[:, None]
    return rates


def _characters(frame: pl.DataFrame) -> Floats:
    text = pl.col("text")
    marks = [text.str.count_matches(m, literal=True).alias(m) for m in MARKS]
    others = [
        text.str.count_matches(r"\d").alias("digits"),
        text.str.count_matches(r"\p{Lu}").alias("capitals"),
    ]
    counts = frame.select(*marks, *others).to_numpy()
    size = frame.select(text.str.len_chars()).to_series().to_numpy()
    rates: Floats = counts / np.maximum(size, 1)[:, None]
    return rates
