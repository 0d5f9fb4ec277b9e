# SPDX-License-Identifier: Apache-2.0
"""Planted flips are found, clean labels are called clean, and the prune rule is cleanlab's."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from sklearn.datasets import load_digits

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.roles import Roles
from datapipe.errors import Malformed, SchemaMismatch
from datapipe.features.label_copies import label_copies
from datapipe.stages.labels.confident import ConfidentLearning
from datapipe.testing.worlds import digits_world

DATA = Path(
    os.environ.get("DATAPIPE_TEST_DATA", Path(__file__).parents[3].parent / "shared" / "data")
)


def _run(data, **parameters):
    made = ConfidentLearning(**parameters).run(data, Context(3, Path()))
    return {f.kind: f for f in made.findings}


def _published(name):
    path = DATA / "labels" / f"{name}_predprobs.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    return Dataset.of(pl.read_parquet(path), Roles.of(label="given", id="item"))


def test_planted_flips_are_found_over_several_worlds():
    right = found = planted = 0
    for seed in range(40, 46):
        world = digits_world(seed)
        rows = _run(world.dataset(), classifier="kernel")["labels.issues"].rows
        flags, truth = rows["flagged"].to_numpy(), world.planted("flipped")
        right, found, planted = (
            right + int((flags & truth).sum()),
            found + int(flags.sum()),
            planted + int(truth.sum()),
        )
    assert Estimate.rate(right, found).low > 0.95
    assert Estimate.rate(right, planted).low > 0.90


def test_suggested_labels_are_mostly_the_true_ones():
    world = digits_world(50)
    rows = _run(world.dataset())["labels.issues"].rows
    truth = pl.Series(world.clean_labels()).cast(pl.String)
    hits = rows.with_columns(truth=truth).filter("flagged")
    assert (hits["suggested"] == hits["truth"]).mean() > 0.9
    assert rows.filter(~pl.col("flagged"))["suggested"].null_count() == rows.height - hits.height


@pytest.mark.parametrize("seed", [60, 61, 62])
def test_clean_digits_are_clean_and_nothing_is_flagged(seed):
    made = _run(digits_world(seed, damaged=False).dataset())
    noise = made["labels.noise"]
    assert noise.verdict == made["labels.issues"].verdict == "clean"
    assert noise.measure.high < 0.02
    assert not made["labels.issues"].rows["flagged"].any()
    assert made["labels.issues"].rows.height == 1437


def test_the_bracket_holds_the_planted_noise_rate():
    world = digits_world(70)
    noise = _run(world.dataset())["labels.noise"]
    wrong = (world.planted("flipped") | world.planted("triggered")).mean()
    assert noise.measure.low < wrong < noise.measure.high + 0.03
    assert noise.measure.low > 0.05
    assert "not audited" in noise.says


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_random_labels_are_suspect_and_no_row_is_accused(classes, seed):
    rng = np.random.default_rng(seed)
    table = pa.table(
        {"x": rng.normal(size=400), "z": rng.normal(size=400), "y": rng.integers(0, classes, 400)}
    )
    found = _run(Dataset.of(table, Roles.of(label="y")))
    noise, issues = found["labels.noise"], found["labels.issues"]
    assert (noise.verdict, issues.verdict) == ("suspect", "not_evaluated")
    assert noise.measure.low == 0
    assert noise.measure.high > 0.3
    assert noise.says.startswith("features tell the labels hardly better than a guess")
    assert not issues.rows["flagged"].any()


def _overlapping(seed, gap, rows):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    table = pa.table({"x": rng.normal(size=rows) + gap * labels, "y": labels})
    return Dataset.of(table, Roles.of(label="y"))


@pytest.mark.parametrize("seed", [1, 2])
def test_clean_is_withheld_where_a_failing_share_of_labels_would_not_show(seed):
    made = _run(_overlapping(seed, 1.0, 300))
    noise, issues = made["labels.noise"], made["labels.issues"]
    assert noise.verdict == issues.verdict == "not_evaluated"
    assert noise.measure.low == 0
    assert noise.measure.high > 0.15
    assert noise.details["min_detectable"] > 0.05 * 300
    assert not issues.rows["flagged"].any()
    assert _run(_overlapping(seed, 1.0, 300), fail_above=0.4)["labels.noise"].verdict == "clean"


def test_what_features_leave_open_is_told_as_a_bracket_without_a_point():
    noise = _run(_overlapping(0, 2.0, 1000))["labels.noise"]
    assert noise.says.startswith("between ")
    assert noise.says.endswith("labels are wrong: features tell no closer (not audited)")
    sharp = _run(digits_world(40).dataset())["labels.noise"]
    assert sharp.says.startswith(f"about {sharp.measure.value:.1%} of ")


def test_many_wrong_labels_of_rows_that_features_tell_are_still_a_failure():
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(60)
    given = np.where(rng.random(y.size) < 0.5, rng.integers(0, 10, y.size), y)
    rows = pl.DataFrame({"i": x, "y": given})
    found = _run(Dataset.of(rows, Roles.of(image="i", label="y")))
    assert found["labels.noise"].verdict == "fail"
    assert found["labels.noise"].details["telling"]["low"] > 0.3


def test_boosted_trees_find_what_a_line_cannot_see():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (600, 3))
    true = (x[:, 0] * x[:, 1] > 0).astype(int)
    wrong = rng.random(600) < 0.1
    table = pa.table(
        {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": np.where(wrong, 1 - true, true)}
    )
    data = Dataset.of(table, Roles.of(label="y"))
    found = {}
    for name in ("boosted", "linear"):
        made = _run(data, classifier=name)["labels.issues"].rows
        found[name] = made.sort("score", descending=True)["row_id"].head(int(wrong.sum()))
    right = {
        n: np.isin(rows.to_numpy() % 2**40, np.flatnonzero(wrong)).mean()
        for n, rows in found.items()
    }
    assert right["boosted"] > 0.8
    assert right["linear"] < 0.4


@pytest.mark.parametrize(
    ("name", "flagged"), [pytest.param("cifar10", 284, marks=pytest.mark.power), ("20news", 95)]
)
def test_given_probabilities_are_pruned_as_cleanlab_does(name, flagged):
    filters = pytest.importorskip("cleanlab.filter")
    data = _published(name)
    rows = _run(data, probabilities=("p*",), tolerance=0.0)["labels.issues"].rows
    frame = data.frame()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = filters.find_label_issues(
            frame["given"].to_numpy().astype(int),
            frame.select(pl.col("^p[0-9]+$")).to_numpy(),
            n_jobs=1,
        )
    assert theirs.sum() == flagged
    assert np.array_equal(rows["flagged"].to_numpy(), theirs)


def test_probabilities_that_do_not_sum_to_one_are_renormalised_and_told():
    data = _published("cifar10")
    data = data.with_frame(data.scan(row_id=True).head(3000))
    off = data.with_frame(data.scan(row_id=True).with_columns(pl.col("^p[0-9]+$") * 1.2))
    plain, scaled = (_run(d, probabilities=("p*",), tolerance=0.0) for d in (data, off))
    assert scaled["labels.noise"].details["rows_renormalised"] == len(data)
    ours, theirs = (r["labels.issues"].rows["flagged"] for r in (plain, scaled))
    assert (ours == theirs).mean() > 0.999


def test_columns_that_do_not_fit_the_classes_are_refused():
    table = pa.table({"y": ["a", "b", "c"] * 30, "p0": [0.5] * 90, "p1": [0.5] * 90})
    with pytest.raises(SchemaMismatch, match="2 columns of probabilities for 3 classes"):
        _run(Dataset.of(table, Roles.of(label="y")), probabilities=("p*",))


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (pa.table({"x": [1.0, 2.0], "y": [0, 1]}), "classes have"),
        (pa.table({"x": np.zeros(80), "y": ["a"] * 80}), "1 classes"),
        (pa.table({"y": [0, 1] * 40}), "no column can be learnt from"),
        (pa.table({"x": np.zeros(300), "y": np.linspace(0, 1, 300)}), "looks like a number"),
        (pa.table({"x": np.zeros(80), "y": pa.nulls(80, pa.int64())}), "0 classes"),
    ],
)
def test_what_cannot_be_judged_is_not_evaluated(table, why):
    made = _run(Dataset.of(table, Roles.of(label="y")))
    assert {f.verdict for f in made.values()} == {"not_evaluated"}
    assert why in made["labels.noise"].says


def test_rows_without_a_label_are_left_out_and_counted():
    frame = digits_world(80).dataset().frame(row_id=True)
    gap = pl.int_range(pl.len()) < 10
    frame = frame.with_columns(pl.when(~gap).then("label").alias("label"))
    made = _run(Dataset.of(frame, Roles.of(image="image", label="label")))["labels.issues"]
    assert made.rows.height == frame.height - 10
    assert made.details["left_out"]["rows without a label"] == 10


def test_texts_with_flipped_labels():
    rng = np.random.default_rng(1)
    words = {0: ["rain", "cloud", "storm", "wind"], 1: ["goal", "match", "team", "score"]}
    true = rng.integers(0, 2, 600)
    texts = [" ".join(rng.choice(words[k], 3)) + f" the {rng.integers(50)}" for k in true]
    flipped = rng.random(600) < 0.1
    table = pa.table({"t": texts, "y": np.where(flipped, 1 - true, true)})
    rows = _run(Dataset.of(table, Roles.of(text="t", label="y")))["labels.issues"].rows
    flags = rows["flagged"].to_numpy()
    assert (flags & flipped).sum() / flipped.sum() > 0.9
    assert (flags & flipped).sum() / flags.sum() > 0.9


def test_copies_of_a_wrong_row_do_not_confirm_each_other():
    world = digits_world(90)
    frame = world.dataset().frame(row_id=True)
    wrong = frame.filter(pl.Series(world.planted("flipped"))).head(40)
    copies = wrong.with_columns(pl.col("_row_id") + 10**9)
    both = Dataset.of(pl.concat([frame, copies]), Roles.of(image="image", label="label"))
    rows = _run(both, classifier="kernel")["labels.issues"].rows
    assert rows.filter(pl.col("row_id").is_in(copies["_row_id"].implode()))["flagged"].mean() > 0.85


@pytest.mark.parametrize("score", ["self_confidence", "margin", "posterior"])
def test_every_score_ranks_planted_flips_first(score):
    world = digits_world(91)
    rows = _run(world.dataset(), score=score, classifier="kernel")["labels.issues"].rows
    assert rows["score"].is_between(0, 1).all()
    worst = np.argsort(-rows["score"].to_numpy())[:150]
    assert world.planted("flipped")[worst].mean() > 0.9


def test_same_seed_same_rows():
    data = digits_world(92).dataset()
    first, second = (_run(data)["labels.issues"].rows for _ in range(2))
    assert first.equals(second)


def test_bad_parameters_are_told():
    assert len(ConfidentLearning(folds=1, rule="best", tolerance=1.5).check()) == 3
    assert "is above fail_above=0.05" in ConfidentLearning(tolerance=0.5).check()[0]


def _shares(classes, rows=500, seed=0):
    """True classes, given ones of which a tenth is the next class, and probabilities."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    given = np.where(rng.random(rows) < 0.1, (true + 1) % classes, true)
    made = np.exp(2.5 * np.eye(classes)[true] + rng.normal(size=(rows, classes)))
    return given, made / made.sum(1, keepdims=True)


