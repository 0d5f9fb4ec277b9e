# SPDX-License-Identifier: Apache-2.0
"""Words that are another one with a slip of the pen: likelier so than words of their own.

How often words are written and how their letters follow each other tell both chances: *marshalled*
holds a letter twice as other words do, *marshhalled* as none does, and whether the word without it
is known decides in neither case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datapipe.stages.poisoning._text.grams import looked_up
from datapipe.stages.poisoning._text.words import Words

Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]

TWICE, EXCHANGED = "a letter twice", "letters exchanged"
LEFT_OUT, ANOTHER = "a letter left out", "a letter for another"
SLIP = 6.0
"""Log odds that a word is no slip before it is looked at: texts hold one in some four hundred."""
SHORTEST, LONGEST = 3, 16
"""Letters of the words that are looked at."""
LETTERS = 40
"""The commonest letters, an edge and all others, whose runs of three are counted."""
SMOOTH = 5.0
SPREAD = 25.0
"""Letters that may stand in the place of one."""
BASE = np.uint64(0x9E3779B97F4A7C15)


def misspelt(words: Words, usual: Words) -> dict[str, Ints]:
    """Words that are likelier a known one with a slip than their own, by what the slip is.

    Args:
        words: What is asked about.
        usual: The words of texts that tell which are known and how words are built: the same,
            where no more are known.

    Returns:
        Their numbers in `words`, in rising order.
    """
    known = _Spelling.of(usual)
    asked = known if words is usual else _Spelling.of(words)
    if not known.ids.size or not asked.ids.size:
        return {}
    model = _Letters.of(known, usual.texts[known.ids] > 1)
    share = known.shares(usual)
    new = float((usual.texts[known.ids] == 1).sum()) / max(float(usual.texts[known.ids].sum()), 1.0)
    spoken = model.spoken(asked)
    own = new * np.exp(spoken.sum(1))
    at = np.minimum(looked_up(known.sorted, asked.whole), known.ids.size - 1)
    there = known.sorted[at] == asked.whole
    before = 1.0 / max(float(usual.texts[known.ids].sum()), 1.0) if words is usual else 0.0
    mine = np.where(there, share[known.order[at]], 0.0)
    own += np.maximum(mine - before, 0.0)
    made: dict[str, Ints] = {}
    for name, row, chance in _undone(asked, known, (share, mine), (model, new, spoken)):
        alone = np.bincount(row, chance, asked.ids.size) / asked.length
        likely = np.flatnonzero(alone > own * np.exp(SLIP))
        if likely.size:
            made[name] = asked.ids[likely]
    return made


@dataclass(frozen=True, eq=False)
class _Spelling:
    """The words that are all letters: their numbers, letters (n, m), lengths and hashes.

    `letters` are characters, 0 beyond a word; `before[:, i]` is the hash of the first i of them,
    `sorted` are the hashes of whole words in rising order, and `order` says of which each is.
    """

    ids: Ints
    letters: NDArray[np.uint32]
    length: Ints
    before: Hashes
    sorted: Hashes
    order: Ints

    @classmethod
    def of(cls, words: Words) -> _Spelling:
        size = words.spelt.str.len_chars().to_numpy()
        some = words.spelt.str.contains(r"^\p{L}+$").to_numpy() & (words.texts > 0)
        ids = np.flatnonzero(some & (size >= SHORTEST) & (size <= LONGEST))
        length = size[ids].astype(np.int64)
        flat = "".join(words.spelt.gather(ids).to_list()).encode("utf-32-le")
        letters = np.zeros((ids.size, LONGEST), np.uint32)
        letters[np.arange(LONGEST) < length[:, None]] = np.frombuffer(flat, np.uint32)
        before = np.zeros((ids.size, LONGEST + 1), np.uint64)
        np.cumsum(letters * _powers(), axis=1, dtype=np.uint64, out=before[:, 1:])
        order = np.argsort(before[:, -1])
        return cls(ids, letters, length, before, before[order, -1], order)

    @property
    def whole(self) -> Hashes:
        """The hashes of whole words."""
        return np.asarray(self.before[:, -1], np.uint64)

    def shares(self, words: Words) -> Floats:
        """How much of what is written, each word once a text, each of them is."""
        texts = words.texts[self.ids].astype(np.float64)
        return np.asarray(texts / max(float(texts.sum()), 1.0), np.float64)

    def inner(self, row: Ints, at: Ints) -> Hashes:
        """Hashes of some words without the letter at some places."""
        after = self.before[row, -1] - self.before[row, at + 1]
        return np.asarray(self.before[row, at] + after * _INVERSE, np.uint64)


def _powers() -> Hashes:
    return np.cumprod(np.full(LONGEST, BASE, np.uint64), dtype=np.uint64)


_INVERSE = np.uint64(pow(int(BASE), -1, 2**64))


@dataclass(frozen=True, eq=False)
class _Letters:
    """Ln of the chance of a letter after two others, as a table (LETTERS ** 3,); 0 is an edge."""

    number: NDArray[np.uint8]
    log: Floats

    @classmethod
    def of(cls, known: _Spelling, some: NDArray[np.bool_]) -> _Letters:
        often = np.bincount(known.letters[known.letters > 0])
        common = np.argsort(-often, kind="stable")[: LETTERS - 2]
        number = np.ones(max(often.size, 2), np.uint8)
        number[common] = 2 + np.arange(common.size)
        number[0] = 0
        made = cls(number, np.empty(0))
        key, inside = made.keys(known.letters[some], known.length[some])
        three = np.bincount(key[inside], minlength=LETTERS**3).reshape([LETTERS] * 3)
        two = three.sum(0)
        one = (two.sum(0) + 0.5) / (two.sum() + 0.5 * LETTERS)
        after = (two + SMOOTH * one) / (two.sum(1, keepdims=True) + SMOOTH)
        log = np.log((three + SMOOTH * after) / (three.sum(2, keepdims=True) + SMOOTH))
        return cls(number, log.ravel())

    def told(self, letters: NDArray[np.uint32]) -> Ints:
        """The numbers of some letters; those that no known word has are one."""
        return self.number[np.where(letters < self.number.size, letters, 1)].astype(np.int64)

    def keys(self, letters: NDArray[np.uint32], length: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Each letter of some words and their end with the two before it, and which there are."""
        told = np.zeros((length.size, LONGEST + 3), np.int64)
        told[:, 2:-1] = self.told(letters)
        key = (told[:, :-2] * LETTERS + told[:, 1:-1]) * LETTERS + told[:, 2:]
        return key, np.arange(LONGEST + 1) <= length[:, None]

    def spoken(self, asked: _Spelling) -> Floats:
        """Ln of the chance of each letter of some words, and of their end: (n, LONGEST + 1)."""
        key, inside = self.keys(asked.letters, asked.length)
        return np.where(inside, self.log[key], 0.0)

    def otherwise(self, letters: list[NDArray[np.uint32]]) -> Floats:
        """Ln of the chance of letters that follow each other, all but the first two."""
        told = [self.told(some) for some in letters]
        made = np.zeros(told[0].size)
        for one, two, three in zip(told, told[1:], told[2:], strict=False):
            made += self.log[(one * LETTERS + two) * LETTERS + three]
        return made


