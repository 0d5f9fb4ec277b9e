# SPDX-License-Identifier: Apache-2.0
"""What a trigger in text may be: runs of words and smaller patterns, with the rows that hold them.

Nothing here looks at labels, so that a test over these candidates may weigh them by how odd they
are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.features.text import UNSPACED, mixed
from datapipe.stages.poisoning._characters import odd_characters, strange_pieces
from datapipe.stages.poisoning._companions import companions
from datapipe.stages.poisoning._grams import ORDERS, Grams, distinct

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WORD = rf"[{UNSPACED}]|[\p{{L}}\p{{M}}\p{{N}}_--[{UNSPACED}]]+|[^\s]"
"""A run of letters and digits, or one other sign, or one character of a script without spaces."""
HIDDEN = r"\p{Cf}"
START, END = 0, 1
"""Word numbers of the marks before the first and after the last word of a text."""
LONGEST = 5
TEXTS = 5_000
"""Texts whose words are told apart at once."""
FURTHEST = 60
"""Words to which a run may grow while all of its rows agree."""
LEAST_ROWS = 4
RUN, CHARACTER, UNSEEN, PIECE = 1, 2, 4, 8
"""Kinds of candidate; one that was merged from several is of all of their kinds."""


@dataclass(frozen=True, eq=False)
class Words:
    """The words of every text, one after the other, each text between its two marks.

    `ids` and `row` have one entry per word or mark; `spelt[id]` is a word in lower case. `grams`
    are runs of characters where they stand for words.
    """

    ids: Ints
    row: Ints
    spelt: pl.Series
    rows: int
    grams: Grams


@dataclass(frozen=True, eq=False)
class Candidates:
    """Patterns that enough texts hold; those that the same texts hold are one candidate.

    Candidate g is held by `row[offsets[g]:offsets[g + 1]]`, in rising order; `place` is where in
    `Words.ids` its longest run of words starts in that row (-1 for a candidate without words) and
    `size[g]` how many words and marks that run has. `own` lists pairs (candidate, word) of all the
    words that belong to it. `kind[g]` is a sum of kinds, and `name[g]` its character or piece,
    empty for a run.
    """

    offsets: Ints
    row: Ints
    place: Ints
    size: Ints
    own: tuple[Ints, Ints]
    kind: Ints
    name: list[str]

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
    vocabulary = pl.DataFrame(schema={"word": pl.String, "id": pl.UInt32})
    numbers, counts = [np.empty(0, np.int64)], np.zeros(len(texts), np.int64)
    for start in range(0, len(texts), TEXTS):  # words as strings take many times what texts do
        block = _split(texts[start : start + TEXTS], most)
        fresh = block.select(pl.col("word").unique(maintain_order=True))
        fresh = fresh.join(vocabulary, on="word", how="anti", maintain_order="left")
        fresh = fresh.with_row_index("id", vocabulary.height + 2).select("word", "id")
        vocabulary = vocabulary.vstack(fresh)
        told = block.join(vocabulary, on="word", how="left", maintain_order="left")["id"]
        numbers.append(told.to_numpy().astype(np.int64))
        held = np.bincount(block["row"].to_numpy(), minlength=len(texts[start : start + TEXTS]))
        counts[start : start + TEXTS] = held
    ids = np.concatenate(numbers)
    first = np.cumsum(counts) - counts
    where = np.column_stack([first, first + counts]).ravel()
    marked = np.insert(ids, where, np.tile([START, END], len(texts)))
    spelt = pl.concat([pl.Series("word", ["", ""]), vocabulary["word"]])
    row = np.repeat(np.arange(len(texts)), counts + 2)
    unspaced = spelt.str.contains(rf"^[{UNSPACED}]$").to_numpy()
    grams = Grams.of(marked, row, unspaced[marked], len(spelt))
    return Words(marked, row, spelt, len(texts), grams)


def _split(texts: pl.Series, most: int) -> pl.DataFrame:
    """The words of some texts, one after the other, and which text each is of."""
    shown = texts.cast(pl.String).fill_null("").str.replace_all(HIDDEN, "")
    lists = shown.str.extract_all(WORD).list.head(most)
    flat = pl.DataFrame({"row": np.arange(len(texts)), "word": lists}).explode("word").drop_nulls()
    return flat.with_columns(pl.col("word").str.to_lowercase())


def candidates(texts: pl.Series, words: Words, most: int) -> Candidates:
    """Every run of up to `LONGEST` words, odd character and strange piece that enough texts hold.

    `most` bounds the number of runs: beyond it, more than `LEAST_ROWS` texts are asked for.
    """
    least = LEAST_ROWS
    runs = _runs(words, least)
    while sum(r.counts.size for r in runs) > most:
        least *= 2
        runs = _runs(words, least)
    signs, unseen = odd_characters(texts, least)
    pieces = strange_pieces(words.ids, words.row, words.spelt, least)
    seen = _small(signs, {name: CHARACTER | UNSEEN * (name in unseen) for name in signs["name"]})
    runs += [seen, _small(pieces, dict.fromkeys(pieces["name"], PIECE))]
    return _merged(words, runs)


@dataclass(frozen=True, eq=False)
class _Found:
    """Candidates of one sort before equal ones are merged; rows and places stand in their order."""

    counts: Ints
    row: Ints
    place: Ints
    size: Ints
    kind: Ints
    name: list[str]


def _runs(words: Words, least: int) -> list[_Found]:
    """Runs of one word, of two, ...: a run is common enough only where both its parts are."""
    found = []
    at, number = np.arange(words.ids.size), words.ids
    for size in range(1, LONGEST + 1):
        if size > 1:
            follows = np.flatnonzero(at[1:] == at[:-1] + 1)
            follows = follows[words.row[at[follows]] == words.row[at[follows] + size - 1]]
            key = number[follows] * (int(number.max(initial=0)) + 1) + number[follows + 1]
            at = at[follows]
            number = np.unique(key, return_inverse=True)[1]
        order = np.lexsort((at, number))
        made, common = _common(words, at[order], number[order], size, least)
        found.append(made)
        keep = common[number]
        at, number = at[keep], number[keep]
    return found


def _common(words: Words, at: Ints, number: Ints, size: int, least: int) -> tuple[_Found, Bools]:
    """Runs that enough rows hold, where each first stands in a row, and which numbers those are."""
    row = words.row[at]
    new = np.ones(at.size, bool)
    new[1:] = (np.diff(number) != 0) | (np.diff(row) != 0)
    counts = np.bincount(number[new], minlength=int(number.max(initial=-1)) + 1)
    common = counts >= least
    told = common.copy()
    if size == 1:
        told[: END + 1] = False
    keep = new & told[number]
    n = int(told.sum())
    made = _Found(counts[told], row[keep], at[keep], np.full(n, size), np.full(n, RUN), [""] * n)
    return made, np.asarray(common, bool)


def _small(pairs: pl.DataFrame, kinds: dict[str, int]) -> _Found:
    """Candidates without words from sorted pairs `name`, `row`."""
    held = pairs.group_by("name", maintain_order=True).len()
    names = held["name"].to_list()
    return _Found(
        held["len"].to_numpy().astype(np.int64),
        pairs["row"].to_numpy(),
        np.full(pairs.height, -1),
        np.zeros(len(names), np.int64),
        np.array([kinds[name] for name in names], np.int64),
        names,
    )


def _merged(words: Words, found: list[_Found]) -> Candidates:
    """Candidates that stand in the same rows become one, which owns the words of all of them.

    It empties the list that it is given: the parts take as much room as the whole.
    """
    counts, row, place, size, kind = (
        np.concatenate([getattr(f, part) for f in found])
        for part in ("counts", "row", "place", "size", "kind")
    )
    flat = [name for f in found for name in f.name]
    found.clear()
    starts = np.cumsum(counts) - counts
    group, heads = _same_rows(row, starts, counts, size)
    offsets = np.concatenate([[0], np.cumsum(counts[heads])])
    of = np.repeat(np.arange(heads.size), counts[heads])
    taken = starts[heads][of] + np.arange(of.size) - offsets[of]
    grown, length = _grown(words, place[taken], size[heads], offsets, of)
    own = distinct(
        np.append(
            _own_words(words, group, place[starts], size),
            _own_words(words, np.arange(heads.size), grown[offsets[:-1]], length),
        )
    )
    own = _with_companions(own, offsets, row[taken], np.flatnonzero(length == 1), words.grams.width)
    pairs = (own // words.grams.width, own % words.grams.width)
    kinds = np.zeros(heads.size, np.int64)
    np.bitwise_or.at(kinds, group, kind)
    names = _names(flat, kind, group, heads.size)
    return Candidates(offsets, row[taken], grown, length, pairs, kinds, names)


def _with_companions(own: Ints, offsets: Ints, row: Ints, single: Ints, width: int) -> Ints:
    """Each single word owns the words, too, that keep it company."""
    left, right = companions(offsets, row, single)
    first = np.searchsorted(own, right * width)
    counts = np.searchsorted(own, (right + 1) * width) - first
    ends = np.cumsum(counts)
    taken = np.repeat(first - (ends - counts), counts) + np.arange(int(counts.sum()))
    return distinct(np.append(own, np.repeat(left, counts) * width + own[taken] % width))


def _names(flat: list[str], kind: Ints, group: Ints, groups: int) -> list[str]:
    """The name of each group: its least character before its longest piece."""
    names = [""] * groups
    for i in sorted(np.flatnonzero(kind != RUN), key=lambda i: (-kind[i], -len(flat[i]), flat[i])):
        if kind[i] != PIECE or not names[group[i]]:
            names[group[i]] = flat[i]
    return names


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
    for side, stop in ((1, END), (-1, START)):
        alive = size > 0
        while True:
            edge = place + size[of] - 1 if side > 0 else place
            alive &= (words.ids[edge[first]] != stop) & (size < FURTHEST)
            active = np.flatnonzero(alive[of])
            if not active.size:
                break
            following = words.ids[edge[active] + side]
            model = words.ids[edge[first[of[active]]] + side]
            alive[of[active[following != model]]] = False
            size += alive
            if side < 0:
                place -= alive[of]
    return place, size


def _own_words(words: Words, group: Ints, first: Ints, size: Ints) -> Ints:
    """Distinct pairs (candidate, word or run in it), as candidate times `width` plus number."""
    key = [np.empty(0, np.int64)]
    for step in range(int(size.max(initial=0))):
        has = np.flatnonzero(size > step)
        key.append(group[has] * words.grams.width + words.ids[first[has] + step])
        for order, at in zip(ORDERS, words.grams.at, strict=False):
            run = np.where(size[has] >= step + order, at[first[has] + step], -1)
            key.append(group[has[run >= 0]] * words.grams.width + run[run >= 0])
    return distinct(np.concatenate(key))