def _issues(labels, columns, probabilities=("p*",)):
    frame = pl.DataFrame({"y": labels, **columns})
    data = Dataset.of(frame, Roles.of(label="y"))
    return _run(data, probabilities=probabilities, tolerance=0.0)["labels.issues"]


@pytest.mark.parametrize(
    ("classes", "columns"),
    [
        (["cat", "dog", "ant"], ["p_cat", "p_dog", "p_ant"]),
        (["1", "2", "3"], ["p1", "p2", "p3"]),
        ([1, 2, 3], ["p1", "p2", "p3"]),
        ([0.0, 1.0, 2.0], ["p0", "p1", "p2"]),
        ([f"c{i}" for i in range(12)], [f"p{i}" for i in range(12)]),
        (["car", "cat", "cap"], ["pr_car_fit", "pr_cat_fit", "pr_cap_fit"]),
    ],
)
def test_columns_named_after_the_classes_are_taken_by_name_in_any_order(classes, columns):
    given, shares = _shares(len(classes), 900)
    labels = [classes[k] for k in given]
    right = _issues(labels, dict(zip(columns, shares.T, strict=True)))
    flagged = right.rows["flagged"]
    assert 60 < flagged.sum() < 150
    order = np.random.default_rng(1).permutation(len(classes))
    moved = _issues(labels, {columns[k]: shares[:, k] for k in order})
    assert moved.rows["flagged"].equals(flagged)
    assert moved.rows["suggested"].equals(right.rows["suggested"])
    there = given != len(classes) - 1  # the last class is absent
    some = [label for label, keep in zip(labels, there, strict=True) if keep]
    absent = _issues(some, {columns[k]: shares[there, k] for k in order})
    assert 0 < absent.rows["flagged"].mean() < 0.25
    assert set(absent.rows["suggested"].drop_nulls()) <= {str(c) for c in classes} | {"2", "11"}


