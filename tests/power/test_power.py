# SPDX-License-Identifier: Apache-2.0
"""Detection stays above its floor, false alarms under their ceiling, on worlds of known truth."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from datapipe.core.estimate import Estimate
from datapipe.manifest.facts import Material
from datapipe.manifest.keys import PrivateKey, load_public_keys, new_key
from datapipe.measure.intervals import clopper_pearson
from datapipe.stages import CATALOGUE

HERE = Path(__file__).resolve().parent
SAMPLE = 2
"""Of the seeds of the evidence, the suite has time for the first few."""

THEIR_OWN = (
    "dedup.minhash", "export.quantized", "labels.confident", "poisoning.trigger_image",
    "poisoning.trigger_text", "synthetic.collapse", "synthetic.score", "synthetic.watermark",
    "train.federated", "train.plain", "train.private",
)  # fmt: skip
"""Stages whose one seed costs seconds and whose own tests hold them to the same figures."""

spec = importlib.util.spec_from_file_location("power_evidence", HERE / "evidence.py")
evidence = importlib.util.module_from_spec(spec)
spec.loader.exec_module(evidence)


def figures_of(key: str, most: int) -> dict[str, Estimate]:
    """The figures of a stage over its first seeds."""
    if why := evidence.why_not(key):
        pytest.skip(f"{key}: {why}")
    module = evidence.module_of(key)
    figures = evidence.pooled([evidence.tried(key, seed)[0] for seed in module.SEEDS[:most]])
    clean = getattr(module, "CLEAN_SEEDS", ())[:most]
    if clean:
        alarms = sum(evidence.doubted(key, seed) for seed in clean)
        figures["alarms"] = clopper_pearson(alarms, len(clean))
    return figures


@pytest.mark.parametrize("key", CATALOGUE)
def test_a_sample_contradicts_no_limit(key: str):
    """A few seeds cannot prove a limit, but a stage that broke is far beyond it."""
    module = evidence.module_of(key)
    if key in THEIR_OWN:
        pytest.skip(f"the tests of {key} make as much of it as a sample; every seed: `make power`")
    figures = figures_of(key, getattr(module, "SAMPLE", SAMPLE))
    low = {k: str(figures[k]) for k, floor in module.FLOORS.items() if figures[k].high < floor}
    high = {k: str(figures[k]) for k, most in module.CEILINGS.items() if figures[k].low > most}
    assert not low, f"below the floor: {low}"
    assert not high, f"above the ceiling: {high}"


@pytest.mark.power
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("key", CATALOGUE)
def test_bounds_keep_to_the_limits(key: str):
    broken = evidence.limits_broken(evidence.module_of(key), figures_of(key, 1000))
    assert not broken, "\n".join(broken)


def test_what_is_measured_belongs_to_a_stage():
    known = {evidence.place(key) for key in CATALOGUE}
    assert {str(path.relative_to(HERE)) for path in HERE.glob("*/*.py")} == known


def test_pooling_respects_seeds():
    told = [{"rows": (9, 10), "alarm": (0, 1), "width": 0.5}, {"rows": (5, 10), "alarm": (1, 1), "width": 0.7}]  # fmt: skip  # noqa: E501  # one line a seed
    figures = evidence.pooled(told)
    assert [figures[k].method for k in ("rows", "alarm", "width")] == [
        "korn-graubard",
        "clopper-pearson",
        "student-t",
    ]
    assert figures["rows"].value == 0.7
    assert figures["rows"].high - figures["rows"].low > 0.6
    assert figures["alarm"].n == 2


def test_keys_that_sign_nothing_leave(tmp_path, monkeypatch):
    public = tmp_path / "evidence.pub.pem"
    monkeypatch.setattr(evidence, "CARDS", tmp_path)
    monkeypatch.setattr(evidence, "PUBLIC", public)
    monkeypatch.setattr(evidence, "evidence_keys", lambda: kept)
    (tmp_path / "dedup").mkdir()
    worlds = Material("worlds of 1 seeds", {"sha256": "0" * 64}, rows=1)
    kept = ()
    for name, signers in (("dedup.exact", 1), ("dedup.near", 2), ("dedup.exact", 2)):
        said = evidence.statement(name, {"recall": Estimate.rate(9, 10)}, worlds)
        evidence.write(name, said, PrivateKey.new("ed25519"))
        kept = load_public_keys(public)
        assert len(kept) == signers


def test_a_kept_key_signs_when_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DATAPIPE_KEY", str(tmp_path / "key.pem"))
    monkeypatch.setenv("DATAPIPE_KEY_PASSPHRASE", "correct horse")
    kept = new_key("p256", tmp_path / "key.pem", b"correct horse", rounds=1000)
    assert evidence.signer().keyid == kept.keyid
    monkeypatch.delenv("DATAPIPE_KEY")
    assert evidence.signer().keyid != kept.keyid
