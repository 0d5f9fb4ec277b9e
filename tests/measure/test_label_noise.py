# SPDX-License-Identifier: Apache-2.0
"""The prune mask equals cleanlab's row by row; the posterior finds planted confusions."""

from __future__ import annotations

import os
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import DeclarationError
from datapipe.measure import label_noise, label_scan, label_sources
from datapipe.measure.label_noise import (
    confident_joint,
    prune_by_noise_rate,
    transition_posterior,
)

DATA = Path(
    os.environ.get("DATAPIPE_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data")
)


def _oracle(labels, probabilities):
    found = pytest.importorskip("cleanlab.filter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return found.find_label_issues(labels, probabilities, n_jobs=1)


@st.composite
def _cases(draw):
    classes = draw(st.integers(2, 6))
    n = draw(st.integers(2 * classes, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    if draw(st.booleans()):
        labels = np.minimum(labels, classes - 2 if classes > 2 else 1)  # a class without rows
    sharp = draw(st.sampled_from([0.2, 1.0, 5.0]))
    logits = rng.normal(size=(n, classes)) * sharp + 2 * np.eye(classes)[labels]
    made = np.exp(logits - logits.max(1, keepdims=True))
    made /= made.sum(1, keepdims=True)
    if draw(st.booleans()):
        made = np.round(made, 1) + 1e-3  # many ties
        made /= made.sum(1, keepdims=True)
    return labels, made.astype(draw(st.sampled_from([np.float64, np.float32])))


@settings(max_examples=150, deadline=None)
@given(_cases())
def test_the_mask_equals_cleanlabs(case):
    labels, probabilities = case
    found = prune_by_noise_rate(labels, probabilities)
    assert np.array_equal(found, _oracle(labels, probabilities))
    assert np.array_equal(found, _streamed(labels, probabilities))


def _streamed(labels, probabilities, rows=7, held=40):
    """The same from parts of a few rows, so few held that classes take turns."""

    def read():
        return (probabilities[i : i + rows] for i in range(0, labels.size, rows))

    before, label_scan.HELD_VALUES = label_scan.HELD_VALUES, held
    try:
        return label_scan.pruned(label_sources.Streamed(labels, probabilities.shape[1], read)).mask
    finally:
        label_scan.HELD_VALUES = before


@settings(max_examples=60, deadline=None)
@given(_cases())
def test_the_joint_equals_cleanlabs(case):
    labels, probabilities = case
    count = pytest.importorskip("cleanlab.count")
    theirs = count.compute_confident_joint(labels, probabilities)
    assert np.array_equal(confident_joint(labels, probabilities), theirs)


@pytest.mark.parametrize("name", ["cifar10", "20news"])
def test_the_mask_equals_cleanlabs_on_published_probabilities(name):
    path = DATA / "labels" / f"{name}_predprobs.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    frame = pl.read_parquet(path)
    labels = frame["given"].to_numpy().astype(np.int64)
    probabilities = frame.select(pl.col("^p[0-9]+$")).to_numpy()
    mask = prune_by_noise_rate(labels, probabilities)
    assert np.array_equal(mask, _oracle(labels, probabilities))
    assert mask.sum() == {"cifar10": 284, "20news": 95}[name]


def test_many_classes_with_few_rows_each():
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(300), rng.integers(0, 300, 1500)])
    probabilities = rng.dirichlet(np.full(300, 0.02), labels.size)
    found = prune_by_noise_rate(labels, probabilities)
    assert np.array_equal(found, _oracle(labels, probabilities))


def test_small_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 200)
    probabilities = rng.dirichlet(np.ones(4), 200)
    whole = prune_by_noise_rate(labels, probabilities)
    posterior = transition_posterior(labels, probabilities)
    monkeypatch.setattr(label_noise, "BLOCK_VALUES", 64)
    monkeypatch.setattr(label_sources, "BLOCK_VALUES", 64)
    assert np.array_equal(whole, prune_by_noise_rate(labels, probabilities))
    assert np.allclose(posterior.error, transition_posterior(labels, probabilities).error)


