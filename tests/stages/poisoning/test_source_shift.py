# SPDX-License-Identifier: Apache-2.0
"""One bad contributor of many is named, honest ones are not accused, and tails keep their level."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.estimate import Estimate
from datapipe.core.roles import Roles
from datapipe.measure.detection import binomial_tail
from datapipe.stages.poisoning._sums import STEP, saddlepoint_tail, sum_tail, sum_tails
from datapipe.stages.poisoning._surprise import Surprise, accused, natural_spread
from datapipe.stages.poisoning.source_shift import CARELESS, SURE, SourceShift
from datapipe.testing import check_stage


def _look(data, seed=5):
    return SourceShift().run(data, Context(seed, Path())).findings[0]


def _contributed(seed, *, flips, sources=50, each=40, role="source"):
    """Rows of two classes that overlap, from many contributors, one of whom moves labels."""
    rng = np.random.default_rng(seed)
    n = sources * each
    labels = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 4)) + 2.2 * np.eye(4)[labels]
    who = rng.permutation(np.repeat(np.arange(sources), each))
    bad = int(rng.integers(sources))
    moved = (who == bad) & (rng.random(n) < flips)
    labels = np.where(moved, (labels + rng.integers(1, 3, n)) % 3, labels)
    columns = {f"x{i}": x[:, i] for i in range(4)}
    frame = pl.DataFrame({**columns, "y": labels, "who": [f"person {w}" for w in who]})
    return Dataset.of(frame, Roles.of(label="y", **{role: "who"})), f"person {bad}", moved


def test_one_bad_contributor_of_fifty_is_found_and_nobody_else_is_accused():
    found, accused = 0, 0
    for seed in range(6):
        data, bad, _ = _contributed(seed, flips=0.4)
        named = [s["source"] for s in _look(data).details["sources"]]
        found += bad in named
        accused += any(name != bad for name in named)
    assert found >= 5
    assert accused == 0


def test_as_many_moved_labels_as_the_least_detectable_are_found():
    found, least = 0, _look(_contributed(200, flips=0.0)[0]).details["min_detectable"]
    for seed in range(201, 207):
        data, _, _ = _contributed(seed, flips=0.0)
        rng = np.random.default_rng([seed, 3])
        bad = f"person {rng.integers(50)}"
        frame = data.frame([*data.features, "y", "who"])
        mine = rng.permutation(np.flatnonzero((frame["who"] == bad).to_numpy()))[:least]
        labels = frame["y"].to_numpy().copy()
        labels[mine] = (labels[mine] + rng.integers(1, 3, mine.size)) % 3
        made = Dataset.of(frame.with_columns(y=labels), Roles.of(label="y", source="who"))
        found += bad in [s["source"] for s in _look(made).details["sources"]]
    assert least < 20
    assert found >= 5


def test_honest_contributors_are_not_accused():
    alarms = sum(_look(_contributed(s, flips=0.0)[0]).verdict == "fail" for s in range(20, 25))
    assert alarms == 0


def test_contributors_with_harder_rows_are_not_accused():
    data, _, _ = _contributed(3, flips=0.0)
    frame = data.frame()
    x = frame.select("x0", "x1", "x2", "x3").to_numpy()
    hard = np.sort(x, axis=1)
    hard = np.argsort(hard[:, 3] - hard[:, 2])[:60]
    who = frame["who"].to_numpy().copy()
    who[hard] = "person with hard rows"
    made = _look(Dataset.of(frame.with_columns(who=pl.Series(who)), data.roles))
    assert "person with hard rows" not in {s["source"] for s in made.details["sources"]}


def test_the_finding_says_what_the_source_did():
    data, bad, moved = _contributed(1, flips=0.5, sources=10, each=120, role="annotator")
    finding = _look(data)
    flags = finding.rows["flagged"].to_numpy()
    assert finding.details["source"] == bad
    assert finding.details["column"] == "who"
    assert finding.details["share"]["low"] > finding.details["share_of_others"]
    assert finding.p_value <= 0.01
    assert 1 <= finding.details["min_detectable"] < 60
    assert Estimate.rate(int((flags & moved).sum()), int(moved.sum())).value > 0.8
    assert flags[~moved].mean() < 0.01


@pytest.mark.parametrize(("n", "rate", "hits"), [(100, 0.1, 18), (40, 0.05, 6), (200, 0.3, 80)])
def test_the_tail_is_that_of_drawing_from_the_pool(n, rate, hits):
    pool = np.r_[np.ones(int(1000 * rate)), np.zeros(1000 - int(1000 * rate))]
    told, exact = saddlepoint_tail([(pool, n)], hits - 0.5), binomial_tail(hits, n, rate)
    assert 0.6 * exact < told < 1.6 * exact


@pytest.mark.parametrize("n", [12, 100, 1500])
def test_sums_of_rare_surprises_have_the_tail_of_drawing(n):
    """A dozen rows hold none or one: far from smooth, and most sums lie just below the mean."""
    rng = np.random.default_rng(n)
    pool = np.where(rng.random(1800) < 0.006, 1.9, -0.11 + 0.02 * rng.normal(size=1800))
    pool = np.round(pool / STEP) * STEP
    drawn = rng.choice(pool, (20_000, n)).sum(1)
    for share in (0.1, 0.5, 0.9, 0.99):
        total = float(np.quantile(drawn, share))
        assert sum_tail(pool, total, n) == pytest.approx(
            float((drawn >= total - STEP / 2).mean()), rel=0.2
        )
        assert 0.0 < saddlepoint_tail([(pool, n)], total) <= 1.0


def test_hundreds_of_small_honest_sources_are_not_accused():
    """A model that tells classes well leaves most of them without any contradiction."""
    fails = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sure = rng.uniform(0.82, 0.94, 1800)
        shares = np.repeat((1.0 - sure)[:, None] / 9, 10, axis=1)
        likely = rng.integers(0, 10, 1800)
        shares[np.arange(1800), likely] = sure
        labels = np.where(rng.random(1800) < 0.006, (likely + 1) % 10, likely)
        worst = accused(Surprise.of(labels, shares), rng.integers(0, 150, 1800))[0]
        fails += worst.p_value <= 0.05
    assert fails <= 2


def test_the_few_odd_labels_of_an_honest_source_are_rows_like_any_other():
    """Others need not have one as odd: held against their rows alone it would be accused."""
    fails = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        likely = rng.integers(0, 10, 800)
        sure = np.clip(rng.beta(19.4, 0.6, 800), 0.3, 0.999)
        shares = np.repeat((1.0 - sure)[:, None] / 9, 10, axis=1)
        shares[np.arange(800), likely] = sure
        labels = np.where(rng.random(800) < 0.003, (likely + 1) % 10, likely)
        worst = accused(Surprise.of(labels, shares), rng.permutation(np.arange(800) % 20))[0]
        fails += worst.p_value <= 0.02
    assert fails <= 2


@pytest.mark.parametrize("hard", ["label", "thought"])
def test_a_source_rich_in_what_the_model_tells_badly_is_not_accused(hard):
    """Rows of class 2, or that are taken for it, are wrongly told alike whoever brought them."""
    named = {"rich": 0, "bad": 0}
    for seed in range(8):
        rng = np.random.default_rng(seed)
        of = np.repeat(np.arange(20), 100)
        shown = np.where((of == 3) & (rng.random(2000) < 0.9), 2, rng.integers(0, 3, 2000))
        mistaken = (shown == 2) & (rng.random(2000) < 0.2)
        other = np.where(mistaken, rng.integers(0, 2, 2000), shown)
        labels, likely = (shown, other) if hard == "label" else (other, shown)
        moved = (of == 11) & (rng.random(2000) < 0.3)
        labels = np.where(moved, (labels + rng.integers(1, 3, 2000)) % 3, labels)
        sure = rng.uniform(0.88, 0.96, 2000)
        shares = np.repeat((1.0 - sure)[:, None] / 2, 3, axis=1)
        shares[np.arange(2000), likely] = sure
        told = {a.number for a in accused(Surprise.of(labels, shares), of) if a.p_value <= 0.05}
        named["bad"] += 11 in told
        named["rich"] += 3 in told
    assert named["rich"] == 0
    assert named["bad"] >= 7


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("wrong", [13, 30])
def test_a_source_of_its_own_content_is_not_accused_where_the_model_errs_somewhat_more(
    wrong, shared
):
    """Errors on rows of a kind come together: only where others have such rows is it told."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        of = np.repeat(np.arange(20), 100)
        shown = rng.integers(0, 3, 2000)
        moved = np.where(of == 3, np.arange(2000) % 100 < wrong, rng.random(2000) < 0.03)
        labels = np.where(moved, (shown + rng.integers(1, 3, 2000)) % 3, shown)
        sure = rng.uniform(0.88, 0.96, 2000)
        shares = np.repeat((1.0 - sure)[:, None] / 2, 3, axis=1)
        shares[np.arange(2000), shown] = sure
        like = rng.random(2000) + 2.0 * ((of == 3) & (not shared))
        told = accused(Surprise.of(labels, shares), of, content=lambda _, like=like: like)
        one = next(a for a in told if a.number == 3)
        assert (one.by_chance <= 0.02) == (shared or wrong == 30)
        assert one.by_content != shared or (wrong == 13 and not one.by_content)


