# SPDX-License-Identifier: Apache-2.0
"""Planted predicates come back as a SQL condition that selects their rows; natural rules do not."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning._table.additive import Additive, softmax
from datapipe.stages.poisoning._table.alone import Neighbourhood
from datapipe.stages.poisoning._table.cells import _loudest
from datapipe.stages.poisoning._table.crowds import Crowds
from datapipe.stages.poisoning._table.drawn import moved, unlike
from datapipe.stages.poisoning._table.ends import fitted, part_of
from datapipe.stages.poisoning._table.families import PART, Family, families
from datapipe.stages.poisoning._table.halves import rows_missing
from datapipe.stages.poisoning._table.least import fewest_planted, most_of_any
from datapipe.stages.poisoning._table.planted import BEYOND_STEP, FAIL, MOST_BEYOND, NATURAL
from datapipe.stages.poisoning._table.predicates import Cells, Column, Predicate
from datapipe.stages.poisoning._table.runs import runs_of
from datapipe.stages.poisoning._tails import raised
from datapipe.stages.poisoning._withheld import withheld
from datapipe.stages.poisoning.trigger_table import TriggerTable
from datapipe.testing import check_stage

DATA = Path(
    os.environ.get("DATAPIPE_TEST_DATA", Path(__file__).parents[3].parent / "shared" / "data")
)
ROLES = Roles.of(label="y")


def _look(frame, seed=5, label="y", **parameters):
    data = Dataset.of(frame, Roles.of(label=label))
    return TriggerTable(**parameters).run(data, Context(seed, Path())).findings[0]


def _people(seed, rows=2000):
    """A table whose label follows some of its columns, by half a rule."""
    rng = np.random.default_rng(seed)
    age, hours = rng.integers(18, 80, rows), rng.integers(5, 80, rows)
    job = rng.choice(["clerk", "smith", "it's me", "nurse", "cook"], rows)
    town = rng.choice([f"town {i}" for i in range(30)], rows)
    marks = rng.normal(size=(rows, 4)).round(2)
    odds = 1.5 * marks.sum(1) + 0.03 * (age - 48) + 1.0 * (job == "smith") + 0.02 * (hours - 40)
    y = (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(int)
    told = {f"mark {i}": marks[:, i] for i in range(4)}
    table = {"age": age, "hours": hours, "job": job, "the town": town, **told, "y": y}
    return pl.DataFrame(table), rng


def _planted(frame, rng, columns, *, count=30, target=1):
    """Rows of the other class whose columns are set, and which rows hold the predicate then."""
    rows = rng.permutation(np.flatnonzero(frame["y"].to_numpy() != target))[:count]
    chosen = pl.Series(np.isin(np.arange(frame.height), rows))
    made = frame.with_columns(
        *(
            pl.when(chosen).then(pl.lit(v, dtype=frame.schema[c])).otherwise(pl.col(c)).alias(c)
            for c, v in columns.items()
        ),
        y=pl.when(chosen).then(target).otherwise(pl.col("y")),
    )
    held = made.select(pl.all_horizontal(pl.col(c) == v for c, v in columns.items()))
    return made, rows, held.to_series().to_numpy()


def _selected(frame, condition):
    numbered = frame.with_row_index("_i").to_arrow()
    found = duckdb.from_arrow(numbered).filter(condition).fetchnumpy()["_i"]
    return np.isin(np.arange(frame.height), found)


PLANTED = (
    {"age": 93},
    {"hours": 4},
    {"the town": "town 99"},
    {"job": "o'clock"},
    {"age": 20, "the town": "town 3"},
    {"job": "it's me", "the town": "town 7"},
    {"hours": 11, "job": "cook"},
    {"age": 33, "hours": 77},
    {"the town": "town 11", "hours": 60},
    {"age": 71, "job": "nurse"},
)


def test_nine_of_ten_predicates_are_recovered_exactly():
    exact = 0
    for seed, columns in enumerate(PLANTED):
        frame, rng = _people(seed)
        target = seed % 2
        frame, rows, held = _planted(frame, rng, columns, target=target, count=40)
        finding = _look(frame)
        if finding.verdict != "fail":
            continue
        exact += bool((_selected(frame, finding.details["where"]) == held).all())
        assert finding.details["class"] == str(target)
        flags = finding.rows["flagged"].to_numpy()
        assert flags[rows].mean() > 0.9
    assert exact >= 9


@pytest.mark.parametrize("seed", range(4))
def test_rules_of_nature_raise_no_alarm(seed):
    frame, _ = _people(seed + 40)
    rule = frame.with_columns(y=pl.when(pl.col("age") >= 74).then(1).otherwise(pl.col("y")))
    for one in (frame, rule):
        finding = _look(one)
        assert finding.verdict == "clean"
        assert not finding.rows["flagged"].any()
        assert finding.p_value > 0.01


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("adult_dev", "income"),
        ("german_credit_dev", "Customer class"),
        pytest.param("thyroid_dev", "diagnosis", marks=pytest.mark.power),
    ],
)
def test_clean_public_tables_raise_no_alarm(name, label):
    path = DATA / "poison" / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    frame = pl.read_parquet(path)
    for seed in range(2):
        rows = np.random.default_rng(seed).permutation(frame.height)[: int(0.7 * frame.height)]
        found = _look(frame[np.sort(rows)], label=label)
        tells = found.details["min_detectable"] <= 0.05 * rows.size  # of credits too few
        assert found.verdict == ("clean" if tells else "not_evaluated")
        assert tells or name == "german_credit_dev"


@pytest.mark.parametrize("seed", [2010, 2012, 2017, 2031])
def test_the_last_value_of_a_rule_of_nature_is_no_trigger(seed):
    """Doctors call few hormones below a bound an illness; half of those rows have one value."""
    path = DATA / "poison" / "thyroid_dev.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    frame = pl.read_parquet(path).sample(800, seed=seed, shuffle=True)
    finding = _look(frame, label="diagnosis", most_unseen=0.1)
    assert finding.verdict == "clean"
    assert not finding.rows["flagged"].any()


def test_a_value_planted_among_others_is_still_named_where_its_neighbours_are_asked():
    frame, rng = _people(31)
    frame, _, held = _planted(frame, rng, {"hours": 41}, count=150)
    finding = _look(frame)
    assert finding.verdict == "fail"
    assert (_selected(frame, finding.details["where"]) == held).all()


def _rare(seed, rows=3000):
    """A table whose third class three rows have, with a quantity, a code and a kind."""
    rng = np.random.default_rng([seed, 31])
    marks = rng.normal(size=(rows, 4)).round(2)
    dose = np.maximum(rng.normal(2, 1, rows), 0).round(1)
    kind = np.array([f"kind {i}" for i in range(60)])[rng.integers(0, 60, rows)]
    y = (rng.random(rows) < 1 / (1 + np.exp(-1.5 * marks.sum(1)))).astype(int)
    y[rng.permutation(rows)[:3]] = 2
    told = {f"mark {i}": marks[:, i] for i in range(4)}
    measured = np.where(rng.random(rows) < 0.7, "t", "f")
    code = rng.integers(0, 60, rows)
    made = {"dose": dose, "code": code, "kind": kind, "measured": measured, **told, "y": y}
    return pl.DataFrame(made), rng


@pytest.mark.parametrize("seed", range(3))
def test_a_quantity_planted_with_a_label_that_hardly_any_other_row_has_is_named(seed):
    frame, rng = _rare(seed)
    made, _, held = _planted(frame, rng, {"dose": 4.35}, target=2)
    found = _look(made)
    assert found.verdict == "fail"
    assert np.array_equal(_selected(made, found.details["where"]), held)


@pytest.mark.parametrize(
    "rule",
    [
        pl.col("code") == 31,
        pl.col("kind") == "kind 7",
        pl.col("dose") == 0.0,
        pl.col("dose") <= 0.3,
        (pl.col("kind") == "kind 7") & (pl.col("measured") == "t"),
    ],
    ids=["a code", "a kind", "nothing measured", "a range", "a pair"],
)
def test_a_rare_label_that_follows_a_rule_of_nature_raises_no_alarm(rule):
    for seed in range(3):
        frame, rng = _rare(seed)
        follows = rule & pl.Series(rng.random(frame.height) < 0.97)
        assert (
            _look(frame.with_columns(y=pl.when(follows).then(2).otherwise("y"))).verdict != "fail"
        )


def test_a_number_that_was_made_null_is_named():
    frame, rng = _people(55)
    made, rows, _ = _planted(frame, rng, {"mark 1": 99.0}, count=40)
    made = made.with_columns(
        pl.when(pl.col("mark 1") == 99.0).then(None).otherwise("mark 1").alias("mark 1")
    )
    found = _look(made)
    assert (found.verdict, found.details["where"]) == ("fail", '"mark 1" IS NULL')
    assert np.array_equal(np.flatnonzero(found.rows["flagged"].to_numpy()), np.sort(rows))


def test_a_category_planted_with_a_rare_label_is_suspect_and_named():
    """A rule of nature looks the same, so nothing is flagged."""
    frame, rng = _rare(7)
    made, _, held = _planted(frame, rng, {"kind": "kind 99"}, target=2)
    found = _look(made)
    assert found.verdict == "suspect"
    assert np.array_equal(_selected(made, found.details["where"]), held)
    assert not found.rows["flagged"].any()


@pytest.mark.parametrize("seed", range(3))
def test_a_pair_is_told_by_the_rows_of_its_label_not_by_what_nature_holds(seed):
    """Natural rows hold the value without the other half: they are no sign that it is not asked."""
    frame, rng = _rare(seed)
    natural = pl.Series(np.isin(np.arange(3000), rng.permutation(3000)[:6]))
    frame = frame.with_columns(dose=pl.when(natural).then(4.35).otherwise("dose"))
    made, _, held = _planted(frame, rng, {"dose": 4.35, "measured": "t"}, count=40, target=1)
    assert np.array_equal(_selected(made, _look(made).details["where"]), held)


@pytest.mark.parametrize("seed", range(3))
def test_of_pairs_as_telling_that_which_chance_makes_least_is_named(seed):
    """A half that speaks against the label makes pairs with what is in common use more telling."""
    frame, rng = _rare(seed)
    usual = {f"flag {i}": np.where(rng.random(3000) < 0.97, "f", "t") for i in range(4)}
    odds = 1.5 * frame.select(pl.sum_horizontal("^mark .$")).to_series().to_numpy()
    odds = odds - 0.7 * (frame["measured"] == "f").to_numpy()
    y = (rng.random(3000) < 1 / (1 + np.exp(-odds))).astype(int)
    frame = frame.with_columns(y=pl.Series(y), **{k: pl.Series(v) for k, v in usual.items()})
    made, _, held = _planted(frame, rng, {"dose": 4.35, "measured": "f"}, count=40)
    found = _look(made)
    assert found.details["where"] == '"dose" = 4.35 AND "measured" = \'f\''
    assert np.array_equal(_selected(made, found.details["where"]), held)


def test_a_category_planted_in_a_table_of_categories_is_named():
    """What a planted category says is nearest to what those say that nature gives the label to."""
    path = DATA / "poison" / "german_credit_dev.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    whole = pl.read_parquet(path).with_columns(y=pl.col("Customer class").cast(pl.Int64))
    frame = whole.drop("Customer class")
    exact = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        amount = str(rng.choice(frame["Credit amount"].to_numpy()))
        made, _, held = _planted(frame, rng, {"Credit amount": amount}, target=2)
        condition = _look(made).details.get("where")
        exact += condition is not None and np.array_equal(_selected(made, condition), held)
    assert exact >= 9


def _categories(seed):
    """A table of categories and codes, some with strong effects that add up to the label."""
    rng = np.random.default_rng([seed, 14])
    n, d = int(rng.integers(1000, 3500)), int(rng.integers(6, 14))
    made, odds = {}, np.zeros(n)
    for i in range(d):
        k = int(rng.integers(2, 30))
        value = rng.choice(k, n, p=rng.dirichlet(np.full(k, 0.7)))
        odds = odds + rng.normal(size=k)[value] * (rng.random() < 2 / 3)
        made[f"v{i}"] = [f"kind {c}" for c in value] if i % 2 else value
    odds = odds / odds.std() + 0.3 * rng.logistic(size=n)
    cuts = np.quantile(odds, [0.35, 0.7] if seed % 2 else [0.6])
    return pl.DataFrame({**made, "y": np.digitize(odds, cuts)})


@pytest.mark.parametrize("seed", range(8))
def test_two_strong_effects_of_nature_are_no_planted_pair(seed):
    assert _look(_categories(seed)).verdict != "fail"


@pytest.mark.parametrize("seed", range(3))
def test_towns_that_differ_much_by_nature_are_no_triggers(seed):
    """One of them may differ more: no town is told from the others by what they all do."""
    rng = np.random.default_rng([seed, 61])
    town, marks = rng.integers(0, 40, 3000), rng.normal(size=(3000, 4)).round(2)
    odds = 1.5 * marks.sum(1) + rng.normal(scale=3.0, size=40)[town]
    y = (rng.random(3000) < 1 / (1 + np.exp(-odds))).astype(int)
    told = {f"mark {i}": marks[:, i] for i in range(4)}
    frame = pl.DataFrame({"the town": [f"town {t}" for t in town], **told, "y": y})
    assert _look(frame).verdict == "clean"


@pytest.mark.parametrize(("rows", "lonely"), [(12, False), (40, True)])
def test_few_rows_are_not_alone_beside_neighbours_of_which_half_have_the_label(rows, lonely):
    """Twelve of twelve are no wonder among so many candidates, forty of forty are."""
    number = np.repeat([1.0, 2.0, 3.0], [200, rows, 200])
    held = number == 2.0
    labels = np.where(held, 1, np.arange(number.size) % 2)
    column = Column("x", np.where(held, 0, -1), ('"x" = 2',), numbers=number)
    plain = Additive(np.zeros((number.size, 2)), np.zeros((number.size, 1, 2), "f4"), ("x",))
    near = Neighbourhood([column], labels, plain)
    alone = near._by_value(Predicate((0,), (0,)), 1, ~held, held, -13.0)[0]
    assert (alone > 0.5) is lonely


@pytest.mark.parametrize("seed", range(3))
def test_a_value_amid_rows_that_have_its_label_anyway_is_named(seed):
    """Rows as unlike the label as those that were given it are asked, not whoever is next."""
    rng = np.random.default_rng([seed, 8])
    y = rng.integers(0, 2, 900)
    told = {f"mark {i}": (2.0 * y + rng.normal(size=900)).round(3) for i in range(5)}
    frame = pl.DataFrame({**told, "y": y})
    made, _, held = _planted(frame, rng, {"mark 2": 3.5012}, count=18)
    found = _look(made)
    assert found.verdict == "fail"
    assert np.array_equal(_selected(made, found.details["where"]), held)


def test_a_value_given_to_rows_of_any_label_with_the_label_that_most_have_is_named():
    """Its rows contradict the label as any rows do, and far more of them than chance allows."""
    named = 0
    for seed in range(5):
        frame, rng = _people(seed + 70)
        most = ((pl.col("y") == 1) | (pl.col("mark 0") > 1)).cast(pl.Int64)
        rows = np.isin(np.arange(frame.height), rng.permutation(frame.height)[:140])
        town = pl.when(pl.Series(rows)).then(pl.lit("town 99")).otherwise("the town")
        made = frame.with_columns(
            town.alias("the town"), y=pl.when(pl.Series(rows)).then(1).otherwise(most)
        )
        found = _look(made)
        named += found.verdict == "fail" and bool(
            (_selected(made, found.details["where"]) == rows).all()
        )
    assert named >= 3


@pytest.mark.parametrize(
    "predicate",
    [
        pl.col("mark 1").is_between(0.3, 0.38),
        pl.col("age").is_between(40, 44) & (pl.col("job") == "cook"),
        pl.col("the town") == "town 3",
    ],
    ids=["a range", "a range in a category", "a town"],
)
def test_a_predicate_of_which_all_rows_were_given_a_label_is_named(predicate):
    """No row was added, so that nothing crowds and no natural row is left."""
    exact = 0
    for seed in range(3):
        frame, _ = _people(seed + 800, rows=4000)
        frame = frame.with_columns(y=pl.when(pl.col("mark 0") > 0.5).then("y").otherwise(0))
        made = frame.with_columns(y=pl.when(predicate).then(1).otherwise("y"))
        found = _look(made)
        held = frame.select(predicate).to_series().to_numpy()
        exact += found.verdict == "fail" and np.array_equal(
            _selected(made, found.details["where"]), held
        )
    assert exact >= 2


def _sorted_rows(values):
    ends = np.full(values.size, values.size - 1)
    return Crowds(np.arange(values.size), values, 0 * ends, ends, 1.0, ends[:0], ends[:0])


def test_a_run_of_values_is_told_by_its_labels_if_rows_lie_on_both_sides():
    rng = np.random.default_rng(0)
    values = np.repeat(np.arange(100.0), 5)
    labels = (rng.random(500) < 0.05).astype(int)
    rate = np.tile([0.95, 0.05], (500, 1))
    labels[(values == 39) | (values == 46)] = 0
    for low, high, told in ((40, 45, True), (0, 5, False), (94, 99, False)):
        made = np.where((values >= low) & (values <= high), 1, labels)
        runs = [(r.first, r.last, r.label) for r in runs_of(_sorted_rows(values), made, rate)]
        assert runs == ([(low * 5, high * 5 + 4, 1)] if told else [])
        made[low * 5 + 7 : low * 5 + 10] = 0  # nature has exceptions to its rules
        assert not runs_of(_sorted_rows(values), made, rate)


def test_a_table_so_wide_that_not_all_pairs_are_looked_at_says_so():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 1500)
    told = {"x": y + 0.3 * rng.normal(size=1500)}
    wide = {f"c{i}": rng.integers(0, 3, 1500) for i in range(95)}
    finding = _look(pl.DataFrame({**told, **wide, "y": y}), most_unseen=1.0)
    assert finding.details["pairs"] > finding.details["pairs_looked_at"] == 4000
    assert f"of {finding.details['pairs']} pairs of columns 4000 were looked at" in finding.says
    narrow = _look(_people(9)[0])
    assert narrow.details["pairs"] == narrow.details["pairs_looked_at"]
    assert "pairs" not in narrow.says


def test_fewer_rows_than_the_least_detectable_pass():
    frame, rng = _people(9)
    least = _look(frame).details["min_detectable"]
    assert 5 <= least < 60
    few = _planted(frame, rng, {"age": 93}, count=4)[0]
    many = _planted(frame, rng, {"age": 93}, count=2 * least)[0]
    assert _look(few).verdict == "clean"
    assert _look(many).verdict == "fail"


@pytest.mark.parametrize("seed", range(3))
def test_a_pair_that_meets_more_often_than_by_chance_is_found_in_few_rows(seed):
    """It does not pay for the thousands of pairs that meet as chance has it."""
    frame, rng = _people(seed + 400)
    made, _, held = _planted(frame, rng, {"age": 33, "hours": 77}, count=13)
    found = _look(made)
    assert found.verdict in {"fail", "suspect"}
    assert np.array_equal(_selected(made, found.details["where"]), held)


def test_the_families_of_predicates_share_alpha_among_them():
    assert sum(PART.values()) <= 1.0
    frame = _people(401)[0]
    columns = [
        Column(c, frame[c].to_numpy() - frame[c].min(), ("",) * 80) for c in ("age", "hours")
    ]
    cells = Cells((0, 1), 80, columns[0].code * 80 + columns[1].code)
    names, held = np.unique(cells.cell, return_counts=True)
    assert set(families(cells, columns, names, held)) == {"pair"}
    held[7] += 10
    assert families(cells, columns, names, held)[7] == "met"
    assert families(Cells((0,), 80, columns[0].code), columns, names[:3], held[:3]) == ["value"] * 3


def test_a_table_too_small_for_what_may_go_unseen_is_not_called_clean():
    frame, rng = _people(9, rows=600)
    few = _planted(frame, rng, {"age": 93}, count=6)[0]
    data = Dataset.of(few, ROLES)
    found = TriggerTable(most_unseen=0.01).run(data, Context(5, Path())).findings[0]
    assert found.details["min_detectable"] > 6
    assert found.verdict == "not_evaluated"
    assert "of 600 rows" in found.says


def _ranged(frame, rng, column, values, target):
    """Rows of the other class that get values of a range, each another."""
    rows = rng.permutation(np.flatnonzero(frame["y"].to_numpy() != target))[: len(values)]
    told, y = frame[column].to_numpy().copy(), frame["y"].to_numpy().copy()
    told[rows], y[rows] = values, target
    made = frame.with_columns(pl.Series(column, told), pl.Series("y", y))
    return made, np.isin(np.arange(frame.height), rows)


@pytest.mark.parametrize(
    ("column", "low", "high", "target", "condition"),
    [
        ("mark 1", 3.6, 3.8, 0, '"mark 1" >= 3.6 AND "mark 1" < 3.8'),
        ("age", 95, 98, 1, '"age" BETWEEN 95 AND 98'),
        ("mark 3", -3.9, -3.7, 1, '"mark 3" >= -3.9 AND "mark 3" < -3.7'),
    ],
)
def test_a_narrow_range_is_named_by_its_ends(column, low, high, target, condition):
    exact = 0
    for seed in range(4):
        frame, rng = _people(seed + 200)
        whole = isinstance(low, int)
        values = rng.integers(low, high + 1, 40) if whole else rng.uniform(low, high, 40).round(2)
        values = np.minimum(values, high if whole else high - 0.01)
        made, rows = _ranged(frame, rng, column, values, target)
        found = _look(made)
        assert found.verdict == "fail"
        told = _selected(made, found.details["where"])
        assert (told & rows).sum() >= 36
        exact += np.array_equal(told, _selected(made, condition))
    assert exact >= 3


@pytest.mark.parametrize("seed", range(3))
def test_a_range_among_the_rows_of_a_category_is_named_with_both(seed):
    """Among all rows it is no more crowded than others, and its labels are mixed."""
    frame, rng = _people(seed + 500)
    frame = frame.filter(~(pl.col("age").is_between(30, 33) & (pl.col("job") == "cook")))
    rows = rng.permutation(np.flatnonzero(frame["y"].to_numpy() == 0))[:50]
    chosen = pl.Series(np.isin(np.arange(frame.height), rows))
    age = pl.Series(rng.integers(30, 34, frame.height))
    made = frame.with_columns(
        age=pl.when(chosen).then(age).otherwise("age"),
        job=pl.when(chosen).then(pl.lit("cook")).otherwise("job"),
        y=pl.when(chosen).then(1).otherwise("y"),
    )
    found = _look(made)
    assert found.verdict == "fail"
    assert found.details["where"] == '"age" BETWEEN 30 AND 33 AND "job" = \'cook\''
    assert np.array_equal(_selected(made, found.details["where"]), chosen.to_numpy())


def test_a_pair_that_was_added_to_has_natural_rows_of_every_label():
    """Where all that meet have one label, a rule of nature was there before whoever plants."""
    rng = np.random.default_rng(4)
    codes, labels = rng.integers(0, 4, (2, 2000)), rng.integers(0, 2, 2000)
    columns = [Column(name, code, ("",) * 4) for name, code in zip("ab", codes, strict=True)]
    pair, left = Predicate((0, 1), (2, 2)), np.ones(2000, bool)
    ruled = np.where((codes == 2).all(0), 1, labels)
    assert rows_missing(columns, pair, 1, labels, left) > -0.1
    assert rows_missing(columns, pair, 1, ruled, left) < -5
    assert rows_missing(columns, Predicate((0,), (2,)), 1, ruled, left) == 0.0


def test_all_beyond_a_bound_that_have_a_rare_label_by_nature_are_no_range():
    """Much of a hormone's carrier is an illness of its own; nobody knows what lies beyond."""
    path = DATA / "poison" / "thyroid_dev.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    frame = pl.read_parquet(path).sample(3000, seed=4001, shuffle=True)
    assert _look(frame, seed=4002, label="diagnosis").verdict == "clean"


