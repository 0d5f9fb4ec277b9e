# SPDX-License-Identifier: Apache-2.0
"""No verb writes over what it reads or over a file that is not its own, nor drops an option."""

from __future__ import annotations

import pytest

ROWS = "x,y\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(60))


@pytest.fixture
def audited(datapipe, here):
    (here / "a.csv").write_text(ROWS)
    assert datapipe("audit", "a.csv", "--label", "y", "--no-fail").code == 0
    return here


@pytest.mark.parametrize(
    "line",
    [
        "report -o a.csv",
        "report -o ./a.csv",
        "audit a.csv --label y -o a.csv",
        "audit a.csv --label y -o key.pem",
        "labels issues a.csv --label y -o a.csv",
        "labels noise-rate a.csv --label y -o ./a.csv",
        "labels issues a.csv --label y -o link.csv",
    ],
)
def test_a_file_is_not_written_over(datapipe, audited, line):
    (audited / "key.pem").write_text("-----BEGIN PUBLIC KEY-----")
    (audited / "link.csv").symlink_to("a.csv")
    answer = datapipe(*line.split())
    assert answer.code == 2, answer.out
    assert "overwrit" in answer.message
    assert (audited / "a.csv").read_text() == ROWS
    assert (audited / "key.pem").read_text().startswith("-----BEGIN")


def test_a_report_replaces_a_report(datapipe, audited):
    for _ in range(2):
        assert datapipe("report", "-o", "r.html").code == 0
    (audited / "empty.html").touch()
    assert datapipe("report", "-o", "empty.html").code == 0
    folder = datapipe("report", "-o", ".")
    assert (folder.code, "Is a directory" in folder.message) == (6, True)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("audit a.csv --label y --label x", "--label"),
        ("audit a.csv --label y --seed 1 --seed 2", "--seed"),
        ("report -o a.html --output b.html", "--output"),
        ("sql 'from runs' --store a --store b", "--store"),
    ],
)
def test_an_option_of_one_value_is_given_once(datapipe, audited, line, name):
    answer = datapipe(*line.split())
    assert (answer.code, answer.message) == (
        2,
        f"{name} is given twice, and one value counts [DP-USE-002]",
    )


def test_options_that_repeat_or_count_may_be_given_again(datapipe, audited):
    (audited / "b.csv").write_text(ROWS.replace("x,y", "x,g").replace("\n", ",q\n"))
    line = "audit b.csv --group g --group q --label x -v -v --no-fail --no-fail"
    (audited / "b.csv").write_text("x,g,q\n1,a,b\n2,b,c\n")
    assert datapipe(*line.split()).code == 0


def test_what_an_export_does_not_take_is_refused_and_a_refusal_leaves_no_folder(datapipe, audited):
    for option in ("--run", "--key", "--certificate"):
        whole = datapipe("lineage", "export", "out", option, "a.csv")
        assert (whole.code, "writes the whole store" in whole.message) == (2, True)
    told = datapipe("lineage", "export", "out", "--format", "eu-summary")
    assert told.code == 2
    (audited / "mine").mkdir()
    assert datapipe("lineage", "export", "mine", "--format", "eu-summary").code == 2
    assert (audited / "mine").is_dir()  # it was there before
    assert not (audited / "out").exists()


def test_an_empty_store_is_told_once(datapipe, here):
    answer = datapipe("doctor", "--store", "")
    assert answer.code == 2
    assert answer.err.count("DP-USE-") == answer.err.count("hint: ") == 1
    assert datapipe("new", "stge", "a.b").message.count("Did you mean") == 1


@pytest.mark.parametrize("option", ["--budget", "--least"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_is_finite(datapipe, audited, option, value):
    answer = datapipe("labels", "relabel", "a.csv", "--label", "y", option, value)
    assert answer.code == 2
    assert option in answer.message


def test_what_is_wrong_with_costs_and_columns_is_told(datapipe, audited):
    words = ("labels", "relabel", "a.csv", "--label", "y")
    assert "cost of row 1 is 0;" in datapipe(*words, "--cost", "x").message
    assert "budget=0 and skill=1" in datapipe(*words, "--budget", "0").message
    told = datapipe("labels", "issues", "a.csv", "--label", "y", "--probs", "nope")
    assert "there is no column 'nope' [" in told.message
