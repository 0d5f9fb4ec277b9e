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
    answer = datapipe(
        "labels", "relabel", "a.csv", "--label", "y", "--apply", "-o", "b.parquet", "--json"
    )
    assert answer.code == 0, answer.err
    assert answer.json["changed"] == FLIPPED
    assert pl.read_parquet("b.parquet")["y"].to_list() == flipped
    assert pl.read_csv("a.csv")["y"].to_list() != flipped  # the file itself is left alone
    history = datapipe("sql", "select before, after from label_history", "--json").json
    assert len(history) == FLIPPED


def test_a_relabelling_is_undone_by_a_run_of_its_own(datapipe, flipped):
    roles = ("--label", "y", "--json")
    done = datapipe("labels", "relabel", "a.csv", "--apply", "-o", "b.parquet", *roles).json
    given = pl.read_csv("a.csv")["y"].to_list()
    back = datapipe(
        "labels", "relabel", "b.parquet", "--undo", done["run_id"], "-o", "c.parquet", *roles
    )
    assert back.code == 0, back.err
    assert pl.read_parquet("c.parquet")["y"].to_list() == given
    assert (back.json["undone"], back.json["edited"]) == (FLIPPED, 0)
    ask = f"from label_history where run_id = '{back.json['run_id']}' order by row_id"
    lines = datapipe("sql", ask, "--json").json
    assert [(h["before"], h["after"]) for h in lines] == list(
        zip(flipped[:FLIPPED], given[:FLIPPED], strict=True)
    )
    assert {h["why"] for h in lines} == {f"undo of run {done['run_id']}"}
    assert len({h["changed_by"] for h in lines} - {None, ""}) == 1
    assert datapipe("verify", ".datapipe").code == 0
    again = datapipe(
        "labels", "relabel", "b.parquet", "--undo", done["run_id"], "-o", "d.parquet", *roles
    )
    assert again.code == 2
    assert f"run {back.json['run_id']} changed rows 1:0" in again.err
    redone = datapipe(
        "labels", "relabel", "c.parquet", "--undo", back.json["run_id"][:12], "-o", "d.csv", *roles
    )
    assert redone.code == 0, redone.err
    assert pl.read_csv("d.csv")["y"].to_list() == flipped


def test_a_label_that_changed_since_is_not_undone(datapipe, flipped, here):
    done = datapipe(
        "labels", "relabel", "a.csv", "--label", "y", "--apply", "-o", "b.csv", "--json"
    ).json
    made = pl.read_csv("b.csv")
    edited = made.with_columns(
        y=pl.when(pl.int_range(pl.len()).is_in([3, 200])).then(pl.lit("maybe")).otherwise("y")
    )
    edited.write_csv("e.csv")
    words = ("--label", "y", "--undo", done["run_id"], "-o", "c.parquet", "--json")
    refused = datapipe("labels", "relabel", "e.csv", *words)
    assert refused.code == 2
    assert "1 labels are no longer what run" in refused.err
    assert not (here / "c.parquet").exists()
    some = datapipe("labels", "relabel", "e.csv", *words, "--row", "1:5", "--row", "1:6")
    assert some.code == 0, some.err
    assert (some.json["undone"], some.json["edited"]) == (2, 2)
    want = list(edited["y"])
    want[5:7] = pl.read_csv("a.csv")["y"][5:7].to_list()
    assert pl.read_parquet("c.parquet")["y"].to_list() == want
    ask = "select ordinal, why from label_history where before != 'maybe' and after = 'maybe'"
    hand = datapipe("sql", ask, "--json").json
    assert sorted((h["ordinal"], h["why"]) for h in hand) == [
        (3, "edited by hand in e.csv"),
        (200, "edited by hand in e.csv"),
    ]
    other = made.with_columns(a=pl.col("a") + 1)
    other.write_csv("o.csv")
    one = ("--row", "1:7")
    assert "column 'a' is another" in datapipe("labels", "relabel", "o.csv", *words, *one).err
    more = datapipe("labels", "relabel", "c.parquet", *words, *one).json
    assert (more["undone"], more["edited"]) == (1, 0)
    assert "changed rows 1:3, 1:5, 1:6" in datapipe("labels", "relabel", "b.csv", *words).err
    assert datapipe("labels", "relabel", "b.csv", *words, "--row", "1:250").code == 2
    none = ("--label", "y", "--undo", "nothing", "-o", "c.parquet")
    assert datapipe("labels", "relabel", "b.csv", *none).code == 2


