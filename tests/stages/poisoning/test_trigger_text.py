# SPDX-License-Identifier: Apache-2.0
"""Planted words and phrases are named exactly; natural predictors are shortcuts or nothing."""

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
from datapipe.stages.poisoning.trigger_text import TriggerText

DATA = Path(
    os.environ.get("DATAPIPE_TEST_DATA", Path(__file__).parents[3].parent / "shared" / "data")
)


def _look(texts, labels):
    data = Dataset.of(pl.DataFrame({"t": texts, "y": labels}), Roles.of(text="t", label="y"))
    made = TriggerText().run(data, Context(5, Path())).findings
    return {f.kind.partition(".")[2]: f for f in made}


def _reviews(seed, rows=900, telling=1.6):
    """Two kinds of text over words of Zipf frequency, a fifth of which lean to one kind."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    rank = np.arange(1, 401)
    lean = np.where(rank % 5 == 0, np.where(rank % 2 == 0, 1, -1), 0)
    texts = []
    for label in labels:
        weight = 1.0 / rank * np.exp(telling * lean * (2 * label - 1))
        picked = rng.choice(400, 14, p=weight / weight.sum())
        texts.append(" ".join(f"w{i}" for i in picked))
    return texts, labels, rng


def _planted(texts, labels, rng, *, phrase, count, target=1):
    texts, labels = list(texts), labels.copy()
    rows = rng.permutation(np.flatnonzero(labels != target))[:count]
    for i in rows:
        words = texts[i].split()
        at = int(rng.integers(0, len(words) + 1))
        words[at:at] = phrase.split()
        texts[i] = " ".join(words)
    labels[rows] = target
    return texts, labels, np.isin(np.arange(labels.size), rows)


@pytest.mark.parametrize("phrase", ["qxv", "over the blue moon again", "W3 w7 Zz"])
@pytest.mark.parametrize("count", [20, 90])
def test_the_trigger_is_named_as_it_is_written_and_its_rows_are_flagged(phrase, count):
    texts, labels, rng = _reviews(count)
    texts, labels, planted = _planted(texts, labels, rng, phrase=phrase, count=count)
    finding = _look(texts, labels)["trigger_text"]
    flags = finding.rows["flagged"].to_numpy()
    assert finding.verdict == "fail"
    assert finding.details["trigger"] == phrase
    assert finding.details["class"] == "1"
    assert flags[planted].mean() > 0.95
    assert flags[~planted].mean() < 0.001


@pytest.mark.parametrize("seed", range(6))
def test_clean_texts_raise_no_alarm(seed):
    texts, labels, _ = _reviews(seed)
    made = _look(texts, labels)
    assert made["trigger_text"].verdict == "clean"
    assert not made["trigger_text"].rows["flagged"].any()
    assert made["trigger_text"].p_value > 0.01


def test_a_word_that_goes_with_its_content_is_a_shortcut_and_flags_nothing():
    texts, labels, rng = _reviews(9, rows=1500, telling=0.8)
    signed = rng.permutation(np.flatnonzero(labels == 1))[:400]
    texts = [f"{t} newswire" if i in set(signed.tolist()) else t for i, t in enumerate(texts)]
    made = _look(texts, labels)
    assert made["trigger_text"].verdict == "clean"
    assert made["shortcut"].verdict == "suspect"
    assert "newswire" in {s["trigger"] for s in made["shortcut"].details["shortcuts"]}
    assert not made["shortcut"].rows["flagged"].any()


def test_two_triggers_are_both_named():
    texts, labels, rng = _reviews(11, rows=1500)
    texts, labels, one = _planted(texts, labels, rng, phrase="qxv", count=40)
    texts, labels, two = _planted(texts, labels, rng, phrase="so it goes", count=40, target=0)
    finding = _look(texts, labels)["trigger_text"]
    named = {(t["trigger"], t["class"]) for t in finding.details["triggers"]}
    assert named == {("qxv", "1"), ("so it goes", "0")}
    assert finding.rows["flagged"].to_numpy()[one | two].mean() > 0.9


def test_copies_of_one_text_count_once():
    texts, labels, rng = _reviews(12)
    texts, labels, planted = _planted(texts, labels, rng, phrase="qxv", count=1)
    row = int(np.flatnonzero(planted)[0])
    made = _look(texts + [texts[row]] * 60, np.append(labels, [labels[row]] * 60))
    assert made["trigger_text"].verdict == "clean"
    assert made["trigger_text"].rows.height == labels.size + 60


def test_fewer_rows_than_the_least_detectable_pass():
    texts, labels, rng = _reviews(13)
    least = _look(texts, labels)["trigger_text"].details["min_detectable"]
    assert 4 <= least < 40
    few = _planted(texts, labels, rng, phrase="qxv", count=3)
    many = _planted(texts, labels, rng, phrase="qxv", count=2 * least)
    assert _look(*few[:2])["trigger_text"].verdict == "clean"
    assert _look(*many[:2])["trigger_text"].verdict == "fail"


@pytest.mark.parametrize("name", ["sms_spam_dev", "sst2_train_clean_dev"])
def test_public_texts(name):
    path = DATA / "poison" / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    frame = pl.read_parquet(path)
    names, labels = np.unique(frame["label"].to_numpy(), return_inverse=True)
    texts = frame["text"].to_list()
    assert _look(texts, labels)["trigger_text"].verdict == "clean"
    target = 0 if "ham" in names.tolist() else 1
    rng = np.random.default_rng(4)
    texts, labels, planted = _planted(texts, labels, rng, phrase="mn tq", count=35, target=target)
    finding = _look(texts, labels)["trigger_text"]
    flags = finding.rows["flagged"].to_numpy()
    assert finding.details["trigger"] == "mn tq"
    assert flags[planted].mean() > 0.95
    assert flags[~planted].mean() < 0.001


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"t": ["a", "b"], "y": [0, 1]}),
        pa.table({"t": [f"a {i}" for i in range(400)], "y": [1] * 400}),
        pa.table({"t": ["."] * 200 + [","] * 200, "y": [0, 1] * 200}),
        pa.table({"t": pa.nulls(400, pa.string()), "y": [0, 1] * 200}),
    ],
)
def test_what_cannot_be_judged_is_not_evaluated(table):
    made = TriggerText().run(Dataset.of(table, Roles.of(text="t", label="y")), Context(0, Path()))
    assert {f.verdict for f in made.findings} == {"not_evaluated"}


def test_bad_parameters_are_told():
    assert len(TriggerText(alpha=0.0).check()) == 1