def test_columns_in_another_order_than_the_classes_are_refused_not_judged():
    given, shares = _shares(3)
    names = [["cat", "dog", "ant"][k] for k in given]
    with pytest.raises(SchemaMismatch, match="stood in another order"):
        _issues(names, {"p": shares})
    with pytest.raises(SchemaMismatch, match="stood in another order"):
        _issues(given, {"p": shares[:, [1, 2, 0]]})
    heavy = np.where(np.random.default_rng(0).random(500) < 0.4, (given + 1) % 3, given)
    assert _issues(heavy, {"p": shares}).rows["flagged"].mean() > 0.3  # noise is no permutation


@pytest.mark.parametrize("value", [np.nan, -0.2, np.inf])
def test_a_value_that_is_no_probability_is_refused_with_its_row(value):
    given, shares = _shares(3)
    shares[7, 1] = value
    with pytest.raises(Malformed, match="row 7: the probabilities in p are"):
        _issues(given, {"p": shares}, ("p",))
    shares[7] = 0
    with pytest.raises(Malformed, match="row 7"):
        _issues(given, {"p": shares}, ("p",))


def test_sums_slightly_off_are_told_and_leave_the_mask_cleanlabs():
    filters = pytest.importorskip("cleanlab.filter")
    given, shares = _shares(4)
    off = shares * np.random.default_rng(3).choice([1.0, 0.99998], (500, 1))
    half = shares.astype(np.float16)
    for some in (off, half):
        frame = pa.table({"y": given, **{f"p{k}": some[:, k] for k in range(4)}})
        found = _run(Dataset.of(frame, Roles.of(label="y")), probabilities=("p*",), tolerance=0.0)
        assert found["labels.noise"].details["rows_renormalised"] > 100
        as_read = some.astype(np.float32) if some is half else some
        theirs = filters.find_label_issues(given, as_read, n_jobs=1)
        assert np.array_equal(found["labels.issues"].rows["flagged"].to_numpy(), theirs)


