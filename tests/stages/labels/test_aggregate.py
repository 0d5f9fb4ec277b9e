# SPDX-License-Identifier: Apache-2.0
"""The stage joins every kind of answer, says how it chose, and keeps disagreement."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.errors import Malformed, SchemaMismatch
from datapipe.stages.labels.aggregate import AggregateAnswers

ROLES = Roles.of(id="item", annotator="who", label="said")


def _crowd(seed=0, *, skills=(0.95, 0.9, 0.8, 0.6, 0.5), items=150, classes=3):
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, items)
    item, who = np.repeat(np.arange(items), len(skills)), np.tile(np.arange(len(skills)), items)
    right = rng.random(item.size) < np.asarray(skills)[who]
    said = np.where(right, true[item], (true[item] + rng.integers(1, classes, item.size)) % classes)
    return pl.DataFrame({"item": item, "who": who, "said": said}), true


def _joined(stage, frame, tmp_path):
    made = stage.run(Dataset.of(frame, ROLES), Context(0, tmp_path))
    return made, {a.name.partition(".")[2]: pl.read_parquet(a.path) for a in made.artifacts}


def test_it_says_how_it_chose_and_keeps_soft_labels(tmp_path):
    frame, true = _crowd()
    made, tables = _joined(AggregateAnswers(), frame, tmp_path)
    labels, told = tables["labels"], made.findings[0].details
    assert (labels["label"].to_numpy() == true).mean() > 0.9
    assert sum(told["weights"].values()) == pytest.approx(1)
    assert told["scores"]["dawid_skene"]["low"] < told["scores"]["dawid_skene"]["high"]
    soft = np.array(labels["probabilities"].to_list())
    assert np.allclose(soft.sum(1), 1)
    split = frame.group_by("item").agg(pl.col("said").n_unique()).sort("item")["said"].to_numpy()
    assert soft.max(1)[split == 1].mean() > soft.max(1)[split == 3].mean() + 0.1


def test_strings_repeats_gaps_and_nan_are_answers_or_left_out(tmp_path):
    frame, true = _crowd()
    odd = frame.select(
        item=pl.format("q{}", "item"), who=pl.format("w{}", "who"), said=pl.format("é{}", "said")
    )
    gaps = pl.DataFrame(
        {"item": [None, "q1", "q2"], "who": ["w1", None, "w1"], "said": ["é1", "é1", None]}
    )
    made, tables = _joined(AggregateAnswers(), pl.concat([odd, odd.head(200), gaps]), tmp_path)
    by_item = {f"q{i}": f"é{t}" for i, t in enumerate(true)}
    right = [by_item[i] == y for i, y in tables["labels"].select("item", "label").rows()]
    assert np.mean(right) > 0.9
    assert made.findings[0].details["repeated_answers"] == 400
    floats = frame.with_columns(pl.col("said").cast(pl.Float64))
    floats[5, "said"] = float("nan")
    _, tables = _joined(AggregateAnswers(), floats, tmp_path)
    assert not tables["labels"]["label"].is_nan().any()


def test_gold_must_be_one_label_of_the_answers_type(tmp_path):
    frame, true = _crowd()
    gold = pl.when(pl.col("item") < 30).then(pl.Series(true).gather(frame["item"]))
    told = frame.with_columns(gold=gold)
    _, tables = _joined(AggregateAnswers(gold="gold"), told, tmp_path)
    assert tables["labels"]["label"].to_list()[:30] == true[:30].tolist()
    twice = told.with_columns(gold=pl.int_range(pl.len()) % 2)
    with pytest.raises(Malformed, match="two different gold labels"):
        _joined(AggregateAnswers(gold="gold"), twice, tmp_path)
    with pytest.raises(SchemaMismatch, match="gold labels are"):
        _joined(AggregateAnswers(gold="gold"), told.cast({"gold": pl.String}), tmp_path)
    new = told.with_columns(gold=pl.when(pl.col("item") == 0).then(7))
    _, tables = _joined(AggregateAnswers(gold="gold"), new, tmp_path)
    assert tables["labels"]["label"][0] == 7  # a class that nobody answered


def test_numbers_and_pairs(tmp_path):
    rng = np.random.default_rng(1)
    level = rng.normal(0, 5, 40)
    item, who = np.repeat(np.arange(40), 4), np.tile(np.arange(4), 40)
    frame = pl.DataFrame({"item": item, "who": who, "said": level[item] + rng.normal(size=160)})
    _, tables = _joined(AggregateAnswers(kind="value"), frame, tmp_path)
    labels = tables["labels"]
    assert np.corrcoef(labels["label"], level)[0, 1] > 0.97
    assert (labels["low"] < labels["label"]).all()
    left, right = rng.integers(0, 40, 900), rng.integers(0, 40, 900)
    better = np.where(level[left] + rng.normal(size=900) > level[right], left, right)
    pairs = pl.DataFrame({"item": left, "other": right, "who": left % 3, "said": better})
    pairs = pairs.filter(pl.col("item") != pl.col("other"))
    _, tables = _joined(AggregateAnswers(kind="pair", versus="other"), pairs, tmp_path)
    assert np.corrcoef(tables["labels"]["strength"], level)[0, 1] > 0.9
    with pytest.raises(SchemaMismatch, match="numbers are needed"):
        _joined(AggregateAnswers(kind="value"), frame.cast({"said": pl.String}), tmp_path)


def test_same_seed_same_posteriors(tmp_path):
    frame, _ = _crowd()
    first, second = (_joined(AggregateAnswers(), frame, tmp_path)[1] for _ in range(2))
    assert first["labels"].equals(second["labels"])


def test_bad_parameters_are_told():
    wrong = AggregateAnswers(method="best", kind="text", versus="b").check()
    assert len(wrong) == 3
