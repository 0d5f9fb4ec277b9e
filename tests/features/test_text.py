# SPDX-License-Identifier: Apache-2.0
"""Texts as numbers: the fast hashes equal a slow reading of their definition."""

from __future__ import annotations

import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import DeclarationError
from datapipe.features import text

MASK = 2**64 - 1
GOLDEN = ["0185852ccb537e8a", "cf13098b76a4d93a", "a057b93008b910e0"]
TEXTS = st.lists(
    st.one_of(st.none(), st.text(alphabet="ab é\U0001f600\n\t“`", max_size=40)), max_size=12
)


def _mixed(x: int) -> int:
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def _hash(piece: str) -> int:
    """The definition: a polynomial over coded bytes, then a mix."""
    total = 0
    for power, byte in enumerate(piece.encode()):
        total += _mixed((byte + 1) * text.RADIX & MASK) * pow(text.RADIX, power, 1 << 64)
    return _mixed(total & MASK)


def _pieces(tokens: list[str], size: int, glue: str) -> list[str]:
    if not tokens:
        return []
    return [glue.join(tokens[i : i + size]) for i in range(max(1, len(tokens) - size + 1))]


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 6))
def test_shingles_equal_their_definition(texts: list[str | None], size: int) -> None:
    plain = text.normalise(pl.Series(texts, dtype=pl.String))
    words = [_pieces((t or "").split(), size, " ") for t in plain]
    characters = [_pieces(list(t or ""), size, "") for t in plain]
    for made, pieces in (
        (text.word_shingles(plain, size=size), words),
        (text.character_shingles(plain, size=size), characters),
    ):
        assert made.counts.tolist() == [len(p) for p in pieces]
        assert made.hashes.tolist() == [_hash(piece) for p in pieces for piece in p]
    assert text.word_counts(plain).tolist() == [len((t or "").split()) for t in plain]


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_normal_form_is_normal(texts: list[str | None]) -> None:
    once = text.normalise(pl.Series(texts, dtype=pl.String))
    assert text.normalise(once).to_list() == once.to_list()
    for before, after in zip(texts, once, strict=True):
        assert (before is None) == (after is None)
        if after is not None:
            assert after == " ".join(after.split())
            assert unicodedata.is_normalized("NFC", after)


def test_what_editors_change_does_not_count() -> None:
    told = pl.Series(["He said: “it’s  a Café”\r\n", 'he SAID: "it\'s a cafe\u0301"'])
    assert text.normalise(told).n_unique() == 1


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    texts = pl.Series([" ".join(rng.choice(["one", "two", "three"], n)) for n in range(60)])
    whole = text.word_shingles(texts, size=3)
    monkeypatch.setattr(text, "BLOCK_BYTES", 64)
    cut = text.word_shingles(texts, size=3)
    sliced = text.word_shingles(texts[20:], size=3)
    assert np.array_equal(whole.hashes, cut.hashes)
    assert np.array_equal(whole.hashes[whole.offsets[20] :], sliced.hashes)


def test_different_words_have_different_hashes() -> None:
    words = pl.Series([f"{i:x}" for i in range(200_000)])
    hashes = text.word_shingles(words, size=1).hashes
    assert len(np.unique(hashes)) == 200_000
    bits = (hashes[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.006  # five standard errors


def test_the_hash_is_promised() -> None:
    """A change would make stored signatures worthless: it needs a new version of every stage."""
    made = text.word_shingles(pl.Series(["the quick brown fox"]), size=2).hashes
    assert [f"{h:016x}" for h in made] == GOLDEN


def test_a_shingle_holds_a_token() -> None:
    with pytest.raises(DeclarationError):
        text.word_shingles(pl.Series(["a"]), size=0)
