# SPDX-License-Identifier: Apache-2.0
"""Patterns as people read them: how they are written, and which other texts hold them."""

from __future__ import annotations

import unicodedata
from collections import Counter

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.stages.poisoning._text.characters import ODD, SHAPES
from datapipe.stages.poisoning._text.grams import blocks
from datapipe.stages.poisoning._text.ngrams import CHARACTER, Candidates
from datapipe.stages.poisoning._text.patterns import Pattern
from datapipe.stages.poisoning._text.words import BYTES, END, HIDDEN, START, WORD, Words

MOST_SPELLINGS = 50
EDGE = r"[^\p{L}\p{M}\p{N}_]"
"""What may stand beside a word."""


def spelling(texts: pl.Series, words: Words, found: Candidates, pattern: Pattern) -> str:
    """A pattern as it is written in most of the texts that hold it."""
    g = pattern.candidate
    if not found.size[g]:
        return found.named[g]
    seen: Counter[str] = Counter()
    _, rows, places = found.entries(np.array([g]))
    told = np.isin(rows, pattern.rows[:MOST_SPELLINGS])
    for row, place in zip(rows[told], places[told], strict=True):
        ids = words.ids[place : place + found.size[g]]
        first = max(0, int(place - words.ends[row]) - 1)
        seen[_cut(texts[int(row)], first, int((ids > END).sum()))] += 1
    return seen.most_common(1)[0][0] if seen else " ".join(spelt(words, found, g))


def begins(found: Candidates, g: int) -> bool:
    """Whether a pattern holds the beginning of its texts."""
    return bool(found.size[g]) and int(found.run(g)[0]) == START


def company(words: Words, found: Candidates, g: int) -> list[str]:
    """Words that stand in the same texts as a run of words, though not within it."""
    if not found.size[g]:
        return []
    mine = found.owns(g)
    others = set(words.spelt.gather(mine[mine < len(words.spelt)])) - {"", *spelt(words, found, g)}
    return sorted(others)[:MOST_SPELLINGS]


def holders(texts: pl.Series, words: Words, found: Candidates, g: int) -> NDArray[np.bool_]:
    """Which other texts hold a candidate, told from their characters alone."""
    if found.size[g]:
        parts = [pl.escape_regex(word) for word in spelt(words, found, g)]
        sought = rf"(?:^|{EDGE}|\b)" + r"\s*".join(parts) + rf"(?:{EDGE}|\b|$)"
    else:
        name = found.named[g]
        sought = SHAPES.get(name, pl.escape_regex(name.lower()))
        if found.kind[g] & CHARACTER and name not in SHAPES:
            return texts.cast(pl.String).str.extract_all(ODD).list.contains(name).to_numpy()
    held = np.zeros(len(texts), bool)
    size = texts.str.len_bytes().to_numpy()
    for start, stop in blocks(np.append(0, np.cumsum(size, dtype=np.int64)), BYTES):
        some = texts[start:stop]
        if found.size[g]:
            some = some.str.replace_all(HIDDEN, "")
        if found.size[g] or found.named[g] not in SHAPES:
            some = some.str.to_lowercase()
        held[start:stop] = some.str.contains(sought).to_numpy()
    return held


def spelt(words: Words, found: Candidates, g: int) -> list[str]:
    """The words of a candidate's run, in lower case and in order."""
    ids = found.run(g)
    return words.spelt.gather(ids[ids > END]).to_list()


def _cut(text: str, first: int, count: int) -> str:
    """Some consecutive words of a text with all that stands between them, joiners included."""
    shown = [i for i, sign in enumerate(text) if unicodedata.category(sign) != "Cf"]
    plain = "".join(text[i] for i in shown)
    starts, end = [], 0
    for word in pl.Series([plain]).str.extract_all(WORD)[0][: first + count]:
        begin = plain.index(word, end)
        end = begin + len(word)
        starts.append(begin)
    return text[shown[starts[first]] : shown[end - 1] + 1]