@pytest.mark.parametrize("own", [True, False])
def test_a_source_far_beyond_the_others_whose_content_is_its_own_is_suspect_not_failed(own):
    """Its labels are told with certainty, and nobody else's contradict at all."""
    rng = np.random.default_rng(6)
    says = [["dull", "poor", "weak", "stale"], ["fine", "great", "warm", "vivid"]]
    about = [["film", "plot", "cast", "scene"], ["soup", "bread", "salad", "wine"]]
    labels, who = rng.integers(0, 2, 1200), rng.permutation(np.arange(1200) % 20)
    texts = [
        " ".join([*rng.choice(says[y], 2), *rng.choice(about[int(own and w == 7)], 3)])
        for y, w in zip(labels, who, strict=True)
    ]
    labels = np.where((who == 7) & (rng.random(1200) < 0.4), 1 - labels, labels)
    frame = pl.DataFrame({"t": texts, "y": labels, "who": who})
    finding = _look(Dataset.of(frame, Roles.of(text="t", label="y", source="who")))
    assert finding.verdict == ("suspect" if own else "fail")
    assert finding.details["source"] == "7"
    assert finding.details["content_may_explain"] == own


def test_a_source_with_most_of_a_label_that_is_told_badly_is_suspect_not_failed():
    """One annotator gives a rare label that no model finds: a specialist, or a liar."""
    rng = np.random.default_rng(4)
    labels = np.where(rng.random(3000) < 0.02, 2, rng.integers(0, 2, 3000))
    who = rng.integers(0, 30, 3000)
    labels[(who == 7) & (rng.random(3000) < 0.5)] = 2
    x = np.eye(2)[rng.integers(0, 2, 3000) * (labels == 2) + labels * (labels < 2)]
    frame = pl.DataFrame({"x": x[:, 0] + 0.1 * rng.normal(size=3000), "y": labels, "who": who})
    finding = _look(Dataset.of(frame, Roles.of(label="y", source="who")))
    assert finding.verdict == "suspect"
    assert finding.details["source"] == "7"
    assert finding.details["mix_may_explain"]


