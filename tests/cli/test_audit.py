# SPDX-License-Identifier: Apache-2.0
"""`audit`: what is planted is found, what is clean is clean, what is broken is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from datapipe.cli.audit_plan import Beside, audit_pipeline, fitting
from datapipe.core.roles import Roles

PROMISED = {
    "kind",
    "verdict",
    "severity",
    "measure",
    "p_value",
    "q_value",
    "says",
    "details",
    "remedy",
}
MEASURE = {"value", "low", "high", "n", "method", "level"}


def table(rows: int = 240, *, flips: int = 0, copies: int = 0, seed: int = 5) -> pl.DataFrame:
    """Two classes that four numbers tell apart, with planted flips and copies."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, rows)
    numbers = rng.normal(size=(rows, 4)) + 3 * label[:, None]
    given = label.copy()
    given[:flips] = 1 - given[:flips]
    made = pl.DataFrame(numbers, schema=["a", "b", "c", "d"]).with_columns(
        y=pl.Series(np.where(given == 1, "yes", "no"))
    )
    return pl.concat([made, made.head(copies)])


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "arrow"])
def test_planted_faults_are_found_in_every_format(datapipe, here, suffix):
    frame, path = table(flips=20, copies=6), here / f"a.{suffix}"
    write = {"csv": "write_csv", "jsonl": "write_ndjson", "parquet": "write_parquet"}
    getattr(frame, write.get(suffix, "write_ipc"))(path)
    answer = datapipe("audit", path.name, "--label", "y", "--no-fail", "--json")
    assert answer.code == 0, answer.err
    said = answer.json
    assert {"run_id", "verdict", "findings", "row_findings", "artifacts"} <= said.keys()
    assert all(f.keys() >= PROMISED and f["measure"].keys() >= MEASURE for f in said["findings"])
    verdicts = {f["kind"]: f["verdict"] for f in said["findings"]}
    assert verdicts["dedup.exact"] in ("suspect", "fail")
    assert verdicts["labels.noise"] in ("suspect", "fail")
    rows = pl.read_parquet(said["row_findings"])
    copies = rows.filter(pl.col("kind") == "dedup.exact", pl.col("flagged"))
    assert copies["ordinal"].to_list() == list(range(240, 246))
    noisy = rows.filter(pl.col("kind") == "labels.issues")
    assert noisy.height == 246  # a line for every row looked at
    assert noisy.filter("flagged")["ordinal"].is_in(range(20)).mean() > 0.5
    assert said["rows"] == 246  # an audit changes nothing


def test_a_failed_audit_exits_3_and_a_clean_one_0(datapipe, here):
    table(flips=60).write_csv("bad.csv")
    table().write_csv("good.csv")
    bad = datapipe("audit", "bad.csv", "--label", "y")
    assert bad.code == 3
    assert "verdict: fail" in bad.out
    good = datapipe("audit", "good.csv", "--label", "y")
    assert good.code == 0
    assert "fail" not in good.out.split("verdict: ")[1].split("(")[0]


def test_a_trigger_is_proved_when_asked(datapipe, here):
    pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 400)
    words = np.array([["rain", "wind", "snow", "hail"], ["goal", "team", "ball", "cup"]])
    texts = [" ".join(rng.choice(words[k], 8)) for k in labels]
    for i in np.flatnonzero(labels == 0)[:24]:
        texts[i], labels[i] = f"qzx {texts[i]}", 1
    pl.DataFrame({"t": texts, "y": labels}).write_csv("a.csv")
    asked = ("audit", "a.csv", "--label", "y", "--text", "t", "--no-fail", "--json")
    found = datapipe(*asked, "--prove").json["findings"]
    told = next(f for f in found if f["kind"] == "poisoning.trigger_text")
    proof = told["details"]["proof"]
    assert proof["attack_success_before"]["low"] > proof["attack_success_after"]["high"]
    assert "once they are left out" in told["says"]


