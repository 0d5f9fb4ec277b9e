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
from datapipe.stages.poisoning._characters import Pieces, odd_characters, strange_pieces
from datapipe.stages.poisoning._companions import companions
from datapipe.stages.poisoning._grams import ORDERS, Grams, Places, blocks, distinct

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WORD = rf"[{UNSPACED}]|[\p{{L}}\p{{M}}\p{{N}}_--[{UNSPACED}]]+|[^\s]"
"""A run of letters and digits, or one other sign, or one character of a script without spaces."""
HIDDEN = r"\p{Cf}"
START, END = 0, 1
"""Word numbers of the marks before the first and after the last word of a text."""
LONGEST = 5
BYTES = 2**18
"""Bytes of texts whose words are told apart at once: as strings they take many times as much."""
FURTHEST = 60
"""Words to which a run may grow while all of its rows agree."""
LEAST_ROWS = 4
CHANCE = 0.001
"""Words that rows have in common by chance as often as this are no part of what they share."""
RUN, CHARACTER, UNSEEN, PIECE = 1, 2, 4, 8
"""Kinds of candidate; one that was merged from several is of all of their kinds."""


@dataclass(frozen=True, eq=False)
class Words:
    """The words of every text, one after the other, each text between its two marks.

    `ids` and `row` have one entry per word or mark; `spelt[id]` is a word in lower case and
    `texts[id]` how many texts hold it. `grams` are runs of characters where they stand for words.
    """

    ids: Places
    row: Places
    spelt: pl.Series
    texts: Ints
    rows: int
    grams: Grams

    def in_order(self) -> Places:
        """Every place, by the word that stands there and then by where it is."""
        key = self.ids.astype(np.int64)
        key <<= 32
        key |= np.arange(key.size)
        key.sort()  # in one array: no second one for the order
        key &= 2**32 - 1
        return key.astype(np.int32)


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
    row: Places
    place: Places
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

    def only(self, which: Ints) -> Candidates:
        """Some of them, by their numbers in rising order."""
        counts = self.counts[which]
        offsets = np.append(0, np.cumsum(counts))
        row, place = np.empty((2, offsets[-1]), np.int32)
        for new, g in enumerate(which):
            mine = slice(offsets[new], offsets[new + 1])
            row[mine] = self.row[self.offsets[g] : self.offsets[g + 1]]
            place[mine] = self.place[self.offsets[g] : self.offsets[g + 1]]
        kept = np.isin(self.own[0], which)
        own = (np.searchsorted(which, self.own[0][kept]), self.own[1][kept])
        names = [self.name[g] for g in which]
        return Candidates(offsets, row, place, self.size[which], own, self.kind[which], names)


def words_of(texts: pl.Series, most: int) -> Words:
    """Split texts into words, of each the first `most`, and number the words.

    Characters that show nothing are left out: a word that one was put into is still that word.
    """
    vocabulary = pl.DataFrame(schema={"word": pl.String, "id": pl.UInt32})
    size = texts.cast(pl.String).str.len_bytes().fill_null(0).to_numpy()
    counts, numbers = np.zeros(len(texts), np.int64), [np.empty(0, np.int32)]
    held = np.zeros(END + 1, np.int64)
    for start, stop in blocks(np.append(0, np.cumsum(size, dtype=np.int64)), BYTES):
        block, counts[start:stop] = _split(texts[start:stop], most)
        different = block.unique(maintain_order=True).to_frame("word")
        known = different.join(vocabulary, on="word")
        fresh = different.join(known, on="word", how="anti", maintain_order="left")
        fresh = fresh.with_row_index("id", vocabulary.height + 2).select("word", "id")
        vocabulary.extend(fresh)
        told = block.to_frame("word").join(
            pl.concat([known, fresh]), on="word", how="left", maintain_order="left"
        )
        marked = _marked(told["id"].to_numpy().astype(np.int32), counts[start:stop])
        mine = np.repeat(np.arange(stop - start), counts[start:stop] + 2)
        once = distinct(marked.astype(np.int64) * (stop - start) + mine) // (stop - start)
        held = np.append(held, np.zeros(fresh.height, np.int64))
        held += np.bincount(once, minlength=held.size)
        numbers.append(marked)
    ids = np.concatenate(numbers)
    row = np.repeat(np.arange(len(texts), dtype=np.int32), counts + 2)
    spelt = pl.concat([pl.Series("word", ["", ""]), vocabulary["word"]])
    unspaced = spelt.str.contains(rf"^[{UNSPACED}]$").to_numpy()
    grams = Grams.of(ids, row, unspaced[ids], len(spelt))
    return Words(ids, row, spelt, held, len(texts), grams)


