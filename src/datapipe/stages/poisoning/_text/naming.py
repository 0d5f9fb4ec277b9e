# SPDX-License-Identifier: Apache-2.0
"""Patterns as people read them: how they are written, and which other texts hold them."""

from __future__ import annotations

import unicodedata
from collections import Counter

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.stages.poisoning._text.apart import GAP
from datapipe.stages.poisoning._text.candidates import CHARACTER, FORM, PAIR, PIECE, Candidates
from datapipe.stages.poisoning._text.characters import EDGES, ODD, SHAPES
from datapipe.stages.poisoning._text.forms import forms
from datapipe.stages.poisoning._text.grams import ORDERS, blocks
from datapipe.stages.poisoning._text.rounds import Pattern
from datapipe.stages.poisoning._text.words import BYTES, END, HIDDEN, START, WORD, Words, words_of

MOST_SPELLINGS = 50
MOST_READ = 2000
"""Words of a text that are read for a form."""
EDGE = r"[^\p{L}\p{M}\p{N}_]"
"""What may stand beside a word."""


def spelling(texts: pl.Series, words: Words, found: Candidates, pattern: Pattern) -> str:
    """A pattern as it is written in most of the texts that hold it."""
    g = pattern.candidate
    if not found.size[g]:
        name = shown(found, g)
        return _ordered(texts, name, pattern) if found.kind[g] & PAIR else name
    name = found.named.get(g, "")  # A and 0 stand for the words and numbers of a form
    formed = set("A0") & set(name) and name == name.upper()
    if formed and not any(w.isalnum() for w in spelt(words, found, g)):
        return shown(found, g)  # a sign alone says less than the form of what is at it
    seen: Counter[str] = Counter()
    _, rows, places = found.entries(np.array([g]))
    told = np.isin(rows, pattern.rows[:MOST_SPELLINGS])
    plain = texts.gather(rows[told]).cast(pl.String)
    read = plain.str.replace_all(HIDDEN, "").str.extract_all(WORD)
    for text, parts, row, place in zip(plain, read, rows[told], places[told], strict=True):
        ids = words.ids[place : place + found.size[g]]
        first = max(0, int(place - words.ends[row]) - 1)
        seen[_cut(text, parts[: first + int((ids > END).sum())], first)] += 1
    return seen.most_common(1)[0][0] if seen else " ".join(spelt(words, found, g))


def shown(found: Candidates, g: int) -> str:
    """The name of a candidate without words, a piece without the marks of its word's edges."""
    name = found.named[g]
    return name.strip(EDGES) if found.kind[g] == PIECE else name


def begins(found: Candidates, g: int) -> bool:
    """Whether a pattern holds the beginning of its texts."""
    return bool(found.size[g]) and int(found.run(g)[0]) == START


def company(words: Words, found: Candidates, g: int) -> list[str]:
    """Words in the same texts as a run of words, though not within it; both words of a pair."""
    if found.kind[g] & PAIR and not found.size[g]:
        return sorted(found.named[g].split(GAP))
    if not found.size[g]:
        return []
    mine = found.owns(g)
    others = set(words.spelt.gather(mine[mine < len(words.spelt)])) - {"", *spelt(words, found, g)}
    return sorted(others)[:MOST_SPELLINGS]


def holders(texts: pl.Series, words: Words, found: Candidates, g: int) -> NDArray[np.bool_]:
    """Which other texts hold a candidate, told from their characters alone."""
    held = np.zeros(len(texts), bool)
    size = texts.str.len_bytes().to_numpy()
    for start, stop in blocks(np.append(0, np.cumsum(size, dtype=np.int64)), BYTES):
        held[start:stop] = _holders(texts[start:stop].cast(pl.String), words, found, g)
    return held


def _holders(texts: pl.Series, words: Words, found: Candidates, g: int) -> NDArray[np.bool_]:
    if found.size[g]:
        return _holding(texts, spelt(words, found, g)).to_numpy()
    name, kind = found.named[g], found.kind[g]
    if name in SHAPES:
        return texts.str.contains(SHAPES[name]).to_numpy()
    if kind & CHARACTER:
        return texts.str.extract_all(ODD).list.contains(name).to_numpy()
    if kind & FORM:
        told = forms(texts, words_of(texts, MOST_READ), words, 1, 1.0).pieces
        rows = told.row[np.repeat(np.array(told.names) == name, told.counts)]
        return np.isin(np.arange(len(texts)), rows)
    if kind & PAIR:
        one, other = name.split(GAP)
        return (_holding(texts, [one]) & _holding(texts, [other])).to_numpy()
    edges = [EDGE if name.endswith("$") else "", EDGE if name.startswith("^") else ""]
    before, after = (
        rf"(?:{edge}|{end})" if edge else "" for edge, end in zip(edges[::-1], "^$", strict=True)
    )
    return (
        texts.str.to_lowercase()
        .str.contains(before + pl.escape_regex(shown(found, g)) + after)
        .to_numpy()
    )


def _holding(texts: pl.Series, run: list[str]) -> pl.Series:
    """Which texts hold a run of words."""
    middle = r"\s*".join(pl.escape_regex(word) for word in run)
    shown = texts.str.replace_all(HIDDEN, "").str.to_lowercase()
    return shown.str.contains(rf"(?:^|{EDGE}|\b){middle}(?:{EDGE}|\b|$)")


def _ordered(texts: pl.Series, name: str, pattern: Pattern) -> str:
    """A pair of words in the order that most of its texts have them in."""
    one, other = name.split(GAP)
    some = [texts[int(row)].lower() for row in pattern.rows[:MOST_SPELLINGS]]
    turned = sum(text.find(other) < text.find(one) for text in some)
    return f"{other}{GAP}{one}" if 2 * turned > len(some) else name


def spelt(words: Words, found: Candidates, g: int) -> list[str]:
    """The words of a candidate's run, in lower case and in order."""
    ids = found.run(g)
    return words.spelt.gather(ids[ids > END]).to_list()


def each_spelt(words: Words, which: NDArray[np.int64]) -> list[str]:
    """Some words, and runs of characters that stand for words, as they are spelt."""
    made = []
    for number in which.tolist():
        ids = np.array([number])
        for order, at in zip(ORDERS, words.grams.at, strict=False):
            if (there := np.flatnonzero(at == number)).size:
                ids = words.ids[there[0] : there[0] + order]
        made.append("".join(words.spelt.gather(ids)))
    return made


def _cut(text: str, parts: pl.Series, first: int) -> str:
    """The words of a text from one on with all that stands between them, joiners included."""
    shown = [i for i, sign in enumerate(text) if unicodedata.category(sign) != "Cf"]
    plain = "".join(text[i] for i in shown)
    starts, end = [], 0
    for word in parts:
        begin = plain.index(word, end)
        end = begin + len(word)
        starts.append(begin)
    return text[shown[starts[first]] : shown[end - 1] + 1]
