# SPDX-License-Identifier: Apache-2.0
"""No mix of removed, added and relabelled rows within the radius changes a certified prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning._partitions import _counted, certified
from datapipe.stages.poisoning.certify import CertifyPoisoning
from datapipe.testing import check_stage
from datapipe.testing.worlds import digits_world

PARTS = 15


def _toy(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 120)
    rows = (rng.normal(size=(120, 3)) + 1.5 * np.eye(3)[labels]).astype(np.float32)
    return rows[:100], labels[:100], rows[100:], rng


def _attacked(rows, labels, budget, rng):
    """Up to `budget` rows taken away, labelled otherwise or added, in any mix."""
    rows, labels = rows.copy(), labels.copy()
    kinds = rng.integers(0, 3, budget)
    chosen = rng.permutation(len(rows))[:budget]
    moved = chosen[kinds == 0]
    labels[moved] = (labels[moved] + rng.integers(1, 3, moved.size)) % 3
    keep = ~np.isin(np.arange(len(rows)), chosen[kinds == 1])
    added = int((kinds == 2).sum())
    extra = (3.0 * rng.normal(size=(added, 3))).astype(np.float32)
    order = rng.permutation(int(keep.sum()) + added)
    every = np.concatenate([rows[keep], extra])[order]
    return every, np.concatenate([labels[keep], rng.integers(0, 3, added)])[order]


def test_a_thousand_attacks_find_no_counterexample():
    tried = changed_beyond = 0
    for seed in range(10):
        rows, labels, asked, rng = _toy(seed)
        made = certified(rows, labels, asked, 3, PARTS)
        for _ in range(100):
            budget = int(rng.integers(1, PARTS))
            again = certified(*_attacked(rows, labels, budget, rng), asked, 3, PARTS)
            held = made.radius >= budget
            assert (again.label[held] == made.label[held]).all()
            tried += int(held.any())
            changed_beyond += int((again.label[~held] != made.label[~held]).any())
    assert tried > 300
    assert changed_beyond > 100


@pytest.mark.parametrize("first", [False, True])
def test_a_row_of_a_class_that_nobody_knew_reaches_one_part_alone(first):
    """Parts that knew how many classes there are all changed with it; the empty ones voted for it.

    `first` says whether the new class comes before the others, and so wins where votes tie.
    """
    held = 0
    for seed in range(6):
        rows, labels, _, rng = _toy(seed)
        asked = (10.0 * rng.normal(size=(40, 3))).astype(np.float32)
        made = certified(rows, labels, asked, 3, 30)
        for _ in range(6):
            budget = int(rng.integers(1, 4))
            extra = (3.0 * rng.normal(size=(budget, 3))).astype(np.float32)
            new = np.full(budget, -1 if first else 3)
            told = np.concatenate([labels, new]) + first
            again = certified(np.concatenate([rows, extra]), told, asked, 4, 30)
            safe = made.radius >= budget
            assert (again.label[safe] - first == made.label[safe]).all()
            held += int(safe.sum())
    assert held > 500


def test_a_winner_with_all_votes_may_tie_with_a_class_that_nobody_knew():
    made = _counted(np.array([[2, 0], [3, 0], [0, 2]]))
    assert made.radius.tolist() == [0, 1, 0]


def test_removing_one_of_two_rows_of_a_class_takes_away_one_row():
    rng = np.random.default_rng(5)
    labels = np.r_[np.arange(604) % 2, 2, 2]
    table = pa.table({"x": labels + 0.1 * rng.normal(size=606), "y": labels})
    for taken in (0, 1):
        data = Dataset.of(table.slice(0, 606 - taken), Roles.of(label="y"))
        made = CertifyPoisoning(parts=20).run(data, Context(0, Path())).findings[0]
        assert made.measure.n == 121  # a fifth of 606 and of 605


def test_the_radius_is_the_most_that_moved_votes_allow():
    rng = np.random.default_rng(0)
    for _ in range(300):
        votes = rng.multinomial(9, [0.5, 0.3, 0.2])
        made = _counted(votes[None, :].astype(np.int64))
        label, radius = int(made.label[0]), int(made.radius[0])
        for rival in set(range(3)) - {label}:
            for moved, changed in ((radius, False), (radius + 1, None)):
                after = votes.copy()
                after[label] -= moved
                after[rival] += moved
                if changed is False:
                    assert after.argmax() == label
        worst = [
            (votes - (radius + 1) * (np.arange(3) == label) + (radius + 1) * (np.arange(3) == r))
            for r in set(range(3)) - {label}
        ]
        assert any(w.argmax() != label for w in worst)


def test_digits_are_certified_with_an_interval():
    data = digits_world(3, damaged=False).dataset()
    made = CertifyPoisoning(parts=40, rows=4).run(data, Context(3, Path())).findings[0]
    certificates = [made.details["certified"][str(r)]["value"] for r in (0, 1, 2, 5, 10)]
    assert made.measure.low < made.measure.value < made.measure.high
    assert made.measure.value > 0.4
    assert certificates == sorted(certificates, reverse=True)
    assert made.details["accuracy"]["value"] >= certificates[0]


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"x": [1.0, 2.0], "y": [0, 1]}),
        pa.table({"x": np.arange(300.0), "y": np.zeros(300, int)}),
        pa.table({"x": np.arange(200.0), "y": [0, 1] * 100}),
        pa.table({"y": [0, 1] * 400}),
        pa.table({"x": [1.0, None] * 400, "y": [0, 1] * 400}),
    ],
)
def test_what_cannot_be_certified_is_not_evaluated(table):
    data = Dataset.of(table, Roles.of(label="y"))
    made = CertifyPoisoning().run(data, Context(0, Path())).findings[0]
    assert made.verdict == "not_evaluated" or table.column_names == ["x", "y"]


def test_bad_parameters_are_told():
    assert len(CertifyPoisoning(parts=1, rows=0).check()) == 2


def test_it_keeps_the_contract():
    assert not check_stage(CertifyPoisoning()).failed


def test_a_guarantee_that_holds_for_no_row_is_not_clean():
    rng = np.random.default_rng(3)
    table = pa.table({"x": rng.normal(size=600), "y": rng.integers(0, 2, 600)})
    data = Dataset.of(table, Roles.of(label="y"))
    made = CertifyPoisoning(parts=20, rows=10).run(data, Context(0, Path())).findings[0]
    assert made.measure.value == 0.0
    assert made.verdict == "suspect"
