# SPDX-License-Identifier: Apache-2.0
"""Intervals: equal to scipy where it has them, and covering the truth as often as they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from datapipe.errors import DeclarationError
from datapipe.measure import distributions, intervals

SIMULATIONS = 500


@pytest.mark.parametrize("a", [0.5, 1, 3.7, 40, 1e4])
@pytest.mark.parametrize("b", [0.5, 2, 25, 1e3, 1e6])
def test_beta_equals_scipy(a: float, b: float) -> None:
    for share in (1e-6, 0.025, 0.4, 0.975, 1 - 1e-6):
        x = float(stats.beta.ppf(share, a, b))
        assert distributions.beta_cdf(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), rel=1e-8)
        assert distributions.beta_quantile(share, a, b) == pytest.approx(x, rel=1e-8)


@pytest.mark.parametrize("freedom", [1, 2, 7.5, 60, 1e5])
def test_t_and_chi2_equal_scipy(freedom: float) -> None:
    for share in (0.001, 0.3, 0.5, 0.975, 0.9999):
        expected = stats.t.ppf(share, freedom)
        ours = distributions.t_quantile(share, freedom)
        assert ours == pytest.approx(expected, abs=1e-9, rel=1e-7)
    for x in (1e-3, 0.5 * freedom, freedom, 1.1 * freedom + 3, 2 * freedom + 20):
        expected = stats.chi2.sf(x, freedom)
        assert distributions.chi2_tail(x, freedom) == pytest.approx(expected, rel=1e-7, abs=1e-14)


def test_kolmogorov_equals_scipy() -> None:
    for x in (0.2, 0.5, 0.99, 1.0, 1.36, 3.0):
        expected = stats.kstwobign.sf(x)
        assert distributions.kolmogorov_tail(x) == pytest.approx(expected, rel=1e-9, abs=1e-14)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_clopper_pearson_equals_scipy(n: int, share: float, level: float) -> None:
    hits = round(n * share)
    ours = intervals.clopper_pearson(hits, n, level=level)
    theirs = stats.binomtest(hits, n).proportion_ci(level, method="exact")
    assert ours.low == pytest.approx(theirs.low, rel=1e-7, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, rel=1e-7, abs=1e-12)


def test_clopper_pearson_covers_at_least_its_level_exactly() -> None:
    n = 40
    bounds = [intervals.clopper_pearson(k, n) for k in range(n + 1)]
    for p in np.linspace(0.01, 0.99, 50):
        held = [b.low <= p <= b.high for b in bounds]
        assert stats.binom.pmf(np.arange(n + 1), n, p)[held].sum() >= 0.95 - 1e-12


def test_newcombe_matches_the_paper() -> None:
    """Table II of Newcombe 1998, method 10, contrasts (a), (d) and (h)."""
    cases = [((56, 70, 48, 80), (0.0524, 0.3339)), ((9, 10, 3, 10), (0.1705, 0.8090)),
             ((10, 10, 0, 20), (0.6791, 1.0))]  # fmt: skip
    for counts, (low, high) in cases:
        made = intervals.difference_of_rates(*counts)
        assert (made.low, made.high) == pytest.approx((low, high), abs=1e-4)


def test_tango_matches_the_paper() -> None:
    """Tango 1998, the contact lens example: 44 pairs of which one is discordant."""
    better = np.array([True] * 44)
    worse = np.array([True] * 43 + [False])
    made = intervals.paired_difference(worse, better)
    assert made.value == pytest.approx(1 / 44)
    assert made.low == pytest.approx(-0.060, abs=2e-3)
    assert made.high == pytest.approx(0.118, abs=2e-3)


def _share_covered(made: list[intervals.Estimate], truth: float) -> float:
    return float(np.mean([e.low <= truth <= e.high for e in made]))


def test_difference_of_rates_covers() -> None:
    rng = np.random.default_rng(1)
    draws = zip(rng.binomial(60, 0.3, 2000), rng.binomial(90, 0.15, 2000), strict=True)
    made = [intervals.difference_of_rates(int(a), 60, int(b), 90) for a, b in draws]
    assert 0.935 <= _share_covered(made, 0.15) <= 0.97


def test_ratio_of_rates_covers() -> None:
    rng = np.random.default_rng(2)
    draws = zip(rng.binomial(200, 0.2, 2000), rng.binomial(300, 0.25, 2000), strict=True)
    made = [intervals.ratio_of_rates(int(a), 200, int(b), 300) for a, b in draws]
    assert 0.935 <= _share_covered(made, 0.8) <= 0.97


def test_paired_difference_covers_and_beats_the_unpaired_width() -> None:
    rng = np.random.default_rng(3)
    made, unpaired = [], []
    for _ in range(SIMULATIONS):
        kind = rng.choice(4, size=120, p=[0.7, 0.16, 0.04, 0.10])  # both, gained, lost, neither
        before, after = (kind == 0) | (kind == 2), (kind == 0) | (kind == 1)
        made.append(intervals.paired_difference(before, after))
        unpaired.append(
            intervals.difference_of_rates(int(after.sum()), 120, int(before.sum()), 120)
        )
    assert 0.93 <= _share_covered(made, 0.12) <= 0.975
    width = np.mean([e.high - e.low for e in made])
    assert width < 0.9 * np.mean([e.high - e.low for e in unpaired])


def test_mean_and_bootstrap_cover() -> None:
    rng = np.random.default_rng(4)
    samples = [rng.exponential(2.0, size=60) for _ in range(SIMULATIONS)]
    normal = [rng.normal(2.0, 1.0, size=8) for _ in range(SIMULATIONS)]
    drawn = [intervals.bootstrap(x, lambda s: s.mean(axis=1), rng, repeats=400) for x in samples]
    assert 0.93 <= _share_covered([intervals.mean(x) for x in normal], 2.0) <= 0.97
    assert 0.91 <= _share_covered(drawn, 2.0) <= 0.975


def test_bootstrap_equals_scipy_and_follows_its_seed() -> None:
    x = np.random.default_rng(5).gamma(2.0, size=150)
    theirs = stats.bootstrap(
        (x,), np.mean, n_resamples=20000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    ours, again = (
        intervals.bootstrap(x, lambda s: s.mean(axis=1), np.random.default_rng(2), repeats=20000)
        for _ in range(2)
    )
    assert ours == again
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_bootstrap_takes_pairs() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(300, 2))
    x[:, 1] += x[:, 0]

    def slope(s: np.ndarray) -> np.ndarray:
        centred = s - s.mean(axis=1, keepdims=True)
        return (centred[..., 0] * centred[..., 1]).sum(axis=1) / (centred[..., 0] ** 2).sum(axis=1)

    made = intervals.bootstrap(x, slope, rng, repeats=500)
    assert made.low < 1.0 < made.high
    assert made.high - made.low < 0.4


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_intervals_hold_their_point_and_swap(a: int, b: int, c: int, d: int) -> None:
    n_a, n_b = a + b, c + d
    there = intervals.difference_of_rates(a, n_a, c, n_b)
    back = intervals.difference_of_rates(c, n_b, a, n_a)
    assert there.low == pytest.approx(-back.high, abs=1e-12)
    assert -1 <= there.low <= there.high <= 1
    ratio = intervals.ratio_of_rates(a, n_a, c, n_b)
    assert 0 <= ratio.low <= ratio.high
    before = np.repeat([True, True, False, False], [a, b, c, d])
    after = np.repeat([True, False, True, False], [a, b, c, d])
    forth = intervals.paired_difference(before, after)
    assert forth.low == pytest.approx(-intervals.paired_difference(after, before).high, abs=1e-9)
    assert -1 <= forth.low <= forth.high <= 1


def test_small_samples_say_that_they_know_nothing() -> None:
    assert intervals.clopper_pearson(0, 0).high == 1.0
    assert math.isnan(intervals.difference_of_rates(0, 0, 1, 2).value)
    assert math.isnan(intervals.ratio_of_rates(1, 5, 0, 5).value)
    assert intervals.ratio_of_rates(1, 5, 0, 5).low > 0
    assert intervals.mean([3.0]).high == math.inf
    assert intervals.bootstrap([3.0], lambda s: s.mean(axis=1), np.random.default_rng(0)).n == 1
    precision, recall = intervals.precision_recall([False, False], [False, True])
    assert math.isnan(precision.value)
    assert recall.value == 0.0


def test_rows_for_margin_is_the_smallest() -> None:
    for rate in (0.0, 0.1, 0.5, 0.93):
        n = intervals.rows_for_margin(rate, 0.05)
        z = 1.959964
        half = [
            z * math.sqrt(rate * (1 - rate) / m + z * z / (4 * m * m)) / (1 + z * z / m)
            for m in (n, n - 1)
        ]
        assert half[0] <= 0.05 < half[1]


def test_wrong_calls_are_told() -> None:
    for call in (
        lambda: intervals.clopper_pearson(5, 3),
        lambda: intervals.ratio_of_rates(1, 3, 5, 3),
        lambda: intervals.paired_difference([True], [True, False]),
        lambda: intervals.precision_recall([True], [True, False]),
        lambda: intervals.rows_for_margin(0.5, 0.9),
        lambda: intervals.bootstrap([1.0, 2.0], lambda s: s, np.random.default_rng(0)),
        lambda: distributions.beta_cdf(0.5, 0, 1),
        lambda: distributions.chi2_tail(1.0, 0),
    ):
        with pytest.raises(DeclarationError):
            call()
