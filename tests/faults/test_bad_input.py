# SPDX-License-Identifier: Apache-2.0
"""Bad input stops before a store is made: exit 2 or 7, what, where, what was expected, a hint."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from datapipe.cli.app import main

FORM = re.compile(r"\A.+ \[DP-[A-Z]+-\d{3}\]\n\nhint: \S.*\n\Z", re.DOTALL)
"""What and where, `[code]`, an empty line, one hint."""

READ = (
    "from datapipe import Pipeline\nfrom datapipe.stages import ConfidentLearning, ExactDuplicates,"
    " ExportQuantized, LabelFlips, MinHash, ReadCSV\n"
)
SOUND = "a,b,y\n1,2,x\n2,3,z\n3,4,x\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DATAPIPE_KEY", raising=False)
    (tmp_path / "sound.csv").write_text(SOUND)
    return tmp_path


def refused(capfd, *words: object) -> tuple[int, str]:
    """Run one command line that must be refused, its form checked and nothing left behind."""
    capfd.readouterr()
    before = sorted(p for p in Path().rglob("*") if "__pycache__" not in p.parts)
    code = main([str(w) for w in words])
    said = capfd.readouterr()
    assert said.out == ""
    assert FORM.match(said.err), said.err
    assert "Traceback" not in said.err
    assert sorted(p for p in Path().rglob("*") if "__pycache__" not in p.parts) == before
    return code, said.err


CSV = {
    "an empty file": ("", 7, "bad.csv is empty (0 bytes)"),
    "a header alone": ("a,y\n", 7, "no rows"),
    "a ragged line": ("a,y\n1,x\n2\n3,z\n", 7, "bad.csv:3: 1 field where the header has 2"),
    "a field too many": ("a,y\n1,x\n2,x,x\n", 7, "bad.csv:3: 3 fields"),
    "no label column": ("a,lable\n1,x\n2,z\n", 2, "no column 'y'"),
    "NaN labels": ("a,y\n1,x\n2,NaN\n3,z\n4,nan\n", 7, "labels are missing in 2 of 4 rows"),
    "empty labels": ("a,y\n1,x\n2,\n3,z\n", 7, "labels are missing in 1 of 3 rows"),
    "labels missing everywhere": ("a,y\n1,\n2,\n", 7, "labels are missing in 2 of 2 rows"),
    "one class only": ("a,y\n1,x\n2,x\n3,x\n", 7, "'y' holds one class only"),
    "an open quote": ('a,y\n"1,x\n2,z\n', 7, "bad.csv"),
    "a name twice": ("a,a,y\n1,2,x\n", 7, "'a' occurs twice"),
    "a NUL byte": ("a,y\n1,x\x00\n2,z\n", 7, "bad.csv:2: a NUL byte"),
    "the reserved name": ("_row_id,y\n1,x\n2,z\n", 2, "'_row_id'"),
}


@pytest.mark.parametrize("case", CSV)
def test_a_bad_csv_file(here: Path, capfd, case: str):
    text, expected, says = CSV[case]
    (here / "bad.csv").write_text(text)
    code, told = refused(capfd, "audit", "bad.csv", "--label", "y")
    assert (code, says in told) == (expected, True), told


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "jsonl", "csv"])
@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([1.0, None, 2.0], "labels are missing in 1 of 3 rows"),
        ([1.0, 1.0, 1.0], "one class only"),
        ([], "empty|no rows"),
    ],
)
def test_bad_labels_in_every_format(here: Path, capfd, suffix: str, labels: list, says: str):
    frame = pl.DataFrame({"a": range(len(labels)), "y": labels}, schema_overrides={"y": pl.Float64})
    write = {"parquet": "write_parquet", "arrow": "write_ipc", "jsonl": "write_ndjson"}
    getattr(frame, write.get(suffix, "write_csv"))(f"bad.{suffix}")
    code, told = refused(capfd, "audit", f"bad.{suffix}", "--label", "y")
    assert code == 7
    assert re.search(says, told)
    assert f"bad.{suffix}" in told


def test_nan_is_no_label(here: Path, capfd):
    pl.DataFrame({"a": [1, 2], "y": [1.0, float("nan")]}).write_parquet("bad.parquet")
    code, told = refused(capfd, "audit", "bad.parquet", "--label", "y")
    assert (code, "bad.parquet:2:y" in told) == (7, True)


FILES = {
    "zero.parquet": (b"", 7, "is empty (0 bytes)"),
    "zero.arrow": (b"", 7, "is empty (0 bytes)"),
    "zero.jsonl": (b"", 7, "is empty (0 bytes)"),
    "pickled.parquet": (pickle.dumps({"a": [1]}), 7, "pickle"),
    "pickled.csv": (pickle.dumps({"a": [1]}), 7, "pickled.csv"),
    "half.parquet": (b"PAR1" + bytes(40), 7, "half.parquet"),
    "half.arrow": (b"ARROW1" + bytes(40), 7, "half.arrow"),
    "half.jsonl": (b'{"a": 1, "y": 2}\n{"a": 1, "y"\n', 7, "half.jsonl:2"),
    "twice.jsonl": (b'{"a": 1, "a": 2, "y": 3}\n', 7, "a key occurs twice"),
    "wide.csv": ("a,y\n1,x\n".encode("utf-16"), 7, "UTF-16"),
    "latin.csv": ("a,y\n1,\xe9\n".encode("latin-1"), 7, "latin.csv:2"),
    "rows.xyz": (b"a,y\n1,x\n", 2, ".parquet"),
    "rows.pkl": (pickle.dumps([1]), 7, "can run code"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_not_what_they_say(here: Path, capfd, name: str):
    content, expected, says = FILES[name]
    (here / name).write_bytes(content)
    code, told = refused(capfd, "audit", name, "--label", "y")
    assert (code, name in told, says in told) == (expected, True, True), told


WORDS = {
    "a label that is no column": (["--label", "Y"], 2, "did you mean 'y'?"),
    "a group that is no column": (["--label", "y", "--group", "age"], 2, "'age'"),
    "a pattern without a match": (["--label", "y", "--image", "px_*"], 2, "'px_*'"),
    "one column as text and label": (["--label", "y", "--text", "y"], 2, "as text and as label"),
    "a seed that is no number": (["--label", "y", "--seed", "x"], 2, "'--seed'"),
    "an option that is none": (["--lable", "y"], 2, "'--lable'"),
    "a reference that is not there": (["--label", "y", "--reference", "no.csv"], 2, "no.csv"),
    "a reference that is empty": (["--label", "y", "--reference", "empty.csv"], 7, "empty.csv"),
    "a key that is none": (["--label", "y", "--key", "sound.csv"], 4, "sound.csv"),
    "a choice that is none": (["--label", "y", "--on-error", "ignore"], 2, "'ignore'"),
}


@pytest.mark.parametrize("case", WORDS)
def test_a_sound_file_and_wrong_words(here: Path, capfd, case: str):
    words, expected, says = WORDS[case]
    (here / "empty.csv").write_text("")
    code, told = refused(capfd, "audit", "sound.csv", *words)
    assert (code, says in told) == (expected, True), told


CLASH = """
branches = [ConfidentLearning(on_finding="relabel"), LabelFlips()]
p = Pipeline("p", [ReadCSV("sound.csv", label="y"), branches])
"""
PIPELINES = {
    "an unknown stage": ("from datapipe.stages import MinHas", 2, "did you mean 'MinHash'"),
    "an unknown parameter": ('p = Pipeline("p", [ReadCSV("sound.csv", lable="y")])', 2, "lable"),
    "an unknown key": (
        'from datapipe.stages import find\nfind("dedup.minhas")',
        2,
        "dedup.minhash",
    ),
    "a bad parameter": (
        'p = Pipeline("p", [ReadCSV("sound.csv", text="a"), MinHash(threshold=80)])',
        2,
        "threshold=80 must lie in (0, 1]",
    ),
    "a missing role": ('p = Pipeline("p", [ReadCSV("sound.csv"), MinHash()])', 2, "role 'text'"),
    "clashing branches": (
        CLASH,
        2,
        "labels.confident changes 'label', which its parallel branch poisoning.flips reads",
    ),
    "a reader in the middle": (
        'p = Pipeline("p", [ReadCSV("sound.csv"), ExactDuplicates(), ReadCSV("sound.csv")])',
        2,
        "readers belong at the start",
    ),
    "an export without a model": (
        'p = Pipeline("p", [ReadCSV("sound.csv", label="y"), ExportQuantized("int8")])',
        2,
        "export.quantized needs a model",
    ),
    "a class, not a stage": ('p = Pipeline("p", [ReadCSV])', 2, "call it"),
    "no stages": ('p = Pipeline("p", [])', 2, "it has no stages"),
    "a network address": ('p = Pipeline("p", [ReadCSV("http://a.b/c.csv")])', 2, "http"),
    "a missing label column": ('p = Pipeline("p", [ReadCSV("sound.csv", label="z")])', 2, "'z'"),
    "an empty source": ('p = Pipeline("p", [ReadCSV("empty.csv", label="y")])', 7, "empty.csv"),
    "types that clash": (
        'p = Pipeline("p", [[ReadCSV("sound.csv", label="a"), ReadCSV("other.csv", label="a")]])',
        2,
        "'a'",
    ),
}


@pytest.mark.parametrize("case", PIPELINES)
def test_a_pipeline_that_cannot_be(here: Path, capfd, case: str):
    text, expected, says = PIPELINES[case]
    (here / "empty.csv").write_text("")
    (here / "other.csv").write_text("a,b,y\nq,2,x\nr,3,z\n")
    (here / "p.py").write_text(READ + text + "\n")
    code, told = refused(capfd, "run", "p.py", "--seed", "1")
    assert (code, says in told) == (expected, True), told


def test_with_json_the_same_is_one_object_on_stderr(here: Path, capfd):
    (here / "bad.csv").write_text("a,y\n1,x\n2\n")
    capfd.readouterr()
    assert main(["audit", "bad.csv", "--label", "y", "--json"]) == 7
    said = capfd.readouterr()
    error = json.loads(said.err)["error"]
    assert (said.out, error["exit_code"], error["code"][:7]) == ("", 7, "DP-READ")
    assert error["message"].startswith("bad.csv:3")
    assert error["hint"]


def test_a_process_of_its_own_exits_the_same_and_writes_nothing_elsewhere(here: Path):
    (here / "bad.csv").write_text("a,y\n1,x\n2\n")
    done = subprocess.run(
        [sys.executable, "-m", "datapipe", "audit", "bad.csv", "--label", "y"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert (done.returncode, done.stdout) == (7, "")
    assert FORM.match(done.stderr), done.stderr
    assert sorted(p.name for p in here.iterdir()) == ["bad.csv", "sound.csv"]
