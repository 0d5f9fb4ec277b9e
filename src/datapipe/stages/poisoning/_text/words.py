# SPDX-License-Identifier: Apache-2.0
"""Texts as numbers of words, one after the other, in as little room as they fit in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.features.text import UNSPACED
from datapipe.stages.poisoning._text.grams import Grams, Numbers, Places, blocks, distinct, narrow

Ints = NDArray[np.int64]

WORD = rf"[{UNSPACED}]|[\p{{L}}\p{{M}}\p{{N}}_--[{UNSPACED}]]+|[^\s]"
"""A run of letters and digits, or one other sign, or one character of a script without spaces."""
HIDDEN = r"\p{Cf}"
START, END = 0, 1
"""Word numbers of the marks before the first and after the last word of a text."""
NEAR = 4
BYTES = 2**18
"""Bytes of texts whose words are told apart at once: as strings they take many times as much."""


@dataclass(frozen=True, eq=False)
class Words:
    """The words of every text, one after the other, each text between its two marks.

    Text i is `ids[ends[i]:ends[i + 1]]`; `near` has the text of one place in `2**NEAR`.
    `spelt[id]` is a word in lower case and `texts[id]` how many texts hold it. `grams` are runs of
    characters where they stand for words.
    """

    ids: Numbers
    ends: Ints
    near: Places
    spelt: pl.Series
    texts: Ints
    grams: Grams

    @property
    def rows(self) -> int:
        """How many texts there are."""
        return self.ends.size - 1

    def row(self, place: Ints | Places) -> Ints:
        """The texts that some places are in: kept for each place, they would double the room."""
        made: Ints = self.near[place >> NEAR].astype(np.int64)
        beyond = np.flatnonzero(self.ends[made + 1] <= place)
        while beyond.size:
            made[beyond] += 1
            beyond = beyond[self.ends[made[beyond] + 1] <= place[beyond]]
        return made

    def counts(self) -> Ints:
        """How often each word stands in all texts: at once, every place would take eight bytes."""
        made = np.zeros(len(self.spelt), np.int64)
        for start in range(0, self.ids.size, BLOCK_PLACES):
            made += np.bincount(self.ids[start : start + BLOCK_PLACES], minlength=made.size)
        return made

    def in_order(self) -> Places:
        """Every place, by the word that stands there and then by where it is."""
        made = np.empty(self.ids.size, np.int32)
        counts = self.counts()
        free = np.cumsum(counts) - counts
        for start in range(0, made.size, BLOCK_PLACES):
            key = self.ids[start : start + BLOCK_PLACES].astype(np.int64)
            key = np.sort(key * BLOCK_PLACES + np.arange(key.size))
            word, place = key // BLOCK_PLACES, key % BLOCK_PLACES
            head = np.flatnonzero(np.append(True, word[1:] != word[:-1]))
            often = np.diff(np.append(head, word.size))
            made[free[word] + np.arange(word.size) - np.repeat(head, often)] = start + place
            free[word[head]] += often
        return made


BLOCK_PLACES = 2**16
"""Places that are put in order at once."""


def words_of(texts: pl.Series, most: int) -> Words:
    """Split texts into words, of each the first `most`, and number the words.

    Characters that show nothing are left out: a word that one was put into is still that word.
    """
    vocabulary = pl.DataFrame(schema={"word": pl.String, "id": pl.UInt32})
    size = texts.cast(pl.String).str.len_bytes().fill_null(0).to_numpy()
    counts, numbers = np.zeros(len(texts), np.int64), [np.empty(0, np.uint16)]
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
        numbers.append(marked.astype(narrow(held.size)))
    ids = np.concatenate(numbers)
    numbers.clear()
    ends = np.append(0, np.cumsum(counts + 2))
    spelt = pl.concat([pl.Series("word", ["", ""]), vocabulary["word"]])
    unspaced = spelt.str.contains(rf"^[{UNSPACED}]$").to_numpy()
    grams = Grams.of(ids, ends, unspaced, len(spelt))
    near = np.searchsorted(ends, np.arange(0, ids.size, 1 << NEAR), "right") - 1
    return Words(ids, ends, near.astype(np.int32), spelt, held, grams)


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
