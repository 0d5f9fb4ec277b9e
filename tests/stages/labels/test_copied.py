# SPDX-License-Identifier: Apache-2.0
"""A column that copies the label is named and hides no wrong label; chance and keys are not."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages import ConfidentLearning
from datapipe.stages.labels._copied import copied


def table(rows=600, flips=0.3, classes=2, seed=3):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    given = np.where(rng.random(rows) < flips, rng.integers(0, classes, rows), true)
    numbers = rng.normal(size=(rows, 4)) + 3 * np.eye(4)[true]
    names = np.array(["no", "yes", "perhaps", "never"])
    return pl.DataFrame(numbers, schema=list("abcd")).with_columns(
        y=pl.Series(names[given]), k=pl.Series(given)
    )


def found(frame, context, **roles):
    data = Dataset.of(frame, Roles.of(label="y", **roles))
    return {f.kind: f for f in ConfidentLearning(folds=3).run(data, context).findings}


def test_wrong_labels_are_found_beside_a_copy_of_them(context):
    frame = table()
    alone = found(frame.drop("k"), context)
    beside = found(frame, context)
    assert alone.keys() == {"labels.noise", "labels.issues"}
    assert alone["labels.noise"].verdict == beside["labels.noise"].verdict == "fail"
    assert alone["labels.noise"].measure == beside["labels.noise"].measure
    leak = beside["labels.leak"]
    assert (leak.verdict, leak.details) == ("suspect", {"copies": ["k"]})
    assert leak.says == "the column 'k' copies the label, and was not looked at"


def test_only_copies_leave_nothing_to_judge_by(context):
    made = found(table().select("y", "k", k2=pl.col("k") * 2.5), context)
    assert made["labels.noise"].verdict == "not_evaluated"
    assert made["labels.leak"].details == {"copies": ["k", "k2"]}
    assert made["labels.leak"].says.startswith("the columns 'k', 'k2' copy the label")


@pytest.mark.parametrize(
    "copy",
    [
        pl.col("k").cast(pl.Float64),
        pl.col("k").cast(pl.String).cast(pl.Categorical),
        pl.col("k") == 1,
        pl.when(pl.col("k") == 1).then(pl.lit("x")),  # null is a value, too
        pl.date(2020, 1, 1) + pl.duration(days=pl.col("k")),
    ],
)
def test_a_copy_of_any_type_is_one(copy):
    frame = table().select("a", "y", z=copy)
    assert copied(Dataset.of(frame, Roles.of(label="y"))) == ["z"]


def test_what_is_no_copy_is_not_named(context):
    frame = table()
    nearly = frame["k"].to_list()
    nearly[0] = 1 - nearly[0]
    rng = np.random.default_rng(4)
    harmless = frame.drop("k").with_columns(
        pl.Series("nearly", nearly),
        pl.Series("key", range(600)),
        pl.Series("finer", frame["k"] * 10 + rng.integers(0, 2, 600)),
        pl.Series("chance", rng.integers(0, 2, 600)),
        pl.lit(1).alias("constant"),
    )
    assert copied(Dataset.of(harmless, Roles.of(label="y"))) == []
    assert copied(Dataset.of(frame, Roles.of(label="y", text="k"))) == []
    assert copied(Dataset.of(frame, Roles.of(label="y", group="k"))) == []


def test_few_rows_and_keys_prove_nothing():
    few = pl.DataFrame({"y": ["a", "b"] * 8, "z": [0, 1] * 8})
    assert copied(Dataset.of(few, Roles.of(label="y"))) == []
    keys = pl.DataFrame({"y": range(500), "z": range(500, 1000)})
    assert copied(Dataset.of(keys, Roles.of(label="y"))) == []
    same = keys.with_columns(z=pl.col("y").cast(pl.Float64))
    assert copied(Dataset.of(same, Roles.of(label="y"))) == ["z"]
    nothing = pl.DataFrame({"y": [None, None], "z": [1, 2]})
    assert copied(Dataset.of(nothing, Roles.of(label="y"))) == []


def test_a_table_of_chance_is_rarely_accused():
    """At most a copy in a million tables is expected; here are 100 with 60 columns each."""
    rng = np.random.default_rng(9)
    accused = 0
    for _ in range(100):
        rows = int(rng.integers(4, 40))
        frame = pl.DataFrame(rng.integers(0, 2, (rows, 60)))
        named = frame.with_columns(y=pl.Series(rng.integers(0, 2, rows)))
        accused += bool(copied(Dataset.of(named, Roles.of(label="y"))))
    assert accused == 0
