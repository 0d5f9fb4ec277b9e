# SPDX-License-Identifier: Apache-2.0
"""Copies share a group: every pair of few rows, and of many what the docstring promises."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.measure import copies, neighbour_graph
from datapipe.measure.copies import copy_groups


def test_copies_are_grouped_exact_and_near():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 8)).astype(np.float32)
    near = x[:5] + np.float32(0.02) * rng.normal(size=(5, 8)).astype(np.float32)
    groups = copy_groups(np.vstack([x, x[10:12], near]))
    assert groups[200:202].tolist() == [10, 11]
    assert groups[202:].tolist() == [0, 1, 2, 3, 4]
    assert np.unique(groups).size == 200


def test_copies_of_the_same_rows_are_looked_for_once(monkeypatch):
    x = np.random.default_rng(5).normal(size=(60, 3)).astype(np.float32)
    x[7] = x[4]
    first = copy_groups(x)
    monkeypatch.setattr(copies, "neighbour_graph", None)  # asked again, it would fail
    kept = first.copy()
    first[:] = 0  # what a caller does to its answer is its own
    assert np.array_equal(copy_groups(x.copy()), kept)
    assert kept[7] == 4


def _planted(rng, n, d, radius):
    """Rows with copies: exact, at half the distance that counts, and at twice it."""
    x = rng.normal(size=(n, d)).astype(np.float32)
    step = rng.normal(size=(300, d))
    step *= radius / np.linalg.norm(step, axis=1)[:, None]
    return np.vstack([x, x[:300], x[300:600] + 0.5 * step, x[600:900] + 2.0 * step]).astype("f4")


@pytest.mark.parametrize("d", [2, 12, 60])
def test_of_many_rows_copies_are_found_without_looking_at_every_pair(monkeypatch, d):
    rng = np.random.default_rng(d)
    n = 3000
    usual = np.median(copies.nearest(rng.normal(size=(n, d)).astype("f4"), k=5).distances[:, -1])
    x = _planted(rng, n, d, copies.COPY * float(usual))
    every = copy_groups(x)
    monkeypatch.setattr(neighbour_graph, "EXACT", 1000)
    copies._GROUPS.clear()
    groups = copy_groups(np.asfortranarray(x))  # however the rows lie in memory
    exact, half, twice = (groups[n + i : n + i + 300] == groups[i : i + 300] for i in (0, 300, 600))
    assert exact.all()
    assert half.mean() > 0.98
    assert d == 2 or twice.mean() < 0.05  # where points lie dense, chains of others join them
    assert d == 2 or (every[groups] == every).all()  # nothing is joined that is no copy


def test_rows_of_one_value_are_no_copies_of_each_other(monkeypatch):
    monkeypatch.setattr(neighbour_graph, "EXACT", 100)
    x = np.ones((3000, 4), np.float32)
    assert np.array_equal(copy_groups(x), np.arange(3000))


@pytest.mark.parametrize("times", [2, 6])
@pytest.mark.parametrize("exact", [20_000, 100])
def test_copies_are_grouped_where_most_rows_have_some(monkeypatch, times, exact):
    monkeypatch.setattr(neighbour_graph, "EXACT", exact)
    monkeypatch.setattr(copies, "ASKED", 100)
    monkeypatch.setattr(neighbour_graph, "ASKED", 100)
    copies._GROUPS.clear()
    rng = np.random.default_rng(4)
    x = rng.normal(size=(400, 4)).astype(np.float32)
    groups = copy_groups(np.tile(x, (times, 1)))
    assert (groups.reshape(times, -1) == groups[:400]).all()
    assert np.unique(groups).size > 370  # a few lie near each other by chance


def test_equal_rows_of_a_few_categories_are_no_copies():
    rng = np.random.default_rng(6)
    x = rng.integers(0, 4, (3000, 3)).astype(np.float32)
    assert np.array_equal(copy_groups(x), np.arange(3000))
    one = np.repeat(np.eye(2, 10), 150, axis=0).astype(np.float32)  # two patterns of ten columns
    assert np.array_equal(copy_groups(one), np.arange(300))
