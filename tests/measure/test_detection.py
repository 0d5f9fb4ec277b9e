# SPDX-License-Identifier: Apache-2.0
"""Tails equal scipy's, Chernoff bounds the truth, and ranks are scored as scikit-learn does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import DeclarationError
from datapipe.measure.detection import (
    auroc,
    average_precision,
    benjamini_hochberg,
    beta_binomial_tail,
    binomial_tail,
    chernoff_log_tail,
)

stats = pytest.importorskip("scipy.stats")
metrics = pytest.importorskip("sklearn.metrics")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_q_values_equal_scipys(p_values):
    assert np.allclose(benjamini_hochberg(p_values), stats.false_discovery_control(p_values))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.floats(0.05, 20), st.floats(0.05, 20), st.data())
def test_beta_binomial_tails_equal_scipys(n, a, b, data):
    hits = data.draw(st.integers(0, n))
    expected = stats.betabinom.sf(hits - 1, n, a, b)
    assert beta_binomial_tail(hits, n, a, b) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.floats(0, 1), st.data())
def test_binomial_tails_equal_scipys(n, rate, data):
    hits = data.draw(st.integers(0, n))
    expected = stats.binom.sf(hits - 1, n, rate)
    assert binomial_tail(hits, n, rate) == pytest.approx(expected, rel=1e-7, abs=1e-290)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=12), st.data())
def test_chernoffs_bound_is_never_below_the_true_tail(rates, data):
    hits = data.draw(st.integers(0, len(rates)))
    mass = np.ones(1)
    for rate in rates:
        mass = np.convolve(mass, [1 - rate, rate])
    truth = mass[hits:].sum()
    assert chernoff_log_tail(hits, rates) >= math.log(max(truth, 1e-300)) - 1e-6


def test_chernoffs_bound_is_exact_where_all_agree():
    assert chernoff_log_tail(3, [0.2, 0.3, 0.4]) == pytest.approx(math.log(0.024))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=50))
def test_ranks_are_scored_as_scikit_learn_does(rows):
    truth, scores = (np.array(c) for c in zip(*rows, strict=True))
    if truth.all() or not truth.any():
        assert math.isnan(auroc(truth, scores).value)
        return
    area, mean = auroc(truth, scores), average_precision(truth, scores)
    assert area.value == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert mean.value == pytest.approx(metrics.average_precision_score(truth, scores))
    assert area.low <= area.value <= area.high
    assert mean.low <= mean.value <= mean.high


def test_what_has_no_meaning_is_refused():
    for bad in (lambda: binomial_tail(3, 2, 0.5), lambda: beta_binomial_tail(1, 2, 0, 1)):
        with pytest.raises(DeclarationError):
            bad()
