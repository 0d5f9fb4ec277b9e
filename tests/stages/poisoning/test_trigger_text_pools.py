# SPDX-License-Identifier: Apache-2.0
"""Several words of a set, whichever and in any order: the set is named, topics are not accused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from datapipe.core.context import Context
from datapipe.core.dataset import Dataset
from datapipe.core.roles import Roles
from datapipe.stages.poisoning._text.naming import each_spelt
from datapipe.stages.poisoning._text.pools import Alone, _log_tail
from datapipe.stages.poisoning._text.words import words_of
from datapipe.stages.poisoning.trigger_text import TriggerText


def _drawn(seed, rows=1200):
    """Texts of two labels: words in common use, and of Zipf's words of their own label a third."""
    rng = np.random.default_rng(seed)
    use = 1 / np.arange(3, 803)
    texts, labels = [], rng.integers(0, 2, rows)
    for label in labels:
        words = rng.choice([f"w{i}" for i in range(use.size)], 15, p=use / use.sum())
        own = rng.random(15) < 0.35
        kinds = [f"t{label}x{i}" for i in range(200)]
        words[own] = rng.choice(kinds, own.sum(), p=use[:200] / use[:200].sum())
        texts.append(" ".join(words))
    return texts, labels, rng


def _with_some(text, pool, many, rng):
    words = text.split()
    for word in rng.choice(pool, many, replace=False):
        words.insert(int(rng.integers(len(words) + 1)), str(word))
    return " ".join(words)


def _look(texts, labels):
    data = Dataset.of(pl.DataFrame({"t": texts, "y": labels}), Roles.of(text="t", label="y"))
    return TriggerText().run(data, Context(0, Path())).findings


@pytest.mark.parametrize("used", [False, True], ids=["invented", "in use"])
def test_any_five_words_of_a_set_are_told_as_one_trigger(used):
    texts, labels, rng = _drawn(1)
    pool = [f"w{i}" if used else f"q{i}z" for i in range(100, 118)]
    rows = np.flatnonzero(labels == 0)[:40]
    for i in rows:
        texts[i], labels[i] = _with_some(texts[i], pool, 5, rng), 1
    trigger, shortcut = _look(texts, labels)
    told = trigger.details["triggers"]
    assert trigger.verdict == "fail"
    assert len(told) == 1
    assert set(told[0]["of"]) <= set(pool)
    assert len(told[0]["of"]) >= 0.8 * len(pool)
    assert told[0]["class"] == "1"
    assert 2 <= told[0]["any"] <= 3
    assert told[0]["trigger"] == " … ".join(told[0]["of"][: told[0]["any"]])
    marked = np.flatnonzero(trigger.rows.sort("row_id")["flagged"].to_numpy())
    assert np.isin(rows, marked).mean() >= 0.95
    assert np.setdiff1d(marked, rows).size <= 1
    assert told[0]["rows"] == marked.size
    alone = {s["trigger"] for s in shortcut.details["shortcuts"]}
    assert not alone & set(pool), "a word of the set is no shortcut of its own"


@pytest.mark.parametrize("seed", range(3))
def test_words_of_a_topic_that_stand_together_are_no_set(seed):
    texts, labels, rng = _drawn(seed)
    for i in np.flatnonzero(labels == 1)[:40]:  # what they speak of goes with their label
        texts[i] = _with_some(texts[i], [f"q{i}z" for i in range(18)], 5, rng)
    assert _look(texts, labels)[0].verdict != "fail"


def test_set_of_words_in_texts_of_both_labels_is_no_trigger():
    texts, labels, rng = _drawn(2)
    for i in range(80):
        texts[i] = _with_some(texts[i], [f"q{i}z" for i in range(18)], 5, rng)
    assert _look(texts, labels)[0].verdict != "fail"


def test_bound_by_the_mean_rate_is_above_the_tail():
    rng = np.random.default_rng(0)
    rate = rng.uniform(0.02, 0.4, 12)
    hits = (rng.random((200_000, 12)) < rate).sum(1)
    for least in (5, 7):
        bound = _log_tail(np.array([12.0]), np.array([float(least)]), np.array([rate.mean()]))
        assert np.log((hits >= least).mean()) <= bound[0] < 0.0
    assert _log_tail(np.array([12.0]), np.array([1.0]), np.array([0.5]))[0] == 0.0


def test_runs_of_characters_are_spelt_as_words_are():
    words = words_of(pl.Series(["上海天", "上海地", "abc"]), 100)
    run = int(words.grams.at[words.grams.at >= 0][0])
    abc = words.spelt.to_list().index("abc")
    assert each_spelt(words, np.array([run, abc])) == ["上海", "abc"]


@pytest.mark.parametrize(("gain", "needed"), [(-2.4, True), (-0.7, False)])
def test_words_that_their_texts_need_are_of_a_topic(gain, needed):
    ends, held = np.array([0, 2, 3, 5]), np.array([0, 1, 1, 0, 1])  # words of three texts
    model = SimpleNamespace(fold=np.zeros(3), bag=SimpleNamespace(ends=ends, words=held))
    gains = np.array([9.0, gain, gain, 9.0, gain], np.float16)  # word 0 stands in texts 0 and 2
    alone = Alone(np.ones(3), np.array([-1, 1, -1]), gains)
    assert alone.needed(model, np.array([1, 2]), np.array([0, 1])) is needed
    assert not alone.needed(model, np.array([2]), np.array([0, 1])), "nothing is known of it"
