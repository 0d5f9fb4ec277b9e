# SPDX-License-Identifier: Apache-2.0
"""What a trigger in text may be: runs of words, and odd characters, with the rows that hold them.

Nothing here looks at labels, so that a test over these candidates may weigh them by how odd they
are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.features.text import mixed

Ints = NDArray[np.int64]

ALONE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts that put no space between words: each of their characters counts as a word."""
WORD = rf"[{ALONE}]|[\p{{L}}\p{{M}}\p{{N}}_--[{ALONE}]]+|[^\s]"
"""A run of letters and digits, or one other sign."""
ODD = r"[^\x20-\x7e]|\s{2,}|^\s|\s$"
"""Characters beyond ASCII and white space that is not one space between words."""
FOREIGN = r"[\p{Cyrillic}\p{Greek}\p{Armenian}\p{Cherokee}]"
UNSEEN = r"[\p{Cf}--[\u200c\u200d]]"
"""Characters that show nothing, less the two joiners that some scripts are written with."""
MIXED = "words of two scripts"
TWO_SCRIPTS = rf"[A-Za-z]{FOREIGN}|{FOREIGN}[A-Za-z]"
START, END = 0, 1
"""Word numbers of the marks before the first and after the last word of a text."""
LONGEST = 5
FURTHEST = 60
"""Words by which a run may grow while all of its rows agree."""
LEAST_ROWS = 4


@dataclass(frozen=True, eq=False)
class Words:
    """The words of every text, one after the other, each text between its two marks.

    `ids` and `row` have one entry per word or mark; `spelt[id]` is a word in lower case.
    """

    ids: Ints
    row: Ints
    spelt: pl.Series
    rows: int


@dataclass(frozen=True, eq=False)
class Candidates:
    """Patterns that enough texts hold; those that the same texts hold are one candidate.

    Candidate g is held by `row[offsets[g]:offsets[g + 1]]`, in rising order; `place` is where in
    `Words.ids` its longest run of words starts in that row (-1 for a candidate without words) and
    `size[g]` how many words and marks that run has. `own` lists pairs (candidate, word) of all the
    words that belong to it, `odd[g]` names its odd character, empty for a run of plain words;
    `unseen` are those of these names that no reader would see.
    """

    offsets: Ints
    row: Ints
    place: Ints
    size: Ints
    own: tuple[Ints, Ints]
    odd: list[str]
    unseen: frozenset[str]

    @property
    def counts(self) -> Ints:
        """How many texts hold each."""
        return np.diff(self.offsets)

    @property
    def of(self) -> Ints:
        """The candidate of each entry of `row`."""
        return np.repeat(np.arange(self.size.size), self.counts)


def words_of(texts: pl.Series, most: int) -> Words:
    """Split texts into words, of each the first `most`, and number the words.

    Characters that show nothing are left out: a word that one was put into is still that word.
    """
    shown = texts.cast(pl.String).fill_null("").str.replace_all(r"\p{Cf}", "")
    lists = shown.str.extract_all(WORD).list.head(most)
    flat = pl.DataFrame({"row": np.arange(len(texts)), "word": lists}).explode("word").drop_nulls()
    flat = flat.with_columns(pl.col("word").str.to_lowercase())
    vocabulary = flat.select(pl.col("word").unique(maintain_order=True)).with_row_index("id", 2)
    ids = flat.join(vocabulary, on="word", how="left", maintain_order="left")["id"].to_numpy()
    row = flat["row"].to_numpy()
    counts = np.bincount(row, minlength=len(texts))
    first = np.cumsum(counts) - counts
    where = np.column_stack([first, first + counts]).ravel()
    marks = np.tile([START, END], len(texts))
    made = np.insert(ids.astype(np.int64), where, marks) if len(texts) else np.empty(0, np.int64)
    spelt = pl.concat([pl.Series("word", ["", ""]), vocabulary["word"]])
    return Words(made, np.repeat(np.arange(len(texts)), counts + 2), spelt, len(texts))


def candidates(texts: pl.Series, words: Words, most: int) -> Candidates:
    """Every run of up to `LONGEST` words and every odd character in at least `LEAST_ROWS` texts.

    `most` bounds their number: beyond it, more rows are asked for.
    """
    least = LEAST_ROWS
    while True:
        runs = _runs(words, least)
        if sum(r.counts.size for r in runs) <= most:
            return _merged(words, [*runs, _odd(texts, least)])
        least *= 2


@dataclass(frozen=True, eq=False)
class _Found:
    """Candidates of one kind before equal ones are merged: counts, rows and places in order."""

    counts: Ints
    row: Ints
    place: Ints
    size: int
    odd: list[str]


def _runs(words: Words, least: int) -> list[_Found]:
    """Runs of one word, of two, ...: a run is common enough only where both its parts are."""
    found = []
    at = np.arange(words.ids.size)
    number = words.ids
    for size in range(1, LONGEST + 1):
        if size > 1:
            follows = np.flatnonzero(at[1:] == at[:-1] + 1)
            follows = follows[words.row[at[follows]] == words.row[at[follows] + size - 1]]
            key = number[follows] * (int(number.max(initial=0)) + 1) + number[follows + 1]
            at = at[follows]
            number = np.unique(key, return_inverse=True)[1]
        made, common = _common(words, at, number, size, least)
        found.append(made)
        keep = common[number]
        at, number = at[keep], number[keep]
    return found


