# SPDX-License-Identifier: Apache-2.0
"""Figures in words: always with their interval, never broken, never longer than they may be."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from datapipe import Estimate
from datapipe.report.wording import (
    change,
    count,
    number,
    percent,
    probability,
    row_name,
    said,
    short,
)


@given(st.floats(0, 1))
def test_percent_says_the_share_to_three_digits(share):
    told = float(percent(share).split("\xa0")[0])
    assert abs(told - 100 * share) <= max(0.051, 0.001 * told)
    assert told == 0 or share > 0


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_rate_is_said_with_both_bounds(hits, more):
    told = said(Estimate.rate(hits, hits + more))
    assert told.endswith("]")
    assert told.count("\xa0") == 2
    assert ", " not in told


@given(st.text(max_size=80), st.integers(3, 40))
def test_short_keeps_both_ends(words, most):
    cut = short(words, most)
    assert len(cut) <= most
    if len(words) > most:
        head, tail = cut.split("…", 1) if words.count("…") == 0 else (cut[:1], cut[-1:])
        assert words.startswith(head)
        assert words.endswith(tail)
    else:
        assert cut == words


@given(st.integers(0, 10**11))
def test_counts_are_short_and_near(value):
    told = count(value)
    factor = {"k": 1e3, "M": 1e6}.get(told[-1], 1)
    read = float(told.rstrip("kM").replace(",", "")) * factor
    assert abs(read - value) <= 0.051 * value
    assert len(told) <= 11


def test_what_is_not_known_is_said_to_be():
    assert said(Estimate.unknown(method="m")).startswith("within")
    assert number(math.inf) == "unbounded"
    assert number(math.nan) == "unknown"
    assert change(Estimate.unknown(-1, 1, method="m")) == "unknown"
    assert probability(None) == "–"
    assert probability(0.0) == "<1e-12"


def test_a_ratio_is_no_share():
    assert "%" not in said(Estimate(1.1, 1.0, 1.4, n=9, method="m"))
    assert "%" not in said(Estimate.exact(1, n=1, unit="rows"))


@given(st.integers(1, 2**24 - 1), st.integers(0, 2**40 - 1))
def test_a_row_is_named_as_why_reads_it(source, ordinal):
    assert row_name(source << 40 | ordinal) == f"{source}:{ordinal}"
