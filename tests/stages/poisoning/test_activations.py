# SPDX-License-Identifier: Apache-2.0
"""Scores of rows that a network has not seen; tests that are exact, and verdicts that say why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning._accused import Half, _ranked, _surplus, by_others, by_trust
from datapipe.stages.poisoning._unseen import Scores
from datapipe.stages.poisoning.activations import ActivationOutliers
from datapipe.testing import check_stage

ROWS = 600


def _drawn(seed, rows=ROWS):
    """Three classes of embeddings in ten dimensions, each around its own middle."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    x = rng.normal(size=(rows, 10)) + 3.0 * np.eye(3, 10)[y]
    return x, y, rng


def _table(x, y):
    column = pl.Series("e", x.tolist(), dtype=pl.List(pl.Float32))
    return pl.DataFrame({"e": column, "noise": np.zeros(len(y)), "y": y})


def _planted(seed, count=40):
    """Rows of other classes that hold one more pattern, and are called class 0."""
    x, y, rng = _drawn(seed)
    rows = rng.permutation(np.flatnonzero(y != 0))[:count]
    x[rows, 7] += 8.0
    y[rows] = 0
    return x, y, np.isin(np.arange(y.size), rows)


def _look(x, y, **given):
    data = Dataset.of(_table(x, y), Roles.of(label="y"))
    return ActivationOutliers(embedding="e", **given).run(data, Context(0, Path())).findings[0]


@pytest.fixture(scope="module")
def trusted(tmp_path_factory):
    file = tmp_path_factory.mktemp("trusted") / "t.parquet"
    _table(*_drawn(99, 360)[:2]).write_parquet(file)
    return str(file)


def test_with_trusted_rows_the_class_and_its_rows_are_named(trusted):
    x, y, planted = _planted(1)
    made = _look(x, y, reference=trusted)
    flags = made.rows["flagged"].to_numpy()
    assert made.verdict == "fail"
    assert made.details["class"] == "0"
    assert made.details["calibrated_on"] == "trusted rows"
    assert (flags & planted).sum() >= 30
    assert (flags & ~planted).sum() <= 15
    assert made.rows["p_value"].is_between(0, 1).all()


def test_clean_rows_are_clean_with_trusted_rows_and_without(trusted):
    x, y, _ = _drawn(2)
    assert _look(x, y, reference=trusted, most_unseen=0.1).verdict == "clean"
    alone = _look(x, y)
    assert alone.verdict in {"clean", "not_evaluated"}
    assert not alone.rows["flagged"].any()


def test_without_trusted_rows_a_label_granted_against_the_features_is_suspect():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 100)
    shares = np.full((500, 5), 0.02)
    shares[np.arange(500), labels] = 0.92
    denied = rng.permutation(500)[:60]
    denied = np.union1d(denied, np.arange(25))  # of label 0, 25 more
    shares[denied] = 0.02
    shares[denied, (labels[denied] + 1) % 5] = 0.92
    final = np.full(500, 0.1)
    final[denied] = 3.0
    final[:25] = 0.05  # which the network grants all the same
    none = np.zeros(500)
    half = Half(np.arange(500), Scores(none, none, none, final), Scores(none, none, none, none))
    made = by_others([half], labels, shares, 0.05)
    assert made.p_values.argmin() == 0
    assert made.p_values[0] < 0.01
    assert made.p_values[1:].min() > 0.05
    assert made.flags.nonzero()[0].tolist() == list(range(25))


def test_honest_rows_raise_an_alarm_no_oftener_than_alpha():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(100):
        labels, known = rng.integers(0, 3, 300), rng.integers(0, 3, 200)
        halves = []
        for place in (np.arange(150), np.arange(150, 300)):
            drawn = [Scores(*rng.gamma(1.0, size=(4, n))) for n in (150, 200)]
            halves.append(Half(place, *drawn))
        alarms += by_trust(halves, labels, known, 0.05).p_values.min() <= 0.05
    assert alarms <= 11  # 5 are expected at most; P(more than 11) < 0.01


def test_ranks_are_those_of_a_plain_count():
    rng = np.random.default_rng(0)
    asked, known = rng.integers(0, 9, 40).astype(float), rng.integers(0, 9, 30).astype(float)
    above = [(1 + (known >= a).sum()) / 31 for a in asked]
    below = [(1 + (known <= a).sum()) / 31 for a in asked]
    np.testing.assert_allclose(_ranked(asked, known, both=False), above)
    both = np.minimum(1.0, 2 * np.minimum(above, below))
    np.testing.assert_allclose(_ranked(asked, known, both=True), both)
    p = np.r_[np.full(20, 0.001), rng.uniform(0.05, 1, 80)]
    assert _surplus(p)[:20].all()
    assert _surplus(p)[20:].sum() <= 5
    assert not _surplus(rng.uniform(0.3, 1, 50)).any()


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"x": [1.0, 2.0], "y": [0, 1]}),
        pl.DataFrame({"x": np.arange(300.0), "y": np.zeros(300, int)}),
        pl.DataFrame({"x": np.arange(300.0), "y": [0, 1] * 150}),
        pl.DataFrame({"y": [0, 1, 2] * 100}),
        pl.DataFrame({"x": [1.0, None, 2.0] * 100, "y": [0, 1, 2, 3] * 75}),
    ],
)
def test_what_cannot_be_judged_is_not_evaluated(frame):
    data = Dataset.of(frame, Roles.of(label="y"))
    assert ActivationOutliers().run(data, Context(0, Path())).findings[0].verdict == "not_evaluated"


def test_labels_that_features_do_not_tell_are_not_clean():
    rng = np.random.default_rng(0)
    finding = _look(rng.normal(size=(300, 2)), rng.integers(0, 3, 300))
    assert finding.verdict == "not_evaluated"
    assert "no better than chance" in finding.says


def test_bad_parameters_are_told():
    assert len(ActivationOutliers(alpha=0.0, most_unseen=2.0).check()) == 2


def test_it_keeps_the_contract():
    assert not check_stage(ActivationOutliers()).failed