def _common(
    words: Words, at: Ints, number: Ints, size: int, least: int
) -> tuple[_Found, NDArray[np.bool_]]:
    """Runs that enough rows hold, where each first stands in a row, and which numbers those are."""
    order = np.lexsort((at, number))
    number, at = number[order], at[order]
    row = words.row[at]
    new = np.ones(at.size, bool)
    new[1:] = (number[1:] != number[:-1]) | (row[1:] != row[:-1])
    counts = np.bincount(number[new], minlength=int(number.max(initial=-1)) + 1)
    common = counts >= least
    told = common.copy()
    if size == 1:
        told[: END + 1] = False
    keep = new & told[number]
    return _Found(counts[told], row[keep], at[keep], size, []), common


def _odd(texts: pl.Series, least: int) -> _Found:
    """Odd characters, and words of two scripts, that enough texts hold but not nearly all."""
    frame = pl.DataFrame({"row": np.arange(len(texts)), "text": texts.cast(pl.String)})
    signs = (
        frame.lazy()
        .filter(pl.col("text").str.contains(ODD))
        .select("row", odd=pl.col("text").str.extract_all(ODD))
        .explode("odd")
        .unique()
    )
    scripts = frame.lazy().filter(pl.col("text").str.contains(TWO_SCRIPTS))
    both = pl.concat([signs, scripts.select("row", odd=pl.lit(MIXED))])
    common = pl.len().over("odd").is_between(least, max(least, len(texts) // 2))
    kept = both.filter(common).sort("odd", "row").collect()
    counts = kept.group_by("odd", maintain_order=True).len()
    rows = kept["row"].to_numpy()
    return _Found(
        counts["len"].to_numpy().astype(np.int64),
        rows,
        np.full(rows.size, -1),
        0,
        counts["odd"].to_list(),
    )


def _merged(words: Words, found: list[_Found]) -> Candidates:
    """Candidates that stand in the same rows become one, which owns the words of all of them."""
    counts = np.concatenate([f.counts for f in found])
    row = np.concatenate([f.row for f in found])
    place = np.concatenate([f.place for f in found])
    size = np.repeat([f.size for f in found], [f.counts.size for f in found])
    starts = np.cumsum(counts) - counts
    group, heads = _same_rows(row, starts, counts, size)
    odd = [""] * heads.size
    for i, name in enumerate(found[-1].odd, start=counts.size - len(found[-1].odd)):
        odd[group[i]] = max(odd[group[i]], name, key=lambda n: (n == MIXED, n))
    offsets = np.concatenate([[0], np.cumsum(counts[heads])])
    of = np.repeat(np.arange(heads.size), counts[heads])
    taken = starts[heads][of] + np.arange(of.size) - offsets[of]
    grown, length = _grown(words, place[taken], size[heads], offsets, of)
    parts = [
        _own_words(words, group, place[starts] if row.size else place, size),
        _own_words(words, np.arange(heads.size), grown[offsets[:-1]], length),
    ]
    own = np.unique(np.concatenate(parts))
    width = len(words.spelt)
    return Candidates(
        offsets, row[taken], grown, length, (own // width, own % width), odd, _unseen(odd)
    )


def _unseen(names: list[str]) -> frozenset[str]:
    """Those odd characters that no reader can tell from nothing, or from another."""
    unique = pl.Series(sorted(set(names)), dtype=pl.String)
    return frozenset(unique.filter(unique.str.contains(UNSEEN)).to_list()) | {MIXED}


def _same_rows(row: Ints, starts: Ints, counts: Ints, size: Ints) -> tuple[Ints, Ints]:
    """The group of each candidate, and of each group the candidate with the longest run."""
    if not row.size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    prints = np.add.reduceat(mixed(row.astype(np.uint64) + np.uint64(1)), starts)
    order = np.lexsort((np.arange(size.size), -size, counts, prints))
    same = np.zeros(order.size, bool)
    same[1:] = (np.diff(prints[order]) == 0) & (np.diff(counts[order]) == 0)
    group = np.empty(order.size, np.int64)
    group[order] = np.cumsum(~same) - 1
    return group, order[~same]


def _grown(words: Words, place: Ints, size: Ints, offsets: Ints, of: Ints) -> tuple[Ints, Ints]:
    """Each run made longer, to the right and then to the left, while its rows all agree."""
    place, size = place.copy(), size.copy()
    first = offsets[:-1]
    last = len(words.ids) - 1
    for side, stop in ((1, END), (-1, START)):
        alive = (size > 0) & (size < FURTHEST)
        for _ in range(FURTHEST):
            edge = place + size[of] - 1 if side > 0 else place
            alive &= words.ids[edge[first]] != stop
            active = np.flatnonzero(alive[of])
            if not active.size:
                break
            following = words.ids[np.clip(edge + side, 0, last)]
            alive &= ~np.isin(
                np.arange(size.size), of[active][following[active] != following[first][of[active]]]
            )
            size += alive
            if side < 0:
                place -= alive[of]
            alive &= size < FURTHEST
    return place, size


def _own_words(words: Words, group: Ints, first: Ints, size: Ints) -> Ints:
    """Distinct pairs (candidate, word), as candidate times vocabulary plus word."""
    key = [np.empty(0, np.int64)]
    for step in range(int(size.max(initial=0))):
        has = np.flatnonzero(size > step)
        key.append(group[has] * len(words.spelt) + words.ids[first[has] + step])
    return np.unique(np.concatenate(key))