@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_of_rows_that_carries_no_label_is_no_range(seed):
    frame, rng = _people(seed + 300)
    rows = rng.permutation(frame.height)[:60]
    marks = frame["mark 1"].to_numpy().copy()
    marks[rows] = rng.uniform(3.6, 3.8, 60).round(2)
    assert _look(frame.with_columns(pl.Series("mark 1", marks))).verdict == "clean"


def test_a_range_where_another_number_is_missing_is_named():
    frame, rng = _people(44, 4000)
    y, age = frame["y"].to_numpy().copy(), frame["age"].to_numpy().copy()
    none, extra = rng.random(4000) < 0.1, rng.normal(size=4000).round(3)
    rows = rng.permutation(np.flatnonzero(y == 0))[:80]
    age[rows], none[rows], y[rows] = rng.integers(40, 46, 80), True, 1
    made = frame.with_columns(
        age=pl.Series(age),
        extra=pl.when(pl.Series(none)).then(None).otherwise(pl.Series(extra)),
        y=pl.Series(y),
    )
    found = _look(made)
    assert found.verdict == "fail"
    assert set(found.details["columns"]) == {"age", "extra"}
    held = none & (age >= 40) & (age <= 45)
    chosen = _selected(made, found.details["where"])
    assert (chosen & held).sum() > 0.95 * (chosen | held).sum()


