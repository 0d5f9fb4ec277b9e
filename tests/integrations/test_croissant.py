# SPDX-License-Identifier: Apache-2.0
"""mlcroissant, the reference reader, loads what we write, without a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datapipe.cli.app import main

mlcroissant = pytest.importorskip("mlcroissant")


@pytest.fixture
def written(exported, tmp_path: Path) -> Path:
    folder = tmp_path / "croissant"
    words = ["lineage", "export", str(folder), "--format", "croissant", "--store", exported.store]
    assert main([str(w) for w in words]) == 0
    return folder / "croissant.json"


def plain(value):
    """A value of either side in one form: bytes are text, missing is None, times are text."""
    if isinstance(value, bytes):
        return value.decode()
    if value is None or str(value) in ("nan", "NaT"):
        return None
    if hasattr(value, "tolist") and not hasattr(value, "isoformat"):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value.isoformat()[:19] if hasattr(value, "isoformat") else value


def test_no_errors_and_the_records_are_the_rows(written, last_rows):
    dataset = mlcroissant.Dataset(jsonld=str(written))
    issues = dataset.metadata.ctx.issues
    assert list(issues.errors) == []
    records = [
        {k.removeprefix("rows/"): plain(v) for k, v in record.items()}
        for record in dataset.records("rows")
    ]
    expected = [
        {k.replace(" ", "_"): plain(v) for k, v in row.items()} for row in last_rows.to_dicts()
    ]
    assert len(records) == len(expected) == 5
    for found, wanted in zip(records, expected, strict=True):
        assert {k: v or None for k, v in found.items()} == {k: v or None for k, v in wanted.items()}


def test_a_wrong_digest_is_refused(written):
    form = json.loads(written.read_text())
    form["distribution"][0]["sha256"] = "0" * 64
    written.write_text(json.dumps(form))
    with pytest.raises(mlcroissant.GenerationError, match="Download") as refused:
        list(mlcroissant.Dataset(jsonld=str(written)).records("rows"))
    assert "Hash" in repr(refused.value.__cause__)


def test_what_is_declared_is_told_and_nothing_else(written):
    form = json.loads(written.read_text())
    assert form["license"] == ["https://spdx.org/licenses/CC-BY-4.0"]
    assert form["rai:hasSyntheticData"] is True
    assert "too short" in form["rai:dataManipulationProtocol"]
    assert "rai:personalSensitiveInformation" not in form
