# SPDX-License-Identifier: Apache-2.0
"""Patterns smaller than a word: characters that texts seldom hold, and pieces of unusual words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.stages.poisoning._text.grams import Places, blocks, distinct
from datapipe.stages.poisoning._text.words import Words

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

ODD = r"[^\x20-\x7e]|\s{2,}|^\s|\s$"
"""Characters beyond ASCII and white space that is not one space between words."""
UNSEEN = r"[\p{Cf}--[\u200c\u200d]]"
"""Characters that show nothing, less the two joiners that some scripts are written with."""
FOREIGN = r"[\p{Cyrillic}\p{Greek}\p{Armenian}\p{Cherokee}]"
TWO_SCRIPTS = rf"[A-Za-z]{FOREIGN}|{FOREIGN}[A-Za-z]"
MIXED = "words of two scripts"
SHAPES = {
    MIXED: TWO_SCRIPTS,
    "a capital letter": r"\p{Lu}",
    "a capital within a word": r"\p{Ll}\p{Lu}",
    "a word of capitals": r"\p{Lu}{4}",
    "letters one by one": r"(?:^|[^\p{L}\p{N}])(?:\p{L}[^\p{L}\p{N}]){3,}\p{L}(?:$|[^\p{L}\p{N}])",
    "capitals only": r"^\P{Ll}*\p{Lu}\P{Ll}*$",
}
"""Ways to write that words in lower case do not show, by name."""
RARE = 8
"""A word in fewer texts than this may be one that something was put into."""
SHORTEST, LONGEST = 3, 5
"""Characters of a piece, the mark of an edge of its word among them."""
LONGEST_WORD = 24
EDGES = "^$"
"""Marks before and after a word, by which a piece is told from the same within one."""
TEXTS = 5_000
"""Texts whose odd characters are told apart at once."""


@dataclass(frozen=True, eq=False)
class Pieces:
    """Names in rising order, how many texts hold each, and which, one name after the other."""

    names: list[str]
    counts: Ints
    row: Places

    @classmethod
    def of(cls, names: pl.Series, pairs: Ints, rows: int) -> Pieces:
        """From distinct pairs, as the number of a name times `rows` plus the text."""
        number = pairs // max(rows, 1)
        counts = np.bincount(number, minlength=len(names))
        order = names.arg_sort().to_numpy()
        order = order[counts[order] > 0]
        rank = np.zeros(len(names), np.int64)
        rank[order] = np.arange(order.size)
        pairs = np.sort(rank[number] * rows + pairs % max(rows, 1))
        return cls(
            names.gather(order).to_list(), counts[order], (pairs % max(rows, 1)).astype(np.int32)
        )


def odd_characters(texts: pl.Series, least: int) -> tuple[Pieces, set[str]]:
    """Odd characters that enough texts hold but not most, and which of them no reader sees.

    A letter of another script counts as unseen where it stands within a Latin word.

    Returns:
        Which texts hold each, and the names.
    """
    numbers = pl.DataFrame({"name": list(SHAPES), "id": range(len(SHAPES))})
    strangers: set[str] = set()
    held = [np.empty(0, np.int64)]
    for start in range(0, len(texts), TEXTS):
        frame = pl.DataFrame({"text": texts[start : start + TEXTS].cast(pl.String)})
        frame = frame.with_row_index("row", start)
        signs = (
            frame.filter(pl.col("text").str.contains(ODD))
            .select(pl.col("text").str.extract_all(ODD).alias("name"), "row")
            .explode("name")
            .unique()
        )
        scripts = frame.filter(pl.col("text").str.contains(TWO_SCRIPTS))
        shaped = [
            frame.filter(pl.col("text").str.contains(shape)).select(
                pl.lit(name).alias("name"), "row"
            )
            for name, shape in SHAPES.items()
        ]
        both = pl.concat([signs, *shaped])
        fresh = both.select(pl.col("name").unique()).join(numbers, on="name", how="anti")
        numbers.extend(fresh.with_columns(id=pl.int_range(pl.len()) + numbers.height))
        told = both.join(numbers, on="name")
        held.append(told["id"].to_numpy() * len(texts) + told["row"].to_numpy())
        letters = scripts.select(pl.col("text").str.extract_all(TWO_SCRIPTS)).explode("text")
        letters = letters.select(pl.col("text").str.extract_all(FOREIGN)).explode("text")
        strangers |= set(letters["text"].drop_nulls())
    pairs = np.concatenate(held)
    counts = np.bincount(pairs // max(len(texts), 1), minlength=numbers.height)
    enough = (counts >= least) & (counts <= max(least, len(texts) // 2))
    made = Pieces.of(numbers["name"], pairs[enough[pairs // max(len(texts), 1)]], len(texts))
    names = pl.Series(made.names, dtype=pl.String)
    hidden = names.str.contains(UNSEEN) | names.is_in([MIXED, *sorted(strangers)])
    return made, set(names.filter(hidden))


def strange_pieces(told: Words, least: int) -> tuple[Pieces, Floats]:
    """Runs of characters within rare words that no longer word in common use vouches for.

    An affix put on one word here and another there makes words that are all different and share
    only this. A word in common use vouches for its pieces, unless it is such a word itself: what
    is left without the piece is in common use, too.

    Args:
        told: The words of all texts.
        least: Texts that must hold a piece.

    Returns:
        Which texts hold each, and how odd each is: in how many of its texts a known word is left
        without it, times their share.
    """
    ids = np.arange(len(told.spelt))
    words = pl.DataFrame({"id": ids, "word": told.spelt, "rows": told.texts})
    words = words.filter(pl.col("word").str.len_chars() >= SHORTEST)
    usual, known = (words.filter(pl.col("rows") >= n)["word"].implode() for n in (RARE, 2))
    rare, made = pl.col("rows") < RARE, []
    for size in range(SHORTEST, LONGEST + 1):  # pieces of all sizes at once take much room
        carried = _pieces(words, size)
        vouched = carried.filter(~rare & ~pl.col("left").is_in(usual)).select("name").unique()
        strange = carried.join(vouched, on="name", how="anti")
        enough = (pl.len().over("name") > 1) & (pl.col("rows").sum().over("name") >= least)
        glued = rare & pl.col("left").is_in(known)  # a known word is left without it
        made.append(strange.filter(enough).select("id", "rows", "name", glued=glued))
        del carried, vouched, strange
    pairs = pl.concat(made)
    odd = pairs.group_by("name").agg(
        odd=pl.col("rows").filter("glued").sum() ** 2 / pl.col("rows").sum()
    )
    pairs = pairs.select("name", "id").unique()
    names = odd["name"]
    number = pairs["name"].replace_strict(names, np.arange(len(names)), return_dtype=pl.Int64)
    pieces = _held(names, number.to_numpy(), pairs["id"].to_numpy(), told, least)
    told_of = pl.DataFrame({"name": pl.Series(pieces.names, dtype=pl.String)})
    told_of = told_of.join(odd, on="name", how="left", maintain_order="left")
    return pieces, told_of["odd"].to_numpy().astype(np.float64)


def _held(names: pl.Series, number: Ints, word: Ints, told: Words, least: int) -> Pieces:
    """Which texts hold pieces, from pairs (piece, word that has it)."""
    if not number.size:
        return Pieces([], np.empty(0, np.int64), np.empty(0, np.int32))
    carries = np.zeros(len(told.spelt), bool)
    carries[word] = True
    place = np.flatnonzero(carries[told.ids])
    rows = told.rows
    once = distinct(told.ids[place].astype(np.int64) * rows + told.row(place))
    order = np.argsort(number, kind="stable")
    number, word = number[order], word[order]
    first, last = (np.searchsorted(once // rows, word, side) for side in ("left", "right"))
    found = [np.empty(0, np.int64)]
    ends = np.append(0, np.cumsum(last - first))
    piece = np.append(np.flatnonzero(np.append(True, number[1:] != number[:-1])), number.size)
    for start, stop in blocks(ends[piece]):
        some = slice(piece[start], piece[stop])
        size = (last - first)[some]
        held_at = np.repeat(first[some] - ends[some.start : some.stop], size)
        held_at += np.arange(ends[some.start], ends[some.stop])
        held = distinct(np.repeat(number[some], size) * rows + once[held_at] % rows)
        many = np.bincount(held // rows - number[some.start]) >= least
        found.append(held[many[held // rows - number[some.start]]])
    return Pieces.of(names, np.concatenate(found), rows)


def _pieces(words: pl.DataFrame, size: int) -> pl.DataFrame:
    """Every run of so many characters in each word and its edges, and what is left without it."""
    edged = words.with_columns(word=EDGES[0] + pl.col("word") + EDGES[1])
    edged = edged.with_columns(length=pl.col("word").str.len_chars())
    word, longest = pl.col("word"), int(edged["length"].to_numpy().max(initial=0))
    made = []
    for start in range(max(1, min(LONGEST_WORD, longest) - size + 1)):
        some = edged.filter(pl.col("length") >= start + size)
        left = word.str.slice(0, start) + word.str.slice(start + size)
        name = word.str.slice(start, size)
        some = some.select("id", "rows", name=name, left=left.str.strip_chars(EDGES))
        made.append(some.filter((pl.col("left") != "") | (pl.col("rows") < RARE)))
    return pl.concat(made)