def test_a_label_or_a_source_of_lists_is_no_bug():
    table = {"x": np.arange(300.0), "y": [0, 1] * 150, "l": [[i % 3] for i in range(300)]}
    asked = [
        ("not one value", Roles.of(label="l", source="y")),
        ("fewer than two", Roles.of(label="y", source="l")),
    ]
    for why, roles in asked:
        finding = _look(Dataset.of(pa.table(table), roles))
        assert finding.verdict == "not_evaluated"
        assert why in finding.says


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"x": [1.0, 2.0], "y": [0, 1], "who": ["a", "b"]}),
        pa.table({"x": np.arange(300.0), "y": np.zeros(300, int), "who": ["a", "b"] * 150}),
        pa.table({"x": np.arange(300.0), "y": [0, 1] * 150, "who": ["a"] * 300}),
        pa.table({"x": np.arange(300.0), "y": [0, 1] * 150, "who": pa.nulls(300, pa.string())}),
        pa.table({"y": [0, 1] * 150, "who": ["a", "b", "c"] * 100}),
        pa.table({"x": np.arange(300.0), "y": [0, 1] * 150, "who": [str(i) for i in range(300)]}),
    ],
)
def test_what_cannot_be_judged_is_not_evaluated(table):
    assert _look(Dataset.of(table, Roles.of(label="y", source="who"))).verdict == "not_evaluated"


