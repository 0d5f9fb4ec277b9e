# SPDX-License-Identifier: Apache-2.0
"""Who typed options is told options; an option that does nothing is refused; nothing is written."""

from __future__ import annotations

import polars as pl
import pytest

ROWS = "x,y\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(30))


@pytest.fixture
def files(here):
    (here / "a.csv").write_text(ROWS)
    (here / "semi.csv").write_text(ROWS.replace(",", ";"))
    (here / "tab.csv").write_text(ROWS.replace(",", "\t"))
    (here / "none.csv").write_text("x,y\n1,a\n2,\n3,b\n")
    (here / "long.csv").write_text("x,y\n1,a\n2,b,3\n")
    (here / "own.csv").write_text("_row_id,y\n1,a\n2,b\n")
    pl.read_csv(here / "a.csv").write_parquet(here / "a.parquet")
    pl.read_csv(here / "a.csv").write_parquet(here / "p.csv")
    return here


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("none.csv", 7, "set these rows aside with --missing-labels quarantine"),
        ("long.csv", 7, "set broken lines aside with --on-error quarantine"),
        ("semi.csv", 7, "hint: read it with --separator ';'"),
        ("tab.csv", 7, r"hint: read it with --separator '\t'"),
        ("own.csv", 2, "read it with --id COL if"),
        ("p.csv", 7, "let it end in .parquet"),
        ("a.csv --seed 99999999999999999999", 2, "such as --seed 7;"),
        ("a.csv --text y", 2, "the column 'y' is named as text and as label [DP-DECL-014]"),
        ("a.csv --on-error quarantin", 2, "did you mean 'quarantine'?"),
        ("a.parquet --on-error foo", 2, "--on-error 'foo' is neither refuse nor quarantine"),
        ("a.parquet --missing-labels foo", 2, "--missing-labels 'foo' is neither"),
        ("a.parquet --separator ;", 2, "--separator is of no use here: no CSV file is read"),
        ("a.parquet --on-error quarantine", 2, "--on-error is of no use here"),
        ("a.csv --id x --annotator y --prove", 2, "--prove is of no use here"),
        ("", 2, "the path is empty"),
    ],
)
def test_an_audit_speaks_of_options(datapipe, files, words, code, said):
    before = sorted(p.name for p in files.iterdir())
    answer = datapipe("audit", *(words.split() or [""]), "--label", "y")
    assert answer.code == code
    assert said in answer.err
    if code == 2:
        assert sorted(p.name for p in files.iterdir()) == before


def test_an_option_that_a_file_beside_needs_is_of_use(datapipe, files):
    words = ("--label", "y", "--reference", "semi.csv", "--separator", ";")
    answer = datapipe("audit", "a.parquet", *words, "--no-fail")
    assert answer.code == 0, answer.err


def test_a_pipelines_own_parameters_stay_parameters(datapipe, files):
    (files / "p.py").write_text(
        "from datapipe import Pipeline\nfrom datapipe.stages import ReadCSV\n"
        'p = Pipeline("p", [ReadCSV("none.csv", label="y", on_error="foo")])\n'
        'q = Pipeline("q", [ReadCSV("none.csv", label="y")])\n'
    )
    assert "on_error='foo' is none of" in datapipe("plan", "p.py:p").message
    run = datapipe("run", "p.py:q", "--seed", "1")
    assert "missing_labels='quarantine'" in run.err


def test_sources_and_annotators_together_are_explained(datapipe, here):
    rows = "".join(f"{i},{'ab'[i % 2]},s{i % 3},w{i % 4}\n" for i in range(60))
    (here / "a.csv").write_text("x,y,s,w\n" + rows)
    words = ("audit", "a.csv", "--label", "y", "--no-fail")
    both = datapipe(*words, "--source", "s", "--annotator", "w")
    assert "judges the values of s (--source) and of w (--annotator) alike" in both.err
    assert "alike" not in datapipe(*words, "--source", "s").err


@pytest.mark.parametrize("hours", ["nan", "inf", "-1", "-inf", "1e400"])
def test_gc_takes_a_number_of_hours(datapipe, files, hours):
    datapipe("audit", "a.csv", "--label", "y", "--no-fail")
    answer = datapipe("lineage", "gc", "--older-than", hours)
    assert answer.code == 2
    assert "--older-than" in answer.message
