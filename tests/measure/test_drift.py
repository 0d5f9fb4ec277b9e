# SPDX-License-Identifier: Apache-2.0
"""Drift: equal to scipy, quiet on equal samples, and unimpressed by a million rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from datapipe.measure.drift import _rank_sum, categories_shift, judged_together, numbers_shift


def test_numbers_equal_scipy() -> None:
    rng = np.random.default_rng(1)
    for shift in (0.0, 0.1, 0.3):
        a, b = rng.normal(size=400), rng.normal(shift, size=700)
        ours, theirs = numbers_shift(a, b), stats.ks_2samp(a, b, method="asymp")
        assert ours.effect.value == pytest.approx(theirs.statistic)
        by_ranks = stats.mannwhitneyu(a, b, use_continuity=False).pvalue
        expected = min(1.0, 2 * min(theirs.pvalue, by_ranks))
        assert abs(ours.p_value - expected) <= 0.1 * expected


def test_ties_and_missing_values_equal_scipy() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 5, 300).astype(float), rng.integers(0, 6, 200).astype(float)
    ours = numbers_shift(np.append(a, np.nan), b)
    assert ours.effect.value == pytest.approx(stats.ks_2samp(a, b).statistic)
    assert _rank_sum(np.sort(a), np.sort(b)) == pytest.approx(
        stats.mannwhitneyu(a, b, use_continuity=False).pvalue
    )


def test_categories_equal_scipy() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.choice(list("xyz"), 500, p=[0.5, 0.3, 0.2]), rng.choice(list("xyz"), 300)
    table = [[(s == k).sum() for k in "xyz"] for s in (a, b)]
    theirs = stats.chi2_contingency(table, correction=False)
    ours = categories_shift(a, b)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    v = stats.contingency.association(np.array(table), method="cramer")
    assert ours.effect.value == pytest.approx(np.sqrt(v**2 - 2 / 800))


def test_equal_samples_are_rarely_told_apart() -> None:
    """A hundred columns at once: the false discovery rate bounds the chance of any alarm."""
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(30):
        numbers = [numbers_shift(rng.normal(size=200), rng.normal(size=200)) for _ in range(50)]
        kinds = rng.integers(0, 6, (50, 2, 200))
        mixed = numbers + [categories_shift(a, b) for a, b in kinds]
        alarms += any(s.judgement != "same" for s in judged_together(mixed))
    assert alarms / 30 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 30)


def test_p_values_are_uniform_on_equal_samples() -> None:
    rng = np.random.default_rng(5)
    numbers = [
        numbers_shift(rng.normal(size=300), rng.normal(size=300)).p_value for _ in range(600)
    ]
    kinds = [categories_shift(*rng.integers(0, 5, (2, 300))).p_value for _ in range(600)]
    for p in (numbers, kinds):
        assert stats.kstest(p, "uniform", alternative="greater").pvalue > 0.01


def test_a_tiny_shift_of_a_million_rows_is_negligible() -> None:
    rng = np.random.default_rng(6)
    made = numbers_shift(rng.normal(size=1_000_000), rng.normal(0.005, size=1_000_000))
    assert made.judgement == "negligible"


def test_a_fifth_of_a_deviation_is_found_among_many_columns() -> None:
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(100):
        clean = [numbers_shift(rng.normal(size=1000), rng.normal(size=1000)) for _ in range(9)]
        moved = numbers_shift(rng.normal(size=1000), rng.normal(0.2, size=1000))
        found += judged_together([*clean, moved])[-1].judgement == "drifted"
    assert found >= 80


def test_rare_categories_do_not_break_the_test() -> None:
    rng = np.random.default_rng(8)
    alarms = 0
    for _ in range(300):
        a, b = (rng.zipf(1.6, 300) for _ in range(2))
        alarms += categories_shift(a, b).p_value < 0.05
    assert alarms / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_effect_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(9)
    truth = 2 * stats.norm.cdf(0.25) - 1
    numbers = [
        numbers_shift(rng.normal(size=400), rng.normal(0.5, size=400)).effect for _ in range(200)
    ]
    assert np.mean([e.low <= truth <= e.high for e in numbers]) >= 0.95
    kinds = [
        categories_shift(rng.random(500) < 0.3, rng.random(500) < 0.5).effect for _ in range(400)
    ]
    v = 0.2 / (2 * np.sqrt(0.4 * 0.6))
    assert 0.92 <= np.mean([e.low <= v <= e.high for e in kinds]) <= 0.98


def test_few_values_are_not_evaluated() -> None:
    assert numbers_shift([1.0] * 5, [2.0] * 500).judgement == "not_evaluated"
    assert categories_shift(["a"] * 5, ["b"] * 500).judgement == "not_evaluated"
    assert categories_shift(["a"] * 50, ["a"] * 50).judgement == "same"
    made = judged_together([numbers_shift([1.0], [2.0]), numbers_shift(range(99), range(99))])
    assert [s.judgement for s in made] == ["not_evaluated", "same"]