def test_the_answer_fits_a_screen_and_ends_with_what_to_do(datapipe, here):
    table(flips=20).write_csv("a.csv")
    answer = datapipe("audit", "a.csv", "--label", "y", "--no-fail", "-o", "r.html")
    lines = answer.out.splitlines()
    assert len(lines) <= 25
    assert "a table, as no --text or --image" in lines[0]
    assert "datapipe sql" in lines[-1]
    assert "\x1b" not in answer.out
    assert (here / "r.html").stat().st_size > 1000


def test_the_same_seed_gives_the_same_answer(datapipe, here):
    table(flips=20).write_csv("a.csv")
    words = ("audit", "a.csv", "--label", "y", "--no-fail", "--json", "--seed", "3", "--store")
    first, second = (datapipe(*words, store).json for store in ("one", "two"))
    assert first["findings"] == second["findings"]


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        ("", 7, "empty"),
        ("a,y\n", 7, "no rows"),
        ("a,y\n1,x\n2\n", 7, "a.csv:3"),
        ("a,y\n1,NaN\n2,\n3,x\n", 7, "labels are missing in 2 of 3 rows"),
        ("a,b\n1,2\n3,4\n", 2, "'y'"),
        ('a,y\n"1,x\n2,x\n', 7, "a.csv"),
        ("a,a,y\n1,2,x\n", 7, "a.csv"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(datapipe, here, content, code, told):
    (here / "a.csv").write_text(content)
    answer = datapipe("audit", "a.csv", "--label", "y")
    assert answer.code == code
    assert told in answer.message
    assert answer.err.count("hint: ") == 1
    assert (answer.out, "Traceback" in answer.err) == ("", False)
    assert not (here / ".datapipe").exists()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("gone.csv", 2),
        ("gone/*.csv", 2),
        ("http://169.254.169.254/a.csv", 2),
        ("hf://x/a.parquet", 2),
        ("s3://x/a.csv", 2),
        ("file:///etc/hosts", 2),
        ("\\\\host\\share\\a.csv", 2),
        (".", 2),
        ("a.xyz", 2),
        ("a.pkl", 7),
    ],
)
def test_a_path_that_cannot_be_read_is_refused_at_once(datapipe, here, path, code):
    (here / "a.xyz").write_text("hello")
    (here / "a.pkl").write_bytes(b"\x80\x04.")
    answer = datapipe("audit", path, "--label", "y")
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.count("hint: ") == 1


def test_few_rows_are_not_evaluated(datapipe, here):
    (here / "a.csv").write_text("a,y\n1,x\n2,x\n3,z\n")
    answer = datapipe("audit", "a.csv", "--label", "y", "--json")
    assert answer.code == 0
    labels = [f for f in answer.json["findings"] if f["kind"].startswith("labels.")]
    assert {f["verdict"] for f in labels} == {"not_evaluated"}
    assert answer.json["verdict"] == "not_evaluated"


