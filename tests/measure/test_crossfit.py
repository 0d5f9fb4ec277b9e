# SPDX-License-Identifier: Apache-2.0
"""Folds keep classes even and copies together; the kernel sees what a line cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datapipe.errors import DeclarationError
from datapipe.measure import kernel
from datapipe.measure.crossfit import out_of_fold, refit, stratified_folds, telling
from datapipe.measure.kernel import kernel_predictor


def _rings(seed, n=400):
    """Two classes that no straight line parts."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    angle = rng.uniform(0, 2 * np.pi, n)
    radius = 1.0 + 2.0 * labels + rng.normal(0, 0.2, n)
    x = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    return x.astype(np.float32), labels


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(2, 4))
def test_folds_are_even_in_every_class_and_split_no_group(seed, folds, classes):
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, classes, 40), 2)
    groups = np.repeat(np.arange(40), 2)
    fold = stratified_folds(labels, folds, rng, groups)
    assert (fold[::2] == fold[1::2]).all()
    for k in range(classes):
        sizes = np.bincount(fold[labels == k], minlength=folds)
        assert sizes.max() - sizes.min() <= 2


def test_no_row_is_predicted_by_a_model_that_saw_it():
    seen = []

    def spy(fitted, asked):
        seen.append(np.intersect1d(fitted, asked).size)
        assert 3 not in fitted
        return np.full((asked.size, 2), 0.5)

    keep = np.arange(20) != 3
    out_of_fold(spy, np.arange(20) % 4, keep, 2)
    assert seen == [0, 0, 0, 0]


@pytest.mark.parametrize(("landmarks", "most"), [(2000, 10**6), (60, 10**6), (60, 200)])
def test_the_kernel_parts_rings_with_all_rows_or_a_sample(monkeypatch, landmarks, most):
    monkeypatch.setattr(kernel, "LANDMARKS", landmarks)
    monkeypatch.setattr(kernel, "MOST_FITTED", most)
    x, labels = _rings(2)
    rng = np.random.default_rng(0)
    fold = stratified_folds(labels, 5, rng, np.arange(labels.size))
    made = out_of_fold(kernel_predictor(x, labels, 2, rng), fold, np.ones(labels.size, bool), 2)
    assert (made.argmax(1) == labels).mean() > 0.95
    assert np.allclose(made.sum(1), 1.0)


@pytest.mark.parametrize("most", [10**6, 400])
def test_sums_less_those_left_out_fit_as_sums_over_the_rest_do(monkeypatch, most):
    monkeypatch.setattr(kernel, "MOST_FITTED", most)
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(600, 5)).astype(np.float32), rng.integers(0, 3, 600)
    fold, keep = np.arange(600) % 4, rng.random(600) > 0.1
    predict = kernel_predictor(x, y, 3, np.random.default_rng(0), landmarks=50)
    made = [out_of_fold(predict, fold, k, 3) for k in (np.ones(600, bool), keep)]
    assert 0 < len(predict._known) <= 5  # all rows, and each fold once
    monkeypatch.setattr(kernel._Nystroem, "_summed", lambda self, fitted, _: _all_of(self, fitted))
    direct = [out_of_fold(predict, fold, k, 3) for k in (np.ones(600, bool), keep)]
    assert np.allclose(made, direct, atol=1e-6)


def _all_of(predictor, fitted):
    rows = np.intersect1d(fitted, predictor._drawn)
    return rows, predictor._over(rows)


def test_what_a_row_is_labelled_says_nothing_of_what_is_predicted_for_it():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(300, 4)).astype(np.float32), rng.integers(0, 2, 300)
    asked, other = np.arange(60), np.where(np.arange(300) < 60, 1 - y, y)
    made = [
        kernel_predictor(x, labels, 2, np.random.default_rng(0), landmarks=40)(
            np.arange(60, 300), asked
        )
        for labels in (y, other)
    ]
    assert np.allclose(*made, atol=1e-7)


def test_the_second_round_finds_flips_that_the_first_explains_away():
    x, true = _rings(3, n=600)
    rng = np.random.default_rng(1)
    flipped = rng.random(600) < 0.15
    labels = np.where(flipped, 1 - true, true)
    fold = stratified_folds(labels, 5, rng, np.arange(600))
    made = refit(kernel_predictor(x, labels, 2, rng), labels, fold, 2)
    found = made.posterior.error > 0.5
    assert (found & flipped).sum() / flipped.sum() > 0.9
    assert (found & flipped).sum() / found.sum() > 0.9


def test_one_fold_is_refused():
    with pytest.raises(DeclarationError):
        stratified_folds(np.zeros(4, int), 1, np.random.default_rng(0), np.arange(4))


@pytest.mark.parametrize("seed", [1, 2])
def test_one_inverse_predicts_left_out_rows_as_a_fit_without_them_does(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(420, 6)).astype(np.float32), rng.integers(0, 3, 420)
    predict = kernel_predictor(x, y, 3, np.random.default_rng(0))
    spread = 2 * predict._width
    for share in (0.2, 0.5):  # rows of other folds may be left out too
        out = rng.random(420) < share
        asked, fitted = np.flatnonzero(out)[::2], np.flatnonzero(~out)

        def kernel(rows, others):
            return np.exp(-((x[rows][:, None] - x[others][None]) ** 2).sum(-1) / spread)

        targets = np.eye(3)[y[fitted]]
        weights = np.linalg.solve(
            kernel(fitted, fitted) + np.eye(fitted.size), targets - targets.mean(0)
        )
        made = np.maximum(kernel(asked, fitted) @ weights + targets.mean(0), 0) + 0.005
        naive = made / made.sum(1, keepdims=True)
        assert np.abs(predict(fitted, asked) - naive).max() < 1e-5
    seen = predict(np.arange(400), np.arange(390, 420))  # rows that were fitted are predicted too
    assert np.abs(seen[10:] - predict(np.arange(400), np.arange(400, 420))).max() < 1e-5


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_telling_lies_between_guessing_and_certainty_whatever_the_class_sizes(share):
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(200):
        labels = rng.choice(3, 600, p=[0.8, 0.15, 0.05])
        shown = np.where(rng.random(600) < share, labels, rng.integers(0, 3, 600))
        made = telling(labels, np.eye(3)[shown])
        inside += made.low <= share <= made.high
    assert inside >= 180
