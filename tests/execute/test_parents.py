# SPDX-License-Identifier: Apache-2.0
"""A published data set carries signed statements all the way back to its sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from datapipe.cli.app import main
from datapipe.manifest.bundle import read_parents, sign_path
from datapipe.manifest.checks import Reason
from datapipe.manifest.envelope import Envelope
from datapipe.manifest.facts import Terms
from datapipe.manifest.keys import PrivateKey, load_key, new_key
from datapipe.manifest.policy import Policy
from datapipe.manifest.predicates import DatasetPredicate, read_predicate
from datapipe.manifest.verify import verify_path

VENDOR = PrivateKey.new("ed25519")
PIPELINE = """
from datapipe import Pipeline
from datapipe.stages import ExactDuplicates, ReadCSV
p = Pipeline("chain", [ReadCSV("{path}", label="y", manifest="{manifest}"), ExactDuplicates()])
"""
POLICY = '''
name = "chain"
version = 1
[[key]]
owner = "vendor"
roles = ["source"]
public = """{vendor}"""
[[key]]
owner = "us"
roles = ["cleaner"]
public = """{us}"""
[[rule]]
predicate = "dataset"
names = ["chain/*"]
roles = ["cleaner"]
parents = ["run", "dataset"]
[[rule]]
predicate = "run"
roles = ["cleaner"]
parents = ["dataset"]
[[rule]]
predicate = "dataset"
names = ["a.csv", "raw"]
roles = ["source"]
'''


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATAPIPE_KEY_PASSPHRASE", "correct horse")
    monkeypatch.setenv("DATAPIPE_KEY", "us.pem")
    new_key("hybrid", "us.pem", b"correct horse", rounds=1000)
    return tmp_path


def published(path: str = "a.csv", manifest: str = "") -> Path:
    Path("p.py").write_text(PIPELINE.format(path=path, manifest=manifest))
    assert main(["run", "p.py", "--seed", "1", "-q"]) == 0
    from datapipe.lineage.store import Lineage

    store = Lineage(".datapipe")
    digest = store.sql("select digest from datasets order by seq desc limit 1").item()
    store.close()
    assert main(["publish", digest, "out", "--key", "us.pem"]) == 0
    (copy,) = [p for p in Path("out").iterdir() if p.suffix == ".parquet"]
    return copy


def policy() -> Policy:
    us = "".join(key.to_pem() for key in load_key("us.pem", b"correct horse").public_keys)
    return Policy.parse(POLICY.format(vendor=VENDOR.public_key.to_pem(), us=us))


def rows(name: str, first: int = 0) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("x,y\n" + "".join(f"{first + i},{i % 2}\n" for i in range(30)))


def test_a_chain_of_statements_leads_from_the_copy_to_the_source(home):
    rows("a.csv")
    terms = Terms(("CC0-1.0",), {"ai_training": "allowed"})
    signed = sign_path("a.csv", VENDOR, predicate=DatasetPredicate("a.csv", terms=terms))
    first = Envelope.load(signed.attestation).statement()
    copy = published()
    statement = Envelope.load(f"{copy}.dsse.json").statement()
    run, source = read_predicate(statement).materials
    assert source.attestation == first.digest
    assert source.digest == {"sha256": first.subjects[0].digests["sha256"]}
    assert run.digest["sha256"] == statement.subjects[0].digests["sha256"]
    parents = {p.statement().digest: p.statement() for p in read_parents(copy)}
    assert set(parents) == {run.attestation, first.digest}
    assert [m.attestation for m in read_predicate(parents[run.attestation]).materials] == [
        first.digest
    ]
    report = verify_path(copy, policy=policy())
    assert report.passed, str(report)
    assert sum("parent" in check.name for check in report.checks) == 2
    assert main(["verify", ".datapipe", "--key", "us.pem"]) == 0


def test_a_link_that_is_missing_or_forged_breaks_the_chain(home):
    rows("a.csv")
    sign_path("a.csv", VENDOR, predicate=DatasetPredicate("a.csv"))
    copy = published()
    bundle = Path(f"{copy}.intoto.jsonl")
    lines = bundle.read_bytes().splitlines(keepends=True)
    assert len(lines) == 2
    bundle.write_bytes(lines[0])
    told = {check.code for check in verify_path(copy, policy=policy()).failed}
    assert told == {Reason.PARENT_MISSING, Reason.PARENT_REFUSED}
    other = Envelope.sign(Envelope.from_bytes(lines[1]).payload, PrivateKey.new("ed25519"))
    bundle.write_bytes(lines[0] + other.to_bytes())
    told = {check.code for check in verify_path(copy, policy=policy()).failed}
    assert told == {Reason.PARENT_REFUSED}
    bundle.write_bytes(b"{}\n")
    assert [c.code for c in verify_path(copy, policy=policy()).failed] == [Reason.BAD_FORM]


def test_an_unsigned_source_ends_the_chain_and_a_policy_that_asks_for_it_refuses(home):
    rows("a.csv")
    copy = published()
    run, source = read_predicate(Envelope.load(f"{copy}.dsse.json").statement()).materials
    assert (run.attestation is None, source.attestation) == (False, None)
    told = {check.code for check in verify_path(copy, policy=policy()).failed}
    assert told == {Reason.PARENT_MISSING}
    assert not Path(f"{copy}.intoto.jsonl").exists()
    keys = load_key("us.pem", b"correct horse").public_keys
    assert verify_path(copy, keys=keys).passed


def test_a_signed_folder_of_several_files(home):
    rows("raw/a.csv")
    rows("raw/b.csv", first=100)
    signed = sign_path("raw", VENDOR, predicate=DatasetPredicate("raw"))
    public = Path("vendor.pub")
    public.write_text(VENDOR.public_key.to_pem())
    copy = published("raw/*.csv", str(signed.attestation))
    materials = read_predicate(Envelope.load(f"{copy}.dsse.json").statement()).materials
    assert len(materials) == 2  # nobody held the folder against its statement, so it is one thing
    assert materials[1].attestation is None
