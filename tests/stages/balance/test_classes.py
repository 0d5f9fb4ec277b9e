# SPDX-License-Identifier: Apache-2.0
"""Class balance: thin classes are found with their interval, and even ones are left in peace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.finding import Finding
from datapipe.core.roles import Roles
from datapipe.measure.intervals import clopper_pearson
from datapipe.stages.balance.classes import (
    ClassBalance,
    effective_classes,
    goodness_of_fit,
    imbalance_ratio,
)

DIGITS = load_digits().target


def look(labels: object, context: Context, stage: ClassBalance | None = None) -> Finding:
    data = Dataset.of(pl.DataFrame({"y": labels}), Roles.of(label="y"))
    return (stage or ClassBalance()).run(data, context).findings[0]


@pytest.mark.parametrize("cut", range(10))
def test_a_class_cut_to_three_tenths_is_found(cut, context) -> None:
    members = np.flatnonzero(cut == DIGITS)
    kept = np.ones(len(DIGITS), bool)
    kept[members[round(0.3 * members.size) :]] = False
    found = look(DIGITS[kept], context)
    assert found.verdict == "suspect"
    assert found.details["thin"] == [str(cut)]
    thinnest = found.details["classes"][0]
    assert thinnest["name"] == str(cut)
    share = clopper_pearson(int((DIGITS[kept] == cut).sum()), int(kept.sum()))
    assert Estimate.from_json(thinnest["share"]) == share


def test_even_classes_are_clean(context) -> None:
    found = look(DIGITS, context)
    assert (found.verdict, found.details["thin"]) == ("clean", [])
    assert found.measure.low >= 1
    assert found.details["effective_classes"]["high"] <= 10


def test_chance_does_not_make_a_class_thin(context) -> None:
    rng = np.random.default_rng(1)
    alarms = sum(
        look(rng.integers(0, 8, 160), context, ClassBalance(fewest=1)).verdict != "clean"
        for _ in range(30)
    )
    assert alarms <= 1


def test_rows_that_could_not_fill_the_classes_are_not_judged(context) -> None:
    assert look(["a", "b"] * 9, context).verdict == "not_evaluated"
    assert look(["a", "b"] * 10, context).verdict == "clean"


def test_a_class_of_few_rows_is_named_and_fails_a_target(context) -> None:
    found = look(["a"] * 500 + ["b"] * 4, context)
    assert found.verdict == "suspect"
    target = ClassBalance(target=(("a", 0.5), ("b", 0.5)))
    assert look(["a"] * 500 + ["b"] * 4, context, target).verdict == "fail"
    assert found.details["too_few"] == ["b"]
    assert look(["a"] * 500 + ["b"] * 4, context, ClassBalance(fewest=4)).verdict == "suspect"


def test_a_target_is_held_against_the_shares(context) -> None:
    rng = np.random.default_rng(2)
    target = (("no", 0.95), ("yes", 0.05))
    rare = np.where(rng.random(4000) < 0.05, "yes", "no")
    fits = look(rare, context, ClassBalance(target=target))
    assert fits.verdict == "clean"
    assert fits.p_value > 0.01
    off = look(np.where(rng.random(4000) < 0.2, "yes", "no"), context, ClassBalance(target=target))
    assert (off.verdict, off.details["overfull"]) == ("suspect", ["yes"])
    assert off.p_value < 1e-6
    absent = look(["no"] * 4000, context, ClassBalance(target=target))
    assert (absent.verdict, absent.details["too_few"]) == ("fail", ["yes"])
    assert absent.measure.low > 100


def test_unlabelled_rows_are_counted_apart(context) -> None:
    found = look(["a", "b", None] * 40, context)
    assert found.details["unlabelled"] == 40
    assert found.measure.n == 80


@pytest.mark.parametrize(
    "labels",
    [
        np.random.default_rng(3).normal(size=200),
        np.random.default_rng(3).integers(0, 10**6, 400),
        ["one"] * 50,
        pl.Series([None] * 50, dtype=pl.String),
        pl.Series([], dtype=pl.Int64),
    ],
)
def test_what_has_no_classes_is_not_evaluated(labels, context) -> None:
    assert look(labels, context).verdict == "not_evaluated"


def test_whole_floats_booleans_and_categories_are_classes(context) -> None:
    for labels in (
        [0.0, 1.0, float("nan")] * 30,
        [True, False] * 30,
        pl.Series(["u", "v"] * 30).cast(pl.Categorical),
    ):
        found = look(labels, context)
        assert (found.verdict, found.details["n_classes"]) == ("clean", 2)


def test_large_unsigned_labels_are_classes(context) -> None:
    found = look(pl.Series([2**64 - 1, 2**64 - 2] * 100, dtype=pl.UInt64), context)
    assert (found.verdict, found.measure.n) == ("clean", 200)


def test_no_label_is_not_evaluated(context) -> None:
    data = Dataset.of(pl.DataFrame({"x": [1, 2]}))
    assert ClassBalance().run(data, context).findings[0].verdict == "not_evaluated"


def test_goodness_of_fit_equals_scipy() -> None:
    counts = {"a": 30, "b": 50, "c": 20}
    expected = {"a": 0.3, "b": 0.4, "c": 0.3}
    theirs = stats.chisquare([30, 50, 20], [30, 40, 30]).pvalue
    assert goodness_of_fit(counts, expected) == pytest.approx(theirs)
    assert goodness_of_fit({"d": 3}, expected) == 0.0


def test_intervals_cover() -> None:
    rng = np.random.default_rng(4)
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    drawn = rng.multinomial(600, shares, size=1000)
    ratios = [imbalance_ratio(int(c[0]), int(c[3]), 600) for c in drawn]
    effective = [effective_classes(c.tolist()) for c in drawn]
    truth = float(np.exp(-(shares * np.log(shares)).sum()))
    assert 0.93 <= np.mean([e.low <= 10 <= e.high for e in ratios]) <= 0.975
    assert 0.93 <= np.mean([e.low <= truth <= e.high for e in effective]) <= 0.975


def test_real_labels(context, real_data) -> None:
    found = look(pl.read_parquet(real_data("poison/thyroid_dev.parquet"))["diagnosis"], context)
    assert found.verdict == "suspect"
    assert len(found.details["too_few"]) >= 15
    spam = look(pl.read_parquet(real_data("poison/sms_spam_dev.parquet"))["label"], context)
    assert (spam.verdict, spam.details["thin"]) == ("suspect", ["spam"])


def test_wrong_parameters_are_told() -> None:
    stage = ClassBalance(least=2, fewest=0, margin=0.7, target=(("a", -1.0),))
    assert [problem.split("=")[0] for problem in stage.check()] == [
        f"balance.classes: {name}" for name in ("least", "fewest", "margin", "target")
    ]
    assert "sum to 1" in ClassBalance(target=(("a", 0.7),)).check()[0]
    assert ClassBalance().check() == []


def test_labels_that_are_lists_are_told_as_what_they_are():
    data = Dataset.of(pl.DataFrame({"y": [[1], [2, 3]] * 50}), Roles.of(label="y"))
    made = ClassBalance().run(data, Context(0, Path())).findings[0]
    assert made.verdict == "not_evaluated"
    assert "holds List(Int64), not one value a row" in made.says