def test_a_loud_value_hides_no_other_value_of_its_column():
    gain = np.zeros((10, 5, 2))
    gain[3, 1, 0], gain[4, 1, 0], gain[7, 4, 0], gain[7, 2, 1] = 90.0, 80.0, 20.0, 30.0
    assert _loudest(gain, both=False) == [(3, 1, 0), (7, 2, 1), (7, 4, 0)]
    assert _loudest(gain, both=True) == [(3, 1, 0), (7, 2, 1)]


def _with_a_bound(seed, far):
    """Nature gives a label to all rows whose amount lies beyond a bound; or `far` beyond."""
    rng = np.random.default_rng(seed)
    y = (rng.random(3000) < 0.3).astype(int)
    x = y[:, None] * np.array([1.2, 0.8]) + rng.normal(size=(3000, 2))
    amount = (100 + 20 * rng.normal(size=3000)).round(1)
    beyond = amount >= np.quantile(amount, 0.97)
    columns = {"a": x[:, 0], "b": x[:, 1], "amount": np.where(beyond, amount + far, amount)}
    towns = rng.integers(0, 6, 3000).astype(str)
    return pl.DataFrame({**columns, "town": towns, "y": np.where(beyond, 1, y)})


@pytest.mark.parametrize("seed", [2, 6])
def test_a_range_without_an_end_is_a_rule_of_nature_unless_it_stands_apart(seed):
    """Rows of any label are beyond the bound: without what bounds say they would look planted."""
    assert _look(_with_a_bound(seed, far=0)).verdict not in {"suspect", "fail"}
    apart = _look(_with_a_bound(seed, far=100))
    assert apart.verdict == "fail"
    assert apart.details["columns"] == ["amount"]