def test_fixed_collisions_choose_among_confident_classes_only():
    # row 3 passes the bars of classes 1 and 2, yet class 0 is its likeliest
    probabilities = np.array(
        [[0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.5, 0.2, 0.3], [0.38, 0.32, 0.30]]
    )
    labels = np.array([0, 1, 2, 1])
    assert confident_joint(labels, probabilities)[1, 0] == 1
    assert confident_joint(labels, probabilities, fix_collisions=True)[1, 0] == 0


def test_the_posterior_learns_a_class_pair():
    rng = np.random.default_rng(2)
    true = rng.integers(0, 3, 3000)
    logits = 3.0 * np.eye(3)[true] + rng.normal(size=(3000, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    given_labels = np.where((true == 1) & (rng.random(3000) < 0.3), 2, true)
    found = transition_posterior(given_labels, probabilities)
    assert 0.2 < found.transition[1, 2] < 0.4
    assert found.transition[2, 1] < 0.05
    wrong = given_labels != true
    assert found.error[wrong].mean() > 0.7
    assert found.error[~wrong].mean() < 0.1


@pytest.mark.parametrize(("rows", "classes"), [(20_000, 100), (4_000, 400)])
def test_large_tables_equal_cleanlabs_streamed_or_not(rows, classes):
    labels, probabilities = made(rows, classes)
    theirs = _oracle(labels, probabilities)
    assert np.array_equal(prune_by_noise_rate(labels, probabilities), theirs)
    assert np.array_equal(_streamed(labels, probabilities, 1000, 200_000), theirs)
    halves = probabilities.astype(np.float16).astype(np.float32)  # quantised: many ties
    halves /= halves.sum(1, keepdims=True)
    assert np.array_equal(prune_by_noise_rate(labels, halves), _oracle(labels, halves))


def made(rows, classes, seed=0, noise=0.1):
    """Labels of which some are wrong, and probabilities that lean to the true class."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    labels = np.where(rng.random(rows) < noise, rng.integers(0, classes, rows), true)
    probabilities = rng.random((rows, classes), dtype=np.float32) ** 8
    lean = rng.gamma(2, classes / 25, rows).astype(np.float32)
    probabilities[np.arange(rows), true] += lean
    return labels, probabilities / probabilities.sum(1, keepdims=True)


def test_five_thousand_classes_most_without_rows():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 40, 300) * 100
    probabilities = rng.dirichlet(np.full(5000, 0.01), labels.size)
    probabilities[np.arange(300), labels] += 0.5
    probabilities /= probabilities.sum(1, keepdims=True)
    mask = prune_by_noise_rate(labels, probabilities)
    agreed = probabilities.argmax(1) == labels
    assert not mask[agreed].any()


def test_bad_probabilities_are_refused():
    labels, good = np.array([0, 1, 1]), np.full((3, 2), 0.5)
    for value in (np.nan, np.inf):
        bad = good.copy()
        bad[1, 0] = value
        with pytest.raises(DeclarationError, match="missing or infinite"):
            prune_by_noise_rate(labels, bad)
    with pytest.raises(DeclarationError, match="outside the 2 columns"):
        prune_by_noise_rate(np.array([0, 1, 2]), good)
    with pytest.raises(DeclarationError, match="do not fit"):
        prune_by_noise_rate(labels, good[:2])
    for rows in (2, 4):
        source = label_sources.Streamed(
            labels, 2, lambda rows=rows: iter([np.full((rows, 2), 0.5)])
        )
        with pytest.raises(DeclarationError, match="not as many rows"):
            label_scan.pruned(source)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DeclarationError):
        transition_posterior(np.zeros(3, np.int64), np.ones((2, 2)) / 2)


@pytest.mark.parametrize("streamed", [False, True])
def test_beside_the_probabilities_little_memory_is_needed(streamed):
    """At most 80 bytes a row: 80 MB for a million rows."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 50, 100_000)
    probabilities = rng.random((100_000, 50), dtype=np.float32)
    probabilities[np.arange(labels.size), labels] += 2
    probabilities /= probabilities.sum(1, keepdims=True)
    source = label_sources.InMemory(labels, probabilities)
    if streamed:
        parts = [slice(i, i + 5000) for i in range(0, labels.size, 5000)]
        source = label_sources.Streamed(labels, 50, lambda: (probabilities[p] for p in parts))
    tracemalloc.start()
    label_scan.pruned(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 80 * labels.size
