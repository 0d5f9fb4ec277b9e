# SPDX-License-Identifier: Apache-2.0
"""Clustered rates: coverage where rows of a cluster are alike, and the plain interval's failure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datapipe.core.estimate import Estimate
from datapipe.errors import DeclarationError
from datapipe.measure.clusters import clustered_rate
from datapipe.measure.intervals import clopper_pearson

CLUSTERS = st.lists(
    st.integers(0, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), max_size=12
)


def test_it_covers_where_rows_of_a_cluster_are_alike():
    rng = np.random.default_rng(1)
    ours = pooled = 0
    for _ in range(400):
        hits = rng.binomial(60, rng.beta(9 * 0.9, 9 * 0.1, 10))
        sizes = np.full(10, 60)
        interval = clustered_rate(hits, sizes)
        ours += interval.low <= 0.9 <= interval.high
        plain = Estimate.rate(int(hits.sum()), 600)
        pooled += plain.low <= 0.9 <= plain.high
    assert clopper_pearson(ours, 400).high >= 0.95
    assert clopper_pearson(ours, 400).low > 0.9
    assert pooled / 400 < 0.8


@given(CLUSTERS)
def test_it_is_never_narrower_than_counting_rows(clusters):
    hits, sizes = [h for h, _ in clusters], [n for _, n in clusters]
    interval = clustered_rate(hits, sizes)
    plain = clopper_pearson(sum(hits), sum(sizes))
    assert interval.n == sum(sizes)
    if interval.n:
        assert interval.value == plain.value
        assert interval.low <= plain.low + 1e-9
        assert interval.high >= plain.high - 1e-9


def test_one_cluster_bounds_nothing():
    one = clustered_rate([59, 0], [60, 0])
    assert (one.low, one.high) == (0.0, 1.0)


@pytest.mark.parametrize(("hits", "sizes"), [([3], [2]), ([1, 1], [2]), ([-1], [2])])
def test_impossible_counts_are_refused(hits, sizes):
    with pytest.raises(DeclarationError, match="hits"):
        clustered_rate(hits, sizes)
