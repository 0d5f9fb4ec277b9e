# SPDX-License-Identifier: Apache-2.0
"""An estimate holds its value, its interval keeps its level, and it survives JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError

counts = st.integers(0, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.floats(0.5, 0.999))
def test_a_rate_lies_inside_its_interval_and_the_interval_inside_0_1(hits_n, level):
    hits, n = hits_n
    e = Estimate.rate(hits, n, level=level)
    assert 0 <= e.low <= e.high <= 1
    assert n == 0 or e.low <= e.value <= e.high


@given(counts)
def test_a_higher_level_gives_a_wider_interval(hits_n):
    hits, n = hits_n
    narrow, wide = Estimate.rate(hits, n, level=0.8), Estimate.rate(hits, n, level=0.99)
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_hits_and_misses_mirror_each_other(hits_n):
    hits, n = hits_n
    e, mirrored = Estimate.rate(hits, n), Estimate.rate(n - hits, n)
    assert e.low == pytest.approx(1 - mirrored.high, abs=1e-12)
    assert e.value == pytest.approx(1 - mirrored.value, abs=1e-12)


def test_wilson_agrees_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    for hits, n in [(0, 10), (1, 10), (5, 10), (10, 10), (180, 1797), (3, 5000)]:
        low, high = stats.binomtest(hits, n).proportion_ci(method="wilson")
        e = Estimate.rate(hits, n)
        assert (e.low, e.high) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("n", [50, 500])
def test_wilson_covers_the_truth_about_as_often_as_it_says(p, n):
    """Averaged over binomial weights, exactly: no simulation, no luck."""
    covered = 0.0
    for hits in range(n + 1):
        e = Estimate.rate(hits, n)
        weight = math.comb(n, hits) * p**hits * (1 - p) ** (n - hits)
        covered += weight * (e.low <= p <= e.high)
    assert 0.90 <= covered <= 0.99


numbers = st.floats(allow_nan=False, allow_infinity=True, width=32)


@given(numbers, numbers, numbers, st.integers(0, 10**6))
def test_only_an_interval_that_holds_the_value_can_be_made(value, low, high, n):
    fits = low <= value <= high
    if fits:
        assert Estimate(value, low, high, n=n, method="test").value == value
    else:
        with pytest.raises(DeclarationError):
            Estimate(value, low, high, n=n, method="test")


@pytest.mark.parametrize(
    "bad",
    [
        {"value": 0.5, "low": math.nan, "high": 1.0, "n": 1},
        {"value": 0.5, "low": 0.0, "high": math.nan, "n": 1},
        {"value": math.nan, "low": 1.0, "high": 0.0, "n": 1},
        {"value": 0.5, "low": 0.0, "high": 1.0, "n": -1},
        {"value": 0.5, "low": 0.0, "high": 1.0, "n": 1, "level": 1.0},
        {"value": 0.5, "low": 0.0, "high": 1.0, "n": 1, "level": 0.0},
    ],
)
def test_a_broken_estimate_cannot_be_made(bad):
    with pytest.raises(DeclarationError, match="Estimate"):
        Estimate(**bad, method="test")


@pytest.mark.parametrize("hits", [-1, 11])
def test_hits_must_lie_within_n(hits):
    with pytest.raises(DeclarationError, match=r"within 0\.\.n"):
        Estimate.rate(hits, 10)


@given(numbers, st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 10**6))
def test_json_and_back(value, below, above, n):
    low = value if math.isinf(value) else value - below
    high = value if math.isinf(value) else value + above
    if math.isinf(value):
        return  # an infinite point has no form in JSON; an infinite bound has
    e = Estimate(value, min(low, value), max(high, value), n=n, method="m", unit="rows")
    text = json.dumps(e.to_json(), allow_nan=False)
    assert Estimate.from_json(json.loads(text)) == e


def test_an_unknown_survives_json_with_its_bounds():
    e = Estimate.unknown(0.0, math.inf, method="no reference")
    again = Estimate.from_json(json.loads(json.dumps(e.to_json(), allow_nan=False)))
    assert math.isnan(again.value)
    assert (again.low, again.high, again.method) == (0.0, math.inf, "no reference")


def test_no_rows_give_no_point():
    e = Estimate.rate(0, 0)
    assert math.isnan(e.value)
    assert (e.low, e.high, e.n) == (0.0, 1.0, 0)
    assert str(e) == "unknown, within [0, 1] (wilson)"


def test_it_reads_well():
    assert str(Estimate.rate(180, 1797)) == "0.1002 [0.08713, 0.1149] (n=1797, wilson)"
    assert str(Estimate.exact(60, n=60, unit="rows")) == "60 rows (n=60, count)"
    assert np.isclose(Estimate.rate(1, 3).level, 0.95)