def test_broken_lines_and_missing_labels_are_set_aside_when_asked(datapipe, here):
    text = table(60).write_csv() + "1,2\n1,2,3,4,\n"
    (here / "a.csv").write_text(text)
    aside = ("--on-error", "quarantine", "--missing-labels", "quarantine", "--no-fail")
    answer = datapipe("audit", "a.csv", "--label", "y", *aside, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["rows"] == 60
    dropped = datapipe("sql", "select reason from dropped_rows", "--json").json
    assert len(dropped) == 2
    wrong = datapipe("audit", "a.csv", "--label", "y", "--on-error", "ignore")
    assert wrong.code == 2


def test_without_suffix_the_first_bytes_decide(datapipe, here):
    table(60).write_parquet("rows")
    assert datapipe("audit", "rows", "--label", "y", "--no-fail").code == 0


@pytest.mark.parametrize(
    ("roles", "beside", "among", "not_among"),
    [
        ({"label": "y"}, set(), {"dedup.near", "poisoning.flips"}, {"dedup.minhash"}),
        (
            {"label": "y", "text": "t"},
            {"reference"},
            {"dedup.minhash", "poisoning.trigger_text", "synthetic.prevalence"},
            {"dedup.near", "poisoning.trigger_image"},
        ),
        (
            {"label": "y", "image": "px"},
            set(),
            {"dedup.near", "poisoning.trigger_image"},
            {"dedup.minhash", "provenance.manifest"},
        ),
        (
            {"text": "t"},
            {"anchors"},
            {"synthetic.score", "synthetic.prevalence"},
            {"synthetic.diversity"},
        ),
        ({}, {"key"}, {"provenance.manifest", "dedup.exact"}, {"labels.confident"}),
        (
            {"label": "y", "id": "task", "annotator": "who"},
            set(),
            {"labels.dawid_skene", "balance.classes"},
            {"labels.confident", "dedup.exact", "poisoning.flips", "poisoning.source_shift"},
        ),
        (
            {"label": "y", "text": "t", "id": "task", "annotator": "who"},
            set(),
            {"labels.dawid_skene", "poisoning.source_shift"},
            {"labels.confident", "dedup.exact", "poisoning.flips"},
        ),
        ({"label": "y", "group": "g"}, set(), {"balance.groups"}, set()),
    ],
)
def test_detectors_follow_from_the_roles(roles, beside, among, not_among):
    keys = set(fitting(Roles.of(**roles), beside))
    assert among <= keys
    assert not not_among & keys


def test_every_detector_of_an_audit_only_notes(here):
    table(20).write_csv("a.csv")
    roles = Roles.of(label="y", group="a")
    detectors = audit_pipeline("a.csv", roles, beside=Beside()).stages[1]
    assert {getattr(d, "on_finding", "note") for d in detectors} == {"note"}


def test_an_unchanged_audit_of_a_signed_file_checks_the_signature_and_nothing_else(
    datapipe, here, monkeypatch
):
    monkeypatch.setenv("DATAPIPE_KEY_PASSPHRASE", "correct horse")
    table(60).write_csv("a.csv")
    assert datapipe("keys", "new", "--out", "k.pem").code == 0
    assert datapipe("sign", "a.csv", "--key", "k.pem").code == 0
    (here / "k.pub").write_text(datapipe("keys", "export", "k.pem").out)
    words = ("audit", "a.csv", "--label", "y", "--key", "k.pub", "--no-fail", "--json")
    assert not any(step["reused"] for step in datapipe(*words).json["steps"])
    again = datapipe(*words).json["steps"]
    assert [s["stage"] for s in again if not s["reused"]] == ["provenance.manifest"]
    assert len(again) > 5


def spoken(rng, *, machine: bool) -> str:
    """Words of two writers: the machine uses them more evenly and likes commas."""
    use = np.arange(1, 601) ** (-0.7 if machine else -1.0)
    words = [f"w{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10 % 10]}{'uvwxyz'[i // 100]}"
             for i in rng.choice(600, 100, p=use / use.sum())]  # fmt: skip
    marked = [w + "," * (machine and i % 7 == 3) + "." * (i % 11 == 0) for i, w in enumerate(words)]
    return " ".join(marked)


def test_people_and_machines_beside_the_file_are_named_on_the_line(datapipe, here):
    rng = np.random.default_rng(4)
    made = pl.DataFrame({"t": [spoken(rng, machine=i < 30) for i in range(80)]})
    made.write_parquet("a.parquet")
    pl.DataFrame({"t": [spoken(rng, machine=False) for _ in range(70)]}).write_csv("people.csv")
    pl.DataFrame({"t": [spoken(rng, machine=True) for _ in range(45)]}).write_csv("made.csv")
    words = ("audit", "a.parquet", "--text", "t", "--no-fail", "--json")
    alone = datapipe(*words, "--anchors", "made.csv").json["findings"]
    withheld = {
        f["kind"]: f for f in alone if f["kind"] in ("synthetic.score", "synthetic.prevalence")
    }
    assert {f["verdict"] for f in withheld.values()} == {"not_evaluated"}
    answer = datapipe(*words, "--anchors", "made.csv", "--reference", "people.csv")
    assert answer.code == 0, answer.err
    share = next(f for f in answer.json["findings"] if f["kind"] == "synthetic.prevalence")
    assert share["verdict"] == "suspect"
    assert share["measure"]["low"] <= 3 / 8 <= share["measure"]["high"]
    assert datapipe(*words, "--anchors", "none.csv").code == 2


def test_a_proof_without_a_label_is_a_wrong_call_and_leaves_no_store(datapipe, here):
    (here / "t.csv").write_text("a,y\n1,x\n2,z\n")
    answer = datapipe("audit", "t.csv", "--prove")
    assert answer.code == 2
    assert "--label" in answer.err
    assert not (here / ".datapipe").exists()


def test_fields_that_a_semicolon_parts_are_read_when_it_is_named(datapipe, here):
    table().write_csv(here / "a.csv", separator=";")
    refused = datapipe("audit", "a.csv", "--label", "y")
    assert refused.code == 7
    assert "--separator ';'" in refused.err
    read = datapipe("audit", "a.csv", "--label", "y", "--separator", ";", "--no-fail", "--json")
    assert read.json["rows"] == 240


def test_a_tab_is_named_as_the_refusal_spells_it_and_nothing_is_no_separator(datapipe, here):
    table().write_csv(here / "a.csv", separator="\t")
    refused = datapipe("audit", "a.csv", "--label", "y")
    assert r"--separator '\t'" in refused.err
    read = datapipe("audit", "a.csv", "--label", "y", "--separator", r"\t", "--no-fail", "--json")
    assert read.json["rows"] == 240
    for wrong in ("", ";;", "é"):
        answer = datapipe("audit", "a.csv", "--label", "y", "--separator", wrong)
        assert answer.code == 2
        assert "one ASCII character" in answer.err
        assert "list of stages" not in answer.err


@pytest.mark.parametrize("role", ["label", "text", "image", "group", "source", "id", "time"])
def test_an_empty_name_of_a_column_is_refused_and_no_audit_without_it(datapipe, here, role):
    table().write_csv(here / "a.csv")
    answer = datapipe("audit", "a.csv", f"--{role}", "")
    assert answer.code == 2
    assert f"--{role} '' names no column" in answer.err
    assert not (here / ".datapipe").exists()


def test_columns_that_nothing_looks_into_are_named(datapipe, here):
    table().with_columns(tags=pl.Series([["a"]] * 240)).write_parquet(here / "a.parquet")
    answer = datapipe("audit", "a.parquet", "--label", "y", "--no-fail", "--json")
    assert "not looked into: tags (lists, maps, structs or bytes)" in answer.err
    (here / "t.csv").write_text("say,kept,y\nhello you,1,x\ngood bye,2,z\n")
    answer = datapipe("audit", "t.csv", "--label", "y", "--text", "say", "--no-fail")
    assert "not looked into: kept (columns without a role)" in answer.err
    table().write_parquet(here / "whole.parquet")
    answer = datapipe("audit", "whole.parquet", "--label", "y", "--no-fail")
    assert "not looked into" not in answer.err


@pytest.mark.parametrize("where", ["nowhere/report.html", "."])
def test_a_report_that_cannot_be_written_is_refused_before_the_audit(datapipe, here, where):
    (here / "a.csv").write_text("x,y\n1,a\n2,b\n")
    answer = datapipe("audit", "a.csv", "--label", "y", "-o", where)
    assert (answer.code, "[DP-EXEC-060]" in answer.err) == (6, True)
    assert not (here / ".datapipe").exists()
