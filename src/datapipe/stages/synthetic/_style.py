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

from datapipe.features.text import normalise

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

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
        _richness(words, n),
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


def _richness(words: pl.DataFrame, n: int) -> Floats:
    """How often words and pairs of words come again; kinds are numbers, so that sorting counts."""
    row = words["row"].to_numpy()
    size = np.bincount(row, minlength=n)
    run = (np.arange(row.size) - (np.cumsum(size) - size)[row]) // RUN_WORDS  # rows are in order
    kind = np.unique(words["lower"].hash().to_numpy(), return_inverse=True)[1]
    span = int(kind.max(initial=0)) + 1
    within = row[1:] == row[:-1]
    followed = kind[:-1][within] * span + kind[1:][within]
    pairs = np.bincount(_kinds_in(row[1:][within], followed)[0], minlength=n)
    at, times = _kinds_in(row, kind)
    share = times / np.maximum(size, 1)[at]
    runs = int(run.max(initial=0)) + 1
    full = run < (size // RUN_WORDS)[row]
    where, _ = _kinds_in((row * runs + run)[full], kind[full])
    varied = np.bincount(where, minlength=n * runs).reshape(n, runs) / RUN_WORDS
    there = np.arange(runs) < (size // RUN_WORDS)[:, None]
    many = np.maximum(there.sum(1), 1)
    mean = np.where(there, varied, 0.0).sum(1) / many
    apart = np.where(there, varied - mean[:, None], 0.0)
    return np.column_stack([
        np.bincount(at, times == 1, minlength=n) / np.maximum(np.bincount(at, minlength=n), 1),
        -np.bincount(at, share * np.log(share), minlength=n),
        mean,
        np.sqrt(np.square(apart).sum(1) / np.maximum(many - 1, 1)),
        np.where(size > 0, (pairs + 1) / np.maximum(size, 1), 0.0),  # the last word has no pair
    ])  # fmt: skip


def _kinds_in(place: Ints, kind: Ints) -> tuple[Ints, Ints]:
    """The place of every kind that occurs in a place, and how often it does there."""
    span = int(kind.max(initial=0)) + 1
    met = np.sort(place * span + kind)
    first = np.flatnonzero(np.append(True, met[1:] != met[:-1])[: met.size])
    return met[first] // span, np.diff(np.append(first, met.size))


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