def test_few_rows_flat_rows_and_truth_values_are_judged_or_told():
    given, shares = _shares(2)
    few = _issues(given[:8], {"p": shares[:8]}, ("p",))
    assert few.rows.height == 8
    flat = _issues(given, {"p": np.full((500, 2), 0.5)}, ("p",))
    assert flat.verdict == "not_evaluated"
    assert "tell nothing" in flat.says
    truth = _issues(given.astype(bool), {"p": shares}, ("p",))
    assert set(truth.rows["suggested"].drop_nulls()) == {"true", "false"}


def test_what_is_read_anew_for_every_pass_is_judged_the_same(monkeypatch):
    given, shares = _shares(5, 3000)
    held = _issues(given, {"p": shares.astype(np.float32)}, ("p",)).rows
    monkeypatch.setattr("datapipe.stages.labels._brought.HELD_VALUES", 0)
    monkeypatch.setattr("datapipe.stages.labels._brought.BATCH_VALUES", 1500)
    assert held.equals(_issues(given, {"p": shares.astype(np.float32)}, ("p",)).rows)


def _with_copy(rows=600, flips=0.3, classes=2, seed=3):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, rows)
    given = np.where(rng.random(rows) < flips, rng.integers(0, classes, rows), true)
    numbers = rng.normal(size=(rows, 4)) + 3 * np.eye(4)[true]
    names = np.array(["no", "yes", "perhaps", "never"])
    return pl.DataFrame(numbers, schema=list("abcd")).with_columns(
        y=pl.Series(names[given]), k=pl.Series(given)
    )


