# SPDX-License-Identifier: Apache-2.0
"""Markup built from data is inert, and pictures hold the pixels they were given."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from datapipe.report.markup import code, figure, join, picture, put, table, tag, verdict

ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=60)
EVIL = st.builds(lambda a, b: f"{a}<script>{b}</script>\"' onload=x <!--{a}", ANY, ANY)


def read(markup):
    tags, words = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, name, attrs):
            tags.append((name, dict(attrs)))

        def handle_data(self, data):
            words.append(data)

    reader = Reader(convert_charrefs=True)
    reader.feed(markup)
    reader.close()
    return tags, "".join(words)


@given(st.one_of(ANY, EVIL))
def test_text_comes_back_as_it_went_in(words):
    for markup in (put(words), tag("p", words), join([words]), code(words)):
        tags, said = read(markup)
        assert said == words
        assert {name for name, _ in tags} <= {"p", "code", "wbr"}


@given(EVIL)
def test_attributes_hold_what_they_are_given(words):
    tags, _ = read(tag("p", "", kind=words, anchor=words))
    assert tags == [("p", {"class": words, "id": words})]
    ((_, at),) = read(picture(np.eye(3), alt=words))[0]
    assert at["alt"] == words


@given(st.lists(st.tuples(EVIL, EVIL), max_size=4))
def test_tables_hold_cells_and_nothing_else(rows):
    tags, said = read(table(["a", "b"], rows, numbers=(1,)))
    assert {name for name, _ in tags} <= {"div", "table", "thead", "tbody", "tr", "th", "td", "p"}
    assert said == "ab" + "".join(a + b for a, b in rows) if rows else said == "None."


def test_nothing_drawn_is_no_figure():
    assert figure("a", "", table(["a"], [[1]])) == ""
    assert "<details>" in figure("a", "<svg></svg>", table(["a"], [[1]]))


def test_a_verdict_is_words_and_not_only_colour():
    assert read(verdict("not_evaluated"))[1] == "not evaluated"


def pixels(markup):
    """Decode the grey or colour levels of an inline PNG."""
    png = base64.b64decode(re.search(r"base64,([^\"]*)", markup)[1])
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(png):
        size, kind = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size])[0] == zlib.crc32(
            kind + data
        )
        parts[kind] = data
        at += 12 + size
    width, height, depth, colour = struct.unpack(">IIBB", parts[b"IHDR"][:10])
    assert depth == 8
    channels = 3 if colour == 2 else 1
    lines = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape((height, width) if channels == 1 else (height, width, 3))


@given(
    arrays(
        np.float64,
        st.one_of(
            array_shapes(min_dims=2, max_dims=2, max_side=9),
            st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3)),
        ),
        elements=st.one_of(st.floats(-1e6, 1e6), st.just(float("nan"))),
    )
)
def test_a_picture_holds_the_levels_stretched(levels):
    got = pixels(picture(levels, alt=""))
    assert got.shape == levels.shape
    known = np.isfinite(levels)
    assert not got[~known].any()
    if known.any() and np.ptp(levels[known]) > 1e-6:
        assert got[known].min() == 0
        assert got[known].max() >= 254
        order = np.argsort(levels[known].ravel(), kind="stable")
        assert (np.diff(got[known].ravel()[order].astype(int)) >= 0).all()
