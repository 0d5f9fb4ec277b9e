# SPDX-License-Identifier: Apache-2.0
"""Flips are found, their aim and their source are named, and clean labels are left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.roles import Roles
from datapipe.measure.detection import auroc
from datapipe.stages.poisoning.flips import LabelFlips
from datapipe.testing.worlds import digits_world


def _look(data):
    return LabelFlips().run(data, Context(5, Path())).findings[0]


def _digits(seed, flip):
    """Clean digits whose labels a function moves; it gives the rows it moved."""
    data = digits_world(seed, damaged=False, held_out=0).dataset()
    labels = data.values("label").to_numpy().copy()
    moved = flip(labels, np.random.default_rng(seed))
    frame = data.frame().with_columns(label=pl.Series(labels))
    return frame, np.isin(np.arange(labels.size), moved)


def _random(labels, rng):
    rows = rng.permutation(labels.size)[:120]
    labels[rows] = (labels[rows] + rng.integers(1, 10, rows.size)) % 10
    return rows


def _one_to_seven(labels, rng):
    rows = rng.permutation(np.flatnonzero(labels == 1))[:40]
    labels[rows] = 7
    return rows


ROLES = Roles.of(image="image", label="label")


def test_random_flips_are_found_and_have_no_aim():
    frame, moved = _digits(1, _random)
    finding = _look(Dataset.of(frame, ROLES))
    flags = finding.rows["flagged"].to_numpy()
    assert finding.verdict == "fail"
    assert finding.details["pattern"] == "random"
    assert Estimate.rate(int((flags & moved).sum()), int(flags.sum())).low > 0.93
    assert Estimate.rate(int((flags & moved).sum()), int(moved.sum())).low > 0.85
    assert auroc(moved, finding.rows["score"].to_numpy()).value > 0.995


def test_aimed_flips_are_found_and_the_pair_is_named():
    frame, moved = _digits(2, _one_to_seven)
    finding = _look(Dataset.of(frame, ROLES))
    assert finding.details["pattern"] == "targeted"
    assert finding.details["pair"] == ["1", "7"]
    assert finding.rows["flagged"].to_numpy()[moved].mean() > 0.8
    assert finding.rows.filter("flagged")["suggested"].mode()[0] == "1"


def test_a_pair_at_one_in_a_hundred_is_named_and_nothing_else_accused():
    def a_few(labels, rng):
        rows = rng.permutation(np.flatnonzero(labels == 6))[: labels.size // 100]
        labels[rows] = 9
        return rows

    frame, moved = _digits(6, a_few)
    finding = _look(Dataset.of(frame, ROLES))
    flags = finding.rows["flagged"].to_numpy()
    assert finding.verdict == "fail"
    assert finding.details["pair"] == ["6", "9"]
    assert flags[moved].mean() > 0.8
    assert flags[~moved].sum() <= 1
    assert auroc(moved, finding.rows["score"].to_numpy()).value > 0.99


def test_classes_that_features_do_not_tell_are_no_flips():
    rng = np.random.default_rng(3)
    kind = rng.integers(0, 3, 1500)
    label = np.where((kind == 2) & (rng.random(1500) < 0.25), 3, kind)  # 3 looks as 2 does
    frame = pl.DataFrame({"x": kind + 0.1 * rng.normal(size=1500), "label": label})
    finding = _look(Dataset.of(frame, Roles.of(label="label")))
    assert finding.verdict == "suspect"
    assert finding.details["untold"] == ["3"]
    assert not finding.rows["flagged"].any()


@pytest.mark.parametrize("seed", range(4))
def test_clean_digits_are_clean(seed):
    finding = _look(digits_world(seed, damaged=False).dataset())
    assert finding.verdict == "clean"
    assert finding.p_value > 0.05
    assert not finding.rows["flagged"].any()
    assert finding.details["pattern"] == "none"


def test_clean_says_how_many_labels_look_wrong_all_the_same():
    def some(labels, rng):
        rows = rng.permutation(labels.size)[: labels.size // 200]
        labels[rows] = (labels[rows] + rng.integers(1, 10, rows.size)) % 10
        return rows

    frame, moved = _digits(70, some)
    finding = _look(Dataset.of(frame, ROLES))
    measure = finding.measure
    assert finding.verdict == "clean"
    assert 0 < measure.low < moved.mean() < measure.high <= 0.02
    assert f"{measure.low:.1%} to {measure.high:.1%}" in finding.says
    assert "2.0%" in finding.says
    assert finding.severity == "low"
    assert "tolerance" in finding.remedy
    none = _look(digits_world(0, damaged=False).dataset())
    assert f"at most {none.measure.high:.1%}" in none.says
    assert none.severity == "info"


@pytest.mark.parametrize("share", [0.02, 0.03])
def test_as_many_flips_as_the_tolerance_are_not_called_clean(share):
    """Neither more than the tolerance is shown, nor fewer; the rows are ranked all the same."""

    def some(labels, rng):
        rows = rng.permutation(labels.size)[: round(share * labels.size)]
        labels[rows] = (labels[rows] + rng.integers(1, 10, rows.size)) % 10
        return rows

    frame, moved = _digits(70, some)
    finding = _look(Dataset.of(frame, ROLES))
    assert finding.verdict in {"not_evaluated", "fail"}
    assert auroc(moved, finding.rows["score"].to_numpy()).value > 0.99


def test_few_rows_do_not_show_that_labels_are_right():
    frame = _digits(8, lambda *_: np.empty(0, int))[0].head(300)
    finding = _look(Dataset.of(frame, ROLES))
    assert finding.verdict == "not_evaluated"
    assert finding.rows["flagged"].sum() == 0


def test_flips_beside_triggers_are_found():
    world = digits_world(6)
    flags = _look(world.dataset()).rows["flagged"].to_numpy()
    planted = world.planted("flipped")
    assert flags[planted].mean() > 0.9
    assert planted[flags].mean() > 0.95


def test_one_bad_source_of_many_is_named_and_no_other():
    frame, _ = _digits(7, lambda *_: np.empty(0, int))
    rng = np.random.default_rng(0)
    who = rng.integers(0, 15, frame.height)
    labels = frame["label"].to_numpy().copy()
    bad = np.flatnonzero((who == 4) & (rng.random(frame.height) < 0.4))
    labels[bad] = (labels[bad] + 3) % 10
    made = frame.with_columns(label=pl.Series(labels), who=pl.Series(who))
    roles = Roles.of(image="image", label="label", source="who")
    sources = _look(Dataset.of(made, roles)).details["sources"]
    assert [s["number"] for s in sources] == [4]
    assert sources[0]["q_value"] < 0.01


def test_fewer_flips_than_the_least_detectable_pass():
    frame, _ = _digits(8, lambda *_: np.empty(0, int))
    least = _look(Dataset.of(frame, ROLES)).details["min_detectable"]
    assert 20 < least < 120

    def few(labels, rng):
        rows = rng.permutation(labels.size)[: least // 10]
        labels[rows] = (labels[rows] + 1) % 10
        return rows

    assert _look(Dataset.of(_digits(8, few)[0], ROLES)).verdict == "clean"


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"x": [1.0, 2.0], "y": [0, 1]}),
        pa.table({"x": np.zeros(300), "y": np.zeros(300, int)}),
        pa.table({"y": [0, 1] * 100}),
        pa.table({"x": np.zeros(700), "y": np.repeat(np.linspace(0, 1, 140), 5)}),
    ],
)
def test_what_cannot_be_judged_is_not_evaluated(table):
    finding = _look(Dataset.of(table, Roles.of(label="y")))
    assert finding.verdict == "not_evaluated"


def test_what_could_hide_too_much_is_not_called_clean():
    rng = np.random.default_rng(4)
    label = rng.integers(0, 2, 120)
    few = pl.DataFrame({"x": label + 0.15 * rng.normal(size=120), "label": label})
    data = Dataset.of(few, Roles.of(label="label"))
    share = _look(data).details["min_detectable"] / 120
    assert 0.02 < share < 0.9
    said = [
        LabelFlips(most_unseen=most).run(data, Context(5, Path())).findings[0].verdict
        for most in (0.9 * share, 1.1 * share)
    ]
    assert said == ["not_evaluated", "clean"]


def test_bad_parameters_are_told():
    assert len(LabelFlips(folds=0, alpha=0.0, most_unseen=0.0).check()) == 3


def _moons(rng, n):
    """Two arcs that lie into each other, with noise: an eighth of the labels nobody can tell."""
    label = rng.integers(0, 2, n)
    turn = rng.uniform(0, np.pi, n)
    x = np.column_stack([np.cos(turn), np.sin(turn)])
    x[label == 1] = np.array([1.0, 0.5]) - x[label == 1]
    return x + rng.normal(0, 0.4, x.shape), label


def _drawn(rng, n):
    """Labels drawn by a logistic law of two columns out of seven, which ends where age ends."""
    x = np.column_stack([rng.integers(18, 90, n), rng.normal(size=(n, 6))])
    chance = 1.0 / (1.0 + np.exp(-(x[:, 0] - 50) / 15 - x[:, 1]))
    return x, (rng.random(n) < chance).astype(np.int64)


@pytest.mark.parametrize(("world", "seed", "ranked"), [(_moons, 63, 0.86), (_drawn, 60, 0.75)])
def test_chance_in_the_labels_is_no_flip(world, seed, ranked):
    """A model of too few neighbours is sure by chance, and then contradicted: that was a *fail*."""
    rng = np.random.default_rng(seed)
    x, label = world(rng, 3000)
    frame = pl.DataFrame({f"x{i}": column for i, column in enumerate(x.T)})
    clean = _look(Dataset.of(frame.with_columns(label=label), Roles.of(label="label")))
    assert clean.verdict != "fail"
    moved = rng.random(label.size) < 0.08
    flipped = frame.with_columns(label=np.where(moved, 1 - label, label))
    found = _look(Dataset.of(flipped, Roles.of(label="label")))
    assert found.verdict != "clean"
    assert auroc(moved, found.rows["score"].to_numpy()).value > ranked


@pytest.mark.parametrize("seed", [2, 5])
def test_overlapping_classes_are_untold_whatever_share_of_wrong_labels_is_likeliest(seed):
    """Only labels shown to be wrong are set aside when it is asked how well classes are told."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 1000)
    frame = pl.DataFrame({"x": labels + rng.normal(size=1000), "y": labels})
    data = Dataset.of(frame, Roles.of(label="y"))
    assert LabelFlips().run(data, Context(seed, Path())).findings[0].verdict != "fail"


