# SPDX-License-Identifier: Apache-2.0
"""The bot and the tired are named, the sound left alone, and order of time counts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.errors import SchemaMismatch
from datapipe.stages.labels.annotators import JudgeAnnotators

PLACE = Path(__file__).parents[2] / "power" / "labels" / "annotators.py"
spec = importlib.util.spec_from_file_location("power_labels_annotators", PLACE)
worlds = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worlds)


def _judged(data, tmp_path, **parameters):
    made = JudgeAnnotators(**parameters).run(data, Context(0, tmp_path))
    return {f.kind: f for f in made.findings}, pl.read_parquet(made.artifacts[0].path)


def test_the_bot_and_the_tired_are_named(tmp_path):
    found, people = _judged(worlds.crowd(1), tmp_path)
    assert found["labels.annotators"].details["at_chance"] == [6]
    fallen = found["labels.drift"].details["fallen"]
    assert [f["annotator_no"] for f in fallen] == [5]
    assert 400 <= fallen[0]["since_answer"] <= 560
    assert people["information"][6] < 0.05 < people["information"][0]
    assert found["labels.drift"].verdict == "suspect"


def test_a_sound_crowd_is_clean_and_agrees(tmp_path):
    found, people = _judged(worlds.crowd(2, sound=True), tmp_path)
    assert {f.verdict for f in found.values()} == {"clean"}
    assert (people["low"] <= people["skill"]).all()
    alpha = found["labels.agreement"].measure
    assert 0.4 < alpha.low < alpha.value < alpha.high < 0.8


def test_the_order_of_time_counts_not_of_rows(tmp_path):
    frame = worlds.crowd(3).frame().with_row_index("at").sample(fraction=1, shuffle=True, seed=1)
    roles = Roles.of(id="item", annotator="who", label="said", time="at")
    timed, _ = _judged(Dataset.of(frame, roles), tmp_path)
    untimed, _ = _judged(
        Dataset.of(frame, Roles.of(id="item", annotator="who", label="said")), tmp_path
    )
    assert timed["labels.drift"].verdict == "suspect"
    assert untimed["labels.drift"].verdict == "clean"


def test_who_rushes_is_told_and_hard_items_excuse_nobody_and_blame_nobody(tmp_path):
    rng = np.random.default_rng(8)
    items, people = 240, 5
    true, hard = rng.integers(0, 3, items), rng.random(items) < 0.3
    item, who = np.repeat(np.arange(items), people), np.tile(np.arange(people), items)
    quick = rng.random(item.size) < 0.3
    seconds = np.exp(rng.normal(2, 0.2, item.size) + 1.5 * hard[item] - 1.0 * quick)
    skill = np.where(hard[item], 0.75, 0.95) - 0.4 * (quick & (who == 2))
    right = rng.random(item.size) < skill
    said = np.where(right, true[item], (true[item] + rng.integers(1, 3, item.size)) % 3)
    frame = pl.DataFrame({"item": item, "who": who, "said": said, "took": seconds})
    roles = Roles.of(id="item", annotator="who", label="said")
    found, made = _judged(Dataset.of(frame, roles), tmp_path, seconds="took")
    assert found["labels.annotators"].details["rushing"] == [2]
    assert made["quick_skill"].arg_min() == 2
    assert made["speed_low"][2] > 0
    assert (made["speed_low"] <= made["speed_accuracy"]).all()
    with pytest.raises(SchemaMismatch, match="no column"):
        _judged(Dataset.of(frame, roles), tmp_path, seconds="tok")


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (pa.table({"item": [1, 2], "who": [1, 1], "said": [0, 1]}), "two annotators"),
        (pa.table({"item": [1, 1], "who": [1, 2], "said": [0, 0]}), "every answer is the same"),
    ],
)
def test_nothing_to_compare_is_not_evaluated(table, why, tmp_path):
    data = Dataset.of(table, Roles.of(id="item", annotator="who", label="said"))
    made = JudgeAnnotators().run(data, Context(0, tmp_path))
    assert {f.verdict for f in made.findings} == {"not_evaluated"}
    assert why in made.findings[0].says


def test_scales_and_bad_parameters(tmp_path):
    data = worlds.crowd(4, sound=True)
    for scale in ("ordinal", "interval"):
        found, _ = _judged(data, tmp_path, scale=scale)
        assert np.isfinite(found["labels.agreement"].measure.value)
    assert len(JudgeAnnotators(scale="ratio").check()) == 1