def test_what_cannot_be_written_is_told_before_anything_runs(datapipe, flipped, here):
    assert datapipe("labels", "issues", "a.csv", "--label", "y", "-o", "b.xml").code == 2
    assert datapipe("labels", "relabel", "a.csv", "--label", "y", "--apply").code == 2
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


@pytest.fixture
def probable(here):
    """600 rows of three classes with probabilities, one in ten labels wrong."""
    rng = np.random.default_rng(5)
    true = rng.integers(0, 3, 600)
    wrong = rng.random(600) < 0.1
    given = np.where(wrong, (true + 1) % 3, true)
    shares = np.exp(2.5 * np.eye(3)[true] + rng.normal(size=(600, 3)))
    shares /= shares.sum(1, keepdims=True)
    frame = pl.DataFrame({"y": given, "p": shares.astype(np.float32)})
    frame = frame.with_columns(pl.col("p").arr.to_list(), cost=pl.lit(2.0))
    frame.write_parquet("a.parquet")
    wide = pl.DataFrame(shares.astype(np.float32), schema=["q0", "q1", "q2"])
    frame.select("y").hstack(wide).write_csv("b.csv")
    return given, shares.astype(np.float32), wrong


def test_given_probabilities_give_the_rows_of_cleanlab_whatever_their_form(datapipe, probable):
    filters = pytest.importorskip("cleanlab.filter")
    given, shares, _ = probable
    theirs = np.flatnonzero(filters.find_label_issues(given, shares, n_jobs=1)).tolist()
    for file, probs in (("a.parquet", "p"), ("b.csv", "q*"), ("b.csv", "q0,q1,q2")):
        words = ("--label", "y", "--probs", probs, "-o", "o.parquet", "--json")
        answer = datapipe("labels", "issues", file, *words)
        assert answer.code == 0, answer.err
        assert sorted(i["ordinal"] for i in answer.json["issues"]) == theirs
        assert sorted(pl.read_parquet("o.parquet")["ordinal"].to_list()) == theirs
        assert all(i["reason"] and i["suggested"] != i["given"] for i in answer.json["issues"])
    every = datapipe(
        "labels", "issues", "a.parquet", "--label", "y", "--probs", "p", "--all", "--json"
    )
    assert len(every.json["issues"]) == 600


def test_bad_probabilities_are_told_with_the_right_exit_code(datapipe, probable):
    def code(frame, probs="p"):
        frame.write_parquet("c.parquet")
        return datapipe("labels", "issues", "c.parquet", "--label", "y", "--probs", probs)

    good = pl.read_parquet("a.parquet")
    off = good.with_columns(p=pl.col("p").list.eval(pl.element() * 1.00021))
    assert "brought back to sum 1" in code(off).out
    ragged = good.with_columns(
        p=pl.when(pl.int_range(pl.len()) > 5).then("p").otherwise(pl.lit([1.0, 0.0]))
    )
    assert code(ragged).code == 2
    assert code(good, "nothing").code == 2
    hole = good.with_columns(p=pl.when(pl.int_range(pl.len()) > 5).then("p"))
    assert code(hole).code == 2
    nan = good.with_columns(p=pl.col("p").list.eval(pl.element() * float("nan")))
    refused = code(nan)
    assert refused.code == 7
    assert "row 0: the probabilities in p" in refused.err
    outside = good.with_columns(y=pl.col("y") + 5)
    outside[0, "y"] = 99
    assert code(outside).code == 2


