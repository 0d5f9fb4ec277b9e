# SPDX-License-Identifier: Apache-2.0
"""Group balance: figures equal their plain formulas, and only real gaps are accused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import Finding
from datapipe.core.roles import Roles
from datapipe.stages.balance.groups import Cell, GroupBalance, extremes


def look(frame: pl.DataFrame, context: Context, *, stage: GroupBalance | None = None) -> Finding:
    return every(frame, context, stage=stage)[0]


def every(
    frame: pl.DataFrame, context: Context, *, stage: GroupBalance | None = None
) -> tuple[Finding, ...]:
    groups = tuple(c for c in frame.columns if c != "y")
    data = Dataset.of(frame, Roles({"label": ("y",), "group": groups}))
    return (stage or GroupBalance()).run(data, context).findings


def drawn(rng: np.random.Generator, n: int, rates: dict[str, float]) -> pl.DataFrame:
    groups = rng.choice(list(rates), n)
    hits = rng.random(n) < np.array([rates[g] for g in groups])
    return pl.DataFrame({"g": groups, "y": hits.astype(np.int64)})


def test_points_equal_the_plain_formulas(context) -> None:
    """What fairlearn calls demographic parity: extremes over the group rates of label 1."""
    rng = np.random.default_rng(1)
    frame = drawn(rng, 3000, {"a": 0.3, "b": 0.5, "c": 0.41, "d": 0.2})
    rates = frame.group_by("g").agg(pl.col("y").mean())["y"].to_numpy()
    details = look(frame, context).details
    assert abs(details["parity_difference"]["value"] - (rates.max() - rates.min())) < 1e-12
    assert abs(details["parity_ratio"]["value"] - rates.min() / rates.max()) < 1e-12
    for line in details["groups"]:
        own = frame["g"] == line["group"]
        inside, outside = frame.filter(own)["y"].mean(), frame.filter(~own)["y"].mean()
        assert abs(line["rate"]["value"] - inside) < 1e-12
        assert abs(line["difference"]["value"] - (inside - outside)) < 1e-12
        assert abs(line["ratio"]["value"] - inside / outside) < 1e-12


def test_a_planted_gap_is_found_and_named(context) -> None:
    rng = np.random.default_rng(2)
    found = look(drawn(rng, 3000, {"a": 0.4, "b": 0.4, "c": 0.2}), context)
    assert found.verdict == "suspect"
    assert {"label": "1", "group": "c"} in found.details["unlike"]
    assert found.p_value < 1e-6
    assert found.measure.high < 0.8


def test_equal_rates_are_rarely_accused(context) -> None:
    rng = np.random.default_rng(3)
    rates = dict.fromkeys("abcdefgh", 0.3)
    alarms = sum(look(drawn(rng, 1200, rates), context).verdict != "clean" for _ in range(200))
    assert alarms <= 10


def test_a_small_gap_in_a_large_sample_is_within_bounds(context) -> None:
    rng = np.random.default_rng(4)
    found = look(drawn(rng, 200_000, {"a": 0.40, "b": 0.42}), context)
    assert found.verdict == "clean"
    assert found.p_value < 1e-6


def test_intervals_cover(context) -> None:
    rng = np.random.default_rng(5)
    inside = {"difference": 0, "ratio": 0}
    for _ in range(300):
        lines = look(drawn(rng, 500, {"a": 0.3, "b": 0.5}), context).details["groups"]
        line = next(x for x in lines if x["group"] == "a")
        inside["difference"] += line["difference"]["low"] <= -0.2 <= line["difference"]["high"]
        inside["ratio"] += line["ratio"]["low"] <= 0.6 <= line["ratio"]["high"]
    assert all(0.92 <= k / 300 <= 0.98 for k in inside.values())


def test_small_groups_are_listed_and_not_judged(context) -> None:
    rng = np.random.default_rng(6)
    frame = drawn(rng, 2000, {"a": 0.5, "b": 0.5})
    tiny = pl.DataFrame({"g": ["t"] * 9, "y": [0] * 9})
    found = look(pl.concat([frame, tiny]), context)
    assert found.verdict == "clean"
    assert found.details["small_groups"] == {"t": 9}
    assert found.details["parity_ratio"]["value"] == 0.0
    assert "t" not in {line["group"] for line in found.details["groups"]}


def test_intersections_are_looked_at(context) -> None:
    rng = np.random.default_rng(7)
    frame = pl.DataFrame({"s": rng.choice(["f", "m"], 4000), "r": rng.choice(["u", "v"], 4000)})
    odd = ((frame["s"] == "f") == (frame["r"] == "u")).to_numpy()
    labels = (rng.random(4000) < np.where(odd, 0.2, 0.5)).astype(int)
    findings = every(frame.with_columns(y=pl.Series(labels)), context)
    assert [f.columns for f in findings] == [("s",), ("r",), ("s", "r")]
    assert [f.verdict for f in findings] == ["clean", "clean", "suspect"]


def test_many_classes_are_each_looked_at(context) -> None:
    rng = np.random.default_rng(8)
    labels = rng.choice(["x", "y", "z"], 3000)
    groups = np.where((labels == "y") & (rng.random(3000) < 0.7), "a", rng.choice(["a", "b"], 3000))
    found = look(pl.DataFrame({"g": groups, "y": labels}), context)
    assert found.details["favourable"] == "y"
    assert found.verdict == "suspect"


def test_ages_are_cut_at_quartiles(context) -> None:
    rng = np.random.default_rng(9)
    age = rng.integers(18, 90, 4000)
    frame = pl.DataFrame({"age": age, "y": (rng.random(4000) < age / 120).astype(int)})
    found = look(frame, context)
    assert len(found.details["groups"]) == 4
    assert found.verdict == "suspect"


@pytest.mark.parametrize(
    "frame",
    [
        {"g": ["a"] * 100, "y": [0, 1] * 50},
        {"g": ["a", "b"] * 50, "y": [1] * 100},
        {"g": [None] * 100, "y": [0, 1] * 50},
        {"g": ["a", "b"] * 5, "y": [0, 1] * 5},
        {"g": ["a", "b"] * 50, "y": np.random.default_rng(1).normal(size=100)},
    ],
)
def test_what_cannot_be_compared_is_not_evaluated(frame, context) -> None:
    assert look(pl.DataFrame(frame), context).verdict == "not_evaluated"


def test_a_favourable_label_that_nobody_has_is_not_evaluated(context) -> None:
    frame = pl.DataFrame({"g": ["a", "b"] * 50, "y": ["n", "p"] * 50})
    assert look(frame, context, stage=GroupBalance(favourable="q")).verdict == "not_evaluated"
    assert look(frame, context, stage=GroupBalance(favourable="n")).details["favourable"] == "n"


def test_p_value_equals_scipy() -> None:
    for counts in ((40, 9, 60, 30), (200, 100, 300, 140)):
        rows, hits, others, other_hits = counts
        table = [[hits, rows - hits], [other_hits, others - other_hits]]
        theirs = stats.chi2_contingency(table, correction=False).pvalue
        assert Cell("g", *counts).p_value == pytest.approx(theirs)
    thin = [[1, 29], [4, 66]]
    corrected = stats.chi2_contingency(thin, correction=True).pvalue
    assert Cell("g", 30, 1, 70, 4).p_value == pytest.approx(corrected)


def test_extremes_of_two_groups_need_no_correction() -> None:
    gap, ratio = extremes([Cell("a", 100, 30, 100, 60), Cell("b", 100, 60, 100, 30)])
    assert (gap.value, ratio.value) == (pytest.approx(0.3), 0.5)
    assert "pairs" not in gap.method
    three = [Cell(g, 100, h, 200, 0) for g, h in (("a", 30), ("b", 40), ("c", 60))]
    assert extremes(three)[0].low < gap.low


def test_real_groups(context, real_data) -> None:
    frame = pl.read_parquet(real_data("poison/adult_dev.parquet"))
    frame = frame.select("sex", "race", y="income")
    sex, race, both = every(frame, context)
    rates = {k: (frame.filter(sex=k)["y"] == ">50K").mean() for k in ("Female", "Male")}
    assert sex.details["favourable"] == ">50K"
    assert abs(sex.measure.value - rates["Female"] / rates["Male"]) < 1e-12
    assert sex.measure.high < 0.8
    assert {f.verdict for f in (sex, race, both)} == {"suspect"}


def test_wrong_parameters_are_told() -> None:
    assert len(GroupBalance(least_ratio=0, fewest=0).check()) == 2
    assert GroupBalance().check() == []
