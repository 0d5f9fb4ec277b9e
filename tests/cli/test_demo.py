# SPDX-License-Identifier: Apache-2.0
"""The demo finds what was planted, accuses nobody on undamaged digits, and says it in few lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datapipe.cli._demo_chain import as_delivered, cleaned, write_files
from datapipe.cli._demo_truth import scores
from datapipe.cli.app import main
from datapipe.core.estimate import Estimate
from datapipe.core.run import Run
from datapipe.errors import GateClosed
from datapipe.lineage.store import Lineage
from datapipe.testing.worlds import digits_world

FLOORS = {
    "missing": (1.0, 1.0),
    "duplicated": (0.95, 0.95),
    "triggered": (0.95, 0.95),
    "flipped": (0.78, 0.85),
}
"""Fault to the least precision and recall."""


def test_the_whole_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, store = tmp_path / "report.html", tmp_path / "store"
    assert main(["demo", "--store", str(store), "-o", str(report)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 25
    assert lines[-1].strip().startswith("next")
    page = report.read_text()
    assert len(page) < 400_000
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert Lineage(store).verify() == []
    assert main(["verify", str(store)]) == 0
    capsys.readouterr()
    assert main(["demo", "--store", str(store), "-o", str(report), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {s["fault"] for s in told["planted"]} == set(FLOORS)
    assert told["verdict"] != "fail"
    assert told["as_delivered"]["verdict"] == "fail"
    reused = [
        s["reused"] for s in told["steps"] if s["stage"] not in ("provenance.manifest", "gate")
    ]
    assert sum(reused) >= len(reused) - 8  # what stands beside a step that is never reused
    spent = Lineage(store).sql("from privacy_spend")
    assert spent["epsilon_sum_bound"].to_list() == [pytest.approx(2.99, abs=0.02)]


def detect(seed: int, folder: Path, *, damaged: bool) -> tuple[Run, str]:
    """The cleaning chain without training, and why its gate closed, if it did."""
    files = write_files(digits_world(seed, damaged=damaged), folder / "files")
    try:
        return cleaned(files, train=False).run(seed=seed, store=folder / "store"), ""
    except GateClosed as closed:
        return closed.run, closed.message


def misses(seed: int, folder: Path) -> list[str]:
    run, refused = detect(seed, folder, damaged=True)
    told = [refused] if refused else []
    for score in scores(digits_world(seed), run):
        precision, recall = FLOORS[score.fault]
        if score.precision.value < precision or score.recall.value < recall:
            told.append(f"seed {seed}: {score}")
    return told


def alarms(seed: int, folder: Path) -> list[str]:
    """What the gate and the detectors say against digits that nobody damaged."""
    run, refused = detect(seed, folder, damaged=False)
    told = [refused] if refused else []
    for finding in run.findings:
        loud = finding.kind.startswith(("poisoning.", "dedup.near")) and finding.verdict != "clean"
        if loud:
            told.append(f"seed {seed}: {finding.kind} {finding.verdict}")
    return told


def test_planted_faults_are_found(tmp_path: Path) -> None:
    assert not misses(5, tmp_path)


def test_undamaged_digits_raise_no_alarm(tmp_path: Path) -> None:
    assert not alarms(5, tmp_path)
    files = write_files(digits_world(5, damaged=False), tmp_path / "files")
    assert as_delivered(files).run(seed=5, store=tmp_path / "store").verdict != "fail"


@pytest.mark.power
@pytest.mark.timeout(1800)
def test_twenty_seeds(tmp_path: Path) -> None:
    """Faults found over 20 seeds and on each; at most one of 20 undamaged sets raises an alarm."""
    pooled: dict[str, list[int]] = {}
    worst: dict[str, list[float]] = {}
    for seed in range(100, 120):
        run, refused = detect(seed, tmp_path / f"d{seed}", damaged=True)
        assert not refused
        for score in scores(digits_world(seed), run):
            right = round(score.recall.value * score.planted)
            sums = pooled.setdefault(score.fault, [0, 0, 0])
            pooled[score.fault] = [sums[0] + right, sums[1] + score.found, sums[2] + score.planted]
            low = worst.setdefault(score.fault, [1.0, 1.0])
            worst[score.fault] = [
                min(low[0], score.precision.value),
                min(low[1], score.recall.value),
            ]
    for fault, (right, found, planted) in pooled.items():
        both = Estimate.rate(right, found), Estimate.rate(right, planted)
        print(f"{fault}: precision {both[0]}, recall {both[1]}, worst seed {worst[fault]}")
        assert both[0].value >= FLOORS[fault][0], fault
        assert both[1].value >= FLOORS[fault][1], fault
        assert worst[fault][0] >= FLOORS[fault][0], fault
        assert worst[fault][1] >= FLOORS[fault][1], fault
    loud = [bool(alarms(seed, tmp_path / f"u{seed}")) for seed in range(100, 120)]
    print(f"alarms on undamaged digits: {sum(loud)} of {len(loud)}")
    assert sum(loud) <= 1
