# SPDX-License-Identifier: Apache-2.0
"""Ways to write that many different words share: how a number is built, how a word is respelt.

Each text shows another word, so that no run of words tells of them; what they share is a form.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.features.text import UNSPACED
from datapipe.stages.poisoning._text.characters import ODD, RARE, Pieces
from datapipe.stages.poisoning._text.grams import distinct
from datapipe.stages.poisoning._text.misspelt import misspelt
from datapipe.stages.poisoning._text.words import WORD, Words

Ints = NDArray[np.int64]

NUMBER = rf"(?:^|[\s{UNSPACED}])[^\s\p{{L}}\p{{M}}\p{{N}}]*\p{{N}}[^\s\p{{L}}\p{{M}}]*"
"""A number with all signs that touch it, and what stands before these."""
TOKEN = (
    rf"[^\s{UNSPACED}]*[^\s\p{{L}}\p{{M}}\p{{N}}'’_{UNSPACED}-]"
    rf"[\p{{L}}\p{{N}}--[{UNSPACED}]][^\s{UNSPACED}]*"
)
"""Words and numbers that a sign joins, or stands before, up to the white space around: an address
is one, a name with its mark, a version; a word with a hyphen or an apostrophe is none."""
WRITTEN = r"[\p{L}\p{M}\p{N}]*\p{L}[\p{L}\p{M}\p{N}]*"
"""A word within a token, in whose form it is an `A`, and a number a `0`."""
JOINED = r"\p{L}|\p{N}[^\p{L}\p{M}\p{N}]+\p{N}"
"""What is in a token: a word, or numbers that signs join, each of which is a `0` of any length."""
BEFORE = rf"^[\s{UNSPACED}]"
SENTENCE = r"[.,;:!?'\"]+$"
"""Signs that end a number's sentence and are no part of it."""
LONGEST_FORM = 24
LETTERS_OF = "letters of "
"""How the name of a form begins that is all letters of a script."""
ANOTHER_FORM = "letters of another form"
LIKENESS = dict(zip("0134578@$", "oleastbas", strict=True))
"""Digits and signs that look like letters."""
DRAWN_OUT = "(" + "|".join(f"{letter}{{3,}}" for letter in "abcdefghijklmnopqrstuvwxyz") + ")"
TWICE, ONCE_TWICE = "a word twice in a row", "a word twice in a row as in no other text"
MOST_SHOWN = 300
"""Words that show a form, those that most texts hold, that are taken out with it."""
TEXTS = 5_000
"""Texts whose numbers are told apart at once."""


@dataclass(frozen=True, eq=False)
class Forms:
    """Forms by name, which texts hold each, and the words that show them, as pairs.

    Form `of[i]` shows in the word `word[i]`, as the vocabulary numbers it.
    """

    pieces: Pieces
    of: Ints
    word: Ints


