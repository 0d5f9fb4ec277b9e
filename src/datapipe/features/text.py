# SPDX-License-Identifier: Apache-2.0
"""Text into numbers: normal form, word counts, and shingles as 64-bit hashes.

The hash is our own and stays the same for every version of every library: a polynomial over the
bytes, which numpy gives for all substrings at once from one running sum, and a final mix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from datapipe.errors import DeclarationError

Hashes = NDArray[np.uint64]
Indices = NDArray[np.int64]

RADIX = 0x9E37_79B9_7F4A_7C15
"""Base of the polynomial; odd, so that it has an inverse modulo 2**64."""
BLOCK_BYTES = 1 << 20
"""Text hashed at a time: the running sum of a block stays in the cache."""
MIXED = 1 << 15
"""Values whose bits are spread at a time."""
SPACE = 0x20
UNSPACED = "".join(
    rf"\p{{{script}}}"
    for script in (
        *("Han", "Hiragana", "Katakana", "Bopomofo", "Yi", "Tangut", "Nushu"),
        *("Thai", "Lao", "Khmer", "Myanmar", "Tai_Le", "New_Tai_Lue", "Tai_Tham", "Tai_Viet"),
        *("Ahom", "Javanese", "Balinese"),
    )
)
"""Scripts that put no space between words, for a class of a regular expression: those that lines
may break within at any character, or only by a dictionary (UAX 14)."""
QUOTES = {"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "‚": "'", "`": "'"}


@dataclass(frozen=True, eq=False)
class Shingles:
    """The hashed shingles of many texts, one after the other.

    Args:
        hashes: uint64, shape (m,); a shingle that occurs twice in a text stands there twice.
        offsets: int64, shape (n + 1,): text i owns `hashes[offsets[i]:offsets[i + 1]]`.

    Example:
        >>> word_shingles(pl.Series(["a b c", ""]), size=2).counts.tolist()
        [2, 0]
    """

    hashes: Hashes
    offsets: Indices

    @property
    def counts(self) -> Indices:
        """How many shingles each text has, int64 of shape (n,)."""
        return np.diff(self.offsets)


def normalise(texts: pl.Series) -> pl.Series:
    r"""Texts in a form in which equal words are spelt equally.

    Unicode NFC, lower case, typographic quotes to ASCII, runs of white space to one space and none
    at the ends: what editors and copying change without changing what is said.

    Args:
        texts: Strings, shape (n,).

    Returns:
        Strings, shape (n,); null stays null.

    Example:
        >>> normalise(pl.Series(["  “Cafe\u0301”\n  Now ", None])).to_list()
        ['"café" now', None]
    """
    plain = texts.cast(pl.String)
    beyond_ascii = plain.str.len_bytes() != plain.str.len_chars()
    plain = _changed_where(plain, beyond_ascii, _composed)
    plain = plain.str.to_lowercase()
    untidy = plain.str.contains(r"\s\s|[^\S ]|^\s|\s$|`")
    return _changed_where(plain, untidy, _tidied)


def _composed(texts: pl.Series) -> pl.Series:
    return texts.str.normalize("NFC").str.replace_many(list(QUOTES), list(QUOTES.values()))


def _tidied(texts: pl.Series) -> pl.Series:
    spaced = texts.str.replace_all(r"\s+", " ").str.strip_chars(" ")
    return spaced.str.replace_all("`", "'", literal=True)


def _changed_where(
    texts: pl.Series, where: pl.Series, change: Callable[[pl.Series], pl.Series]
) -> pl.Series:
    """Change some texts only: most are in order already, and a regular expression costs more."""
    mask = where.fill_null(value=False)
    if not mask.any():
        return texts
    at = mask.to_numpy()
    order = np.arange(len(texts))
    order[at] = len(texts) + np.arange(int(at.sum()))
    return pl.concat([texts, change(texts.filter(mask))]).gather(order)


def word_counts(texts: pl.Series) -> Indices:
    """How many words each text has.

    Args:
        texts: Strings in normal form (`normalise`), shape (n,); null counts as empty.

    Returns:
        int64, shape (n,).

    Example:
        >>> word_counts(pl.Series(["a bc d", "", None])).tolist()
        [3, 0, 0]
    """
    filled = texts.fill_null("")
    words = filled.str.count_matches(" ", literal=True).cast(pl.Int64) + 1
    return np.where(filled.str.len_bytes().to_numpy() > 0, words.to_numpy(), 0).astype(np.int64)


def word_shingles(texts: pl.Series, *, size: int = 5) -> Shingles:
    """The hash of every run of `size` words.

    Args:
        texts: Strings in normal form (`normalise`), shape (n,); null counts as empty.
        size: Words in a shingle, >= 1; a shorter text is one shingle, an empty one has none.

    Returns:
        The shingles in reading order.

    Example:
        >>> made = word_shingles(pl.Series(["the cat sat", "cat sat"]), size=2)
        >>> bool(made.hashes[1] == made.hashes[2])
        True

    References:
        Broder, 1997, On the resemblance and containment of documents.
    """
    return _shingles(texts, size, _word_bounds)


def character_shingles(texts: pl.Series, *, size: int = 5) -> Shingles:
    """The hash of every run of `size` characters (code points).

    Args:
        texts: Strings in normal form (`normalise`), shape (n,); null counts as empty.
        size: Characters in a shingle, >= 1; a shorter text is one shingle, an empty one has none.

    Returns:
        The shingles in reading order.

    Example:
        >>> character_shingles(pl.Series(["naïve"]), size=4).counts.tolist()
        [2]
    """
    return _shingles(texts, size, _character_bounds)


Bounds = Callable[[NDArray[np.uint8], Indices], tuple[Indices, Indices]]
"""From bytes and the offsets of texts to where each token starts and ends."""


def _shingles(texts: pl.Series, size: int, bounds: Bounds) -> Shingles:
    if size < 1:
        raise DeclarationError(f"a shingle of {size} tokens: at least 1 is needed")
    hashes, counts = [np.empty(0, np.uint64)], [np.zeros(1, np.int64)]
    for data, offsets in _blocks(texts):
        starts, ends = bounds(data, offsets)
        first, last, count = _spans(starts, offsets, size)
        hashes.append(_hash_spans(data, starts[first], ends[last]))
        counts.append(count)
    return Shingles(np.concatenate(hashes), np.cumsum(np.concatenate(counts)))


def _blocks(texts: pl.Series) -> Iterator[tuple[NDArray[np.uint8], Indices]]:
    """The UTF-8 bytes of consecutive texts, about `BLOCK_BYTES` at a time, and their offsets."""
    filled = texts.cast(pl.String).fill_null("").rechunk()
    array = filled.to_arrow(compat_level=pl.CompatLevel.oldest())
    n = len(array)
    if n == 0:
        return
    _, raw_offsets, raw = array.buffers()
    whole = np.frombuffer(raw_offsets, np.int64)[array.offset : array.offset + n + 1]
    data = np.frombuffer(raw, np.uint8) if raw is not None else np.empty(0, np.uint8)
    start = 0
    while start < n:
        stop = int(np.searchsorted(whole, whole[start] + BLOCK_BYTES, side="right")) - 1
        stop = min(max(stop, start + 1), n)
        low, high = whole[start], whole[stop]
        yield data[low:high], whole[start : stop + 1] - low
        start = stop


def _word_bounds(data: NDArray[np.uint8], offsets: Indices) -> tuple[Indices, Indices]:
    spaces = np.flatnonzero(data == SPACE)
    full = np.diff(offsets) > 0
    begins = np.zeros(data.size + 1, np.bool_)
    begins[spaces + 1] = True
    begins[offsets[:-1][full]] = True
    closes = np.zeros(data.size + 1, np.bool_)
    closes[spaces] = True
    closes[offsets[1:][full]] = True
    return np.flatnonzero(begins), np.flatnonzero(closes)


def _character_bounds(data: NDArray[np.uint8], _offsets: Indices) -> tuple[Indices, Indices]:
    starts = np.flatnonzero((data & 0xC0) != 0x80)
    return starts, np.append(starts[1:], data.size)


def _spans(starts: Indices, offsets: Indices, size: int) -> tuple[Indices, Indices, Indices]:
    """First and last token of each shingle, and how many shingles each text has."""
    edges = np.searchsorted(starts, offsets)
    tokens = np.diff(edges)
    whole = np.maximum(tokens - size + 1, 0)
    short = (tokens > 0) & (whole == 0)
    first = np.flatnonzero(np.arange(starts.size) + size <= np.repeat(edges[1:], tokens))
    last = first + size - 1
    if short.any():
        at = np.searchsorted(first, edges[:-1][short])
        first = np.insert(first, at, edges[:-1][short])
        last = np.insert(last, at, edges[1:][short] - 1)
    return first, last, whole + short


def _hash_spans(data: NDArray[np.uint8], starts: Indices, ends: Indices) -> Hashes:
    """The hash of `data[start:end]` for every span, in one pass over the bytes."""
    powers, inverses = _powers(max(BLOCK_BYTES, 1 << int(data.size).bit_length()))
    sums = np.zeros(data.size + 1, np.uint64)
    np.cumsum(_byte_codes()[data] * powers[: data.size], out=sums[1:])
    return mixed((sums[ends] - sums[starts]) * inverses[starts])


def mixed(values: Hashes) -> Hashes:
    """Spread the bits of 64-bit values: the finaliser of splitmix64.

    Args:
        values: uint64, any shape.

    Returns:
        uint64, the same shape; different values stay different.

    Example:
        >>> hex(int(mixed(np.array([1], np.uint64))[0]))
        '0x5692161d100b05e5'

    References:
        Steele, Lea & Flood, 2014, Fast splittable pseudorandom number generators.
    """
    x = np.array(values, order="C")
    flat = x.reshape(-1)
    spare = np.empty(min(x.size, MIXED), np.uint64)
    for start in range(0, x.size, MIXED):  # what is worked on stays in the cache
        part = flat[start : start + MIXED]
        moved = spare[: part.size]
        for shift, factor in ((30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB), (31, 1)):
            part ^= np.right_shift(part, np.uint64(shift), out=moved)
            part *= np.uint64(factor)
    return x


@lru_cache(maxsize=1)
def _byte_codes() -> Hashes:
    """A 64-bit code for every byte, so that neighbouring letters differ in every bit."""
    return mixed(np.arange(1, 257, dtype=np.uint64) * np.uint64(RADIX))


@lru_cache(maxsize=2)
def _powers(size: int) -> tuple[Hashes, Hashes]:
    return _geometric(RADIX, size), _geometric(pow(RADIX, -1, 1 << 64), size)


def _geometric(base: int, size: int) -> Hashes:
    """1, base, base**2, ... modulo 2**64, by doubling."""
    made = np.ones(size, np.uint64)
    known = 1
    while known < size:
        step = np.uint64(pow(base, known, 1 << 64))
        more = min(known, size - known)
        made[known : known + more] = made[:more] * step
        known += more
    return made