@pytest.mark.parametrize("seed", [102, 104, 107])
def test_classes_that_overlap_widely_are_not_judged(seed):
    """What a model of such classes is surest of is chance: it was *suspect* on clean labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 800)
    frame = pl.DataFrame({"x": labels + rng.normal(size=800), "y": labels})
    finding = LabelFlips().run(Dataset.of(frame, Roles.of(label="y")), Context(seed, Path()))
    found = finding.findings[0]
    assert found.verdict == "not_evaluated"
    assert "features tell too little" in found.says
    assert found.p_value is None
    assert found.details["pattern"] == "none"
    assert not found.rows["flagged"].any()


@pytest.mark.parametrize("seed", [0, 1])
def test_neighbours_in_a_row_of_overlapping_classes_are_no_pair(seed):
    """The last class of a row has one neighbour, as flips to one class have one target."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, 800)
    frame = pl.DataFrame({"x": 2.0 * labels + rng.normal(size=800), "y": labels})
    found = LabelFlips().run(Dataset.of(frame, Roles.of(label="y")), Context(seed, Path()))
    assert found.findings[0].verdict == "not_evaluated"
    assert not found.findings[0].rows["flagged"].any()


@pytest.mark.parametrize("seed", [1, 3])
def test_features_that_tell_too_little_for_an_alarm_are_no_reason_to_call_labels_clean(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 1000)
    table = pa.table({"x": rng.normal(size=1000) + labels, "z": rng.normal(size=1000), "y": labels})
    finding = _look(Dataset.of(table, Roles.of(label="y")))
    assert finding.verdict == "not_evaluated"
    assert "features tell too little" in finding.says
    assert finding.p_value is None