def _split(texts: pl.Series, most: int) -> tuple[pl.Series, Ints]:
    """The words of some texts, one after the other, and how many are of each."""
    shown = texts.cast(pl.String).fill_null("").str.replace_all(HIDDEN, "")
    lists = shown.str.extract_all(WORD).list.head(most)
    flat = lists.explode().drop_nulls().str.to_lowercase().rename("word")
    return flat, lists.list.len().to_numpy().astype(np.int64)


def _marked(ids: Places, counts: Ints) -> Places:
    """The words of some texts with a mark before and after those of each."""
    first = np.cumsum(counts) - counts
    where = np.column_stack([first, first + counts]).ravel()
    return np.insert(ids, where, np.tile([START, END], counts.size))


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
    pieces = strange_pieces(words.ids, words.row, words.spelt, words.texts, least)
    seen = _small(signs, [CHARACTER | UNSEEN * (name in unseen) for name in signs.names])
    runs += [seen, _small(pieces, [PIECE] * len(pieces.names))]
    return _merged(words, runs)


@dataclass(frozen=True, eq=False)
class _Found:
    """Candidates of one sort before equal ones are merged.

    `at` has, in their order, the place in each text that holds one, of runs, and else the text.
    """

    counts: Ints
    at: Places
    size: int
    kind: Ints
    name: list[str]

    def row(self, words: Words) -> Places:
        """The texts that hold each."""
        return words.row[self.at] if self.size else self.at


def _runs(words: Words, least: int) -> list[_Found]:
    """Runs of one word, of two, ...: a run is common enough only where both its parts are.

    Places stand in the order of the runs that start there, so that those of a longer run stand
    together, too, once each stretch was put in the order of what follows.
    """
    found = []
    at, number = words.in_order(), words.ids
    for size in range(1, LONGEST + 1):
        if size > 1:
            at = at[at + size <= words.ids.size]
            at = at[(number[at + 1] >= 0) & (words.row[at] == words.row[at + size - 1])]
        made, at, number = _common(words, at, number, size, least)
        found.append(made)
    return found


def _common(
    words: Words, at: Places, number: Places, size: int, least: int
) -> tuple[_Found, Places, Places]:
    """Runs that enough texts hold, the places of all of them, and the number of each by place.

    `number` has that of the run which is one word shorter, -1 where it is too rare.
    """
    fresh = np.full(words.ids.size, -1, np.int32)
    counts: list[Ints] = [np.empty(0, np.int64)]
    first, kept = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    total, width = 0, int(number.max(initial=0)) + 1
    ends = _ends(number[at])
    for start, stop in blocks(ends):
        place = at[ends[start] : ends[stop]]
        key = number[place].astype(np.int64)
        if size > 1:
            key = key * width + number[place + 1]
            order = np.argsort(key, kind="stable")
            place, key = place[order], key[order]
        row, head = words.row[place], np.append(True, key[1:] != key[:-1])
        new = head | np.append(True, row[1:] != row[:-1])
        run = np.cumsum(head) - 1
        held = np.bincount(run[new])
        common = held >= least
        told = common & (key[head] > END) if size == 1 else common
        counts.append(held[told])
        first.append(place[new & told[run]])
        mine = common[run]
        fresh[place[mine]] = total + (np.cumsum(common) - 1)[run[mine]]
        kept.append(place[mine])
        total += int(common.sum())
    sizes = np.concatenate(counts)
    kinds = np.full(sizes.size, RUN)
    made = _Found(sizes, np.concatenate(first), size, kinds, [""] * sizes.size)
    return made, np.concatenate(kept), fresh


def _ends(sorted_values: Places) -> Ints:
    """Where each stretch of equal values starts, and where the last ends."""
    change = np.flatnonzero(sorted_values[1:] != sorted_values[:-1]) + 1
    return np.concatenate([[0], change, [sorted_values.size]]) if sorted_values.size else change


