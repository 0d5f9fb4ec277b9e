# SPDX-License-Identifier: Apache-2.0
"""Neighbours among many rows: near pairs are found, the work grows with the rows, not their square.

No test asserts a time: pairs of rows that are compared are counted.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.measure import copies, neighbour_graph, neighbours
from datapipe.measure.neighbour_graph import neighbour_graph as graph_of
from datapipe.stages.dedup.near import NearDuplicates


@pytest.fixture
def compared(monkeypatch):
    """Counts the pairs that are compared, and takes a thousand rows for many."""
    counted = []
    smallest = neighbours.smallest

    def counting(squares, k):
        counted.append(squares.size)
        return smallest(squares, k)

    for module in (neighbours, neighbour_graph):
        monkeypatch.setattr(module, "smallest", counting)
    monkeypatch.setattr(neighbour_graph, "EXACT", 1000)
    monkeypatch.setattr(neighbour_graph, "MOST_TREES", 2)
    monkeypatch.setattr(copies, "ASKED", 200)
    copies._GROUPS.clear()
    return counted


def _table(n):
    values = np.random.default_rng(n).normal(size=(n, 6))
    return Dataset.of(pl.DataFrame({f"x{i}": values[:, i] for i in range(6)}))


USERS = {
    "graph": lambda n, rng: graph_of(rng.normal(size=(n, 6)).astype("f4"), k=5, rng=rng),
    "copies": lambda n, rng: copies.copy_groups(rng.normal(size=(n, 6)).astype("f4")),
    "near": lambda n, _: NearDuplicates().run(_table(n), Context(0, None)),
}


@pytest.mark.parametrize("user", USERS)
def test_four_times_the_rows_are_not_sixteen_times_the_pairs(compared, user):
    """Four times as many, and a little for centres of leaves; every pair would be 16 times."""
    totals = []
    for n in (4_000, 16_000):
        compared.clear()
        USERS[user](n, np.random.default_rng(n))
        totals.append(sum(compared))
    assert totals[1] / totals[0] < 6


@pytest.mark.parametrize("d", [3, 12, 40, 200])
def test_near_pairs_among_many_rows_are_found_as_often_as_is_told(monkeypatch, d):
    monkeypatch.setattr(neighbour_graph, "EXACT", 1000)
    rng = np.random.default_rng(d)
    x = rng.normal(size=(6000, d)).astype(np.float32)
    usual = float(np.median(neighbours.nearest(x, k=1).distances))
    step = rng.normal(size=(500, d))
    step *= 0.4 * usual / np.linalg.norm(step, axis=1)[:, None]
    made = graph_of(np.vstack([x, x[:500] + step]).astype("f4"), k=10, rng=rng)
    found = (made.indices[:500] == 6000 + np.arange(500)[:, None]).any(1)
    assert made.recall.low > 0.97
    assert found.mean() > made.recall.low - 0.03


def test_what_is_found_is_told_rightly(monkeypatch):
    monkeypatch.setattr(neighbour_graph, "EXACT", 500)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3000, 4)).astype(np.float32)
    x[100:140] = x[7]  # many equal rows
    made = graph_of(x, k=6, rng=rng)
    rows = np.arange(3000)[:, None]
    assert (made.indices != rows).all()
    assert (np.sort(made.indices, axis=1)[:, 1:] != np.sort(made.indices, axis=1)[:, :-1]).all()
    assert (np.diff(made.distances, axis=1) >= 0).all()
    gaps = np.linalg.norm(x[:, None] - x[made.indices], axis=2)
    assert np.allclose(gaps, made.distances, atol=2e-3)
    exact = neighbours.nearest(x, k=6)
    assert (made.indices[:, :, None] == exact.indices[:, None, :]).any(2).mean() > 0.9


def test_rows_all_alike_are_no_trouble(monkeypatch):
    monkeypatch.setattr(neighbour_graph, "EXACT", 500)
    made = graph_of(np.ones((2000, 3), np.float32), k=4, rng=np.random.default_rng(0))
    assert (made.distances == 0).all()