def _two_clouds(seed, n, share):
    """Two classes that a column tells, and a share of labels moved."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    x = label + 0.15 * rng.normal(size=n)
    moved = rng.permutation(n)[: round(share * n)]
    label[moved] = 1 - label[moved]
    return pl.DataFrame({"x": x, "z": rng.normal(size=n), "y": label})


@pytest.mark.parametrize(("n", "share"), [(300, 0.0), (300, 0.15), (120, 0.0)])
def test_a_file_given_twice_says_what_it_says_once(n, share):
    """It counted as twice the evidence, for clean labels as for flips."""
    once = _two_clouds(3, n, share)
    rng = np.random.default_rng(4)
    often = rng.permutation(np.repeat(np.arange(n), rng.integers(2, 6, n)))
    said = _look(Dataset.of(once, Roles.of(label="y")))
    twice = _look(Dataset.of(pl.concat([once, once]), Roles.of(label="y")))
    assert said.verdict == twice.verdict
    assert twice.p_value == pytest.approx(said.p_value, rel=1e-3)
    assert said.details["floor"] == twice.details["floor"]
    assert twice.rows["score"].to_list() == pytest.approx(
        said.rows["score"].to_list() * 2, abs=1e-3
    )
    more = _look(Dataset.of(once[often], Roles.of(label="y")))
    assert more.verdict == said.verdict
    assert more.rows.height == often.size


def test_one_wrong_label_on_a_hundred_copies_is_suspect_and_no_fail():
    """A hundred copies are one witness, but a hundred labels; honest copies are none."""
    clean = _two_clouds(5, 1500, 0.0)
    copies = pl.concat([clean, *[clean[:1]] * 100])
    assert _look(Dataset.of(copies, Roles.of(label="y"))).verdict == "clean"
    wrong = copies["y"].to_numpy().copy()
    wrong[1500:] = 1 - wrong[1500:]
    found = _look(Dataset.of(copies.with_columns(y=wrong), Roles.of(label="y")))
    assert found.verdict == "suspect"
    assert np.flatnonzero(found.rows["flagged"].to_numpy()).tolist() == list(range(1500, 1600))
    assert "copies of 1 row" in found.says
    assert found.p_value is None


def test_a_class_of_one_row_that_is_copied_is_one_row_nobody_predicts():
    clean = _two_clouds(6, 1500, 0.0)
    copies = pl.concat([clean, *[clean[:1].with_columns(x=9.0, y=pl.lit(7, pl.Int64))] * 60])
    found = _look(Dataset.of(copies, Roles.of(label="y")))
    assert found.verdict in {"suspect", "not_evaluated"}
    assert found.details["floor"]["high"] < 0.02


def test_few_rows_that_are_copied_often_are_few_rows():
    few = _two_clouds(7, 80, 0.0)
    found = _look(Dataset.of(pl.concat([few] * 4), Roles.of(label="y")))
    assert found.verdict == "not_evaluated"
    assert "80 of 320 rows are no copies" in found.says


def test_a_class_between_two_others_is_contradicted_by_both_and_no_flip():
    """Levels of one scale: of a hundred rows of a middle one every fifth is by nature another."""
    rng = np.random.default_rng([0, 3542634689])
    scale = rng.uniform(0, 5, 1200)
    label = np.clip(np.floor(scale + 0.3 * rng.normal(size=1200)), 0, 4).astype(np.int64)
    seen = scale + 0.1 * rng.normal(size=1200)
    x = {"x0": seen, "x1": rng.normal(size=1200), "x2": rng.normal(size=1200)}
    data = Dataset.of(pl.DataFrame({**x, "y": label}), Roles.of(label="y"))
    found = LabelFlips().run(data, Context(0, Path())).findings[0]
    assert found.verdict == "not_evaluated"
    assert not found.rows["flagged"].any()


def _uneven(seed, flip):
    """Four classes of 1200 to 40 rows that features tell, whose labels a function moves."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(4), [1200, 500, 120, 40])
    x = 3.0 * np.eye(4)[label] + 0.8 * rng.normal(size=(label.size, 4))
    moved = flip(label, rng)
    frame = pl.DataFrame({**{f"x{i}": x[:, i] for i in range(4)}, "y": label})
    return Dataset.of(frame, Roles.of(label="y")), np.isin(np.arange(label.size), moved)