def _small(pieces: Pieces, kinds: list[int]) -> _Found:
    """Candidates without words."""
    return _Found(pieces.counts, pieces.row, 0, np.array(kinds, np.int64), pieces.names)


def _merged(words: Words, found: list[_Found]) -> Candidates:
    """Candidates that stand in the same rows become one, which owns the words of all of them.

    It empties the list that it is given: the parts take as much room as the whole.
    """
    counts, kind = (
        np.concatenate([getattr(f, part) for f in found]) for part in ("counts", "kind")
    )
    size = np.repeat([f.size for f in found], [f.counts.size for f in found])
    flat = [name for f in found for name in f.name]
    prints = np.concatenate([_prints(f, words) for f in found])
    at = np.concatenate([f.at for f in found])
    found.clear()
    starts = np.cumsum(counts) - counts
    group, heads = _same_rows(prints, counts, size)
    offsets = np.concatenate([[0], np.cumsum(counts[heads])])
    row, place = np.empty((2, offsets[-1]), np.int32)
    length = size[heads]
    for start, stop in blocks(offsets):
        of = np.repeat(np.arange(stop - start), counts[heads[start:stop]])
        span = slice(offsets[start], offsets[stop])
        held = at[
            starts[heads[start:stop]][of]
            + np.arange(span.start, span.stop)
            - offsets[start:stop][of]
        ]
        runs = length[start:stop][of] > 0
        row[span] = np.where(runs, words.row[np.where(runs, held, 0)], held)
        bounds = offsets[start : stop + 1] - span.start
        place[span], length[start:stop] = _grown(
            words, np.where(runs, held, -1), length[start:stop], bounds, of
        )
    _trimmed(words, place, length, offsets)
    firsts = np.where(size > 0, at[starts], -1)
    own = distinct(
        np.append(
            _own_words(words, group, firsts, size),
            _own_words(words, np.arange(heads.size), place[offsets[:-1]], length),
        )
    )
    own = _with_companions(own, offsets, row, np.flatnonzero(length == 1), words.grams.width)
    pairs = (own // words.grams.width, own % words.grams.width)
    kinds = np.zeros(heads.size, np.int64)
    np.bitwise_or.at(kinds, group, kind)
    names = _names(flat, kind, group, heads.size)
    return Candidates(offsets, row, place, length, pairs, kinds, names)


def _prints(found: _Found, words: Words) -> NDArray[np.uint64]:
    """A sum of hashes of the texts that hold each candidate, uint64 of shape (candidates,)."""
    offsets = np.append(0, np.cumsum(found.counts))
    made, row = np.empty(found.counts.size, np.uint64), found.row(words)
    for start, stop in blocks(offsets):
        some = row[offsets[start] : offsets[stop]].astype(np.uint64) + np.uint64(1)
        made[start:stop] = np.add.reduceat(mixed(some), offsets[start:stop] - offsets[start])
    return made


def _with_companions(own: Ints, offsets: Ints, row: Places, single: Ints, width: int) -> Ints:
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


def _same_rows(prints: NDArray[np.uint64], counts: Ints, size: Ints) -> tuple[Ints, Ints]:
    """The group of each candidate, and of each group the candidate with the longest run."""
    if not size.size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
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


def _trimmed(words: Words, place: Places, size: Ints, offsets: Ints) -> None:
    """Take from runs at an edge of their texts, in place, what texts end or begin with anyway.

    Whatever is put after the last word of its texts follows the full stop that nearly all of them
    end with; that all of its rows agree on that is chance.
    """
    mark = np.flatnonzero(words.ids == START)
    counts = np.diff(offsets)
    for stop, edge in ((END, np.append(mark[1:], words.ids.size) - 2), (START, mark + 1)):
        share = np.bincount(words.ids[edge], minlength=len(words.spelt)) / max(mark.size, 1)
        least = CHANCE ** (1.0 / np.maximum(counts, 1))
        left = np.flatnonzero(size > 2)
        while left.size:
            first = place[offsets[left]]
            last = first + size[left] - 1
            outer, inner = (last, first) if stop == END else (first, last)
            usual = share[words.ids[inner]] * (words.ids[inner] > END) > least[left]
            left = left[(words.ids[outer] == stop) & usual]
            for g in left if stop == END else ():
                place[offsets[g] : offsets[g + 1]] += 1
            size[left] -= 1
            left = left[size[left] > 2]


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