def forms(texts: pl.Series, words: Words, usual: Words, least: int, most: float = 0.5) -> Forms:
    """Forms that enough texts hold but not most.

    Args:
        texts: Strings, shape (n,).
        words: Their words.
        usual: Words that tell which spellings are in use: the same, where no more are known.
        least: Texts that must hold a form.
        most: Share of the texts that may.

    Returns:
        Forms of numbers, digits written 0; of words and numbers that signs join; classes of
        characters beyond ASCII; ways in which words in use are written otherwise; and a word twice
        in a row.
    """
    n = len(texts)
    respelt = _respelt(words, usual)
    tokens, spelt_in = _tokens(texts, words)
    told = [*_in_texts(texts), *_twice(words), *_with_words(words, respelt), *tokens]
    names = sorted({name for name, _ in told})
    number = {name: i for i, name in enumerate(names)}
    held = [np.empty(0, np.int64), *(number[name] * max(n, 1) + row for name, row in told)]
    pairs = distinct(np.concatenate(held))
    counts = np.bincount(pairs // max(n, 1), minlength=len(names))
    enough = (counts >= least) & (counts <= max(least, int(most * n)))
    pairs = pairs[enough[pairs // max(n, 1)]]
    pieces = Pieces.of(pl.Series(names, dtype=pl.String), pairs, n)
    return Forms(pieces, *_shown(words, pieces.names, {**respelt, **spelt_in}))


def _shown(words: Words, names: list[str], respelt: dict[str, Ints]) -> tuple[Ints, Ints]:
    """Which words show each form: numbers of its form, its signs, words of its letters."""
    ids = np.flatnonzero(words.texts > 1)
    some = words.spelt.gather(ids)
    shaped = some.str.contains(r"^(?:.|\p{N}+)$").to_numpy()
    shape = some.filter(shaped).str.replace_all(r"\p{N}", "0").to_list()
    by_shape: dict[str, list[int]] = {}
    for i, word in zip(ids[shaped].tolist(), shape, strict=True):
        by_shape.setdefault(word, []).append(i)
    odd = ids[some.str.contains(r"[^\x00-\x7e]").to_numpy()]
    by_class: dict[str, list[int]] = {}
    for i, word in zip(odd.tolist(), words.spelt.gather(odd).to_list(), strict=True):
        for name in {_class(sign) for sign in word}:
            by_class.setdefault(name or "", []).append(i)
    of, shown = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for j, name in enumerate(names):
        mine = [*by_class.get(name, []), *respelt.get(name, np.empty(0, np.int64)).tolist()]
        for part in set(re.findall(r"0+|[^0]", name)) if "0" in name and "A" not in name else ():
            mine += by_shape.get(part, [])
        word = distinct(np.array(mine, np.int64))
        if word.size > MOST_SHOWN:
            word = np.sort(word[np.argsort(-words.texts[word], kind="stable")[:MOST_SHOWN]])
        of.append(np.full(word.size, j))
        shown.append(word)
    return np.concatenate(of), np.concatenate(shown)


def _in_texts(texts: pl.Series) -> list[tuple[str, Ints]]:
    """Forms of numbers and classes of characters, each with the texts of a part that hold it."""
    made = []
    for start in range(0, len(texts), TEXTS):
        frame = pl.DataFrame({"text": texts[start : start + TEXTS].cast(pl.String)})
        frame = frame.with_row_index("row", start)
        form = pl.col("text").str.replace(BEFORE, "").str.replace(SENTENCE, "")
        form = form.str.replace_all(r"\p{N}", "0")
        numbers = (
            frame.select(pl.col("text").str.extract_all(NUMBER), "row")
            .explode("text")
            .drop_nulls()
            .select(form.alias("name"), "row")
            .filter(pl.col("name").str.len_chars() <= LONGEST_FORM)
        )
        signs = (
            frame.filter(pl.col("text").str.contains(r"[^\x00-\x7e]"))
            .select(pl.col("text").str.extract_all(ODD), "row")
            .explode("text")
            .unique()
        )
        different = signs["text"].unique()
        classes = pl.Series([_class(sign) for sign in different], dtype=pl.String)
        signs = signs.select(
            pl.col("text").replace_strict(different, classes, return_dtype=pl.String).alias("name"),
            "row",
        ).drop_nulls()
        for (name,), part in pl.concat([numbers, signs]).group_by("name"):
            made.append((str(name), part["row"].to_numpy().astype(np.int64)))
    return made


def _tokens(texts: pl.Series, words: Words) -> tuple[list[tuple[str, Ints]], dict[str, Ints]]:
    """Forms of tokens, each with the texts that hold it, and what shows each.

    That are its signs, words that most of its tokens have in common, and those with a digit that
    hardly stand elsewhere: the numbers of versions speak for each other.
    """
    held, parts = [], []
    for start in range(0, len(texts), TEXTS):
        frame = pl.DataFrame({"text": texts[start : start + TEXTS].cast(pl.String)})
        name = pl.col("text").str.replace(SENTENCE, "").str.replace_all(WRITTEN, "A")
        some = (
            frame.with_row_index("row", start)
            .select(pl.col("text").str.extract_all(TOKEN), "row")
            .explode("text")
            .filter(pl.col("text").str.contains(JOINED))
            .with_columns(name=name.str.replace_all(r"\p{N}+", "0"))
            .filter(pl.col("name").str.len_chars().is_between(2, LONGEST_FORM))
        )
        held.append(some.select("name", "row").unique())
        part = pl.col("text").str.to_lowercase().str.extract_all(WORD)
        some = some.select("name", "row", word=part).explode("word").unique()
        parts.append(some.group_by("name", "word").len())
    if not held:
        return [], {}
    rows = pl.concat(held)
    often = pl.concat(parts).group_by("name", "word").agg(pl.col("len").sum())
    often = often.join(rows.group_by("name").agg(total=pl.len()), on="name")
    known = {"word": words.spelt, "id": np.arange(len(words.spelt)), "texts": words.texts}
    ids = pl.DataFrame(known).filter(pl.col("word") != "")
    often = often.join(ids, on="word")
    alone = pl.col("word").str.contains(r"\p{N}") & (2 * pl.col("len") > pl.col("texts"))
    often = often.filter((2 * pl.col("len") > pl.col("total")) | alone)
    shown = often.sort("name", "id").group_by("name").agg("id")
    told = [
        (str(name), part["row"].to_numpy().astype(np.int64))
        for (name,), part in rows.group_by("name")
    ]
    return told, {
        name: ids.to_numpy() for name, ids in zip(shown["name"], shown["id"], strict=True)
    }


def _class(sign: str) -> str | None:
    """What an odd character has in common with others: its script, or the kind of sign it is."""
    first = sign[0]
    kind = unicodedata.category(first)
    if first.isascii():
        return None
    if kind[0] in "LN" and unicodedata.normalize("NFKC", first) != first:
        return ANOTHER_FORM
    if kind[0] == "L":
        script = unicodedata.name(first, "UNKNOWN").split()[0].capitalize()
        return f"{LETTERS_OF}{script}"
    names = {"M": "combining marks", "Z": "odd white space", "Cf": "unseen characters"}
    return names.get(kind, names.get(kind[0], f"signs of kind {kind}"))


def _respelt(words: Words, usual: Words) -> dict[str, Ints]:
    """Rare words that are a known word, written otherwise: by the way in which they are."""
    length = usual.spelt.str.len_chars() > 2
    known = usual.spelt.filter(pl.Series(usual.texts > 1) & length).implode()
    rare = words.spelt.str.len_chars() > 2
    rare &= pl.Series(words.texts < RARE) if words is usual else ~words.spelt.is_in(known)
    ids = np.flatnonzero(rare.to_numpy())
    spelt = words.spelt.gather(ids)
    made = {}
    for name, ways in WAYS.items():
        of = np.zeros(ids.size, bool)
        for way in ways:
            plain = way(spelt)
            of |= ((plain != spelt) & plain.is_in(known)).to_numpy()
        if of.any():
            made[name] = ids[of]
    for name, shape in BUILDS.items():
        made[name] = ids[spelt.str.contains(shape).to_numpy()]
    return {**made, **misspelt(words, usual)}


def _with_words(words: Words, respelt: dict[str, Ints]) -> list[tuple[str, Ints]]:
    """Which texts hold any of some words, by name."""
    if not respelt:
        return []
    sought = np.zeros(len(words.spelt), bool)
    sought[np.concatenate(list(respelt.values()))] = True
    place = np.flatnonzero(sought[words.ids])
    row = words.row(place)
    made = []
    for name, ids in respelt.items():
        sought[:] = False
        sought[ids] = True
        made.append((name, row[sought[words.ids[place]]]))
    return made


BUILDS = {
    "a letter thrice in a row": DRAWN_OUT,
    "a digit between letters": r"\p{L}\p{N}+\p{L}",
    "words joined": r"\p{L}_+\p{L}",
}
"""Ways to build a rare word, whether a known one is behind it or not."""
Way = Callable[[pl.Series], pl.Series]


WAYS: dict[str, list[Way]] = {
    ANOTHER_FORM: [lambda s: s.str.normalize("NFKC")],
    "marks on letters": [lambda s: s.str.normalize("NFD").str.replace_all(r"\p{M}", "")],
    "digits for letters": [
        lambda s: s.str.replace_many(list(LIKENESS), list(LIKENESS.values())),
        lambda s: s.str.replace_all("1", "i").str.replace_many(
            list(LIKENESS), list(LIKENESS.values())
        ),
    ],
    "a letter drawn out": [lambda s: _folded(s, 1), lambda s: _folded(s, 2)],
    "a word turned round": [
        lambda s: (
            pl.select(pl.when(s.str.len_chars() > 3).then(s.str.reverse()).otherwise(s))
            .to_series()
            .rename("word")
        )
    ],
}
"""Ways to write a word otherwise, each with what gives the word back."""


def _folded(spelt: pl.Series, many: int) -> pl.Series:
    """Words whose drawn-out letters stand so many times."""
    long = spelt.str.contains(DRAWN_OUT)
    if not long.any():
        return spelt
    frame = pl.DataFrame({"word": spelt, "long": long})
    plain = pl.col("word")
    for letter in "abcdefghijklmnopqrstuvwxyz":
        plain = plain.str.replace_all(f"{letter}{{3,}}", letter * many)
    return frame.select(pl.when("long").then(plain).otherwise("word").alias("word"))["word"]


def _twice(words: Words) -> list[tuple[str, Ints]]:
    """The texts in which a word of letters follows itself, and those where this word does so alone.

    Some words are doubled by nature, as *very* is.
    """
    letters = words.spelt.str.contains(r"^\p{L}{2,}$").to_numpy()
    same = np.flatnonzero((words.ids[1:] == words.ids[:-1]) & letters[words.ids[1:]])
    row = words.row(same)
    pair = distinct(words.ids[same].astype(np.int64) * max(words.rows, 1) + row)
    often = np.bincount(pair // max(words.rows, 1), minlength=len(words.spelt))
    alone = pair[often[pair // max(words.rows, 1)] == 1] % max(words.rows, 1)
    return [(TWICE, row), (ONCE_TWICE, alone)]