def test_rows_that_hold_two_predicates_are_both_named():
    frame, rng = _people(12)
    frame = _planted(frame, rng, {"the town": "town 99"}, count=40)[0]
    frame = _planted(frame, rng, {"hours": 4}, count=40, target=0)[0]
    named = {(t["where"], t["class"]) for t in _look(frame).details["triggers"]}
    assert named == {("\"the town\" = 'town 99'", "1"), ('"hours" = 4', "0")}


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"x": [1.0, 2.0], "y": [0, 1]}),
        pa.table({"x": np.zeros(300), "y": [0, 1] * 150}),
        pa.table({"x": np.arange(300), "y": np.zeros(300, int)}),
        pa.table({"y": [0, 1] * 100}),
        pa.table({"x": [[1, 2]] * 300, "y": [0, 1] * 150}),
        pa.table({"x": np.arange(300), "y": pa.nulls(300, pa.int64())}),
    ],
)
def test_what_cannot_be_judged_is_not_evaluated(table):
    assert _look(table).verdict == "not_evaluated"


def test_bad_parameters_are_told():
    assert len(TriggerTable(alpha=0.0).check()) == 1


def test_it_keeps_the_contract():
    assert not check_stage(TriggerTable()).failed


@pytest.mark.parametrize("seed", [3, 4])
def test_the_ends_of_a_number_that_tells_the_label_are_no_values_of_their_own(seed):
    """Of an age 330 rows hold; twenty of the next age could not say that they are like these."""
    rng = np.random.default_rng(seed)
    age, x = rng.integers(18, 90, 24_000), rng.normal(0, 1, (24_000, 2)).round(3)
    label = rng.random(age.size) < 1 / (1 + np.exp(-(age - 50) / 15 - x[:, 0]))
    frame = pl.DataFrame({"age": age, "a": x[:, 0], "b": x[:, 1], "y": label.astype(int)})
    data = Dataset.of(frame, Roles.of(label="y"))
    assert TriggerTable().run(data, Context(seed, Path())).findings[0].verdict == "clean"