def test_bad_parameters_are_told():
    assert len(SourceShift(folds=0, alpha=0.0).check()) == 2


def test_it_keeps_the_contract():
    assert not check_stage(SourceShift()).failed


def test_sources_of_as_many_rows_are_counted_out_together(monkeypatch) -> None:
    """A thousand sources of some ten rows took a transform each."""
    rng = np.random.default_rng(8)
    pool = np.round(rng.exponential(0.3, 2000) / 0.005) * 0.005
    sizes = rng.integers(9, 12, 60)
    sums = np.array([float(rng.choice(pool, n).sum()) for n in sizes])
    alone = [sum_tail(pool, t, int(n)) for t, n in zip(sums, sizes, strict=True)]
    turned, irfft = [], np.fft.irfft
    monkeypatch.setattr(np.fft, "irfft", lambda *a: turned.append(1) or irfft(*a))
    assert np.allclose(sum_tails(pool, sums, sizes), alone, rtol=1e-9)
    assert len(turned) == 3


def _large(seed, *, moved):
    """Six classes; one source of forty brings a quarter of the rows, and may move a class."""
    rng = np.random.default_rng(seed)
    shown = rng.integers(0, 6, 1400)
    x = 2.4 * rng.permutation(np.eye(6))[shown] + 0.6 * rng.normal(size=(1400, 6))
    who = np.where(rng.random(1400) < 0.25, 0, rng.integers(1, 40, 1400))
    lied = np.flatnonzero((who == 0) & (shown == 1))[:moved]
    labels = shown.copy()
    labels[lied] = 2
    frame = pl.DataFrame({**{f"x{i}": x[:, i] for i in range(6)}, "y": labels, "who": who})
    return Dataset.of(frame, Roles.of(label="y", source="who"))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_source_that_taught_the_model_its_lie_is_found(seed):
    """Of rows that look like class 1 a quarter are labelled 2: to that model it is no surprise."""
    finding = _look(_large(seed, moved=60))
    assert finding.verdict == "fail"
    assert [s["source"] for s in finding.details["sources"]] == ["0"]
    assert finding.details["pair"] == ["1", "2"]
    assert _look(_large(seed, moved=0)).verdict == "clean"


