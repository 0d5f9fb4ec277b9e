# SPDX-License-Identifier: Apache-2.0
"""`labels`: planted flips are listed with their place, counted, and replaced in a copy."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

pytest.importorskip("sklearn")

FLIPPED = 24


@pytest.fixture
def flipped(here):
    """300 rows of two classes that lie apart; the first 24 labels are wrong."""
    rng = np.random.default_rng(11)
    true = rng.integers(0, 2, 300)
    numbers = rng.normal(size=(300, 3)) + 5 * true[:, None]
    given = true.copy()
    given[:FLIPPED] = 1 - given[:FLIPPED]
    names = np.array(["no", "yes"])
    frame = pl.DataFrame(numbers, schema=["a", "b", "c"])
    frame.with_columns(y=pl.Series(names[given])).write_csv("a.csv")
    return names[true].tolist()


def test_issues_are_the_planted_rows_with_the_true_label(datapipe, flipped):
    answer = datapipe("labels", "issues", "a.csv", "--label", "y", "--json")
    assert answer.code == 0, answer.err
    issues = answer.json["issues"]
    assert {i["row"] for i in issues} == {f"1:{n}" for n in range(FLIPPED)}
    for issue in issues:
        ordinal = int(issue["row"].partition(":")[2])
        assert issue["suggested"] == flipped[ordinal] != issue["given"]
    text = datapipe("labels", "issues", "a.csv", "--label", "y", "--most", "5")
    assert "and 19 more" in text.out


def test_the_noise_rate_has_an_interval_that_holds_the_truth(datapipe, flipped):
    rate = datapipe("labels", "noise-rate", "a.csv", "--label", "y", "--json").json["noise_rate"]
    assert rate["low"] <= FLIPPED / 300 <= rate["high"]


def test_a_relabelled_copy_has_the_true_labels_and_a_history(datapipe, flipped):
    answer = datapipe("labels", "relabel", "a.csv", "--label", "y", "-o", "b.parquet", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["changed"] == FLIPPED
    assert pl.read_parquet("b.parquet")["y"].to_list() == flipped
    assert pl.read_csv("a.csv")["y"].to_list() != flipped  # the file itself is left alone
    history = datapipe("sql", "select before, after from label_history", "--json").json
    assert len(history) == FLIPPED


def test_what_cannot_be_written_is_told_before_anything_runs(datapipe, flipped, here):
    assert datapipe("labels", "issues", "a.csv", "--label", "y", "-o", "b.xml").code == 2
    assert datapipe("labels", "relabel", "a.csv", "--label", "y").code == 2
    assert not (here / ".datapipe").exists()


def test_answers_of_several_annotators_become_one_label_an_item(datapipe, here):
    rng = np.random.default_rng(2)
    true = rng.integers(0, 2, 80)
    lines = []
    for who, skill in (("ann", 0.95), ("bob", 0.9), ("cy", 0.9), ("dee", 0.55), ("eve", 0.55)):
        right = rng.random(80) < skill
        answers = np.where(right, true, 1 - true).tolist()
        lines += [(q, who, answer) for q, answer in enumerate(answers)]
    pl.DataFrame(lines, schema=["q", "who", "answer"], orient="row").write_csv("a.csv")
    roles = ("--item", "q", "--annotator", "who", "--answer", "answer")
    shares = {}
    for method in ("auto", "dawid-skene", "majority"):
        words = (*roles, "--method", method, "-o", "b.parquet", "--json")
        answer = datapipe("labels", "aggregate", "a.csv", *words)
        assert answer.code == 0, answer.err
        made = pl.read_parquet("b.parquet").sort("item")
        assert made["item"].to_list() == list(range(80))
        assert [i["label"] for i in answer.json["items"]] == made["label"].to_list()
        shares[method] = float((made["label"].to_numpy() == true).mean())
    assert shares["auto"] >= max(0.9, shares["majority"] - 0.02)
    assert datapipe("labels", "aggregate", "a.csv", *roles).code == 0
    wrong = datapipe("labels", "aggregate", "a.csv", *roles, "--method", "majorty")
    assert wrong.code == 2
    assert "'majority'" in wrong.err


def test_one_answer_an_item_and_one_class_are_joined_all_the_same(datapipe, here):
    pl.DataFrame({"q": [1, 2], "who": ["a", "b"], "y": ["n", "n"]}).write_csv("a.csv")
    roles = ("--item", "q", "--annotator", "who", "--answer", "y")
    answer = datapipe("labels", "aggregate", "a.csv", *roles, "--json")
    assert answer.code == 0, answer.err
    assert [i["label"] for i in answer.json["items"]] == ["n", "n"]
    told = {f["verdict"] for f in answer.json["findings"] if f["kind"].startswith("labels.")}
    assert told == {"not_evaluated"}
