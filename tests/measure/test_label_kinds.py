# SPDX-License-Identifier: Apache-2.0
"""Sets of classes, tokens and values: masks and scores are cleanlab's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from datapipe.errors import DeclarationError
from datapipe.measure.label_kinds import set_issues, token_issues, value_issues


def sets(seed, classes=6, rows=400):
    """Given sets of classes of which one in twenty memberships is wrong, and probabilities."""
    rng = np.random.default_rng(seed)
    true = rng.random((rows, classes)) < rng.uniform(0.1, 0.6, classes)
    given = true ^ (rng.random((rows, classes)) < 0.05)
    p = 1 / (1 + np.exp(-(4 * true - 2 + rng.normal(size=(rows, classes)))))
    return given, p, given != true


@pytest.mark.parametrize("seed", range(4))
def test_sets_of_classes_are_judged_as_cleanlab_does(seed):
    many = pytest.importorskip("cleanlab.multilabel_classification")
    given, p, wrong = sets(seed)
    given[:, 5] = False  # a class that no row has
    lists = [np.flatnonzero(row).tolist() for row in given]
    made = set_issues(given, p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = many.filter.find_multilabel_issues_per_class(lists, p, n_jobs=1)
        quality = many.get_label_quality_scores(lists, p)
        rows = many.filter.find_label_issues(lists, p, n_jobs=1)
    assert np.array_equal(made.mask, theirs)
    assert np.array_equal(made.mask.any(1), rows)
    assert np.allclose(made.score, 1 - quality, atol=1e-12)
    assert wrong[:, :5][made.mask[:, :5]].mean() > 0.5


def tokens(seed, rows=150, classes=5):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 12, rows)
    true = rng.integers(0, classes, lengths.sum())
    given = np.where(rng.random(true.size) < 0.08, (true + 1) % classes, true)
    p = np.exp(3 * np.eye(classes)[true] + rng.normal(size=(true.size, classes)))
    return given, p / p.sum(1, keepdims=True), lengths, given != true


@pytest.mark.parametrize("seed", range(3))
def test_tokens_are_judged_as_cleanlab_does(seed):
    spans = pytest.importorskip("cleanlab.token_classification")
    from cleanlab.token_classification import filter as spans_filter
    from cleanlab.token_classification import rank as spans_rank

    assert spans
    given, p, lengths, wrong = tokens(seed)
    cuts = np.cumsum(lengths)[:-1]
    labels = [part.tolist() for part in np.split(given, cuts)]
    made = token_issues(given, p, lengths)
    theirs = set(spans_filter.find_label_issues(labels, np.split(p, cuts), n_jobs=1))
    places = [(i, j) for i, n in enumerate(lengths) for j in range(n)]
    assert {places[k] for k in np.flatnonzero(made.mask)} == theirs
    quality, _ = spans_rank.get_label_quality_scores(labels, np.split(p, cuts))
    assert np.allclose(made.score, 1 - quality, atol=1e-12)
    assert wrong[made.mask].mean() > 0.7
    gap = token_issues(given, p, np.append(lengths, 0))
    assert gap.score[-1] == 0


@pytest.mark.parametrize("rows", [101, 600])
def test_values_are_ranked_as_cleanlab_does_and_planted_ones_flagged(rows):
    rank = pytest.importorskip("cleanlab.regression.rank")
    rng = np.random.default_rng(rows)
    true = rng.gamma(2, 10, rows)
    guess, given = true + rng.normal(size=rows), true + rng.normal(size=rows)
    clean = value_issues(given, guess)
    assert not clean.mask.any()
    given[:5] += 25
    made = value_issues(given, guess)
    assert np.flatnonzero(made.mask).tolist() == [0, 1, 2, 3, 4]
    theirs = rank.get_label_quality_scores(given, guess)
    assert np.allclose(made.score, 1 - theirs, atol=1e-9)


def test_what_does_not_fit_is_refused():
    given, p, _ = sets(0)
    with pytest.raises(DeclarationError, match="labels and"):
        set_issues(given[:5], p)
    with pytest.raises(DeclarationError, match=r"outside \[0, 1\]"):
        set_issues(given, p * 3)
    with pytest.raises(DeclarationError, match="lengths"):
        token_issues(np.array([0, 1]), np.eye(2), np.array([3]))
    with pytest.raises(DeclarationError, match="missing or infinite"):
        value_issues(np.array([1.0, np.nan]), np.zeros(2))
    with pytest.raises(DeclarationError, match="predictions"):
        value_issues(np.zeros(3), np.zeros(2))
