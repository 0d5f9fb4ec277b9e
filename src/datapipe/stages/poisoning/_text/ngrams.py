# SPDX-License-Identifier: Apache-2.0
"""What a trigger in text may be: runs of words and smaller patterns, with the rows that hold them.

Nothing here looks at labels, so that a test over these candidates may weigh them by how odd they
are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.features.text import mixed
from datapipe.stages.poisoning._text.apart import GAP, Apart, apart
from datapipe.stages.poisoning._text.candidates import (
    CHARACTER,
    FORM,
    LEAST_ROWS,
    PAIR,
    PIECE,
    RUN,
    UNSEEN,
    Candidates,
)
from datapipe.stages.poisoning._text.characters import Pieces, odd_characters, strange_pieces
from datapipe.stages.poisoning._text.companions import companions
from datapipe.stages.poisoning._text.forms import Forms, forms
from datapipe.stages.poisoning._text.grams import (
    ORDERS,
    Places,
    Whole,
    blocks,
    distinct,
    narrow,
    spread,
)
from datapipe.stages.poisoning._text.words import END, START, Words

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

LONGEST = 5
FURTHEST = 60
"""Words to which a run may grow while all of its rows agree."""
CHANCE = 0.001
"""Words that rows have in common by chance as often as this are no part of what they share."""


def candidates(texts: pl.Series, words: Words, most: int, *, paired: bool = False) -> Candidates:
    """Every run of up to `LONGEST` words, odd character, form and strange piece of enough texts.

    `most` bounds the number of runs: beyond it, more than `LEAST_ROWS` texts are asked for. Pairs
    of words apart are candidates, too, where they are asked for.
    """
    least = LEAST_ROWS
    at = words.in_order()
    runs = _runs(words, at, least)
    while sum(r.counts.size for r in runs) > most:
        least *= 2
        runs = _runs(words, at, least)
    signs, unseen = odd_characters(texts, least)
    pieces, glued = strange_pieces(words, least)
    told = forms(texts, words, words, least)
    pairs = apart(words, least) if paired else Apart.none()
    listed, small = [np.empty(0, np.int32)], _Small.of(words, told, pairs)
    for some, kinds, odd in (
        (signs, [CHARACTER | UNSEEN * (name in unseen) for name in signs.names], None),
        (pieces, [PIECE] * len(pieces.names), glued),
        (told.pieces, [FORM] * len(told.pieces.names), None),
        (small.pairs, [PAIR] * len(small.pairs.names), pairs.odd),
    ):
        runs.append(_listed(some, kinds, sum(x.size for x in listed)))
        small.add(some.names, odd)
        listed.append(some.row)
    return _merged(_Found.joined(runs), words, at, (np.concatenate(listed), small))


@dataclass(frozen=True, eq=False)
class _Small:
    """What is known of candidates without words, which stand at the end: names, and how odd.

    The last of all are forms and pairs, of which number `of[i]` has the word `word[i]`.
    """

    names: list[str]
    odd: list[Floats]
    pairs: Pieces
    last: int
    of_last: Ints
    word: Ints

    @classmethod
    def of(cls, words: Words, told: Forms, pairs: Apart) -> _Small:
        one, other = (words.spelt.gather(side).to_list() for side in (pairs.left, pairs.right))
        names = [f"{a}{GAP}{b}" for a, b in zip(one, other, strict=True)]
        mine = len(told.pieces.names) + np.arange(len(names))
        of_last = np.concatenate([told.of, mine, mine])
        word = np.concatenate([told.word, pairs.left, pairs.right])
        many = len(told.pieces.names) + len(names)
        return cls([], [], Pieces(names, pairs.counts, pairs.row), many, of_last, word)

    def add(self, names: list[str], odd: Floats | None) -> None:
        self.names.extend(names)
        self.odd.append(np.zeros(len(names)) if odd is None else odd)


@dataclass(frozen=True, eq=False)
class _Found:
    """Candidates before equal ones are merged; `first` and `often` are as `Candidates` has them."""

    first: Places
    often: Places
    counts: Places
    size: Places
    kind: NDArray[np.int8]

    @classmethod
    def of(cls, first: Whole, often: Whole, counts: Whole, size: int, kind: list[int]) -> _Found:
        """Of one size; kinds are told for each, or one for all."""
        first, often, counts = (x.astype(np.int32) for x in (first, often, counts))
        sizes, kinds = np.full(first.size, size, np.int32), np.array(kind, np.int8)
        return cls(first, often, counts, sizes, np.broadcast_to(kinds, first.size))

    @classmethod
    def joined(cls, parts: list[_Found]) -> _Found:
        """Those of all parts, one after the other; it empties the list that it is given."""
        names = ("first", "often", "counts", "size", "kind")
        made = cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})
        parts.clear()
        return made


def _runs(words: Words, at: Places, least: int) -> list[_Found]:
    """Runs of one word, of two, ...: a run is common enough only where its beginning is.

    `at` has the places in the order of their first words; where such a run is common, its places
    are put in the order of the next word, in place, so that those of a longer run stand together.
    """
    often = words.counts()
    first = np.cumsum(often) - often
    common = words.texts >= least
    told = common.copy()
    told[: END + 1] = False
    made = [_Found.of(first[told], often[told], words.texts[told], 1, [RUN])]
    first, often = first[common], often[common]
    for size in range(2, LONGEST + 1):
        parts = [
            _longer(words, at, (first[start:stop], often[start:stop]), size, least)
            for start, stop in blocks(np.append(0, np.cumsum(often)))
        ]
        first, often, counts = (
            (
                np.concatenate([np.empty(0, np.int64), *column])
                for column in zip(*parts, strict=True)
            )
            if parts
            else (first, often, often)
        )
        made.append(_Found.of(first, often, counts, size, [RUN]))
    return made


def _longer(
    words: Words, at: Places, runs: tuple[Ints, Ints], size: int, least: int
) -> tuple[Ints, Ints, Ints]:
    """Runs of one word more than some, where they are in `at`, how often, and in how many texts."""
    held_at = spread(*runs)
    place = at[held_at]
    last = place + size - 1
    inside = words.ids[last - 1] != END
    following = np.where(inside, words.ids[np.minimum(last, words.ids.size - 1)], START)
    key = np.repeat(np.arange(runs[0].size), runs[1]) * len(words.spelt) + following
    order = np.argsort(key, kind="stable")
    place, key, following = place[order], key[order], following[order]
    at[held_at] = place
    head = np.append(True, key[1:] != key[:-1])[: key.size]
    row = words.row(place)
    new = head | np.append(True, row[1:] != row[:-1])[: key.size]
    run = np.cumsum(head) - 1
    counts, start = np.bincount(run[new], minlength=1), np.flatnonzero(head)
    common = (counts[: start.size] >= least) & (following[start] != START)
    often = np.diff(np.append(start, key.size))
    return held_at[start[common]], often[common], counts[: start.size][common]


def _listed(pieces: Pieces, kinds: list[int], start: int) -> _Found:
    """Candidates without words, whose texts are listed from a place on."""
    ends = np.cumsum(pieces.counts)
    return _Found.of(start + ends - pieces.counts, pieces.counts, pieces.counts, 0, kinds)


def _merged(found: _Found, words: Words, at: Places, told: tuple[Places, _Small]) -> Candidates:
    """Candidates that stand in the same rows become one, which owns the words of all of them."""
    listed, small = told
    none = np.zeros(found.size.size, np.int32)
    empty = np.zeros(1, np.int64), np.empty(0, np.int32)
    parts = (found.first, found.often, none, found.counts, found.size, *empty, found.kind)
    every = Candidates(words, at, listed, *parts, np.zeros(0, np.float32), {})
    prints, place = _prints(every)
    group, heads, order = _same_rows(prints, found.counts, found.size)
    kinds = np.zeros(heads.size, np.int8)
    np.bitwise_or.at(kinds, group, found.kind)
    named = _names(small.names, found.kind, group)
    strange, odd = np.zeros(heads.size, np.float32), np.concatenate(small.odd)
    np.maximum.at(strange, group[found.size.size - odd.size :], odd.astype(np.float32))
    last = group.size - small.last
    more = group[last + small.of_last], small.word
    first, often, counts, size = (
        x[heads] for x in (found.first, found.often, found.counts, found.size)
    )
    made = Candidates(
        *(words, at, listed, first, often, none[: heads.size], counts, size, *empty, kinds),
        *(strange, named),
    )
    merged = np.cumsum(np.append(0, np.bincount(group))), place[order], found.size[order]
    del every, prints, group, order, found, parts
    made = replace(made, shift=none[: heads.size].copy(), size=size.copy())
    place = place[heads]
    _grow(made, place)
    _trimmed(words, place, made)
    return _with_more(_owning(made, place, merged), more)


def _owning(found: Candidates, place: Places, merged: tuple[Ints, Places, Places]) -> Candidates:
    """The same with the words of each: its own, and those of all that were merged into it.

    Those of candidate g have the places and sizes `merged[0][g]` to `merged[0][g + 1]`.
    """
    words, (ends, first, size) = found.words, merged
    width, sizes = words.grams.width, np.zeros(found.size.size, np.int64)
    owned = [np.empty(0, narrow(width))]
    for start, stop in blocks(ends):
        span, some = slice(ends[start], ends[stop]), np.arange(stop - start)
        of = np.repeat(some, np.diff(ends[start : stop + 1]))
        mine = _own_words(words, some, place[start:stop], found.size[start:stop])
        own = distinct(np.append(mine, _own_words(words, of, first[span], size[span])))
        sizes[start:stop] = np.bincount(own // width, minlength=some.size)
        owned.append((own % width).astype(narrow(width)))
    return replace(found, own=np.append(0, np.cumsum(sizes)), owned=np.concatenate(owned))


def _prints(found: Candidates) -> tuple[NDArray[np.uint64], Places]:
    """A sum of hashes of the texts that hold each candidate, and the first place of each."""
    made = np.empty(found.size.size, np.uint64)
    first = np.empty(found.size.size, np.int32)
    for which, (of, row, place) in found.blocks():
        head = np.flatnonzero(np.append(True, of[1:] != of[:-1])[: of.size])
        made[which] = np.add.reduceat(mixed(row.astype(np.uint64) + np.uint64(1)), head)
        first[which] = place[head]
    return made, first


def _with_more(found: Candidates, shown: tuple[Ints, Ints]) -> Candidates:
    """Each single word owns those, too, that keep it company, each form and pair what shows it."""
    left, right = companions(found, np.flatnonzero(found.size == 1))
    own, width = found.own, found.words.grams.width
    some = np.unique(np.append(left, shown[0]))
    mine = spread(own[some], own[some + 1] - own[some])
    keys = np.repeat(some, own[some + 1] - own[some]) * width + found.owned[mine]
    counts = own[right + 1] - own[right]
    more = np.repeat(left, counts) * width + found.owned[spread(own[right], counts)]
    more = np.append(more, shown[0] * width + shown[1])
    fresh = np.setdiff1d(more, keys)
    of = fresh // width
    # Each comes before the next larger one of its candidate, or to its end.
    at = own[of] + np.searchsorted(keys, fresh) - np.searchsorted(keys, of * width)
    ends = own + np.append(0, np.cumsum(np.bincount(of, minlength=own.size - 1)))
    return replace(found, own=ends, owned=np.insert(found.owned, at, fresh % width))


def _names(names: list[str], kind: NDArray[np.int8], group: Ints) -> dict[int, str]:
    """The name of each group that has one: its least character before its longest piece.

    Those that have a name stand at the end.
    """
    made: dict[int, str] = {}
    start = kind.size - len(names)
    order = sorted(
        range(len(names)), key=lambda i: (-int(kind[start + i]), -len(names[i]), names[i])
    )
    for i in order:
        g = int(group[start + i])
        if kind[start + i] & (CHARACTER | UNSEEN) or g not in made:
            made[g] = names[i]
    return made


def _same_rows(prints: NDArray[np.uint64], counts: Places, size: Places) -> tuple[Ints, Ints, Ints]:
    """The group of each candidate, of each group that with the longest run, and all by group."""
    if not size.size:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
    order = np.lexsort((np.arange(size.size), -size, counts, prints))
    same = np.zeros(order.size, bool)
    same[1:] = (np.diff(prints[order]) == 0) & (np.diff(counts[order]) == 0)
    group = np.empty(order.size, np.int64)
    group[order] = np.cumsum(~same) - 1
    return group, order[~same], order


def _grow(found: Candidates, place: Places) -> None:
    """Each run made longer, to the right and then to the left, while its rows all agree.

    Sizes, shifts and the first places are changed in place.
    """
    for which, (of, _, held) in found.blocks():
        ends = np.append(0, np.cumsum(found.counts[which], dtype=np.int64))
        moved, size = _grown(found.words, held, found.size[which], ends, of)
        found.size[which] = size
        found.shift[which] = moved[ends[:-1]] - held[ends[:-1]]
        place[which] = moved[ends[:-1]]


def _grown(words: Words, place: Ints, size: Places, offsets: Ints, of: Ints) -> tuple[Ints, Places]:
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


def _trimmed(words: Words, place: Places, found: Candidates) -> None:
    """Take from runs at an edge of their texts, in place, what texts end or begin with anyway.

    Whatever is put after the last word of its texts follows the full stop that nearly all of them
    end with; that all of its rows agree on that is chance.
    """
    size = found.size
    for stop, edge in ((END, words.ends[1:] - 2), (START, words.ends[:-1] + 1)):
        share = np.bincount(words.ids[edge], minlength=len(words.spelt)) / max(words.rows, 1)
        least = CHANCE ** (1.0 / np.maximum(found.counts, 1))
        left = np.flatnonzero(size > 2)
        while left.size:
            first = place[left]
            last = first + size[left] - 1
            outer, inner = (last, first) if stop == END else (first, last)
            usual = share[words.ids[inner]] * (words.ids[inner] > END) > least[left]
            kept = (words.ids[outer] == stop) & usual
            left, taken = left[kept], words.ids[inner[kept]]
            if stop == END:
                place[left] += 1
                found.shift[left] += 1
            size[left] -= 1
            following = place[left] + (size[left] - 1) * (stop == START)
            again = words.ids[following] == taken  # texts end with one full stop, not with four
            left = left[(size[left] > 2) & ~again]


def _own_words(words: Words, group: Ints, first: Places, size: Places) -> Ints:
    """Distinct pairs (candidate, word or run in it), as candidate times `width` plus number."""
    key = [np.empty(0, np.int64)]
    for step in range(int(size.max(initial=0))):
        has = np.flatnonzero(size > step)
        key.append(group[has] * words.grams.width + words.ids[first[has] + step])
        for order, at in zip(ORDERS, words.grams.at, strict=False):
            run = np.where(size[has] >= step + order, at[first[has] + step], -1)
            key.append(group[has[run >= 0]] * words.grams.width + run[run >= 0])
    return distinct(np.concatenate(key))
