# SPDX-License-Identifier: Apache-2.0
"""What `plan --seed` promises is what the run then does, and each reason is the true one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datapipe import Pipeline
from datapipe.cli.app import main
from datapipe.execute.preview import preview
from datapipe.stages import ExactDuplicates, ReadCSV

FILE = """
from datapipe import Pipeline
from datapipe.stages import ExactDuplicates, ReadCSV
p = Pipeline("p", [ReadCSV("a.csv"), ExactDuplicates()])
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("a,b\n" + "".join(f"{i % 17},{i % 13}\n" for i in range(400)))
    Path("p.py").write_text(FILE)
    return tmp_path


def made(*columns: str) -> Pipeline:
    return Pipeline("p", [ReadCSV("a.csv"), ExactDuplicates(columns=columns)])


def looked(pipeline: Pipeline, here: Path, seed: int = 1) -> list[tuple[bool, str]]:
    """The preview, which the run that follows must prove right."""
    told = preview(pipeline.plan(), seed=seed, store=here / "s")
    run = pipeline.run(seed=seed, store=here / "s")
    assert [p.reused for p in told] == [s.reused for s in run.steps]
    return [(p.reused, p.why) for p in told]


def test_the_preview_is_what_the_run_does(here: Path):
    assert [w for _, w in looked(made(), here)] == [f"there is no store in {here / 's'} yet"] * 2
    assert [r for r, _ in looked(made(), here)] == [True, True]
    assert looked(made("a"), here)[1] == (False, "other parameters: columns")
    assert looked(made(), here, seed=2)[0] == (False, "another seed: 1 when it ran last")
    Path("a.csv").write_text("a,b\n1,2\n1,2\n")
    assert looked(made(), here, seed=2) == [
        (False, "a.csv is new or has changed"),
        (False, "the rows may change: ingest.csv runs before it"),
    ]
    assert [r for r, _ in looked(made(), here, seed=2)] == [True, True]


def test_nothing_is_read_or_made(here: Path):
    assert made().run(seed=1, store=here / "s").data is not None
    before = {p: p.stat().st_mtime_ns for p in here.rglob("*") if "lock" not in p.name}
    Path("a.csv").write_bytes(Path("a.csv").read_bytes() + b"1,1\n")
    before[here / "a.csv"] = (here / "a.csv").stat().st_mtime_ns
    preview(made().plan(), seed=1, store=here / "s")
    after = {p: p.stat().st_mtime_ns for p in here.rglob("*") if "lock" not in p.name}
    assert {p for p in after if after[p] != before.get(p) and p.is_file()} == set()


def test_the_command_says_it(here: Path, capfd):
    assert main(["plan", "p.py", "--seed", "1", "--json"]) == 0
    steps = json.loads(capfd.readouterr().out)["steps"]
    assert [s["reused"] for s in steps] == [False, False]
    assert main(["run", "p.py", "--seed", "1", "-q"]) == 0
    capfd.readouterr()
    assert main(["plan", "p.py", "--seed", "1"]) == 0
    told = capfd.readouterr().out
    assert "reused  dedup.exact: nothing it depends on has changed" in told
    assert main(["plan", "p.py"]) == 0
    assert "reused" not in capfd.readouterr().out
