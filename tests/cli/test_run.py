# SPDX-License-Identifier: Apache-2.0
"""`run` and `plan`: a user's file, its pipelines, and what is wrong with either."""

from __future__ import annotations

import sys

import duckdb
import polars as pl
import pytest

READ = (
    "from datapipe import Gate, Pipeline, at_most\n"
    "from datapipe.stages import ExactDuplicates, ReadCSV\n"
)
CLEAN = 'clean = Pipeline("ages", [ReadCSV("a.csv", label="y"), ExactDuplicates()])\n'


@pytest.fixture
def rows(here):
    (here / "a.csv").write_text("age,y\n31,a\n40,b\n31,a\n50,b\n")
    return here


def test_a_pipeline_runs_and_says_what_it_found(datapipe, rows):
    (rows / "p.py").write_text(READ + CLEAN)
    answer = datapipe("run", "p.py", "--seed", "7")
    assert answer.code == 0
    assert "4 rows in, 3 left" in answer.out
    assert "dedup.exact" in answer.out
    assert len(answer.out.splitlines()) <= 25
    assert "datapipe sql" in answer.out.splitlines()[-1]
    with duckdb.connect(".datapipe/lineage.duckdb", read_only=True) as foreign:
        assert foreign.sql("select state from run_status").fetchall() == [("finished",)]
    again = datapipe("run", "p.py:clean", "--seed", "7", "--json").json
    assert again["rows"] == 3
    assert all(step["reused"] for step in again["steps"])
    assert {"run_id", "verdict", "findings", "row_findings", "artifacts"} <= again.keys()
    scored = pl.read_parquet(again["row_findings"])
    assert {"row_id", "source_no", "ordinal", "kind", "score"} <= set(scored.columns)
    assert {"p_value", "flagged", "action", "reason"} <= set(scored.columns)
    assert scored.filter(kind="dedup.exact").height == 4


PRINTS = """import os, sys
from datapipe import Pipeline, stage
from datapipe.stages import ReadCSV
print("the file prints")
os.system("echo a program prints")
@stage("test.prints")
def prints(frame):
    print("the stage prints")
    return frame
p = Pipeline("p", [ReadCSV("a.csv"), prints()])
"""


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_what_a_users_code_prints_is_no_data(datapipe, rows, verb):
    (rows / "p.py").write_text(PRINTS)
    answer = datapipe(verb, "p.py", "--seed", "7", "--json")
    assert answer.code == 0
    assert answer.json["pipeline"] == "p"
    said = ["the file prints", "a program prints", *["the stage prints"] * (verb == "run")]
    assert [line for line in answer.err.splitlines() if line.endswith("prints")] == said


@pytest.mark.parametrize("code", ["0", "5", "None"])
def test_code_that_ends_the_program_has_not_finished_a_run(datapipe, rows, code):
    (rows / "ends.py").write_text(f"import sys\nsys.exit({code})\n")
    ended = datapipe("run", "ends.py", "--seed", "7")
    assert (ended.code, ended.message[:22]) == (2, "ends.py:2: SystemExit:")
    body = PRINTS.replace('print("the stage prints")', f"sys.exit({code})")
    (rows / "p.py").write_text(body)
    ended = datapipe("run", "p.py", "--seed", "7")
    assert ended.code == 6
    assert "test.prints failed: SystemExit" in ended.err
    assert datapipe("sql", "select state from run_status", "--json").json == [{"state": "failed"}]


def test_a_closed_gate_exits_3_and_still_shows_the_run(datapipe, rows):
    gate = 'Gate({"dedup.exact": at_most(0.01)})'
    text = READ + f'p = Pipeline("p", [ReadCSV("a.csv", label="y"), ExactDuplicates(), {gate}])'
    (rows / "p.py").write_text(text)
    answer = datapipe("run", "p.py", "--seed", "7", "--json")
    assert answer.code == 3
    assert answer.json["verdict"] == "fail"
    assert answer.json["findings"][-1]["kind"] == "gate"
    human = datapipe("run", "p.py", "--seed", "7")
    assert human.code == 3
    assert "gate closed: dedup.exact" in human.err
    assert "verdict: fail" in human.out


def test_ray_that_is_not_installed_is_told_before_anything_is_written(datapipe, rows, monkeypatch):
    (rows / "p.py").write_text(READ + CLEAN)
    monkeypatch.setitem(sys.modules, "ray", None)
    answer = datapipe("run", "p.py", "--seed", "7", "--executor", "ray")
    assert answer.code == 2
    assert "the Ray executor needs the package ray" in answer.message
    assert "hint: pip install 'datapipe[ray]'" in answer.err
    assert not answer.out
    assert not (rows / ".datapipe").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--executor", "rya"), "no executor is 'rya'"),
        (("--address", "auto"), "an address needs --executor ray"),
    ],
)
def test_an_executor_that_there_is_not_is_told(datapipe, rows, words, told):
    (rows / "p.py").write_text(READ + CLEAN)
    answer = datapipe("run", "p.py", "--seed", "7", *words)
    assert answer.code == 2
    assert told in answer.message
    assert not (rows / ".datapipe").exists()


def test_a_run_needs_a_seed(datapipe, rows):
    (rows / "p.py").write_text(READ + CLEAN)
    answer = datapipe("run", "p.py")
    assert answer.code == 2
    assert "a run needs a seed [DP-USE-010]" in answer.message


