# SPDX-License-Identifier: Apache-2.0
"""Wrong labels are found and ranked better than by cleanlab, on the same rows in the same run."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.features.tables import features_of
from datapipe.measure.noise_models import noise_model
from datapipe.measure.second_opinion import second_opinion
from datapipe.stages.labels.confident import ConfidentLearning
from datapipe.testing.worlds import digits_world

pytestmark = pytest.mark.power
filters = pytest.importorskip("cleanlab.filter")

from sklearn.decomposition import PCA  # noqa: E402 - after the skip
from sklearn.ensemble import ExtraTreesClassifier  # noqa: E402 - after the skip
from sklearn.linear_model import LogisticRegression  # noqa: E402 - after the skip
from sklearn.metrics import average_precision_score  # noqa: E402 - after the skip
from sklearn.model_selection import StratifiedKFold, cross_val_predict  # noqa: E402 - after the skip

sys.path.insert(0, str(Path(__file__).parents[1] / "measure"))
from test_noise_models import transition  # noqa: E402 - after the skip

DATA = Path(
    os.environ.get("DATAPIPE_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data")
)


def _theirs(data):
    """The rows that cleanlab's default flags after cross-validated logistic regression."""
    labels = data.values("label").cast(pl.Int64)
    there = np.flatnonzero(labels.is_not_null().to_numpy())
    values, given = features_of(data).values[there], labels.drop_nulls().to_numpy()
    model = LogisticRegression(max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = cross_val_predict(
            model, values / values.max(), given, cv=5, method="predict_proba"
        )
        mask = filters.find_label_issues(given, shares, n_jobs=1)
    flags = np.zeros(len(data), bool)
    flags[there] = mask
    return flags


def test_on_twenty_damaged_digits_both_precision_and_recall_are_above_cleanlabs():
    sides = {"ours": np.zeros(3), "theirs": np.zeros(3)}
    for seed in range(20):
        world = digits_world(seed)
        data, flipped = world.dataset(), world.planted("flipped")
        other = world.planted("triggered") | world.planted("synthetic") | world.planted("missing")
        found = ConfidentLearning().run(data, Context(seed, Path())).findings[1]
        ours = data.row_ids.is_in(found.flagged["row_id"].implode()).to_numpy()
        for name, flags in (("ours", ours), ("theirs", _theirs(data))):
            counted = flags & (flipped | ~other)
            sides[name] += [(flags & flipped).sum(), counted.sum(), flipped.sum()]
    (right, found, wrong), (theirs, their_found, _) = sides["ours"], sides["theirs"]
    told = f"precision {right / found:.3f}, cleanlab {theirs / their_found:.3f}; "
    told += f"recall {right / wrong:.3f}, cleanlab {theirs / wrong:.3f}"
    print(told)
    assert right / found > theirs / their_found + 0.03, told
    assert right / wrong > theirs / wrong + 0.03, told


def test_on_noise_that_a_model_learnt_wrong_labels_of_real_digits_are_ranked_above_both_scores():
    path = DATA / "poison" / "mnist_dev.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    frame = pl.read_parquet(path)[np.random.default_rng(6).permutation(5000)[:1500].tolist()]
    values = np.frombuffer(b"".join(frame["pixels"].to_list()), np.uint8).reshape(-1, 784)
    values = PCA(40, random_state=0).fit_transform(values.astype(np.float64))
    values, true = (values - values.mean(0)) / values.std(), frame["label"].to_numpy().astype(int)
    gaps: dict[str, list[np.ndarray]] = {"even": [], "uneven": []}
    for case in ("even", "pairs", "human", "human, much"):
        rng = np.random.default_rng(len(case) + 100)
        table = transition(case, rng)
        given = np.array([rng.choice(10, p=table[c]) for c in true])
        wrong, every = given != true, np.arange(true.size)
        folds = StratifiedKFold(5, shuffle=True, random_state=1)
        for model in (LogisticRegression(max_iter=100), ExtraTreesClassifier(100, random_state=0)):
            p = cross_val_predict(model, values, given, cv=folds, method="predict_proba")
            own, rest = p[every, given], p.copy()
            rest[every, given] = -1
            ours = noise_model(given, p, np.random.default_rng(0)).judge(given, p).error
            scores = [average_precision_score(wrong, s) for s in (ours, 1 - own, rest.max(1) - own)]
            gaps["even" if case == "even" else "uneven"].append(np.array(scores))
    print({name: np.mean(rows, axis=0).round(3).tolist() for name, rows in gaps.items()})
    uneven = np.mean(gaps["uneven"], axis=0)
    assert uneven[0] >= max(uneven[1:]) + 0.05
    assert min(row[0] - max(row[1:]) for row in gaps["even"]) >= -0.01


def test_wrong_labels_are_ranked_nearly_as_by_the_true_transition_matrix():
    """With a model's probabilities given, little more is to be had, whoever ranks.

    Of 1,000 rows a matrix of ten classes is learnt roughly; with 2,000 nothing is left between.
    """
    path = DATA / "poison" / "mnist_dev.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    frame = pl.read_parquet(path)[np.random.default_rng(1001).permutation(5000)[:1000].tolist()]
    values = np.frombuffer(b"".join(frame["pixels"].to_list()), np.uint8).reshape(-1, 784)
    values = PCA(40, random_state=0).fit_transform(values.astype(np.float64))
    values, true = (values - values.mean(0)) / values.std(), frame["label"].to_numpy().astype(int)
    rows = []
    for case in ("pairs", "human", "human, much"):
        rng = np.random.default_rng([1, len(case)])
        table = transition(case, rng)
        given = np.array([rng.choice(10, p=table[c]) for c in true])
        wrong, every = given != true, np.arange(true.size)
        folds = StratifiedKFold(5, shuffle=True, random_state=1)
        for model in (LogisticRegression(max_iter=100), ExtraTreesClassifier(60, random_state=0)):
            p = cross_val_predict(model, values, given, cv=folds, method="predict_proba")
            made = second_opinion(given, p, np.random.default_rng(0))
            shares = np.maximum(p, 1e-4) * table[:, given].T
            known = 1 - shares[every, given] / shares.sum(1)
            ours = made.model.judge(given, made.probabilities).error
            scores = (ours, known, 1 - p[every, given])
            rows.append([average_precision_score(wrong, s) for s in scores])
    ours, known, theirs = np.mean(rows, axis=0)
    print(f"ours {ours:.3f}, by the true matrix {known:.3f}, cleanlab's default {theirs:.3f}")
    assert ours >= known - 0.03
    assert ours >= theirs + 0.15
