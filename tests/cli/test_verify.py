# SPDX-License-Identifier: Apache-2.0
"""A store made by a run: asked, traced, published, verified, and caught when it is changed."""

from __future__ import annotations

import json
import shutil

import polars as pl
import pytest

from datapipe.cli.app import main
from datapipe.manifest.bundle import sign_path
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.keys import PrivateKey

PIPELINE = """
from datapipe import Pipeline
from datapipe.stages import ExactDuplicates, ReadCSV
p = Pipeline("ages", [ReadCSV("a.csv", label="y", licence="CC0-1.0"), ExactDuplicates()])
"""


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A folder with a store of one run, made once; each test has a copy of its own."""
    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATAPIPE_KEY", "DATAPIPE_KEYS"):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(folder.parent / "home"))
        patch.setenv("DATAPIPE_KEY_PASSPHRASE", "correct horse")
        patch.chdir(folder)
        (folder / "a.csv").write_text("age,y\n31,a\n40,b\n31,a\n50,b\n")
        (folder / "p.py").write_text(PIPELINE)
        assert main(["run", "p.py", "--seed", "7"]) == 0
    return folder


@pytest.fixture
def ran(once, here, monkeypatch):
    monkeypatch.setenv("DATAPIPE_KEY_PASSPHRASE", "correct horse")
    shutil.copytree(once, here, dirs_exist_ok=True)
    return here


def test_a_sound_store_verifies_and_says_what_that_means(datapipe, ran):
    answer = datapipe("verify", ".datapipe")
    assert answer.code == 0, answer.err
    assert ".datapipe: trusted" in answer.out
    assert "integrity only" in answer.err
    form = datapipe("verify", ".datapipe", "--json").json
    assert form["passed"] is True
    assert all(check["passed"] for check in form["reports"][0]["checks"])


def test_a_store_of_somebody_else_is_not_believed(datapipe, ran):
    assert datapipe("keys", "new", "--out", "other.pem").code == 0
    answer = datapipe("verify", ".datapipe", "--key", "other.pem")
    assert answer.code == 4
    assert "not trusted" in answer.err


@pytest.mark.parametrize("where", ["objects/*.parquet", "journal/*.log", "log/checkpoint"])
def test_a_changed_byte_anywhere_exits_4_and_names_the_file(datapipe, ran, where):
    file = min((ran / ".datapipe").glob(where))
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(bytes(raw))
    answer = datapipe("verify", ".datapipe")
    assert answer.code == 4
    assert file.name in answer.out
    assert answer.err.count("hint: ") == 1


def test_several_paths_are_verified_and_one_bad_one_is_enough(datapipe, ran):
    (ran / "loose.csv").write_text("x\n")
    answer = datapipe("verify", ".datapipe", "loose.csv", "--json")
    assert answer.code == 4
    assert [r["passed"] for r in answer.json["reports"]] == [True, False]
    assert "loose.csv" in json.loads(answer.err)["error"]["message"]


def test_a_data_set_is_published_with_signatures_that_verify(datapipe, ran):
    assert datapipe("keys", "new", "--out", "key.pem").code == 0
    digest = datapipe("sql", "select digest from datasets order by seq desc", "--json").json[0]
    short = digest["digest"].removeprefix("sha256:")[:12]
    answer = datapipe("publish", short, "out", "--key", "key.pem", "--json")
    assert answer.code == 0, answer.err
    path = ran / answer.json["path"]
    assert pl.read_parquet(path).height == 3
    suffixes = (".oms.sigstore.json", ".dsse.json")
    assert {p.name for p in path.parent.iterdir()} == {
        path.name,
        *(path.name + s for s in suffixes),
    }
    assert datapipe("verify", path, "--key", "key.pem").code == 0
    import base64

    envelope = json.loads(path.with_name(path.name + ".dsse.json").read_text())
    said = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
    assert said["rows"] == 3
    assert said["terms"]["licences"] == ["CC0-1.0"]
    assert datapipe("publish", "0123abcd", "out", "--key", "key.pem").code == 2


def test_why_and_trace_answer_in_text_and_json(datapipe, ran):
    answer = datapipe("why", "1:2")
    assert answer.code == 0
    assert "dedup.exact" in answer.out
    assert datapipe("why", "1:2", "--json").json["ordinal"] == 2
    assert datapipe("why", "1:99").code == 2
    assert datapipe("why", "nonsense").code == 2
    digest = datapipe("sql", "select digest from datasets order by seq desc", "--json").json[0]
    traced = datapipe("trace", digest["digest"])
    assert traced.code == 0
    assert "CC0-1.0" in traced.out
    assert datapipe("trace", "ffffffff", "--json").code == 2


def test_the_index_is_rebuilt_and_the_tables_exported(datapipe, ran):
    (ran / ".datapipe" / "lineage.duckdb").unlink()
    assert datapipe("lineage", "rebuild").code == 0
    answer = datapipe("lineage", "export", "tables", "--json")
    assert answer.code == 0
    assert answer.json["rows"]["runs"] == 1
    assert pl.read_parquet(ran / "tables" / "row_drops.parquet").height == 1
    assert datapipe("lineage", "export", "tables").code == 2  # not empty
    assert datapipe("lineage", "export", "lines", "--format", "jsonl").code == 0
    assert (ran / "lines" / "runs.jsonl").read_text().startswith("{")


def test_a_report_a_budget_and_the_doctor(datapipe, ran):
    assert datapipe("report", "-o", "r.html").code == 0
    assert "<html" in (ran / "r.html").read_text()[:400]
    assert datapipe("report", "nosuchrun", "-o", "r.html").code == 2
    assert datapipe("report", "-o", "no/such/folder/r.html").code == 6
    assert datapipe("budget", "--json").json == []
    told = datapipe("doctor", "--json").json
    assert told["store"]["runs"] == 1
    assert told["core"]["polars"] != "missing"


def test_a_new_stage_is_written_once(datapipe, here):
    """That its own test passes: tests/testing/test_scaffold.py."""
    answer = datapipe("new", "stage", "form.gaps", "--json")
    assert answer.code == 0
    assert {"gaps.py", "test_gaps.py"} <= {path.name for path in here.iterdir()}
    assert datapipe("new", "stage", "form.gaps").code == 2
    assert datapipe("new", "stage", "Form").code == 2


def test_a_policy_seen_before_is_not_rolled_back(datapipe, ran):
    """The newest version is remembered beside the key ring, per policy."""
    key = ("--key", "key.pem")
    assert datapipe("keys", "new", "--algorithm", "ed25519", "--out", "key.pem").code == 0
    public = datapipe("keys", "export", "key.pem").out
    assert datapipe("sign", "a.csv", *key).code == 0

    def judged(version):
        (ran / "trust.toml").write_text(
            f'name = "own"\nversion = {version}\n'
            f'[[key]]\nowner = "ada"\nroles = ["source"]\npublic = """{public}"""\n'
            '[[rule]]\npredicate = "dataset"\n'
        )
        return datapipe("verify", "a.csv", "--policy", "trust.toml", "--ring", "ring")

    assert [judged(version).code for version in (2, 2, 3)] == [0, 0, 0]
    answer = judged(2)
    assert answer.code == 4
    assert "DP-TRUST-515" in answer.err
    assert (ran / "ring" / "policies-seen.json").is_file()


@pytest.mark.parametrize("name", ["../a.csv", "/etc/passwd", "x\\a.csv", "./a.csv", "a\0.csv"])
def test_a_name_that_no_honest_signer_writes_is_untrusted_input(datapipe, here, name):
    """Refused with 7; the same statement with a signature that does not hold is damage, 4."""
    (here / "a.csv").write_text("age,y\n31,a\n")
    key = PrivateKey.new("ed25519")
    signed = sign_path(here / "a.csv", key)
    form = json.loads(Envelope.load(signed.attestation).payload)
    form["subject"][0]["name"] = name
    whole = json.loads(Envelope.sign(json.dumps(form).encode(), key).to_bytes())
    signed.attestation.write_text(json.dumps(whole))
    (here / "key.pub").write_text(key.public_key.to_pem())
    answer = datapipe("verify", "a.csv", "--key", "key.pub")
    assert answer.code == 7
    assert "no honest signer" in answer.err
    assert answer.err.count("DP-TRUST-2") == 1
    part = whole["signatures"][0]
    part["sig"] = ("B" if part["sig"][0] == "A" else "A") + part["sig"][1:]
    signed.attestation.write_text(json.dumps(whole))
    assert datapipe("verify", "a.csv", "--key", "key.pub").code == 4