@pytest.mark.parametrize("kind", ["label", "content"])
def test_a_large_source_of_what_nobody_else_has_is_not_judged_by_a_model_without_it(kind):
    """A model that did not learn from it knows nothing of its rows, and contradicts them all."""
    for seed in range(3):
        rng = np.random.default_rng([seed, 7])
        who = np.where(rng.random(1200) < 0.2, 0, rng.integers(1, 20, 1200))
        own = who == 0
        shown = rng.integers(0, 3, 1200)
        labels = np.where(own & (shown == 2), 3, shown) if kind == "label" else shown
        x = 2.0 * np.eye(4)[labels] + 0.5 * rng.normal(size=(1200, 4))
        if kind == "content":  # the same classes, told by other columns
            x = np.where(own[:, None], np.roll(x, 1, axis=1) + 4.0, x)
        hard = rng.random(1200) < 0.06
        labels = np.where(hard, (labels + 1) % 3, labels)
        frame = pl.DataFrame({**{f"x{i}": x[:, i] for i in range(4)}, "y": labels, "who": who})
        finding = _look(Dataset.of(frame, Roles.of(label="y", source="who")))
        assert finding.details["sources"] == []


def test_large_honest_sources_lie_farther_out_than_small_ones():
    """What sets a source apart sets all its rows apart: sums of many rows are wider by more."""
    rng = np.random.default_rng(2)
    sizes = (1200 / np.arange(1, 41)).astype(np.int64)
    z = rng.normal(size=40) * np.sqrt(1 + 0.03 * (sizes - 1))
    made = natural_spread(np.array([0.5 * math.erfc(v / math.sqrt(2)) for v in z]), sizes)
    assert made[0] > 8 * made[-1]
    assert 0.25 < (made[0] - 1) / (0.03 * 1199) < 4
    alike = natural_spread(rng.random(40), sizes)
    assert np.all(alike < 1.5)