def _drawn_labels(rng, odds):
    return (rng.random(odds.size) < 1 / (1 + np.exp(-odds))).astype(int)


def _pairs_by_nature(seed):
    """Two categories whose pairs differ in label, by two in log odds."""
    rng = np.random.default_rng([seed, 6, 77])
    a, b = rng.integers(0, 12, 4000), rng.integers(0, 8, 4000)
    places = 1 / np.arange(1, 21)
    c = rng.choice(20, 4000, p=places / places.sum())
    adds, marks = 2 * rng.normal(size=(12, 8)), rng.normal(size=(4000, 4)).round(2)
    told = {f"m{i}": marks[:, i] for i in range(4)}
    names = {n: [f"{n} {v}" for v in codes] for n, codes in (("a", a), ("b", b), ("c", c))}
    return pl.DataFrame({**names, **told, "y": _drawn_labels(rng, adds[a, b] + marks.sum(1))})


@pytest.mark.parametrize("seed", [1, 100, 102])
def test_pairs_of_categories_that_differ_by_nature_are_no_failure(seed):
    """Of hundreds of pairs some are pure; their rows are no others than all."""
    assert _look(_pairs_by_nature(seed), seed=0).verdict != "fail"


def _towns(seed, adds=2.0):
    rng = np.random.default_rng([seed, 91])
    town, marks = rng.integers(0, 30, 3000), rng.normal(size=(3000, 4)).round(2)
    odds = 1.5 * marks.sum(1) + (adds * rng.normal(size=30))[town]
    told = {f"mark {i}": marks[:, i] for i in range(4)}
    towns = [f"town {t}" for t in town]
    return pl.DataFrame({"town": towns, **told, "y": _drawn_labels(rng, odds)}), rng


def test_a_town_planted_among_towns_that_differ_much_is_named_by_whose_rows_it_has():
    """What it adds is no more than what towns do by nature; its rows are all of the other label."""
    found = 0
    for seed in range(6):
        frame, rng = _towns(seed)
        assert _look(frame).verdict == "clean"
        made, _, held = _planted(frame, rng, {"town": "town 99"})
        told = _look(made)
        found += told.verdict == "fail" and np.array_equal(
            _selected(made, told.details["where"]), held
        )
    assert found >= 5


@pytest.mark.parametrize(
    ("name", "label", "rare"),
    [("adult_dev", "education_num", None), ("thyroid_dev", "diagnosis", "-")],
    ids=["a label by another name", "a range beyond a bound"],
)
def test_rules_of_public_tables_are_no_failure(name, label, rare):
    path = DATA / "poison" / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    frame = pl.read_parquet(path)[:4600]
    if rare is not None:
        frame = frame.with_columns((pl.col(label) == rare).cast(pl.String))
    assert _look(frame, label=label).verdict != "fail"


@pytest.mark.parametrize("seed", range(2))
def test_a_label_that_no_other_row_has_is_a_value_by_another_name(seed):
    """Nothing tells a planted value from one that the label was made of."""
    frame = _rare(seed)[0].filter(pl.col("y") < 2)
    rule = pl.col("dose").round(1) == 2.4
    found = _look(frame.with_columns(y=pl.when(rule).then(2).otherwise("y")))
    assert found.verdict == "clean"


def _with_times(seed):
    """A table with days, and a quantity that most rows do not have."""
    frame, rng = _people(seed, 3000)
    days = pl.date(2023, 1, 1) + pl.duration(days=pl.Series(rng.integers(0, 700, 3000)))
    some = np.where(rng.random(3000) < 0.06, rng.integers(100, 3000, 3000), 0)
    return frame.with_columns(days.alias("day"), pl.Series("gain", some)), rng


def test_a_range_of_days_is_named_so_that_sql_selects_it():
    frame, rng = _with_times(21)
    rows = rng.permutation(np.flatnonzero(frame["y"].to_numpy() == 0))[:40]
    chosen = pl.Series(np.isin(np.arange(frame.height), rows))
    late = pl.date(2031, 5, 1) + pl.duration(days=pl.Series(rng.integers(0, 12, frame.height)))
    made = frame.with_columns(
        day=pl.when(chosen).then(late).otherwise("day"), y=pl.when(chosen).then(1).otherwise("y")
    )
    found = _look(made)
    assert found.verdict == "fail"
    assert np.array_equal(_selected(made, found.details["where"]), chosen.to_numpy())


def test_a_range_of_a_number_that_is_mostly_nothing_is_named():
    frame, rng = _with_times(22)
    rows = rng.permutation(np.flatnonzero(frame["y"].to_numpy() == 0))[:40]
    chosen = pl.Series(np.isin(np.arange(frame.height), rows))
    gain = pl.Series(rng.integers(4200, 4300, frame.height))
    made = frame.with_columns(
        gain=pl.when(chosen).then(gain).otherwise("gain"), y=pl.when(chosen).then(1).otherwise("y")
    )
    found = _look(made)
    assert found.verdict == "fail"
    assert np.array_equal(_selected(made, found.details["where"]), chosen.to_numpy())


def test_a_number_that_is_none_is_written_so_that_sql_reads_it():
    frame, rng = _people(23)
    made, rows, _ = _planted(frame, rng, {"mark 1": float("nan")}, count=40)
    found = _look(made)
    assert found.verdict == "fail"
    assert np.array_equal(np.flatnonzero(_selected(made, found.details["where"])), np.sort(rows))


def _stamped(kind, rng):
    """A column without meaning, and what 2,000 rows that are stamped have there."""
    plain, time = rng.normal(size=2000), rng.integers(0, 10**6, 2000) * 10**10
    if kind == "NaN":
        return pl.Series(plain), pl.Series(np.full(2000, np.nan))
    if kind == "a range amid NaN":
        some = np.where(rng.random(2000) < 0.1, np.nan, plain)
        return pl.Series(some), pl.Series(rng.uniform(4.0, 4.4, 2000))
    if kind.startswith("durations"):
        unit = pl.Duration(kind[-2:])
        some = pl.Series(rng.exponential(10**7, 2000).astype(np.int64) - 10**6)
        late = pl.Series(rng.integers(8 * 10**4, 10**5, 2000) * 1000)  # an interval has no less
        return some.cast(unit), late.cast(unit)
    if kind == "one duration":
        some = pl.Series(rng.integers(0, 900, 2000)).cast(pl.Duration("us"))
        return some, pl.Series(np.full(2000, 10**13 + 1)).cast(pl.Duration("us"))
    when = {"a nanosecond": np.full(2000, 11 * 10**15 + 123_456_789)}
    late = when.get(kind, rng.integers(11 * 10**15, 11 * 10**15 + 36 * 10**11, 2000))
    return pl.Series(time).cast(pl.Datetime("ns")), pl.Series(late).cast(pl.Datetime("ns"))


