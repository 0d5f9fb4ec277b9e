# SPDX-License-Identifier: Apache-2.0
"""Evidence: every stage measured, signed, within its limits, repeatable, and current at release.

`RELEASE=1` makes stale or missing evidence a failure; before that it is only reported.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest

from datapipe.cli.app import main
from datapipe.errors import TrustError
from datapipe.manifest.envelope import Envelope
from datapipe.report.evidence import Evidence, evidence, evidence_keys
from datapipe.stages import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "stages").rglob("*.evidence.json"))
RELEASE = os.environ.get("RELEASE", "") not in {"", "0"}
FLIPS = 40
"""Digits of each file that are changed, one at a time."""

spec = importlib.util.spec_from_file_location("power", ROOT / "tests" / "power" / "evidence.py")
power = importlib.util.module_from_spec(spec)
spec.loader.exec_module(power)


def key_of(path: Path) -> str:
    return f"{path.parent.name}.{path.name.removesuffix('.evidence.json')}"


def found_in(path: Path) -> Evidence:
    return evidence(key_of(path))


def outdated() -> list[str]:
    return [key for key in CATALOGUE if not power.is_current(key)]


def test_every_stage_was_measured_as_it_is_now():
    late = outdated()
    if late and not RELEASE:
        pytest.skip(f"`make evidence STALE=1` before the release: {', '.join(late)}")
    assert not late, f"stale or missing: {', '.join(late)}"


@pytest.mark.parametrize("path", FILES, ids=key_of)
def test_figures_can_be_repeated(path: Path):
    said = found_in(path).said
    assert said.figures
    assert said.seeds
    assert said.command == f"make evidence ONLY={key_of(path)}"
    assert said.code.stage == key_of(path)
    assert said.environment.packages
    assert said.recorded_at
    trial, worlds = said.data
    assert trial.name == f"tests/power/{power.place(key_of(path))}"
    assert worlds.rows > 0
    for measure in said.figures.values():
        assert measure.n > 0
        assert measure.method
        assert measure.low <= measure.value <= measure.high


@pytest.mark.parametrize("path", FILES, ids=key_of)
def test_figures_keep_to_their_limits(path: Path):
    key = key_of(path)
    if not power.is_current(key) and not RELEASE:
        pytest.skip(f"{key}: measured before the code or the trial changed")
    broken = power.limits_broken(power.module_of(key), found_in(path).figures)
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("path", FILES, ids=key_of)
def test_a_flipped_digit_breaks_the_signature(path: Path):
    keys = evidence_keys()
    raw = path.read_bytes()
    assert Envelope.from_bytes(raw).verify(keys)
    digits = [i for i, byte in enumerate(raw) if chr(byte).isdigit()]
    for at in digits[:: max(1, len(digits) // FLIPS)]:
        other = b"%d" % ((raw[at] - 48 + 1) % 10)
        with pytest.raises(TrustError):
            Envelope.from_bytes(raw[:at] + other + raw[at + 1 :]).verify(keys)


def test_a_better_figure_is_noticed(tmp_path, capsys):
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    path = next((tmp_path / "stages").rglob("*.evidence.json"))
    form = json.loads(path.read_text())
    said = base64.b64decode(form["payload"]).replace(b'"low":0.', b'"low":1.', 1)
    form["payload"] = base64.b64encode(said).decode()
    path.write_text(json.dumps(form))
    assert main(["verify", str(tmp_path / "stages")]) == 4
    assert path.name in capsys.readouterr().out
    assert not evidence(key_of(path), cards=tmp_path / "stages").signed


def test_the_catalogue_verifies_as_a_user_types_it(capsys):
    late = set(outdated())
    code = main(["verify", str(ROOT / "stages"), "--json"])
    checks = [c for r in json.loads(capsys.readouterr().out)["reports"] for c in r["checks"]]
    refused = [c["name"] for c in checks if not c["passed"]]
    unexplained = [n for n in refused if not any(k.replace(".", "/") in n for k in late)]
    assert not unexplained, unexplained
    assert (code == 0) == (not refused)
    if RELEASE:
        assert code == 0
