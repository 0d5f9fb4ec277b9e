# SPDX-License-Identifier: Apache-2.0
"""SourceDeclarations: whose papers count, and for what."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest

from datapipe import Pipeline
from datapipe.core.dataset import Dataset
from datapipe.core.source import Source
from datapipe.integrations.croissant import metadata
from datapipe.integrations.facts import facts_of
from datapipe.lineage.store import Lineage
from datapipe.stages import DeclaredSynthetic, LicenceRule, ReadCSV, SourceDeclarations
from datapipe.testing import check_stage

PERSON = "Ada Lovelace <ada@example.org>"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("t\na\nb\n")
    return path


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def run(file: Path, context, **declared):
    ids = pl.Series([(1 << 40) + i for i in range(2)], dtype=pl.UInt64)
    source = Source("rows", str(file), number=1, rows=2, files=((str(file), 2),), **declared)
    data = Dataset(pl.LazyFrame({"_row_id": ids, "t": ["a", "b"]}), sources=[source])
    made = SourceDeclarations().run(data, context)
    return (made.data or data).sources[0], made.findings[0]


def sidecar(file: Path, **members) -> None:
    file.with_name(file.name + ".origin.json").write_text(json.dumps(members))


def test_nothing_beside_is_not_evaluated(file, context):
    source, finding = run(file, context)
    assert finding.verdict == "not_evaluated"
    assert (source.licence, source.synthetic) == ("", None)


def test_a_sidecar_in_toml(file, context):
    file.with_name("rows.csv.origin.toml").write_text(
        f'licence = "CC-BY-4.0"\\norigin = "vendor-a"\\nconsent = "granted"\\nsynthetic = false\\n'
        f'sha256 = "{sha256(file)}"\\nsigned_off_by = "{PERSON}"\\n'.replace(
            "\\\\n", "\\n"
        ).replace("\\n", "\n")
    )
    source, finding = run(file, context)
    assert finding.verdict == "clean"
    assert (source.licence, source.origin) == ("CC-BY-4.0", "vendor-a")
    assert (source.consent, source.synthetic) == ("granted", False)


@pytest.mark.parametrize(
    ("members", "synthetic", "consent"),
    [
        ({"synthetic": True, "consent": "denied"}, True, "denied"),
        ({"synthetic": False, "consent": "granted"}, None, ""),
        ({"synthetic": False, "consent": "granted", "signed_off_by": PERSON}, None, ""),
        ({"synthetic": False, "consent": "granted", "sha256": "right"}, None, ""),
        ({"synthetic": False, "consent": "granted", "sha256": "right", "signed_off_by": PERSON},
         False, "granted"),
        ({"synthetic": False, "sha256": "right", "signed_off_by": "nobody"}, None, ""),
    ],
)  # fmt: skip
def test_what_restricts_is_believed_of_anybody_what_frees_is_not(
    file, context, members, synthetic, consent
):
    if members.get("sha256") == "right":
        members = {**members, "sha256": sha256(file)}
    sidecar(file, **members)
    source, _ = run(file, context)
    assert (source.synthetic, source.consent) == (synthetic, consent)


@pytest.mark.parametrize(
    "members",
    [
        {"licence": "MIT", "sha256": "0" * 64},
        {"licence": 7},
        {"consent": "maybe"},
        {"synthetic": "yes"},
        {"licence": "MIT", "surprise": 1},
    ],
)
def test_papers_that_are_wrong_say_nothing_and_are_told(file, context, members):
    sidecar(file, **members)
    source, finding = run(file, context)
    assert source.licence == ""
    assert (finding.verdict, finding.flagged.height) == ("suspect", 2)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\udcff", "[" * 9999, "x" * 2_000_000])
def test_hostile_papers_never_crash(file, context, text):
    path = file.with_name(file.name + ".origin.json")
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert run(file, context)[1].verdict == "suspect"


def test_the_reader_counts_before_the_papers(file, context):
    sidecar(file, licence="MIT", synthetic=True)
    source, _ = run(file, context, licence="CC0-1.0", synthetic=False)
    assert (source.licence, source.synthetic) == ("CC0-1.0", False)


def test_a_croissant_file_speaks_of_the_files_that_it_lists(file, context):
    form = {
        "license": "https://spdx.org/licenses/CC-BY-4.0",
        "creator": {"name": "a lab"},
        "rai:hasSyntheticData": True,
        "distribution": [{"contentUrl": "rows.csv", "sha256": sha256(file)}],
    }
    file.with_name("croissant.json").write_text(json.dumps(form))
    source, finding = run(file, context)
    assert (source.licence, source.origin, source.synthetic) == ("CC-BY-4.0", "a lab", True)
    assert finding.verdict == "clean"
    form["distribution"][0]["sha256"] = "0" * 64
    file.with_name("croissant.json").write_text(json.dumps(form))
    source, finding = run(file, context)
    assert (source.licence, finding.verdict) == ("", "suspect")


def test_a_card_speaks_of_its_folder(file, context):
    card = "---\nlicense: cc-by-4.0\nannotations_creators:\n- machine-generated\n---\n# Data\n"
    file.with_name("README.md").write_text(card)
    source, _ = run(file, context)
    assert (source.licence, source.synthetic) == ("CC-BY-4.0", True)


def test_what_is_taken_over_reaches_the_stages_behind_and_the_store(file, tmp_path):
    sidecar(file, licence="CC-BY-4.0", synthetic=True, generator="some-model")
    stages = [ReadCSV(str(file), text="t"), SourceDeclarations(), DeclaredSynthetic(),
              LicenceRule(allowed=("CC-BY-4.0",))]  # fmt: skip
    made = Pipeline("p", stages).run(seed=1, store=str(tmp_path / "store"))
    found = {f.kind: f for f in made.findings}
    assert found["synthetic.declared"].details["generators"] == {"some-model": 2}
    assert found["provenance.licence"].verdict == "clean"
    facts = facts_of(Lineage(tmp_path / "store"))
    assert [s["licence"] for s in facts["sources"]] == ["CC-BY-4.0"]
    assert metadata(facts, facts.final, "a", "0")["rai:hasSyntheticData"] is True


def test_conformance():
    report = check_stage(SourceDeclarations())
    assert not report.failed, report
