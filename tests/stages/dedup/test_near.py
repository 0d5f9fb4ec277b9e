# SPDX-License-Identifier: Apache-2.0
"""Near-duplicate images and rows: planted copies are found, and clean data stays whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.finding import Finding
from datapipe.core.roles import Roles
from datapipe.measure import neighbour_graph
from datapipe.measure.detection import auroc
from datapipe.measure.intervals import precision_recall
from datapipe.stages.dedup._tail import is_ladder, rows_below, tail_p_values
from datapipe.stages.dedup.near import NearDuplicates

DIGITS = load_digits().data
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def look(values: np.ndarray, context: Context, *, image: bool = True) -> Finding:
    frame = pl.DataFrame({f"p{i}": values[:, i] for i in range(values.shape[1])})
    data = Dataset.of(frame, Roles.of(image="p*") if image else None)
    return NearDuplicates().run(data, context).findings[0]


def one_pixel(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    made = x.copy()
    made[np.arange(len(x)), rng.integers(0, x.shape[1], len(x))] = rng.integers(0, 17, len(x))
    return made


def mixed(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    kinds = list(CHANGES.values())
    return np.vstack([kinds[i % len(kinds)](x[i : i + 1], rng) for i in range(len(x))])


CHANGES: dict[str, Change] = {
    "noise of half a level": lambda x, rng: x + rng.normal(0, 0.5, x.shape),
    "noise of one level": lambda x, rng: x + rng.normal(0, 1.0, x.shape),
    "noise, rounded and clipped": lambda x, rng: np.clip(
        np.round(x + rng.normal(0, 0.8, x.shape)), 0, 16
    ),
    "brighter": lambda x, _: x + 1,
    "darker, clipped": lambda x, _: np.clip(x - 1, 0, 16),
    "one pixel": one_pixel,
    "nothing": lambda x, _: x,
}


def test_undamaged_digits_stay_whole(context) -> None:
    """At most one of twenty subsamples may lose a row, and the whole set none."""
    rng = np.random.default_rng(1)
    assert look(DIGITS, context).verdict == "clean"
    alarms = 0
    for _ in range(20):
        some = DIGITS[rng.choice(len(DIGITS), rng.integers(500, len(DIGITS)), replace=False)]
        alarms += look(some, context).verdict != "clean"
    assert alarms <= 1


@pytest.mark.parametrize("planted", [40, 150])
@pytest.mark.parametrize("change", [*CHANGES, "all of them"])
def test_planted_copies_are_found(change, planted, context) -> None:
    rng = np.random.default_rng(planted)
    sources = rng.choice(len(DIGITS), planted, replace=False)
    copies = CHANGES.get(change, mixed)(DIGITS[sources], rng)
    found = look(np.vstack([DIGITS, copies]), context)
    truth = np.arange(len(DIGITS) + planted) >= len(DIGITS)
    precision, recall = precision_recall(found.rows["flagged"], truth)
    assert precision.value >= 0.95
    assert recall.value >= 0.95
    assert auroc(truth, found.rows["score"].to_numpy()).value >= 0.98
    named = found.flagged.filter(pl.col("row_id") >= len(DIGITS))
    right = [f"near-duplicate of 0:{sources[i - len(DIGITS)]}" for i in named["row_id"].to_list()]
    assert np.mean(np.array(right) == named["reason"].to_numpy()) >= 0.95


def test_many_copies_of_one_image_are_one_cluster(context) -> None:
    rng = np.random.default_rng(2)
    copies = DIGITS[[7] * 12] + rng.normal(0, 0.4, (12, 64))
    found = look(np.vstack([DIGITS, copies]), context)
    assert found.details["clusters"] == 1
    assert found.details["largest_cluster"] == 13
    assert set(found.flagged["reason"]) == {"near-duplicate of 0:7"}


def test_missing_pixels_neither_hide_nor_make_copies(context) -> None:
    rng = np.random.default_rng(3)
    holes = np.where(rng.random(DIGITS.shape) < 0.02, np.nan, DIGITS)
    assert look(holes, context).verdict == "clean"
    copies = DIGITS[:80] + rng.normal(0, 0.4, (80, 64))
    copies[rng.random(copies.shape) < 0.02] = np.nan
    found = look(np.vstack([DIGITS, copies]), context)
    truth = np.arange(len(DIGITS) + 80) >= len(DIGITS)
    precision, recall = precision_recall(found.rows["flagged"], truth)
    assert min(precision.value, recall.value) >= 0.95


def test_unknown_pictures_resemble_nothing(context) -> None:
    blind = np.vstack([DIGITS[:600], np.full((3, 64), np.nan)])
    blind[-3:, :10] = 0.0
    assert look(blind, context).verdict == "clean"


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine, load_diabetes])
def test_clean_tables_stay_whole(load, context) -> None:
    values, rng = load().data, np.random.default_rng(4)
    for _ in range(10):
        some = values[rng.choice(len(values), round(0.8 * len(values)), replace=False)]
        assert look(some, context, image=False).verdict == "clean"


def test_rows_copied_with_jitter_are_found(context) -> None:
    rng = np.random.default_rng(5)
    values = load_breast_cancer().data
    sources = rng.choice(len(values), 40, replace=False)
    jitter = rng.normal(0, 0.03, (40, values.shape[1])) * values.std(axis=0)
    found = look(np.vstack([values, values[sources] + jitter]), context, image=False)
    truth = np.arange(len(values) + 40) >= len(values)
    precision, recall = precision_recall(found.rows["flagged"], truth)
    assert min(precision.value, recall.value) >= 0.95


def test_equal_table_rows_are_left_to_exact(context) -> None:
    values = load_wine().data
    assert look(np.vstack([values, values[:30]]), context, image=False).verdict == "clean"


def test_a_coarse_table_is_not_evaluated(context) -> None:
    values = np.random.default_rng(6).integers(0, 5, (800, 4)).astype(float)
    assert look(values, context, image=False).verdict == "not_evaluated"


def kinds_world(n: int, copies: int, rng: np.random.Generator) -> pl.DataFrame:
    """Correlated numbers of heavy tails and categories, rare ones among them; then copies."""
    values = rng.normal(size=(n, 3)) @ rng.normal(size=(3, 7)) + 0.3 * rng.standard_t(3, (n, 7))
    frame = pl.DataFrame({f"x{i}": values[:, i] for i in range(7)}).with_columns(
        shop=pl.Series([f"s{i}" for i in rng.integers(0, 200, n)]),
        paid=pl.Series(rng.random(n) < 0.9),
    )
    more = frame[rng.choice(n, copies, replace=False)]
    jitter = [pl.col(f"x{i}") + pl.Series(rng.normal(0, 0.02, copies)) for i in range(7)]
    return pl.concat([frame, more.with_columns(jitter)])


@pytest.mark.parametrize("exact", [10_000, 1_000])
@pytest.mark.parametrize("planted", [0, 60])
def test_rows_of_other_categories_are_no_copies(planted, exact, context, monkeypatch) -> None:
    """Rows near a wall between categories are no bulk to hold the others against."""
    monkeypatch.setattr(neighbour_graph, "EXACT", exact)
    frame = kinds_world(6_000, planted, np.random.default_rng(11))
    found = NearDuplicates().run(Dataset.of(frame), context).findings[0]
    assert ("recall" in found.details) == (exact < 6_000)
    if not planted:
        assert found.verdict == "clean"
        return
    precision, recall = precision_recall(found.rows["flagged"], np.arange(6_060) >= 6_000)
    assert min(precision.value, recall.value) >= 0.95


def test_rows_that_hardly_share_their_categories_are_not_evaluated(context) -> None:
    rng = np.random.default_rng(12)
    codes = {f"c{i}": rng.integers(0, 20, 3_000).astype(str) for i in range(8)}
    frame = pl.DataFrame({**codes, **{f"x{i}": rng.normal(size=3_000) for i in range(3)}})
    found = NearDuplicates().run(Dataset.of(frame), context).findings[0]
    assert found.verdict == "not_evaluated"
    assert "categories" in found.says


def test_no_clean_where_too_few_near_pairs_are_compared(context, monkeypatch) -> None:
    for name, value in (("EXACT", 1_000), ("PROBED", 2), ("FEWEST_TREES", 1), ("MOST_TREES", 1)):
        monkeypatch.setattr(neighbour_graph, name, value)
    values = np.random.default_rng(13).normal(size=(4_000, 12))
    found = look(values, context, image=False)
    assert found.verdict == "not_evaluated"
    assert found.details["recall"]["high"] < 0.9


def test_few_rows_and_constant_rows_are_not_evaluated(context) -> None:
    assert look(DIGITS[:20], context).verdict == "not_evaluated"
    assert look(np.ones((100, 64)), context).verdict == "not_evaluated"
    only_label = Dataset.of(pl.DataFrame({"y": [0, 1] * 50}), Roles.of(label="y"))
    assert NearDuplicates().run(only_label, context).findings[0].verdict == "not_evaluated"


def test_same_seed_same_answer(context) -> None:
    values = np.vstack([DIGITS[:600], DIGITS[:20] + 0.5])
    assert look(values, context).rows.equals(look(values, context).rows)


def test_wrong_parameters_are_told() -> None:
    assert len(NearDuplicates(level=0).check()) == 1
    assert NearDuplicates().check() == []


def test_the_tail_of_one_population_holds_no_strangers() -> None:
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(200):
        values = np.log(rng.random(int(rng.integers(100, 2000)))) / rng.uniform(2, 20)
        alarms += rows_below(values, 0.05) > 0
    assert alarms <= 18  # 0.05 of 200, and two and a half standard errors


def test_strangers_are_counted() -> None:
    rng = np.random.default_rng(8)
    values = np.concatenate([np.log(rng.random(1000)) / 8, rng.normal(-2.5, 0.2, 120)])
    assert abs(rows_below(values, 0.05) - 120) <= 2


def test_tail_p_values_are_shares() -> None:
    rng = np.random.default_rng(9)
    reference, fresh = (np.log(rng.random(4000)) / 5 for _ in range(2))
    p = tail_p_values(fresh, reference)
    for bar in (0.01, 0.05, 0.3, 0.8):
        assert (p <= bar).mean() <= bar + 4 * np.sqrt(bar * (1 - bar) / 4000)
    assert not is_ladder(reference)
    assert is_ladder(np.round(reference, 1))