def test_a_small_class_that_flips_make_large_is_told_all_the_same():
    """Three in four rows of its label are flips, and features do not predict these."""

    def flip(label, rng):
        rows = rng.permutation(np.flatnonzero(label == 0))[:120]
        label[rows] = 3
        return rows

    data, moved = _uneven(1, flip)
    found = _look(data)
    assert found.verdict == "fail"
    assert found.details["pair"] == ["0", "3"]
    flags = found.rows["flagged"].to_numpy()
    assert flags[moved].mean() > 0.9
    assert flags[~moved].sum() <= 2
    assert _look(_uneven(1, lambda *_: np.empty(0, int))[0]).verdict == "clean"


def test_a_column_that_copies_the_label_is_left_out_and_named():
    """With it beside them no label contradicts its row, however wrong."""
    rng = np.random.default_rng(11)
    truth = rng.integers(0, 3, 900)
    x = 3.0 * np.eye(3)[truth] + 0.6 * rng.normal(size=(900, 3))
    label = np.where(rng.random(900) < 0.1, (truth + 1) % 3, truth)
    frame = pl.DataFrame({**{f"x{i}": x[:, i] for i in range(3)}, "y": label})
    copy = pl.Series("copy", [f"class {v}" for v in label])
    plain = _look(Dataset.of(frame, Roles.of(label="y")))
    told = _look(Dataset.of(frame.with_columns(copy), Roles.of(label="y")))
    assert plain.verdict == told.verdict == "fail"
    assert told.details["copies"] == ["copy"]
    assert "'copy'" in told.says
    assert "copies" not in plain.details
    assert told.rows["score"].equals(plain.rows["score"])
    alone = _look(Dataset.of(frame.select("y").with_columns(copy), Roles.of(label="y")))
    assert alone.verdict == "not_evaluated"
    assert alone.details["copies"] == ["copy"]