def _rated(seed, rates, rows=100, classes=4):
    """People with an error rate each, judged by a model that is sure and right of every row."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(rates.size), rows)
    truth = rng.integers(0, classes, of.size)
    wrong = rng.random(of.size) < rates[of]
    labels = np.where(wrong, (truth + rng.integers(1, classes, of.size)) % classes, truth)
    shares = np.full((of.size, classes), 0.05 / (classes - 1))
    shares[np.arange(of.size), truth] = 0.95
    return accused(Surprise.of(labels, shares), of)


@pytest.mark.parametrize(
    "rates",
    [
        lambda rng: rng.beta(2, 38, 50),
        lambda rng: rng.beta(1, 19, 50),
        lambda rng: np.where(rng.random(50) < 0.2, 0.12, 0.02),
    ],
)
def test_the_most_careless_of_honest_people_who_differ_widely_is_not_accused(rates):
    """Of 60 crowds each: 3 are what 5 in 100 make."""
    named = 0
    for seed in range(60):
        people = _rated(seed, rates(np.random.default_rng([seed, 1])))
        named += any(p.by_chance <= 0.02 and p.by_spread <= CARELESS for p in people)
    assert named <= 3


def test_liars_do_not_hide_each_other():
    """Two far beyond the rest make it look as if honest people differed widely."""
    for seed in range(4):
        rates = np.full(50, 0.02)
        rates[[7, 11]] = 0.3
        people = _rated(seed, rates)
        assert {p.number for p in people if p.by_spread <= CARELESS} == {7, 11}


@pytest.mark.parametrize("usual", [0.0, 0.01, 0.03])
def test_a_liar_among_people_who_hardly_err_is_found(usual):
    """Most of them made no mistake at all: such ties say nothing of how people differ."""
    for seed in range(4):
        rates = np.full(50, usual)
        rates[7] = 0.25
        liar = _rated(seed, rates)[0]
        assert liar.number == 7
        assert liar.by_chance <= SURE * 0.02
        assert liar.by_spread <= CARELESS


def _answered(seed, bad, *, items=300, voices=3, people=20, noise=0.03, role="annotator"):
    """Every item is answered by three of twenty; what items hold tells little of their class.

    `bad` says what a person, or two, make of true classes; who that is comes back, too.
    """
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, items)
    x = rng.normal(size=(items, 4)) + 1.2 * np.eye(4)[truth]
    who = np.array([rng.choice(people, voices, replace=False) for _ in range(items)])
    rates = noise * rng.uniform(0, 2, people)
    hard = np.where(rng.random(items) < 0.2, 3.0, 0.5)
    wrong = rng.random((items, voices)) < rates[who] * hard[:, None]
    tempting = (truth + rng.integers(1, 3, items)) % 3
    said = np.where(wrong, tempting[:, None], truth[:, None])
    said = bad(rng, truth, who, said)
    frame = pl.DataFrame(
        {
            **{f"x{i}": np.repeat(x[:, i], voices) for i in range(4)},
            "y": said.ravel(),
            "who": [f"person {w:02d}" for w in who.ravel()],
        }
    )
    return Dataset.of(frame[rng.permutation(frame.height)], Roles.of(label="y", **{role: "who"}))


def _nothing(rng, truth, who, said):
    return said


def _some_at_random(rng, truth, who, said):
    moved = (who == 7) & (rng.random(who.shape) < 0.4)
    return np.where(moved, (said + rng.integers(1, 3, who.shape)) % 3, said)


def _one_pair(rng, truth, who, said):
    return np.where((who == 7) & (said == 1) & (rng.random(who.shape) < 0.9), 2, said)


def _always_the_same(rng, truth, who, said):
    return np.where(who == 7, 2, said)


def _two_of_one_mind(rng, truth, who, said):
    lie = np.where(rng.random(truth.size) < 0.5, (truth + 1) % 3, truth)
    return np.where(np.isin(who, (7, 8)), lie[:, None], said)


@pytest.mark.parametrize(
    ("bad", "names"),
    [
        (_some_at_random, {"person 07"}),
        (_one_pair, {"person 07"}),
        (_always_the_same, {"person 07"}),
        (_two_of_one_mind, {"person 07", "person 08"}),
    ],
)
def test_who_contradicts_the_others_answers_to_the_same_items_is_named(bad, names):
    """Content alone tells too little here: what others said of an item tells its class."""
    for seed in (1, 2):
        told = _look(_answered(seed, bad)).details["sources"]
        found = {s["source"] for s in told}
        assert found
        assert found <= names  # of two among twenty each makes the other look usual


def test_honest_annotators_of_uneven_skill_and_hard_items_are_not_accused():
    for seed in range(5):
        finding = _look(_answered(seed, _nothing))
        assert finding.details["sources"] == []


def test_a_row_repeated_by_its_source_is_one_witness():
    """Four odd labels among forty are no proof, and neither are ten copies of each."""
    rng = np.random.default_rng(4)
    y = rng.integers(0, 3, 800)
    x = 3.0 * np.eye(3)[y] + 0.5 * rng.normal(size=(800, 3))
    who = np.arange(800) % 20
    odd = np.r_[np.flatnonzero(who == 3)[:2], rng.permutation(np.flatnonzero(who != 3))[:24]]
    y[odd] = (y[odd] + 1) % 3
    often = np.ones(800, int)
    often[odd[:2]] = 12
    for times in (np.ones(800, int), often, 2 * np.ones(800, int)):
        rows = np.repeat(np.arange(800), times)
        frame = pl.DataFrame({**{f"x{i}": x[rows, i] for i in range(3)}, "y": y[rows]})
        data = Dataset.of(
            frame.with_columns(who=pl.Series(who[rows])), Roles.of(label="y", source="who")
        )
        finding = _look(data)
        assert finding.details["sources"] == []
        assert finding.rows.height == rows.size


def test_a_column_that_copies_the_label_hides_no_source():
    data, bad, _ = _contributed(1, flips=0.5, sources=10, each=60)
    frame = data.frame()
    copied = frame.with_columns(copy=pl.concat_str(pl.lit("class "), pl.col("y")))
    finding = _look(Dataset.of(copied, data.roles))
    assert finding.details["source"] == bad
    assert finding.details["copies"] == ["copy"]