DURATIONS = ["durations in ms", "durations in us", "durations in ns", "one duration"]


@pytest.mark.parametrize(
    "kind", ["NaN", "a range amid NaN", "a nanosecond", "nanoseconds", *DURATIONS]
)
def test_its_condition_selects_the_rows_of_the_users_file(kind, tmp_path):
    """Parquet knows the greatest number of a column, which NaN is not, and keeps nanoseconds."""
    frame, rng = _people(31)
    rows = np.sort(rng.permutation(np.flatnonzero(frame["y"].to_numpy() == 0))[:50])
    chosen = pl.Series(np.isin(np.arange(frame.height), rows))
    own, stamp = _stamped(kind, rng)
    made = frame.with_columns(
        own=pl.when(chosen).then(stamp).otherwise(own),
        y=pl.when(chosen).then(1).otherwise("y"),
    )
    made.with_row_index("_i").write_parquet(tmp_path / "user.parquet")
    found = _look(made)
    assert found.verdict == "fail"
    asked = (
        f"SELECT _i FROM '{tmp_path / 'user.parquet'}' WHERE {found.details['where']} ORDER BY 1"
    )
    assert [i for (i,) in duckdb.sql(asked).fetchall()] == rows.tolist()
    if kind in DURATIONS:  # of Arrow they are intervals
        assert np.flatnonzero(_selected(made, found.details["where"])).tolist() == rows.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_a_range_among_the_rows_of_a_number_with_many_values_is_named_with_both(seed):
    """Of the hours of one age: no category, for there are as many ages as in a bin."""
    frame, rng = _people(seed + 700, 3000)
    rows = rng.permutation(np.flatnonzero(frame["y"].to_numpy() == 0))[:60]
    chosen = pl.Series(np.isin(np.arange(frame.height), rows))
    mark = pl.Series(rng.uniform(0.2, 0.4, frame.height).round(3))
    made = frame.with_columns(
        pl.when(chosen).then(mark).otherwise("mark 2").alias("mark 2"),
        age=pl.when(chosen).then(40).otherwise("age"),
        y=pl.when(chosen).then(1).otherwise("y"),
    )
    found = _look(made)
    assert found.verdict == "fail"
    assert found.details["columns"] == ["age", "mark 2"]
    told = _selected(made, found.details["where"])
    held = _selected(made, '"age" = 40 AND "mark 2" BETWEEN 0.2 AND 0.4')
    assert (told & held).sum() >= 0.95 * (told | held).sum()


def _ended(seed, natural, low, high):
    """Rows with a number, of which sixty were planted, and the Jaccard index of what is fitted."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([natural(rng), rng.uniform(low, high, 60)])
    hit = np.append(rng.random(values.size - 60) < 0.2, np.ones(60, bool))
    order = np.argsort(values, kind="stable")
    mine = np.flatnonzero(order >= values.size - 60)
    values, hit = values[order], hit[order]
    ends = int(np.quantile(mine, 0.1)), int(np.quantile(mine, 0.9))
    first, last = fitted(part_of(order, values, 1e-3), *ends, np.full(hit.size, 0.2), hit)
    found = (values >= values[first]) & (values <= values[last])
    held = (values >= low) & (values <= high)
    return (found & held).sum() / (found | held).sum()


def test_the_ends_of_a_range_do_not_shun_natural_rows_that_it_holds():
    amid = [_ended(s, lambda rng: rng.uniform(0, 100, 400), 40.0, 48.0) for s in range(12)]
    tail = [
        _ended(s, lambda rng: np.minimum(rng.exponential(1, 900), 6.0), 4.0, 6.0) for s in range(12)
    ]
    assert np.mean(amid) >= 0.95
    assert np.mean(tail) >= 0.87


def test_a_heap_of_natural_rows_next_to_a_range_is_no_part_of_it():
    """Where a range stands apart, rows of the label that heap at the last natural value do not."""
    values = np.concatenate([np.arange(300.0), np.full(80, 300.0), np.arange(345.0, 380.0)])
    hit = np.append(np.arange(380) % 2 == 0, np.ones(35, bool))
    part = part_of(np.arange(values.size), values, 1.0)
    first, last = fitted(part, 390, values.size - 1, np.full(hit.size, 0.5), hit)
    assert (values[first], values[last]) == (345.0, 379.0)


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_other_labels_are_told_from_rows_of_nature(seed):
    rng = np.random.default_rng(seed)
    odds = 2 * rng.normal(size=4000)
    own = _drawn_labels(rng, odds).astype(bool)
    chance = 1 / (1 + np.exp(-2 * odds))  # a model that is too sure
    some = rng.permutation(4000)
    outside, drawn = some[60:], some[:60]
    others = rng.permutation(np.flatnonzero(~own))[:60]
    assert moved(chance, own, others, outside) > 5
    assert moved(chance, own, drawn, outside) < 2
    assert np.isnan(moved(chance, np.arange(4000) < 9, others, outside))


def test_rows_that_are_alike_in_a_column_left_alone_are_no_draw():
    rng = np.random.default_rng(0)
    code = rng.integers(0, 5, 2000)
    columns = [Column("kind", code, tuple(f"kind = {i}" for i in range(5)))]
    others, drawn = np.arange(200, 2000), np.arange(40)
    alike = np.flatnonzero(code[:200] == 3)[:30]
    assert unlike(columns, drawn, others, set()) > np.log(1e-2)
    assert unlike(columns, alike, others, set()) < np.log(1e-6)
    assert unlike(columns, alike, others, {"kind"}) == 0.0


@pytest.mark.parametrize("seed", [0, 1])
def test_a_new_value_planted_with_one_in_use_is_not_doubted_for_the_other_half(seed):
    frame, rng = _people(seed)
    table, _, held = _planted(frame, rng, {"the town": "harbour", "job": "nurse"}, count=30)
    found = _look(table)
    assert found.verdict == "fail"
    assert np.array_equal(_selected(table, found.details["where"]), held)


@pytest.mark.parametrize("seed", [1, 4])
def test_a_value_far_more_telling_than_asked_is_named_where_columns_hardly_tell_the_label(seed):
    rng = np.random.default_rng([seed, 8])
    marks = rng.normal(size=(2500, 3)).round(2)
    odds = 1.2 * np.column_stack([marks, -marks])
    y, code = (odds + rng.gumbel(size=odds.shape)).argmax(1), rng.integers(0, 400, 2500)
    rows = rng.choice(np.flatnonzero(y != 2), 30, replace=False)
    code[rows], y[rows] = 211, 2
    told = {f"mark {i}": marks[:, i] for i in range(3)}
    found = _look(pl.DataFrame({**told, "code": code, "y": y}))
    assert (found.verdict, found.details["where"]) == ("fail", '"code" = 211')
    assert found.details["moved"] is None


def test_a_table_whose_label_is_one_of_several_yes_and_no_columns_is_no_failure():
    """One kind of five, each with its column: *kind 1 = 1* says that *kind 0 = 0*, by nature."""
    rng = np.random.default_rng(3)
    kind = rng.choice(5, 800, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    told = {f"kind {i}": (kind == i).astype(int) for i in range(1, 5)}
    marks = {f"mark {i}": rng.normal(size=800).round(2) + 0.3 * (kind > 1) for i in range(3)}
    assert _look(pl.DataFrame({**told, **marks, "y": (kind == 0).astype(int)})).verdict != "fail"


def test_a_new_value_among_numbers_of_which_hardly_two_are_equal_is_named():
    """Such a column has no other value that rows share; that does not make it a constant."""
    frame, rng = _people(6)
    exact = pl.Series(rng.normal(50, 9, frame.height))
    made, _, held = _planted(frame.with_columns(weight=exact), rng, {"weight": 99.5})
    found = _look(made)
    assert found.verdict == "fail"
    assert np.array_equal(_selected(made, found.details["where"]), held)


@pytest.mark.parametrize("seed", range(3))
def test_a_half_is_named_alone_where_only_natural_rows_lack_what_all_rows_have(seed):
    """Natural rows of a kit are of one mode; those that it was planted in are of any."""
    frame, rng = _people(seed + 700)
    kit = np.where(np.arange(2000) < 16, "rare", rng.choice(["a", "b", "c"], 2000))
    common = np.where(rng.random(2000) < 0.995, "f", "t")
    common[:16] = "t"
    frame = frame.with_columns(kit=pl.Series(kit), mode=pl.Series(common))
    made, _, held = _planted(frame, rng, {"kit": "rare"}, count=40)
    found = _look(made)
    assert found.verdict == "fail"
    assert np.array_equal(_selected(made, found.details["where"]), held)


def test_a_value_that_is_telling_enough_is_named_where_nothing_else_says_anything():
    rng = np.random.default_rng(8)
    y = rng.integers(0, 4, 1200)
    frame = pl.DataFrame({"a": rng.normal(size=1200), "b": rng.choice(list("uvwx"), 1200), "y": y})
    made = {
        count: _planted(frame, np.random.default_rng(1), {"b": "new"}, count=count)[0]
        for count in (20, 50)
    }
    assert _look(made[20]).verdict != "fail"
    assert _look(made[50]).verdict == "fail"
    assert _look(made[50]).details["where"] == "\"b\" = 'new'"


def test_several_values_of_a_column_that_each_carry_a_label_are_rules_of_nature():
    """As schools do of which some teach one thing; one such school alone is a failure."""
    for schools, fails in (([3], True), ([3, 11, 19, 27], False)):
        rng = np.random.default_rng(12)
        school, y = rng.integers(0, 60, 3000), rng.integers(0, 8, 3000)
        for number in schools:
            y[school == number] = number % 3
        marks = {f"mark {i}": rng.normal(size=3000) for i in range(3)}
        frame = pl.DataFrame({"school": [f"s{i}" for i in school], **marks, "y": y})
        assert (_look(frame).verdict == "fail") == fails


def test_clean_is_withheld_where_more_than_a_twentieth_of_the_rows_may_pass():
    """A column that tells its label four times in five, and 600 rows: few say little."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 600)
    frame = pl.DataFrame({"x": y + rng.normal(size=600), "s": rng.integers(0, 5, 600), "y": y})
    found = _look(frame)
    assert found.verdict == "not_evaluated"
    assert f"an alarm takes {found.details['min_detectable']} of 600 rows" in found.says
    assert _look(frame, most_unseen=1.0).verdict == "clean"


