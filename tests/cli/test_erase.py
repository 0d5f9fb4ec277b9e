# SPDX-License-Identifier: Apache-2.0
"""`erase`: a dry run unless told otherwise, the id never shown, exit codes by what went wrong."""

from __future__ import annotations

import polars as pl
import pytest

from datapipe import Pipeline
from datapipe.stages import ReadParquet


@pytest.fixture
def store(here):
    rows = {"who": ["ada-lovelace", "bob", "bob"], "t": ["her own words", "his", "words"]}
    pl.DataFrame(rows).write_parquet("rows.parquet")
    Pipeline("p", [ReadParquet("rows.parquet", subject="who", text="t")]).run(
        seed=1, store=".datapipe"
    )
    return here / ".datapipe"


def test_without_yes_nothing_changes(datapipe, store):
    answer = datapipe("erase", "--subject", "ada-lovelace", "--json")
    assert (answer.code, answer.json["rows"], answer.json["erased"]) == (0, 1, False)
    assert datapipe("erase", "--subject", "ada-lovelace").code == 0
    assert datapipe("verify", store).code == 0


def test_the_id_is_neither_printed_nor_kept(datapipe, store):
    said = []
    for words in (["--json"], [], ["--yes", "--json"], ["--yes"]):
        answer = datapipe("erase", "--subject", "ada-lovelace", *words)
        assert answer.code == 0
        said.append(answer.out + answer.err)
    assert not [s for s in said if "lovelace" in s]
    held = [p for p in store.rglob("*") if p.is_file() and b"lovelace" in p.read_bytes()]
    assert held == []
    assert datapipe("verify", store).code == 0
    assert datapipe("sql", "select rows, commitment from erasures", "--json").json[0]["rows"] == 1


def test_the_report_after_an_erasure_is_the_one_of_the_newest_run(datapipe, store, here):
    assert datapipe("erase", "--subject", "ada-lovelace", "--yes").code == 0
    assert datapipe("report", "-o", "report.html").code == 0
    run, erasure = datapipe("sql", "select run_id from runs order by seq", "--json").json
    assert run["run_id"] in (here / "report.html").read_text()
    refused = datapipe("report", erasure["run_id"])
    assert refused.code == 2
    assert f"[DP-DECL-060]\n\nhint: known: {run['run_id']}\n" in refused.err


def test_the_receipt_can_be_verified_alone(datapipe, store):
    receipt = datapipe("erase", "--subject", "bob", "--yes", "--json").json["receipt_file"]
    public = next((store / "keys").glob("*.pem"))
    answer = datapipe("verify", receipt, "--json")
    assert answer.code == 4  # nobody is believed yet
    assert public.is_file()


def test_the_id_can_come_from_a_file(datapipe, store, here):
    (here / "who.txt").write_text("bob\n")
    assert datapipe("erase", "--subject-file", "who.txt", "--json").json["rows"] == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 2),
        (["--subject", "a", "--subject-file", "who.txt"], 2),
        (["--subject", ""], 2),
        (["--subject", "a", "--yes", "--dry-run"], 2),
        (["--subject", "nobody"], 0),
        (["--settle"], 0),
        (["--settle", "--subject", "a"], 2),
        (["--subject", "a", "--store", "elsewhere"], 2),
    ],
)
def test_exit_codes(datapipe, store, words, code):
    assert datapipe("erase", *words).code == code
