# SPDX-License-Identifier: Apache-2.0
"""`labels issues` and `relabel` on sets, tokens, boxes and values: the rows are cleanlab's."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

WORDS = np.array(["sky", "sea", "sun", "bay"])
SPANS = ["B", "I", "O"]


@pytest.fixture
def memberships(here):
    """300 rows with sets of four words; memberships of the first twelve rows are swapped."""
    rng = np.random.default_rng(4)
    true = rng.random((300, 4)) < 0.4
    given = true.copy()
    given[:12, 0] ^= True
    p = np.clip(0.5 + np.where(true, 0.45, -0.45) + rng.normal(0, 0.03, (300, 4)), 0, 1)
    sets = [WORDS[row].tolist() for row in given]
    shares = {f"p_{WORDS[k]}": p[:, k] for k in (2, 0, 3, 1)}
    pl.DataFrame({"y": pl.Series(sets, dtype=pl.List(pl.String)), **shares}).write_parquet(
        "s.parquet"
    )
    return true, given, p


def test_sets_are_listed_as_cleanlab_lists_them_and_can_be_relabelled(datapipe, memberships):
    many = pytest.importorskip("cleanlab.multilabel_classification.filter")
    true, given, p = memberships
    words = ("s.parquet", "--label", "y", "--probs", "p_*", "--json")
    answer = datapipe("labels", "issues", *words, "-o", "o.parquet")
    assert answer.code == 0, answer.err
    lists = [np.flatnonzero(row).tolist() for row in given]
    theirs = np.flatnonzero(many.find_label_issues(lists, p, n_jobs=1)).tolist()
    assert sorted(i["ordinal"] for i in answer.json["issues"]) == theirs
    assert len(theirs) >= 6
    for issue in answer.json["issues"]:
        assert "sky given" in issue["reason"] or "sky missing" in issue["reason"]
    assert pl.read_parquet("o.parquet").height == len(theirs)
    answer = datapipe("labels", "relabel", *words, "--apply", "-o", "b.parquet")
    assert answer.code == 0, answer.err
    made = pl.read_parquet("b.parquet")["y"].to_list()
    right = [set(WORDS[(true if n in theirs else given)[n]]) for n in range(300)]
    assert [set(row) for row in made] == right
    history = datapipe("sql", "select before, after from label_history", "--json").json
    assert len(history) == len(theirs)
    assert all(h["before"].startswith("[") for h in history)
    undo = ("--label", "y", "--undo", answer.json["run_id"], "-o", "c.parquet", "--json")
    answer = datapipe("labels", "relabel", "b.parquet", *undo)
    assert answer.code == 0, answer.err
    made = pl.read_parquet("c.parquet")["y"].to_list()
    assert [set(row) for row in made] == [set(WORDS[row]) for row in given]


def test_tokens_are_listed_with_their_place(datapipe, here):
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 9, 120)
    true = rng.integers(0, 3, lengths.sum())
    given = true.copy()
    given[::40] = (given[::40] + 1) % 3
    p = 0.05 + 0.85 * np.eye(3)[true]
    cuts = np.cumsum(lengths)[:-1]
    frame = pl.DataFrame(
        {
            "y": [[SPANS[k] for k in part] for part in np.split(given, cuts)],
            "p": [part.tolist() for part in np.split(p, cuts)],
        }
    )
    frame.write_parquet("t.parquet")
    words = ("--label", "y", "--probs", "p", "--json")
    answer = datapipe("labels", "issues", "t.parquet", *words)
    assert answer.code == 0, answer.err
    places = {(i["ordinal"], i["reason"].split(": ")[1]) for i in answer.json["issues"]}
    owner, starts = np.repeat(np.arange(120), lengths), np.cumsum(lengths) - lengths
    assert {o for o, _ in places} == {int(owner[k]) for k in range(0, true.size, 40)}
    assert (0, "token 0") in places
    assert starts[0] == 0
    short = frame.with_columns(pl.col("p").list.head(1))
    short.write_parquet("u.parquet")
    refused = datapipe("labels", "issues", "u.parquet", *words)
    assert refused.code == 2
    assert "not as many lists of probabilities as tokens" in refused.err
    assert datapipe("labels", "issues", "t.parquet", "--label", "y", "--kind", "spans").code == 2


def test_boxes_are_told_by_what_is_wrong_with_them(datapipe, here):
    rng = np.random.default_rng(7)
    given, found = [], []
    for row in range(60):
        x, y = rng.integers(0, 100, 2).tolist()
        spots = [("cat", [x, y, x + 40, y + 30]), ("dog", [x + 300, y + 300, x + 350, y + 340])]
        given.append([{"label": k, "box": [float(c) for c in b]} for k, b in spots])
        found.append([{**box, "score": 0.99} for box in given[-1]])
        if row == 3:
            given[-1] = given[-1][:1]
        elif row == 4:
            given[-1][1] = {**given[-1][1], "label": "cat"}
    frame = pl.DataFrame({"y": given, "p": found})
    frame.write_parquet("b.parquet")
    words = ("--label", "y", "--probs", "p", "--kind", "boxes", "--json")
    answer = datapipe("labels", "issues", "b.parquet", *words)
    assert answer.code == 0, answer.err
    told = {i["ordinal"]: i["reason"] for i in answer.json["issues"]}
    assert set(told) == {3, 4}
    assert "overlooked: dog at [3" in told[3]
    assert "box 1: cat given, dog likely" in told[4]
    short = frame.with_columns(p=pl.lit(None, dtype=frame.schema["p"]))
    flat = frame.with_columns(p=pl.lit([0.5]))
    for bad, code in ((short, 7), (flat, 2), (frame.drop("p"), 2)):
        bad.write_parquet("c.parquet")
        assert datapipe("labels", "issues", "c.parquet", *words).code == code
    frame[:0].write_parquet("c.parquet")
    assert datapipe("labels", "issues", "c.parquet", *words).code in (2, 7)


def test_values_far_from_their_prediction_are_listed(datapipe, here):
    rng = np.random.default_rng(6)
    true = rng.gamma(2, 10, 300)
    given, guess = true + rng.normal(size=300), true + rng.normal(size=300)
    given[:6] += 30
    pl.DataFrame({"y": given, "guess": guess}).write_csv("v.csv")
    words = ("--label", "y", "--probs", "guess", "--kind", "value", "--json")
    answer = datapipe("labels", "issues", "v.csv", *words)
    assert answer.code == 0, answer.err
    assert sorted(i["ordinal"] for i in answer.json["issues"]) == list(range(6))
    assert all(
        abs(float(i["suggested"]) - guess[i["ordinal"]]) < 1e-9 for i in answer.json["issues"]
    )
    assert datapipe("labels", "issues", "v.csv", "--label", "y", "--kind", "value").code == 2
