# SPDX-License-Identifier: Apache-2.0
"""The noise model that left-out labels choose ranks wrong labels better than cleanlab's scores."""

from __future__ import annotations

import numpy as np
import pytest

from datapipe.errors import DeclarationError
from datapipe.measure.noise_models import noise_model
from datapipe.measure.second_opinion import second_opinion

CASES = ("even", "pairs", "human, much")


def transition(kind, rng, k=10):
    """From true to given class."""
    if kind == "even":
        return 0.8 * np.eye(k) + 0.2 * (1 - np.eye(k)) / (k - 1)
    if kind == "pairs":
        return 0.8 * np.eye(k) + 0.2 * np.roll(np.eye(k), 1, axis=1)
    made = np.zeros((k, k))
    for i in range(k):
        rate = np.clip(rng.gamma(2, 0.085 if kind == "human" else 0.15), 0.01, 0.48)
        share = np.maximum(rng.dirichlet(np.full(k - 1, 0.3)), 0.002)
        made[i, np.arange(k) != i] = rate * share / share.sum()
        made[i, i] = 1 - rate
    return made


@pytest.fixture(scope="module")
def scored():
    """Average precision by case and model: ours, self-confidence, margin, with second opinion."""
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    x, true = (part[:1000] for part in load_digits(return_X_y=True))
    x = PCA(40, random_state=0).fit_transform(x)
    x = (x - x.mean(0)) / x.std()
    made = {}
    for case in CASES:
        rng = np.random.default_rng(len(case))
        table = transition(case, rng)
        given = np.array([rng.choice(10, p=table[c]) for c in true])
        wrong, every = given != true, np.arange(true.size)
        for name, model in (
            ("linear", LogisticRegression(max_iter=150)),
            ("trees", ExtraTreesClassifier(40, random_state=0)),
        ):
            folds = StratifiedKFold(4, shuffle=True, random_state=0)
            p = cross_val_predict(model, x, given, cv=folds, method="predict_proba")
            own, rest = p[every, given], p.copy()
            rest[every, given] = -1
            ours = noise_model(given, p, np.random.default_rng(0))
            both = second_opinion(given, p, np.random.default_rng(0))
            second = both.model.judge(given, both.probabilities).error
            scores = (ours.judge(given, p).error, 1 - own, rest.max(1) - own, second)
            made[case, name] = [average_precision_score(wrong, s) for s in scores]
    return made


def test_noise_between_classes_is_ranked_better_than_by_either_score_of_cleanlab(scored):
    uneven = np.array([v for (case, _), v in scored.items() if case != "even"]).mean(0)
    assert uneven[3] >= 0.95
    assert uneven[0] >= max(uneven[1:3]) + 0.02


def test_a_second_opinion_mends_what_a_line_cannot_see_and_spoils_nothing(scored):
    gain = {key: v[3] - v[0] for key, v in scored.items()}
    lines = [v for (case, name), v in gain.items() if name == "linear" and case != "even"]
    assert np.mean(lines) >= 0.008
    assert min(gain.values()) >= -0.01


def test_even_noise_is_ranked_no_worse(scored):
    for (case, name), (ours, own, margin, second) in scored.items():
        if case == "even":
            assert min(ours, second) >= max(own, margin) - 0.01, name


def test_the_model_names_what_it_found_and_its_rate():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 4000)
    p = np.exp(4 * np.eye(4)[true] + rng.normal(size=(4000, 4)))
    p /= p.sum(1, keepdims=True)
    given = np.where(rng.random(4000) < 0.2, (true + rng.integers(1, 4, 4000)) % 4, true)
    even = noise_model(given, p, rng)
    assert even.name.startswith("even")
    assert even.judge(given, p).error.mean() == pytest.approx(0.2, abs=0.03)
    pairs = np.where((true == 1) & (rng.random(4000) < 0.4), 2, true)
    found = noise_model(pairs, p, rng)
    assert found.name == "pairs"
    assert found.transition[1, 2] == pytest.approx(0.4, abs=0.06)
    clean = noise_model(true, p, rng)
    assert clean.judge(true, p).error.mean() < 0.02


def test_odd_shapes_are_refused_and_small_ones_judged():
    rng = np.random.default_rng(0)
    with pytest.raises(DeclarationError, match="do not fit"):
        noise_model(np.zeros(3, np.int64), np.full((2, 2), 0.5), rng)
    one = noise_model(np.array([0]), np.array([[0.5, 0.5]]), rng)
    assert one.judge(np.array([0]), np.array([[0.5, 0.5]])).error.shape == (1,)
