# SPDX-License-Identifier: Apache-2.0
"""Blocked neighbours equal brute force; components equal an exact decomposition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import DeclarationError
from datapipe.measure import neighbours
from datapipe.measure.neighbours import nearest, principal


def _cloud(seed, n, d, scale=1.0):
    return (np.random.default_rng(seed).normal(size=(n, d)) * scale).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 6), st.integers(1, 8))
def test_neighbours_equal_brute_force(seed, n, d, k):
    points = _cloud(seed, n, d)
    apart = np.linalg.norm(points[:, None].astype(float) - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    expected = np.sort(apart, axis=1)[:, : min(k, n - 1)]
    found = nearest(points, k=k)
    assert np.allclose(found.distances, expected, atol=1e-3)
    picked = np.take_along_axis(apart, found.indices, axis=1)
    assert np.allclose(picked, expected, atol=1e-3)


def test_small_blocks_change_nothing(monkeypatch):
    points, queries = _cloud(1, 300, 5), _cloud(2, 70, 5)
    whole = nearest(points, queries, k=4)
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", 4 * 300 * 7)
    parts = nearest(points, queries, k=4)
    assert np.array_equal(whole.indices, parts.indices)


def test_far_from_the_origin_distances_keep_their_digits():
    points = _cloud(3, 100, 4) + np.float32(1000)
    plain = nearest(points - points.mean(0), k=1)
    assert np.allclose(nearest(points, k=1).distances, plain.distances, rtol=1e-2)


def test_local_scaling_keeps_hubs_from_being_everybodys_neighbour():
    points = _cloud(4, 600, 60)
    counts = [
        np.bincount(nearest(points, k=5, local_scaling=s).indices.ravel(), minlength=600).max()
        for s in (False, True)
    ]
    assert counts[1] < 0.6 * counts[0]


def test_components_equal_an_exact_decomposition_narrow_and_wide():
    rng = np.random.default_rng(5)
    for width in (20, 700):
        basis = np.linalg.qr(rng.normal(size=(width, 3)))[0]
        x = rng.normal(size=(400, 3)) * [9, 5, 2] @ basis.T + 0.05 * rng.normal(size=(400, width))
        found = principal(x.astype(np.float32), 3, np.random.default_rng(0))
        exact = np.linalg.svd(x - x.mean(0), full_matrices=False)
        assert np.allclose(np.abs(found.axes @ exact[2][:3].T), np.eye(3), atol=0.02)
        assert np.allclose(found.variances, exact[1][:3] ** 2 / 399, rtol=0.02)


def test_whitening_gives_unit_variance():
    x = _cloud(6, 500, 4) * np.float32([9, 3, 1, 0.5])
    made = principal(x, 4, np.random.default_rng(0)).project(x, whiten=1.0)
    assert np.allclose(made.var(0, ddof=1), 1.0, atol=0.02)


def test_meaningless_requests_are_refused():
    with pytest.raises(DeclarationError):
        nearest(_cloud(0, 3, 2), k=0)
    with pytest.raises(DeclarationError):
        principal(np.empty((0, 2), np.float32), 1, np.random.default_rng(0))


def test_one_point_has_no_neighbours():
    assert nearest(_cloud(0, 1, 2), k=3).indices.shape == (1, 0)


def test_of_equally_near_points_the_first_are_taken():
    points = np.zeros((6, 2), np.float32)
    assert nearest(points, k=2).indices.tolist() == [[1, 2], [0, 2], *[[0, 1]] * 4]
