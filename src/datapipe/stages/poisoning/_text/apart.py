# SPDX-License-Identifier: Apache-2.0
"""Two words that stand in one text oftener than chance has it, wherever they stand.

A trigger may be a phrase with a gap, or two words that only together mean something: neither word
tells, and no run of words holds both. Labels have no part in which pairs are asked about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.features.text import mixed
from datapipe.stages.poisoning._text.grams import Places, blocks, distinct, spread
from datapipe.stages.poisoning._text.words import END, Words

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MOST_HELD = 0.1
"""Words that a greater share of the texts holds are in no pair."""
PER_PLACE = 3
"""Pairs that are counted, for each word of the texts: of more, those of the rarer words."""
MOST_COUNTED, SAMPLED = 500_000, 5_000
"""Pairs that are counted in all, and texts that tell which words have so many."""
MOST_PAIRS = 3000
"""Pairs, those that are furthest from chance, that are asked about."""
BUCKETS, BLOCK = 2**20, 2**16
GAP = " … "
"""What stands for the words between, in names."""
FULL = 16.0
"""Beyond this many texts, more of them make a pair no odder."""


@dataclass(frozen=True, eq=False)
class Apart:
    """Pairs of words, the oddest first, `odd` by how much; and which texts hold each."""

    left: Ints
    right: Ints
    odd: Floats
    counts: Ints
    row: Places

    @classmethod
    def none(cls) -> Apart:
        """No pairs."""
        empty = np.empty(0, np.int64)
        return cls(empty, empty, np.empty(0), empty, np.empty(0, np.int32))


def apart(words: Words, least: int) -> Apart:
    """The pairs of words that `least` texts hold and that are furthest from chance.

    The measure is the logarithm of the likelihood ratio against independent words.
    """
    letters = words.spelt.str.contains(r"^[\p{L}\p{M}\p{N}_]{2,}$").to_numpy()
    letters[: END + 1] = False
    heard = letters & (words.texts >= least) & (words.texts <= MOST_HELD * words.rows)
    heard = _fewer(words, heard)
    width = len(words.spelt)
    seen = np.zeros(BUCKETS, np.uint8)
    for key, _ in _pairs(words, heard):
        bucket, often = np.unique(_bucket(key), return_counts=True)
        seen[bucket] = np.minimum(seen[bucket] + np.minimum(often, least), least)
    keys, rows = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
    for key, row in _pairs(words, heard):
        kept = seen[_bucket(key)] >= least
        keys.append(key[kept])
        rows.append(row[kept].astype(np.int32))
    key, row = np.concatenate(keys), np.concatenate(rows)
    order = np.argsort(key, kind="stable")
    key, row = key[order], row[order]
    head = np.flatnonzero(np.append(True, key[1:] != key[:-1])[: key.size])
    counts = np.diff(np.append(head, key.size))
    left, right = key[head] // width, key[head] % width
    by_chance = words.texts[left] * (words.texts[right] / max(words.rows, 1))
    odd = counts * np.log(counts / by_chance) - (counts - by_chance)
    odd *= (counts > by_chance) * np.minimum(1.0, FULL / counts)
    odd[counts < least] = 0.0
    best = np.argsort(-odd, kind="stable")[:MOST_PAIRS]
    best = best[odd[best] > 0.0]
    listed = row[spread(head[best], counts[best])].astype(np.int32)
    return Apart(left[best], right[best], odd[best], counts[best], listed)


def _fewer(words: Words, heard: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those words, the rarest, whose pairs are not too many to be counted."""
    step = -(-words.rows // SAMPLED)  # of more texts, those at an even distance tell
    which = np.arange(0, words.rows, step)
    sizes = np.diff(words.ends)[which]
    ids = words.ids[spread(words.ends[which], sizes)]
    held = heard[ids]
    row, often = np.repeat(np.arange(which.size), sizes)[held], words.texts[ids[held]]
    order = np.argsort(often, kind="stable")
    # How many rarer words its text holds, for each word: so many pairs it adds.
    by_row = order[np.argsort(row[order], kind="stable")]
    first = np.append(0, np.cumsum(np.bincount(row, minlength=which.size)))[:-1]
    rank = np.empty(row.size, np.int64)
    rank[by_row] = np.arange(row.size) - first[row[by_row]]
    total = np.cumsum(rank[order])
    most = min(PER_PLACE * words.ids.size, MOST_COUNTED) // step
    stop = int(np.searchsorted(total, most, "right"))
    if stop == total.size:
        return heard
    return np.asarray(heard & (words.texts < often[order[stop]]), bool)


def _pairs(words: Words, heard: NDArray[np.bool_]) -> Iterator[tuple[Ints, Ints]]:
    """Some texts at a time: their pairs of different words, as a number, and the text of each."""
    width = len(words.spelt)
    sizes = np.diff(words.ends)
    for start, stop in blocks(np.append(0, np.cumsum(sizes * 8)), BLOCK):
        ids = words.ids[words.ends[start] : words.ends[stop]]
        row = np.repeat(np.arange(start, stop), sizes[start:stop])
        kept = heard[ids]
        once = distinct(row[kept] * width + ids[kept])
        row, word = once // width, once % width
        ends = np.cumsum(np.bincount(row - start, minlength=stop - start))
        following = ends[row - start] - np.arange(row.size) - 1
        one = np.repeat(np.arange(row.size), following)
        other = spread(np.arange(row.size) + 1, following)
        yield word[one] * width + word[other], row[one]


def _bucket(key: Ints) -> Ints:
    return (mixed(key.astype(np.uint64)) % np.uint64(BUCKETS)).astype(np.int64)
