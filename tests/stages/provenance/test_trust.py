# SPDX-License-Identifier: Apache-2.0
"""RequireTrust: whatever the policy does not allow stops before the first batch, with its code."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datapipe import Pipeline
from datapipe.core.ancestry import joined
from datapipe.core.context import Context
from datapipe.core.dataset import empty
from datapipe.core.function import stage
from datapipe.errors import DeclarationError, TrustError
from datapipe.manifest.bundle import sign_path
from datapipe.manifest.checks import Reason
from datapipe.manifest.facts import Material, Terms
from datapipe.manifest.keys import PrivateKey
from datapipe.manifest.policy import sign_policy
from datapipe.manifest.predicates import DatasetPredicate
from datapipe.stages import ReadObject, ReadParquet, RequireTrust, TrainPlain

KEYS = {name: PrivateKey.new("ed25519") for name in ("ada", "bob", "eve", "root")}
GOOD = DatasetPredicate(
    "reviews",
    terms=Terms(("CC-BY-4.0",), {"ai_training": "allowed"}),
    declared_synthetic_share=0.1,
)


def policy(folder: Path, *, dates: str = "", role: str = "source", more: str = "") -> Path:
    path = folder / "trust.toml"
    path.write_text(f'''
name = "training"
version = 1
[[key]]
owner = "ada"
roles = ["{role}"]
public = """{KEYS["ada"].public_key.to_pem()}"""
{dates}
[[rule]]
predicate = "dataset"
roles = ["source"]
licences = ["CC-BY-4.0", "CC0-1.0"]
uses = ["ai_training"]
max_synthetic_share = 0.2
{more}
''')
    return path


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "reviews.parquet"
    pq.write_table(pa.table({"x": [float(i % 7) for i in range(80)], "y": ["a", "b"] * 40}), path)
    return path


def trained(tmp_path: Path, rows: Path, gate: RequireTrust, **declared):
    reader = ReadParquet(rows, label="y", **declared)
    stages = [reader, gate, TrainPlain(epochs=1)]
    return Pipeline("gated", stages).run(seed=1, store=tmp_path / "store")


def refused(tmp_path, rows, gate, **declared) -> str:
    """The code, once it is sure that the training never began."""
    with pytest.raises(TrustError) as caught:
        trained(tmp_path, rows, gate, **declared)
    from datapipe.lineage.store import Lineage

    store = Lineage(tmp_path / "store")
    assert store.sql("select count(*) from models").item() == 0
    steps = store.sql("select stage from steps")["stage"].to_list()
    assert not [stage for stage in steps if stage.startswith("train.")]
    assert store.sql("select state from run_status").item() == "failed"
    store.close()
    assert caught.value.exit_code == 4
    return caught.value.code


def test_what_the_policy_allows_is_trained_on(tmp_path, rows):
    sign_path(rows, KEYS["ada"], predicate=GOOD)
    run = trained(tmp_path, rows, RequireTrust(policy(tmp_path)), licence="CC-BY-4.0")
    (finding,) = [f for f in run.findings if f.kind == "provenance.untrusted"]
    assert (finding.verdict, finding.measure.value, finding.measure.n) == ("clean", 0, 80)
    checks = finding.details["sources"][0]["checks"]
    asked = {check["name"] for check in checks}
    assert {"signature", "policy: owners", "policy: licences", "policy: uses"} <= asked
    assert {"policy: synthetic", "files", "tree"} <= asked
    assert all(check["passed"] and check["reason"] for check in checks)
    (source,) = run.data.sources
    assert (source.trust, source.signer) == ("verified", KEYS["ada"].keyid)
    assert run.sql("select count(*) from models").item() == 1


REFUSALS = {
    "unsigned": (None, {}, {}, Reason.UNSIGNED),
    "expired": (GOOD, {"dates": "valid_until = 2026-01-01T00:00:00Z"}, {}, Reason.KEY_EXPIRED),
    "not yet valid": (
        GOOD,
        {"dates": "valid_from = 2126-01-01T00:00:00Z"},
        {},
        Reason.KEY_NOT_YET_VALID,
    ),
    "revoked": (GOOD, {"dates": "revoked_at = 2026-01-01T00:00:00Z"}, {}, Reason.KEY_REVOKED),
    "wrong role": (GOOD, {"role": "auditor"}, {}, Reason.WRONG_ROLE),
    "consent denied by the signer": (
        replace(GOOD, terms=Terms(("CC-BY-4.0",), {"ai_training": "notAllowed"})),
        {},
        {},
        Reason.USE,
    ),
    "consent denied by the reader": (GOOD, {}, {"consent": "denied"}, Reason.CONSENT),
    "licence not allowed": (
        replace(GOOD, terms=Terms(("CC-BY-NC-4.0",), {"ai_training": "allowed"})),
        {},
        {},
        Reason.LICENCE,
    ),
    "another licence declared": (GOOD, {}, {"licence": "Proprietary"}, Reason.LICENCE),
    "too much declared synthetic": (
        replace(GOOD, declared_synthetic_share=0.3),
        {},
        {},
        Reason.SYNTHETIC_SHARE,
    ),
    "declared synthetic by the reader": (GOOD, {}, {"synthetic": True}, Reason.SYNTHETIC_SHARE),
    "nobody said how much": (
        replace(GOOD, declared_synthetic_share=None),
        {},
        {},
        Reason.SYNTHETIC_UNKNOWN,
    ),
    "one owner of two": (GOOD, {"more": "owners = 2"}, {}, Reason.TOO_FEW_OWNERS),
    "no post-quantum signature": (
        GOOD,
        {"more": 'strengths = ["post-quantum"]'},
        {},
        Reason.ALGORITHM_CLASS,
    ),
    "no parents": (GOOD, {"more": 'parents = ["dataset"]'}, {}, Reason.PARENT_MISSING),
    "no rule": (replace(GOOD, name="images"), {"more": 'names = ["reviews*"]'}, {}, Reason.NO_RULE),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_refusal_stops_before_training_with_its_own_code(tmp_path, rows, case):
    said, form, declared, reason = REFUSALS[case]
    if said is not None:
        sign_path(rows, KEYS["ada"], predicate=said)
    gate = RequireTrust(policy(tmp_path, **form))
    assert refused(tmp_path, rows, gate, **declared) == reason


def test_other_signers_and_changed_bytes_are_refused(tmp_path, rows):
    gate = RequireTrust(policy(tmp_path))
    sign_path(rows, KEYS["eve"], predicate=GOOD)
    assert refused(tmp_path, rows, gate) == Reason.WRONG_KEY
    sign_path(rows, KEYS["ada"], predicate=GOOD)
    table = pq.read_table(rows)
    pq.write_table(table.slice(0, 79), rows)
    (tmp_path / "store").rename(tmp_path / "first")
    assert refused(tmp_path, rows, gate) == Reason.CHANGED


def test_a_step_that_names_its_parent_passes_when_the_parent_lies_beside(tmp_path, rows):
    raw = tmp_path / "raw.csv"
    raw.write_text("x\n1\n")
    parent = sign_path(raw, KEYS["ada"], predicate=replace(GOOD, name="raw"))
    from datapipe.manifest.envelope import Envelope

    statement = Envelope.load(parent.attestation).statement()
    material = Material("raw.csv", statement.subjects[0].digests, attestation=statement.digest)
    sign_path(rows, KEYS["ada"], predicate=replace(GOOD, materials=(material,)))
    rule = '[[rule]]\npredicate = "dataset"\nnames = ["raw"]\n'
    text = 'names = ["reviews"]\nparents = ["dataset"]\n' + rule
    gate = RequireTrust(policy(tmp_path, more=text))
    assert refused(tmp_path, rows, gate) == Reason.PARENT_MISSING
    line = json.dumps(Envelope.load(parent.attestation).to_json())
    (tmp_path / "reviews.parquet.intoto.jsonl").write_text(line + "\n")
    run = trained(tmp_path, rows, gate)
    assert [f.verdict for f in run.findings if f.kind == "provenance.untrusted"] == ["clean"]


def test_the_policy_itself_must_be_signed_and_never_goes_back(tmp_path, rows):
    sign_path(rows, KEYS["ada"], predicate=GOOD)
    public = tmp_path / "root.pem"
    public.write_text(KEYS["root"].public_key.to_pem())
    path = policy(tmp_path)
    gate = RequireTrust(path, signed_by=public, memory=tmp_path / "seen.json")
    assert refused(tmp_path, rows, gate) == Reason.POLICY_UNSIGNED
    old = path.read_text()
    path.write_text(old.replace("version = 1", "version = 2"))
    sign_policy(path, KEYS["root"])
    assert trained(tmp_path, rows, gate).verdict
    path.write_text(old)
    sign_policy(path, KEYS["root"])
    with pytest.raises(TrustError) as caught:
        trained(tmp_path, rows, gate)
    assert caught.value.code == Reason.POLICY_ROLLBACK


def test_rows_may_be_set_aside_instead(tmp_path, rows):
    other = tmp_path / "unsigned.parquet"
    pq.write_table(pa.table({"x": [1.0] * 20, "y": ["a"] * 20}), other)
    sign_path(rows, KEYS["ada"], predicate=GOOD)
    gate = RequireTrust(policy(tmp_path), on_finding="quarantine")
    readers = [ReadParquet(rows, label="y"), ReadParquet(other, label="y")]
    run = Pipeline("aside", [readers, gate]).run(seed=1, store=tmp_path / "store")
    (finding,) = [f for f in run.findings if f.kind == "provenance.untrusted"]
    assert (finding.verdict, finding.measure.value, finding.measure.n) == ("fail", 0.2, 100)
    assert len(run.data) == 80
    reasons = run.sql("select distinct reason from dropped_rows")["reason"].to_list()
    assert reasons == ["provenance.untrusted: its source is not trusted"]


def test_objects_in_memory_are_unsigned(tmp_path):
    table = pa.table({"x": [1.0, 2.0], "y": ["a", "b"]})
    stages = [ReadObject(table, label="y"), RequireTrust(policy(tmp_path))]
    with pytest.raises(TrustError) as caught:
        Pipeline("memory", stages).run(seed=1, store=tmp_path / "store")
    assert caught.value.code == Reason.UNSIGNED


def test_without_a_policy_nothing_runs(tmp_path, rows):
    with pytest.raises(DeclarationError, match="no policy is named"):
        trained(tmp_path, rows, RequireTrust())
    assert RequireTrust("p", on_finding="relabel").check()
    assert RequireTrust("p", at="2026-07-01T12:00:00").check()
    assert RequireTrust("p", at="2026-07-01T12:00:00Z").check() == []
    assert not RequireTrust("p").cacheable()


def test_the_time_of_judgement_may_be_given(tmp_path, rows):
    sign_path(rows, KEYS["ada"], predicate=GOOD)
    path = policy(tmp_path, dates="valid_until = 2026-01-01T00:00:00Z")
    moment = datetime(2025, 6, 1, tzinfo=UTC).isoformat()
    run = trained(tmp_path, rows, RequireTrust(path, at=moment))
    assert [f.verdict for f in run.findings if f.kind == "provenance.untrusted"] == ["clean"]
    assert RequireTrust(path).run(empty(), Context(0, tmp_path)).findings[0].verdict == (
        "not_evaluated"
    )


def test_a_partner_that_was_joined_in_must_be_trusted_too(tmp_path, rows):
    first, other = tmp_path / "first.parquet", tmp_path / "unsigned.parquet"
    blank = pa.nulls(80, pa.string())
    pq.write_table(pq.read_table(rows).append_column("z", blank), first)
    pq.write_table(pa.table({"x": [1.0], "y": ["b"], "z": ["told"]}), other)
    sign_path(first, KEYS["ada"], predicate=GOOD)

    @stage("prepare.partner", version="1")
    def partner(frame: pl.LazyFrame) -> pl.LazyFrame:
        ours = frame.filter(pl.col("z").is_null()).drop("z")
        theirs = frame.filter(pl.col("z").is_not_null()).drop("y")
        return joined(ours, theirs, on="x", how="left")

    readers = [ReadParquet(first, label="y"), ReadParquet(other, label="y")]
    gate = RequireTrust(policy(tmp_path), on_finding="quarantine")
    run = Pipeline("joined", [readers, partner(), gate]).run(seed=1, store=tmp_path / "store")
    (finding,) = [f for f in run.findings if f.kind == "provenance.untrusted"]
    assert finding.verdict == "fail"
    assert finding.flagged.height == 12  # rows 1, 8, ... 78 of the trusted file
    assert len(run.data) == 68