@pytest.mark.parametrize(
    ("text", "told", "hint"),
    [
        ("from datapipe.stages import MinHas", "p.py:1: there is no stage 'MinHas'", "'MinHash'"),
        ("x = 1\ny = undefined", "p.py:2: NameError", "mend the file"),
        ("def broken(:", "p.py:1: SyntaxError", "mend the file"),
        ("x = 1", "holds 0 pipelines", "assign Pipeline(...) to a name"),
        (
            "from datapipe import Pipeline\na = Pipeline('a', [])\nb = Pipeline('b', [])",
            "holds 2 pipelines",
            "p.py:a",
        ),
        ("from datapipe import Pipeline\na = Pipeline('a', [])", "it has no stages", "list"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(datapipe, here, text, told, hint):
    (here / "p.py").write_text(text)
    answer = datapipe("plan", "p.py")
    assert answer.code == 2
    assert told in answer.message
    assert hint in answer.err.splitlines()[-1]
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("address", ["gone.py", "gone.py:clean", "http://host/p.py", "notes.txt"])
def test_a_file_that_is_none_is_refused(datapipe, here, address):
    (here / "notes.txt").write_text("")
    answer = datapipe("run", address, "--seed", "1")
    assert answer.code == 2
    assert answer.err.count("hint: ") == 1


def test_clashing_stages_and_every_other_problem_come_at_once(datapipe, rows):
    (rows / "p.py").write_text(
        READ
        + "from datapipe.stages import ConfidentLearning, LabelFlips\n"
        + 'p = Pipeline("p", [ReadCSV("a.csv", label="y"),'
        ' [LabelFlips(on_finding="relabel"), ConfidentLearning()], Gate({})])'
    )
    answer = datapipe("plan", "p.py")
    assert answer.code == 2
    assert "put them in order" in answer.err
    assert "no limits are given" in answer.err


def test_a_plan_shows_the_steps_and_reads_nothing(datapipe, here):
    (here / "p.py").write_text(READ + CLEAN)
    answer = datapipe("plan", "p.py")
    assert answer.code == 0
    assert [line.split()[1] for line in answer.out.splitlines()[1:]] == [
        "ingest.csv",
        "dedup.exact",
    ]
    form = datapipe("plan", "p.py:clean", "--json").json
    assert [s["stage"] for s in form["steps"]] == ["ingest.csv", "dedup.exact"]
    assert form["roles"] == {"label": ["y"]}
    assert not (here / ".datapipe").exists()


def test_a_missing_label_column_names_the_closest(datapipe, rows):
    (rows / "p.py").write_text(READ + 'p = Pipeline("p", [ReadCSV("a.csv", label="agee")])')
    answer = datapipe("run", "p.py", "--seed", "1")
    assert answer.code == 2
    assert "'agee'" in answer.message
    assert "'age'" in answer.err


def test_rows_in_are_those_of_every_reader(datapipe, rows):
    (rows / "b.csv").write_text((rows / "a.csv").read_text())
    readers = '[ReadCSV("a.csv", label="y"), ReadCSV("b.csv", label="y")]'
    (rows / "p.py").write_text(READ + f'p = Pipeline("p", [{readers}, ExactDuplicates()])')
    n = len((rows / "a.csv").read_text().splitlines()) - 1
    said = datapipe("run", "p.py", "--seed", "7").out
    assert f"p  {2 * n:,} rows in, " in said


@pytest.mark.parametrize(
    ("call", "close"),
    [
        ('ReadCSV("a.csv", lable="y")', "did you mean 'label'?"),
        ("ExactDuplicates(column=())", "did you mean 'columns'?"),
        ("Gate(limit={})", "did you mean 'limits'?"),
        ('stage("a.b", versoin="1")(len)', "did you mean 'version'?"),
        ("Gate(qqq={})", "known: limits"),
        ("len(a=1)", "mend the file"),
    ],
)
def test_a_misspelt_parameter_is_told_with_the_closest(datapipe, rows, call, close):
    (rows / "p.py").write_text(READ + f"from datapipe import stage\np = {call}")
    answer = datapipe("plan", "p.py")
    assert answer.code == 2
    assert answer.message.startswith("p.py:")
    assert close in answer.err


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return 3", "odd.stage: a stage returned int"),
        ("return frame.drop('_row_id')", "odd.stage: the hidden column '_row_id' was lost"),
        ("return frame.drop('y')", "dedup.exact: there is no column 'y'"),
    ],
)
def test_what_goes_wrong_in_a_stage_names_it(datapipe, rows, body, told):
    stages = 'ReadCSV("a.csv", label="y"), f(), ExactDuplicates(columns=("y",))'
    (rows / "p.py").write_text(
        READ + "from datapipe import stage\n"
        f'@stage("odd.stage")\ndef f(frame):\n    {body}\np = Pipeline("p", [{stages}])'
    )
    answer = datapipe("run", "p.py", "--seed", "7")
    assert answer.code == 2
    assert answer.message.startswith(told)


def test_one_role_that_a_function_needs_may_be_a_text_and_a_version_is_one(datapipe, rows):
    start = READ + "from datapipe import stage\n"
    tail = 'p = Pipeline("p", [ReadCSV("a.csv"), f()])'
    (rows / "p.py").write_text(f'{start}@stage("a.b", needs="label")\ndef f(x): return x\n{tail}')
    told = datapipe("plan", "p.py", "--json")
    assert "a.b needs the role 'label'" in told.message
    assert told.message.count("needs the role") == 2  # in the message and in the list of problems
    (rows / "p.py").write_text(f'{start}@stage("a.b", version=3)\ndef f(x): return x\n{tail}')
    told = datapipe("plan", "p.py")
    assert (told.code, "version=3; a text was expected" in told.message) == (2, True)