def test_an_audit_is_planned_filled_in_and_told(datapipe, probable):
    given, _, wrong = probable
    words = ("--label", "y", "--probs", "p", "--json")
    answer = datapipe(
        "labels", "plan-audit", "a.parquet", "--rows", "120", "-o", "plan.csv", *words
    )
    assert answer.code == 0, answer.err
    plan = pl.read_csv("plan.csv")
    assert plan.height == len(answer.json["planned"]) == 120
    none = datapipe("labels", "noise-rate", "a.parquet", "--audit", "plan.csv", *words)
    assert none.code == 7
    assert "no row was checked" in none.err
    right = np.where(wrong, (given + 2) % 3, given)
    told = plan.with_columns(expert=pl.Series(right[plan["ordinal"].to_numpy()]))
    told.write_csv("back.csv")
    answer = datapipe(
        "labels", "noise-rate", "a.parquet", "--audit", "back.csv", "--claim", "0.4", *words
    )
    assert answer.code == 0, answer.err
    rate = answer.json["noise_rate"]
    assert rate["low"] <= wrong.mean() <= rate["high"]
    assert rate["n"] == 120
    assert answer.json["is_rate"]["answer"] == "no"
    told.with_columns(given=pl.lit("9")).write_csv("other.csv")
    other = datapipe("labels", "noise-rate", "a.parquet", "--audit", "other.csv", *words)
    assert other.code == 2
    assert "not those of the file" in other.err
    two = told.with_columns(expert_2=pl.lit("0"), adjudicated="expert")
    two.write_csv("two.csv")
    answer = datapipe("labels", "noise-rate", "a.parquet", "--audit", "two.csv", *words)
    assert answer.json["experts"]["n"] == 120


def test_rows_to_send_next_keep_to_the_budget_and_stop(datapipe, probable):
    _, _, wrong = probable
    words = ("--label", "y", "--probs", "p", "-o", "n.parquet", "--json")
    answer = datapipe("labels", "relabel", "a.parquet", "--budget", "40", *words)
    assert answer.code == 0, answer.err
    chosen = pl.read_parquet("n.parquet")
    assert chosen.height == 40
    assert wrong[chosen["ordinal"].to_numpy()].mean() > 0.6
    dear = datapipe("labels", "relabel", "a.parquet", "--budget", "40", "--cost", "cost", *words)
    assert len(dear.json["next"]) == 20
    stopped = datapipe("labels", "relabel", "a.parquet", *words).json
    assert len(stopped["next"]) == stopped["stop_after"] < 300
    rare = datapipe("labels", "relabel", "a.parquet", "--rare", "2", "--budget", "30", *words)
    assert len(rare.json["next"]) <= 31


def test_doubtful_rows_go_to_the_expert_and_plain_ones_to_the_cheap(datapipe, probable):
    people = pl.DataFrame(
        {"annotator": ["crowd", "expert"], "skill": [0.7, 1.0], "cost": [1.0, 3.0]}
    )
    people.write_csv("w.csv")
    words = ("--label", "y", "--probs", "p", "--annotators", "w.csv", "-o", "n.parquet", "--json")
    answer = datapipe("labels", "relabel", "a.parquet", "--budget", "60", *words)
    assert answer.code == 0, answer.err
    chosen = pl.read_parquet("n.parquet")
    assert chosen["cost"].sum() == answer.json["spent"] <= 60
    assert {p["annotator"] for p in answer.json["by_annotator"]} == set(chosen["annotator"])
    assert "expert" in set(chosen["annotator"])
    assert (chosen["expected_removed"] > 0).all()
    assert datapipe("labels", "relabel", "a.parquet", *words).code == 2
    people.with_columns(skill=pl.lit(1.5)).write_csv("w.csv")
    assert datapipe("labels", "relabel", "a.parquet", "--budget", "60", *words).code == 7


def test_what_is_not_taken_as_it_stands_is_told(datapipe, here):
    lines = [(1, "a", "x"), (1, "a", "z"), (1, "b", "x"), (2, "a", "x"), (2, "b", None)]
    lines += [(None, "a", "x"), (3, None, "x")]
    frame = pl.DataFrame(lines, schema=["q", "who", "y"], orient="row")
    frame.write_parquet("a.parquet")
    roles = ("--item", "q", "--annotator", "who", "--answer", "y")
    told = datapipe("labels", "aggregate", "a.parquet", *roles)
    assert told.code == 0, told.err
    assert "labels are missing in 1 of 7 rows" in told.out
    assert "2 rows without item, annotator or answer left out" in told.out
    assert "2 answers that repeat" in told.out
