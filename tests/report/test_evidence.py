# SPDX-License-Identifier: Apache-2.0
"""Evidence is shown with its intervals, its seeds, and what a reader must know before believing."""

from __future__ import annotations

import json

import pytest

from datapipe.cli.app import main
from datapipe.core.digest import digest_code
from datapipe.core.estimate import Estimate
from datapipe.errors import TrustError
from datapipe.manifest.facts import Code, Measure
from datapipe.manifest.keys import PrivateKey
from datapipe.manifest.manifest import Manifest
from datapipe.manifest.predicates import EvaluationPredicate
from datapipe.manifest.statement import Subject
from datapipe.report import evidence as module
from datapipe.report.evidence import Evidence, evidence, evidence_table

KEY = PrivateKey.new("ed25519")
NOW = digest_code("datapipe.stages.dedup.exact").removeprefix("sha256:")
RECALL = Estimate.rate(95, 100)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write evidence of dedup.exact, signed by a key that is believed."""
    monkeypatch.setattr(module, "evidence_keys", lambda: KEY.public_keys)
    path = tmp_path / "dedup" / "exact.evidence.json"
    path.parent.mkdir()

    def write(*, of="dedup.exact", digest=NOW, key=KEY):
        said = EvaluationPredicate(
            of, {"recall": Measure.of(RECALL)}, (1, 2), "make", Code(of, "1", digest)
        )
        subject = Subject("dedup/exact.py", {"sha256": "0" * 64})
        path.write_bytes(Manifest.about(said, subject).sign(key).to_bytes())
        return tmp_path

    return write


def test_current_evidence_is_read_back(written):
    found = evidence("dedup.exact", cards=written())
    assert found.mark == "current"
    assert found.figures == {"recall": RECALL}
    table = evidence_table(found)
    assert "| recall | 0.95 | 0.8882 to 0.9785 | 100 | wilson |" in table
    assert "2 seeds" in table
    assert "stale" not in table


def test_evidence_of_other_code_is_stale(written):
    found = evidence("dedup.exact", cards=written(digest="0" * 64))
    assert found.mark == "stale"
    assert "**stale**" in evidence_table(found)


def test_evidence_by_another_key_is_not_believed(written):
    found = evidence("dedup.exact", cards=written(key=PrivateKey.new("ed25519")))
    assert found.mark == "not as signed"
    assert "do not believe" in evidence_table(found)


def test_evidence_of_another_stage_is_refused(written):
    with pytest.raises(TrustError, match=r"dedup\.minhash"):
        evidence("dedup.exact", cards=written(of="dedup.minhash"))


def test_no_evidence_is_none(tmp_path):
    assert evidence("dedup.exact", cards=tmp_path) is None


def test_a_figure_without_bounds_is_shown_as_unknown():
    said = EvaluationPredicate("a.b", {"x": Measure.of(Estimate.unknown(method="too few"))})
    assert "| x | unknown | 0 to 1 | 0 | too few |" in evidence_table(
        Evidence(said, signed=True, stale=False)
    )


def test_the_card_ends_with_the_evidence(capsys):
    assert main(["card", "dedup.exact"]) == 0
    page = capsys.readouterr().out
    found = evidence("dedup.exact")
    assert page.rstrip().endswith(evidence_table(found))
    assert main(["card", "dedup.exact", "--json"]) == 0
    form = json.loads(capsys.readouterr().out)["evidence"]
    assert form["mark"] == found.mark
    assert form["figures"]["recall"]["n"] == found.said.figures["recall"].n