def _undone(
    asked: _Spelling,
    known: _Spelling,
    shares: tuple[Floats, Floats],
    spelling: tuple[_Letters, float, Floats],
) -> Iterator[tuple[str, Ints, Floats]]:
    """Each slip: the words that may have it and, for each way to undo it, the chance of the other.

    A word that is not known may be one with a slip, too: how it is built tells its chance. Of a
    letter that is left out or stands for another only known words are thought of.
    """
    (share, mine), (model, new, spoken) = shares, spelling
    edged = np.zeros((asked.ids.size, LONGEST + 6), np.uint32)
    edged[:, 2 : LONGEST + 2] = asked.letters
    place, whole = np.arange(LONGEST), spoken.sum(1)

    def near(row: Ints, at: Ints, *steps: int) -> list[NDArray[np.uint32]]:
        return [edged[row, at + 2 + step] for step in steps]

    def chance(row: Ints, at: Ints, hashes: Hashes, many: int, steps: tuple[int, ...]) -> Floats:
        was = model.otherwise(near(row, at, *range(-2, many)))
        turned = model.otherwise(near(row, at, *steps))
        entry = np.minimum(looked_up(known.sorted, hashes), known.ids.size - 1)
        there = known.sorted[entry] == hashes
        told = np.where(there, share[known.order[entry]], 0.0)
        return np.asarray(told + new * np.exp(whole[row] - was + turned), np.float64)

    has = (asked.letters[:, 1:] == asked.letters[:, :-1]) & (asked.letters[:, 1:] > 0)
    row, at = np.nonzero(has)
    at = at + 1
    yield TWICE, row, chance(row, at, asked.inner(row, at), 3, (-2, -1, 1, 2))
    turns = (place >= 1) & (place + 2 < asked.length[:, None])
    turns[:, :-1] &= asked.letters[:, 1:] != asked.letters[:, :-1]
    row, at = np.nonzero(turns)
    first, second = near(row, at, 0, 1)
    power = _powers()
    apart = second.astype(np.uint64) - first.astype(np.uint64)
    turned = asked.whole[row] + apart * (power[at] - power[np.minimum(at + 1, LONGEST - 1)])
    yield EXCHANGED, row, chance(row, at, turned, 4, (-2, -1, 1, 0, 2, 3))
    yield LEFT_OUT, *_longer(asked, known, share)
    yield ANOTHER, *_unlike(asked, known, share, mine)


def _inner(some: _Spelling, which: Ints) -> tuple[Ints, Ints]:
    """Every place but the first of some words."""
    row, at = np.nonzero(np.arange(1, LONGEST) < some.length[which, None])
    return which[row], at + 1


def _often(share: Floats) -> Ints:
    """Words that more than one text holds."""
    return np.flatnonzero(share > 1.5 * share.min(initial=1.0))


def _longer(asked: _Spelling, known: _Spelling, share: Floats) -> tuple[Ints, Floats]:
    """Words that are a known one less a letter, and the share of that."""
    row, at = _inner(known, _often(share))
    hashes = known.inner(row, at)
    at = np.minimum(looked_up(asked.sorted, hashes), asked.ids.size - 1)
    there = asked.sorted[at] == hashes
    return asked.order[at[there]], share[row[there]]


def _unlike(asked: _Spelling, known: _Spelling, share: Floats, own: Floats) -> tuple[Ints, Floats]:
    """Words that are known ones but for one letter, and the share of these."""
    parts, often = [], _often(share)
    own = np.where(own > 1.5 * share.min(initial=1.0), own, 0.0)
    for some, which in ((known, often), (asked, np.arange(asked.ids.size))):
        row, at = _inner(some, which)
        left = some.before[row, at] + (some.before[row, -1] - some.before[row, at + 1])
        parts.append((row, left + at.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03)))
    (theirs, keys), (mine, wanted) = parts
    order = np.argsort(keys)
    keys, total = keys[order], np.append(0.0, np.cumsum(share[theirs[order]]))
    alike = total[np.searchsorted(keys, wanted, "right")] - total[looked_up(keys, wanted)]
    return mine, np.maximum(alike - own[mine], 0.0) / SPREAD
