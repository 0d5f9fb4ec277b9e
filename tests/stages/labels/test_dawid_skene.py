# SPDX-License-Identifier: Apache-2.0
"""Dawid-Skene equals a plain implementation, beats the vote where skills differ, and names bots."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.labels.dawid_skene import DawidSkene
from datapipe.stages.labels.majority import MajorityVote

DATA = Path(
    os.environ.get("DATAPIPE_TEST_DATA", Path(__file__).parents[3].parent / "shared" / "data")
)
DIAGONAL = 0.2
ROLES = Roles.of(id="item", annotator="who", label="said")


def _crowd(seed, *, skills, items=300, classes=3, each=5):
    """Answers of annotators of known skill, and the true labels."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, items)
    who = np.concatenate([rng.choice(len(skills), each, replace=False) for _ in range(items)])
    item = np.repeat(np.arange(items), each)
    right = rng.random(item.size) < np.asarray(skills)[who]
    other = (true[item] + rng.integers(1, classes, item.size)) % classes
    said = np.where(right, true[item], other)
    return pl.DataFrame({"item": item, "who": who, "said": said}), true


def _joined(stage, frame, tmp_path):
    made = stage.run(Dataset.of(frame, ROLES), Context(0, tmp_path))
    tables = {a.name.partition(".")[2]: pl.read_parquet(a.path) for a in made.artifacts}
    return made, tables


def _plain(frame, rounds, smoothing):
    """The method as its paper has it: loops, no tricks."""
    n, k = frame["item"].max() + 1, frame["said"].max() + 1
    people = frame["who"].max() + 1
    q = np.zeros((n, k))
    for item, _, said in frame.iter_rows():
        q[item, said] += 1
    q /= q.sum(1, keepdims=True)
    for _ in range(rounds):
        confusion = np.full((people, k, k), smoothing) + DIAGONAL * np.eye(k)
        for item, who, said in frame.iter_rows():
            confusion[who, :, said] += q[item]
        confusion /= confusion.sum(2, keepdims=True)
        prior = (q.sum(0) + smoothing) / (q.sum(0) + smoothing).sum()
        logs = np.tile(np.log(prior), (n, 1))
        for item, who, said in frame.iter_rows():
            logs[item] += np.log(confusion[who, :, said])
        q = np.exp(logs - logs.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
    return q


def test_the_posterior_equals_a_plain_implementation(tmp_path):
    frame, _ = _crowd(1, skills=[0.9, 0.8, 0.6, 0.5, 0.4, 0.7], items=60)
    _, tables = _joined(DawidSkene(rounds=7), frame, tmp_path)
    expected = _plain(frame, 7, 0.1)
    assert np.allclose(tables["labels"]["posterior"], expected.max(1), atol=1e-9)
    assert tables["labels"]["label"].to_list() == expected.argmax(1).tolist()


def test_it_beats_the_vote_where_skills_differ(tmp_path):
    frame, true = _crowd(2, skills=[0.95] * 3 + [0.4] * 9)
    right = {}
    for stage in (MajorityVote(), DawidSkene()):
        _, tables = _joined(stage, frame, tmp_path)
        right[stage.name] = (tables["labels"]["label"].to_numpy() == true).mean()
    assert right["labels.dawid_skene"] > right["labels.majority"] + 0.1


def test_skills_are_told_with_intervals_that_hold_them(tmp_path):
    truth = [0.9, 0.85, 0.8, 0.75, 0.7, 0.65]
    frame, _ = _crowd(3, skills=truth, items=800)
    _, tables = _joined(DawidSkene(), frame, tmp_path)
    people = tables["annotators"]
    assert (np.abs(people["skill"].to_numpy() - truth) < 0.08).all()
    assert (people["low"] <= people["skill"]).all()
    assert (people["skill"] <= people["high"]).all()


def test_annotators_who_answer_at_chance_are_flagged_with_their_answers(tmp_path):
    frame, _ = _crowd(4, skills=[0.85] * 8 + [1 / 3] * 2, items=600)
    made, _ = _joined(DawidSkene(), frame, tmp_path)
    finding = made.findings[1]
    assert finding.kind == "labels.annotators"
    assert finding.verdict == "suspect"
    assert finding.details["at_chance"] == [8, 9]
    assert finding.rows["flagged"].to_list() == frame["who"].is_in([8, 9]).to_list()


def test_an_honest_crowd_is_clean(tmp_path):
    frame, _ = _crowd(5, skills=[0.8] * 10, items=400)
    made, _ = _joined(DawidSkene(), frame, tmp_path)
    assert [f.verdict for f in made.findings] == ["clean", "clean"]
    assert not made.findings[1].rows["flagged"].any()


def test_names_may_be_strings_and_answers_may_repeat(tmp_path):
    frame, _ = _crowd(6, skills=[0.8] * 6, items=80)
    texts = frame.select(pl.all().cast(pl.String).str.pad_start(4, "0"))
    doubled = pl.concat([texts, texts.head(100)])
    _, plain = _joined(DawidSkene(), texts, tmp_path)
    _, twice = _joined(DawidSkene(), doubled, tmp_path)
    assert plain["labels"]["label"].equals(twice["labels"]["label"])
    assert twice["labels"]["n"].sum() == doubled.height


@pytest.mark.parametrize(
    ("name", "least"), [("bird", 0.87), ("product", 0.93), ("rte", 0.92), ("SP", 0.905)]
)
def test_accuracy_on_public_crowds(name, least, tmp_path):
    path = DATA / "labels" / f"crowd_{name}_answers.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    frame = pl.read_parquet(path).select(item="task", who="worker", said="label")
    truth = pl.read_parquet(DATA / "labels" / f"crowd_{name}_truth.parquet")
    _, tables = _joined(DawidSkene(), frame, tmp_path)
    both = tables["labels"].join(truth, left_on="item", right_on="task")
    assert both.height == truth.height
    assert (both["label"] == both["truth"]).mean() >= least


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (pa.table({"item": [1, 2], "who": [1, 1], "said": [0, 1]}), "two annotators"),
        (pa.table({"item": [1, 1], "who": [1, 2], "said": [0, 0]}), "every answer is the same"),
        (
            pa.table({"item": pa.nulls(2, pa.int64()), "who": [1, 2], "said": [0, 1]}),
            "no row has",
        ),
    ],
)
def test_what_cannot_be_joined_is_not_evaluated(frame, why, tmp_path):
    for stage in (DawidSkene(), MajorityVote()):
        made = stage.run(Dataset.of(frame, ROLES), Context(0, tmp_path))
        assert {f.verdict for f in made.findings} == {"not_evaluated"}
        assert why in made.findings[0].says
        assert bool(made.artifacts) == ("no row" not in why)  # what was said is joined all the same


def test_bad_parameters_are_told():
    assert len(DawidSkene(rounds=0, smoothing=-1.0).check()) == 2