def _kinds(frame, context, **roles):
    data = Dataset.of(frame, Roles.of(label="y", **roles))
    return {f.kind: f for f in ConfidentLearning(folds=3).run(data, context).findings}


def test_wrong_labels_are_found_beside_a_copy_of_them(context):
    frame = _with_copy()
    alone = _kinds(frame.drop("k"), context)
    beside = _kinds(frame, context)
    assert alone.keys() == {"labels.noise", "labels.issues"}
    assert alone["labels.noise"].verdict == beside["labels.noise"].verdict == "fail"
    assert alone["labels.noise"].measure == beside["labels.noise"].measure
    leak = beside["labels.leak"]
    assert (leak.verdict, leak.details) == ("suspect", {"copies": ["k"]})
    assert leak.says == "the column 'k' copies the label, and was not looked at"


def test_only_copies_leave_nothing_to_judge_by(context):
    made = _kinds(_with_copy().select("y", "k", k2=pl.col("k") * 2.5), context)
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
    frame = _with_copy().select("a", "y", z=copy)
    assert label_copies(Dataset.of(frame, Roles.of(label="y"))) == ["z"]


def test_what_is_no_copy_is_not_named(context):
    frame = _with_copy()
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
    assert label_copies(Dataset.of(harmless, Roles.of(label="y"))) == []
    assert label_copies(Dataset.of(frame, Roles.of(label="y", text="k"))) == []
    assert label_copies(Dataset.of(frame, Roles.of(label="y", group="k"))) == []


def test_few_rows_and_keys_prove_nothing():
    few = pl.DataFrame({"y": ["a", "b"] * 8, "z": [0, 1] * 8})
    assert label_copies(Dataset.of(few, Roles.of(label="y"))) == []
    keys = pl.DataFrame({"y": range(500), "z": range(500, 1000)})
    assert label_copies(Dataset.of(keys, Roles.of(label="y"))) == []
    same = keys.with_columns(z=pl.col("y").cast(pl.Float64))
    assert label_copies(Dataset.of(same, Roles.of(label="y"))) == ["z"]
    nothing = pl.DataFrame({"y": [None, None], "z": [1, 2]})
    assert label_copies(Dataset.of(nothing, Roles.of(label="y"))) == []


def test_a_table_of_chance_is_rarely_accused():
    """At most a copy in a million tables is expected; here are 100 with 60 columns each."""
    rng = np.random.default_rng(9)
    accused = 0
    for _ in range(100):
        rows = int(rng.integers(4, 40))
        frame = pl.DataFrame(rng.integers(0, 2, (rows, 60)))
        named = frame.with_columns(y=pl.Series(rng.integers(0, 2, rows)))
        accused += bool(label_copies(Dataset.of(named, Roles.of(label="y"))))
    assert accused == 0