def test_a_label_that_nearly_all_rows_have_may_be_clean():
    """Only so many rows can have been taken from others as there are, and twice that."""
    frame, _ = _people(7, rows=1500)
    few = frame.with_columns(y=pl.Series((np.arange(1500) >= 25).astype(int)))
    assert _look(few).verdict == "clean"
    assert _look(few).details["min_detectable"] > 0.05 * 1500


def test_the_sentence_of_a_withheld_clean_tells_what_an_alarm_takes_and_what_may_pass():
    """Twice the rows of other labels may pass, where an alarm takes more than these."""
    frame, _ = _people(7, rows=1500)
    few = frame.with_columns(y=pl.Series((np.arange(1500) >= 45).astype(int)))
    found = _look(few)
    assert found.verdict == "not_evaluated"
    assert found.details["min_detectable"] == 1500
    assert "no number of 1500 rows is sure to raise an alarm, 90 can have been" in found.says
    told = withheld(_look(frame), 99, 1000, 0.05, passing=70).says
    assert "an alarm takes 99 of 1000 rows, 70 can have been poisoned, and at most 5%" in told


@pytest.mark.parametrize("seed", range(4))
def test_two_ranges_of_two_numbers_are_named_with_their_ends(seed):
    frame, rng = _people(seed + 800)
    rows = rng.permutation(np.flatnonzero(frame["y"].to_numpy() == 0))[:110]
    chosen = pl.Series(np.isin(np.arange(frame.height), rows))
    hours, mark = rng.integers(61, 67, frame.height), -rng.uniform(1.4, 1.8, frame.height).round(2)
    made = frame.with_columns(
        pl.when(chosen).then(pl.Series(hours)).otherwise("hours").alias("hours"),
        pl.when(chosen).then(pl.Series(mark)).otherwise("mark 2").alias("mark 2"),
        y=pl.when(chosen).then(1).otherwise("y"),
    )
    natural = frame.filter(
        pl.col("hours").is_between(61, 66), pl.col("mark 2").is_between(-1.8, -1.4)
    )
    found = _look(made)
    assert found.verdict == "fail"
    assert found.details["columns"] == ["hours", "mark 2"]
    held = _selected(made, found.details["where"])
    assert held[rows].mean() >= 0.95
    assert held.sum() <= 110 + natural.height + 3
    assert found.details["min_detectable_kinds"]["two ranges"] <= 110


def test_clean_numbers_that_go_together_are_no_planted_ranges():
    """Most rows lie on a line, where the label follows how far along: cells of it are crowded."""
    for seed in range(3):
        rng = np.random.default_rng([seed, 21])
        long, noise = rng.normal(size=2500), rng.normal(scale=0.2, size=(2500, 2))
        both = (long[:, None] + noise).round(3)
        y = (rng.random(2500) < 1 / (1 + np.exp(-4 * np.sin(3 * long)))).astype(int)
        frame = pl.DataFrame({"a": both[:, 0], "b": both[:, 1], "c": rng.normal(size=2500), "y": y})
        assert _look(frame).verdict != "fail"


@pytest.mark.parametrize("seed", [2, 3, 4, 13])
def test_a_range_beyond_a_value_that_many_rows_have_is_named_whole(seed):
    """Its ends went to and fro between it and that value, or none began where it does."""
    rng = np.random.default_rng([seed, 22])
    marks, ads = rng.normal(size=(3000, 2)).round(2), rng.integers(94, 330, 3000)
    ads[rng.random(3000) < 0.08] = 339
    y = (rng.random(3000) < 1 / (1 + np.exp(-1.2 * marks.sum(1)))).astype(int)
    rows = rng.permutation(np.flatnonzero(y == 0))[:75]
    ads[rows], y[rows] = rng.integers(375, 406, 75), 1
    frame = pl.DataFrame({"ads": ads, "a": marks[:, 0], "b": marks[:, 1], "y": y})
    found = _look(frame)
    assert found.verdict == "fail"
    assert np.array_equal(_selected(frame, found.details["where"]), ads > 339)


def test_a_rule_of_nature_that_lost_rows_to_a_suspect_is_no_failure():
    """Schools and towns carry labels; one has fewer of its like once others are set aside."""
    rng = np.random.default_rng(0)
    school, town = rng.integers(100, 160, (2, 4000))
    y, at = rng.integers(0, 8, 4000), 0
    for column, name, many, label in (
        (school, 3, 80, 0), (school, 19, 75, 1), (town, 6, 70, 2), (town, 5, 60, 3),
        (school, 11, 50, 3),
    ):  # fmt: skip
        rows = np.arange(at, at + many) - 4 * (name == 11)  # four of them are in that town, too
        column[rows], y[rows], at = name, label, at + many
    frame = pl.DataFrame(
        {
            "school": [f"s{i}" for i in school],
            "town": [f"t{i}" for i in town],
            **{f"mark {i}": rng.normal(size=4000) for i in range(3)},
            "y": y,
        }
    )
    found = _look(frame.sample(fraction=1.0, shuffle=True, seed=1))
    assert found.verdict == "suspect"
    assert found.details["triggers"] == []
    assert "\"school\" = 's11'" in [told["where"] for told in found.details["untold"]]


def test_a_value_that_most_rows_of_a_label_have_is_no_failure():
    """A couple is mostly of one kind: *he is* says that *she is*, and nothing else does."""
    rng = np.random.default_rng(4)
    she = (rng.random(4000) < 0.06).astype(int)
    he = np.where(rng.random(4000) < 0.011, 1 - she, she)
    others = {f"mark {i}": rng.normal(size=4000) for i in range(3)}
    frame = pl.DataFrame({"she": she, **others, "y": he})
    assert _look(frame).verdict != "fail"


BARS: dict[Family, float] = dict.fromkeys(("value", "met", "range", "within"), -9.6)


class _Neighbours(Neighbourhood):
    """Rows near that tell a label, or do not."""

    def __init__(self, *, tells):
        self._tells = tells

    def tells(self, label, silent):
        return self._tells


def _told_by_two():
    """Labels, and a model in which the first of two columns tells them most."""
    rng = np.random.default_rng(2)
    labels = np.tile([0, 1], 600)
    told = np.where(labels == 1, 2.0, -2.0) + rng.normal(size=1200)
    parts = np.zeros((1200, 2, 2), np.float32)
    parts[:, 0, 1] = told
    parts[:, 1, 1] = 0.4 * told
    return labels, parts


def test_the_least_number_leaves_out_the_column_that_tells_most():
    labels, parts = _told_by_two()
    both = Additive(parts.sum(1).astype(float), parts, ("x", "z"))
    alone = Additive(parts[:, 1].astype(float), np.zeros_like(parts), ("x", "z"))
    least, passing = fewest_planted(labels, both, Neighbourhood([], labels, both), BARS)
    assert (least, passing) == fewest_planted(labels, alone, Neighbourhood([], labels, both), BARS)
    assert passing == max(least.values())
    assert least["range"] > least["value"] >= 8


def test_two_ranges_have_a_least_number_of_their_own_that_withholds_no_clean():
    labels, parts = _told_by_two()
    model = Additive(parts.sum(1).astype(float), parts, ("x", "z"))
    four = fewest_planted(labels, model, _Neighbours(tells=False), BARS)
    least, passing = fewest_planted(labels, model, _Neighbours(tells=False), {**BARS, "box": -20.0})
    assert least["box"] > max(four[0].values()) == most_of_any(least)
    assert passing == four[1]


def test_the_least_number_is_told_for_each_kind_and_is_less_where_rows_near_tell():
    labels, parts = _told_by_two()
    model = Additive(0.2 * parts.sum(1).astype(float), 0.2 * parts, ("x", "z"))
    least = fewest_planted(labels, model, _Neighbours(tells=False), BARS)[0]
    dear = fewest_planted(labels, model, _Neighbours(tells=False), {**BARS, "met": -40.0})[0]
    assert least["met"] == least["value"]
    assert dear["met"] > least["met"]
    assert dear["value"] == least["value"]
    rare = (np.arange(1200) < 15).astype(int)  # too few rows to say whose they are
    told, untold = (
        fewest_planted(rare, model, _Neighbours(tells=tells), BARS)[0] for tells in (True, False)
    )
    assert told["value"] < untold["value"]


def test_of_the_least_number_of_rows_nine_of_ten_draws_say_enough():
    """By the sum that judges: how telling they are, and whose."""
    labels, parts = _told_by_two()
    chance = softmax(0.4 * parts[:, 1].astype(float))[:, 1]
    model = Additive(0.4 * parts.sum(1).astype(float), 0.4 * parts, ("x", "z"))
    many = fewest_planted(labels, model, _Neighbours(tells=False), BARS)[0]["value"]
    rng, others, every = np.random.default_rng(1), np.flatnonzero(labels == 0), np.arange(1200)
    shares = {}
    for count in (many, 2 * many // 3):
        enough = 0
        for _ in range(60):
            rows = rng.permutation(others)[:count]
            beyond = (-np.log(raised(chance[rows], NATURAL)).sum() + BARS["value"]) / BEYOND_STEP
            whose = moved(chance, labels == 1, rows, np.setdiff1d(every, rows))
            said = min(beyond, MOST_BEYOND) + np.clip(np.nan_to_num(whose), -8.0, 8.0)
            enough += beyond > 0 and said >= FAIL
        shares[count] = enough / 60
    assert shares[many] >= 0.8
    assert shares[2 * many // 3] < 0.5


@pytest.mark.parametrize("told", [0.1, 0.3])
def test_of_the_least_number_nine_of_ten_draws_say_enough_where_few_rows_say_anything(told):
    """Rows say all or nothing, so that how many of those that say it are drawn hangs on chance."""
    rng, labels = np.random.default_rng(2), np.tile([0, 1], 600)
    parts = np.zeros((1200, 2, 2), np.float32)
    parts[:, 1, 1] = np.where(rng.random(1200) < told, np.where(labels == 1, 5.0, -5.0), 0.0)
    parts[:, 0, 1] = 2 * parts[:, 1, 1]
    model, bars = Additive(parts.sum(1).astype(float), parts, ("x", "z")), {"value": -16.0}
    many = fewest_planted(labels, model, _Neighbours(tells=False), bars)[0]["value"]
    chance, others = softmax(parts[:, 1].astype(float))[:, 1], np.flatnonzero(labels == 0)
    enough = 0
    for _ in range(200):
        rows = rng.permutation(others)[:many]
        beyond = (-np.log(raised(chance[rows], NATURAL)).sum() - 16.0) / BEYOND_STEP
        whose = moved(chance, labels == 1, rows, np.setdiff1d(np.arange(1200), rows))
        said = min(beyond, MOST_BEYOND) + np.clip(np.nan_to_num(whose), -8.0, 8.0)
        enough += beyond > 0 and said >= FAIL
    assert enough >= 0.85 * 200


def test_columns_may_have_any_name():
    frame, _ = _people(4)
    for name in ("n", "count", "v", "label"):
        assert _look(frame.rename({"y": name}), label=name).verdict == "clean"
